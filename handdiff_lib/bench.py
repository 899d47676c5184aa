"""Measurements anyone can repeat: what refining costs, and what it gains on motion capture with simulated noise."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from handdiff_lib.baselines import best_gaussian, gaussian
from handdiff_lib.data import manipnet_tracks
from handdiff_lib.denoiser import Denoiser
from handdiff_lib.hand import HandModel
from handdiff_lib.metrics import score
from handdiff_lib.motion import HandMotion
from handdiff_lib.perturb import NoiseConfig, perturb
from handdiff_lib.refine import refine
from handdiff_lib.synth import synthesize

Pair = tuple[HandMotion, HandMotion]
"""An estimate and the truth it came from."""

SIGMAS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)


def simulated_estimate(truth: HandMotion, hand: HandModel, noise: NoiseConfig, seed: int) -> HandMotion:
    """What an estimator would have said of a track of `hand`; the same seed says the same.

    The simulated hint of its error is left out: estimators in use give none, and it would tell too much.
    """
    generator = torch.Generator().manual_seed(seed)
    said = perturb(truth.R[None], truth.betas[None], hand, noise, torch.ones(1), generator)
    return replace(truth, R=said.R[0], betas=said.betas[0], valid=said.valid[0])


def compare(pairs: list[Pair], refined: list[HandMotion], hand: HandModel) -> dict[str, dict[str, float]]:
    """Scores (see `metrics.score`), mean over the pairs, of the input, of a Gaussian filter and of what we refined.

    The filter gets the sigma that is best for the MJE of these very pairs.
    """
    sigma = best_gaussian(pairs, SIGMAS, hand)
    estimates, truths = zip(*pairs, strict=True)
    answers = {
        "input": [gaussian(estimate, 0.0) for estimate in estimates],
        f"Gaussian σ {sigma:g}": [gaussian(estimate, sigma) for estimate in estimates],
        "handdiff": refined,
    }
    table = {}
    for name, motions in answers.items():
        scores = [score(motion, truth, hand) for motion, truth in zip(motions, truths, strict=True)]
        table[name] = {key: sum(s[key] for s in scores) / len(scores) for key in scores[0]}
    return table


def take_pairs(root: Path, take: str, cache: Path, hand: HandModel, noise: NoiseConfig, draws: int) -> list[Pair]:
    """Both hands of a ManipNet test take at 30 fps, each with several draws of simulated noise."""
    tracks = manipnet_tracks(root, hand, cache, lambda done, count: None, test=True)
    truths = [replace(m[::4], fps=30.0) for name, m in tracks.items() if name.split(".")[0] == take]
    return [
        (simulated_estimate(t, hand, noise, 100 * k + seed), t) for k, t in enumerate(truths) for seed in range(draws)
    ]


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
