r"""ManipNet takes (Zhang et al. 2021): two hands and an object, motion capture at 120 Hz.

A clone of the public repository holds `Data/SimpleVisualizer/Assets/BVH/<take>/{leftHand,rightHand,<object>}.bvh`. Its
numbers are decimetres in a left-handed frame; here they become metres in a right-handed one by negating x, which
conjugates rotations by $M = diag(-1, 1, 1)$. Meshes (`Data/ObjectModel/*/<object>.obj`) are decimetres and already
right-handed. The 17 bones of a hand end at the last knuckles; the finger tips are five vertices of the skinned hand
in `hand_skin_model.npz`, which stands beside `Data`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.readers.bvh import Bvh, read_bvh
from handdiff_lib.readers.keypoints import joints_motion
from handdiff_lib.storage import read_npz

TAKES = ("cube_med2", "cup1", "cyl_med3", "mug1", "mug3", "teapot2", "teapot3")
"""The takes in use."""
TEST_TAKES = ("cup1", "teapot3")
"""Never trained on."""
VALIDATION_TAKES = ("mug3",)
"""Never trained on either; choices are made with it."""

SOURCE = "ManipNet, from github.com/cghezhang/ManipNet (CC BY-NC)"
METRES = 0.1
"""Length of the files' unit."""
TIPS = (662, 601, 517, 430, 695)
"""Vertex of the skinned hand at each finger tip, thumb to little."""
GLITCH = 300.0
"""Acceleration in m/s^2 above which a joint is taken for a tracking fault."""

_TAKES = Path("Data") / "SimpleVisualizer" / "Assets" / "BVH"
_CHAINS = {
    "THUMB": ("CMC_AA", "MCP_FE", "IP_FE"),
    **{finger: ("MCP", "PIP_FE", "DIP_FE") for finger in ("INDEX", "MIDDLE", "RING", "PINKY")},
}
_FILE = {"left": "leftHand.bvh", "right": "rightHand.bvh"}


@dataclass(frozen=True)
class TakeJoints:
    """A take as positions: float32, metres, right-handed world frame, nothing mirrored."""

    joints: dict[str, Float[Tensor, "t 21 3"]]
    """`left` and `right`, in the 21-joint OpenPose order."""
    object_pose: Float[Tensor, "t 4 4"]
    """Mesh to world."""
    object_mesh: Path | None
    """The `.obj` (decimetres: scale by METRES), where the clone has it."""
    fps: float


def take_joints(root: str | Path, take: str) -> TakeJoints:
    """The 21 joints of both hands and the object pose of a take in the clone at `root`.

    Raises:
        MotionError: no such take, or `hand_skin_model.npz` is not beside `Data`; the message says where it belongs.
    """
    root = Path(root)
    folder = root / _TAKES / take
    if not folder.is_dir():
        found = sorted(p.name for p in (root / _TAKES).glob("*") if p.is_dir())
        raise MotionError(f"take {take!r} not found in {root / _TAKES}; there are: {', '.join(found) or 'none'}")
    skin = _read_skin(root / "hand_skin_model.npz")
    hands = {side: read_bvh(folder / name) for side, name in _FILE.items()}
    objects = sorted(p for p in folder.glob("*.bvh") if p.name not in _FILE.values())
    if len(objects) != 1:
        raise MotionError(f"{folder}: expected one object .bvh beside the hands, found {[p.name for p in objects]}")
    thing = read_bvh(objects[0])
    if len({len(track.R_parent_joint) for track in (*hands.values(), thing)}) != 1:
        raise MotionError(f"{folder}: the three files differ in length; copy the take again")
    meshes = sorted((root / "Data" / "ObjectModel").glob(f"*/{objects[0].stem}.obj"))
    return TakeJoints(
        joints={side: _joints21(hand, skin, side, folder) for side, hand in hands.items()},
        object_pose=_right_handed(thing.world()[:, 0]).float(),
        object_mesh=meshes[0] if meshes else None,
        fps=round(thing.fps, 3),
    )


@dataclass(frozen=True)
class Take:
    """A take as motions."""

    tracks: dict[str, HandMotion]
    """`left` and `right`, world frame; frames with a glitch are not valid."""
    object_pose: Float[Tensor, "t 4 4"]
    """Mesh to world, metres, of the same frames."""
    object_mesh: Path | None
    """The `.obj` (decimetres: scale by METRES), where the clone has it."""
    fps: float


def read_take(root: str | Path, take: str, hand: HandModel, stride: int = 4) -> Take:
    """Every `stride`-th frame of a take, each hand fitted with one shape of `hand`; 4 gives 30 frames a second."""
    whole = take_joints(root, take)
    tracks: dict[str, HandMotion] = {}
    for side, joints in whole.joints.items():
        is_known = ~glitches(joints, whole.fps)[::stride]
        motion = joints_motion(joints[::stride], side, whole.fps / stride, hand)
        tracks[side] = replace(motion, valid=motion.valid & is_known, frame="world")
    return Take(tracks, whole.object_pose[::stride].clone(), whole.object_mesh, whole.fps / stride)


def read_folder(folder: Path, hand: HandModel, fps: float | None = None) -> Take:
    """The take in `folder`, which lies in its clone; `fps` must divide 120 and is 30 if not given."""
    folder = folder.resolve()
    if not all((folder / name).is_file() for name in _FILE.values()):
        raise MotionError(
            f"{folder} is a folder without {' and '.join(_FILE.values())}, and of no other data set; "
            "give a file, or the folder of one sequence"
        )
    if folder.parts[-1 - len(_TAKES.parts) : -1] != _TAKES.parts:
        raise MotionError(f"{folder}: a ManipNet take is read inside its clone, <clone>/{_TAKES}/<take>")
    stride = 120 / (fps or 30.0)
    if stride < 1 or stride != int(stride):
        raise MotionError(f"{folder}: a take has 120 frames a second; fps must divide that, e.g. 30, found {fps:g}")
    return read_take(folder.parents[len(_TAKES.parts)], folder.name, hand, int(stride))


def glitches(joints: Float[Tensor, "t 21 3"], fps: float) -> Bool[Tensor, "t"]:
    """True where a joint's acceleration is above GLITCH: the tracking jumped."""
    found = torch.zeros(len(joints), dtype=torch.bool)
    acceleration = joints.double().diff(n=2, dim=0) * fps**2
    found[1:-1] = (acceleration.norm(dim=-1) > GLITCH).any(-1)
    return found


def _right_handed(pose: Float[Tensor, "t 4 4"]) -> Float[Tensor, "t 4 4"]:
    """Decimetres in a left-handed frame to metres in a right-handed one."""
    R, t = pose[:, :3, :3], pose[:, :3, 3]
    turned = pose.clone()
    turned[:, :3, :3] = rotation.mirror(R)
    turned[:, :3, 3] = t * t.new_tensor([-METRES, METRES, METRES])
    return turned


def _read_skin(path: Path) -> dict[str, np.ndarray]:
    """The skinned hand's arrays."""
    if not path.is_file():
        raise MotionError(
            f"{path} not found: finger tips come from it; put hand_skin_model.npz beside the Data folder of the clone"
        )
    skin = read_npz(path)
    wanted = {f"{side}_{name}" for side in _FILE for name in ("vertices", "weights", "bone_index", "bindpose")}
    missing = sorted((wanted | {"bone_names"}) - set(skin))
    if missing:
        raise MotionError(f"{path}: keys {missing} are missing; it is not the skinned hand")
    return skin


def _joints21(hand: Bvh, skin: dict[str, np.ndarray], side: str, folder: Path) -> Float[Tensor, "t 21 3"]:
    r"""Wrist, then three knuckles and the tip of each finger; a tip is $\sum_k w_k G_k B_k v$, B to the bind pose."""
    names = hand.skeleton.names
    wanted = ["WRIST", *(f"{finger}_{bone}" for finger, bones in _CHAINS.items() for bone in bones)]
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise MotionError(f"{folder / _FILE[side]}: joints {missing} are missing; it is not a ManipNet hand")
    world = hand.world()
    knuckles = world[:, [names.index(name) for name in wanted], :3, 3]
    rows = list(TIPS)
    bones = torch.tensor([names.index(str(name)) for name in skin["bone_names"]])
    index = torch.from_numpy(skin[f"{side}_bone_index"][rows].astype(np.int64))  # (5, 4)
    weights = torch.from_numpy(skin[f"{side}_weights"][rows].astype(np.float64))
    rest = torch.from_numpy(np.pad(skin[f"{side}_vertices"][rows], ((0, 0), (0, 1)), constant_values=1.0)).double()
    bind = torch.from_numpy(skin[f"{side}_bindpose"].astype(np.float64))
    in_bone = torch.einsum("vkij,vj->vki", bind[index], rest)
    tips = torch.einsum("vk,tvkij,vkj->tvi", weights, world[:, bones[index]], in_bone)[..., :3]
    chains = [torch.cat([knuckles[:, 1 + 3 * k : 4 + 3 * k], tips[:, k : k + 1]], dim=1) for k in range(5)]
    joints = torch.cat([knuckles[:, :1], *chains], dim=1)
    return (joints * joints.new_tensor([-METRES, METRES, METRES])).float()
