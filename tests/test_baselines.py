"""The Gaussian filter on rotations: what stays, how much noise goes, what missing frames do; and tuning filters."""

import json
from dataclasses import replace
from math import exp, pi, radians

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.baselines import GRIDS, Gaussian, Identity, best_gaussian, gaussian, tune
from handdiff_lib.metrics import mje_mm, score
from handdiff_lib.motion import HandMotion, MotionError


def track(R, transl=None, betas=None, valid=None):
    t = len(R)
    return HandMotion(
        R=R,
        betas=torch.zeros(10) if betas is None else betas,
        transl=torch.zeros(t, 3, dtype=R.dtype) if transl is None else transl,
        valid=torch.ones(t, dtype=torch.bool) if valid is None else valid,
        fps=30.0,
        hand="open",
    )


def turning(t, deg_per_frame):
    """All joints turn steadily about one axis, float64."""
    axis = torch.tensor([0.36, 0.48, 0.8], dtype=torch.float64)
    angle = torch.arange(t, dtype=torch.float64)[:, None, None] * radians(deg_per_frame)
    return rotation.exp((angle * axis).expand(t, 16, 3))


def test_a_still_hand_stays(generator):
    """Also at the ends and with per-frame betas: the kernel is renormalised there."""
    R = rotation.exp(2 * torch.randn(16, 3, generator=generator)).expand(20, 16, 3, 3)
    still = track(R, torch.full((20, 3), 0.4), torch.full((20, 10), -1.5))
    smooth = gaussian(still, 3.0)
    torch.testing.assert_close(smooth.R, R, atol=2e-6, rtol=0)
    torch.testing.assert_close(smooth.transl, still.transl)
    torch.testing.assert_close(smooth.betas, still.betas)


def test_a_steady_turn_stays_away_from_the_ends():
    """5 degrees a frame, through half a turn and more: symmetric weights cannot move it. The ends lag."""
    R = turning(80, 5)
    error = rotation.angle_between(gaussian(track(R), 2.0).R, R).amax(-1).rad2deg()
    assert error[8:-8].max() < 1e-4
    assert error[0] > 3


def test_a_line_stays_away_from_the_ends():
    transl = torch.arange(60, dtype=torch.float64)[:, None] * torch.tensor([0.01, -0.002, 0.0], dtype=torch.float64)
    smooth = gaussian(track(turning(60, 0), transl), 2.0)
    torch.testing.assert_close(smooth.transl[8:-8], transl[8:-8])


def test_white_noise_shrinks_as_computed(generator):
    r"""Variance falls to $\sum w^2 / (\sum w)^2 \approx 1 / (2 \sigma \sqrt\pi)$: 0.141 for sigma = 2."""
    noise = 0.02 * torch.randn(1500, 16, 3, generator=generator)
    transl = torch.randn(1500, 3, generator=generator)
    smooth = gaussian(track(rotation.exp(noise), transl), 2.0)
    expected = 1 / (4 * pi**0.5)
    assert expected == pytest.approx(0.141, abs=1e-3)
    assert (rotation.log(smooth.R).var() / noise.var()).item() == pytest.approx(expected, rel=0.05)
    assert (smooth.transl.var() / transl.var()).item() == pytest.approx(expected, rel=0.2)


def test_it_is_the_weighted_mean(generator):
    """Slow twin: at each frame the chordal mean of all valid frames with Gaussian weights, up to 4 sigma away."""
    R = rotation.exp(0.8 * torch.randn(14, 16, 3, generator=generator, dtype=torch.float64))
    betas = torch.randn(14, 10, generator=generator, dtype=torch.float64)
    valid = torch.ones(14, dtype=torch.bool)
    valid[[0, 5, 6]] = False
    smooth = gaussian(track(R, betas=betas, valid=valid), 1.0)
    for t in range(14):
        near = [s for s in range(14) if abs(s - t) <= 4 and valid[s]]
        weight = torch.tensor([exp(-0.5 * (s - t) ** 2) for s in near], dtype=torch.float64)
        for joint in range(16):
            M = sum(w * R[s, joint] for w, s in zip(weight, near, strict=True))
            torch.testing.assert_close(smooth.R[t, joint], rotation.nearest_rotation(M), atol=1e-6, rtol=0)
        torch.testing.assert_close(smooth.betas[t], (weight[:, None] * betas[near]).sum(0) / weight.sum())


def test_missing_frames_weigh_nothing():
    """What stands at a missing frame (NaN here) does not leak; on a steady turn its neighbours put it back."""
    R, valid = turning(40, 2), torch.ones(40, dtype=torch.bool)
    valid[20] = False
    spoiled = R.clone()
    spoiled[20] = torch.nan
    smooth = gaussian(track(spoiled, valid=valid), 2.0)
    assert torch.equal(smooth.valid, valid)
    assert smooth.R.isfinite().all()
    torch.testing.assert_close(smooth.R[20], R[20])


def test_a_gap_wider_than_the_kernel_is_bridged():
    """30 missing frames and sigma 1: the middle has no neighbour in reach and keeps the straight way across."""
    R, valid = turning(50, 2), torch.ones(50, dtype=torch.bool)
    valid[10:40] = False
    smooth = gaussian(track(R, valid=valid), 1.0)
    torch.testing.assert_close(smooth.R[15:35], R[15:35])


def test_sigma_zero_only_fills():
    R, valid = turning(10, 3), torch.ones(10, dtype=torch.bool)
    valid[4] = False
    spoiled = R.clone()
    spoiled[4] = torch.nan
    torch.testing.assert_close(gaussian(track(spoiled, valid=valid), 0.0).R, R)


def test_what_cannot_be_smoothed_is_refused():
    motion = track(turning(5, 1))
    with pytest.raises(MotionError, match="sigma must be at least 0"):
        gaussian(motion, -1.0)
    with pytest.raises(MotionError, match="no valid frame"):
        gaussian(replace(motion, valid=torch.zeros(5, dtype=torch.bool)), 1.0)


def test_the_best_sigma_follows_the_noise(hand, generator):
    """On a still hand the widest filter wins; on a clean fast turn the narrowest; mixed pairs weigh by frames."""
    still, fast = turning(60, 0).float(), turning(60, 9).float()
    noisy = track(still @ rotation.exp(0.1 * torch.randn(60, 16, 3, generator=generator)))
    sigmas = (0.5, 1.0, 2.0, 4.0)
    assert best_gaussian([(noisy, track(still))], sigmas, hand) == 4.0
    assert best_gaussian([(track(fast), track(fast))], sigmas, hand) == 0.5
    noisy_turn = track(turning(60, 4).float() @ rotation.exp(0.1 * torch.randn(60, 16, 3, generator=generator)))
    assert best_gaussian([(noisy_turn, track(turning(60, 4).float()))], sigmas, hand) in (1.0, 2.0)


# Tuning


def test_named_filters_are_the_functions(generator):
    R = turning(12, 3) @ rotation.exp(0.1 * torch.randn(12, 16, 3, generator=generator)).double()
    valid = torch.ones(12, dtype=torch.bool)
    valid[4] = False
    motion = track(R, valid=valid)
    torch.testing.assert_close(Gaussian(1.5)(motion).R, gaussian(motion, 1.5).R)
    assert torch.equal(Identity()(motion).R, gaussian(motion, 0.0).R)


def test_tuning_keeps_what_it_tried(hand, generator):
    """Errors are those of `score`; the best has the least MJE + P-MJE; all can be written as JSON."""
    truth = track(turning(30, 4).float())
    noisy = track(truth.R @ rotation.exp(0.1 * torch.randn(30, 16, 3, generator=generator)))
    tuned = tune("gaussian", GRIDS["gaussian"], [(noisy, truth)], hand)
    assert [trial.filter for trial in tuned.trials] == list(GRIDS["gaussian"])
    for trial in tuned.trials[:3]:
        want = score(trial.filter(noisy), truth, hand)
        assert (trial.mje_mm, trial.p_mje_mm) == pytest.approx((want["mje_mm"], want["p_mje_mm"]), rel=1e-4)
    sums = [trial.mje_mm + trial.p_mje_mm for trial in tuned.trials]
    assert tuned.best is tuned.trials[sums.index(min(sums))]
    assert 0.5 < tuned.best.filter.sigma_frames < 6
    told = json.loads(json.dumps(tuned.json()))
    assert told["name"] == "gaussian"
    assert told["best"]["setting"] == {"sigma_frames": tuned.best.filter.sigma_frames}
    assert len(told["tried"]) == len(GRIDS["gaussian"])


def test_pairs_weigh_by_their_valid_frames(hand, generator):
    """A pair of 30 frames and one of 10, of which 5 count: the mean is over 35 frames."""
    errors = []
    pairs = []
    for t, seen in ((30, 30), (10, 5)):
        valid = torch.arange(t) < seen
        truth = track(turning(t, 2).float(), valid=valid)
        noisy = track(truth.R @ rotation.exp(0.1 * torch.randn(t, 16, 3, generator=generator)))
        pairs.append((noisy, truth))
        errors.append(mje_mm(noisy.joints(hand)[valid], truth.joints(hand)[valid]))
    (trial,) = tune("identity", [Identity()], pairs, hand).trials
    assert trial.mje_mm == pytest.approx(torch.cat(errors).mean().item(), rel=1e-5)


def test_nothing_to_tune_is_refused(hand):
    with pytest.raises(MotionError, match="tune gaussian: 0 pairs and 9 settings; give at least one of each"):
        tune("gaussian", GRIDS["gaussian"], [], hand)


def test_every_filter_beats_the_identity_on_white_noise_but_the_naive_one_does_not_at_a_wrap(hand, generator):
    """A slow turn through half a turn about y, joints shaking by 6 degrees; the first setting and a middle one each."""
    angle = torch.linspace(radians(170), radians(190), 40)[:, None, None]
    truth = track(rotation.exp((angle * torch.tensor([0.0, 1.0, 0.0])).expand(40, 16, 3)))
    noisy = track(truth.R @ rotation.exp(0.1 * torch.randn(40, 16, 3, generator=generator)))
    errors = {
        name: min(t.mje_mm for t in tune(name, filters[:: max(1, len(filters) // 2)], [(noisy, truth)], hand).trials)
        for name, filters in GRIDS.items()
    }
    for name in ("gaussian", "savitzky_golay", "one_euro", "rauch_tung_striebel"):
        assert errors[name] < 0.9 * errors["identity"], name
    assert errors["naive_euler"] > 1.5 * errors["identity"]
