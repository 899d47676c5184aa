"""Batches: what is drawn, that pairs stay pairs, and that states follow the motion."""

import math
from dataclasses import replace

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.corpus import Corpus, Labelled, make_corpus
from handdiff_lib.data import Batch, DrawConfig, _cut_clip, _recombined, _reversed, _smoothed, draw_batch
from handdiff_lib.frames import from_steady
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.motion import HandMotion
from handdiff_lib.perturb import NoiseConfig
from handdiff_lib.smoothing import smooth_rotations
from handdiff_lib.topology import CHAIN, FREE, GRASP, MANIPULATE, REACH, RELEASE

PLAIN = DrawConfig(smooth=0.0, clean=1.0, widen=0.0)
"""Clips as they are, but for orientation, frame rate, direction, fingers and shape."""
TICK = 0.001
"""Every joint of a `ticking` hand flexes by so many radians in a frame, and so the angle tells the frame."""


def ticking(frames: int, fps: float = 120.0) -> HandMotion:
    """A hand that closes at a steady pace, its orientation kept."""
    turn = torch.zeros(frames, 16, 3)
    turn[:, 1:, 2] = TICK * torch.arange(frames)[:, None]
    return HandMotion(
        R=rotation.exp(turn), betas=torch.arange(10.0), transl=torch.zeros(frames, 3),
        valid=torch.ones(frames, dtype=torch.bool), fps=fps, hand="open",
    )  # fmt: skip


def waving(frames: int, fps: float, seed: int) -> HandMotion:
    """A hand whose joints swing at random, slowly."""
    chance = torch.Generator().manual_seed(seed)
    size, phase = (torch.randn(16, 3, generator=chance) for _ in range(2))
    turn = 0.4 * size * torch.sin(3 * torch.arange(frames)[:, None, None] / fps + 3 * phase)
    return replace(ticking(frames, fps), R=rotation.exp(turn), betas=torch.randn(10, generator=chance))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Two clips of six seconds at 120 fps."""
    states = torch.arange(720) // 180
    return make_corpus(Labelled(waving(720, 120.0, seed), states) for seed in range(2))


def drawn(
    corpora: list[Corpus], hand: HandModel, size: int = 8, seed: int = 0, cfg: DrawConfig | None = None, **other
) -> Batch:
    """A batch of windows of 16 frames."""
    share, generator = other.get("share", [1.0] * len(corpora)), torch.Generator().manual_seed(seed)
    return draw_batch(corpora, share, hand, cfg or DrawConfig(), size, 16, generator)


def labelled(motion: HandMotion, label: int) -> Corpus:
    """A track with the same state throughout."""
    return make_corpus([Labelled(motion, torch.full((len(motion),), label))])


# What is drawn


def test_the_same_generator_state_gives_the_same_batch(corpus, hand):
    before = torch.get_rng_state()
    one, same, other = (drawn([corpus], hand, seed=s) for s in (1, 1, 2))
    for part in ("y", "target"):
        for name, value in vars(getattr(one, part)).items():
            assert torch.equal(value, getattr(getattr(same, part), name)), name
    assert not torch.equal(one.y.R, other.y.R)
    assert torch.equal(torch.get_rng_state(), before), "no chance but the generator's"


def test_the_corpus_is_left_alone(corpus, hand):
    before = corpus.R.clone(), corpus.state.clone()
    drawn([corpus], hand, size=32)
    assert torch.equal(corpus.R, before[0])
    assert torch.equal(corpus.state, before[1])


def test_a_batch_has_windows_of_rotations(corpus, hand):
    """Nine windows are one clip of eight and a part of the next."""
    batch = drawn([corpus], hand, size=9)
    assert batch.y.R.shape == batch.target.R.shape == (9, 16, 16, 3, 3)
    assert batch.target.frame.shape == (9, 16, 3, 3)
    assert batch.y.confidence.shape == (9, 16, 16)
    assert batch.y.valid.shape == batch.target.state.shape == (9, 16)
    assert batch.y.betas.shape == batch.target.betas.shape == (9, 10)
    for R in (batch.y.R, batch.target.R):
        torch.testing.assert_close(R.mT @ R, torch.eye(3).expand_as(R), atol=1e-4, rtol=0)


def test_the_windows_of_a_clip_follow_each_other(hand):
    """128 frames of a hand that flexes a little more in each, or less when played backwards."""
    batch = drawn([labelled(ticking(600), FREE)], hand, cfg=PLAIN)
    flexion = rotation.log(batch.target.R[:, :, 5])[..., 2].flatten()
    step = flexion.diff()
    assert len(flexion) == 128
    torch.testing.assert_close(step, step[:1].expand(127), atol=1e-5, rtol=0)
    assert (step[0].abs() / TICK).round() in (2, 3, 4, 5, 6)


def test_about_a_fifth_is_clean_and_the_rest_is_not(corpus, hand):
    """Clean means that the answer is the input, to the last bit."""
    batch = drawn([corpus], hand, size=400)
    same = (batch.y.R == batch.target.R).flatten(1).all(1)
    assert 0.1 < same.float().mean() < 0.3
    error = rotation.angle_between(batch.y.R, batch.target.R).amax((1, 2))
    assert (error > 0.05).float().mean() > 0.5


def test_clean_clips_are_the_motion_itself(corpus, hand):
    """Nothing is smoothed, missing or of a wrong shape."""
    batch = drawn([corpus], hand, size=32, cfg=replace(DrawConfig(), clean=1.0))
    assert torch.equal(batch.y.R, batch.target.R)
    assert torch.equal(batch.y.betas, batch.target.betas)
    assert batch.y.valid.all()


def test_the_truth_is_smoothed_with_the_severity(generator):
    """Not at all where there is no noise; the sigma is each clip's own, in frames."""
    R = rotation.exp(0.3 * torch.randn(4, 20, 16, 3, generator=generator))
    every = torch.ones(1, 20, dtype=torch.bool)
    got = _smoothed(R, torch.tensor([1.0, 1.0, 2.0, 1.0]), torch.tensor([0.0, 1.0, 1.0, 0.5]))
    assert torch.equal(got[0], R[0])
    for k, sigma in ((1, 1.0), (2, 2.0)):
        torch.testing.assert_close(got[k], smooth_rotations(R[k : k + 1], every, sigma)[0], atol=1e-5, rtol=0)
    whole = rotation.angle_between(R[3], smooth_rotations(R[3:], every, 1.0)[0])
    torch.testing.assert_close(rotation.angle_between(R[3], got[3]), whole / 2, atol=1e-3, rtol=0)


def test_joints_are_turned_by_a_constant(hand):
    """A hand that holds still holds still in another pose: mean square 8 degrees times a length drawn from 0 to 1."""
    still = replace(ticking(600), R=torch.eye(3).expand(600, 16, 3, 3).contiguous())
    batch = drawn([labelled(still, FREE)], hand, size=80, cfg=replace(PLAIN, widen=1.0))
    fingers = batch.target.R[:, :, 1:]
    assert (rotation.angle_between(fingers, fingers[:, :1].expand_as(fingers)) < 1e-3).all()
    turned = rotation.log(fingers[:, 0]).rad2deg()
    assert 2.0 < turned.square().mean().sqrt() < 8.0


def test_shapes_of_other_hands(hand):
    """Half a unit around the track's own."""
    betas = drawn([labelled(ticking(600), FREE)], hand, size=320, cfg=PLAIN).target.betas[::8]
    off = betas - torch.arange(10.0)
    assert 0.35 < off.std() < 0.65


def test_every_orientation_is_drawn_alike(corpus, hand):
    """The mean of uniform random rotations is zero, and fingers are not turned with the wrist."""
    batch = drawn([labelled(ticking(600), FREE)], hand, size=400, cfg=PLAIN)
    root = from_steady(batch.target.R, batch.target.frame)[::8, 0, 0]
    assert root.mean(0).abs().max() < 0.25
    assert (rotation.angle_between(root, torch.eye(3).expand_as(root)) > 1).float().mean() > 0.7
    axis = rotation.log(batch.target.R[:, :, 5])[..., :2]
    assert axis.abs().max() < 1e-4


# Frame rates and tracks


@pytest.mark.parametrize(("fps", "strides"), [(120.0, {2, 3, 4, 5, 6}), (60.0, {1, 2, 3}), (30.0, {1})])
def test_frames_are_taken_as_they_are(fps, strides):
    """20 to 60 frames a second out of what there is, nothing in between; half of them 30 from 120 fps."""
    track, chance, found = labelled(ticking(1000, fps), FREE), torch.Generator().manual_seed(0), []
    for _ in range(200):
        clip = _cut_clip([track], [1.0], 16, chance)
        frame = rotation.log(clip.R[:, 3])[:, 2] / TICK
        stride = round((frame[1] - frame[0]).item())
        torch.testing.assert_close(frame, frame.round(), atol=0.1, rtol=0)
        assert clip.step == pytest.approx(stride * 30 / fps)
        found.append(stride)
    assert set(found) == strides
    usual = 3 / (2 + len(strides))
    assert found.count(fps // 30) / 200 == pytest.approx(usual, abs=0.12)


def test_short_tracks_are_drawn_faster(hand):
    """Of 130 frames at 120 fps, a clip of 128 takes each; of 127 there is none."""
    chance = torch.Generator().manual_seed(0)
    assert _cut_clip([labelled(ticking(130), FREE)], [1.0], 128, chance).step == 0.25
    with pytest.raises(InputError, match="no track has 128 frames without a gap, the length of a training clip"):
        drawn([labelled(ticking(127), FREE)], hand)


def test_clips_stay_inside_one_track():
    """The short track, between two long ones, has no room for a clip; no clip reaches into it. All ends are reached."""
    tracks, chance = [ticking(60), ticking(20), ticking(60)], torch.Generator().manual_seed(0)
    made = make_corpus(Labelled(m, torch.full((len(m),), k)) for k, m in enumerate(tracks))
    starts, track = [], set()
    for _ in range(300):
        clip = _cut_clip([replace(made, fps=30.0)], [1.0], 40, chance)
        frame = rotation.log(clip.R[:, 3])[:, 2] / TICK
        torch.testing.assert_close(frame.diff(), torch.ones(39), atol=0.1, rtol=0)
        starts.append(round(frame[0].item()))
        track |= set(clip.state.tolist())
    assert track == {0, 2}
    assert (min(starts), max(starts)) == (0, 20)


def test_corpora_are_drawn_by_their_share(corpus, hand):
    motion = waving(300, 120.0, 0)
    both = [labelled(motion, GRASP), labelled(motion, MANIPULATE)]
    only = drawn(both, hand, share=[1.0, 0.0], size=32).target.state
    assert set(only.unique().tolist()) <= {GRASP, FREE}
    state = drawn(both, hand, size=1600, share=[0.25, 0.75]).target.state
    labels = state[state != FREE]
    assert 0.6 < (labels == MANIPULATE).float().mean() < 0.9


# States


def test_a_reach_played_backwards_is_a_release(hand, generator):
    R = rotation.exp(torch.randn(2, 5, 16, 3, generator=generator))
    state = torch.tensor([REACH, REACH, GRASP, MANIPULATE, FREE]).expand(2, 5)
    R_back, state_back = _reversed(R, state, torch.tensor([True, False]))
    assert state_back[0].tolist() == [FREE, MANIPULATE, GRASP, RELEASE, RELEASE]
    assert torch.equal(R_back[0], R[0].flip(0))
    assert torch.equal(state_back[1], state[1])
    assert torch.equal(R_back[1], R[1])
    again = _reversed(R_back, state_back, torch.tensor([True, False]))
    assert torch.equal(again[0], R), "backwards twice is forwards"
    assert torch.equal(again[1], state)


def test_states_of_a_batch_follow_the_direction(hand):
    """The hand closes in its reach: where it is drawn opening, that is a release."""
    batch = drawn([labelled(ticking(600), REACH)], hand, size=320, cfg=PLAIN)
    closing = rotation.log(batch.target.R[:, :, 5])[..., 2].diff(dim=1).mean(1) > 0
    state = batch.target.state[:, 0]
    assert (batch.target.state == state[:, None]).all()
    has_state = state != FREE
    assert torch.equal(closing[has_state], state[has_state] == REACH)
    assert set(state.tolist()) == {REACH, RELEASE, FREE}


def test_fingers_are_exchanged_whole_and_lose_their_states(generator):
    """The dice of the wrist and of the index finger fall low: these come from the next motion, the rest stays."""
    R = rotation.exp(torch.randn(2, 3, 16, 3, generator=generator))
    state = torch.tensor([[REACH, GRASP, GRASP], [RELEASE, RELEASE, GRASP]])
    dice = torch.ones(2, 6)
    dice[0, 0] = dice[0, 1] = 0.0
    first = next(iter(CHAIN))
    mixed, labels = _recombined(R, state, dice)
    changed = [0, *CHAIN[first]]
    assert torch.equal(mixed[0][:, changed], R[1][:, changed])
    kept = [k for k in range(16) if k not in changed]
    assert torch.equal(mixed[0][:, kept], R[0][:, kept])
    assert torch.equal(mixed[1], R[1])
    assert labels.tolist() == [[FREE] * 3, state[1].tolist()]


def test_two_thirds_of_the_wrists_and_seven_of_eight_fingers_stay(generator):
    """A hand keeps its states when all six do: (2/3) (7/8)^5 = 0.34."""
    R = torch.eye(3).expand(3000, 1, 16, 3, 3).contiguous()
    _, state = _recombined(R, torch.zeros(3000, 1, dtype=torch.long), torch.rand(3000, 6, generator=generator))
    assert (state == 0).float().mean().item() == pytest.approx(0.342, abs=0.03)


# Recorded pairs

BIAS = torch.tensor([0.05, -0.1, 0.2])


@pytest.fixture(scope="module")
def pairs() -> Corpus:
    """A closing hand, reaching, and an estimate that is wrong by the same turn in every joint."""
    truth = ticking(200, 25.0)
    estimate = replace(
        truth, R=truth.R @ rotation.exp(BIAS), betas=truth.betas + 1, valid=torch.arange(200) % 7 != 3,
        confidence=torch.full((200, 16), 0.5),
    )  # fmt: skip
    return make_corpus([Labelled(truth, torch.full((200,), REACH), estimate)])


def test_nothing_tears_a_recorded_pair_apart(pairs, hand):
    """Both are turned alike; no noise, other fingers, directions, rates or shapes are put in."""
    batch = drawn([pairs], hand, size=160, cfg=replace(DrawConfig(), smooth=0.0, widen=1.0, clean=0.0))
    seen = batch.y.valid
    error = rotation.log(batch.target.R.mT @ batch.y.R)[seen]
    torch.testing.assert_close(error, BIAS.expand_as(error), atol=2e-4, rtol=0)
    flexion = rotation.log(batch.target.R[:, :, 5])[..., 2]
    torch.testing.assert_close(flexion.diff(dim=1), torch.full((160, 15), TICK), atol=1e-5, rtol=0)
    assert (batch.target.state == REACH).all()
    assert torch.equal(batch.target.betas, torch.arange(10.0).expand(160, 10))
    assert torch.equal(batch.y.betas, torch.arange(10.0).expand(160, 10) + 1)
    assert ((batch.y.confidence == 0.5).all(-1) == seen).all()
    assert seen.float().mean().item() == pytest.approx(6 / 7, abs=0.03)
    assert (batch.y.confidence[~seen] == -1).all()


def test_a_pair_keeps_its_camera_and_simulated_noise_has_any(pairs, corpus, hand):
    """Most pairs say where their camera looks, turned with the hand, which starts flat in its axes here."""
    y = drawn([pairs], hand, size=160).y
    told = (y.sight.norm(dim=-1) > 0.5).all(-1)
    assert 0.7 < told.float().mean() < 1
    seen = (y.R[:, :, 0].mT @ y.sight[..., None])[told]  # from the wrist
    want = rotation.exp(BIAS).mT @ torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(seen[..., 0], want.expand(seen.shape[:-1]), atol=2e-3, rtol=0)
    made = drawn([corpus], hand, size=320).y.sight[:, 0]
    assert 0.3 < (made.norm(dim=-1) > 0.5).float().mean() < 0.7
    assert (made[made.norm(dim=-1) > 0.5].mean(0).norm()) < 0.5


def test_pairs_and_simulated_noise_in_one_batch(pairs, corpus, hand):
    """Each clip is one or the other."""
    cfg = replace(DrawConfig(), smooth=0.0, clean=0.0, noise=replace(NoiseConfig(), missing=0.0))
    batch = drawn([pairs, corpus], hand, size=320, cfg=cfg, share=[0.5, 0.5])
    error = rotation.angle_between(batch.target.R, batch.y.R)
    is_pair = ((error - BIAS.norm()).abs() < 0.01).float().mean((1, 2)) > 0.9
    per_clip = is_pair.view(-1, 8)
    assert (per_clip == per_clip[:, :1]).all()
    assert 0.25 < is_pair.float().mean() < 0.75
    assert math.isfinite(error.max())
