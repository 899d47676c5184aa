"""Keypoints of 21 joints: they come back after inverse kinematics, and what they cannot be is refused."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError, Side
from handdiff_lib.readers import read_tracks
from handdiff_lib.readers.keypoints import find_keypoints, read_keypoints
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.synth import synthesize
from handdiff_lib.topology import CHAIN

T = 6


@pytest.fixture(scope="module")
def joints(hand: HandModel) -> np.ndarray:
    """A right hand that closes while it turns and moves, (T, 21, 3) m."""
    rotvec = torch.zeros(T, 16, 3)
    share = torch.linspace(0.1, 1, T)
    for finger in ("index", "middle", "ring", "little"):
        for joint in CHAIN[finger]:
            rotvec[:, joint, 2] = share
    rotvec[:, 0] = share[:, None] * torch.tensor([0.3, 0.5, -0.2])
    transl = share[:, None] * torch.tensor([0.1, 0.0, 0.5])
    return hand.mean_shape().pose(rotation.exp(rotvec), transl).joints21().numpy()


def save(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    match path.suffix:
        case ".npy":
            np.save(path, content)
        case ".npz":
            np.savez(path, **content)
        case _:
            path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("a.npy", lambda j: j),
        ("a.npz", lambda j: {"joints": j, "scores": np.ones(T), "fps": np.array(25)}),
        ("a.pkl", lambda j: list(j.astype(np.float64))),
    ],
)
def test_keypoints_come_back(tmp_path: Path, hand: HandModel, joints: np.ndarray, name: str, wrap: Callable) -> None:
    motion = read_tracks(save(tmp_path, name, wrap(joints)), fps=25.0, hand=hand)["right"]
    assert (motion.joints(hand) - torch.from_numpy(joints)).norm(dim=-1).max() < 2e-3
    assert (motion.side, motion.fps, motion.hand, motion.frame) == ("right", 25.0, hand.name, "camera")
    assert motion.valid.all()


def test_where_keypoints_are_found(joints: np.ndarray) -> None:
    for content in (joints, {"anything": joints}, {"keypoints": joints, "other": joints}, {"fps": 30, "x": joints}):
        assert find_keypoints(content) is joints
    for content in ({"a": joints, "b": joints}, {}, [], [None], joints[:, :20], joints[0], "text", None):
        assert find_keypoints(content) is None


def test_the_open_hand_is_the_default(tmp_path: Path, joints: np.ndarray) -> None:
    assert read_tracks(save(tmp_path, "a.npy", joints), fps=50.0)["right"].hand == "open"


def test_a_left_hand_comes_back_in_its_own_frame(tmp_path: Path, hand: HandModel, joints: np.ndarray) -> None:
    seen = joints * np.float32([-1, 1, 1])
    motion = read_tracks(save(tmp_path, "a.npy", seen), side="left", hand=hand)["left"]
    assert motion.side == "left"
    assert (motion.joints(hand) - torch.from_numpy(seen)).norm(dim=-1).max() < 2e-3


@pytest.mark.parametrize(("side", "sign"), [("right", -1), ("left", 1)])
def test_the_wrong_side_is_noticed(tmp_path: Path, joints: np.ndarray, side: Side, sign: int) -> None:
    other = "left" if side == "right" else "right"
    with pytest.raises(MotionError, match=f"off a {side} hand .* read them as side={other}"):
        read_tracks(save(tmp_path, "a.npy", joints * np.float32([sign, 1, 1])), side=side)


def test_missing_frames_are_not_valid(tmp_path: Path, hand: HandModel, joints: np.ndarray) -> None:
    with_nan = joints.copy()
    with_nan[0], with_nan[2, 7, 1], with_nan[3, 0, 0] = np.nan, np.nan, np.inf
    motion = read_tracks(save(tmp_path, "a.npy", with_nan), hand=hand)["right"]
    assert motion.valid.tolist() == [False, True, False, False, True, True]
    assert motion.R.isfinite().all()
    with_none = [None, *joints[1:]]
    motion = read_tracks(save(tmp_path, "a.pkl", with_none), hand=hand)["right"]
    assert motion.valid.tolist() == [False] + [True] * 5


def test_one_frame_works(tmp_path: Path, hand: HandModel, joints: np.ndarray) -> None:
    motion = read_tracks(save(tmp_path, "a.npy", joints[3:4]), hand=hand)["right"]
    assert (motion.joints(hand) - torch.from_numpy(joints[3:4])).norm(dim=-1).max() < 2e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda j: j[:0], "no frames"),
        (lambda j: j * np.nan, "no valid frame"),
        (lambda j: j * 1000, "divide by 1000"),
        (lambda j: j[:, [0, *(k for f in range(5) for k in range(4 + 4 * f, 4 * f, -1))]], "their order must be wrist"),
        (lambda j: j[:, :20], r"layout not known; found an array \(6, 20, 3\) of float32"),
        (lambda j: j[..., :2], r"found an array \(6, 21, 2\)"),
        (lambda j: j.astype(str), "keypoints expected numbers, found <U"),
    ],
)
def test_bad_arrays(tmp_path: Path, joints: np.ndarray, change: object, message: str) -> None:
    with pytest.raises(MotionError, match=message):
        read_tracks(save(tmp_path, "a.npy", change(joints)))


def test_bad_lists(tmp_path: Path, joints: np.ndarray) -> None:
    with pytest.raises(MotionError, match=r"found a list of 2: \(21, 3\), \(20, 3\)"):
        read_tracks(save(tmp_path, "a.pkl", [joints[0], joints[1, :20]]))
    with pytest.raises(MotionError, match="layout not known; found a list of 1: list"):
        read_tracks(save(tmp_path, "b.pkl", [[[1.0, 2.0], [3.0]]]))
    with pytest.raises(MotionError, match="layout not known; found keys schema"):
        read_tracks(save(tmp_path, "c.pkl", {"schema": "handmotion/1"}))


@pytest.mark.recording
def test_recorded_mediapipe_hand(recordings: Path, hand: HandModel) -> None:
    """621 frames of a real detector: bones differ in length by up to 16 %, so some millimetres must remain."""
    path = recordings / "mediapipe_video" / "human_joint_right.pkl"
    seen = torch.from_numpy(np.stack(read_pickle(path))).float()
    motion = read_tracks(path, hand=hand)["right"]
    assert len(motion) == 621
    assert motion.valid.all()
    off_mm = (motion.joints(hand) - seen).norm(dim=-1) * 1000
    assert 1 < off_mm.mean() < 7


def test_confidence_falls_where_keypoints_do_not_make_a_hand(hand: HandModel) -> None:
    """Exact joints are trusted; a frame whose bones are off by centimetres is not."""
    joints = synthesize(hand, 4, frames=12).motion.joints(hand)
    noise = torch.randn(21, 3, generator=torch.Generator().manual_seed(0))
    joints[6] += 0.008 * noise
    track = read_keypoints(joints.numpy(), "here", 30.0, "right", hand)["right"]
    assert track.confidence.shape == (12, 16)
    assert (track.confidence[:6] > 0.8).all()
    assert (track.confidence[6] < 0.5).all()
