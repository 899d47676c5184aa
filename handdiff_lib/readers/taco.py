r"""TACO (Liu et al. 2024): one tool, one target, two hands, 30 frames a second, in the world.

    Hand_Poses/<triplet>/<sequence>/{left,right}_hand.pkl          a frame each: hand_pose (48), hand_trans (3)
    Hand_Poses/<triplet>/<sequence>/{left,right}_hand_shape.pkl    hand_shape (10)
    Object_Poses/<triplet>/<sequence>/{tool,target}_<name>.npy     (T, 4, 4), metres
    Object_Models/<name>_cm.obj                                    centimetres

Rotation vectors are absolute (`flat_hand_mean=True`) and the real hand's own; `hand_trans` is the wrist. Others pass on
single hands in one file: hand_pose (T, 48), hand_trans (T, 3), hand_shape (10), hand_verts (T, 778, 3), obj_pose
(T, 4, 4), with the tool's mesh in metres beside it (`<sequence>.obj`). Such a file does not say which hand it is; its
vertices do.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.readers.fields import shaped
from handdiff_lib.readers.files import need, read_npy
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.readers.recording import ObjectTrack, Place, Recording, hand_track, object_track, real_fingers
from handdiff_lib.topology import TIPS

FPS = 30.0
CENTIMETRES = 0.01
MISFIT = 0.04
"""Mean distance in metres between recorded and posed finger tips above which a file's hand is of neither side."""
SOURCE = "TACO, from taco2024.github.io (CC BY 4.0)"
SIDES: tuple[Side, ...] = ("left", "right")


def is_sequence(path: Path) -> bool:
    """Whether this is a sequence's folder in `Hand_Poses`."""
    return any((path / f"{side}_hand.pkl").is_file() for side in SIDES)


def is_single(content: object) -> bool:
    """Whether this is what a file with a single hand holds."""
    return isinstance(content, dict) and {"hand_pose", "hand_trans", "obj_pose"} <= set(content)


def read_sequence(folder: str | Path, hand: HandModel) -> Recording:
    """The hands in a folder of `Hand_Poses`, with `tool` and `target` where `Object_Poses` has them."""
    folder = Path(folder)
    tracks: dict[str, HandMotion] = {}
    for side in SIDES:
        path = folder / f"{side}_hand.pkl"
        if path.is_file():
            pose, wrist = _frames(path)
            shape_path = need(folder / f"{side}_hand_shape.pkl", "the shape of the hand", SOURCE)
            shape = read_pickle(shape_path)
            betas = shaped(np.ravel(shape["hand_shape"]), (10,), "hand_shape", str(shape_path))
            tracks[side] = _track(pose, wrist, betas, side, hand, str(path))
    if not tracks:
        raise MotionError(f"{folder}: no left_hand.pkl or right_hand.pkl; it is no TACO sequence")
    triplet, sequence = folder.resolve().parts[-2:]
    root = folder.resolve().parents[2]
    objects: dict[str, ObjectTrack] = {}
    for role in ("tool", "target"):
        for path in sorted((root / "Object_Poses" / triplet / sequence).glob(f"{role}_*.npy")):
            mesh = root / "Object_Models" / f"{path.stem.split('_')[-1]}_cm.obj"
            objects[role] = _object(read_npy(path), mesh, str(path), CENTIMETRES)
    lengths = {name: len(motion) for name, motion in tracks.items()} | {k: len(v.pose) for k, v in objects.items()}
    if len(set(lengths.values())) > 1:
        raise MotionError(f"{folder}: hands and objects differ in length ({lengths}); copy them again")
    return Recording(tracks, objects, "tool" if "tool" in objects else None)


def read_single(path: str | Path, hand: HandModel, content: object = None) -> Recording:
    """The hand in a file of its own; `content` is what the file holds, if it was read already.

    Raises:
        MotionError: a field is missing or misshapen, or the vertices are of neither hand.
    """
    path, where = Path(path), str(path)
    content = read_pickle(path) if content is None else content
    if not is_single(content):
        raise MotionError(
            f"{where}: no TACO sequence; it needs hand_pose (T, 48), hand_trans (T, 3), obj_pose (T, 4, 4)"
        )
    pose = shaped(content["hand_pose"], (None, 48), "hand_pose", where)
    wrist = shaped(content["hand_trans"], (len(pose), 3), "hand_trans", where)
    betas = shaped(np.ravel(content.get("hand_shape", np.zeros(10))), (10,), "hand_shape", where)
    vertices = shaped(content.get("hand_verts"), (len(pose), 778, 3), "hand_verts", where)
    tips = vertices[:, list(TIPS["smplx"])].float()
    off: dict[Side, float] = {}
    for side in SIDES:
        posed = _track(pose, wrist, betas, side, hand, where)
        found = posed.joints(hand)[:, [4, 8, 12, 16, 20]]
        off[side] = (found - tips).norm(dim=-1).mean().item()
    side = min(SIDES, key=lambda name: off[name])
    if off[side] > MISFIT:
        raise MotionError(
            f"{where}: the finger tips of hand_verts are {1000 * off['left']:.0f} mm off a left hand and "
            f"{1000 * off['right']:.0f} mm off a right one; expected the vertices of hand_pose"
        )
    thing = _object(content["obj_pose"], path.with_suffix(".obj"), f"{where}: obj_pose", 1.0)
    return Recording({side: _track(pose, wrist, betas, side, hand, where)}, {"tool": thing}, "tool")


def _frames(path: Path) -> tuple[Float[Tensor, "t 48"], Float[Tensor, "t 3"]]:
    """Poses and wrists of a hand's file, in the order of its frames' names."""
    content, where = read_pickle(path), str(path)
    if not isinstance(content, dict) or not content:
        raise MotionError(f"{where}: expected frames by name, found {type(content).__name__}")
    frames = [content[name] for name in sorted(content)]
    if not all(isinstance(frame, dict) and {"hand_pose", "hand_trans"} <= set(frame) for frame in frames):
        raise MotionError(f"{where}: every frame needs hand_pose and hand_trans; it is not a TACO hand")
    pose, wrist = ([np.ravel(frame[key]) for frame in frames] for key in ("hand_pose", "hand_trans"))
    return shaped(pose, (None, 48), "hand_pose", where), shaped(wrist, (len(pose), 3), "hand_trans", where)


def _track(
    pose: Float[Tensor, "t 48"],
    wrist: Float[Tensor, "t 3"],
    betas: Float[Tensor, "10"],
    side: Side,
    hand: HandModel,
    where: str,
) -> HandMotion:
    """One hand."""
    R = rotation.exp(pose.view(-1, 16, 3))
    return hand_track(
        root=R[:, 0],
        fingers=real_fingers(R[:, 1:], side),
        betas=betas,
        place=Place(wrist, is_wrist=True),
        valid=torch.ones(len(R), dtype=torch.bool),
        side=side,
        fps=FPS,
        hand=hand,
        frame="world",
        where=where,
    )


def _object(value: object, mesh: Path, where: str, metres: float) -> ObjectTrack:
    """The thing that these poses move."""
    pose = shaped(value, (None, 4, 4), "pose", where)
    seen = torch.ones(len(pose), dtype=torch.bool)
    return object_track(pose[:, :3, :3], pose[:, :3, 3], seen, mesh, SOURCE, where, metres)
