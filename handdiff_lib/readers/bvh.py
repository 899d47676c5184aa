r"""BVH: a skeleton and its motion as text, read into rotations and positions.

A BVH file is a tree of joints with offsets (`HIERARCHY`), then one line of numbers a frame (`MOTION`). A joint's
channels say which numbers are its own: positions replace its offset, rotations are degrees and multiply in the order
in which they are listed, so `Yrotation Xrotation Zrotation` is $R = R_y R_x R_z$. Units and handedness are the file's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.motion import MotionError


@dataclass(frozen=True)
class Skeleton:
    """The `HIERARCHY` half of a file."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    """Parent of each joint, -1 for the root; a parent always comes before its child."""
    offsets: Float[Tensor, "j 3"]
    channels: tuple[tuple[str, ...], ...]
    """The channel names of each joint, in the order of the numbers of a frame."""


@dataclass(frozen=True)
class Bvh:
    """A skeleton in motion, float64."""

    skeleton: Skeleton
    R_parent_joint: Float[Tensor, "t j 3 3"]
    t_parent_joint: Float[Tensor, "t j 3"]
    fps: float

    def world(self) -> Float[Tensor, "t j 4 4"]:
        """Pose of every joint in the file's frame."""
        pose = torch.eye(4, dtype=torch.float64).repeat(*self.R_parent_joint.shape[:2], 1, 1)
        pose[..., :3, :3], pose[..., :3, 3] = self.R_parent_joint, self.t_parent_joint
        walked: list[Tensor] = []
        for joint, parent in enumerate(self.skeleton.parents):
            walked.append(pose[:, joint] if parent < 0 else walked[parent] @ pose[:, joint])
        return torch.stack(walked, dim=1)


def read_bvh(path: str | Path) -> Bvh:
    """The skeleton and all frames of a `.bvh`; MotionError says what is wrong with the text."""
    path = Path(path)
    if not path.is_file():
        raise MotionError(f"input {path} not found; check the path")
    try:
        head, _, tail = path.read_text(encoding="ascii").partition("MOTION")
    except UnicodeDecodeError:
        raise MotionError(f"{path} is not a text file; a .bvh is plain text") from None
    lines = tail.strip().splitlines()
    if not head.lstrip().startswith("HIERARCHY") or len(lines) < 2:
        raise MotionError(f"{path}: expected HIERARCHY and MOTION, found neither or one; is it a whole .bvh file?")
    skeleton = _skeleton(head.split()[1:], path)
    try:
        count, seconds = int(lines[0].split(":")[1]), float(lines[1].split(":")[1])
    except (IndexError, ValueError):
        raise MotionError(
            f"{path}: expected 'Frames: N' and 'Frame Time: s', found {lines[0]!r}, {lines[1]!r}"
        ) from None
    if count < 1 or not seconds > 0:
        raise MotionError(f"{path}: expected at least one frame and a positive frame time, found {count} and {seconds}")
    width = sum(map(len, skeleton.channels))
    try:
        numbers = np.loadtxt(lines[2 : 2 + count], ndmin=2) if lines[2:] else np.empty((0, width))
    except ValueError as error:
        raise MotionError(f"{path}: a frame is not a row of {width} numbers ({error}); copy the file again") from None
    if numbers.shape != (count, width):
        raise MotionError(
            f"{path}: expected {count} frames of {width} numbers, found {numbers.shape[0]} of {numbers.shape[1]}; "
            "the file is cut short or damaged, copy it again"
        )
    R, t = _local(skeleton, torch.from_numpy(numbers))
    return Bvh(skeleton, R, t, 1 / seconds)


def _skeleton(words: list[str], path: Path) -> Skeleton:
    """Walk the words of the hierarchy once, keeping the joints that are open on a stack."""
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[tuple[str, ...]] = []
    is_open: list[int | None] = []  # joint of each open brace; None inside an End Site
    coming: int | None = None
    at = 0
    try:
        while at < len(words):
            match words[at]:
                case "ROOT" | "JOINT":
                    coming = len(names)
                    names.append(words[at + 1])
                    parents.append(-1 if not is_open else is_open[-1])
                    offsets.append([0.0, 0.0, 0.0])
                    channels.append(())
                    at += 2
                case "End":
                    coming = None
                    at += 2
                case "{":
                    is_open.append(coming)
                    at += 1
                case "}":
                    is_open.pop()
                    at += 1
                case "OFFSET":
                    if is_open[-1] is not None:
                        offsets[is_open[-1]] = [float(word) for word in words[at + 1 : at + 4]]
                    at += 4
                case "CHANNELS":
                    count = int(words[at + 1])
                    channels[is_open[-1]] = tuple(words[at + 2 : at + 2 + count])
                    at += 2 + count
                case word:
                    raise ValueError(f"unknown word {word!r}")
        if is_open or not names:
            raise ValueError("a joint is not closed" if names else "no joint")
    except (IndexError, TypeError, ValueError) as error:
        raise MotionError(f"{path}: the HIERARCHY part is damaged ({error}); copy the file again") from None
    unknown = {name for own in channels for name in own} - {f"{a}{what}" for a in "XYZ" for what in _CHANNELS}
    if unknown:
        raise MotionError(f"{path}: unknown channels {sorted(unknown)}; expected Xposition ... Zrotation")
    return Skeleton(tuple(names), tuple(parents), torch.tensor(offsets, dtype=torch.float64), tuple(channels))


_CHANNELS = ("position", "rotation")


def _local(skeleton: Skeleton, numbers: Float[Tensor, "t d"]) -> tuple[Tensor, Tensor]:
    """Rotation and translation of each joint in its parent, from the rows of numbers."""
    count, joints = len(numbers), len(skeleton.names)
    R = torch.eye(3, dtype=torch.float64).repeat(count, joints, 1, 1)
    t = skeleton.offsets.repeat(count, 1, 1)
    column = 0
    for joint, names in enumerate(skeleton.channels):
        for name in names:
            axis = "XYZ".index(name[0])
            if name.endswith("position"):
                t[:, joint, axis] = numbers[:, column]
            else:
                rotvec = numbers.new_zeros(count, 3)
                rotvec[:, axis] = numbers[:, column].deg2rad()
                R[:, joint] = R[:, joint] @ rotation.exp(rotvec)
            column += 1
    return R, t
