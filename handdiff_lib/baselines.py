r"""What any refiner has to beat: a Gaussian filter over time, done properly on rotations.

    x_t = sum_s w(s - t) valid_s y_s / sum_s w(s - t) valid_s,    w(d) = exp(-d^2 / 2 sigma^2)

For rotations the sum is followed by the nearest rotation (the chordal mean), so nothing wraps at half a turn.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import ceil

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.metrics import mje_mm
from handdiff_lib.motion import HandMotion, MotionError, fill_missing

REACH = 4
"""The kernel is cut off at this many sigmas."""


def gaussian(motion: HandMotion, sigma_frames: float) -> HandMotion:
    """The track smoothed with a Gaussian of this standard deviation in frames; 0 only fills missing frames.

    Rotations, translation and per-frame betas are smoothed. Missing frames weigh nothing and are answered from their
    neighbours; `valid` stays as it was. At the ends the rest of the kernel is renormalised. Raises MotionError for a
    negative sigma or a track without a valid frame.
    """
    if not sigma_frames >= 0:
        raise MotionError(f"gaussian: sigma must be at least 0 frames, found {sigma_frames}")
    filled = fill_missing(motion)
    if sigma_frames == 0:
        return filled
    smooth = {
        "R": rotation.polar(_average(filled.R.flatten(1), motion.valid, sigma_frames).reshape(filled.R.shape)),
        "transl": _average(filled.transl, motion.valid, sigma_frames),
    }
    if motion.betas.ndim == 2:
        smooth["betas"] = _average(filled.betas, motion.valid, sigma_frames)
    return replace(filled, **smooth)


def _average(values: Float[Tensor, "t d"], valid: Bool[Tensor, "t"], sigma: float) -> Float[Tensor, "t d"]:
    """Weighted mean of the valid values around each frame; a frame with none in reach keeps its own."""
    reach = ceil(REACH * sigma)
    offset = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    kernel = (-0.5 * (offset / sigma).square()).exp()
    keep = valid.to(values)[:, None]
    sums = torch.nn.functional.conv1d(
        torch.cat([values * keep, keep], 1).mT[:, None], kernel[None, None], padding=reach
    )
    total, weight = sums[:-1, 0].mT, sums[-1, 0][:, None]
    return torch.where(weight > 0, total / weight.clamp(min=torch.finfo(values.dtype).tiny), values)


def best_gaussian(pairs: list[tuple[HandMotion, HandMotion]], sigmas: Iterable[float], hand: HandModel) -> float:
    """The sigma, of those offered, with the least MJE over all frames of the (estimate, truth) pairs.

    Only frames where the truth is valid count; of equals the first wins.
    """
    truths = [truth.joints(hand)[truth.valid] for _, truth in pairs]

    def error(sigma: float) -> float:
        smooth = [gaussian(estimate, sigma).joints(hand)[truth.valid] for estimate, truth in pairs]
        return torch.cat([mje_mm(p, g) for p, g in zip(smooth, truths, strict=True)]).mean().item()

    return min(sigmas, key=error)
