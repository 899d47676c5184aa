"""DexYCB: a sequence of our own making in its tree, and its splits by their definition."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mano_hands import left_of, mano_like, real_joints

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError
from handdiff_lib.readers import read_recording, read_tracks
from handdiff_lib.readers.dexycb import SERIALS, SUBJECTS, YCB, Image, images, read_sequence, split, view_joints

F, SERIAL = 5, SERIALS[2]


@pytest.fixture
def mano(hand: HandModel) -> HandModel:
    """A hand that passes for MANO."""
    return mano_like(hand)


def write_sequence(root: Path, name: str, side: str = "right") -> dict[str, np.ndarray]:
    """A sequence of F frames, two things, one camera; frame 1 has no hand, frame 2 no second thing."""
    random = np.random.default_rng(3)
    pose_m = random.normal(0, 0.4, (F, 1, 51)).astype(np.float32)
    pose_m[1] = 0
    pose_y = random.normal(size=(F, 2, 7)).astype(np.float32)
    pose_y[..., :4] /= np.linalg.norm(pose_y[..., :4], axis=-1, keepdims=True)
    pose_y[2, 1] = [0, 0, 0, 1, 0, 0, 0]
    folder = root / name
    (folder / SERIAL).mkdir(parents=True)
    np.savez(folder / "pose.npz", pose_m=pose_m, pose_y=pose_y)
    meta = {
        "serials": list(SERIALS), "num_frames": F, "extrinsics": "20200702_151821", "ycb_ids": [3, 14],
        "ycb_grasp_ind": 1, "mano_sides": [side], "mano_calib": ["20200709_140042_subject-01_right"],
    }  # fmt: skip
    (folder / "meta.yml").write_text(yaml.safe_dump(meta))
    betas = random.normal(0, 0.5, 10).astype(np.float32)
    calibration = root / "calibration" / "mano_20200709_140042_subject-01_right"
    calibration.mkdir(parents=True, exist_ok=True)
    (calibration / "mano.yml").write_text(yaml.safe_dump({"betas": betas.tolist()}))
    joints = random.normal(size=(F, 1, 21, 3)).astype(np.float32)
    joints[1] = -1
    for k in range(F):
        np.savez(
            folder / SERIAL / f"labels_{k:06d}.npz",
            seg=np.zeros((480, 640), np.uint8),
            pose_y=np.tile(np.eye(4, dtype=np.float32)[:3], (2, 1, 1)) + np.float32([[0, 0, 0, k]] * 3),
            pose_m=pose_m[k] * 2,
            joint_3d=joints[k],
            joint_2d=joints[k, ..., :2],
        )
    return {"pose_m": pose_m[:, 0], "pose_y": pose_y, "betas": betas, "joints": joints[:, 0]}


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_sequence_is_posed_as_its_own_tools_do(tmp_path: Path, mano: HandModel, side: str) -> None:
    content = write_sequence(tmp_path, f"{SUBJECTS[0]}/20200709_141754", side)
    folder = tmp_path / SUBJECTS[0] / "20200709_141754"
    found = read_recording(folder, mano)
    track = found.tracks[side]
    assert (list(found.tracks), found.fps, track.frame, track.hand) == ([side], 30.0, "world", "mano")
    assert track.valid.tolist() == [True, False, True, True, True]
    own = mano if side == "right" else left_of(mano, has_fault=True)
    pose = torch.from_numpy(content["pose_m"])
    vectors = torch.cat([pose[:, :3], pose[:, 3:48] @ own.hands_components + own.hands_mean], dim=1)
    joints = real_joints(own, rotation.exp(vectors.view(F, 16, 3)), torch.from_numpy(content["betas"]), pose[:, 48:])
    kept = slice(None) if side == "right" else slice(0, 1)  # a left hand's shape is MANO's fault, its wrist is not
    torch.testing.assert_close(
        track.joints(mano)[track.valid][:, kept], joints[track.valid][:, kept], atol=1e-5, rtol=0
    )
    assert read_tracks(folder, hand=mano, fps=30.0)[side].valid.tolist() == track.valid.tolist()
    with pytest.raises(MotionError, match="states 30 fps, not 25"):
        read_tracks(folder, hand=mano, fps=25.0)


def test_things_have_poses_names_and_meshes(tmp_path: Path, mano: HandModel) -> None:
    content = write_sequence(tmp_path, f"{SUBJECTS[0]}/a")
    mesh = tmp_path / "models" / "025_mug" / "textured_simple.obj"
    mesh.parent.mkdir(parents=True)
    mesh.write_text("v 0 0 0\n")
    found = read_sequence(tmp_path / SUBJECTS[0] / "a", mano)
    assert list(found.objects) == ["004_sugar_box", "025_mug"]
    assert found.held == "025_mug"
    mug = found.objects["025_mug"]
    assert mug.mesh_file().samefile(mesh)
    assert mug.valid.tolist() == [True, True, False, True, True]
    x, y, z, w = content["pose_y"][0, 1, :4]
    first_row = [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)]
    assert mug.pose[0, 0, :3].tolist() == pytest.approx(first_row, abs=1e-5)
    assert mug.pose[0, :3, 3].tolist() == pytest.approx(content["pose_y"][0, 1, 4:].tolist())
    with pytest.raises(MotionError, match=r"004_sugar_box.*not found.*dex-ycb\.github\.io"):
        found.objects["004_sugar_box"].mesh_file()


def test_a_camera_has_its_own_poses_and_the_official_joints(tmp_path: Path, mano: HandModel) -> None:
    content = write_sequence(tmp_path, f"{SUBJECTS[0]}/a")
    folder = tmp_path / SUBJECTS[0] / "a"
    found = read_sequence(folder, mano, serial=SERIAL)
    track = found.tracks["right"]
    assert track.frame == "camera"
    assert found.objects["025_mug"].pose[3, :3, 3].tolist() == [3, 3, 3]
    torch.testing.assert_close(track.R[0, 0], rotation.exp(2 * torch.from_numpy(content["pose_m"][0, :3])))
    joints = view_joints(folder, SERIAL)
    assert joints.isfinite().all(-1).all(-1).tolist() == [True, False, True, True, True]
    np.testing.assert_array_equal(joints[3].numpy(), content["joints"][3])
    (folder / SERIAL / "labels_000004.npz").unlink()
    with pytest.raises(MotionError, match=r"1 of 5 label files are missing: labels_000004.npz; they come with DexYCB"):
        read_sequence(folder, mano, serial=SERIAL)


def test_what_is_missing_is_named(tmp_path: Path, mano: HandModel, hand: HandModel) -> None:
    write_sequence(tmp_path, f"{SUBJECTS[0]}/a")
    folder = tmp_path / SUBJECTS[0] / "a"
    with pytest.raises(MotionError, match=r"principal components.*MANO_RIGHT.pkl from mano\.is\.tue\.mpg\.de"):
        read_sequence(folder, hand)
    calibration = next((tmp_path / "calibration").glob("*/mano.yml"))
    calibration.unlink()
    with pytest.raises(MotionError, match=r"mano.yml not found: the subject's hand shape; it comes with DexYCB"):
        read_sequence(folder, mano)
    calibration.write_text("{not: [yaml")
    with pytest.raises(MotionError, match="not readable YAML"):
        read_sequence(folder, mano)
    np.savez(folder / "pose.npz", pose_m=np.zeros((F, 1, 51)))
    with pytest.raises(MotionError, match=r"keys \['pose_y'\] are missing"):
        read_sequence(folder, mano)
    (folder / "meta.yml").write_text("num_frames: 5\n")
    with pytest.raises(MotionError, match=r"mano_calib, mano_sides, ycb_grasp_ind, ycb_ids missing"):
        read_sequence(folder, mano)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All subjects with a hundred sequences of empty files, each of two frames."""
    root = tmp_path_factory.mktemp("dexycb")
    meta = "{num_frames: 2, ycb_ids: [1], ycb_grasp_ind: 0, mano_sides: [right], mano_calib: [x]}"
    for subject in SUBJECTS:
        for k in range(100):
            folder = root / subject / f"2020_{k:03d}"
            folder.mkdir(parents=True)
            (folder / "meta.yml").write_text(meta)
            (folder / "pose.npz").touch()
    return root


@pytest.mark.parametrize(
    ("setup", "part", "sequences", "cameras"),
    [
        ("s0", "train", 800, 8), ("s0", "val", 40, 8), ("s0", "test", 160, 8),
        ("s1", "train", 700, 8), ("s1", "val", 100, 8), ("s1", "test", 200, 8),
        ("s2", "train", 1000, 6), ("s2", "val", 1000, 1), ("s2", "test", 1000, 1),
        ("s3", "train", 750, 8), ("s3", "val", 100, 8), ("s3", "test", 150, 8),
    ],
)  # fmt: skip
def test_splits_have_their_sizes(tree: Path, setup: str, part: str, sequences: int, cameras: int) -> None:
    found = split(tree, setup, part)
    assert (len(found.sequences), len(found.serials)) == (sequences, cameras)


def test_splits_share_nothing_and_hold_the_right_things(tree: Path) -> None:
    for setup in ("s0", "s1", "s3"):
        parts = [set(split(tree, setup, part).sequences) for part in ("train", "val", "test")]
        assert len(set.union(*parts)) == sum(map(len, parts)) == 1000
    assert split(tree, "s2", "val").serials == ("932122061900",)
    assert split(tree, "s2", "test").serials == ("932122062010",)
    assert split(tree, "s0", "val").sequences[:2] == (f"{SUBJECTS[0]}/2020_004", f"{SUBJECTS[0]}/2020_009")
    assert split(tree, "s3", "test").sequences[0] == f"{SUBJECTS[0]}/2020_035"
    assert {q.split("/")[0] for q in split(tree, "s1", "test").sequences} == set(SUBJECTS[7:9])
    assert len(YCB) == 21


def test_image_ids_count_sequence_then_camera_then_frame(tree: Path) -> None:
    found = images(tree, split(tree, "s0", "test"))
    assert len(found) == 160 * 8 * 2
    first = f"{SUBJECTS[2]}/2020_004"
    assert found[:3] == [Image(first, SERIALS[0], 0), Image(first, SERIALS[0], 1), Image(first, SERIALS[1], 0)]
    assert found[16] == Image(f"{SUBJECTS[2]}/2020_009", SERIALS[0], 0)


def test_missing_parts_are_listed_once(tree: Path) -> None:
    gone = [tree / SUBJECTS[7] / f"2020_{k:03d}" / "pose.npz" for k in range(7)]
    for path in gone:
        path.unlink()
    try:
        with pytest.raises(MotionError) as refused:
            split(tree, "s1", "test")
        text = str(refused.value)
        assert "7 of 400 files of DexYCB s1 test are missing" in text
        assert f"{SUBJECTS[7]}/2020_004/pose.npz and 2 more; they come with DexYCB, from dex-ycb.github.io" in text
        assert split(tree, "s1", "val")
    finally:
        for path in gone:
            path.touch()
    away = tree / SUBJECTS[8] / "2020_050"
    away.rename(tree / "2020_050")
    with pytest.raises(MotionError, match=r"1 of 2 subjects.*20201015-subject-09 \(99 of 100 sequences\)"):
        split(tree, "s1", "test")
    (tree / "2020_050").rename(away)
