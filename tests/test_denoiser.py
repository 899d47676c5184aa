"""The denoiser: starts as the identity, does not see the camera, and is told what it should be told."""

import math
from collections import deque
from dataclasses import replace

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.baselines import gaussian
from handdiff_lib.denoiser import Denoiser, DenoiserConfig
from handdiff_lib.frames import CAMERA_AXIS, SIGMAS, estimate_frames, from_steady, leanings, steady_frame, to_steady
from handdiff_lib.motion import HandMotion, fill_missing
from handdiff_lib.perturb import NoiseConfig, simulated_estimate
from handdiff_lib.pyramid import build_pyramid
from handdiff_lib.refine import RefineConfig, refine
from handdiff_lib.synth import synthesize

CONFIG = DenoiserConfig(channels=(4, 4, 4, 4), d=32, layers=1, heads=2, feedforward=32)
TURN = torch.tensor([0.4, -2.1, 1.3])
"""A large turn about no particular axis."""


@pytest.fixture(scope="module")
def pyramid(hand):
    return build_pyramid(hand.v_template, hand.faces)


@pytest.fixture
def model(pyramid) -> Denoiser:
    """Seeded and untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Denoiser(CONFIG, pyramid).eval()


@pytest.fixture
def opinionated(model, generator) -> Denoiser:
    """With random last layers, so that the answer depends on everything."""
    for head in (model.pose_head, model.shape_head):
        head[-1].weight.data = 0.2 * torch.randn(head[-1].weight.shape, generator=generator)
    return model


@pytest.fixture
def estimate(hand) -> HandMotion:
    """Forty noisy frames, some of them missing and then filled."""
    truth = synthesize(hand, seed=3, frames=40).motion
    noise = replace(NoiseConfig.khand_like(), missing=0.1)
    motion = fill_missing(simulated_estimate(truth, hand, noise, seed=1))
    assert 0 < (~motion.valid).sum() < 20
    return motion


def turned(motion: HandMotion, R: torch.Tensor) -> HandMotion:
    """The motion in another camera."""
    return replace(motion, R=torch.cat([R @ motion.R[:, :1], motion.R[:, 1:]], dim=1))


def noisy(R: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rotations some 10 degrees away."""
    return R @ rotation.exp(0.1 * torch.randn(R.shape[:-1], generator=generator))


@torch.no_grad()
def test_untrained_it_returns_the_estimate(model, estimate, hand, generator):
    """Exactly, whatever x_n and the step are: the last layers are zero."""
    y, _ = estimate_frames(estimate)
    for n in (1, 4):
        pred = model(noisy(y.R, generator), y, torch.tensor([n]), hand)
        assert torch.equal(pred.R, y.R)
        assert torch.equal(pred.betas, y.betas)


@torch.no_grad()
def test_with_random_weights_everything_has_a_say(opinionated, estimate, hand, generator):
    y, _ = estimate_frames(replace(estimate, frame="camera"))
    x, n = noisy(y.R, generator), torch.tensor([2])
    pred = opinionated(x, y, n, hand)
    torch.testing.assert_close(pred.R.mT @ pred.R, torch.eye(3).expand_as(pred.R), atol=1e-4, rtol=0)
    others = {
        "x_n": opinionated(noisy(x, generator), y, n, hand),
        "the step": opinionated(x, y, torch.tensor([3]), hand),
        "confidence": opinionated(x, replace(y, confidence=torch.full_like(y.confidence, 0.5)), n, hand),
        "betas": opinionated(x, replace(y, betas=y.betas + 1), n, hand),
        "the Gaussian means": opinionated(x, replace(y, turns=0 * y.turns), n, hand),
        "the rates of the means": opinionated(x, replace(y, rates=y.rates + 0.1), n, hand),
        "the shake": opinionated(x, replace(y, shake=y.shake + 1), n, hand),
        "the line of sight": opinionated(x, replace(y, sight=-y.sight), n, hand),
    }
    for name, other in others.items():
        assert (other.R - pred.R).abs().max() > 1e-4, f"{name} makes no difference"


def test_turning_the_estimate_turns_the_answer(opinionated, estimate, hand):
    """Through the whole walk back, with random weights, where there is no camera to turn away from."""
    Q, estimate = rotation.exp(TURN), replace(estimate, frame="world")
    straight, aside = refine(estimate, opinionated, hand), refine(turned(estimate, Q), opinionated, hand)
    torch.testing.assert_close(aside.R, turned(straight, Q).R, atol=1e-4, rtol=0)
    torch.testing.assert_close(aside.betas, straight.betas, atol=1e-4, rtol=0)
    torch.testing.assert_close(aside.state_prob, straight.state_prob, atol=1e-4, rtol=0)
    assert rotation.angle_between(straight.R, estimate.R).mean() > 0.05, "the answer is not just the estimate"


def test_the_line_of_sight_is_the_camera_s_axis_and_the_world_has_none(estimate):
    y, frame = estimate_frames(replace(estimate, frame="camera"))
    torch.testing.assert_close((frame @ y.sight[..., None])[0, 7, :, 0], torch.tensor(CAMERA_AXIS), atol=1e-5, rtol=0)
    assert (estimate_frames(replace(estimate, frame="world"))[0].sight == 0).all()


def test_what_the_network_is_told_does_not_turn(estimate):
    y, frame = estimate_frames(estimate)
    z, turned_frame = estimate_frames(turned(estimate, rotation.exp(TURN)))
    torch.testing.assert_close(z.R, y.R, atol=1e-5, rtol=0)
    torch.testing.assert_close(z.turns, y.turns, atol=1e-4, rtol=0)
    torch.testing.assert_close(z.rates, y.rates, atol=1e-4, rtol=0)
    torch.testing.assert_close(turned_frame, rotation.exp(TURN) @ frame, atol=1e-5, rtol=0)


@torch.no_grad()
def test_features_of_a_frame_do_not_depend_on_the_window(model, estimate, hand):
    y, _ = estimate_frames(estimate)
    whole = model.encode_estimate(y, hand)
    part = model.encode_estimate(y[:, slice(11, 27)], hand)
    torch.testing.assert_close(part, whole[:, 11:27], atol=1e-5, rtol=0)
    noisy_whole = model.encode_noisy(y.R, y.betas, hand)
    torch.testing.assert_close(model.encode_noisy(y.R[:, 5:6], y.betas, hand), noisy_whole[:, 5:6], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_network_is_told_of_missing_frames(model, estimate, hand):
    """The flag of frame 7 changes the features of frame 7 and of no other."""
    y, _ = estimate_frames(estimate)
    flag = y.valid.clone()
    flag[0, 7] = ~flag[0, 7]
    change = (model.encode_estimate(replace(y, valid=flag), hand) - model.encode_estimate(y, hand)).abs().amax(-1)[0]
    assert change[7] > 1e-3
    change[7] = 0
    assert change.max() < 1e-5


@torch.no_grad()
def test_an_unknown_confidence_is_not_a_low_one(model, estimate, hand):
    y, _ = estimate_frames(replace(estimate, confidence=None))
    assert (y.confidence == -1).all()
    low = replace(y, confidence=torch.zeros_like(y.confidence))
    assert (model.encode_estimate(low, hand) - model.encode_estimate(y, hand)).abs().min(-1).values.max() > 0


def test_a_missing_frame_has_no_confidence(estimate):
    """As in training; the file may hold anything there."""
    said = torch.where(estimate.valid[:, None], 0.7, math.nan).expand(-1, 16)
    y, _ = estimate_frames(replace(estimate, confidence=said))
    assert (y.confidence[0, estimate.valid] == 0.7).all()
    assert (y.confidence[0, ~estimate.valid] == -1).all()


@pytest.mark.parametrize("k", range(len(SIGMAS)))
def test_an_open_gate_is_the_gaussian_filter(model, estimate, hand, k):
    """One gate at 1, all else 0: the answer is the estimate's own Gaussian mean."""
    model.pose_head[-1].bias.data.view(16, -1)[:, 6 + k] = 1.0
    want = gaussian(estimate, SIGMAS[k]).R
    whole = refine(estimate, model, hand, RefineConfig(leave_clean=False))
    torch.testing.assert_close(whole.R, want, atol=1e-4, rtol=0)
    assert (want - estimate.R).abs().max() > 0.05


def test_leanings_lead_to_the_means_and_their_rates_on_to_the_next(estimate):
    turns, rates = leanings(estimate.R, estimate.valid)
    reached = estimate.R[..., None, :, :] @ rotation.exp(turns)
    following = (reached @ rotation.exp(rates))[:-1]
    for k, sigma in enumerate(SIGMAS):
        mean = gaussian(estimate, sigma).R
        torch.testing.assert_close(reached[..., k, :, :], mean, atol=1e-4, rtol=0)
        torch.testing.assert_close(following[..., k, :, :], mean[1:], atol=1e-4, rtol=0)
    assert torch.equal(rates[-1], rates[-2])
    assert (leanings(estimate.R[:1], estimate.valid[:1])[1] == 0).all(), "a single frame does not move"


def test_the_steady_frame_is_the_orientation_of_a_hand_that_holds_still():
    R, some = rotation.exp(TURN).expand(30, 3, 3), torch.arange(30) % 3 == 0
    torch.testing.assert_close(steady_frame(R, some), R, atol=1e-6, rtol=0)
    torch.testing.assert_close(steady_frame(R[:1], some[:1]), R[:1], atol=1e-6, rtol=0)


def test_the_steady_frame_is_steady_and_missing_frames_have_no_say(generator):
    R = noisy(rotation.exp(TURN).expand(60, 3, 3), generator)
    valid = torch.ones(60, dtype=torch.bool)
    frame = steady_frame(R, valid)
    shake = rotation.angle_between(R[1:], R[:-1]).mean()
    assert rotation.angle_between(frame[1:], frame[:-1]).mean() < shake / 20
    valid[30] = False
    wild = R.clone()
    wild[30] = torch.eye(3)
    torch.testing.assert_close(steady_frame(wild, valid), steady_frame(R, valid), atol=1e-6, rtol=0)


def test_to_steady_and_back(estimate):
    frame = steady_frame(estimate.R[:, 0], estimate.valid)
    seen = to_steady(estimate.R, frame)
    torch.testing.assert_close(from_steady(seen, frame), estimate.R, atol=1e-6, rtol=0)
    assert torch.equal(seen[:, 1:], estimate.R[:, 1:])


def test_windows_of_a_clip(estimate):
    y, _ = estimate_frames(estimate)
    index = torch.tensor([[0, 1, 2], [7, 8, 9]])
    w = y.windows(index)
    assert torch.equal(w.R[1], y.R[0, 7:10])
    assert torch.equal(w.turns[1], y.turns[0, 7:10])
    assert torch.equal(w.valid[1], y.valid[0, 7:10])
    assert torch.equal(w.betas[1], y.betas[0])


def test_what_is_said_of_errors_learns_and_costs_the_answer_nothing(opinionated, estimate, hand, generator):
    """Doubt starts at 5 degrees and all is taken for noisy; the gradients stay in the heads of their own."""
    y, _ = estimate_frames(estimate)
    pred = opinionated(noisy(y.R, generator), y, torch.tensor([2]), hand)
    torch.testing.assert_close(pred.log_sigma.exp(), torch.full((1, 40, 16), math.radians(5)))
    assert pred.noisy.sigmoid().min() > 0.99
    (pred.log_sigma.sum() + pred.noisy.sum()).backward()
    heads = {k.split(".")[0] for k, p in opinionated.named_parameters() if p.grad is not None}
    assert heads == {"doubt_head", "noise_head"}
    for head in (opinionated.doubt_head, opinionated.noise_head):
        head[-1].weight.data.normal_(generator=generator)
    pred = opinionated(noisy(y.R, generator), y, torch.tensor([2]), hand)
    assert pred.log_sigma.std(dim=1).min() > 0, "it differs from frame to frame"
    assert pred.noisy.std() > 0


@torch.no_grad()
def test_the_order_of_frames_matters(opinionated, estimate, hand):
    """Without temporal positions, features in another order would give the same answers in another order."""
    y, _ = estimate_frames(estimate)
    still = replace(y, R=y.R[:, :1].expand_as(y.R), turns=y.turns[:, :1].expand_as(y.turns))
    features, n = opinionated.encode_estimate(y, hand), torch.tensor([1])
    forward, back = (opinionated.predict(f, n, still, hand).R for f in (features, features.flip(1)))
    assert (forward - back.flip(1)).abs().max() > 1e-3


@torch.no_grad()
def test_a_missing_frame_counts_as_what_fills_it(opinionated, estimate, hand):
    """Whatever the file holds there."""
    wild = torch.where(estimate.valid[:, None, None, None], estimate.R, rotation.exp(TURN))
    y, _ = estimate_frames(fill_missing(replace(estimate, R=wild)))
    z, _ = estimate_frames(estimate)
    one, other = (opinionated(f.R, f, torch.tensor([1]), hand) for f in (y, z))
    torch.testing.assert_close(one.R, other.R, atol=1e-4, rtol=0)
    assert (wild - estimate.R).abs().max() > 0.5


LIMITED = replace(CONFIG, layers=2, lookahead=2, lookback=3, decoder_layers=2, decoder_feedforward=32)


def random_heads(cfg: DenoiserConfig, pyramid) -> Denoiser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Denoiser(cfg, pyramid).eval()
        for head in (model.pose_head, model.shape_head, model.doubt_head, model.noise_head):
            torch.nn.init.normal_(head[-1].weight, std=0.5)
    return model


@torch.no_grad()
@pytest.mark.parametrize("lookahead", [0, 2, 4])
@pytest.mark.parametrize("decoder", ["none", "draft", "loop"])
def test_frames_beyond_the_lookahead_change_nothing(pyramid, estimate, hand, generator, decoder, lookahead):
    """y, x_n and all else of frame 8: rotations, states and doubt follow from frame 8 - L on, and not before."""
    model = random_heads(replace(LIMITED, decoder=decoder, lookahead=lookahead), pyramid)
    y, n = estimate_frames(estimate)[0][:, slice(0, 16)], torch.tensor([2])
    features = model.encode_estimate(y, hand)
    other = features.clone()
    other[:, 8] += torch.randn(CONFIG.d, generator=generator)
    a, b = model.predict(features, n, y, hand), model.predict(other, n, y, hand)
    for name in ("R", "state", "log_sigma", "noisy"):
        change = (getattr(a, name) - getattr(b, name)).abs().reshape(1, 16, -1).amax((0, 2))
        assert change[: 8 - lookahead].max() < 1e-6
        assert change[8 - lookahead : 9].min() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["none", "draft", "loop"])
def test_streaming_is_offline(pyramid, estimate, hand, decoder):
    """A ring buffer of one window, frame t - 2 said when frame t has come: what windows of the whole clip say.

    While the buffer fills, the frames said are those of the first window, which was seen whole offline.
    """
    cfg = replace(LIMITED, decoder=decoder, window=6)
    model = random_heads(cfg, pyramid)
    y, n = estimate_frames(estimate)[0], torch.tensor([2])
    features, at = model.encode_estimate(y, hand), cfg.window - 1 - cfg.lookahead

    buffer, said = deque(maxlen=cfg.window), []
    for t in range(14):
        buffer.append(t)
        part = slice(buffer[0], t + 1)
        if len(buffer) > cfg.lookahead:
            said.append(model.predict(features[:, part], n, y[:, part], hand).R[0, -1 - cfg.lookahead])

    index = torch.arange(9)[:, None] + torch.arange(cfg.window)  # 14 frames
    offline = model.predict(features[0][index], n.expand(9), y.windows(index), hand).R
    torch.testing.assert_close(torch.stack(said), torch.cat([offline[0, :at], offline[:, at]]), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["none", "draft", "loop"])
def test_bfloat16_keeps_rotations_exact(pyramid, estimate, hand, decoder):
    """Under autocast the heads' numbers are rough, but what they make is a rotation to full precision."""
    model = random_heads(replace(LIMITED, decoder=decoder), pyramid)
    y, n = estimate_frames(estimate)[0][:, slice(0, 16)], torch.tensor([1])
    exact = model(y.R, y, n, hand)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(y.R, y, n, hand)
    assert {rough.R.dtype, rough.betas.dtype, rough.state.dtype, rough.log_sigma.dtype} == {torch.float32}
    torch.testing.assert_close(rough.R.mT @ rough.R, torch.eye(3).expand_as(rough.R), atol=1e-5, rtol=0)
    assert 0 < rotation.angle_between(rough.R, exact.R).mean() < 0.2


def test_the_configurations_have_the_sizes_they_say(pyramid):
    """The paper's: 32, 64, 64, 64 channels, 4 layers of width 512, windows of 16; tiny is much smaller."""
    paper = DenoiserConfig.paper()
    assert (paper.window, paper.channels, paper.d, paper.layers) == (16, (32, 64, 64, 64), 512, 4)
    assert (paper.heads, paper.decoder, paper.decoder_layers) == (8, "draft", 4)
    assert DenoiserConfig.tiny().decoder == DenoiserConfig.base().decoder == "none"
    weights = sum(p.numel() for p in Denoiser(DenoiserConfig.tiny(), pyramid).parameters())
    assert 5e5 < weights < 2e6
