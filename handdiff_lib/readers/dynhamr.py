r"""Dyn-HaMR's `*_world_results.npz`: one or two hands in world coordinates, a row of each array a hand.

    trans, root_orient (B, T, 3)    pose_body (B, T, 15, 3)    betas (B, 10)    is_right (B, T)

Rotation vectors are absolute (`flat_hand_mean=True`). A left hand stays in the right-hand model: Dyn-HaMR negates x of
the *final* points, translation included, which is just what HandMotion stores. The file has no frame rate; Dyn-HaMR
works at 30 frames a second.
"""

import numpy as np
import torch

from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.readers.fields import clean_rotations, frame_rate, numbers, per_frame, require_finite, rotations

_KEYS = ("trans", "root_orient", "pose_body", "betas", "is_right")


def is_dynhamr(content: object) -> bool:
    """Whether the keys are Dyn-HaMR's."""
    return isinstance(content, dict) and {"trans", "root_orient", "pose_body"} <= set(content)


def read_dynhamr(content: dict[str, np.ndarray], where: str, fps: float | None) -> dict[str, HandMotion]:
    """The tracks `left` and `right`, in the world frame, with MANO's shape numbers."""
    missing = [name for name in _KEYS if name not in content]
    if missing:
        raise MotionError(f"{where}: a Dyn-HaMR result needs {', '.join(_KEYS)}; missing: {', '.join(missing)}")
    arrays = {name: numbers(content[name], name, where) for name in _KEYS}
    hands = {name: array.shape[:1] for name, array in arrays.items()}
    if len(set(hands.values())) > 1 or arrays["pose_body"].shape[:1] in ((), (0,)):
        raise MotionError(f"{where}: expected one row a hand in every array, found {hands}")
    tracks: dict[str, HandMotion] = {}
    for row in range(len(arrays["trans"])):
        name, motion = _track({key: array[row] for key, array in arrays.items()}, f"{where}: hand {row}", fps)
        if name in tracks:
            raise MotionError(f"{where}: two {name} hands; expected at most one of each side")
        tracks[name] = motion
    return tracks


def _track(hand: dict[str, np.ndarray], where: str, fps: float | None) -> tuple[str, HandMotion]:
    """One hand and the name of its side."""
    finger = rotations(hand["pose_body"], 15, "pose_body", where)
    count = len(finger)
    if count == 0:
        raise MotionError(f"{where}: pose_body has no frames; the file needs at least one")
    sides = np.unique(hand["is_right"])
    if hand["is_right"].shape != (count,) or sides.tolist() not in ([0.0], [1.0]):
        raise MotionError(f"{where}: is_right expected {count} equal flags, 0 or 1, found {sides.tolist()}")
    side = "right" if sides[0] else "left"
    root = rotations(per_frame(hand["root_orient"], count, 3, "root_orient", where).numpy(), 1, "root_orient", where)
    transl = per_frame(hand["trans"], count, 3, "trans", where)
    betas = per_frame(hand["betas"][None], 1, 10, "betas", where)
    valid = torch.ones(count, dtype=torch.bool)
    require_finite(transl, valid, "trans", where)
    require_finite(betas, valid[:1], "betas", where)
    return side, HandMotion(
        R=torch.cat(
            [clean_rotations(root, valid, "root_orient", where), clean_rotations(finger, valid, "pose_body", where)], 1
        ).float(),
        betas=betas[0].float(),
        transl=transl.float(),
        valid=valid,
        fps=frame_rate(None, fps, where),
        side=side,
        frame="world",
    )
