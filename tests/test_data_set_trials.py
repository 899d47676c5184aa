"""Table 2, both hands and HO3D's server, on data sets of our own making under HO3D's and ARCTIC's trees."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mano_hands import mano_like
from test_readers_ho3d import annotation, write

from handdiff_lib import cli, data_set_trials, submit
from handdiff_lib.motion import HandMotion
from handdiff_lib.protocol import CLIP, OURS, Clips
from handdiff_lib.storage import save_motion
from handdiff_lib.synth import synthesize


@pytest.fixture
def root(tmp_path, hand, monkeypatch) -> Path:
    """A training sequence of 70 frames and an evaluation sequence of two."""
    monkeypatch.chdir(tmp_path)
    for k in range(70):
        write(tmp_path / "train" / "SM1" / "meta" / f"{k:04d}.pkl", annotation(hand, 1 + k // 20))
    for k in (0, 1):
        write(tmp_path / "evaluation" / "AP10" / "meta" / f"{k:04d}.pkl", {"camMat": torch.eye(3).numpy()})
    (tmp_path / "train.txt").write_text("".join(f"SM1/{k:04d}\n" for k in range(70)))
    (tmp_path / "evaluation.txt").write_text("AP10/0000\nAP10/0001\n")
    return tmp_path


def run(words: str, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["handdiff", *words.split()])
    cli.main()


def test_table2_measures_what_is_there(root, monkeypatch, capsys):
    run("bench table2 --ho3d-root . --quick --threads 1", monkeypatch)
    said = capsys.readouterr().out
    assert "HO3D train, khand-like simulated noise: 1 clips of 64 frames" in said
    assert "published, not measured here: DIP Table 2" in said
    kept = json.loads((root / "outputs/bench/table2.json").read_text())
    assert kept["HO3D train"]["hamer-like"]["rows"][OURS]["sequences"] == ["SM1.right[0:64] 0"]


def test_a_list_whose_files_are_partly_missing(root, monkeypatch, capsys):
    (root / "train" / "SM1" / "meta" / "0003.pkl").unlink()
    with pytest.raises(SystemExit) as ended:
        run("bench table2 --ho3d-root .", monkeypatch)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "SM1/0003" in said
    assert "1 of 70" in said


def test_what_the_server_takes(root, hand, monkeypatch):
    """Two images, in OpenGL's axes: z is negative before the camera."""
    monkeypatch.setitem(submit.EVALUATION_IMAGES, "v2", 2)
    place = torch.tensor([0.0, 0.0, 0.6]).expand(2, 3)
    whole = torch.ones(2, dtype=torch.bool)
    motion = HandMotion(torch.eye(3).repeat(2, 16, 1, 1), torch.zeros(10), place, whole, 30.0, hand=hand.name)
    save_motion(root / "answers.npz", {"AP10": motion})
    run("submit ho3d answers.npz --root . -o pred.zip", monkeypatch)
    with zipfile.ZipFile(root / "pred.zip") as packed:
        joints, vertices = json.loads(packed.read("pred.json"))
    assert torch.tensor(joints).shape == (2, 21, 3)
    assert torch.tensor(vertices).shape == (2, 778, 3)
    assert torch.tensor(vertices)[..., 2].max() < 0


@pytest.fixture
def both_hands(hand, monkeypatch) -> None:
    """A made-up clip of each hand where ManipNet's test takes would be."""
    made = [synthesize(hand, seed, frames=CLIP) for seed in (5, 6)]
    R, betas, state = (torch.stack(x) for x in zip(*((m.motion.R, m.motion.betas, m.state) for m in made), strict=True))
    clips = Clips(("take.left[0:128]", "take.right[0:128]"), R, betas, state)
    monkeypatch.setattr(data_set_trials, "held_out", lambda *_: clips)


def test_both_hands_stand_apart_on_arctic_too(both_hands, hand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = mano_like(hand)
    monkeypatch.setattr(data_set_trials, "load_hand", lambda path=None: hand if path is None else own)
    random = np.random.default_rng(0)
    pose = {"rot": (CLIP, 3), "pose": (CLIP, 45), "trans": (CLIP, 3), "shape": 10}
    hands = {side: {k: 0.1 * random.normal(size=size) for k, size in pose.items()} for side in ("left", "right")}
    for subject in ("s04", "s05"):  # whose sequences have the same names
        folder = tmp_path / "arctic" / "raw_seqs" / subject
        folder.mkdir(parents=True)
        np.save(folder / "box_use_01.mano.npy", hands)
        np.save(folder / "box_use_01.object.npy", np.zeros((CLIP, 7)))
    run("bench bimanual --data . --arctic-root arctic --hand m.npz --quick --threads 1", monkeypatch)
    kept = json.loads((tmp_path / "outputs/bench/bimanual.json").read_text())
    for side in ("left", "right"):
        assert kept[f"ManipNet cup1 + teapot3, {side}, hamer-like"]["rows"][OURS]["sequences"] == [
            f"take.{side}[0:128] 0"
        ]
        sequences = kept[f"ARCTIC, {side}, khand-like"]["rows"][OURS]["sequences"]
        assert sequences == [f"{subject}/box_use_01.{side}[0:128]" for subject in ("s04", "s05")]


def test_an_arctic_folder_without_sequences(both_hands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run("bench bimanual --data . --arctic-root .", monkeypatch)
    assert ended.value.code == 2
    assert "no raw_seqs/SUBJECT/SEQUENCE.mano.npy; get ARCTIC, from" in capsys.readouterr().err
