"""What any refiner has to beat: filters over time, and how their settings are found on training takes.

The Gaussian filter is done properly on rotations (see `smoothing`); the others are in `filters`. Each is a few settings
that one calls with a motion. `tune` tries settings on (estimate, truth) pairs and keeps what it tried.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from handdiff_lib.filters import NaiveEuler, OneEuro, RauchTungStriebel, SavitzkyGolay
from handdiff_lib.hand import HandModel
from handdiff_lib.metrics import mje_mm, p_mje_mm
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.smoothing import smooth, smooth_rotations

Pair = tuple[HandMotion, HandMotion]
"""An estimate and the truth it came from."""
Filter = Callable[[HandMotion], HandMotion]
"""A frozen dataclass of settings that one calls with a motion."""
JointError = Callable[[Tensor, Tensor], Tensor]
"""From estimated and true joints to an error a frame: `mje_mm` or `p_mje_mm`."""

SIGMAS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
"""Of Gaussian filters, in frames: those that are tried."""


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


def best_gaussian(pairs: list[Pair], sigmas: Iterable[float], hand: HandModel, error: JointError = mje_mm) -> float:
    """The sigma, of those offered, with the least mean error (MJE) over all frames of the (estimate, truth) pairs.

    Only frames where the truth is valid count; of equals the first wins.
    """
    truths = [truth.joints(hand)[truth.valid] for _, truth in pairs]

    def mean(sigma: float) -> float:
        answers = [gaussian(estimate, sigma).joints(hand)[truth.valid] for estimate, truth in pairs]
        return torch.cat([error(p, g) for p, g in zip(answers, truths, strict=True)]).mean().item()

    return min(sigmas, key=mean)


@dataclass(frozen=True)
class Identity:
    """The estimate itself, its gaps bridged."""

    def __call__(self, motion: HandMotion) -> HandMotion:
        """The motion without gaps."""
        return fill_missing(motion)


@dataclass(frozen=True)
class Gaussian:
    """`gaussian` with its sigma."""

    sigma_frames: float = 2.0

    def __call__(self, motion: HandMotion) -> HandMotion:
        """The smoothed motion."""
        return gaussian(motion, self.sigma_frames)


GRIDS: dict[str, tuple[Filter, ...]] = {
    "identity": (Identity(),),
    "gaussian": tuple(Gaussian(sigma) for sigma in SIGMAS),
    "savitzky_golay": tuple(SavitzkyGolay(w, k) for k in (1, 2, 3) for w in (5, 7, 9, 11, 15, 21, 31)),
    "one_euro": tuple(OneEuro(f, beta) for f in (0.04, 0.5, 1.0, 2.0, 4.0, 8.0) for beta in (0.0, 0.7, 2.0, 5.0)),
    "rauch_tung_striebel": tuple(RauchTungStriebel(f) for f in (0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)),
    "naive_euler": tuple(NaiveEuler(sigma) for sigma in SIGMAS),
}
"""The settings that are tried for each filter. Those of SmoothNet's authors are among them: Savitzky-Golay 31 frames of
order 2, One-Euro 0.04 Hz and 0.7, Gaussian near 3."""


@dataclass(frozen=True)
class Trial:
    """One setting and its errors, means over all frames where the truth is valid."""

    filter: Filter
    mje_mm: float
    p_mje_mm: float

    @property
    def score(self) -> float:
        """What the best has least of: MJE + P-MJE, mm."""
        return self.mje_mm + self.p_mje_mm

    def json(self) -> dict:
        """Setting and errors as plain numbers."""
        return {"setting": asdict(self.filter), "mje_mm": round(self.mje_mm, 4), "p_mje_mm": round(self.p_mje_mm, 4)}


@dataclass(frozen=True)
class Tuned:
    """All that was tried of one filter."""

    name: str
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The least score; of equals the first."""
        return min(self.trials, key=lambda trial: trial.score)

    def json(self) -> dict:
        """For the benchmark's record."""
        return {"name": self.name, "best": self.best.json(), "tried": [trial.json() for trial in self.trials]}


def tune(name: str, filters: Iterable[Filter], pairs: list[Pair], hand: HandModel) -> Tuned:
    """Every filter tried on every pair; which takes the pairs come from is the caller's to answer for.

    Raises MotionError without a pair or a filter.
    """
    filters = tuple(filters)
    if not pairs or not filters:
        raise MotionError(f"tune {name}: {len(pairs)} pairs and {len(filters)} settings; give at least one of each")
    truths = torch.cat([truth.joints(hand)[truth.valid] for _, truth in pairs])
    trials = []
    for one in filters:
        answers = torch.cat([one(estimate).joints(hand)[truth.valid] for estimate, truth in pairs])
        trials.append(Trial(one, mje_mm(answers, truths).mean().item(), p_mje_mm(answers, truths).mean().item()))
    return Tuned(name, tuple(trials))
