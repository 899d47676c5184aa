"""Doubt against error: each number by hand, by a slow twin, and on errors that are as the sigma says."""

import math
from dataclasses import replace
from statistics import NormalDist

import pytest
import torch
from scipy.stats import chi2

from handdiff_lib import rotation
from handdiff_lib.calibration import (
    LEVELS,
    Doubted,
    ause,
    ause_chance,
    calibration,
    coverage,
    crps,
    doubted,
    energy_score,
    fit_scale,
    is_in_range,
    reliability,
    sample_crps,
)
from handdiff_lib.motion import HandMotion, MotionError


def along_x(*lengths: float) -> torch.Tensor:
    """Errors about the first axis."""
    return torch.tensor(lengths)[:, None] * torch.tensor([1.0, 0.0, 0.0])


@pytest.fixture
def honest(generator) -> Doubted:
    """Errors drawn from what is claimed; sigmas from 1 to 10 degrees."""
    sigma = 0.017 * 10 ** torch.rand(3000, 16, generator=generator)
    return Doubted(sigma[..., None] * torch.randn(3000, 16, 3, generator=generator), sigma)


def test_levels_are_those_of_a_3d_normal_distribution():
    for percent, radius in LEVELS.items():
        assert radius == pytest.approx(chi2.ppf(percent / 100, 3) ** 0.5, abs=1e-5)


def test_an_honest_sigma_is_found_honest(honest):
    """Coverage and scale within five standard errors, claimed equals observed; the mean CRPS is sigma / sqrt(pi)."""
    found = calibration(honest.error, honest.sigma)
    count = honest.sigma.numel()
    for percent in LEVELS:
        share = percent / 100
        assert found.coverage[percent] == pytest.approx(share, abs=5 * (share * (1 - share) / count) ** 0.5)
    assert fit_scale(honest) == pytest.approx(1, abs=5 / (2 * 3 * count) ** 0.5)
    assert found.crps_deg == pytest.approx(honest.sigma.mean().rad2deg().item() / math.pi**0.5, rel=0.02)
    assert found.error_deg == pytest.approx(found.sigma_deg, rel=0.02)
    assert 0 < found.ause < 0.6 * found.ause_chance, "it sorts well, though chance keeps it from sorting perfectly"
    curve = reliability(honest.error, honest.sigma)
    torch.testing.assert_close(curve.observed, curve.claimed, rtol=0.05, atol=0)


def test_a_sigma_of_half_the_size_is_found_out(honest):
    """The scale is 2, the balls hold too little, the order is as good as before, and the CRPS is worse."""
    half = replace(honest, sigma=honest.sigma / 2)
    assert fit_scale(half) == pytest.approx(2 * fit_scale(honest))
    true, found = calibration(honest.error, honest.sigma), calibration(half.error, half.sigma)
    assert found.coverage[90] < 0.5
    assert found.ause == pytest.approx(true.ause)
    assert found.crps_deg > true.crps_deg


def test_the_scale_is_the_likeliest(honest):
    """A search over scales for the greatest likelihood finds the same."""
    off = replace(honest, sigma=honest.sigma * 1.7)
    z = (off.error / off.sigma[..., None]).double()
    scales = torch.linspace(0.4, 0.8, 801, dtype=torch.float64)
    likelihood = [(-torch.log(s) - (z / s).square() / 2).mean().item() for s in scales]
    assert fit_scale(off) == pytest.approx(scales[max(range(801), key=likelihood.__getitem__)].item(), abs=5e-4)


def test_coverage_by_hand():
    """Radii of 50 %: 1.54 sigma. Of 1, 1.5, 1.6 and 4 sigmas two are inside; of 95 % (2.8 sigma) three."""
    sigma = torch.tensor([0.1, 0.2, 0.1, 0.1])
    error = along_x(0.1, 0.3, 0.16, 0.4)
    assert coverage(error, sigma, 50) == 0.5
    assert coverage(error, sigma, 95) == 0.75


def test_crps_by_hand():
    """Without error (2 phi(0) - 1 / sqrt(pi)) sigma = 0.2337 sigma; without doubt the error itself."""
    got = crps(along_x(0.0), torch.tensor([2.0]))
    torch.testing.assert_close(got, torch.full((1, 3), 2 * 0.233695), atol=1e-5, rtol=0)
    assert crps(along_x(-0.5), torch.tensor([1e-5]))[0, 0].item() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(("error", "sigma"), [(0.3, 0.2), (-0.1, 0.4), (1.0, 0.25)])
def test_crps_is_the_area_between_claim_and_truth(error, sigma):
    r"""$\int (F(x) - 1[x \ge e])^2\,dx$ by a sum over small steps."""
    normal, step = NormalDist(0, sigma), 1e-3
    grid = [-4 + step * (k + 0.5) for k in range(8000)]
    area = sum((normal.cdf(x) - (x >= error)) ** 2 for x in grid) * step
    assert crps(along_x(error), torch.tensor([sigma]))[0, 0].item() == pytest.approx(area, abs=2e-3)


def test_reliability_by_hand():
    """Two bins: sigmas 1, 1 with errors 3 and 0 about one axis, sigmas 2, 2 with 6 and 6."""
    curve = reliability(along_x(6.0, 3.0, 0.0, 6.0), torch.tensor([2.0, 1.0, 1.0, 2.0]), bins=2)
    torch.testing.assert_close(curve.claimed, torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(curve.observed, torch.tensor([(9 / 6) ** 0.5, 12**0.5]))
    assert len(reliability(along_x(1.0, 2.0), torch.ones(2)).claimed) == 2, "no empty bins"


def test_ause_by_hand():
    """Angles 1, 2, 3. In the true order the means left are 2, 1.5, 1; in the worst one 2, 2.5, 3."""
    error = along_x(1.0, 2.0, 3.0)
    assert ause(error, torch.tensor([0.1, 0.2, 0.9])) == 0
    assert ause(error, torch.tensor([3.0, 2.0, 1.0])) == pytest.approx((0 + 1 + 2) / 3 / 2)
    assert ause_chance(error) == pytest.approx(1 - (2 + 1.5 + 1) / 3 / 2)


def test_ause_is_a_loop_that_drops_answers(honest):
    error, sigma = honest.error[:20].flatten(0, 1), honest.sigma[:20].flatten()
    angle = error.norm(dim=-1).tolist()
    by_sigma = [a for _, a in sorted(zip(sigma.tolist(), angle, strict=True))]
    by_truth, count, gaps = sorted(angle), len(angle), []
    for dropped in range(count):
        left = count - dropped
        gaps.append((sum(by_sigma[:left]) - sum(by_truth[:left])) / left)
    want = sum(gaps) / count / (sum(angle) / count)
    assert ause(error, sigma) == pytest.approx(want, rel=1e-5)


def test_a_constant_sigma_sorts_by_chance(honest):
    shuffled = honest.error.flatten(0, 1)
    assert ause(shuffled, torch.ones(len(shuffled))) == pytest.approx(ause_chance(shuffled), abs=0.02)


# From samples


def test_sample_scores_by_hand():
    """Samples 0, 2, 6 and truth 3: mean distance 7/3; pairs are 2, 4, 6 apart, so half their mean is 2.

    As points on a line the energy score is the same.
    """
    samples, truth = torch.tensor([2.0, 0.0, 6.0])[:, None], torch.tensor([3.0])
    assert sample_crps(samples, truth).item() == pytest.approx(7 / 3 - 2)
    line = torch.tensor([0.6, 0.0, 0.8])
    assert energy_score(samples[..., None] * line, truth[:, None] * line).item() == pytest.approx(7 / 3 - 2)


def test_sample_scores_are_double_sums(generator):
    samples = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    truth = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    for n in range(4):
        far = sum((samples[i, n] - truth[n]).norm().item() for i in range(5)) / 5
        apart = sum((samples[i, n] - samples[j, n]).norm().item() for i in range(5) for j in range(5)) / (2 * 5 * 4)
        assert energy_score(samples, truth)[n].item() == pytest.approx(far - apart)
        for c in range(3):
            x, y = samples[:, n, c].tolist(), truth[n, c].item()
            want = sum(abs(a - y) for a in x) / 5 - sum(abs(a - b) for a in x for b in x) / (2 * 5 * 4)
            assert sample_crps(samples, truth)[n, c].item() == pytest.approx(want)


@pytest.mark.parametrize("k", [2, 4, 16])
def test_sample_crps_of_honest_samples_does_not_depend_on_their_number(k, generator):
    r"""From N(0, 1), as the truth: $1 / \sqrt\pi$, what `crps` says of sigma = 1; the range holds (k - 1) / (k + 1)."""
    drawn = torch.randn(k + 1, 40_000, generator=generator)
    assert sample_crps(drawn[1:], drawn[0]).mean().item() == pytest.approx(math.pi**-0.5, abs=0.02)
    assert is_in_range(drawn[1:], drawn[0]).float().mean().item() == pytest.approx((k - 1) / (k + 1), abs=0.015)


def test_energy_score_is_best_for_the_true_spread(generator):
    """Samples too close together or too far apart score worse."""
    unit, truth = torch.randn(8, 20_000, 3, generator=generator), torch.randn(20_000, 3, generator=generator)
    honest, close, wide = (energy_score(scale * unit, truth).mean().item() for scale in (1, 0.5, 2))
    assert honest < min(close, wide) - 0.05


def test_one_sample_has_no_doubt():
    for score in (sample_crps, energy_score):
        with pytest.raises(MotionError, match="draw 2 or more"):
            score(torch.zeros(1, 4, 3), torch.zeros(4, 3))


def test_crps_of_no_sigma_is_the_error():
    got = crps(along_x(-0.5, 0.0), torch.zeros(2))
    torch.testing.assert_close(got, along_x(0.5, 0.0), atol=1e-6, rtol=0)


# From tracks


def track(R: torch.Tensor, sigma: torch.Tensor | None, lost: int) -> HandMotion:
    valid = torch.arange(len(R)) != lost
    return HandMotion(R, torch.zeros(10), torch.zeros(len(R), 3), valid, fps=30.0, sigma=sigma)


def test_errors_are_taken_where_both_are_valid(generator):
    """The error is the turn from the answer to the truth, in the joint's own frame."""
    R = rotation.exp(torch.randn(5, 16, 3, generator=generator))
    turn = 0.2 * torch.randn(5, 16, 3, generator=generator)
    sigma = torch.rand(5, 16, generator=generator)
    answer, truth = track(R, sigma, lost=1), track(R @ rotation.exp(turn), None, lost=3)
    found = doubted([answer, answer], [truth, truth])
    both = [0, 2, 4]
    torch.testing.assert_close(found.error, turn[both].repeat(2, 1, 1), atol=1e-5, rtol=0)
    assert torch.equal(found.sigma, sigma[both].repeat(2, 1))


def test_without_sigma_or_frames_there_is_nothing_to_say():
    R = torch.eye(3).expand(1, 16, 3, 3)
    with pytest.raises(MotionError, match="no sigma in this track"):
        doubted([track(R, None, 9)], [track(R, None, 9)])
    with pytest.raises(MotionError, match="no frame is valid in both"):
        doubted([track(R, torch.ones(1, 16), 0)], [track(R, None, 9)])
