"""ManipNet: a small clone of our own making, and the recordings against a conversion made independently."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError
from handdiff_lib.readers import read_tracks
from handdiff_lib.readers.manipnet import (
    METRES,
    TAKES,
    TEST_TAKES,
    TIPS,
    VALIDATION_TAKES,
    glitches,
    read_take,
    take_joints,
)
from handdiff_lib.topology import BONES21

FINGERS = ("THUMB", "INDEX", "MIDDLE", "RING", "PINKY")
FRAMES = 12


def rest_joints(hand: HandModel, side: str) -> np.ndarray:
    """The open hand at rest, wrist at the origin, in the file's frame: decimetres, x negated for left-handedness."""
    joints = hand.mean_shape().pose(torch.eye(3).expand(16, 3, 3)).joints21().double().numpy()
    joints = (joints - joints[0]) * [1 if side == "left" else -1, 1, 1]  # mirrored for the left hand, then for the file
    return joints / METRES


def hand_bvh(joints: np.ndarray) -> str:
    """The 17 bones at rest, moving along +x by 0.01 dm a frame and turned by 30 degrees about y."""
    lines = ["HIERARCHY", "ROOT WRIST {", "OFFSET 0 0 0"]
    lines.append("CHANNELS 6 Xposition Yposition Zposition Yrotation Xrotation Zrotation")
    for k, finger in enumerate(FINGERS):
        chain = [joints[0], *joints[1 + 4 * k : 4 + 4 * k]]
        names = [
            f"{finger}_{bone}" for bone in (("CMC_AA", "MCP_FE", "IP_FE") if k == 0 else ("MCP", "PIP_FE", "DIP_FE"))
        ]
        if k == 0:
            chain.insert(1, joints[1] / 2)
            names.insert(0, "THUMB_CMC_FE")
        for name, offset in zip(names, np.diff(chain, axis=0), strict=True):
            lines += [f"JOINT {name} {{", "OFFSET " + " ".join(f"{x:.9f}" for x in offset)]
            lines.append("CHANNELS 3 Yrotation Xrotation Zrotation")
        lines += ["End Site {", "OFFSET 0 0 0", "}"] + ["}"] * len(names)
    lines += ["}", "MOTION", f"Frames: {FRAMES}", "Frame Time: 0.008333334"]
    lines += [f"{1 + 0.01 * t} 2 3 30 0 0 " + " 0" * 48 for t in range(FRAMES)]
    return "\n".join(lines)


@pytest.fixture
def clone(tmp_path: Path, hand: HandModel) -> Path:
    """A clone with the take `cup1`."""
    folder = tmp_path / "Data" / "SimpleVisualizer" / "Assets" / "BVH" / "cup1"
    folder.mkdir(parents=True)
    names = [f"{finger}_{bone}" for finger in FINGERS[1:] for bone in ("MCP", "PIP_FE", "DIP_FE")]
    skin: dict[str, np.ndarray] = {
        "bone_names": np.array(["WRIST", "WRIST", "THUMB_CMC_AA", "THUMB_MCP_FE", "THUMB_IP_FE", *names])
    }
    for side in ("left", "right"):
        joints = rest_joints(hand, side)
        (folder / f"{side}Hand.bvh").write_text(hand_bvh(joints))
        vertices, index = np.zeros((788, 3), np.float32), np.zeros((788, 4), np.int32)
        weights, bind = np.zeros((788, 4), np.float32), np.tile(np.eye(4, dtype=np.float32), (17, 1, 1))
        for k, vertex in enumerate(TIPS):
            vertices[vertex], index[vertex, :2], weights[vertex, :2] = joints[4 + 4 * k], 4 + 3 * k, [0.75, 0.25]
            bind[4 + 3 * k, :3, 3] = -joints[3 + 4 * k]
        skin |= {f"{side}_vertices": vertices, f"{side}_bone_index": index}
        skin |= {f"{side}_weights": weights, f"{side}_bindpose": bind}
    np.savez(tmp_path / "hand_skin_model.npz", **skin)
    channels = "Xposition Yposition Zposition Yrotation Xrotation Zrotation"
    head = f"HIERARCHY\nROOT cup1 {{\nOFFSET 0 0 0\nCHANNELS 6 {channels}\n}}\nMOTION\nFrames: {FRAMES}\n"
    (folder / "cup1.bvh").write_text(head + "Frame Time: 0.008333334\n" + "1 2 3 90 0 0\n" * FRAMES)
    meshes = tmp_path / "Data" / "ObjectModel" / "Dining"
    meshes.mkdir(parents=True)
    (meshes / "cup1.obj").write_text("v 0 0 0\n")
    return tmp_path


def test_a_made_take_becomes_right_handed_metres(clone: Path, hand: HandModel) -> None:
    take = take_joints(clone, "cup1")
    assert take.fps == 120.0
    assert take.object_mesh is not None
    assert take.object_mesh.name == "cup1.obj"
    rest = hand.mean_shape().pose(torch.eye(3).expand(16, 3, 3)).joints21()
    rest = rest - rest[0]
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turn = torch.tensor(
        [[c, 0, -s], [0, 1, 0], [s, 0, c]], dtype=torch.float32
    )  # +30 degrees about y, seen in a mirror
    for side, sign in (("right", 1.0), ("left", -1.0)):
        wrist = torch.tensor([-0.1, 0.2, 0.3])
        expected = (turn @ (rest * torch.tensor([sign, 1, 1])).mT).mT + wrist
        torch.testing.assert_close(take.joints[side][0], expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(take.joints[side][5, 0], torch.tensor([-0.105, 0.2, 0.3]))
    expected = torch.tensor([[0.0, 0, -1, -0.1], [0, 1, 0, 0.2], [1, 0, 0, 0.3], [0, 0, 0, 1]])
    torch.testing.assert_close(take.object_pose[3], expected, atol=1e-6, rtol=0)


def test_a_take_folder_is_read_as_motion(clone: Path, hand: HandModel) -> None:
    folder = clone / "Data" / "SimpleVisualizer" / "Assets" / "BVH" / "cup1"
    tracks = read_tracks(folder, hand=hand)
    truth = take_joints(clone, "cup1").joints
    assert list(tracks) == ["left", "right"]
    for side, motion in tracks.items():
        assert (motion.side, motion.fps, motion.frame, motion.hand, len(motion)) == (side, 30, "world", hand.name, 3)
        assert motion.betas.shape == (10,)
        assert (motion.joints(hand) - truth[side][::4]).norm(dim=-1).max() < 1e-3
    assert len(read_tracks(folder, fps=60.0, hand=hand)["left"]) == 6
    assert list(read_tracks(folder, side="left", hand=hand)) == ["left"]
    take = read_take(clone, "cup1", hand, stride=6)
    assert (take.fps, take.object_pose.shape) == (20, (2, 4, 4))


def test_glitches_are_the_frames_of_a_jump() -> None:
    joints = torch.zeros(10, 21, 3)
    joints[:, :, 0] = torch.arange(10.0)[:, None]  # however fast, a straight line has no acceleration
    assert not glitches(joints, 120.0).any()
    joints[5, 7, 1] = 0.015  # 0.015 * 120^2 = 216 m/s^2 at frames 4 and 6, 432 at 5
    assert glitches(joints, 120.0).nonzero().flatten().tolist() == [5]
    assert not glitches(joints, 60.0).any()


def test_a_glitch_is_not_valid(clone: Path, hand: HandModel) -> None:
    path = clone / "Data" / "SimpleVisualizer" / "Assets" / "BVH" / "cup1" / "leftHand.bvh"
    path.write_text(path.read_text().replace("1.04 2 3", "1.04 2.2 3"))  # frame 4 jumps by 2 cm
    tracks = read_take(clone, "cup1", hand).tracks
    assert tracks["left"].valid.tolist() == [True, False, True]
    assert tracks["right"].valid.all()


def test_what_is_missing_is_named(clone: Path, hand: HandModel) -> None:
    folder = clone / "Data" / "SimpleVisualizer" / "Assets" / "BVH"
    with pytest.raises(MotionError, match="there are: cup1"):
        take_joints(clone, "mug9")
    with pytest.raises(MotionError, match=r"without leftHand.bvh and rightHand.bvh"):
        read_tracks(folder, hand=hand)
    with pytest.raises(MotionError, match=r"fps must divide that.*found 50"):
        read_tracks(folder / "cup1", fps=50.0, hand=hand)
    moved = folder.parent / "cup1"
    (folder / "cup1").rename(moved)
    with pytest.raises(MotionError, match="inside its clone"):
        read_tracks(moved, hand=hand)
    moved.rename(folder / "cup1")
    (folder / "cup1" / "cup1.bvh").rename(clone / "cup1.bvh")
    with pytest.raises(MotionError, match="expected one object"):
        take_joints(clone, "cup1")
    (clone / "cup1.bvh").rename(folder / "cup1" / "leftHand.bvh")
    (clone / "hand_skin_model.npz").unlink()
    with pytest.raises(MotionError, match=re.escape("put hand_skin_model.npz beside the Data folder")):
        take_joints(clone, "cup1")


def test_no_take_is_in_two_parts() -> None:
    assert set(TEST_TAKES) | set(VALIDATION_TAKES) < set(TAKES)
    assert not set(TEST_TAKES) & set(VALIDATION_TAKES)


@pytest.mark.recording
def test_cup1_against_an_independent_conversion(recordings: Path) -> None:
    check = np.load(recordings / "manipnet" / "check_cup1.npz")
    take = take_joints(recordings / "manipnet", "cup1")
    for side in ("left", "right"):
        assert np.abs(take.joints[side].numpy() - check[f"joints_{side}"]).max() < 1e-4
    assert np.abs(take.object_pose.numpy() - check["object_pose"]).max() < 1e-4
    assert take.fps == float(check["fps"])


@pytest.mark.recording
def test_recorded_bones_keep_their_length(recordings: Path) -> None:
    take = take_joints(recordings / "manipnet", "mug3")
    for joints in take.joints.values():
        length = torch.stack([(joints[:, b] - joints[:, a]).norm(dim=-1) for a, b in BONES21])
        assert length.std(dim=1).max() < 1e-3


@pytest.mark.recording
def test_a_recorded_take_is_fitted_closely(recordings: Path, hand: HandModel) -> None:
    root = recordings / "manipnet"
    truth = take_joints(root, "cup1").joints
    for side, motion in read_take(root, "cup1", hand, stride=40).tracks.items():
        assert (motion.joints(hand) - truth[side][::40]).norm(dim=-1).mean() < 2e-3
