"""A training run in its folder: it goes on, judges, survives what goes wrong, and learns from recorded pairs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from handdiff_lib import rotation
from handdiff_lib import run as runs
from handdiff_lib.checkpoint import load_denoiser, save_denoiser
from handdiff_lib.corpus import Corpus, Labelled, make_corpus
from handdiff_lib.data import DrawConfig
from handdiff_lib.denoiser import DenoiserConfig
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.losses import loss_terms
from handdiff_lib.metrics import score
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.presets import config_for
from handdiff_lib.readers.manipnet import TAKES, TEST_TAKES
from handdiff_lib.refine import refine
from handdiff_lib.run import Sources, gather, judge, make_card, training_run
from handdiff_lib.storage import save_motion
from handdiff_lib.topology import FREE
from handdiff_lib.train import TrainConfig, TrainState, load_state, new_state

pytestmark = pytest.mark.usefixtures("one_pyramid")

SMALL = DenoiserConfig(channels=(4, 4, 4, 4), d=32, layers=1, heads=2, feedforward=32)
CONFIG = TrainConfig(model=SMALL, draw=DrawConfig(clip=32), steps=4, batch=2, lr=3e-3, warmup=2)
"""Two windows of one clip of 32 frames in a step."""


def waving(frames: int, seed: int, fps: float = 30.0) -> HandMotion:
    """A hand whose joints swing at random, slowly."""
    chance = torch.Generator().manual_seed(seed)
    size, phase = (torch.randn(16, 3, generator=chance) for _ in range(2))
    turn = 0.3 * size * torch.sin(2 * torch.arange(frames)[:, None, None] / fps + 3 * phase)
    return HandMotion(
        R=rotation.exp(turn), betas=torch.randn(10, generator=chance), transl=torch.zeros(frames, 3),
        valid=torch.ones(frames, dtype=torch.bool), fps=fps, hand="open",
    )  # fmt: skip


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """Made-up motion that takes no time, and a checkpoint every second step; what was made, in order."""
    asked = []

    def corpus(*_: object) -> Corpus:
        asked.append("clips")
        return make_corpus([Labelled(waving(80, 0, fps=60.0), torch.arange(80) // 20)])

    def clip(_: object, seed: int, frames: int) -> SimpleNamespace:
        return SimpleNamespace(motion=waving(16, seed))

    monkeypatch.setattr(runs, "synthetic_corpus", corpus)
    monkeypatch.setattr(runs, "synthesize", clip)
    monkeypatch.setattr(runs, "SAVE_EVERY", 2)
    return asked


def quiet(what: str, done: int, count: int) -> None:
    """Nobody watches."""


def steps_of(folder: Path, cfg: TrainConfig = CONFIG, sources: Sources | None = None, until: int = 99) -> list[dict]:
    """Train in a folder, stopping after a step; what every step told."""
    told = []
    for state, line in training_run("some", cfg, sources or Sources(), folder, quiet):
        told.append(line)
        if state.step == until:
            break
    return told


def logged(folder: Path) -> list[dict]:
    """The lines of the log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# Going on


def test_a_run_that_is_stopped_goes_on_in_its_folder(made, hand, tmp_path):
    """Stopped after three of four steps, between two checkpoints: the same weights, losses and log as in one go."""
    whole = steps_of(tmp_path / "whole")
    parts = steps_of(tmp_path / "parts", until=3) + steps_of(tmp_path / "parts")
    assert [line["step"] for line in parts] == [1, 2, 3, 4]
    for a, b in zip(whole, parts, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)
    one, other = (load_file(tmp_path / where / "checkpoint.safetensors") for where in ("whole", "parts"))
    assert one["step"] == other["step"] == 4
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-6, rtol=0, msg=name)
    assert [line["step"] for line in logged(tmp_path / "parts")] == [1, 2, 3, 4]
    assert logged(tmp_path / "parts") == parts
    assert steps_of(tmp_path / "parts") == [], "done is done"
    assert made == ["clips"], "kept beside the run and read from there"
    weights = tmp_path / "parts" / "some.safetensors"
    model, card = load_denoiser(weights)
    assert model.cfg == SMALL
    assert (card["N"], card["space"], card["doubt"], card["data"]) == (4, "so3_at_y", "network", ["synthetic"])
    assert card["sigma_scale"] > 0
    assert not list((tmp_path / "parts").glob("*.part"))


def test_more_steps_are_fine_and_another_configuration_is_not(made, tmp_path):
    steps_of(tmp_path / "r", until=1)
    with pytest.raises(MotionError, match="was trained with another batch; choose another --output") as caught:
        steps_of(tmp_path / "r", replace(CONFIG, batch=3))
    assert "\n" not in str(caught.value)
    assert [line["step"] for line in steps_of(tmp_path / "r", replace(CONFIG, steps=5), until=2)] == [2]


def test_what_was_logged_beyond_the_last_checkpoint_is_forgotten(made, tmp_path):
    """As after a power cut: steps without a checkpoint, and half a line."""
    steps_of(tmp_path / "r", until=2)
    log = tmp_path / "r" / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 3, "loss": 9.0}\n{"step": 4, "lo')
    steps_of(tmp_path / "r")
    assert [line["step"] for line in logged(tmp_path / "r")] == [1, 2, 3, 4]
    assert logged(tmp_path / "r")[2]["loss"] != 9.0


def test_the_best_weights_are_kept(made, hand, tmp_path, monkeypatch):
    """Judged 3, 2 and 4 mm: those of the second time stay, also when a run goes on."""
    verdicts = iter([3.0, 2.0, 4.0])
    monkeypatch.setattr(
        runs, "judge", lambda *_: (dict.fromkeys(("val_mje_mm", "val_p_mje_mm"), next(verdicts) / 2), 1.5)
    )
    cfg = replace(CONFIG, steps=6)
    steps_of(tmp_path / "r", cfg, until=4)
    ema = load_denoiser(tmp_path / "r" / "some.safetensors")[0].state_dict()
    steps_of(tmp_path / "r", cfg)
    model, card = load_denoiser(tmp_path / "r" / "some.safetensors")
    assert (card["steps"], card["judged"]["val_mje_mm"], card["sigma_scale"]) == (4, 1.0, 1.5)
    assert all(torch.equal(value, ema[name]) for name, value in model.state_dict().items())
    assert next(verdicts, None) is None


# What goes wrong


def test_a_loss_that_is_not_finite_is_kept_with_its_batch(made, hand, tmp_path, monkeypatch):
    """In the fourth step: the term and the step are named, the batch is written, and what was reached stands."""
    calls = []

    def broken(*words: object) -> dict[str, torch.Tensor]:
        calls.append(1)
        terms = loss_terms(*words)
        return terms | ({"velocity": terms["velocity"] * float("nan")} if len(calls) == 4 else {})

    monkeypatch.setattr("handdiff_lib.train.loss_terms", broken)
    folder = tmp_path / "r"
    with pytest.raises(InputError, match=r"not finite at step 3 \(velocity\).*not_finite\.safetensors") as caught:
        steps_of(folder)
    assert "\n" not in str(caught.value)
    batch = load_file(folder / "not_finite.safetensors")
    assert batch["y"].shape == batch["truth"].shape == (2, 16, 16, 3, 3)
    kept = load_state(folder / "checkpoint.safetensors", CONFIG, hand)
    assert kept.step == 3
    assert all(p.isfinite().all() for p in kept.model.parameters())
    monkeypatch.undo()
    assert load_denoiser(folder / "some.safetensors")[1]["steps"] == 2


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def full_in_rust(*_: object, **__: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("fails", [full, full_in_rust])
def test_a_full_disk_leaves_the_last_checkpoint_whole(made, hand, tmp_path, monkeypatch, fails):
    folder = tmp_path / "r"
    steps_of(folder, until=2)
    path = folder / "checkpoint.safetensors"
    good, weights = path.read_bytes(), (folder / "some.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("handdiff_lib.checkpoint.save_file", fails)
        with pytest.raises(InputError, match=r"No space left on device.*its last checkpoint stands") as caught:
            steps_of(folder)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == good
    assert (folder / "some.safetensors").read_bytes() == weights
    assert load_state(path, CONFIG, hand).step == 2
    assert [line["step"] for line in steps_of(folder)] == [3, 4], "with space again it goes on"


def test_a_log_that_cannot_grow_ends_the_run_likewise(made, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_append", full)
    with pytest.raises(InputError, match="No space left on device"):
        steps_of(tmp_path / "r")


def test_a_folder_that_cannot_be_is_named(made, tmp_path):
    (tmp_path / "r").write_text("mine")
    with pytest.raises(InputError, match=r"r cannot be a folder \(File exists\); choose another --output"):
        steps_of(tmp_path / "r")
    assert made == []


def test_a_clone_that_is_not_there_is_noticed_first(made, tmp_path):
    with pytest.raises(MotionError, match=r"not found in .*there are: none"):
        steps_of(tmp_path / "r", sources=Sources(manipnet=tmp_path / "nowhere"))
    assert made == [], "before clips are made, which takes minutes"


def test_clips_too_short_are_named(tmp_path):
    """Pairs of 20 frames where a training clip has 32."""
    path = tmp_path / "pairs.npz"
    save_motion(path, {"a": waving(20, 0), "a.truth": waving(20, 0)})
    with pytest.raises(InputError, match="no track has 32 frames without a gap, the length of a training clip"):
        steps_of(tmp_path / "r", sources=Sources(recorded=path))


# What is learnt from


def test_corpora_are_made_once_and_again_when_unfinished(made, hand, tmp_path):
    for _ in range(2):
        gathered = gather(CONFIG, Sources(), tmp_path, hand, quiet)
    assert made == ["clips"]
    assert gathered.share == [1.0]
    assert len(gathered.judges) == 6
    (tmp_path / "synthetic" / "card.json").unlink()
    gather(CONFIG, Sources(), tmp_path, hand, quiet)
    assert made == ["clips", "clips"]
    card = json.loads((tmp_path / "synthetic" / "card.json").read_text())
    (tmp_path / "synthetic" / "card.json").write_text(json.dumps(card | {"clips": 7}))
    gather(CONFIG, Sources(), tmp_path, hand, quiet)
    assert made == ["clips", "clips", "clips"]


def test_captured_takes_train_and_validate(made, hand, tmp_path, monkeypatch):
    """mug3 judges in clips of 256 frames at 30 fps, the others are learnt from; 35 % of the draws are made up."""
    training = [take for take in TAKES if take not in TEST_TAKES]
    tracks = {f"{take}.right": waving(1100, k, fps=120.0) for k, take in enumerate(training)}
    monkeypatch.setattr(runs, "manipnet_tracks", lambda *_: tracks)
    asked = []

    def states(_: Path, hand: HandModel, tracks: dict, tell: Callable) -> dict[str, torch.Tensor]:
        asked.extend(tracks)
        return {name: torch.full((len(m),), FREE) for name, m in tracks.items()}

    monkeypatch.setattr(runs, "manipnet_states", states)
    for _ in range(2):
        gathered = gather(CONFIG, Sources(manipnet=tmp_path), tmp_path / "cache", hand, quiet)
    used = [f"{take}.right" for take in training if take != "mug3"]
    assert asked == used, "labelled once"
    assert gathered.names == [*used, "synthetic"]
    assert gathered.share == pytest.approx([0.65, 0.35])
    assert gathered.corpora[0].length.tolist() == [1100] * len(used)
    ((estimate, truth),) = gathered.judges
    assert (len(truth), truth.fps) == (256, 30.0)
    assert torch.equal(truth.R, tracks["mug3.right"].R[::4][:256])
    assert not torch.equal(estimate.R, truth.R)


def test_cards_say_the_licence(hand):
    def licence(**given: Path) -> str:
        return make_card("some", CONFIG, Sources(**given), [], hand)["license"]

    assert licence().startswith("Apache-2.0")
    assert licence(manipnet=Path("m")).startswith("CC-BY-NC-4.0")
    assert "recordings" in licence(recorded=Path("p.npz"))
    assert "weights it was trained from" in licence(manipnet=Path("m"), start=Path("w"))


def test_the_judge_of_an_untrained_network_sees_what_went_in(hand):
    """Its walk ends in y: `val` is the error of the estimate, `clean` nothing, and the doubt fits the errors."""
    truth = waving(20, 0)
    estimate = replace(truth, R=truth.R @ rotation.exp(torch.tensor([0.0, 0.0, 0.2])))
    found, scale = judge(new_state(CONFIG, hand).ema, hand, [(estimate, truth), (truth, truth)], CONFIG)
    assert found["val_finger_deg"] == pytest.approx(torch.tensor(0.1).rad2deg().item(), rel=1e-3)
    assert found["val_mje_mm"] == pytest.approx(score(estimate, truth, hand)["mje_mm"] / 2, rel=1e-3)
    assert found["clean_mje_mm"] < 0.01
    sigma = torch.tensor(5.0).deg2rad()
    assert scale == pytest.approx((0.2 / sigma / 6**0.5).item(), rel=1e-3), "a sixth of the coordinates is off"


# Recorded pairs (appendix A)


def said(truth: HandMotion, seed: int) -> HandMotion:
    """What an estimator says that always flexes every finger joint by 8 degrees too much and shakes by one."""
    chance = torch.Generator().manual_seed(seed)
    bias = torch.zeros(16, 3)
    bias[1:, 2] = torch.tensor(8.0).deg2rad()
    error = bias + torch.deg2rad(torch.randn(len(truth), 16, 3, generator=chance))
    return replace(truth, R=truth.R @ rotation.exp(error), betas=truth.betas + 0.3)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Three clips of two seconds."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.npz"
    truths = {f"clip{k}": waving(64, k) for k in range(3)}
    save_motion(
        path, {f"{n}.truth": m for n, m in truths.items()} | {n: said(m, k) for k, (n, m) in enumerate(truths.items())}
    )
    return path


LEARNING = replace(CONFIG, steps=40, batch=4, lr=2e-2, warmup=1)


def finger_error(weights: Path, hand: HandModel) -> tuple[float, float]:
    """Of a pair that was never seen: before and after refining, degrees."""
    truth = waving(40, 77)
    estimate, (model, card) = said(truth, 77), load_denoiser(weights)
    refined = refine(estimate, model, hand, config_for(card))
    return tuple(score(m, truth, hand)["finger_deg"] for m in (estimate, refined))


def test_the_error_of_an_estimator_is_learnt_from_its_recorded_output(pairs, hand, tmp_path):
    """Forty small steps; then training goes on from the weights, in another folder, and starts where these were."""
    first = steps_of(tmp_path / "r", LEARNING, Sources(recorded=pairs))
    weights = tmp_path / "r" / "some.safetensors"
    before, after = finger_error(weights, hand)
    assert before == pytest.approx(8.2, abs=0.3)
    assert after < 0.6 * before
    assert "val_mje_mm" in first[-1]
    assert load_denoiser(weights)[1]["data"] == ["pairs.npz"]
    fine = replace(LEARNING, steps=1, lr=1e-4, seed=1)
    (line,) = steps_of(tmp_path / "fine", fine, Sources(recorded=pairs, start=weights))
    assert line["rotation"] < 0.6 * first[0]["rotation"]
    tuned = load_denoiser(tmp_path / "fine" / "some.safetensors")[0]
    for a, b in zip(tuned.parameters(), load_denoiser(weights)[0].parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


def test_the_last_pair_is_held_out_and_judges(pairs, hand, tmp_path):
    """Unless it is the only one."""
    gathered = gather(CONFIG, Sources(recorded=pairs), tmp_path, hand, quiet)
    assert gathered.corpora[0].length.tolist() == [64, 64]
    ((estimate, truth),) = gathered.judges
    assert torch.equal(truth.R, waving(64, 2).R)
    assert torch.equal(estimate.R, said(truth, 2).R)
    save_motion(tmp_path / "one.npz", {"a": estimate, "a.truth": truth})
    alone = gather(CONFIG, Sources(recorded=tmp_path / "one.npz"), tmp_path, hand, quiet)
    assert (len(alone.corpora[0].R), len(alone.judges)) == (64, 1)


def test_pairs_stand_beside_captured_motion(pairs, made, hand, tmp_path, monkeypatch):
    """All of them, with their own share; what judges is captured motion as without them."""
    tracks = {"mug1.left": waving(300, 1), "mug3.left": waving(1200, 2)}
    monkeypatch.setattr(runs, "manipnet_tracks", lambda *_: tracks)
    monkeypatch.setattr(runs, "manipnet_states", lambda *_: {"mug1.left": torch.zeros(300).long()})
    gathered = gather(CONFIG, Sources(Path("clone"), pairs), tmp_path, hand, quiet)
    assert gathered.names == ["mug1.left", "pairs.npz", "synthetic"]
    assert gathered.share == pytest.approx([1 - CONFIG.synthetic - CONFIG.recorded, CONFIG.recorded, CONFIG.synthetic])
    assert gathered.corpora[1].length.tolist() == [64, 64, 64]
    assert len(gathered.judges) == 1


def test_weights_of_another_network_are_no_start(made, hand, tmp_path):
    other: TrainState = new_state(replace(CONFIG, model=replace(SMALL, d=16)), hand)
    save_denoiser(tmp_path / "w.safetensors", other.model, {})
    with pytest.raises(InputError, match=r"w\.safetensors are weights of another network; choose the --config"):
        steps_of(tmp_path / "r", sources=Sources(start=tmp_path / "w.safetensors"))
    assert made == []
