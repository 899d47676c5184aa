r"""ARCTIC (Fan et al. 2023): two hands and an articulated thing, 30 frames a second, in the world.

    raw_seqs/<subject>/<sequence>.mano.npy      {right, left}: rot (T, 3), pose (T, 45), trans (T, 3), shape (10)
    raw_seqs/<subject>/<sequence>.object.npy    (T, 7): opening angle, rotation vector, translation in mm
    meta/object_vtemplates/<thing>/{top,bottom}.obj    the two parts, mm

Rotation vectors are counted from MANO's mean pose, in the real hand's own frame; the hands are MANO's two files as
distributed, see `Place.left_shape_fault`. The thing is the first word of the sequence's name. Its bottom moves as the
file says; its top is turned first by the opening angle about -z of the thing's own frame.
"""

from pathlib import Path

import numpy as np
import torch

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.readers.fields import shaped
from handdiff_lib.readers.files import need, read_npy
from handdiff_lib.readers.pickles import read_object_npy
from handdiff_lib.readers.recording import (
    ObjectTrack,
    Place,
    Recording,
    around_mean_fingers,
    hand_track,
    object_track,
)

FPS = 30.0
ENDING = ".mano.npy"
MILLIMETRES = 1e-3
SOURCE = "ARCTIC, from arctic.is.tue.mpg.de (research only, after registration)"
_FIELDS = {"rot": (None, 3), "pose": (None, 45), "trans": (None, 3)}


def read_sequence(path: str | Path, hand: HandModel) -> Recording:
    """The sequence whose `.mano.npy` this is; `hand` must be MANO. The parts are `<thing>.bottom` and `<thing>.top`.

    Raises:
        MotionError: the file is damaged, its object file is missing, or `hand` is another hand than MANO.
    """
    path = Path(path)
    content = read_object_npy(path)
    if not isinstance(content, dict) or not set(content) & {"left", "right"}:
        raise MotionError(f"{path}: expected an ARCTIC .mano.npy with right and left")
    tracks: dict[str, HandMotion] = {}
    sides: tuple[Side, ...] = ("left", "right")
    for side in sides:
        if side in content:
            tracks[side] = _track(content[side], side, hand, f"{path}: {side}")
    name = path.name.removesuffix(ENDING)
    moves = shaped(
        read_npy(need(path.with_name(f"{name}.object.npy"), "the object's poses", SOURCE)), (None, 7), "poses", name
    )
    lengths = {len(moves), *map(len, tracks.values())}
    if len(lengths) > 1:
        raise MotionError(f"{path}: hands and object differ in length ({sorted(lengths)} frames); copy them again")
    thing = name.split("_")[0]
    meshes = path.resolve().parents[2] / "meta" / "object_vtemplates" / thing
    turn, at = rotation.exp(moves[:, 1:4]), moves[:, 4:] * MILLIMETRES
    opened = rotation.exp(moves[:, :1] * moves.new_tensor([0.0, 0.0, -1.0]))
    seen = moves.isfinite().all(-1)
    objects: dict[str, ObjectTrack] = {}
    for part, R in (("bottom", turn), ("top", turn @ opened)):
        objects[f"{thing}.{part}"] = object_track(
            R, at, seen, meshes / f"{part}.obj", SOURCE, f"{path}: {part}", MILLIMETRES
        )
    return Recording(tracks, objects)


def _track(content: object, side: Side, hand: HandModel, where: str) -> HandMotion:
    """One hand."""
    missing = sorted({*_FIELDS, "shape"} - set(content if isinstance(content, dict) else ()))
    if missing:
        raise MotionError(f"{where}: {', '.join(missing)} missing; it is not an ARCTIC hand")
    rot, pose, trans = (shaped(content[key], shape, key, where) for key, shape in _FIELDS.items())
    shape = content["shape"]
    betas = shaped(shape, (10,) if np.ndim(shape) == 1 else (len(rot), 10), "shape", where)
    if not len(rot) == len(pose) == len(trans):
        raise MotionError(f"{where}: rot, pose and trans have {len(rot)}, {len(pose)} and {len(trans)} frames")
    return hand_track(
        root=rotation.exp(rot),
        fingers=around_mean_fingers(pose, side, hand, where),
        betas=betas,
        place=Place(trans, is_wrist=False, left_shape_fault=True),
        valid=torch.ones(len(rot), dtype=torch.bool),
        side=side,
        fps=FPS,
        hand=hand,
        frame="world",
        where=where,
    )
