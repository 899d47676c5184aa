"""The benchmark's commands on made-up clips: tables, files, and what is left out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from handdiff_lib import all_trials, contestants, speed_trials, training_trials, trials, twin_trials
from handdiff_lib.baselines import GRIDS
from handdiff_lib.bench import RefiningTime, TrainingSpeed
from handdiff_lib.checkpoint import DEFAULT_WEIGHTS
from handdiff_lib.contestants import SHOWN, learned, ours
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.layers import LayerTime
from handdiff_lib.protocol import OURS, Clips
from handdiff_lib.rival_runs import save_rival
from handdiff_lib.rivals import RivalConfig, make_rival
from handdiff_lib.synth import synthesize
from handdiff_lib.train import TrainConfig, TrainState, new_state
from handdiff_lib.twin_trials import contender


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory; made-up clips where ManipNet's would be, and a few settings of two filters."""
    monkeypatch.chdir(tmp_path)
    few = {name: GRIDS[name][:2] for name in ("gaussian", "one_euro")}
    monkeypatch.setattr(contestants, "GRIDS", few)
    return tmp_path


@pytest.fixture
def clips(hand, monkeypatch) -> Clips:
    made = [synthesize(hand, seed, frames=32) for seed in (5, 6)]
    names = ("take.left[0:32]", "take.right[0:32]")
    R, betas, state = (torch.stack(x) for x in zip(*((m.motion.R, m.motion.betas, m.state) for m in made), strict=True))
    clips = Clips(names, R, betas, state)
    monkeypatch.setattr(trials.benchmarks, "manipnet_clips", lambda *_, **__: clips)
    return clips


def test_table1_tells_who_refines_best(folder, clips, capsys):
    trials.bench_table1(Path("none"), draws=1, threads=1)
    said = capsys.readouterr().out
    for word in (
        "hamer-like",
        "khand-like",
        "simulated noise",
        OURS,
        "Gaussian",
        "One-Euro",
        "published, not measured",
    ):
        assert word in said
    kept = json.loads((folder / "outputs/bench/table1.json").read_text())
    assert set(kept) >= {"command", "commit", "seed", "data_sha256", "tuned, hamer-like"}
    rows = kept["ManipNet cup1 + teapot3, khand-like"]["rows"]
    assert set(rows) == {"input", "gaussian", "gaussian_p", "Gaussian", "One-Euro", OURS, "bound"}
    assert rows["bound"]["scores"]["mje_mm"]["mean"] < rows["input"]["scores"]["mje_mm"]["mean"]
    assert kept["ManipNet cup1 + teapot3, clean"]["moved_mm"] >= 0
    assert len(kept["tuned, hamer-like"]["One-Euro"]["tried"]) == 2


def test_a_quick_run_tunes_nothing(folder, clips, monkeypatch):
    """Filters keep the settings of the results that ship, which are of the tuning grids."""
    monkeypatch.setattr(contestants, "GRIDS", GRIDS)
    monkeypatch.setattr(contestants, "tune", lambda *_: pytest.fail("tuned"))
    trials.bench_table1(Path("none"), quick=True, threads=1)
    kept = json.loads((folder / "outputs/bench/table1.json").read_text())
    names = [SHOWN[name] for name in GRIDS if name != "identity"]
    assert set(names) < set(kept["ManipNet cup1 + teapot3, khand-like"]["rows"])
    assert kept["tuned, khand-like"] == "as in the results that ship"
    for profile in trials.PROFILES:
        shipped = contestants.filters_as_shipped(profile)
        assert list(shipped) == names
        assert all(one in GRIDS[name] for name, one in zip(list(GRIDS)[1:], shipped.values(), strict=True))


def test_learned_baselines_are_found_in_a_folder(hand, clips, tmp_path):
    """By their names in tables, with the steps they had; an untrained transformer leaves the estimate as it is."""
    assert learned(tmp_path / "none", hand) == {}
    small = replace(RivalConfig.usual("transformer"), window=16, d=16, layers=1, heads=2, feedforward=16)
    save_rival(tmp_path / "transformer.safetensors", make_rival(small, hand), {"steps": 7})
    found = learned(tmp_path, hand)
    assert list(found) == [f"{SHOWN['transformer']}, 7 steps"]
    save_rival(tmp_path / "more.safetensors", make_rival(small, hand), {"steps": 7, "data": ["mug1.left", "p.npz"]})
    assert f"{SHOWN['transformer']}, 7 steps, also on pairs" in learned(tmp_path, hand)
    motion = synthesize(hand, 5, frames=32).motion
    (answer,) = (method(motion) for method in found.values())
    torch.testing.assert_close(answer.R, motion.R, atol=1e-4, rtol=0)


def test_two_models_of_one_name_are_refused(hand):
    with pytest.raises(InputError, match="there is another"):
        ours(None, [DEFAULT_WEIGHTS, DEFAULT_WEIGHTS], hand)


def test_table3_trains_every_row(folder, clips, monkeypatch, capsys):
    """Runs are short-circuited to untrained weights: what is looked at is the table, and whose last step it asks."""
    asked = []

    def untrained(path: Path, cfg: TrainConfig, hand: HandModel) -> TrainState:
        asked.append((path.parent.name, path.name, cfg.N))
        return new_state(cfg, hand)

    monkeypatch.setattr(training_trials, "training_run", lambda *_: iter(()))
    monkeypatch.setattr(training_trials, "load_state", untrained)
    training_trials.bench_table3(Path("none"), quick=True)
    assert asked[:2] == [("deterministic-0", "checkpoint.safetensors", 0), ("diffusion-0", "checkpoint.safetensors", 4)]
    kept = json.loads((folder / "outputs/bench/table3.json").read_text())
    assert list(kept["rows"]) == ["deterministic", "diffusion", "state", "kinetics", "stability"]
    assert kept["steps"] == 5
    assert "published, not measured here: DIP Table 3" in capsys.readouterr().out


def test_speed_is_told_as_ratios(folder, monkeypatch, capsys):
    """A tenth of a peak of 2 TFLOP/s; half as long as ours."""
    times = [RefiningTime("recommended", 100, 0.5, 6.7, int(1e11)), RefiningTime("gaussian", 100, 0.25, 13.3, 0)]
    monkeypatch.setattr(speed_trials.benchmarks, "refining_times", lambda *_: iter(times))
    monkeypatch.setattr(speed_trials.benchmarks, "training_speed", lambda *_: TrainingSpeed(windows=40.0, flops=2e11))
    monkeypatch.setattr(speed_trials, "matrix_rate", lambda *_: 2e12)
    layers = [LayerTime("handdiff", 1, "vertices", 2.0, 1.0, 0.0), LayerTime("smplx", 1, "vertices", 3.0, 1.5, 0.0)]
    monkeypatch.setattr(speed_trials, "layer_times", lambda *_: iter(layers))
    scored = []
    monkeypatch.setattr(speed_trials, "frame_scores", lambda *given: scored.append(len(given[1])))
    speed_trials.bench_speed(threads=1)
    said = capsys.readouterr().out
    assert "10.0%" in said
    assert "0.500" in said
    assert "s for 100,000" in said
    assert scored == [1280] * 17, "one to warm up, then 20,480 frames"
    assert "1.50 (3.00)" in said
    assert "40.0 windows of 16 frames a second,  10.0% of the peak" in said
    kept = json.loads((folder / "outputs/bench/speed.json").read_text())
    assert [row["name"] for row in kept["refining"]] == ["recommended", "gaussian"]


@pytest.mark.parametrize("quick", [True, False])
def test_all_is_every_table(quick, monkeypatch):
    """Quick runs train nothing."""
    ran = []
    for name in ("table1", "table2", "table3", "occlusion", "bimanual", "speed"):
        monkeypatch.setattr(all_trials, f"bench_{name}", lambda *_, name=name, **__: ran.append(name))
    all_trials.bench_all(Path("none"), quick=quick)
    assert ran == ["table1", "table2", *([] if quick else ["table3"]), "occlusion", "bimanual", "speed"]


def test_twins_differ_in_their_samples_alone(folder, clips, hand, monkeypatch):
    """The same weights twice: their means are equal, and what is asked within the gap is no easier than elsewhere."""
    monkeypatch.setattr(twin_trials, "GAP", 8)
    monkeypatch.setattr(twin_trials, "contender", lambda *_: contender(DEFAULT_WEIGHTS, hand))
    twin_trials.bench_twin(Path("none"), samples=2, threads=1)
    kept = json.loads((folder / "outputs/bench/twin.json").read_text())["khand-like"]
    assert set(kept) == {
        f"{name}, {way}" for name in ("diffusion", "deterministic") for way in ("chain", "doubt", "gap")
    }
    for way in ("chain", "doubt", "gap"):
        assert kept[f"diffusion, {way}"] == kept[f"deterministic, {way}"]
    chain, doubt = kept["diffusion, chain"], kept["diffusion, doubt"]
    assert chain["mje_mm"] == doubt["mje_mm"], "samples do not change the answer"
    assert doubt["range_coverage"]["mean"] > chain["range_coverage"]["mean"], "wider than the chain"


def test_hiding_takes_away_the_middle(hand):
    motion = synthesize(hand, 5, frames=64).motion
    motion = replace(motion, valid=torch.ones(64, dtype=torch.bool))
    gone = ~twin_trials.hide(motion).valid
    assert gone.nonzero()[:, 0].tolist() == list(range(16, 48))
