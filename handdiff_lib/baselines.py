"""What any refiner has to beat: a Gaussian filter over time, done properly on rotations (see `smoothing`)."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from handdiff_lib.hand import HandModel
from handdiff_lib.metrics import mje_mm
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.smoothing import smooth, smooth_rotations


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
    means = {
        "R": smooth_rotations(filled.R, motion.valid, sigma_frames),
        "transl": smooth(filled.transl, motion.valid, sigma_frames),
    }
    if motion.betas.ndim == 2:
        means["betas"] = smooth(filled.betas, motion.valid, sigma_frames)
    return replace(filled, **means)


def best_gaussian(pairs: list[tuple[HandMotion, HandMotion]], sigmas: Iterable[float], hand: HandModel) -> float:
    """The sigma, of those offered, with the least MJE over all frames of the (estimate, truth) pairs.

    Only frames where the truth is valid count; of equals the first wins.
    """
    truths = [truth.joints(hand)[truth.valid] for _, truth in pairs]

    def error(sigma: float) -> float:
        answers = [gaussian(estimate, sigma).joints(hand)[truth.valid] for estimate, truth in pairs]
        return torch.cat([mje_mm(p, g) for p, g in zip(answers, truths, strict=True)]).mean().item()

    return min(sigmas, key=error)
