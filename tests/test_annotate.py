"""`handdiff annotate`: the states of a captured take, from its files to a file."""

import sys

import pytest
import torch

from handdiff_lib import cli
from handdiff_lib.contact import load_object
from handdiff_lib.motion import MotionError
from handdiff_lib.readers.manipnet import METRES
from handdiff_lib.storage import load_motion
from handdiff_lib.topology import GRASP, MANIPULATE

TAKES = "manipnet/Data/SimpleVisualizer/Assets/BVH"


@pytest.mark.recording
def test_a_take_gets_states_for_both_hands(recordings, tmp_path, monkeypatch, capsys):
    """Surfaces that are said to be off by 1 mm touch at 3 mm instead of 5, so fewer frames are in contact."""
    held = []
    for said in ([], ["--label-noise", "1"]):
        out = tmp_path / f"mug1{len(said)}.npz"
        command = ["handdiff", "annotate", str(recordings / TAKES / "mug1"), "-o", str(out), "--fps", "15", *said]
        monkeypatch.setattr(sys, "argv", command)
        cli.main()
        tracks = load_motion(out)
        assert set(tracks) == {"left", "right"}
        for motion in tracks.values():
            total = motion.state_prob.sum(-1)
            assert set(total.tolist()) == {0.0, 1.0}, "one state a frame, or none in free motion"
        held.append(tracks["right"].state_prob[:, [GRASP, MANIPULATE]].sum())
        assert "stable grasp" in capsys.readouterr().out
        if not said:
            shares = tracks["right"].state_prob.mean(0)
            assert (shares > 0.01).all(), "the right hand reaches, holds, manipulates and releases the mug"
    assert held[1] < held[0]


@pytest.mark.parametrize("noise", ["-1", "nan", "200"])
def test_noise_that_is_no_length_of_a_hand_is_refused(noise, tmp_path, monkeypatch, capsys):
    command = ["handdiff", "annotate", str(tmp_path), "-o", str(tmp_path / "out.npz"), "--label-noise", noise]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "--label-noise is in millimetres" in capsys.readouterr().err


@pytest.mark.recording
def test_a_take_without_a_mesh_is_refused(recordings, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.npz"
    monkeypatch.setattr(sys, "argv", ["handdiff", "annotate", str(recordings / TAKES / "teapot3"), "-o", str(out)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "no mesh of this thing was found" in capsys.readouterr().err
    assert not out.exists()


def test_a_mesh_file_becomes_a_thing_in_metres(tmp_path):
    path = tmp_path / "triangle.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    thing = load_object(path, METRES, torch.eye(4)[None])
    assert thing.vertices.max().item() == pytest.approx(0.1)
    assert thing.distance(torch.tensor([[[0.02, 0.02, 0.05]]])).item() == pytest.approx(0.05, abs=1e-6)


def test_a_file_that_is_no_mesh_is_named(tmp_path):
    path = tmp_path / "thing.ply"
    path.write_text("not a mesh")
    with pytest.raises(MotionError, match=r"thing\.ply is not a readable mesh"):
        load_object(path, 1.0, torch.eye(4)[None])
