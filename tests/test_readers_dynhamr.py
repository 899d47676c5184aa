"""Dyn-HaMR: a made file of its layout, and a real one against the joints its own code computed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError
from handdiff_lib.readers import read_tracks
from handdiff_lib.topology import BONES21

T = 4


def world_results() -> dict[str, np.ndarray]:
    """Keys, shapes and dtypes of a `*_world_results.npz` with a left and a right hand."""
    random = np.random.default_rng(0)
    pose = random.normal(0, 0.3, (2, T, 15, 3)).astype(np.float32)
    return {
        "betas": random.normal(size=(2, 10)).astype(np.float32),
        "trans": random.normal(size=(2, T, 3)).astype(np.float32),
        "init_body_pose": pose,
        "latent_pose": pose,
        "root_orient": random.normal(0, 0.5, (2, T, 3)).astype(np.float32),
        "is_right": np.repeat(np.float32([[0], [1]]), T, axis=1),
        "world_scale": np.float32([[0.1]]),
        "pose_body": pose,
        "cam_R": np.tile(np.eye(3, dtype=np.float32), (2, T, 1, 1)),
        "cam_t": np.zeros((2, T, 3), np.float32),
        "intrins": np.float32([1000, 1000, 700, 700]),
    }


def read(folder: Path, **changes: np.ndarray | None) -> dict:
    content = world_results() | changes
    np.savez(folder / "a_world_results.npz", **{k: v for k, v in content.items() if v is not None})
    return read_tracks(folder / "a_world_results.npz")


def test_points_are_negated_translation_included(tmp_path: Path, hand: HandModel) -> None:
    content = world_results()
    tracks = read(tmp_path)
    assert list(tracks) == ["left", "right"]
    for row, (name, sign) in enumerate((("left", -1.0), ("right", 1.0))):
        motion = tracks[name]
        vectors = np.concatenate([content["root_orient"][row, :, None], content["pose_body"][row]], axis=1)
        posed = hand.mean_shape().pose(rotation.exp(torch.from_numpy(vectors)), torch.from_numpy(content["trans"][row]))
        points = posed.joints21() * torch.tensor([sign, 1.0, 1.0])
        torch.testing.assert_close(motion.joints(hand), points, atol=1e-5, rtol=0)
        assert (motion.side, motion.frame, motion.fps, motion.hand) == (name, "world", 30.0, "mano")
        assert motion.betas.tolist() == content["betas"][row].tolist()
        assert motion.valid.all()


def test_one_hand_and_one_frame_work(tmp_path: Path) -> None:
    keys = ("betas", "trans", "root_orient", "pose_body", "is_right")
    content = {k: v[1:] if k == "betas" else v[1:, :1] for k, v in world_results().items() if k in keys}
    tracks = read(tmp_path, **content)
    assert list(tracks) == ["right"]
    assert len(tracks["right"]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_right": None}, "missing: is_right"),
        ({"is_right": np.ones((2, T), np.float32)}, "two right hands"),
        ({"is_right": np.float32([[0, 1, 0, 1]] * 2)}, "is_right expected 4 equal flags"),
        ({"trans": np.full((2, T, 3), np.nan, np.float32)}, "hand 0: trans expected finite.*4 of 4"),
        ({"pose_body": np.full((2, T, 15, 3), np.inf, np.float32)}, "pose_body expected finite"),
        ({"pose_body": np.zeros((2, T, 14, 3), np.float32)}, r"pose_body expected matrices.*found \(4, 14, 3\)"),
        ({"pose_body": np.zeros((2, 0, 15, 3), np.float32)}, "pose_body has no frames"),
        ({"root_orient": np.zeros((2, 3, 3), np.float32)}, r"root_orient expected shape \(4, 3\), found \(3, 3\)"),
        ({"betas": np.zeros((1, 10), np.float32)}, "one row a hand"),
        ({"betas": np.zeros((2, 9), np.float32)}, r"betas expected shape \(1, 10\)"),
    ],
)
def test_faults_are_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(MotionError, match=message):
        read(tmp_path, **changes)


OPENXR21 = [1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 17, 18, 19, 20, 22, 23, 24, 25]
"""Wrist, thumb to little, four each, among the 26 OpenXR joints."""


@pytest.mark.recording
@pytest.mark.parametrize("row", [0, 1])
def test_recorded_joints_are_those_that_upstream_computed(recordings: Path, hand: HandModel, row: int) -> None:
    """The open hand is another hand than MANO, so a few degrees remain; a wrong mean pose or mirror gives over 50."""
    folder = recordings / "dynhamr"
    motion = list(read_tracks(folder / "output_video_000300_world_results.npz").values())[row]
    with np.load(folder / "output_openxr26_joints.npz", allow_pickle=False) as upstream:
        truth = torch.from_numpy(upstream["joints_openxr26"][row][:, OPENXR21])
    ours = motion.joints(hand)
    ours, truth = ours - ours[:, :1], truth - truth[:, :1]
    palm = [1, 5, 9, 13, 17]
    turn = rotation.nearest_rotation(truth[:, palm].mT @ ours[:, palm])
    ours = (turn @ ours.mT).mT
    start, end = torch.tensor(BONES21).T
    unit = [torch.nn.functional.normalize(p[:, end] - p[:, start], dim=-1) for p in (ours, truth)]
    angle = (unit[0] * unit[1]).sum(-1).clamp(-1, 1).acos().rad2deg()
    assert angle.mean() < 8
    assert angle.mean(0).max() < 20
    assert (ours - truth).norm(dim=-1).mean() < 0.02
