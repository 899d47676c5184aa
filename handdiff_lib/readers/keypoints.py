r"""21 keypoints a frame (MediaPipe, OpenPose, any detector): inverse kinematics makes a motion of them.

Order: wrist, then thumb, index, middle, ring and little finger, each from the palm outwards, the tip last. Metres, in
any right-handed frame; MediaPipe's *world* landmarks are, its image landmarks are not. A frame with NaN, or None in
a list, is missing. Keypoints do not say which hand they are: `side` does, and is `right` where it is not given.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.ik import fit_joints
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.readers.fields import numbers

NAMES = ("joints", "keypoints", "landmarks")
"""Keys under which an `.npz` or a dict may hold them; a lone array may have any name."""
MISFIT = 0.02
"""Mean distance in metres between keypoints and the fitted hand above which they are not a hand's in this order."""
DOUBT = 0.005
"""A frame whose keypoints lie this far, in metres, off any hand of the fitted shape gets confidence 1/e.

5 mm across a bone of 2 cm are 14 degrees; the hints that the network learned from fall to 1/e at 8 to 20 degrees.
"""
_SIDE_FRAMES = 60
_MIRROR = (0.6, 0.002)  # the other hand fits clearly better: below this share of the distance, and metres closer


def find_keypoints(content: object) -> object | None:
    """The array or list of keypoints in a file's content, or None where there is none."""
    if isinstance(content, dict):
        named = [content[name] for name in NAMES if name in content]
        rest = [value for name, value in content.items() if name != "fps"]
        content = named[0] if named else rest[0] if len(rest) == 1 else None
    if isinstance(content, np.ndarray):
        return content if content.shape[1:] == (21, 3) else None
    if isinstance(content, list):
        frames = [frame for frame in content if frame is not None]
        return content if frames and all(_is_frame(frame) for frame in frames) else None
    return None


def _is_frame(value: object) -> bool:
    """Whether this is an array of 21 points, or lists that make one."""
    try:
        return np.shape(value) == (21, 3)
    except ValueError:  # rows of different lengths
        return False


def read_keypoints(
    keypoints: object, where: str, fps: float, side: Side | None, hand: HandModel
) -> dict[str, HandMotion]:
    """One track, fitted with one shape of `hand`; its confidence says how well each frame's keypoints make a hand.

    Raises:
        MotionError: no frame has a hand, or the keypoints do not fit one: wrong unit, order or side.
    """
    frames = keypoints
    if isinstance(keypoints, list):
        frames = [np.full((21, 3), np.nan) if frame is None else frame for frame in keypoints]
    joints = torch.from_numpy(numbers(frames, "keypoints", where)).float()
    if len(joints) == 0:
        raise MotionError(f"{where}: keypoints has no frames; the file needs at least one")
    side = side or "right"
    try:
        motion, residual = _fitted(joints, side, fps, hand)
        misfit = _mean(motion, residual)
        some = joints[motion.valid]
        some = some[torch.linspace(0, len(some) - 1, min(_SIDE_FRAMES, len(some))).round().long()]
        other: Side = "left" if side == "right" else "right"
        as_other, as_side = (_mean(*_fitted(some, which, fps, hand)) for which in (other, side))
    except MotionError as error:
        raise MotionError(f"{where}: {error}") from None
    if as_other < _MIRROR[0] * as_side and as_side - as_other > _MIRROR[1]:
        raise MotionError(
            f"{where}: the keypoints are {as_side * 1000:.1f} mm off a {side} hand and {as_other * 1000:.1f} mm off a "
            f"{other} one; read them as side={other}"
        )
    if misfit > MISFIT:
        raise MotionError(
            f"{where}: the keypoints lie {misfit * 1000:.0f} mm off a hand on average; "
            "their order must be wrist, then thumb to little finger, four each, tips last"
        )
    confidence = torch.exp(-residual / DOUBT)[:, None].expand(-1, 16).clone()
    return {side: replace(motion, confidence=confidence)}


def joints_motion(joints: Float[Tensor, "t 21 3"], side: Side, fps: float, hand: HandModel) -> HandMotion:
    """The motion of `hand` that follows joints in their real frame; frames with NaN are not valid."""
    return _fitted(joints, side, fps, hand)[0]


def _fitted(
    joints: Float[Tensor, "t 21 3"], side: Side, fps: float, hand: HandModel
) -> tuple[HandMotion, Float[Tensor, "t"]]:
    """The motion, and the mean distance of its joints from those given in each frame, metres."""
    valid = joints.isfinite().all(-1).all(-1)
    canonical = joints if side == "right" else rotation.mirror_points(joints)
    found = fit_joints(canonical, hand, valid)
    return HandMotion(found.R, found.betas, found.transl, valid, fps, side=side, hand=hand.name), found.residual


def _mean(motion: HandMotion, residual: Float[Tensor, "t"]) -> float:
    """Over the frames that have a hand."""
    return float(residual[motion.valid].mean())
