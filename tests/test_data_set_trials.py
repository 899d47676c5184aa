"""Table 2 and HO3D's server, on a data set of our own making under HO3D's tree."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from test_readers_ho3d import annotation, write

from handdiff_lib import cli, submit
from handdiff_lib.motion import HandMotion
from handdiff_lib.protocol import OURS
from handdiff_lib.storage import save_motion


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
