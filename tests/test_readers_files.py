"""The door: each file goes to its reader, and what no reader knows is described."""

from pathlib import Path

import numpy as np
import pytest
import torch

from handdiff_lib.motion import HandMotion, MotionError, mirror
from handdiff_lib.readers import LAYOUTS, read_tracks
from handdiff_lib.storage import save_motion


@pytest.fixture
def motion() -> HandMotion:
    """Three frames at rest."""
    return HandMotion(
        R=torch.eye(3).repeat(3, 16, 1, 1),
        betas=torch.zeros(10),
        transl=torch.zeros(3, 3),
        valid=torch.tensor([True, False, True]),
        fps=25.0,
    )


def test_handmotion_files_keep_their_names(tmp_path: Path, motion: HandMotion) -> None:
    path = tmp_path / "a.npz"
    save_motion(path, {"first": motion, "second": mirror(motion)})
    tracks = read_tracks(path)
    assert list(tracks) == ["first", "second"]
    assert tracks["first"].fps == 25
    assert tracks["first"].valid.tolist() == [True, False, True]
    assert list(read_tracks(path, side="left")) == ["second"]
    assert list(read_tracks(path, fps=25.0)) == ["first", "second"]
    with pytest.raises(MotionError, match="states 25 fps, not 30"):
        read_tracks(path, fps=30.0)


def write(path: Path, what: str) -> None:
    """A bad file of a kind."""
    match what:
        case "empty file":
            path.write_bytes(b"")
        case "text":
            path.write_text("hello\n")
        case "cut":
            np.savez(path.with_suffix(".npz"), hand_pose=np.zeros((5, 15, 3)), global_orient=np.zeros((5, 3)))
            whole = path.with_suffix(".npz").read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
        case "open header":
            np.save(path, np.zeros((2, 21, 3)))
            path.write_bytes(path.read_bytes().replace(b"(2, 21, 3)", b"(2, 21, 3("))
        case "objects":
            np.savez(path, hand_pose=np.array([None, {}], dtype=object))
        case "other keys":
            np.savez(path, apples=np.zeros((2, 3)), pears=np.zeros(4))
        case "no keys":
            np.savez(path)
        case "folder":
            path.mkdir()


@pytest.mark.parametrize(
    ("name", "what", "message"),
    [
        ("none.npz", "nothing", "not found; check the path"),
        ("none.npy", "nothing", "not found; check the path"),
        ("none.pkl", "nothing", "not found; check the path"),
        ("none.mp4", "nothing", "not found; check the path"),
        ("a.npz", "empty file", "not a"),
        ("a.npy", "empty file", "not a readable .npy"),
        ("a.pkl", "empty file", "not a readable pickle"),
        ("a.npz", "text", "python objects|not a readable"),
        ("a.npy", "text", "not a readable .npy"),
        ("a.pkl", "text", "not a readable pickle"),
        ("a.npy", "open header", "not a readable .npy"),
        ("a.npz", "cut", "cut short or damaged"),
        ("a.npz", "objects", "python objects"),
        (
            "a.npz",
            "other keys",
            r"layout not known; found keys apples \(2, 3\), pears \(4,\); understood are a HandMotion",
        ),
        ("a.npz", "no keys", "found an empty dict"),
        ("a.json", "text", r"files ending in .json are not read; understood are"),
        ("a", "text", "files ending in no suffix are not read"),
        ("folder", "folder", "a folder without leftHand.bvh and rightHand.bvh"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, what: str, message: str) -> None:
    write(tmp_path / name, what)
    with pytest.raises(MotionError, match=message):
        read_tracks(tmp_path / name)


def test_an_npz_in_disguise_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(MotionError, match=r"rename it to \.npz"):
        read_tracks(tmp_path / "a.npy")


@pytest.mark.parametrize("fps", [0.0, -5.0, float("nan"), 1e6])
def test_senseless_frame_rates(tmp_path: Path, motion: HandMotion, fps: float) -> None:
    save_motion(tmp_path / "a.npz", {"right": motion})
    with pytest.raises(MotionError, match="fps expected a number between 0 and 10000"):
        read_tracks(tmp_path / "a.npz", fps=fps)


def test_layouts_name_every_reader() -> None:
    sets = ("ManipNet", "DexYCB", "HO3D", "ARCTIC", "TACO", "HOT3D", "HO-Cap", "OakInk2")
    for word in ("HandMotion", "HaMeR", "WiLoR-mini", "Dyn-HaMR", "keypoints", *sets):
        assert word in LAYOUTS
