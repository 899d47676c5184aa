"""HO3D: annotation pickles of our own making, in OpenGL's axes, under their tree."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mano_hands import mano_like, real_joints

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError
from handdiff_lib.readers import read_recording, read_tracks
from handdiff_lib.readers.ho3d import images, read_sequence
from handdiff_lib.topology import OPENPOSE

IDS = (3, 4, 6, 7)
"""Image 5 was never annotated; 6 holds None."""


def annotation(mano: HandModel, seed: int) -> dict:
    """A frame of the training split: keys, shapes and dtypes of v3."""
    random = torch.Generator().manual_seed(seed)
    pose, trans = 0.4 * torch.randn(48, generator=random), torch.tensor([0.1, 0.05, -0.6])
    betas = torch.linspace(-1, 1, 10)
    joints = real_joints(mano, rotation.exp(pose.view(1, 16, 3)), betas, trans[None])[0]
    in_mano_order = torch.empty(21, 3)
    in_mano_order[list(OPENPOSE)] = joints
    return {
        "camMat": np.float32([[617, 0, 312], [0, 617, 241], [0, 0, 1]]),
        "handBeta": betas.numpy(),
        "handPose": pose.numpy(),
        "handTrans": trans.numpy(),
        "handJoints3D": in_mano_order.numpy(),
        "handVertContact": np.zeros(778, np.uint8),
        "objRot": np.float32([[0.1], [0.2], [0.3]]) * seed,
        "objTrans": np.float32([0.1, 0.2, -0.7]),
        "objCorners3DRest": np.zeros((8, 3), np.float32),
        "objName": "025_mug",
        "objLabel": 14,
    }


@pytest.fixture
def mano(hand: HandModel) -> HandModel:
    """A hand that passes for MANO."""
    return mano_like(hand)


@pytest.fixture
def root(tmp_path: Path, mano: HandModel) -> Path:
    """Sequence SM1 of the training split and AP10 of the evaluation split."""
    for k in IDS:
        content = annotation(mano, k) if k != 6 else dict.fromkeys(annotation(mano, k))
        write(tmp_path / "train" / "SM1" / "meta" / f"{k:04d}.pkl", content)
    for k in (0, 1):
        content = {key: value for key, value in annotation(mano, k).items() if not key.startswith("hand")}
        content |= {"handJoints3D": np.zeros(3, np.float32), "handBoundingBox": [1, 2, 3, 4]}
        write(tmp_path / "evaluation" / "AP10" / "meta" / f"{k:04d}.pkl", content)
    (tmp_path / "train.txt").write_text("SM1/0007\nSM1/0003\nSM1/0004\n")
    (tmp_path / "evaluation.txt").write_text("AP10/0000\nAP10/0001\n")
    return tmp_path


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def test_a_sequence_comes_in_opencv_axes(root: Path, mano: HandModel) -> None:
    found = read_recording(root / "train" / "SM1", mano)
    track = found.tracks["right"]
    assert track.valid.tolist() == [True, True, False, False, True]
    assert (track.frame, track.side, track.fps, track.betas.shape) == ("camera", "right", 30.0, (10,))
    for place, k in ((0, 3), (1, 4), (4, 7)):
        flipped = annotation(mano, k)["handJoints3D"][list(OPENPOSE)] * np.float32([1, -1, -1])
        np.testing.assert_allclose(track.joints(mano)[place].numpy(), flipped, atol=2e-6)
    assert track.joints(mano)[0, :, 2].min() > 0, "the hand is in front of the camera"
    assert read_tracks(root / "train" / "SM1", fps=25.0)["right"].fps == 25


def test_another_hand_keeps_pose_and_wrist(root: Path, hand: HandModel, mano: HandModel) -> None:
    ours, theirs = (read_sequence(root / "train" / "SM1", model).tracks["right"] for model in (hand, mano))
    assert torch.equal(ours.R, theirs.R)
    seen = ours.valid
    torch.testing.assert_close(ours.joints(hand)[seen, 0], theirs.joints(mano)[seen, 0], atol=1e-6, rtol=0)


def test_the_thing_is_flipped_with_the_hand(root: Path, mano: HandModel) -> None:
    found = read_sequence(root / "train" / "SM1", mano)
    mug = found.objects["025_mug"]
    assert found.held == "025_mug"
    assert mug.valid.tolist() == [True, True, False, False, True]
    corner = torch.tensor([0.01, 0.02, 0.03])
    in_gl = rotation.exp(torch.tensor([0.3, 0.6, 0.9])) @ corner + torch.tensor([0.1, 0.2, -0.7])
    ours = mug.pose[0, :3, :3] @ corner + mug.pose[0, :3, 3]
    torch.testing.assert_close(ours, in_gl * torch.tensor([1.0, -1.0, -1.0]), atol=1e-6, rtol=0)
    with pytest.raises(MotionError, match=r"025_mug.*it comes with YCB-Video"):
        mug.mesh_file()


def test_lists_keep_their_order_and_count_what_is_missing(root: Path) -> None:
    assert images(root, "train") == {"SM1": ["0007", "0003", "0004"]}
    assert images(root, "evaluation") == {"AP10": ["0000", "0001"]}
    with (root / "train.txt").open("a") as file:
        file.write("".join(f"SM2/{k:04d}\n" for k in range(9)))
    with pytest.raises(MotionError) as refused:
        images(root, "train")
    text = "9 of 12 annotations of HO3D train are missing: SM2/0000, SM2/0001, SM2/0002, SM2/0003, SM2/0004 and 4 more"
    assert text in str(refused.value)
    (root / "train.txt").write_text("SM1\n")
    with pytest.raises(MotionError, match="expected lines SEQ/ID, found 'SM1'"):
        images(root, "train")
    (root / "train.txt").unlink()
    with pytest.raises(MotionError, match=r"the list of images; it comes with HO3D, from github.com/shreya"):
        images(root, "train")


def test_the_evaluation_split_has_no_pose(root: Path, hand: HandModel) -> None:
    with pytest.raises(MotionError, match="no hand pose, as in HO3D's evaluation split"):
        read_tracks(root / "evaluation" / "AP10", hand=hand)


def test_damage_is_named(root: Path, hand: HandModel, mano: HandModel) -> None:
    broken = annotation(mano, 3) | {"handPose": np.zeros(45, np.float32)}
    write(root / "train" / "SM1" / "meta" / "0003.pkl", broken)
    with pytest.raises(MotionError, match=r"SM1: 0003: handPose expected shape \(48\), found \(45,\)"):
        read_sequence(root / "train" / "SM1", hand)
    write(root / "train" / "SM1" / "meta" / "0003.pkl", [1])
    with pytest.raises(MotionError, match="expected an HO3D annotation, found list"):
        read_sequence(root / "train" / "SM1", hand)
    (root / "train" / "SM1" / "meta" / "x.pkl").touch()
    with pytest.raises(MotionError, match="it is no HO3D sequence"):
        read_sequence(root / "train" / "SM1", hand)
