"""The commands: what they write, and that bad input ends with one line, exit code 2 and nothing written."""

import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from handdiff_lib import cli, rotation
from handdiff_lib import run as runs
from handdiff_lib.checkpoint import load_denoiser, save_denoiser
from handdiff_lib.corpus import Labelled, make_corpus
from handdiff_lib.data import DrawConfig
from handdiff_lib.denoiser import Denoiser, DenoiserConfig
from handdiff_lib.losses import loss_terms
from handdiff_lib.motion import HandMotion
from handdiff_lib.perturb import NoiseConfig, simulated_estimate
from handdiff_lib.pyramid import Pyramid, build_pyramid
from handdiff_lib.storage import load_motion, read_npz, save_motion
from handdiff_lib.train import TrainConfig, learning_rate

SMALL = DenoiserConfig(channels=(4, 4, 4, 4), d=32, layers=1, heads=2, feedforward=32)


def waving(frames: int, seed: int = 0) -> HandMotion:
    """A hand whose joints swing at random, slowly."""
    chance = torch.Generator().manual_seed(seed)
    size, phase = (torch.randn(16, 3, generator=chance) for _ in range(2))
    turn = 0.3 * size * torch.sin(torch.arange(frames)[:, None, None] / 15 + 3 * phase)
    return HandMotion(
        R=rotation.exp(turn), betas=torch.randn(10, generator=chance), transl=torch.zeros(frames, 3),
        valid=torch.ones(frames, dtype=torch.bool), fps=30.0, hand="open",
    )  # fmt: skip


@pytest.fixture(scope="module")
def pyramid(hand) -> Pyramid:
    return build_pyramid(hand.v_template, hand.faces)


@pytest.fixture(scope="module")
def weights(pyramid, tmp_path_factory) -> Path:
    """An untrained model on disk."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_denoiser(path, Denoiser(SMALL, pyramid), {"N": 4, "name": "test"})
    return path


@pytest.fixture(scope="module")
def motion(hand) -> HandMotion:
    """Twelve noisy frames, two of them missing."""
    noisy = simulated_estimate(waving(12), hand, NoiseConfig.khand_like(), seed=0)
    return replace(noisy, valid=(torch.arange(12) != 4) & (torch.arange(12) != 5), confidence=None)


@pytest.fixture
def folder(weights, monkeypatch, tmp_path) -> Path:
    """An empty working folder, and a small model in place of the one that ships."""
    monkeypatch.setattr("handdiff_lib.checkpoint.DEFAULT_WEIGHTS", weights)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(monkeypatch) -> Callable[[str], None]:
    """Run `handdiff` with these words."""

    def go(words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["handdiff", *words.split()])
        cli.main()

    return go


@pytest.fixture
def refused(run, folder, capsys) -> Callable[[str], str]:
    """Run a command that must end with exit code 2 and one line; that line, once nothing has changed on disk."""

    def contents() -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def go(words: str) -> str:
        before = contents()
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run(words)
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert said.startswith("handdiff: ")
        assert said.count("\n") == 1
        assert said.endswith("\n")
        assert "Traceback" not in said
        assert contents() == before, "nothing was written, changed or left behind"
        return said.removeprefix("handdiff: ").rstrip("\n")

    return go


class Payload:
    """Makes a file when a pickle that holds it is loaded."""

    def __reduce__(self):
        return open, ("ran", "w")


# What refine writes


def test_refine_writes_the_tracks_and_the_estimates(run, folder, motion, capsys):
    save_motion("in.npz", {"left": replace(motion, side="left"), "right": motion})
    run("refine in.npz -o out.npz")
    out = load_motion("out.npz")
    assert set(out) == {"left", "left.before", "right", "right.before"}
    assert torch.equal(out["right.before"].R, motion.R)
    assert torch.equal(out["right.before"].valid, motion.valid)
    assert out["right"].valid.all()
    assert out["left"].side == "left"
    said = capsys.readouterr().out
    assert "2 missing, 2 filled" in said
    assert "handdiff view out.npz -o out.html" in said
    assert sorted(p.name for p in folder.iterdir()) == ["in.npz", "out.npz"]


def test_one_frame_is_enough(run, folder, motion):
    save_motion("in.npz", {"right": motion[:1]})
    run("refine in.npz -o out.npz")
    assert len(load_motion("out.npz")["right"]) == 1


def test_parameters_of_an_estimator(run, folder, motion, capsys):
    """Frame rate and side come from the command line where the file has none."""
    rotvec = rotation.log(motion.R)
    np.savez("hamer.npz", global_orient=rotvec[:, 0], hand_pose=rotvec[:, 1:].flatten(1), betas=motion.betas)
    run("refine hamer.npz -o out.npz --fps 25 --side left --rule posterior --stride 2 --seed 3")
    out = load_motion("out.npz")["left"]
    assert (out.fps, out.side, len(out)) == (25.0, "left", 12)
    torch.testing.assert_close(out.R, motion.R, atol=1e-4, rtol=0, msg="an untrained model leaves the estimate")


def test_an_empty_track_beside_a_good_one_is_left_out(run, folder, motion, capsys):
    save_motion(
        "in.npz", {"left": replace(motion, side="left", valid=torch.zeros(12, dtype=torch.bool)), "right": motion}
    )
    run("refine in.npz -o out.npz")
    assert set(load_motion("out.npz")) == {"right", "right.before"}
    assert "no hand in any frame: left out" in capsys.readouterr().out


def test_presets_samples_and_strength(run, folder, motion, pyramid):
    """Strength 0 is the estimate with its gaps filled, 0.5 half way to the answer; each option changes something."""
    torch.manual_seed(0)
    model = Denoiser(SMALL, pyramid)
    torch.nn.init.normal_(model.pose_head[-1].weight, std=0.1)  # untrained it leaves all as it is
    save_denoiser(Path("w.safetensors"), model, {"N": 4})
    save_motion("in.npz", {"right": motion})

    def refined(words: str) -> HandMotion:
        run(f"refine in.npz -o out.npz --force --weights w.safetensors {words}")
        return load_motion("out.npz")["right"]

    answer, none, half = (refined(f"--preset paper --strength {s}") for s in ("1", "0", "0.5"))
    assert torch.allclose(none.R[motion.valid], motion.R[motion.valid], atol=1e-5)
    far, near = (rotation.angle_between(m.R, none.R) for m in (answer, half))
    torch.testing.assert_close(near, far / 2, atol=1e-3, rtol=0)
    assert far.max() > 0.05
    for words in ("", "--preset official-demo", "--preset paper --samples 2", "--preset paper --seed 1"):
        assert not torch.allclose(refined(words).R, answer.R, atol=1e-4), words


def test_side_picks_a_track(run, folder, motion):
    save_motion("in.npz", {"left": replace(motion, side="left"), "right": motion})
    run("refine in.npz -o out.npz --side left")
    assert set(load_motion("out.npz")) == {"left", "left.before"}


def test_other_weights(run, folder, motion, weights, monkeypatch):
    monkeypatch.setattr("handdiff_lib.checkpoint.DEFAULT_WEIGHTS", folder / "none.safetensors")
    save_motion("in.npz", {"right": motion})
    run(f"refine in.npz -o out.npz --weights {weights}")
    assert Path("out.npz").is_file()


def test_an_existing_output_is_replaced_by_force_alone(run, refused, folder, motion):
    save_motion("in.npz", {"right": motion})
    Path("out.npz").write_bytes(b"mine")
    assert "out.npz exists; add --force" in refused("refine in.npz -o out.npz")
    run("refine in.npz -o out.npz --force")
    assert len(load_motion("out.npz")["right"]) == 12


# Bad input


def changed(motion: HandMotion, key: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write in.npz with one array changed."""
    save_motion("good.npz", {"right": motion})
    arrays = read_npz("good.npz")
    Path("good.npz").unlink()
    np.savez("in.npz", **arrays | {key: change(arrays[key])})


def parameters(motion: HandMotion, **other: np.ndarray) -> None:
    """Write in.npz as an estimator's parameters, some of them replaced."""
    rotvec = rotation.log(motion.R).numpy()
    good = {"global_orient": rotvec[:, 0], "hand_pose": rotvec[:, 1:].reshape(12, 45), "betas": motion.betas.numpy()}
    np.savez("in.npz", **good | other)


def cut(motion: HandMotion) -> None:
    """Write half of in.npz."""
    save_motion("in.npz", {"right": motion})
    raw = Path("in.npz").read_bytes()
    Path("in.npz").write_bytes(raw[: len(raw) // 2])


NOT_A_NUMBER = np.where(np.arange(12)[:, None] == 3, np.nan, 0.0) + np.zeros(45)
BAD = {  # what makes the input, and a part of the line
    "empty clip": (lambda m: parameters(m, hand_pose=np.zeros((0, 45)), global_orient=np.zeros((0, 3))), "no frames"),
    "NaN": (lambda m: parameters(m, hand_pose=NOT_A_NUMBER), "hand_pose"),
    "inf": (lambda m: changed(m, "right/transl", lambda x: x + np.inf), "transl expected finite numbers"),
    "NaN in betas": (lambda m: changed(m, "right/betas", lambda x: x * np.nan), "betas expected finite numbers"),
    "wrong shape": (lambda m: changed(m, "right/R", lambda x: x[:, :15]), "R expected shape (12, 16, 3, 3)"),
    "wrong parameters": (lambda m: parameters(m, hand_pose=np.zeros((12, 44))), "hand_pose"),
    "wrong keypoints": (lambda m: np.savez("in.npz", keypoints=np.zeros((12, 20, 3))), "in.npz"),
    "no rotations": (lambda m: changed(m, "right/R", lambda x: 1.1 * x), "expected rotation matrices"),
    "no rotations, parameters": (
        lambda m: parameters(m, hand_pose=2 * np.ones((12, 15, 3, 3)), global_orient=np.zeros((12, 3, 3))),
        "in.npz",
    ),
    "unknown side": (lambda m: changed(m, "right/side", lambda x: np.array("both")), "side expected right or left"),
    "unknown layout": (lambda m: np.savez("in.npz", some=np.zeros(3)), "layout not known"),
    "newer schema": (lambda m: changed(m, "schema", lambda x: np.array("handmotion/9")), "newer handdiff"),
    "objects": (lambda m: np.savez("in.npz", R=np.array([Payload()], dtype=object)), "never loaded"),
    "truncated": (cut, "copy it again"),
    "no bytes": (lambda m: Path("in.npz").write_bytes(b""), "copy it again"),
    "text": (lambda m: Path("in.npz").write_text("frame,x,y,z\n1,2,3,4\n"), "in.npz"),
    "all frames missing": (
        lambda m: save_motion("in.npz", {"right": replace(m, valid=torch.zeros(12, dtype=torch.bool))}),
        "no track has a valid frame",
    ),
    "refined before": (lambda m: save_motion("in.npz", {"right.before": m}), "give the original file"),
    "a folder": (lambda m: Path("in.npz").mkdir(), "and of no other data set; give a file"),
    "missing": (lambda m: None, "in.npz not found"),
}


@pytest.mark.parametrize(("write", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_named(refused, folder, motion, write, message):
    """Also with --force and an existing output, which is then left as it was."""
    write(motion)
    assert message in refused("refine in.npz -o out.npz")
    Path("out.npz").write_bytes(b"mine")
    assert message in refused("refine in.npz -o out.npz --force")
    assert not Path("ran").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_an_unknown_suffix_is_named(refused, folder, exists):
    if exists:
        Path("in.txt").write_text("hello")
    assert ("files ending in .txt are not read" if exists else "in.txt not found") in refused("refine in.txt -o o.npz")


@pytest.mark.parametrize("where", ["the file", "a list", "an array"])
def test_a_pickle_of_foreign_classes_is_never_run(refused, folder, where):
    content = {"the file": Payload(), "a list": [{"R": Payload()}], "an array": np.array([Payload()], dtype=object)}
    Path("in.pkl").write_bytes(pickle.dumps(content[where]))
    assert "in.pkl" in refused("refine in.pkl -o out.npz")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-o nowhere/out.npz", "output folder nowhere does not exist; make it first: mkdir -p nowhere"),
        ("-o out.html", "its name must end in .npz"),
        ("-o out", "its name must end in .npz"),
        ("-o out.npz --fps 25", "states 30 fps, not 25"),
        ("-o out.npz --side left", "no left hand; the file has right"),
        ("-o out.npz --stride 0", "stride must be from 1 to 16"),
        ("-o out.npz --stride 17", "stride must be from 1 to 16"),
        ("-o out.npz --samples 0", "samples must be 1 or more, found 0"),
        ("-o out.npz --strength 1.5", "strength must be from 0 (the input) to 1 (the answer), found 1.5"),
        ("-o out.npz --preset official-demo --stride 2", "only with stride 1, found stride 2"),
        ("-o out.npz --weights none.safetensors", "none.safetensors with their card none.json not found"),
        ("-o out.npz --weights in.npz", "in.npz with their card in.json not found"),
    ],
)
def test_bad_options_are_named(refused, folder, motion, words, message):
    save_motion("in.npz", {"right": motion})
    assert message in refused(f"refine in.npz {words}")


def test_bad_input_of_a_real_process(folder):
    """No traceback, one line, exit code 2."""
    code = "from handdiff_lib.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "refine", "no.npz", "-o", "out.html"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "handdiff: output out.html: its name must end in .npz\n"
    assert done.stdout == ""


# The other commands


def test_view_writes_a_page_that_needs_no_network(run, folder, motion, capsys):
    save_motion("in.npz", {"right": motion})
    run("refine in.npz -o out.npz")
    run("view out.npz -o out.html")
    page = Path("out.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "right" in page
    assert 'src="http' not in page
    assert "wrote out.html" in capsys.readouterr().out


def test_view_takes_an_imported_hand(run, folder, motion, hand):
    save_motion("out.npz", {"right": motion, "right.before": motion})
    np.savez("mine.npz", **{name: getattr(hand, name) for name in ("v_template", "shapedirs", "posedirs", "weights")},
             J_regressor=hand.J_regressor, f=hand.faces, hands_mean=hand.hands_mean,
             hands_components=hand.hands_components)  # fmt: skip
    run("view out.npz -o out.html --hand mine.npz")
    assert Path("out.html").stat().st_size > 1e5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "in.npz -o out.html",
            "in.npz: no refined track with its estimate; make one with: handdiff refine IN -o in.npz",
        ),
        ("none.npz -o out.html", "none.npz not found"),
        ("in.npz -o out.npz", "its name must end in .html"),
        ("in.npz -o page.html", "page.html exists; add --force"),
        ("both.npz -o out.html --hand none.npz", "hand file none.npz not found"),
        ("both.npz -o out.html --hand page.html", "page.html is not a hand .npz; make one with: handdiff hand import"),
        ("both.npz -o out.html --hand in.npz", "key 'v_template' is missing"),
    ],
)
def test_view_names_what_is_wrong(refused, folder, motion, words, message):
    save_motion("in.npz", {"right": motion})
    save_motion("both.npz", {"right": motion, "right.before": motion})
    Path("page.html").write_text("mine")
    assert message in refused(f"view {words}")


def test_a_hostile_hand_is_refused_and_never_run(refused, folder):
    Path("MANO_RIGHT.pkl").write_bytes(pickle.dumps({"v_template": Payload()}))
    assert "refused, nothing was run" in refused("hand import MANO_RIGHT.pkl")
    assert not Path("ran").exists()
    assert "MANO_LEFT.pkl not found" in refused("hand import MANO_LEFT.pkl -o hand.npz")


def test_a_hand_is_imported(run, folder, hand, capsys):
    """Arrays under MANO's keys, pickled the plain way."""
    names = ("v_template", "shapedirs", "posedirs", "weights", "J_regressor", "hands_mean", "hands_components")
    arrays = {name: getattr(hand, name).numpy().astype(np.float64) for name in names} | {"f": hand.faces.numpy()}
    Path("MANO_RIGHT.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    run("hand import MANO_RIGHT.pkl -o hand.npz")
    np.testing.assert_allclose(read_npz("hand.npz")["v_template"], hand.v_template, atol=1e-6)
    assert "--hand hand.npz" in capsys.readouterr().out


# Training


@pytest.fixture
def training(folder, pyramid, monkeypatch) -> TrainConfig:
    """Training in a folder that takes no time: a small network and short clips, a checkpoint every second step."""
    corpus = make_corpus([Labelled(waving(80), torch.arange(80) // 20)])
    monkeypatch.setattr(runs, "synthetic_corpus", lambda *_: corpus)
    monkeypatch.setattr(runs, "synthesize", lambda _, seed, frames: SimpleNamespace(motion=waving(16, seed)))
    monkeypatch.setattr(runs, "SAVE_EVERY", 2)
    monkeypatch.setattr("handdiff_lib.denoiser.build_pyramid", lambda *_: pyramid)
    small = TrainConfig(model=SMALL, draw=DrawConfig(clip=32), batch=2, warmup=1, steps=9)
    monkeypatch.setattr(TrainConfig, "tiny", classmethod(lambda _: small))
    return small


def steps() -> list[int]:
    """What the log tells."""
    return [json.loads(line)["step"] for line in Path("made/tiny/log.jsonl").read_text().splitlines()]


TRAIN = "train -o made --threads 1 --precision float32"


def test_train_writes_weights_and_goes_on_where_it_stopped(run, refused, training, capsys):
    run(f"{TRAIN} --steps 1")
    run(f"{TRAIN} --steps 2")
    assert steps() == [1, 2]
    assert "to use it: handdiff refine" in capsys.readouterr().out
    _, card = load_denoiser(Path("made/tiny/tiny.safetensors"))
    assert (card["N"], card["data"]) == (4, ["synthetic"])
    assert card["license"].startswith("Apache-2.0")
    assert "Learning curves" in Path("made/tiny/curves.html").read_text()
    assert "was trained with another batch; choose another --output" in refused(f"{TRAIN} --steps 3 --batch 3")
    save_motion("in.npz", {"right": waving(12)})
    run("refine in.npz -o out.npz --weights made/tiny/tiny.safetensors")


def test_a_row_of_table_3_is_a_run_of_its_own(run, training):
    run(f"{TRAIN} --steps 1 --row deterministic")
    _, card = load_denoiser(Path("made/tiny-deterministic/tiny-deterministic.safetensors"))
    assert card["N"] == 0


def test_recorded_pairs_and_weights_to_start_from(run, training, weights):
    save_motion("pairs.npz", {"a": waving(40, 1), "a.truth": waving(40)})
    run(f"{TRAIN} --steps 1 --y pairs.npz --start {weights}")
    _, card = load_denoiser(Path("made/tiny/tiny.safetensors"))
    assert card["data"] == ["pairs.npz"]


@pytest.fixture
def listening():
    """Ctrl-C is heard: a job in the background does not listen."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_ctrl_c_is_calm_and_the_run_goes_on(run, training, monkeypatch, capsys):
    """Pressed in the third step, which is forgotten: exit code 130 and one line."""

    def pressed(cfg: TrainConfig, step: int) -> float:
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return learning_rate(cfg, step)

    with monkeypatch.context() as patch:
        patch.setattr("handdiff_lib.train.learning_rate", pressed)
        with pytest.raises(SystemExit) as ended:
            run(f"{TRAIN} --steps 4")
    said = capsys.readouterr()
    assert ended.value.code == 130
    last = said.out.splitlines()[-1]
    assert last == "stopped; everything up to here is in made/tiny: the same command goes on from it"
    assert "Traceback" not in said.err
    assert steps() == [1, 2]
    run(f"{TRAIN} --steps 4")
    assert steps() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data nowhere", "take 'cube_med2' not found in nowhere"),
        ("--y none.npz", "none.npz not found"),
        ("--y alone.npz", "alone.npz: no pair of tracks NAME and NAME.truth; it holds a"),
        ("--y short.npz", "no track has 32 frames without a gap, the length of a training clip"),
        ("--y missing.npz", "no track with a valid frame: nothing to learn from"),
        ("--start none.safetensors", "none.safetensors with their card none.json not found"),
        ("--start wide.safetensors", "weights of another network; choose the --config they came from"),
        ("--steps 0", "--steps must be 1 or more, found 0"),
        ("--batch 0", "--batch must be 1 or more, found 0"),
    ],
)
def test_training_on_nothing_is_refused(refused, training, pyramid, words, message):
    short, none = waving(20), replace(waving(40), valid=torch.zeros(40, dtype=torch.bool))
    save_motion("alone.npz", {"a": short})
    save_motion("short.npz", {"a": short, "a.truth": short})
    save_motion("missing.npz", {"a": none, "a.truth": none})
    save_denoiser(Path("wide.safetensors"), Denoiser(replace(SMALL, d=16), pyramid), {})
    log = Path("made/tiny/log.jsonl")
    log.parent.mkdir(parents=True)
    log.touch()
    assert message in refused(f"{TRAIN} {words}")


def test_a_loss_that_breaks_is_one_line(run, training, capsys, monkeypatch):
    monkeypatch.setattr(
        "handdiff_lib.train.loss_terms", lambda *words: loss_terms(*words) | {"joints": torch.tensor(float("inf"))}
    )
    with pytest.raises(SystemExit) as ended:
        run(f"{TRAIN} --steps 1")
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("handdiff: the loss is not finite at step 0 (joints)")
    assert said.count("\n") == 1


def test_demo_compares_with_the_truth(run, folder, hand, motion, monkeypatch, capsys):
    (folder / "clips").mkdir()
    save_motion(folder / "clips" / "demo.npz", {"right": motion, "right.truth": waving(12)})
    monkeypatch.setattr(cli, "DATA", folder)
    run("demo -o made")
    said = capsys.readouterr().out
    assert all(word in said for word in ("input", "Gaussian", "handdiff", "MJE mm", "ACCL"))
    assert Path("made/report.html").read_text().startswith("<!doctype html>")


def test_bench_with_options_alone_means_all(run, monkeypatch):
    """`handdiff bench --quick --data ...`; a named table stays itself."""
    asked = []

    def fake(what: str) -> Callable[..., None]:
        def command(data: Path, quick: bool = False) -> None:
            asked.append((what, data, quick))

        return command

    monkeypatch.setitem(cli.GROUPS, "bench", {what: fake(what) for what in ("all", "table1")})
    run("bench --quick --data here")
    run("bench table1 --data here")
    assert asked == [("all", Path("here"), True), ("table1", Path("here"), False)]


def test_help_names_every_command(run, capsys):
    with pytest.raises(SystemExit) as ended:
        run("--help")
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(name in said for name in (*cli.COMMANDS, *cli.GROUPS))
