"""Training: what the denoiser is shown, that it learns, and that a stopped run goes on as if it had never stopped."""

import signal
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.corpus import Corpus, Labelled, make_corpus
from handdiff_lib.data import Batch, DrawConfig, draw_batch
from handdiff_lib.denoiser import DenoiserConfig, Prediction
from handdiff_lib.diffusion import ResidualSpace, residual_shift
from handdiff_lib.hand import HandModel
from handdiff_lib.losses import loss_terms
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.perturb import NoiseConfig
from handdiff_lib.train import (
    ROWS,
    NotFinite,
    TrainConfig,
    Trainer,
    TrainState,
    ablated,
    learning_rate,
    load_state,
    new_state,
    save_state,
    train,
)

pytestmark = pytest.mark.usefixtures("one_pyramid")

SMALL = DenoiserConfig(channels=(4, 4, 4, 4), d=32, layers=1, heads=2, feedforward=32)
CONFIG = TrainConfig(model=SMALL, steps=6, batch=4, lr=3e-3, warmup=2)


def waving(frames: int, seed: int) -> HandMotion:
    """A hand at 60 fps whose joints swing at random, slowly."""
    chance = torch.Generator().manual_seed(seed)
    size, phase = (torch.randn(16, 3, generator=chance) for _ in range(2))
    turn = 0.4 * size * torch.sin(torch.arange(frames)[:, None, None] / 20 + 3 * phase)
    return HandMotion(
        R=rotation.exp(turn), betas=torch.randn(10, generator=chance), transl=torch.zeros(frames, 3),
        valid=torch.ones(frames, dtype=torch.bool), fps=60.0, hand="open",
    )  # fmt: skip


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Two clips of five seconds, in all states."""
    return make_corpus(Labelled(waving(300, seed), torch.arange(300) // 75) for seed in range(2))


def drawn(corpus: Corpus, hand: HandModel, size: int = 8, cfg: DrawConfig | None = None) -> Batch:
    """A batch of windows of 16 frames."""
    return draw_batch([corpus], [1.0], hand, cfg or DrawConfig(), size, 16, torch.Generator().manual_seed(0))


def weights_of(state: TrainState) -> list[Tensor]:
    """All numbers of the model and of its moving average."""
    return [*state.model.parameters(), *state.ema.parameters()]


class Oracle(nn.Module):
    """Knows the truth of a batch, and keeps what it was asked."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch, self.asked = batch, []

    def forward(self, R_n: Tensor, y: object, n: Tensor, hand: HandModel, **teaching: object) -> Prediction:
        self.asked.append((R_n, n, teaching))
        b, t = R_n.shape[:2]
        opinions = (torch.zeros(b, t, *size) for size in ((4,), (16,), ()))
        return Prediction(self.batch.target.R, self.batch.target.betas, *opinions)


# What the denoiser is shown


def asked(cfg: TrainConfig, batch: Batch, hand: HandModel, progress: float = 0.0) -> tuple[Oracle, tuple]:
    """The questions of one training step, and its answers."""
    oracle = Oracle(batch)
    answers = Trainer(oracle, cfg, hand).denoise(batch, progress, torch.Generator().manual_seed(0))
    return oracle, answers


def test_every_step_is_shown_and_x_n_lies_between_x_and_y(corpus, hand):
    """The residual of x_n at y is (1 - eta_n) of x's, with noise of kappa sqrt(eta_n) about each axis."""
    batch = drawn(corpus, hand, 64, DrawConfig(noise=NoiseConfig.hamer_like()))
    oracle, (before, _) = asked(CONFIG, batch, hand)
    ((R_n, n, teaching),) = oracle.asked
    assert before is None
    assert teaching == {}
    assert sorted(n.unique().tolist()) == [1, 2, 3, 4]
    shift, space = residual_shift(4), ResidualSpace("so3_at_y", anatomical_axes(hand))
    r_n, r_0 = (space.to_chain(R, batch.y.R) for R in (R_n, batch.target.R))
    for k in (1, 2, 3, 4):
        noise = (r_n - (1 - shift.eta[k].float()) * r_0)[n == k]
        torch.testing.assert_close(noise.std(), shift.noise_std[k].float(), rtol=0.05, atol=0)
        assert noise.mean().abs() < 0.05 * shift.noise_std[k]


@pytest.mark.parametrize("space", ["so3_at_y", "euler_anat"])
def test_the_deterministic_twin_sees_y(corpus, hand, space):
    batch = drawn(corpus, hand)
    oracle, _ = asked(replace(CONFIG, N=0, space=space, rollout=1.0), batch, hand)
    ((R_n, n, _),) = oracle.asked
    assert (n == 1).all()
    torch.testing.assert_close(R_n, batch.y.R, atol=2e-5, rtol=0)


def test_a_rollout_goes_on_from_its_own_answer(corpus, hand):
    """After the truth as an answer at n, x_(n-1) is its marginal at n - 1 with the noise that was in x_n."""
    batch = drawn(corpus, hand, 32, DrawConfig(noise=NoiseConfig.hamer_like()))
    cfg = replace(CONFIG, rollout=1.0)
    oracle, (before, pred) = asked(cfg, batch, hand)
    (R_n, n, _), (R_next, n_next, _) = oracle.asked
    assert sorted(n.unique().tolist()) == [2, 3, 4]
    assert torch.equal(n_next, n - 1)
    shift, space = residual_shift(4), ResidualSpace("so3_at_y", anatomical_axes(hand))
    r_n, r_0 = (space.to_chain(R, batch.y.R) for R in (R_n, batch.target.R))
    eta = shift.eta[n].float()[:, None, None, None]
    noise = (r_n - (1 - eta) * r_0) / (shift.kappa * eta.sqrt())
    want = shift.forward_marginal(r_0, torch.zeros_like(r_0), n - 1, noise)
    torch.testing.assert_close(R_next, space.to_rotations(want, batch.y.R), atol=1e-3, rtol=0)
    terms = Trainer(oracle, cfg, hand).terms(batch, 0.0, torch.Generator().manual_seed(0))
    assert terms["consistency"] == 0
    assert torch.equal(before.R, pred.R)


def test_a_share_of_the_batches_is_rolled_out(corpus, hand):
    batch = drawn(corpus, hand, 1)
    oracle = Oracle(batch)
    trainer = Trainer(oracle, replace(CONFIG, rollout=0.25), hand)
    answers = [trainer.denoise(batch, 0.0, torch.Generator().manual_seed(seed)) for seed in range(120)]
    assert sum(before is not None for before, _ in answers) == pytest.approx(30, abs=12)


def test_the_loop_is_taught_and_weaned(corpus, hand):
    """Its decoder sees the truth, and of its own answers a share that rises to `teacher`."""
    batch = drawn(corpus, hand, 2)
    cfg = replace(CONFIG, model=replace(SMALL, decoder="loop"), teacher=0.5)
    for progress, own in ((0.0, 0.0), (0.5, 0.25), (1.0, 0.5)):
        oracle, _ = asked(cfg, batch, hand, progress)
        ((_, _, teaching),) = oracle.asked
        assert teaching["own"] == own
        assert teaching["truth"] is batch.target.R


def test_the_draft_counts_half(corpus, hand):
    batch = drawn(corpus, hand, 4)
    generator = torch.Generator().manual_seed(0)
    off = rotation.exp(0.1 * torch.randn(batch.y.R.shape[:-1], generator=generator))

    class Drafting(Oracle):
        def forward(self, *words: object, **more: object) -> Prediction:
            answer = super().forward(*words, **more)
            return replace(answer, draft=replace(answer, R=answer.R @ off))

    model = Drafting(batch)
    answer = model(batch.y.R, batch.y, torch.ones(4, dtype=torch.long), hand)
    whole, draft = (loss_terms(p, batch.target, hand) for p in (answer, answer.draft))
    got = Trainer(model, CONFIG, hand).terms(batch, 0.0, generator)
    assert draft["fingers"] > 0.01
    for name in got:
        torch.testing.assert_close(got[name], whole[name] + 0.5 * draft[name])


# Steps


def test_the_learning_rate_rises_then_falls():
    """Warm-up over 10 steps to 1, half way down the cosine 0.05 + 0.95 / 2, at the end 0.05."""
    cfg = TrainConfig(lr=1.0, warmup=10, steps=110)
    rates = [learning_rate(cfg, step) for step in (0, 4, 9, 10, 60, 110, 500)]
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.525, 0.05, 0.05])


def test_it_learns_one_batch_by_heart(corpus, hand, monkeypatch):
    batch = drawn(corpus, hand, 4, DrawConfig(clean=0.0))
    monkeypatch.setattr("handdiff_lib.train.draw_batch", lambda *_: batch)
    cfg = replace(CONFIG, steps=40, lr=1e-2)
    errors = [line["rotation"] for line in train(new_state(cfg, hand), cfg, [corpus], [1.0], hand)]
    assert len(errors) == 40
    assert sum(errors[-3:]) / 3 < 0.6 * errors[0]


def test_every_step_is_told(corpus, hand):
    cfg = replace(CONFIG, steps=1)
    state = new_state(cfg, hand)
    before = [p.clone() for p in state.ema.parameters()]
    (line,) = train(state, cfg, [corpus], [1.0], hand)
    parts = sum(getattr(cfg.weights, name) * value for name, value in line.items() if name not in ("step", "loss"))
    assert (line["step"], state.step) == (1, 1)
    assert line["loss"] == pytest.approx(parts, rel=1e-4, abs=1e-5)
    for old, mean, new in zip(before, state.ema.parameters(), state.model.parameters(), strict=True):
        torch.testing.assert_close(mean, old / 11 + new * 10 / 11, atol=1e-6, rtol=0)  # step 1 remembers 1/11


@pytest.mark.parametrize(("what", "named"), [("value", "fingers"), ("gradient", "the gradient")])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(corpus, hand, monkeypatch, what, named):
    """In the third step; the first two stand."""
    state, calls = new_state(CONFIG, hand), []

    def broken(pred: Prediction, *words: object) -> dict[str, Tensor]:
        terms = loss_terms(pred, *words)
        calls.append(1)
        if len(calls) == 3:
            nan = torch.tensor(float("nan"))
            if what == "value":
                terms["fingers"] = terms["fingers"] * nan
            else:
                pred.R.register_hook(lambda grad: grad * nan)
        return terms

    monkeypatch.setattr("handdiff_lib.train.loss_terms", broken)
    steps = train(state, CONFIG, [corpus], [1.0], hand)
    for _ in range(2):
        next(steps)
    before = [p.clone() for p in weights_of(state)]
    with pytest.raises(NotFinite, match=rf"not finite at step 2 \({named}\); lower the learning rate") as caught:
        next(steps)
    assert "\n" not in str(caught.value)
    assert (caught.value.step, state.step) == (2, 2)
    assert caught.value.batch.y.R.shape == (4, 16, 16, 3, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(state), strict=True))


def run(state: TrainState, corpus: Corpus, hand: HandModel, count: int) -> list[dict]:
    """Some steps and what they told."""
    steps = train(state, CONFIG, [corpus], [1.0], hand)
    return [next(steps) for _ in range(count)]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(corpus, hand, tmp_path):
    """Six steps at once, or three, a file, and three more: the same losses and weights."""
    straight, stopped = new_state(CONFIG, hand), new_state(CONFIG, hand)
    whole, first = run(straight, corpus, hand, 6), run(stopped, corpus, hand, 3)
    save_state(tmp_path / "checkpoint.safetensors", stopped, CONFIG)
    torch.manual_seed(123)  # what happens in between does not matter
    resumed = load_state(tmp_path / "checkpoint.safetensors", CONFIG, hand)
    assert resumed.step == 3
    second = run(resumed, corpus, hand, 3)
    for a, b in zip(whole, first + second, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
    for a, b, start in zip(*(weights_of(s) for s in (straight, resumed, new_state(CONFIG, hand))), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
        assert (a - start).abs().max() > 1e-4
    assert list(train(resumed, CONFIG, [corpus], [1.0], hand)) == [], "done is done"


def test_ctrl_c_never_leaves_half_a_step(corpus, hand, monkeypatch):
    """Pressed while the weights change, it waits until model, average and step are one again."""
    straight, stopped = new_state(CONFIG, hand), new_state(CONFIG, hand)
    run(straight, corpus, hand, 1)
    handler, step = signal.getsignal(signal.SIGINT), torch.optim.AdamW.step

    def pressed(*words: object, **more: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return step(*words, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", pressed)
    with pytest.raises(KeyboardInterrupt):
        run(stopped, corpus, hand, 1)
    assert signal.getsignal(signal.SIGINT) is handler
    assert stopped.step == 1
    for a, b in zip(weights_of(straight), weights_of(stopped), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_a_checkpoint_of_another_configuration_is_refused(hand, tmp_path):
    """More steps of the same run are fine, and another machine's precision."""
    path = tmp_path / "checkpoint.safetensors"
    save_state(path, new_state(CONFIG, hand), CONFIG)
    assert load_state(path, replace(CONFIG, steps=99, bf16=True), hand).step == 0
    other = replace(CONFIG, draw=DrawConfig(noise=NoiseConfig.hamer_like()), lr=1.0)
    with pytest.raises(MotionError, match=r"was trained with another draw, lr; choose another --output") as caught:
        load_state(path, other, hand)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "no card"])
def test_a_damaged_checkpoint_is_named(hand, tmp_path, damage):
    path = tmp_path / "checkpoint.safetensors"
    save_state(path, new_state(CONFIG, hand), CONFIG)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        path.with_suffix(".json").unlink()
    with pytest.raises(MotionError, match=r"checkpoint\.safetensors .*cannot be read .*delete it to start again"):
        load_state(path, CONFIG, hand)


def test_the_seed_makes_the_weights(hand):
    torch.manual_seed(1)
    one = new_state(CONFIG, hand)
    before = torch.get_rng_state()
    same, other = new_state(CONFIG, hand), new_state(replace(CONFIG, seed=1), hand)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(same), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def test_held_meshes_stay_as_they_are(corpus, hand):
    state, fresh = (new_state(CONFIG, hand) for _ in range(2))
    list(train(state, replace(CONFIG, steps=2, hold_meshes=True), [corpus], [1.0], hand))
    for name, value in state.model.state_dict().items():
        moved = not torch.equal(value, fresh.model.state_dict()[name])
        assert not (moved and name.startswith("mesh")), name
    assert not torch.equal(state.model.pose_y.weight, fresh.model.pose_y.weight)


class Drawn(Exception):
    """A batch was asked for."""


def test_some_batches_have_shorter_windows(corpus, hand, monkeypatch):
    """As many frames, in four times as many windows."""
    asked = set()

    def ask(*args: object) -> None:
        asked.add(args[4:6])
        raise Drawn

    monkeypatch.setattr("handdiff_lib.train.draw_batch", ask)
    for seed in range(12):
        with pytest.raises(Drawn):
            next(train(new_state(CONFIG, hand), replace(CONFIG, shorter=0.5, seed=seed), [corpus], [1.0], hand))
    assert asked == {(4, 16), (16, 4)}


def test_three_sizes_of_run():
    tiny, base, paper = TrainConfig.tiny(), TrainConfig.base(), TrainConfig.paper()
    assert tiny.model == DenoiserConfig.tiny()
    assert base.model == DenoiserConfig.base()
    assert paper.model == DenoiserConfig.paper()
    assert (paper.lr, paper.draw.smooth, paper.space) == (1e-4, 1.5, "euler_anat"), "DIP sections 3.2 and 4.1"
    assert tiny.steps < base.steps < paper.steps


def test_the_rows_of_table_3_add_up():
    """Each row has one part more than the row before; the last is the whole method."""
    cfg = replace(CONFIG, model=replace(SMALL, decoder="draft"))
    found = [ablated(cfg, row) for row in ROWS]
    assert [c.N for c in found] == [0, 4, 4, 4, 4]
    assert [c.model.states_in for c in found] == [False, False, True, True, True]
    weights = [(c.weights.state, c.weights.kinetics, c.weights.stability) for c in found]
    s, k, t = cfg.weights.state, cfg.weights.kinetics, cfg.weights.stability
    assert min(s, k, t) > 0
    assert weights == [(0, 0, 0), (0, 0, 0), (s, 0, 0), (s, k, 0), (s, k, t)]
    assert found[-1] == cfg
    off = replace(cfg, model=replace(SMALL, states_in=False))
    assert not ablated(off, "stability").model.states_in
