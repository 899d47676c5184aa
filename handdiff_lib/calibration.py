r"""Whether the doubt is worth its name: predicted sigma against the error that was really made.

The error of a joint is the vector $e = \log(R^\top R_{true})$, radians, three coordinates along the axes of its own
frame. The claim that is checked is $e \sim \mathcal N(0, \sigma^2 I)$, with one sigma for each joint and frame:

    coverage      share of errors inside the ball that holds 50, 90, 95 % of them if the claim is true
    CRPS          distance of the claim from the truth, in degrees, for each coordinate; smaller is better
    reliability   claimed and observed error of frames sorted by sigma into bins; equal if the claim is true
    AUSE          how much worse than the true order sigma sorts errors; 0 is perfect. It ignores the scale of sigma

K samples of an answer claim a distribution without a sigma. Their scores, `sample_crps` and `energy_score`, are fair:
what is expected of them does not depend on K (Ferro 2014), so 4 samples compare with 32.
"""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.motion import HandMotion, MotionError

LEVELS = {50: 1.53817, 90: 2.50028, 95: 2.79548}
"""Radius, in sigmas, of the ball that holds so many percent of a 3-D normal distribution: sqrt(chi2.ppf(p, 3))."""


@dataclass(frozen=True)
class Doubted:
    """Errors and what was claimed of them; frames of many tracks one after the other."""

    error: Float[Tensor, "n 16 3"]
    """From the answer to the truth, radians."""
    sigma: Float[Tensor, "n 16"]
    """Claimed standard deviation of each coordinate, radians."""


def doubted(answers: list[HandMotion], truths: list[HandMotion]) -> Doubted:
    """Errors and sigmas of the frames that are valid in both.

    Raises MotionError for an answer without sigma, and when there is no such frame.
    """
    error, sigma = [], []
    for answer, truth in zip(answers, truths, strict=True):
        if answer.sigma is None:
            raise MotionError("no sigma in this track: it was not refined, or its doubt needs samples = 2 or more")
        both = answer.valid & truth.valid
        error.append(rotation.log(answer.R[both].mT @ truth.R[both].to(answer.R)))
        sigma.append(answer.sigma[both])
    found = Doubted(torch.cat(error), torch.cat(sigma))
    if len(found.error) == 0:
        raise MotionError("no frame is valid in both the answer and the truth: nothing to calibrate on")
    return found


def fit_scale(found: Doubted) -> float:
    r"""The one factor for all sigmas that makes the errors most likely, $\sqrt{\mathrm{mean}(e^2 / \sigma^2)}$.

    Where the likelihood $-\log(s\sigma) - e^2 / (2 s^2 \sigma^2)$, summed over coordinates, has its maximum in s.
    """
    return (found.error / found.sigma[..., None]).square().mean().sqrt().item()


def is_covered(error: Float[Tensor, "*n 3"], sigma: Float[Tensor, "*n"], percent: int) -> Bool[Tensor, "*n"]:
    """Which errors lie inside the ball of this level of `LEVELS`."""
    return error.norm(dim=-1) <= LEVELS[percent] * sigma


def coverage(error: Float[Tensor, "*n 3"], sigma: Float[Tensor, "*n"], percent: int) -> float:
    """Share of errors inside the ball of this level of `LEVELS`; percent / 100 if the claim is true."""
    return is_covered(error, sigma, percent).to(error.dtype).mean().item()


def crps(error: Float[Tensor, "*n 3"], sigma: Float[Tensor, "*n"]) -> Float[Tensor, "*n 3"]:
    r"""Continuous ranked probability score of $\mathcal N(0, \sigma^2)$ for each coordinate, in the error's unit.

    $\sigma\,(z\,(2\Phi(z) - 1) + 2\varphi(z) - 1/\sqrt\pi)$ with $z = e / \sigma$ (Gneiting and Raftery 2007,
    section 4.2); for sigma towards 0 it is the absolute error. A sigma below 1e-6 counts as that.
    """
    sigma = sigma.clamp(min=1e-6)
    z = error / sigma[..., None]
    inside = torch.erf(z / 2**0.5)  # 2 Phi(z) - 1
    density = (-z.square() / 2).exp() / (2 * pi) ** 0.5
    return sigma[..., None] * (z * inside + 2 * density - pi**-0.5)


def sample_crps(samples: Float[Tensor, "k *n"], truth: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""CRPS of k samples for each number, in its unit:
    $\frac1k \sum_i |x_i - y| - \frac{1}{2 k (k-1)} \sum_{ij} |x_i - x_j|$.

    Raises MotionError for fewer than two samples.
    """
    k = _at_least_two(samples)
    place = torch.arange(1 - k, k, 2).to(samples).view(-1, *[1] * truth.ndim)  # sorted, sum_ij is twice this sum
    apart = (place * samples.sort(0).values).sum(0) / (k * (k - 1))
    return (samples - truth).abs().mean(0) - apart


def energy_score(samples: Float[Tensor, "k *n d"], truth: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
    r"""`sample_crps` for points instead of numbers: lengths $\lVert x_i - y \rVert$ stand where differences do.

    Raises MotionError for fewer than two samples. Source: Gneiting and Raftery 2007, section 4.3.
    """
    k = _at_least_two(samples)
    apart = sum((samples[i + 1 :] - samples[i]).norm(dim=-1).sum(0) for i in range(k - 1))
    return (samples - truth).norm(dim=-1).mean(0) - apart / (k * (k - 1))


def is_in_range(samples: Float[Tensor, "k *n"], truth: Float[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
    """Where the truth lies between the smallest and the largest sample: a share of (k - 1) / (k + 1) if k honest
    samples of a continuous distribution are drawn, whatever its form."""
    return (samples.amin(0) <= truth) & (truth <= samples.amax(0))


def _at_least_two(samples: Float[Tensor, "k *n"]) -> int:
    if len(samples) < 2:
        raise MotionError(f"{len(samples)} sample says nothing about doubt; draw 2 or more")
    return len(samples)


@dataclass(frozen=True)
class Reliability:
    """Bins of equal size by sigma, smallest first: root mean squares over coordinates, radians."""

    claimed: Float[Tensor, "bins"]
    observed: Float[Tensor, "bins"]


def reliability(error: Float[Tensor, "*n 3"], sigma: Float[Tensor, "*n"], bins: int = 10) -> Reliability:
    """Claimed and observed error of the answers in each bin; fewer bins where there are fewer answers."""
    order = sigma.flatten().argsort()
    squared = error.square().mean(-1).flatten()[order].tensor_split(min(bins, len(order)))
    claims = sigma.flatten().square()[order].tensor_split(min(bins, len(order)))
    return Reliability(
        torch.stack([part.mean() for part in claims]).sqrt(), torch.stack([part.mean() for part in squared]).sqrt()
    )


def ause(error: Float[Tensor, "*n 3"], sigma: Float[Tensor, "*n"]) -> float:
    """Area under the sparsification error, relative to the mean angle of all errors.

    The mean angle of what is left after the k most doubtful answers are dropped, minus the same with the k worst ones
    dropped; the mean over k = 0, 1, ..., n - 1. 0 is the best order; a sigma that says nothing has `ause_chance`.
    """
    angle = error.norm(dim=-1).flatten().double()
    by_sigma = angle[sigma.flatten().argsort(stable=True)]
    return ((_mean_left(by_sigma) - _mean_left(angle.sort().values)) / angle.mean()).item()


def ause_chance(error: Float[Tensor, "*n 3"]) -> float:
    """The AUSE to expect of a sigma in random order."""
    angle = error.norm(dim=-1).flatten().double()
    return (1 - _mean_left(angle.sort().values) / angle.mean()).item()


def _mean_left(angle: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """Mean over k of the mean of what is left when the last k are dropped."""
    return (angle.cumsum(0) / torch.arange(1, len(angle) + 1, device=angle.device)).mean()


@dataclass(frozen=True)
class Calibration:
    """What the sigma of one joint, or of all of them, is worth."""

    error_deg: float
    """Root mean square error of a coordinate."""
    sigma_deg: float
    """Root mean square sigma."""
    coverage: dict[int, float]
    """Share inside the ball of each level, in percent: coverage[90] should be 0.9."""
    crps_deg: float
    ause: float
    ause_chance: float
    """That of a sigma in random order: no use unless `ause` is smaller."""


def calibration(error: Float[Tensor, "*n 3"], sigma: Float[Tensor, "*n"]) -> Calibration:
    """All numbers for some answers; `calibration(found.error[:, j], found.sigma[:, j])` is for joint j."""
    return Calibration(
        error_deg=error.square().mean().sqrt().rad2deg().item(),
        sigma_deg=sigma.square().mean().sqrt().rad2deg().item(),
        coverage={percent: coverage(error, sigma, percent) for percent in LEVELS},
        crps_deg=crps(error, sigma).mean().rad2deg().item(),
        ause=ause(error, sigma),
        ause_chance=ause_chance(error),
    )
