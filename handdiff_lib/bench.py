"""Measurements anyone can repeat: what refining costs, and what it gains on motion capture with simulated noise."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from handdiff_lib import rotation
from handdiff_lib.baselines import best_gaussian, gaussian
from handdiff_lib.data import manipnet_tracks
from handdiff_lib.denoiser import Denoiser
from handdiff_lib.hand import HandModel
from handdiff_lib.metrics import accel_error_mm, mje_mm, p_mje_mm, second_difference_deg
from handdiff_lib.motion import HandMotion
from handdiff_lib.perturb import NoiseConfig, perturb
from handdiff_lib.refine import refine
from handdiff_lib.synth import synthesize

Pair = tuple[HandMotion, HandMotion]
"""An estimate and the truth it came from."""

SIGMAS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)


def simulated_estimate(truth: HandMotion, hand: HandModel, noise: NoiseConfig, seed: int) -> HandMotion:
    """What an estimator would have said of a track of `hand`; the same seed says the same."""
    generator = torch.Generator().manual_seed(seed)
    said = perturb(truth.R[None], truth.betas[None], hand, noise, torch.ones(1), generator)
    known = said.confidence[0] if (said.confidence >= 0).any() else None
    if known is not None:
        known = known.clamp(min=0)
    return replace(truth, R=said.R[0], betas=said.betas[0], valid=said.valid[0], confidence=known)


@dataclass(frozen=True)
class Row:
    """One method's mean errors over all frames."""

    method: str
    mje: float
    """mm, root-relative."""
    p_mje: float
    """mm, after similarity alignment."""
    accl: float
    """mm/frame^2."""
    finger: float
    """Angle to the true finger rotation, degrees."""
    shake: float
    """Second difference of the finger rotations, degrees/frame^2."""


def score(method: str, pairs: list[Pair], hand: HandModel) -> Row:
    """Errors of (estimate, truth) pairs over the frames whose truth is known, missing answers included as filled."""
    errors: list[list[torch.Tensor]] = [[] for _ in range(5)]
    for estimate, truth in pairs:
        p, g, known = estimate.joints(hand), truth.joints(hand), truth.valid
        inner = known[:-2] & known[1:-1] & known[2:]
        angle = torch.rad2deg(rotation.angle_between(estimate.R[:, 1:], truth.R[:, 1:])).mean(-1)
        values = (
            mje_mm(p, g)[known],
            p_mje_mm(p, g)[known],
            accel_error_mm(p, g)[inner],
            angle[known],
            second_difference_deg(estimate.R[:, 1:])[inner],
        )
        for total, value in zip(errors, values, strict=True):
            total.append(value)
    return Row(method, *(torch.cat(e).mean().item() for e in errors))


def compare(pairs: list[Pair], model: Denoiser, hand: HandModel) -> list[Row]:
    """Errors of the input, of the Gaussian filter with the sigma that is best for these very pairs, and of ours."""
    sigma = best_gaussian(pairs, SIGMAS, hand)
    return [
        score("input", [(gaussian(e, 0), t) for e, t in pairs], hand),
        score(f"Gaussian, sigma {sigma:g} (best)", [(gaussian(e, sigma), t) for e, t in pairs], hand),
        score("handdiff", [(refine(e, model, hand), t) for e, t in pairs], hand),
    ]


def take_pairs(root: Path, take: str, cache: Path, hand: HandModel, noise: NoiseConfig, seed: int) -> list[Pair]:
    """Both hands of a ManipNet test take at 30 fps with simulated noise."""
    tracks = manipnet_tracks(root, hand, cache, lambda done, count: None, test=True)
    truths = [replace(m[::4], fps=30.0) for name, m in tracks.items() if name.split(".")[0] == take]
    return [(simulated_estimate(t, hand, noise, seed + k), t) for k, t in enumerate(truths)]


@dataclass(frozen=True)
class Speed:
    """What refining a clip of some length takes."""

    frames: int
    seconds: float

    @property
    def ms_per_frame(self) -> float:
        """Milliseconds a frame."""
        return 1000 * self.seconds / self.frames


def speed(model: Denoiser, hand: HandModel, lengths: tuple[int, ...] = (128, 1280, 12_800)) -> Iterator[Speed]:
    """Time `refine` on noisy made-up clips of these lengths, after one warm-up."""
    truth = synthesize(hand, seed=7, frames=max(lengths)).motion
    noisy = simulated_estimate(truth, hand, NoiseConfig.hamer_like(), seed=7)
    refine(noisy[:128], model, hand)
    for length in lengths:
        start = time.perf_counter()
        refine(noisy[:length], model, hand)
        yield Speed(length, time.perf_counter() - start)
