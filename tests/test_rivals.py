"""Learned baselines: what each network may see, that it learns, and what becomes of its answer."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from handdiff_lib import rotation
from handdiff_lib.baselines import gaussian
from handdiff_lib.corpus import Corpus, Labelled, make_corpus
from handdiff_lib.data import Batch, DrawConfig, draw_batch
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.perturb import NoiseConfig, simulated_estimate
from handdiff_lib.rival_runs import load_rival, refine_rival, rival_loss, save_rival, train_rival
from handdiff_lib.rivals import (
    NAMES,
    ROTATIONS,
    PoseBERT,
    Rival,
    RivalConfig,
    SmoothNet,
    coordinates,
    make_rival,
    to_joints,
    to_rotations,
)
from handdiff_lib.synth import synthesize
from handdiff_lib.train import TrainConfig

BUDGET = TrainConfig(
    steps=3, batch=4, lr=3e-3, warmup=2, ema=0.5, draw=DrawConfig(noise=NoiseConfig.hamer_like(), clean=0.0)
)
each = pytest.mark.parametrize("name", NAMES)


def small(name: str) -> RivalConfig:
    """A rival for the tests."""
    return replace(RivalConfig.usual(name, window=16), d=32, layers=2, heads=2, feedforward=32, dropout=0.0)


def seeded(name: str, hand: HandModel) -> Rival:
    """An untrained rival in eval mode, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_rival(small(name), hand).eval()


@pytest.fixture(scope="module")
def motion(hand: HandModel) -> HandMotion:
    """A made-up motion."""
    return synthesize(hand, seed=3, frames=280, fps=60.0).motion


@pytest.fixture(scope="module")
def corpus(motion: HandMotion) -> Corpus:
    """That motion to learn from."""
    return make_corpus([Labelled(motion)])


@pytest.fixture(scope="module")
def batch(corpus: Corpus, hand: HandModel) -> Batch:
    """Four noisy windows."""
    return draw_batch([corpus], [1.0], hand, BUDGET.draw, 4, 16, torch.Generator().manual_seed(0))


# Networks


@each
def test_usual_sizes(name, hand):
    cfg = RivalConfig.usual(name)
    assert (cfg.name, cfg.window) == (name, 32)
    x, valid = torch.randn(2, 32, cfg.width), torch.ones(2, 32, dtype=torch.bool)
    guesses = make_rival(cfg, hand).eval()(x, valid)
    assert [g.shape for g in guesses] == [x.shape] * (4 if "posebert" in name else 1)


def test_another_name_is_refused():
    with pytest.raises(InputError, match="rival 'resnet' is unknown; there are smoothnet, posebert_angles"):
        RivalConfig.usual("resnet")


@each
def test_coordinates_hold_the_pose(name, hand, batch):
    y = batch.y
    x = coordinates(name, y.R, y.betas, hand)
    assert x.shape[-1] == small(name).width
    if name == "posebert_positions":
        joints = hand.shape(y.betas[:, None]).pose(y.R).joints21()
        torch.testing.assert_close(to_joints(x) / 10, joints - joints[:, :, :1])
    else:
        torch.testing.assert_close(to_rotations(x), y.R, atol=1e-5, rtol=0)
        torch.testing.assert_close(x[:, 5, ROTATIONS:], y.betas[:, : x.shape[-1] - ROTATIONS])


def test_smoothnet_sees_each_coordinate_by_itself(hand, generator):
    model, x = seeded("smoothnet", hand), torch.randn(1, 16, 96, generator=generator)
    valid, order = torch.ones(1, 16, dtype=torch.bool), torch.randperm(96, generator=generator)
    torch.testing.assert_close(model(x[..., order], valid)[0], model(x, valid)[0][..., order])
    other = x.clone()
    other[..., 5] += 1
    changed = (model(other, valid)[0] != model(x, valid)[0]).any(1)[0]
    assert changed.nonzero()[:, 0].tolist() == [5]


@pytest.mark.parametrize("name", ["posebert_angles", "posebert_positions"])
def test_posebert_starts_from_the_mean_pose_and_does_not_see_missing_frames(name, hand, generator):
    model = seeded(name, hand)
    x, valid = torch.randn(2, 16, model.cfg.width, generator=generator), torch.ones(2, 16, dtype=torch.bool)
    valid[0, 4:9], valid[1] = False, False
    guesses = model(x, valid)
    spoiled = x.masked_fill(~valid[..., None], 1e3)
    assert torch.equal(guesses[-1], model(spoiled, valid)[-1])
    assert guesses[-1].isfinite().all()
    assert not torch.equal(guesses[-1][0], guesses[-1][1])
    nn.init.zeros_(model.regress[-1].weight)
    R = torch.cat([torch.eye(3)[None], rotation.exp(hand.hands_mean.view(15, 3))])
    want = coordinates(name, R[None, None], torch.zeros(1, 10), hand)
    torch.testing.assert_close(model(x, valid)[-1], want.expand_as(x))


def test_posebert_hides_frames_only_in_training(hand, generator):
    """An eighth of them: of two guesses at the same windows in training all but a few differ."""
    model, x = seeded("posebert_angles", hand), torch.randn(1, 16, 96, generator=generator)
    valid = torch.ones(1, 16, dtype=torch.bool)
    assert torch.equal(model(x, valid)[-1], model(x, valid)[-1])
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        guesses = {tuple(model(x, valid)[-1].flatten().tolist()) for _ in range(10)}
    assert len(guesses) >= 8


# Losses and training


class Fixed(SmoothNet):
    """Gives this guess whatever it sees."""

    def __init__(self, cfg: RivalConfig, guess: Tensor) -> None:
        super().__init__(cfg)
        self.guess = guess

    def forward(self, x: Tensor, valid: Tensor) -> list[Tensor]:
        return [self.guess]


@each
def test_the_truth_costs_least(name, hand, batch):
    """And nothing at all but for joints' 1e-3 dm each, save constant acceleration, which the truth does not have."""
    target = batch.target
    x = coordinates(name, target.R, target.betas if "bert" not in name else batch.y.betas, hand)
    target = replace(target, betas=batch.y.betas) if "bert" in name else target
    shaken = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    target_y = replace(batch.y, betas=target.betas)
    best, worse = (
        rival_loss(Fixed(small(name), g), target_y, target, BUDGET.weights, hand).item() for g in (x, shaken)
    )
    assert best < (0.1 if name == "constant_acceleration" else 0.01)
    assert worse > 10 * best


def test_constant_acceleration_pays_for_jerk(hand, batch):
    """A wrist that swings by 0.02 radians every other frame: joints 1 dm away go to and fro, and third differences are
    eight times as large as the swing."""
    t = torch.arange(16)
    swing = 0.01 * (-1.0) ** t
    R = torch.eye(3).repeat(4, 16, 16, 1, 1)
    R[:, :, 0] = rotation.exp(swing[:, None] * torch.tensor([0.0, 1.0, 0.0]))
    target = replace(batch.target, R=R)
    guess = coordinates("constant_acceleration", R, target.betas, hand)
    losses = {
        name: rival_loss(Fixed(small(name), guess), batch.y, target, BUDGET.weights, hand).item()
        for name in ("transformer", "constant_acceleration")
    }
    joints = to_joints(coordinates("posebert_positions", R, target.betas, hand))
    reach2 = joints[..., [0, 2]].square().sum(-1).mean().item()  # squared distance from the axis, dm^2
    assert losses["constant_acceleration"] == pytest.approx(10 * reach2 * 0.08**2, rel=0.05)
    assert losses["transformer"] < 0.01


@each
def test_it_learns_one_batch_by_heart(name, hand, corpus, batch, monkeypatch):
    monkeypatch.setattr("handdiff_lib.rival_runs.draw_batch", lambda *_: batch)
    budget = replace(BUDGET, steps=25, lr=1e-2)
    losses = [line["loss"] for _, line in train_rival(small(name), budget, [corpus], [1.0], hand)]
    assert len(losses) == 25
    assert sum(losses[-3:]) / 3 < 0.85 * losses[0]


def test_a_run_follows_from_its_seed(hand, corpus):
    """Weights, batches, dropout and hidden frames; what else draws from torch does not matter, nor is it disturbed."""
    cfg, found = replace(small("posebert_angles"), dropout=0.2), []
    for outside, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(outside)
        before = torch.get_rng_state()
        *_, (model, line) = train_rival(cfg, replace(BUDGET, seed=seed), [corpus], [1.0], hand)
        assert torch.equal(torch.get_rng_state(), before)
        found.append((line, [p.clone() for p in model.parameters()]))
    (line, weights), (same_line, same), (_, other) = found
    assert line == same_line
    assert line["step"] == 3
    assert all(torch.equal(a, b) for a, b in zip(weights, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights, other, strict=True))


def test_a_loss_that_is_not_finite_stops_the_run(hand, corpus, monkeypatch):
    monkeypatch.setattr(
        "handdiff_lib.rival_runs.rival_loss", lambda model, *_: next(model.parameters()).sum() * torch.nan
    )
    with pytest.raises(InputError, match="smoothnet: the loss is not finite at step 0; lower the learning rate"):
        next(train_rival(small("smoothnet"), BUDGET, [corpus], [1.0], hand))


# Refining


@pytest.fixture(scope="module")
def estimate(motion: HandMotion, hand: HandModel) -> HandMotion:
    """A noisy estimate of 60 frames at 30 a second with a gap."""
    slow = replace(motion[:120:2], fps=30.0)
    noisy = simulated_estimate(slow, hand, NoiseConfig.hamer_like(), seed=1)
    valid = noisy.valid.clone()
    valid[20:24] = False
    return replace(noisy, valid=valid)


def test_an_untrained_transformer_leaves_the_estimate(hand, estimate):
    """Its gap bridged and valid, its shape one for the track."""
    found = refine_rival(estimate, seeded("transformer", hand), hand)
    want = gaussian(estimate.with_one_shape(), 0.0)
    torch.testing.assert_close(found.R, want.R, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.betas, want.betas, atol=1e-5, rtol=0)
    assert found.valid[1:-1].all()
    assert torch.equal(found.refined, found.valid)


def test_positions_become_the_hand_that_has_them(hand, estimate):
    """A network that answers with the joints it sees: the hand's joints lie there, the wrist where it was."""

    class Echo(PoseBERT):
        def forward(self, x: Tensor, valid: Tensor) -> list[Tensor]:
            return [x]

    model = Echo(small("posebert_positions"), torch.zeros(63)).eval()
    found, want = refine_rival(estimate, model, hand), gaussian(estimate.with_one_shape(), 0.0)
    assert (found.joints(hand) - want.joints(hand)).norm(dim=-1).mean() < 1.5e-3


@each
def test_turning_the_estimate_turns_the_answer(name, hand, estimate):
    model, G = seeded(name, hand), rotation.exp(torch.tensor([1.0, -2.0, 0.5]))
    turned = estimate.R.clone()
    turned[:, 0] = G @ turned[:, 0]
    a, b = refine_rival(estimate, model, hand), refine_rival(replace(estimate, R=turned), model, hand)
    far = rotation.angle_between(b.R[:, 0], G @ a.R[:, 0])
    assert far.max() < (2e-2 if name == "posebert_positions" else 1e-4)
    assert rotation.angle_between(b.R[:, 1:], a.R[:, 1:]).mean() < 1e-3


@each
def test_a_track_shorter_than_a_window_is_answered(name, hand, estimate):
    for t in (1, 5):
        found = refine_rival(estimate[:t], seeded(name, hand), hand)
        assert found.R.shape == (t, 16, 3, 3)
        assert found.R.isfinite().all()


@each
def test_another_hands_shape_is_kept(name, hand, estimate):
    """MANO's betas mean nothing to a network of the open hand."""
    found = refine_rival(replace(estimate, hand="mano"), seeded(name, hand), hand)
    assert found.hand == "mano"
    assert torch.equal(found.betas, estimate.with_one_shape().betas)


def test_windows_blend_without_a_seam(hand):
    """A still hand stays still, whatever the network makes of it; so each frame's weights add up to one."""

    class Still(SmoothNet):
        def forward(self, x: Tensor, valid: Tensor) -> list[Tensor]:
            return [torch.full_like(x, 0.5)]

    eye = torch.eye(3).repeat(50, 16, 1, 1)
    still = HandMotion(eye, torch.zeros(10), torch.zeros(50, 3), torch.ones(50, dtype=torch.bool), 30.0, hand="open")
    for stride in (1, 4, 16):
        R = refine_rival(still, Still(small("smoothnet")).eval(), hand, stride).R
        torch.testing.assert_close(R, R[:1].expand_as(R), atol=1e-6, rtol=0)


def test_a_motion_without_a_valid_frame_is_refused(hand, estimate):
    with pytest.raises(MotionError, match="no valid frame"):
        refine_rival(replace(estimate, valid=torch.zeros_like(estimate.valid)), seeded("transformer", hand), hand)


# On disk


@each
def test_saved_and_loaded_it_answers_the_same(name, hand, tmp_path, generator):
    model, path = seeded(name, hand), tmp_path / f"{name}.safetensors"
    save_rival(path, model, {"steps": 7})
    again, card = load_rival(path, hand)
    x, valid = torch.randn(2, 16, model.cfg.width, generator=generator), torch.ones(2, 16, dtype=torch.bool)
    assert torch.equal(again(x, valid)[-1], model(x, valid)[-1])
    assert (again.cfg, card["steps"]) == (model.cfg, 7)


@pytest.mark.parametrize(
    ("damage", "why"),
    [("absent", "not found; train it first"), ("cut", "cannot be read"), ("card", "cannot be read")],
)
def test_damaged_files_are_named(hand, tmp_path, damage, why):
    path = tmp_path / "r.safetensors"
    if damage != "absent":
        save_rival(path, seeded("smoothnet", hand), {})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:500])
    if damage == "card":
        path.with_suffix(".json").write_text("{}")
    with pytest.raises(InputError, match=why) as caught:
        load_rival(path, hand)
    assert "\n" not in str(caught.value)
