"""Training: what is drawn, that it learns, and that a stopped run goes on as if it had not been stopped."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from handdiff_lib import data, rotation
from handdiff_lib.baselines import gaussian
from handdiff_lib.checkpoint import load_denoiser, save_denoiser
from handdiff_lib.data import (
    Batch,
    Corpus,
    _recombined,
    _reversed,
    captured_corpus,
    draw_batch,
    is_validation,
    make_corpus,
    manipnet_tracks,
    synthetic_corpus,
)
from handdiff_lib.denoiser import DenoiserConfig, Prediction
from handdiff_lib.diffusion import residual_shift
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.motion import MotionError
from handdiff_lib.perturb import NoiseConfig
from handdiff_lib.pyramid import build_pyramid
from handdiff_lib.readers.manipnet import TAKES, TEST_TAKES
from handdiff_lib.synth import synthesize
from handdiff_lib.topology import CHAIN, FREE, STATES
from handdiff_lib.train import (
    TrainConfig,
    TrainState,
    denoise_batch,
    learning_rate,
    load_state,
    new_state,
    save_state,
    train,
)

SMALL = DenoiserConfig(channels=(4, 4, 4, 4), d=32, layers=1, heads=2, feedforward=32)
CONFIG = TrainConfig(model=SMALL, steps=6, batch=4, lr=3e-3, warmup=2)


def quiet(done: int, count: int) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def corpus(hand) -> Corpus:
    """Two made-up clips of five seconds at 120 fps."""
    clips = [synthesize(hand, seed, frames=600, fps=120.0) for seed in range(2)]
    return make_corpus([c.motion for c in clips], [c.state for c in clips])


@pytest.fixture(autouse=True, scope="module")
def one_pyramid(hand):
    """Every model here is of the same hand; its pyramid is computed once."""
    pyramid = build_pyramid(hand.v_template, hand.faces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("handdiff_lib.denoiser.build_pyramid", lambda *_: pyramid)
        yield


def drawn(corpora: list[Corpus], hand: HandModel, size: int = 8, seed: int = 0, **options: object) -> Batch:
    """A batch of windows of 16 frames."""
    share, noise = options.get("share", [1.0] * len(corpora)), options.get("noise", NoiseConfig())
    return draw_batch(corpora, share, hand, noise, size, 16, torch.Generator().manual_seed(seed))


def labelled(motion, label: int) -> Corpus:
    """A track with the same state throughout."""
    return make_corpus([motion], [torch.full((len(motion),), label)])


# What is learnt from


def test_a_missing_frame_splits_a_track(hand):
    motion = synthesize(hand, 0, frames=10).motion
    valid = torch.arange(10) != 4
    made = make_corpus([replace(motion, valid=valid), motion], [torch.arange(10), None])
    assert made.length.tolist() == [4, 5, 10]
    assert made.first.tolist() == [0, 4, 9]
    assert made.state.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9] + [FREE] * 10
    assert torch.equal(made.R[4:9], motion.R[5:])
    assert torch.equal(made.betas, motion.betas.expand(3, 10))


def test_captured_motion_is_smoothed_and_has_no_states(hand):
    motion = synthesize(hand, 0, frames=30, fps=120.0).motion
    made = captured_corpus([motion])
    assert torch.equal(made.R, gaussian(motion, 3.0).R)
    assert (made.state == FREE).all()


def test_made_up_motion_tells_its_progress(hand):
    told = []
    made = synthetic_corpus(hand, 2, 5, lambda *progress: told.append(progress))
    assert told == [(1, 2), (2, 2)]
    assert made.length.tolist() == [1200, 1200]
    assert torch.equal(made.R[1200:], synthesize(hand, 6, frames=1200, fps=120.0).motion.R)


@pytest.fixture
def clone(hand, monkeypatch) -> list[str]:
    """A clone of ManipNet whose takes are made up; the list of those that were read."""
    asked = []

    def read(root: Path, take: str, model: HandModel, stride: int) -> SimpleNamespace:
        assert stride == 1, "120 frames a second"
        asked.append(take)
        motion = synthesize(model, TAKES.index(take), frames=3).motion
        return SimpleNamespace(tracks={"left": replace(motion, side="left"), "right": motion})

    monkeypatch.setattr(data, "read_take", read)
    return asked


def test_test_takes_are_never_trained_on(hand, clone, tmp_path):
    """Not even when they lie in the cache."""
    cache = tmp_path / "cache" / "takes.npz"
    test = manipnet_tracks(tmp_path, hand, cache, quiet, test=True)
    assert set(clone) == set(TEST_TAKES) == {name.split(".")[0] for name in test}
    clone.clear()
    training = manipnet_tracks(tmp_path, hand, cache, quiet)
    assert not set(clone) & set(TEST_TAKES)
    assert set(training) == {f"{t}.{side}" for t in TAKES if t not in TEST_TAKES for side in ("left", "right")}
    assert {name.split(".")[0] for name in training if is_validation(name)} == {"mug3"}


def test_takes_are_read_once(hand, clone, tmp_path):
    first = manipnet_tracks(tmp_path, hand, tmp_path / "takes.npz", quiet)
    clone.clear()
    again = manipnet_tracks(tmp_path, hand, tmp_path / "takes.npz", quiet)
    assert clone == []
    assert all(torch.equal(again[name].R, first[name].R) for name in first)
    assert again["mug1.left"].side == "left"


# Batches


def test_the_same_generator_state_gives_the_same_batch(corpus, hand):
    before = torch.get_rng_state()
    one, same, other = (drawn([corpus], hand, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.y.R, same.y.R)
    assert torch.equal(one.target.R, same.target.R)
    assert torch.equal(one.y.turns, same.y.turns)
    assert not torch.equal(one.y.R, other.y.R)
    assert torch.equal(torch.get_rng_state(), before), "no chance but the generator's"


def test_a_batch_has_windows_of_rotations(corpus, hand):
    batch = drawn([corpus], hand)
    assert batch.y.R.shape == batch.target.R.shape == (8, 16, 16, 3, 3)
    assert batch.y.confidence.shape == (8, 16, 16)
    assert batch.y.turns.shape == (8, 16, 16, 3, 3)
    assert batch.y.valid.shape == batch.target.state.shape == (8, 16)
    assert batch.y.betas.shape == batch.target.betas.shape == (8, 10)
    for R in (batch.y.R, batch.target.R):
        torch.testing.assert_close(R.mT @ R, torch.eye(3).expand_as(R), atol=1e-4, rtol=0)


def test_about_a_fifth_is_clean_and_the_rest_is_not(corpus, hand):
    batch = drawn([corpus], hand, size=100)
    error = rotation.angle_between(batch.y.R, batch.target.R).amax((1, 2))
    assert 0.1 < (error < 1e-3).float().mean() < 0.3
    assert (error > 0.05).float().mean() > 0.6


def test_windows_stay_inside_one_track(hand):
    """The short track, between two long ones, has no room for a window; no window reaches into it."""
    motion = synthesize(hand, 0, frames=400, fps=120.0).motion
    tracks, labels = [motion, motion[:60], motion], [1, 2, 1]
    made = make_corpus(tracks, [torch.full((len(m),), label) for m, label in zip(tracks, labels, strict=True)])
    assert (drawn([made], hand, size=64).target.state == 1).all()


def test_corpora_are_drawn_by_their_share(hand):
    motion = synthesize(hand, 0, frames=300, fps=120.0).motion
    both = [labelled(motion, 1), labelled(motion, 2)]
    assert (drawn(both, hand, share=[1.0, 0.0]).target.state == 1).all()
    state = drawn(both, hand, size=80, share=[0.25, 0.75]).target.state
    assert 0.6 < (state == 2).float().mean() < 0.9


def test_a_reach_played_backwards_is_a_release(hand):
    reach, grasp, manipulate, release = range(4)
    assert STATES == ("reach", "stable grasp", "manipulate", "release")
    R = rotation.exp(torch.randn(2, 5, 16, 3, generator=torch.Generator().manual_seed(0)))
    state = torch.tensor([reach, reach, grasp, manipulate, FREE]).expand(2, 5)
    R_back, state_back = _reversed(R, state, torch.tensor([True, False]))
    assert state_back[0].tolist() == [FREE, manipulate, grasp, release, release]
    assert torch.equal(R_back[0], R[0].flip(0))
    assert torch.equal(state_back[1], state[1])
    assert torch.equal(R_back[1], R[1])
    only = labelled(synthesize(hand, 0, frames=300, fps=120.0).motion, reach)
    assert set(drawn([only], hand, size=16).target.state.unique().tolist()) == {reach, release}


def test_fingers_are_exchanged_whole(generator):
    """The dice of the wrist and of the index finger fall low: these come from the next motion, the rest stays."""
    R = rotation.exp(torch.randn(2, 3, 16, 3, generator=generator))
    dice = torch.ones(2, 6)
    dice[0, 0] = dice[0, 2] = 0.0
    mixed = _recombined(R, dice)
    changed = [0, *CHAIN["index"]]
    assert torch.equal(mixed[0][:, changed], R[1][:, changed])
    kept = [k for k in range(16) if k not in changed]
    assert torch.equal(mixed[0][:, kept], R[0][:, kept])
    assert torch.equal(mixed[1], R[1])


# Steps


def test_the_learning_rate_rises_then_falls():
    """Warm-up over 10 steps to 1, half way down the cosine 0.05 + 0.95 / 2, at the end 0.05."""
    cfg = TrainConfig(lr=1.0, warmup=10, steps=110)
    rates = [learning_rate(cfg, step) for step in (0, 4, 9, 10, 60, 110, 500)]
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.525, 0.05, 0.05])


def test_the_denoiser_sees_every_step_and_x_n_between_x_and_y(corpus, hand, monkeypatch):
    """At step 1 x_n is close to x, at N it is y with noise of 15 degrees (times 1.6, the mean length in 3-D)."""
    batch, model, seen = drawn([corpus], hand, size=64), new_state(CONFIG, hand).model, {}

    def forward(R_n, y, n, _):
        for k in n.unique().tolist():
            seen[k] = [rotation.angle_between(R_n, R)[n == k].mean().item() for R in (batch.target.R, y.R)]
        return Prediction(R_n, y.betas, torch.zeros(64, 16, 4))

    monkeypatch.setattr(model, "forward", forward)
    denoise_batch(model, batch, residual_shift(4), hand, torch.Generator().manual_seed(0))
    assert sorted(seen) == [1, 2, 3, 4]
    assert seen[1][0] < 0.05
    assert seen[4][1] == pytest.approx(math.radians(15) * 1.6, rel=0.1)


def test_it_learns_one_batch_by_heart(corpus, hand, monkeypatch):
    batch = drawn([corpus], hand, size=4)
    monkeypatch.setattr("handdiff_lib.train.draw_batch", lambda *_: batch)
    cfg = replace(CONFIG, steps=30)
    losses = [line["loss"] for line in train(new_state(cfg, hand), cfg, [corpus], [1.0], hand)]
    assert len(losses) == 30
    assert sum(losses[-3:]) / 3 < 0.5 * losses[0]


def test_every_step_is_told(corpus, hand):
    cfg = replace(CONFIG, steps=1)
    state = new_state(cfg, hand)
    before = [p.clone() for p in state.ema.parameters()]
    (line,) = train(state, cfg, [corpus], [1.0], hand)
    weights = cfg.weights
    parts = sum(getattr(weights, name) * value for name, value in line.items() if name not in ("step", "loss"))
    assert (line["step"], state.step) == (1, 1)
    assert line["loss"] == pytest.approx(parts, rel=1e-4)
    for old, mean, new in zip(before, state.ema.parameters(), state.model.parameters(), strict=True):
        torch.testing.assert_close(mean, old / 11 + new * 10 / 11, atol=1e-6, rtol=0)  # step 1 remembers 1/11


def weights_of(state: TrainState) -> list[torch.Tensor]:
    """All numbers of the model and of its moving average."""
    return [*state.model.parameters(), *state.ema.parameters()]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(corpus, hand, tmp_path):
    """Six steps at once, or three, a file, and three more: the same losses and weights."""

    def run(state: TrainState, count: int) -> list[dict]:
        steps = train(state, CONFIG, [corpus], [1.0], hand)
        return [next(steps) for _ in range(count)]

    straight = new_state(CONFIG, hand)
    whole = run(straight, 6)
    stopped = new_state(CONFIG, hand)
    first = run(stopped, 3)
    save_state(tmp_path / "checkpoint.safetensors", stopped, CONFIG)
    torch.manual_seed(123)  # what happens in between does not matter
    resumed = load_state(tmp_path / "checkpoint.safetensors", CONFIG, hand)
    assert resumed.step == 3
    second = run(resumed, 3)
    for a, b in zip(whole, first + second, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    for a, b in zip(weights_of(straight), weights_of(resumed), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    moved = [
        (a - b).abs().max() for a, b in zip(weights_of(straight), weights_of(new_state(CONFIG, hand)), strict=True)
    ]
    assert max(moved) > 1e-3
    assert list(train(resumed, CONFIG, [corpus], [1.0], hand)) == [], "done is done"


def test_a_checkpoint_of_another_configuration_is_refused(hand, tmp_path):
    """More steps of the same run are fine."""
    path = tmp_path / "checkpoint.safetensors"
    save_state(path, new_state(CONFIG, hand), CONFIG)
    assert load_state(path, replace(CONFIG, steps=99), hand).step == 0
    other = replace(CONFIG, noise=NoiseConfig.hamer_like(), lr=1.0)
    with pytest.raises(MotionError, match=r"was trained with another noise, lr; choose another --output") as caught:
        load_state(path, other, hand)
    assert "\n" not in str(caught.value)


def test_the_seed_makes_the_weights(hand):
    torch.manual_seed(1)
    one = new_state(CONFIG, hand)
    before = torch.get_rng_state()
    same, other = new_state(CONFIG, hand), new_state(replace(CONFIG, seed=1), hand)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(same), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def test_three_sizes_of_run():
    tiny, base, paper = TrainConfig.tiny(), TrainConfig.base(), TrainConfig.paper()
    assert tiny.model == DenoiserConfig.tiny()
    assert paper.model == DenoiserConfig.paper()
    assert paper.lr == 1e-4, "DIP section 4.1"
    assert tiny.steps < base.steps < paper.steps


# Weights on disk


@torch.no_grad()
def test_weights_come_back(corpus, hand, tmp_path):
    path, model = tmp_path / "w" / "some.safetensors", new_state(CONFIG, hand).model.eval()
    generator = torch.Generator().manual_seed(0)
    for head in (model.pose_head, model.shape_head):
        head[-1].weight.data = 0.1 * torch.randn(head[-1].weight.shape, generator=generator)
    save_denoiser(path, model, {"N": 4, "name": "some"})
    back, card = load_denoiser(path)
    assert (card["N"], card["name"]) == (4, "some")
    assert back.cfg == SMALL
    assert not back.training
    batch, n = drawn([corpus], hand), torch.full((8,), 2)
    one, two = (m(batch.target.R, batch.y, n, hand) for m in (model, back))
    assert torch.equal(one.R, two.R)
    assert torch.equal(one.betas, two.betas)
    assert torch.equal(one.state, two.state)
    assert sorted(p.name for p in path.parent.iterdir()) == ["some.json", "some.safetensors"], "nothing else is left"
    assert json.loads(path.with_suffix(".json").read_text())["config"]["d"] == 32
    assert load_file(path)["mesh_y.convs.0.spirals"].dtype == torch.int16


def test_missing_weights_name_the_cure(hand, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"none\.safetensors .*not found; train some: handdiff train"):
        load_denoiser(tmp_path / "none.safetensors")
    monkeypatch.setattr("handdiff_lib.checkpoint.DEFAULT_WEIGHTS", tmp_path / "tiny.safetensors")
    with pytest.raises(InputError, match=r"tiny\.safetensors"):
        load_denoiser()
    save_denoiser(tmp_path / "tiny.safetensors", new_state(CONFIG, hand).model, {})
    (tmp_path / "tiny.json").unlink()
    with pytest.raises(InputError, match=r"card tiny\.json not found"):
        load_denoiser()


@pytest.mark.parametrize("damage", ["weights", "card", "another card"])
def test_damaged_weights_are_named(hand, tmp_path, damage):
    path = tmp_path / "some.safetensors"
    save_denoiser(path, new_state(CONFIG, hand).model, {"N": 4})
    if damage == "weights":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "card":
        path.with_suffix(".json").write_text("{")
    else:
        path.with_suffix(".json").write_text(json.dumps({"config": {"window": 16}}))
    with pytest.raises(InputError, match=r"some\.safetensors .*cannot be read") as caught:
        load_denoiser(path)
    assert "\n" not in str(caught.value)
