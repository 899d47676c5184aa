"""Presets, and the ways to refine that they are made of: samples, doubt, strength, first frames, a first pass."""

import json
import math
from dataclasses import replace

import pytest
import roma
import torch

from handdiff_lib import refine as refine_module
from handdiff_lib import rotation
from handdiff_lib.checkpoint import DEFAULT_WEIGHTS
from handdiff_lib.denoiser import Denoiser, DenoiserConfig
from handdiff_lib.frames import estimate_frames
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.perturb import NoiseConfig, simulated_estimate
from handdiff_lib.presets import PRESETS, config_for
from handdiff_lib.pyramid import build_pyramid
from handdiff_lib.refine import (
    RefineConfig,
    encode_clip,
    how_noisy,
    predict_clip,
    refine,
    sampled_answer,
    spread,
    walk_back,
)
from handdiff_lib.synth import synthesize

SMALL = DenoiserConfig(channels=(4, 4, 4, 4), d=32, layers=1, heads=2, feedforward=32, decoder_feedforward=32)
DECODERS = ("none", "draft", "loop")
SURE = 20.0
"""Logit of what is certain."""
FRAMES = 24


@pytest.fixture(scope="module")
def pyramid(hand):
    return build_pyramid(hand.v_template, hand.faces)


@pytest.fixture(scope="module")
def make_model(pyramid):
    """Models that change everything by some degrees and listen to x_n; with `scale=0` they return the estimate."""

    def make(decoder="none", scale=0.05) -> Denoiser:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Denoiser(replace(SMALL, decoder=decoder, decoder_layers=1), pyramid).eval()
            for head in (model.pose_head, model.shape_head, model.doubt_head):
                head[-1].weight.data = scale * torch.randn(head[-1].weight.shape)
            model.noise_head[-1].bias.data.fill_(SURE)
            return model

    return make


@pytest.fixture
def model(make_model) -> Denoiser:
    return make_model()


@pytest.fixture(scope="module")
def estimate(hand) -> HandMotion:
    """Twenty-four noisy frames, two of them missing."""
    truth = synthesize(hand, seed=3, frames=FRAMES).motion
    noisy = simulated_estimate(truth, hand, replace(NoiseConfig.khand_like(), missing=0.0), seed=1)
    valid = noisy.valid.clone()
    valid[[5, 6]] = False
    return replace(noisy, valid=valid)


# Presets


def test_the_presets_by_name():
    assert list(PRESETS) == ["recommended", "paper", "official-demo"]
    paper, demo = PRESETS["paper"], PRESETS["official-demo"]
    assert (paper.rule, paper.stop, paper.samples, paper.first_pass) == ("posterior", 1, 1, False)
    assert (demo.rule, demo.stop, demo.stride, demo.kept, demo.first_pass) == ("renoise", 2, 1, "first", True)


def test_the_card_says_what_belongs_to_the_weights():
    card = {"N": 8, "space": "euler_anat", "sigma_scale": 1.7, "doubt": "spread", "name": "any"}
    for name, preset in PRESETS.items():
        want = replace(preset, N=8, space="euler_anat", sigma_scale=1.7, doubt="spread")
        assert config_for(card, name) == want
    assert config_for({}) == RefineConfig(), "what a card does not say is the default"


def test_weights_that_ship_fit_every_preset():
    card = json.loads(DEFAULT_WEIGHTS.with_suffix(".json").read_text())
    assert all(card["N"] == config_for(card, name).N for name in PRESETS)


def test_changes_win_and_none_is_no_change():
    cfg = config_for({"N": 4}, "paper", stride=2, samples=None, seed=5, N=4)
    assert cfg == replace(PRESETS["paper"], stride=2, seed=5)


@pytest.mark.parametrize("N", [0, 1])
def test_the_demo_of_one_step_does_not_stop_before_it_starts(N):
    assert config_for({"N": N}, "official-demo").stop == 1


@pytest.mark.parametrize(
    ("card", "preset", "changes", "message"),
    [
        ({}, "best", {}, "preset 'best' is unknown; there are recommended, paper, official-demo"),
        ({"N": 4}, "paper", {"N": 8}, "N = 8 does not fit the weights, which were trained with N = 4"),
        ({"space": "euler_anat"}, "paper", {"space": "so3_at_y"}, "trained with space = euler_anat"),
        ({"space": "quaternions"}, "paper", {}, "space expected so3_at_y or euler_anat, found 'quaternions'"),
        ({"doubt": "none"}, "paper", {}, "doubt expected network or spread, found 'none'"),
    ],
)
def test_what_does_not_fit_is_refused(card, preset, changes, message):
    with pytest.raises(MotionError, match=message):
        config_for(card, preset, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stop": 5}, "stop at a step from 4 down to 1, found 5"),
        ({"stop": 0}, "stop at a step from 4 down to 1, found 0"),
        ({"N": 0, "stop": 2}, "stop at a step from 1 down to 1, found 2"),
        ({"N": -1}, "N must be 0 .* found -1"),
        ({"samples": 0}, "samples must be 1 or more, found 0"),
        ({"strength": 1.5}, "strength must be from 0 .* found 1.5"),
        ({"kept": "first"}, "only with stride 1, found stride None"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(model, hand, estimate, changes, message):
    with pytest.raises(MotionError, match=message):
        refine(estimate, model, hand, replace(RefineConfig(), **changes))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_with_every_decoder(make_model, hand, estimate, decoder, preset):
    """Proper rotations that differ from the estimate, doubt in every frame; untrained, the estimate itself."""
    cfg = config_for({"N": 2}, preset)
    after = refine(estimate, make_model(decoder), hand, cfg)
    torch.testing.assert_close(after.R.mT @ after.R, torch.eye(3).expand_as(after.R), atol=1e-4, rtol=0)
    assert rotation.angle_between(after.R, fill_missing(estimate).R).mean() > 0.01
    assert (after.sigma > 0).all()
    left = refine(estimate, make_model(decoder, scale=0), hand, cfg)
    torch.testing.assert_close(left.R, fill_missing(estimate).R, atol=1e-5, rtol=0)


def test_angles_are_another_walk(model, hand, estimate):
    """In the space of angles the same seed gives another x_n; an untrained model returns the estimate either way."""
    one, other = (refine(estimate, model, hand, RefineConfig(space=s)).R for s in ("so3_at_y", "euler_anat"))
    assert 1e-4 < rotation.angle_between(one, other).mean() < rotation.angle_between(one, estimate.R).mean()


def test_stopping_at_the_first_step_asks_once(model, hand, estimate):
    y, _ = estimate_frames(fill_missing(estimate))
    whole, once = (list(walk_back(model, y, hand, RefineConfig(stop=stop))) for stop in (1, 4))
    assert (len(whole), len(once)) == (4, 1)
    assert torch.equal(once[0].R, whole[0].R)


@torch.no_grad()
def test_without_diffusion_the_network_is_asked_about_the_estimate(model, hand, estimate):
    """N = 0: one answer, from y in the place of x_n at step 1, whatever rule and seed."""
    y, _ = estimate_frames(fill_missing(estimate[:16]))
    want = model(y.R, y, torch.tensor([1]), hand).R
    for rule, seed in (("posterior", 0), ("renoise", 1)):
        (only,) = walk_back(model, y, hand, RefineConfig(N=0, rule=rule, seed=seed))
        torch.testing.assert_close(only.R, want, atol=1e-5, rtol=0)


# The released demo's windows


@torch.no_grad()
@pytest.mark.parametrize("t", [1, 9, 16, 24])
def test_first_frames_are_a_loop_over_windows(model, hand, estimate, generator, t):
    """Frame k is what the window that starts at k says of its first frame."""
    y, _ = estimate_frames(fill_missing(estimate[:t]))
    features, n = torch.randn(t, 32, generator=generator), torch.tensor([2])
    got = predict_clip(model, features, n, y, hand, RefineConfig(stride=1, kept="first"))
    for k in range(t):
        part = slice(k, min(k + 16, t))
        alone = model.predict(features[None, part], n, y[:, part], hand)
        torch.testing.assert_close(got.R[0, k], alone.R[0, 0], atol=1e-5, rtol=0)
        torch.testing.assert_close(got.log_sigma[0, k], alone.log_sigma[0, 0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_shorter_window_is_a_masked_one(model, generator):
    """Nothing is seen of masked tokens, so that leaving them out is the same."""
    token = torch.randn(1, 17, 32, generator=generator)
    is_padding = (torch.arange(17) > 10)[None]
    masked = model.transformer(token, src_key_padding_mask=is_padding)[:, :11]
    torch.testing.assert_close(model.transformer(token[:, :11]), masked, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_first_pass_makes_the_estimate(model, hand, estimate):
    """One window by hand: y in the place of x_N at step N; the walk then starts from the answer."""
    short = estimate[8:]
    y, frame = estimate_frames(short)
    pred = model(y.R, y, torch.tensor([4]), hand)
    R = torch.cat([(frame @ pred.R[:, :, 0])[:, :, None], pred.R[:, :, 1:]], dim=2)[0]
    want = refine(replace(short, R=rotation.nearest_rotation(R), betas=pred.betas[0]), model, hand)
    got = refine(short, model, hand, RefineConfig(first_pass=True))
    torch.testing.assert_close(got.R, want.R, atol=1e-4, rtol=0)
    torch.testing.assert_close(got.betas, want.betas, atol=1e-4, rtol=0)


# Samples and doubt


@torch.no_grad()
def test_samples_are_averaged(model, hand, estimate):
    """The chordal mean of walks from different noise; their spread by a loop over frames, joints and samples."""
    cfg = RefineConfig(samples=3, doubt="spread", sigma_scale=2.0, rule="posterior")
    y, _ = estimate_frames(fill_missing(estimate))
    walks = [list(refine_module._walk(model, y, encode_clip(model, y, hand), hand, cfg, k)) for k in range(3)]
    R = torch.stack([walk[-1].R[0] for walk in walks]).double()
    got = sampled_answer(model, y, hand, cfg)
    mean = roma.special_procrustes(R.sum(0))
    torch.testing.assert_close(got.R.double(), mean, atol=1e-5, rtol=0)
    for t in (0, 11):
        for j in (0, 7):
            apart = [roma.rotmat_geodesic_distance(mean[t, j], R[k, t, j]).item() for k in range(3)]
            want = 2 * math.sqrt(sum(a * a for a in apart) / (3 * 2))
            assert got.sigma[t, j].item() == pytest.approx(want, abs=1e-4, rel=0.02)
    assert torch.equal(walks[0][-1].R, [*walk_back(model, y, hand, cfg)][-1].R), "walk_back is the first sample"


def test_spread_by_hand():
    """Three turns of -a, 0 and a about one axis: variance a^2 about it, shared by three axes."""
    turns = torch.tensor([-0.2, 0.0, 0.2])[:, None] * torch.tensor([0.0, 1.0, 0.0])
    got = spread(rotation.exp(turns), torch.eye(3))
    assert got.item() == pytest.approx(0.2 / 3**0.5, rel=1e-4)


def test_spread_of_normal_samples_is_their_sigma(generator):
    R_mean = rotation.exp(torch.randn(3, generator=generator))
    R = R_mean @ rotation.exp(0.05 * torch.randn(20_000, 3, generator=generator))
    assert spread(R, R_mean).item() == pytest.approx(0.05, rel=0.02)


def test_a_single_sample_has_no_spread(model, hand, estimate):
    assert refine(estimate, model, hand, RefineConfig(doubt="spread")).sigma is None


@torch.no_grad()
def test_doubt_is_what_the_network_says_at_step_N(model, hand, estimate):
    """Before x_n tells of its own guesses; scaled as the card says, averaged over samples."""
    y, _ = estimate_frames(fill_missing(estimate))
    first = next(iter(walk_back(model, y, hand, RefineConfig())))
    sigma = refine(estimate, model, hand, RefineConfig(sigma_scale=1.5)).sigma
    torch.testing.assert_close(sigma, 1.5 * first.log_sigma[0].exp())
    assert sigma.std() > 0, "the doubt differs from joint to joint"


# Strength


def test_strength_goes_from_the_filled_input_to_the_answer(model, hand, estimate):
    """On the shortest way, joint by joint; what is left to go is added to the doubt."""
    none, half, full = (refine(estimate, model, hand, RefineConfig(strength=s)) for s in (0.0, 0.5, 1.0))
    filled = fill_missing(estimate)
    torch.testing.assert_close(none.R, filled.R, atol=1e-5, rtol=0)
    torch.testing.assert_close(none.betas, filled.betas)
    assert none.valid.all(), "short gaps are filled"
    torch.testing.assert_close(
        half.R, rotation.slerp(filled.R, full.R, torch.full((FRAMES, 16), 0.5)), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(half.betas, (filled.betas + full.betas) / 2)
    left = rotation.angle_between(half.R, full.R)
    torch.testing.assert_close(half.sigma, (full.sigma**2 + left**2 / 3).sqrt(), atol=1e-4, rtol=0)


# Clean motion


def test_clean_motion_stays_and_missing_frames_are_answered(make_model, hand, estimate):
    """What is taken for clean is not moved; frames without an estimate get the answer all the same."""
    model = make_model()
    model.noise_head[-1].bias.data.fill_(-SURE)
    left, whole = (refine(estimate, model, hand, RefineConfig(leave_clean=only)) for only in (True, False))
    torch.testing.assert_close(left.R[estimate.valid], estimate.R[estimate.valid], atol=1e-5, rtol=0)
    torch.testing.assert_close(left.R[~estimate.valid], whole.R[~estimate.valid])
    assert rotation.angle_between(whole.R, fill_missing(estimate).R).rad2deg().mean() > 1
    torch.testing.assert_close(
        left.sigma[3], (whole.sigma[3] ** 2 + angle2(left, whole)[3] / 3).sqrt(), rtol=1e-3, atol=0
    )


def angle2(one: HandMotion, other: HandMotion) -> torch.Tensor:
    return rotation.angle_between(one.R, other.R).square()


def test_the_estimate_turns_noisy_slowly():
    """A step in what every frame says becomes a slope; frames without an estimate are at 1."""
    logit = torch.cat([torch.full((60,), -5.0), torch.full((60,), 5.0)])
    valid = torch.ones(120, dtype=torch.bool)
    valid[10] = False
    far = how_noisy(logit, valid)
    assert far[10] == 1
    assert far[:10].max() < 1e-3
    assert far[-10:].min() > 0.99
    half = int((far < 0.5).sum())
    assert 64 <= half <= 69, "a little after the step: it takes more than a doubt"
    assert far[11:].diff().max() < 0.25
