"""Simulated estimator noise: what severity, seed and each part do."""

import json
from dataclasses import replace

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.hand import DATA
from handdiff_lib.metrics import shake_statistics
from handdiff_lib.perturb import NoiseConfig, perturb
from handdiff_lib.synth import synthesize

QUIET = NoiseConfig(
    jitter_deg=(1e-9, 1e-9), root_jitter_deg=(1e-9, 1e-9), drift_deg=(1e-9, 1e-9), root_drift_deg=(1e-9, 1e-9),
    bias_deg=(0.0, 0.0), root_bias_deg=(0.0, 0.0), bursts=0.0, outlier=0.0, missing=0.0, shape=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def clean(hand):
    motions = [synthesize(hand, seed, 90).motion for seed in range(8)]
    return torch.stack([m.R for m in motions]), torch.stack([m.betas for m in motions])


def noisy(clean, hand, noise, severity=1.0, seed=0):
    R, betas = clean
    return perturb(R, betas, hand, noise, torch.full((len(R),), severity), torch.Generator().manual_seed(seed))


def test_severity_zero_changes_nothing(clean, hand):
    said = noisy(clean, hand, NoiseConfig(), severity=0.0)
    torch.testing.assert_close(said.R, clean[0], atol=1e-5, rtol=0)
    assert torch.equal(said.betas, clean[1])
    assert said.valid.all()


def test_the_same_generator_state_gives_the_same_noise(clean, hand):
    one, same, other = (noisy(clean, hand, NoiseConfig(), seed=s) for s in (1, 1, 2))
    assert torch.equal(one.R, same.R)
    assert not torch.equal(one.R, other.R)


def test_answers_are_rotations_and_never_empty(clean, hand):
    said = noisy(clean, hand, replace(NoiseConfig(), missing=1.0))
    eye = torch.eye(3).expand_as(said.R)
    torch.testing.assert_close(said.R.mT @ said.R, eye, atol=1e-4, rtol=0)
    assert said.valid.any(1).all()


def test_jitter_has_the_size_it_says(clean, hand):
    """At the wrist, 2 degrees about each of three axes; tracks vary around that by exp(0.5 e)."""
    said = noisy(clean, hand, replace(QUIET, root_jitter_deg=(2.0, 2.0)))
    error = rotation.log(clean[0][:, :, 0].mT @ said.R[:, :, 0])
    per_track = torch.rad2deg(error.square().mean((1, 2)).sqrt())
    assert 1.0 < per_track.median() < 4.0
    fingers = rotation.angle_between(clean[0][:, :, 1:], said.R[:, :, 1:])
    assert torch.rad2deg(fingers).max() < 0.1


def test_jitter_is_white_and_drift_is_not(clean, hand):
    def lag1(noise):
        said = noisy(clean, hand, noise)
        e = rotation.log(clean[0][:, :, 0].mT @ said.R[:, :, 0])
        return ((e[:, 1:] * e[:, :-1]).sum() / e.square().sum()).item()

    assert abs(lag1(replace(QUIET, root_jitter_deg=(2.0, 2.0)))) < 0.15
    assert lag1(replace(QUIET, root_drift_deg=(5.0, 5.0), memory=(0.97, 0.97))) > 0.8


def test_bias_is_the_same_in_every_frame(clean, hand):
    said = noisy(clean, hand, replace(QUIET, bias_deg=(5.0, 5.0)))
    turn = clean[0].mT @ said.R
    torch.testing.assert_close(turn, turn[:, :1].expand_as(turn), atol=1e-4, rtol=0)
    assert rotation.angle_between(clean[0], said.R)[:, :, 1:].mean() > 0.03


def test_fingers_err_most_in_flexion(clean, hand):
    said = noisy(clean, hand, replace(QUIET, jitter_deg=(2.0, 2.0)))
    e = rotation.log(clean[0].mT @ said.R)[:, :, 1:13]
    twist, abduction, flexion = (anatomical_axes(hand)[1:13] @ e[..., None])[..., 0].square().mean((0, 1, 2)).sqrt()
    assert flexion > 1.5 * abduction > 1.5 * twist


def test_missing_frames_are_bridged_between_their_neighbours(clean, hand):
    said = noisy(clean, hand, replace(QUIET, missing=0.1))
    assert 0.5 < said.valid.float().mean() < 0.98
    b, t = (~said.valid[:, 1:-1]).nonzero()[0].tolist()
    t += 1
    before = max(k for k in range(t) if said.valid[b, k])
    after = min(k for k in range(t, 90) if said.valid[b, k])
    share = torch.full((16,), (t - before) / (after - before))
    want = rotation.slerp(said.R[b, before], said.R[b, after], share)
    torch.testing.assert_close(said.R[b, t], want, atol=1e-4, rtol=0)


def test_confidence_is_low_where_the_error_is_large(clean, hand):
    said = noisy(clean, hand, replace(NoiseConfig(), missing=0.0), seed=3)
    told = said.confidence[..., 0] >= 0
    assert 0 < told.any(1).float().mean() < 1, "about half of the tracks say something"
    error = rotation.angle_between(clean[0], said.R)[told].flatten()
    pair = torch.stack([error, said.confidence[told].flatten()])
    assert torch.corrcoef(pair)[0, 1] < -0.3


def test_the_profiles_shake_as_the_measured_estimator_does(clean, hand):
    """data/noise/hamer.json has raw HaMeR fingers: the training mixture reaches beyond, the profiles lie around."""
    measured = json.loads((DATA / "noise" / "hamer.json").read_text())["mean"]

    def shake(noise):
        each = [shake_statistics(R[:, 1:]) for R in noisy(clean, hand, noise, seed=5).R]
        return {key: sum(s[key] for s in each) / len(each) for key in each[0]}

    hamer, khand, training = (shake(n) for n in (NoiseConfig.hamer_like(), NoiseConfig.khand_like(), NoiseConfig()))
    assert hamer["mean_deg"] < measured["mean_deg"] < training["mean_deg"]
    assert khand["mean_deg"] == pytest.approx(measured["mean_deg"], rel=0.3)
    for profile in (hamer, khand):
        assert profile["lag1"] == pytest.approx(measured["lag1"], abs=0.12)
        assert measured["spikes"] / 3 < profile["spikes"] < 3 * measured["spikes"]
