"""Files for the servers and evaluators of others: read back as they read them, and scores by hand."""

import json
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from handdiff_lib import submit
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.submit import dexycb_scores, in_list_order, write_dexycb, write_ho3d
from handdiff_lib.topology import OPENPOSE

N = 3


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Three hands half a metre in front of the camera, and a version of HO3D with three images."""
    monkeypatch.setitem(submit.EVALUATION_IMAGES, "v2", N)
    random = torch.Generator().manual_seed(0)
    place = torch.tensor([0.0, 0.0, 0.5])
    return {
        "joints": 0.1 * torch.randn(N, 21, 3, generator=random) + place,
        "vertices": 0.1 * torch.randn(N, 778, 3, generator=random) + place,
    }


@pytest.mark.parametrize("ending", ["json", "zip"])
def test_ho3d_reads_what_was_written(tmp_path: Path, hands: dict, ending: str) -> None:
    path = tmp_path / f"pred.{ending}"
    write_ho3d(path, **hands, version="v2")
    text = path.read_text() if ending == "json" else zipfile.ZipFile(path).read("pred.json")
    xyz, verts = (np.array(part) for part in json.loads(text))
    assert (xyz.shape, verts.shape) == ((N, 21, 3), (N, 778, 3))
    in_opencv = torch.tensor(xyz * [1, -1, -1])[:, list(OPENPOSE)]
    torch.testing.assert_close(in_opencv.float(), hands["joints"], atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.tensor(verts * [1, -1, -1]).float(), hands["vertices"], atol=1e-6, rtol=0)
    assert xyz[..., 2].max() < 0, "OpenGL looks along -z"
    if ending == "zip":
        assert zipfile.ZipFile(path).namelist() == ["pred.json"]


def test_ho3d_puts_tips_last(tmp_path: Path, hands: dict) -> None:
    """MANO's order: wrist, index 1-3, middle, little, ring, thumb, then the tips from thumb to little."""
    joints = hands["joints"].clone()
    joints[..., 0] = torch.arange(21.0)
    write_ho3d(tmp_path / "pred.json", joints, hands["vertices"], "v2")
    x = [point[0] for point in json.loads((tmp_path / "pred.json").read_text())[0][0]]
    assert x == [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]


def test_ho3d_refuses_what_the_server_would(tmp_path: Path, hands: dict) -> None:
    joints, vertices = hands["joints"], hands["vertices"]
    with pytest.raises(MotionError, match="HO3D v2 has 3 evaluation images, found 2 joints and 3 vertices"):
        write_ho3d(tmp_path / "pred.json", joints[:2], vertices, "v2")
    with pytest.raises(MotionError, match="HO3D v3 has 20137 evaluation images"):
        write_ho3d(tmp_path / "pred.json", joints, vertices, "v3")
    with pytest.raises(MotionError, match="HO3D joints: 3 hands lie behind the camera; give OpenCV axes"):
        write_ho3d(tmp_path / "pred.json", -joints, vertices, "v2")
    vertices[1, 5] = torch.nan
    with pytest.raises(MotionError, match="HO3D vertices: NaN or inf in 1 of 3 hands"):
        write_ho3d(tmp_path / "pred.json", joints, vertices, "v2")
    with pytest.raises(MotionError, match=r"must end in \.json or \.zip"):
        write_ho3d(tmp_path / "pred.txt", joints, hands["vertices"].nan_to_num(0.5), "v2")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def motion(hand: HandModel) -> HandMotion:
    """Two frames of a resting hand before the camera."""
    at = torch.tensor([[0.0, 0, 0.5], [0.1, 0, 0.5]])
    eye = torch.eye(3).repeat(2, 16, 1, 1)
    return HandMotion(eye, torch.zeros(10), at, torch.ones(2, dtype=torch.bool), 30.0, hand=hand.name)


def test_tracks_become_the_list_of_images(motion: HandMotion, hand: HandModel) -> None:
    found = in_list_order({"B": motion, "A": motion[:1]}, {"A": ["0000"], "B": ["0003", "0001"]}, hand)
    torch.testing.assert_close(found.joints[1], found.joints[0])
    torch.testing.assert_close(found.vertices[2], found.vertices[1] + torch.tensor([0.1, 0, 0]))
    torch.testing.assert_close(found.joints[0], motion.joints(hand, "manopth")[0])
    with pytest.raises(MotionError, match="no track for sequence C"):
        in_list_order({"A": motion}, {"C": ["0000"]}, hand)
    with pytest.raises(MotionError, match="A has 1 images, its track 2 frames, 2 valid"):
        in_list_order({"A": motion}, {"A": ["0000"]}, hand)


def test_dexycb_lines_are_what_the_evaluator_reads(tmp_path: Path, hands: dict) -> None:
    path = tmp_path / "result.txt"
    write_dexycb(path, torch.tensor([7, 0, 12]), hands["joints"])
    read = {}
    for line in path.read_text().splitlines():
        words = line.split(",")
        assert len(words) == 64
        read[int(words[0])] = np.array(words[1:], dtype=np.float64).reshape(21, 3)
    assert list(read) == [7, 0, 12]
    np.testing.assert_allclose(read[12], 1000 * hands["joints"][2].numpy(), atol=1e-3)
    with pytest.raises(MotionError, match="2 different ids for 3 hands"):
        write_dexycb(tmp_path / "b.txt", torch.tensor([7, 0, 7]), hands["joints"])
    with pytest.raises(MotionError, match="NaN or inf in 3 of 3"):
        write_dexycb(tmp_path / "b.txt", torch.tensor([7, 0, 1]), hands["joints"] * torch.nan)


def test_dexycb_scores_by_hand(hands: dict) -> None:
    """A shift of 10 mm: absolute error 10 mm, nothing relative to the root, nothing after Procrustes."""
    truth = hands["joints"]
    found = dexycb_scores(truth + torch.tensor([0.006, 0.008, 0.0]), truth)
    assert found["absolute"].mpjpe_mm == pytest.approx(10, abs=1e-4)
    assert found["absolute"].auc == pytest.approx(0.8, abs=0.005)  # 100 thresholds, the step at 10 of 50 mm
    for name in ("root-relative", "procrustes"):
        assert found[name].mpjpe_mm == pytest.approx(0, abs=1e-4)
        assert found[name].auc == pytest.approx(1, abs=0.006)


def test_dexycb_procrustes_forgives_a_mirror(hands: dict) -> None:
    truth = hands["joints"]
    found = dexycb_scores(truth * torch.tensor([-1.0, 1.0, 1.0]), truth)
    assert found["procrustes"].mpjpe_mm == pytest.approx(0, abs=1e-4)
    assert found["root-relative"].mpjpe_mm > 10


def test_dexycb_scores_against_a_slow_twin(hands: dict) -> None:
    truth, random = hands["joints"].double(), torch.Generator().manual_seed(1)
    pred = truth + 0.02 * torch.randn(N, 21, 3, generator=random).double()
    curve = [
        np.mean([float(1000 * (pred[n, k] - truth[n, k]).norm() <= t) for n in range(N) for k in range(21)])
        for t in np.linspace(0, 50, 100)
    ]
    area = sum((a + b) / 2 for a, b in pairwise(curve)) / 99
    assert dexycb_scores(pred.float(), truth.float())["absolute"].auc == pytest.approx(area, abs=1e-6)


def test_dexycb_leaves_out_unseen_hands_but_no_failure(hands: dict) -> None:
    truth, pred = hands["joints"].clone(), hands["joints"].clone()
    truth[1], pred[1] = torch.nan, 9.0
    assert dexycb_scores(pred, truth)["absolute"].mpjpe_mm == pytest.approx(0, abs=1e-4)
    pred[0] = torch.nan
    with pytest.raises(MotionError, match="NaN or inf in 1 of 2 hands"):
        dexycb_scores(pred, truth)
    with pytest.raises(MotionError, match="2 predictions for 3 images"):
        dexycb_scores(pred[:2], truth)
    with pytest.raises(MotionError, match="no image has a truth"):
        dexycb_scores(pred, truth * torch.nan)
