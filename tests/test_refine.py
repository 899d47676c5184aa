"""Refining clips: any length, gaps and hands; the same seed, the same motion; no seams; a cost linear in frames."""

import math
from dataclasses import fields, replace

import pytest
import roma
import torch
from torch import Tensor

from handdiff_lib import refine as refine_module
from handdiff_lib import rotation
from handdiff_lib.denoiser import Denoiser, DenoiserConfig
from handdiff_lib.frames import estimate_frames
from handdiff_lib.motion import HandMotion, MotionError, fill_missing, mirror
from handdiff_lib.perturb import NoiseConfig, simulated_estimate
from handdiff_lib.pyramid import build_pyramid
from handdiff_lib.refine import RefineConfig, is_short_gap, predict_clip, refine, walk_back, window_starts
from handdiff_lib.storage import load_motion, save_motion
from handdiff_lib.synth import synthesize

SMALL = DenoiserConfig(channels=(4, 4, 4, 4), d=32, layers=1, heads=2, feedforward=32)
LENGTHS = (1, 2, 5, 16, 17, 40)


@pytest.fixture(scope="module")
def pyramid(hand):
    return build_pyramid(hand.v_template, hand.faces)


@pytest.fixture
def untrained(pyramid) -> Denoiser:
    """Returns the estimate."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Denoiser(SMALL, pyramid).eval()


@pytest.fixture
def model(untrained, generator) -> Denoiser:
    """With random last layers: changes everything by some degrees."""
    for head in (untrained.pose_head, untrained.shape_head, untrained.doubt_head):
        head[-1].weight.data = 0.05 * torch.randn(head[-1].weight.shape, generator=generator)
    return untrained


@pytest.fixture(scope="module")
def estimate(hand) -> HandMotion:
    """Forty noisy frames, all of them valid, with confidence."""
    truth = synthesize(hand, seed=3, frames=40).motion
    noisy = simulated_estimate(truth, hand, replace(NoiseConfig.khand_like(), missing=0.0), seed=1)
    return replace(noisy, confidence=torch.rand(40, 16, generator=torch.Generator().manual_seed(0)))


def without(motion: HandMotion, frames: list[int]) -> HandMotion:
    """The track with frames missing, and the worst a file may hold in their place."""
    valid = motion.valid.clone()
    valid[frames] = False
    lost = {name: value.clone() for name, value in motion._per_frame().items() if value.is_floating_point()}
    for value in lost.values():
        value[frames] = math.nan
    return replace(motion, valid=valid, **lost)


def assert_sound(motion: HandMotion) -> None:
    """Rotations and finite numbers in every frame, valid or not."""
    for name, value in motion._per_frame().items():
        assert value.isfinite().all() if value.is_floating_point() else value.dtype == torch.bool, name
    torch.testing.assert_close(motion.R.mT @ motion.R, torch.eye(3).expand_as(motion.R), atol=1e-4, rtol=0)
    torch.testing.assert_close(motion.state_prob.sum(-1), torch.ones(len(motion)))
    assert motion.betas.shape == (10,)
    assert motion.betas.isfinite().all()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("t", LENGTHS)
def test_any_length_and_either_hand(model, hand, estimate, t, side):
    motion = replace(estimate[:t], side=side)
    after = refine(motion, model, hand)
    assert_sound(after)
    assert (len(after), after.side, after.fps, after.frame) == (t, side, motion.fps, motion.frame)
    assert torch.equal(after.transl, motion.transl)
    assert after.valid.all()
    assert after.refined.all()
    assert rotation.angle_between(after.R, motion.R).mean() > 0.01


def test_a_left_hand_is_refined_as_its_mirror_image(model, hand, estimate):
    assert torch.equal(refine(mirror(estimate), model, hand).R, refine(estimate, model, hand).R)


def test_an_untrained_model_leaves_the_estimate(untrained, hand, estimate):
    after = refine(estimate, untrained, hand)
    torch.testing.assert_close(after.R, estimate.R, atol=1e-5, rtol=0)
    torch.testing.assert_close(after.betas, estimate.betas)


def test_a_steady_hand_stays_steady(untrained, hand, estimate):
    """Constant rotations in, the same out; no window border shows."""
    held = replace(estimate, R=estimate.R[:1].expand(40, -1, -1, -1))
    after = refine(held, untrained, hand, RefineConfig(stride=8))
    torch.testing.assert_close(after.R, held.R, atol=1e-5, rtol=0)
    assert rotation.angle_between(after.R[1:], after.R[:-1]).max() < 1e-5


def test_no_seam_where_windows_end(model, hand, estimate):
    """Random weights shake a steady hand, but not more where a window starts or ends than elsewhere."""
    held = replace(estimate, R=estimate.R[:1].expand(40, -1, -1, -1), confidence=None)
    R = refine(held, model, hand, RefineConfig(stride=8)).R
    jump = rotation.angle_between(R[1:], R[:-1]).mean(-1)
    is_border = torch.arange(1, 40) % 8 == 0
    assert jump[is_border].mean() < 1.4 * jump[~is_border].mean()


# Missing frames


@pytest.mark.parametrize(
    ("missing", "stay"),
    [
        ([7], []),
        ([4, 5, 9, 10, 11], []),
        (list(range(10, 26)), []),
        (list(range(10, 27)), list(range(10, 27))),
        ([0, 1], [0, 1]),
        ([38, 39], [38, 39]),
        ([*range(12), 20, *range(30, 40)], [*range(12), *range(30, 40)]),
        ([k for k in range(40) if k != 17], [k for k in range(40) if k != 17]),
    ],
    ids=["one", "some", "a window", "one more", "leading", "trailing", "all of these", "all but one"],
)
def test_gaps(model, hand, estimate, tmp_path, missing, stay):
    """Up to one window (16) is filled; longer gaps and open ends are answered but stay not valid. Never a NaN."""
    before = without(replace(estimate, sigma=torch.ones(40, 16), betas=estimate.betas.expand(40, 10)), missing)
    after = refine(before, model, hand)
    assert_sound(after)
    assert (~after.valid).nonzero()[:, 0].tolist() == stay
    assert torch.equal(after.refined, after.valid)
    save_motion(tmp_path / "m.npz", {"right": after, "right.before": before})
    assert torch.equal(load_motion(tmp_path / "m.npz")["right"].R, after.R)


def test_what_stands_in_missing_frames_does_not_matter(model, hand, estimate):
    gap = [3, 4, 20]
    valid = torch.ones(40, dtype=torch.bool)
    valid[gap] = False
    assert torch.equal(
        refine(without(estimate, gap), model, hand).R, refine(replace(estimate, valid=valid), model, hand).R
    )


def test_a_filled_gap_lies_between_its_ends(untrained, hand, estimate):
    after = refine(without(estimate, [8]), untrained, hand)
    want = rotation.slerp(estimate.R[7], estimate.R[9], torch.full((16,), 0.5))
    torch.testing.assert_close(after.R[8], want, atol=1e-5, rtol=0)


def test_short_gaps_by_hand():
    valid = torch.tensor([False, True, False, False, True, False, False, False, True, False])
    assert is_short_gap(valid, 2).nonzero()[:, 0].tolist() == [2, 3]
    assert is_short_gap(valid, 3).nonzero()[:, 0].tolist() == [2, 3, 5, 6, 7]
    assert not is_short_gap(torch.ones(4, dtype=torch.bool), 9).any()


def test_a_track_without_a_hand_is_refused(model, hand, estimate):
    with pytest.raises(MotionError, match="no valid frame"):
        refine(without(estimate, list(range(40))), model, hand)


def test_a_track_that_makes_no_sense_is_refused(model, hand, estimate):
    with pytest.raises(MotionError, match="expected rotation matrices"):
        refine(replace(estimate, R=2 * estimate.R), model, hand)


# Chance and purity


def test_the_seed_makes_the_motion(model, hand, estimate):
    """Another seed gives a slightly different one: less than a fifth of what refining changes."""
    before = torch.get_rng_state()
    one, same, other = (refine(estimate, model, hand, RefineConfig(seed=s)).R for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    change = rotation.angle_between(one, estimate.R).mean()
    assert rotation.angle_between(one, other).mean() < change / 5
    assert torch.equal(torch.get_rng_state(), before), "no chance but the seed's"


@pytest.mark.parametrize("rule", ["posterior", "deterministic", "renoise"])
@pytest.mark.parametrize("N", [1, 4])
def test_every_rule_runs(model, hand, estimate, rule, N):
    after = refine(estimate, model, hand, RefineConfig(N=N, rule=rule))
    assert_sound(after)
    assert rotation.angle_between(after.R, estimate.R).mean() > 0.01


def test_the_walk_back_tells_every_step(model, hand, estimate):
    y, _ = estimate_frames(estimate)
    steps = list(walk_back(model, y, hand, RefineConfig(N=3)))
    assert len(steps) == 3
    assert all(step.R.shape == (1, 40, 16, 3, 3) for step in steps)
    assert not torch.equal(steps[0].R, steps[2].R)


def test_the_input_is_left_alone(model, hand, estimate):
    before = without(replace(estimate, betas=estimate.betas.expand(40, 10).clone()), [5, 6])
    copy = {f.name: getattr(before, f.name) for f in fields(before)}
    copy = {name: value.clone() if isinstance(value, Tensor) else value for name, value in copy.items()}
    refine(before, model, hand)
    for name, value in copy.items():
        now = getattr(before, name)
        assert torch.equal(now.nan_to_num(), value.nan_to_num()) if isinstance(value, Tensor) else now == value, name


def test_another_hand_keeps_its_own_shape(model, hand, estimate, generator):
    """The median over time; the model sees a mean hand, whatever the betas say."""
    betas = torch.randn(40, 10, generator=generator)
    other = replace(estimate, hand="mano", betas=betas)
    after = refine(other, model, hand)
    assert torch.equal(after.betas, betas.median(0).values)
    assert torch.equal(after.R, refine(replace(other, betas=5 * betas), model, hand).R)
    assert not torch.equal(refine(estimate, model, hand).betas, estimate.betas), "its own hand's shape is refined"


# Windows


@pytest.mark.parametrize("stride", [1, 3, 4, 16])
@pytest.mark.parametrize("t", [1, 15, 16, 17, 31, 40])
def test_windows_cover_the_clip(t, stride):
    starts = window_starts(t, 16, stride).tolist()
    assert {s + k for s in starts for k in range(min(t, 16))} == set(range(t))
    assert len(starts) == len(set(starts)) == 1 + math.ceil(max(0, t - 16) / stride)


@pytest.mark.parametrize("stride", [0, -1, 17])
def test_a_stride_that_leaves_frames_out_is_refused(model, hand, estimate, stride):
    with pytest.raises(MotionError, match="stride must be from 1 to 16 frames"):
        refine(estimate, model, hand, RefineConfig(stride=stride))


@pytest.mark.parametrize("window", [0, 17])
def test_a_window_the_network_does_not_know_is_refused(model, hand, estimate, window):
    with pytest.raises(MotionError, match=f"window must be from 1 to 16 frames, found {window}"):
        refine(estimate, model, hand, RefineConfig(window=window))


def test_shorter_windows_see_less(model, hand, estimate):
    """A clip of 8 frames is one window of 8; a network of windows of 16 then has nothing more to see."""
    short, whole = (refine(estimate[:8], model, hand, RefineConfig(window=size)) for size in (8, None))
    assert torch.equal(short.R, whole.R)
    short, whole = (refine(estimate, model, hand, RefineConfig(window=size)) for size in (8, None))
    assert rotation.angle_between(short.R, whole.R).max() > 0.01
    with pytest.raises(MotionError, match="stride must be from 1 to 8 frames"):
        refine(estimate, model, hand, RefineConfig(window=8, stride=9))


@torch.no_grad()
@pytest.mark.parametrize(("t", "stride"), [(5, 4), (16, 4), (40, 3), (40, 7), (40, 16)])
def test_blending_is_a_loop_over_windows(model, hand, estimate, generator, t, stride):
    """One window at a time, one frame and joint at a time: the nearest rotation to the Hann-weighted sum."""
    y, _ = estimate_frames(fill_missing(estimate[:t]))
    features, n = torch.randn(t, 32, generator=generator), torch.tensor([2])
    got = predict_clip(model, features, n, y, hand, RefineConfig(stride=stride))

    size, sums = min(t, 16), torch.zeros(t, 16, 3, 3, dtype=torch.float64)
    state, log_sigma, weight, betas = torch.zeros(t, 4), torch.zeros(t, 16), torch.zeros(t), []
    last = t - size
    for start in sorted({*range(0, last + 1, stride), last}):
        part = slice(start, start + size)
        pred = model.predict(features[None, part], n, y[:, part], hand)
        betas.append(pred.betas[0])
        for k in range(size):
            w = math.sin(math.pi * (k + 0.5) / size) ** 2
            sums[start + k] += w * pred.R[0, k]
            state[start + k] += w * pred.state[0, k]
            log_sigma[start + k] += w * pred.log_sigma[0, k]
            weight[start + k] += w
    want = torch.stack([torch.stack([roma.special_procrustes(M) for M in frame]) for frame in sums])
    torch.testing.assert_close(got.R[0], want.float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(got.state[0], state / weight[:, None], atol=1e-4, rtol=0)
    torch.testing.assert_close(got.log_sigma[0], log_sigma / weight[:, None], atol=1e-4, rtol=0)
    torch.testing.assert_close(got.betas[0], torch.stack(betas).mean(0), atol=1e-5, rtol=0)


def test_chunks_do_not_matter(model, hand, estimate, monkeypatch):
    whole = refine(estimate, model, hand).R
    monkeypatch.setattr(refine_module, "FRAME_CHUNK", 7)
    monkeypatch.setattr(refine_module, "WINDOW_CHUNK", 2)
    torch.testing.assert_close(refine(estimate, model, hand).R, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [1, 4, 16])
@pytest.mark.parametrize("N", [1, 4])
def test_every_mesh_is_encoded_once(model, hand, estimate, monkeypatch, stride, N):
    """The estimate's once, x_n's once a step, however many windows see a frame."""
    frames = {"y": [], "x": []}
    encode_estimate, encode_noisy = model.encode_estimate, model.encode_noisy

    def counted_estimate(y, hand):
        frames["y"].append(y.R.shape[1])
        return encode_estimate(y, hand)

    def counted_noisy(R_n, betas, hand):
        frames["x"].append(R_n.shape[1])
        return encode_noisy(R_n, betas, hand)

    monkeypatch.setattr(model, "encode_estimate", counted_estimate)
    monkeypatch.setattr(model, "encode_noisy", counted_noisy)
    monkeypatch.setattr(refine_module, "FRAME_CHUNK", 32)
    refine(estimate, model, hand, RefineConfig(N=N, stride=stride))
    assert frames == {"y": [32, 8], "x": [32, 8] * N}
