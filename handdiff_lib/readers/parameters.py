r"""MANO parameters over time, as HaMeR and WiLoR name them: one dict of arrays, all frames together.

    global_orient  (T, 1, 3, 3), (T, 3, 3), (T, 3) or (T, 1, 3)    betas       (T, 10) or (10,)
    hand_pose      (T, 15, 3, 3), (T, 45) or (T, 15, 3)            right       (T,) or one number; also is_right
    valid          (T,)                                            confidence  (T,) or (T, 16)
    pred_cam_t_full, cam_t, transl or pred_cam_t  (T, 3)           fps         one number

Rotations are absolute, mean pose included (`flat_hand_mean=True`); rotation vectors are radians. HaMeR and WiLoR flip
the image of a left hand first, so every output is a right hand already and `right` alone says which hand it was.
`pred_cam_t` is the network's own, in the flipped crop: it is the right hand's too. `pred_cam_t_full`, `cam_t` and
`transl` are places in the real image's camera, so a left hand's x is negated on the way in. Without any of them the
wrist stays at its rest place. The first that is found is used, in the order above.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.readers.fields import clean_rotations, frame_rate, numbers, per_frame, require_finite, rotations

REAL_PLACES = ("pred_cam_t_full", "cam_t", "transl")
"""Names of a translation in the real camera, best first."""


def is_parameters(content: object) -> bool:
    """Whether this looks like a dict of MANO parameters; HaMeR keeps them one level down."""
    return isinstance(content, dict) and {"global_orient", "hand_pose"} <= set(flat(content))


def flat(content: dict) -> dict:
    """The dict with what HaMeR's `pred_mano_params` and WiLoR-mini's `wilor_preds` hold lifted one level up."""
    lifted = dict(content)
    for name in ("pred_mano_params", "wilor_preds"):
        inner = lifted.pop(name, None)
        if isinstance(inner, dict):
            lifted.update(inner)
    return lifted


def read_parameters(content: dict, where: str, fps: float | None, side: Side | None) -> dict[str, HandMotion]:
    """The tracks in a dict of parameters: one, or two where `right` changes on the way.

    A track is as long as the file, and not valid where the other hand is shown. Without `right` the hand is `side`,
    or a right hand.
    """
    content = flat(content)
    count = len(rotations(content["hand_pose"], 15, "hand_pose", where))
    if count == 0:
        raise MotionError(f"{where}: hand_pose has no frames; the file needs at least one")
    valid = torch.ones(count, dtype=torch.bool)
    if "valid" in content:
        valid = per_frame(content["valid"], count, 1, "valid", where)[:, 0] > 0.5
    if not valid.any():
        raise MotionError(f"{where}: no frame is valid; there is no hand in this file")
    is_right = torch.full((count,), side != "left")
    stated = content.get("right", content.get("is_right"))
    if stated is not None:
        is_right = sides(stated, count, valid, where)
    rate = frame_rate(content.get("fps"), fps, where)
    tracks: dict[str, HandMotion] = {}
    for name, is_shown in (("left", ~is_right & valid), ("right", is_right & valid)):
        if is_shown.any():
            tracks[name] = parameter_motion(content, is_shown, name, rate, where)
    return tracks


def sides(value: object, count: int, valid: Bool[Tensor, "t"], where: str) -> Bool[Tensor, "t"]:
    """True for a right hand, from 0 and 1 a frame or one number for all."""
    array = numbers(value, "right", where)
    if array.size == 1:
        array = array.reshape(1).repeat(count)
    flags = per_frame(array, count, 1, "right", where)[:, 0]
    odd = valid & (flags != 0) & (flags != 1)
    if odd.any():
        raise MotionError(
            f"{where}: right expected 1 for a right hand and 0 for a left one, found {float(flags[odd][0])}"
        )
    return flags == 1


def parameter_motion(
    content: dict, valid: Bool[Tensor, "t"], side: Side, fps: float, where: str, is_real_left: bool = False
) -> HandMotion:
    """One track from flat parameters; `is_real_left` says that rotations are a left hand's and need mirroring."""
    parts = []
    for name, joints in (("global_orient", 1), ("hand_pose", 15)):
        R = rotations(content[name], joints, name, where)
        if len(R) != len(valid):
            raise MotionError(f"{where}: {name} has {len(R)} frames, hand_pose has {len(valid)}; they must agree")
        parts.append(clean_rotations(R, valid, name, where))
    R = torch.cat(parts, dim=1)
    return HandMotion(
        R=(rotation.mirror(R) if is_real_left else R).float(),
        betas=_betas(content, valid, where),
        transl=_translation(content, valid, side, where),
        valid=valid,
        fps=fps,
        side=side,
        confidence=_confidence(content, valid, where),
    )


def _betas(content: dict, valid: Bool[Tensor, "t"], where: str) -> Float[Tensor, "*t 10"]:
    """One shape, or one a frame."""
    if "betas" not in content:
        raise MotionError(f"{where}: betas is missing; add the ten shape numbers (zeros are the mean hand)")
    array = numbers(content["betas"], "betas", where)
    if array.shape in ((10,), (1, 10)):
        array = array.reshape(10)
        require_finite(torch.from_numpy(array)[None], torch.tensor([True]), "betas", where)
        return torch.from_numpy(array).float()
    return _kept(per_frame(array, len(valid), 10, "betas", where), valid, "betas", where)


def _translation(content: dict, valid: Bool[Tensor, "t"], side: Side, where: str) -> Float[Tensor, "t 3"]:
    """Where the hand is, for the right hand in the mirror where it is a left one."""
    for name in (*REAL_PLACES, "pred_cam_t"):
        if name in content:
            place = _kept(per_frame(content[name], len(valid), 3, name, where), valid, name, where)
            return rotation.mirror_points(place) if side == "left" and name in REAL_PLACES else place
    return torch.zeros(len(valid), 3)


def _confidence(content: dict, valid: Bool[Tensor, "t"], where: str) -> Float[Tensor, "t 16"] | None:
    """One number a joint; a number a frame counts for all joints."""
    if "confidence" not in content:
        return None
    array = numbers(content["confidence"], "confidence", where)
    width = 16 if array.ndim > 1 and array.shape[-1] == 16 else 1
    values = _kept(per_frame(array, len(valid), width, "confidence", where), valid, "confidence", where)
    if ((values < 0) | (values > 1)).any():
        low, high = float(values.min()), float(values.max())
        raise MotionError(f"{where}: confidence expected values in [0, 1], found {low:.3g} to {high:.3g}")
    return values.expand(-1, 16).clone()


def _kept(value: Float[Tensor, "t d"], valid: Bool[Tensor, "t"], name: str, where: str) -> Float[Tensor, "t d"]:
    """The rows of valid frames, which must be finite; zeros elsewhere."""
    require_finite(value, valid, name, where)
    return torch.where(valid[:, None], value, 0.0).float()
