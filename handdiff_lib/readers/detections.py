r"""What a per-frame estimator returns, frame by frame: a list with one entry an image.

An entry is None or an empty list where no hand was found; HaMeR's output (`pred_mano_params`, arrays with a row a hand,
`right` beside them); one hand's parameters; or a list of hands, as WiLoR-mini returns them (`hand_bbox`, `is_right`,
`wilor_preds`). WiLoR-mini writes a left hand's rotation vectors mirrored to the real left hand; HaMeR does not.
Left and right hands become two tracks, each as long as the list.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.readers.fields import frame_rate, numbers
from handdiff_lib.readers.parameters import REAL_PLACES, flat, is_parameters, parameter_motion, sides

_KEPT = ("global_orient", "hand_pose", "betas", *REAL_PLACES, "pred_cam_t", "confidence")
_ONE_HAND = ((15, 3, 3), (15, 3), (45,))
"""Shapes of a hand_pose without a row a hand."""


def is_detections(content: object) -> bool:
    """Whether this looks like a list of frames with parameters in them."""
    if not isinstance(content, list):
        return False
    hands = [hand for frame in content for hand in _entries(frame)]
    return bool(hands) and all(is_parameters(hand) for hand in hands)


def read_detections(frames: list, where: str, fps: float | None, side: Side | None) -> dict[str, HandMotion]:
    """The tracks `left` and `right`, as far as there are any.

    Raises:
        MotionError: two hands of one side in a frame, or parameters that `read_parameters` would refuse.
    """
    found: dict[str, dict[int, dict]] = {"left": {}, "right": {}}
    is_real_left = any("wilor_preds" in hand for frame in frames for hand in _entries(frame))
    for number, frame in enumerate(frames):
        for entry in _entries(frame):
            for shown, hand in _hands(entry, f"{where}: frame {number}", side):
                if number in found[shown]:
                    raise MotionError(f"{where}: frame {number} has two {shown} hands; keep one of each side a frame")
                found[shown][number] = hand
    if not any(found.values()):
        raise MotionError(f"{where}: no hand in any of {len(frames)} frames")
    rate = frame_rate(None, fps, where)
    tracks: dict[str, HandMotion] = {}
    for name, hands in found.items():
        if hands:
            content = _stacked(list(hands.values()), where)
            shown = torch.ones(len(hands), dtype=torch.bool)
            mirrored = is_real_left and name == "left"
            motion = parameter_motion(content, shown, name, rate, f"{where}: {name}", is_real_left=mirrored)
            tracks[name] = _spread(motion, list(hands), len(frames))
    return tracks


def _entries(frame: object) -> list:
    """The dicts of one frame."""
    if frame is None:
        return []
    return list(frame) if isinstance(frame, list | tuple) else [frame]


def _hands(entry: dict, where: str, side: Side | None) -> list[tuple[Side, dict]]:
    """The hands of one dict: a side and arrays with one row each."""
    content = flat(entry)
    content = {name: value for name, value in content.items() if name in (*_KEPT, "right", "is_right")}
    arrays = {name: np.atleast_1d(numbers(value, name, where)) for name, value in content.items()}
    if arrays["hand_pose"].shape in _ONE_HAND:
        arrays = {name: array[None] for name, array in arrays.items()}
    count = len(arrays["hand_pose"])
    stated = arrays.get("right", arrays.get("is_right"))
    if stated is None:
        if count > 1:
            raise MotionError(f"{where}: {count} hands and no `right` that says which is which; save it with them")
        is_right = [side != "left"] * count
    else:
        is_right = sides(stated, count, torch.ones(count, dtype=torch.bool), where).tolist()
    hands: list[tuple[Side, dict]] = []
    for row in range(count):
        hand = {}
        for name in _KEPT:
            if name in arrays:
                if len(arrays[name]) != count:
                    raise MotionError(f"{where}: {name} has {len(arrays[name])} rows, hand_pose has {count}")
                hand[name] = arrays[name][row]
        hands.append(("right" if is_right[row] else "left", hand))
    return hands


def _stacked(hands: list[dict], where: str) -> dict[str, np.ndarray]:
    """One array a field, a row a hand; all hands must have the same fields in the same shapes."""
    if len({frozenset(hand) for hand in hands}) > 1:
        raise MotionError(f"{where}: the frames differ in their fields; save the same ones for every frame")
    for name in hands[0]:
        shapes = sorted({hand[name].shape for hand in hands})
        if len(shapes) > 1:
            raise MotionError(f"{where}: {name} changes its shape between frames: {shapes}")
    return {name: np.stack([hand[name] for hand in hands]) for name in hands[0]}


def _spread(motion: HandMotion, frames: list[int], count: int) -> HandMotion:
    """The motion with its frames put where they were seen among `count`; the others are place holders, not valid."""

    def spaced(value: Tensor, filler: Tensor) -> Tensor:
        longer = filler.to(value).expand(count, *value.shape[1:]).clone()
        longer[frames] = value
        return longer

    return replace(
        motion,
        R=spaced(motion.R, torch.eye(3)),
        transl=spaced(motion.transl, torch.zeros(3)),
        valid=spaced(motion.valid, torch.tensor(False)),
        betas=motion.betas if motion.betas.ndim == 1 else spaced(motion.betas, torch.zeros(10)),
        confidence=None if motion.confidence is None else spaced(motion.confidence, torch.zeros(16)),
    )
