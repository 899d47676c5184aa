"""ARCTIC, TACO, HOT3D, HO-Cap and OakInk2: sequences of our own making, and real ones of TACO and HOT3D."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
import yaml
from mano_hands import left_of, mano_like, real_joints

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError
from handdiff_lib.readers import read_recording, read_tracks
from handdiff_lib.readers.hot3d import HANDS
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.topology import TIPS

T = 6
SIDES = ("left", "right")


@pytest.fixture
def mano(hand: HandModel) -> HandModel:
    """A hand that passes for MANO."""
    return mano_like(hand)


@pytest.fixture
def numbers() -> dict[str, dict[str, torch.Tensor]]:
    """Rotation vectors, components, shape and place of both hands; one thing's rotation vectors and places."""
    random = torch.Generator().manual_seed(1)
    sizes = {"root": (T, 3), "fingers": (T, 45), "components": (T, 45), "betas": (10,), "at": (T, 3)}
    return {name: {k: 0.4 * torch.randn(s, generator=random) for k, s in sizes.items()} for name in (*SIDES, "thing")}


def posed(own: HandModel, root: torch.Tensor, fingers: torch.Tensor, betas: torch.Tensor, at: torch.Tensor):
    """Joints by the hand's own file."""
    return real_joints(own, rotation.exp(torch.cat([root, fingers], 1).view(-1, 16, 3)), betas, at)


def centred(joints: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """The joints with the wrist put at `at`."""
    return joints - joints[:, :1] + at[:, None]


# ------------------------------------------------------------------------------------------------------------- ARCTIC
def write_arctic(root: Path, numbers: dict) -> Path:
    path = root / "raw_seqs" / "s01" / "box_grab_01.mano.npy"
    path.parent.mkdir(parents=True)
    hands = {
        side: {
            "rot": n["root"].numpy(), "pose": n["fingers"].numpy(), "trans": n["at"].numpy(),
            "shape": n["betas"].numpy(), "fitting_err": np.zeros(T),
        }
        for side, n in numbers.items() if side != "thing"
    }  # fmt: skip
    np.save(path, hands)
    opening = np.full((T, 1), np.pi / 2)
    thing = np.concatenate([opening, numbers["thing"]["root"], 1000 * numbers["thing"]["at"]], 1)
    np.save(path.with_name("box_grab_01.object.npy"), thing)
    return path


def test_arctic(tmp_path: Path, mano: HandModel, hand: HandModel, numbers: dict) -> None:
    path = write_arctic(tmp_path, numbers)
    found = read_recording(path, mano)
    assert list(found.tracks) == ["left", "right"]
    n = numbers["right"]
    joints = posed(mano, n["root"], n["fingers"] + mano.hands_mean, n["betas"], n["at"])
    torch.testing.assert_close(found.tracks["right"].joints(mano), joints, atol=2e-6, rtol=0)
    n, own = numbers["left"], left_of(mano, has_fault=True)
    joints = posed(own, n["root"], n["fingers"] + own.hands_mean, n["betas"], n["at"])
    torch.testing.assert_close(found.tracks["left"].joints(mano)[:, 0], joints[:, 0], atol=2e-6, rtol=0)
    assert {track.frame for track in found.tracks.values()} == {"world"}
    bottom, top = found.objects["box.bottom"], found.objects["box.top"]
    torch.testing.assert_close(bottom.pose[:, :3, 3], numbers["thing"]["at"], atol=1e-6, rtol=0)
    assert bottom.metres == 1e-3
    x_axis = (bottom.pose.mT @ top.pose)[0, :3, 0]  # a quarter turn about -z takes x to -y
    assert x_axis.tolist() == pytest.approx([0, -1, 0], abs=1e-6)
    with pytest.raises(MotionError, match=r"top.obj not found: the mesh of the thing; it comes with ARCTIC, from"):
        top.mesh_file()
    with pytest.raises(MotionError, match=r"counted from MANO's mean pose.*mano\.is\.tue\.mpg\.de"):
        read_tracks(path, hand=hand)
    np.save(path.with_name("box_grab_01.object.npy"), np.zeros((T + 1, 7)))
    with pytest.raises(MotionError, match=r"differ in length \(\[6, 7\] frames\)"):
        read_recording(path, mano)
    np.save(path, {"right": {"rot": np.zeros((T, 3))}})
    with pytest.raises(MotionError, match="right: pose, shape, trans missing; it is not an ARCTIC hand"):
        read_recording(path, mano)
    np.save(path, {"apples": 1})
    with pytest.raises(MotionError, match=r"expected an ARCTIC \.mano\.npy"):
        read_recording(path, mano)


# --------------------------------------------------------------------------------------------------------------- TACO
def write_taco(root: Path, numbers: dict) -> Path:
    folder = root / "Hand_Poses" / "(stir, spoon, bowl)" / "20231105_019"
    folder.mkdir(parents=True)
    for side in SIDES:
        n = numbers[side]
        pose = torch.cat([n["root"], n["fingers"]], 1)
        frames = {f"{k + 1:05d}": {"hand_pose": pose[k], "hand_trans": n["at"][k]} for k in range(T)}
        (folder / f"{side}_hand.pkl").write_bytes(pickle.dumps(frames))
        (folder / f"{side}_hand_shape.pkl").write_bytes(pickle.dumps({"hand_shape": n["betas"]}))
    poses = root / "Object_Poses" / folder.parent.name / folder.name
    poses.mkdir(parents=True)
    for role, name in (("tool", "074"), ("target", "023")):
        np.save(poses / f"{role}_{name}.npy", np.tile(np.eye(4), (T, 1, 1)))
    return folder


def test_taco(tmp_path: Path, mano: HandModel, hand: HandModel, numbers: dict) -> None:
    folder = write_taco(tmp_path, numbers)
    found = read_recording(folder, mano)
    for side in SIDES:
        n, own = numbers[side], mano if side == "right" else left_of(mano, has_fault=False)
        joints = centred(posed(own, n["root"], n["fingers"], n["betas"], n["at"]), n["at"])
        torch.testing.assert_close(found.tracks[side].joints(mano), joints, atol=2e-6, rtol=0)
        ours = read_tracks(folder, hand=hand)[side]
        torch.testing.assert_close(ours.joints(hand)[:, 0], n["at"], atol=2e-6, rtol=0)
        assert torch.equal(ours.R, found.tracks[side].R)
    assert found.held == "tool"
    mesh = tmp_path / "Object_Models" / "074_cm.obj"
    mesh.parent.mkdir()
    mesh.write_text("v 0 0 0\n")
    assert found.objects["tool"].mesh_file().samefile(mesh)
    assert found.objects["tool"].metres == 0.01
    with pytest.raises(MotionError, match=r"023_cm.obj not found.*TACO, from taco2024.github.io"):
        found.objects["target"].mesh_file()
    (folder / "left_hand_shape.pkl").unlink()
    with pytest.raises(MotionError, match="the shape of the hand; it comes with TACO"):
        read_recording(folder, mano)
    (folder / "left_hand.pkl").write_bytes(pickle.dumps({"1": {"hand_pose": torch.zeros(48)}}))
    with pytest.raises(MotionError, match="every frame needs hand_pose and hand_trans"):
        read_recording(folder, mano)


@pytest.mark.parametrize("side", SIDES)
def test_a_single_taco_hand_is_told_by_its_vertices(tmp_path: Path, hand: HandModel, numbers: dict, side: str) -> None:
    n, own = numbers[side], hand if side == "right" else left_of(hand, has_fault=False)
    R = rotation.exp(torch.cat([n["root"], n["fingers"]], 1).view(T, 16, 3))
    at = n["at"] - own.J_template[0]
    content = {
        "hand_pose": torch.cat([n["root"], n["fingers"]], 1).numpy(), "hand_trans": n["at"].numpy(),
        "hand_shape": np.zeros(10, np.float32), "obj_pose": np.tile(np.eye(4, dtype=np.float32), (T, 1, 1)),
        "hand_verts": own.mean_shape().pose(R, at).skin().numpy(),
    }  # fmt: skip
    path = tmp_path / "20231104_010.pkl"
    path.write_bytes(pickle.dumps(content))
    tracks = read_tracks(path, hand=hand)
    assert list(tracks) == [side]
    joints = real_joints(own, R, torch.zeros(10), at)
    torch.testing.assert_close(tracks[side].joints(hand), joints, atol=2e-6, rtol=0)
    path.write_bytes(pickle.dumps(content | {"hand_verts": content["hand_verts"] + 0.1}))
    with pytest.raises(MotionError, match=r"finger tips of hand_verts are \d+ mm off a left hand"):
        read_tracks(path, hand=hand)
    path.write_bytes(pickle.dumps({k: v for k, v in content.items() if k != "hand_verts"}))
    with pytest.raises(MotionError, match="hand_verts expected"):
        read_tracks(path, hand=hand)


@pytest.mark.recording
def test_the_recorded_taco_hand_is_a_left_one(recordings: Path, hand: HandModel) -> None:
    """Finger tips of the open hand, of another shape, lie within 20 mm; the tool comes near them in the grasp."""
    path = recordings / "taco" / "20231104_010.pkl"
    found = read_recording(path, hand)
    assert (list(found.tracks), found.fps, found.held) == (["left"], 30.0, "tool")
    truth = torch.from_numpy(read_pickle(path)["hand_verts"])[:, list(TIPS["smplx"])]
    tips = found.tracks["left"].joints(hand)[:, [4, 8, 12, 16, 20]]
    assert (tips - truth).norm(dim=-1).mean() < 0.02
    assert found.objects["tool"].mesh_file().name == "20231104_010.obj"
    assert len(found.objects["tool"].pose) == len(tips) == 135


# -------------------------------------------------------------------------------------------------------------- HOT3D
STEP = 33_333_333


def write_hot3d(root: Path, numbers: dict) -> Path:
    """Frame 3 is missing, frame 4 has no left hand, frame 1 has a second stamp as Aria writes it."""
    folder = root / "P0001_abc"
    folder.mkdir()
    lines, rows = [], ["object_uid,timestamp[ns],t_wo_x[m],t_wo_y[m],t_wo_z[m],q_wo_w,q_wo_x,q_wo_y,q_wo_z"]
    for k in range(T):
        if k == 3:
            continue
        hands = {}
        for key, side in (("0", "left"), ("1", "right")):
            n = numbers[side]
            x, y, z, w = roma.rotvec_to_unitquat(n["root"][k]).tolist()
            xform = {"t_xyz": n["at"][k].tolist(), "q_wxyz": [w, x, y, z]}
            if not (k == 4 and side == "left"):
                components = n["components"][k, :15].tolist()
                hands[key] = {"pose": components, "wrist_xform": xform, "betas": n["betas"].tolist()}
        stamps = [1000 + k * STEP] + ([1000 + k * STEP + 90_000] if k == 1 else [])
        for stamp in stamps:
            lines.append(json.dumps({"timestamp_ns": stamp, "hand_poses": hands}))
            rows.append(f"77,{stamp},{k},0,0,1,0,0,0")
    (folder / HANDS).write_text("\n".join(lines))
    (folder / "dynamic_objects.csv").write_text("\n".join(rows) + "\n")
    (root / "instance.json").write_text(json.dumps({"77": {"instance_name": "mug_white"}}))
    return folder


def test_hot3d(tmp_path: Path, mano: HandModel, hand: HandModel, numbers: dict) -> None:
    folder = write_hot3d(tmp_path, numbers)
    found = read_recording(folder, mano)
    assert found.fps == 30.0
    assert found.tracks["right"].valid.tolist() == [True, True, True, False, True, True]
    assert found.tracks["left"].valid.tolist() == [True, True, True, False, False, True]
    for side in SIDES:
        n, own = numbers[side], mano if side == "right" else left_of(mano, has_fault=False)
        fingers = n["components"][:, :15] @ own.hands_components[:15] + own.hands_mean
        joints = posed(own, n["root"], fingers, n["betas"], n["at"])
        track = found.tracks[side]
        torch.testing.assert_close(track.joints(mano)[track.valid], joints[track.valid], atol=5e-6, rtol=0)
    mug = found.objects["mug_white"]
    assert mug.pose[:, 0, 3].tolist() == [0, 1, 2, 0, 4, 5]
    assert mug.valid.tolist() == [True, True, True, False, True, True]
    assert read_tracks(folder / HANDS, hand=mano)["left"].valid.sum() == 4
    with pytest.raises(MotionError, match=r"principal components.*mano\.is\.tue\.mpg\.de"):
        read_tracks(folder, hand=hand)
    with pytest.raises(MotionError, match=r"77.glb not found.*HOT3D"):
        mug.mesh_file()
    (folder / "dynamic_objects.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MotionError, match=r"columns t_wo_x\[m\].*expected, found a, b"):
        read_recording(folder, mano)
    (folder / HANDS).write_text("{}\n")
    with pytest.raises(MotionError, match="line 1 is no"):
        read_recording(folder, mano)


@pytest.mark.recording
@pytest.mark.parametrize(("name", "frames"), [("P0002_273c2819", 15), ("P0003_c701bd11", 34)])
def test_recorded_hot3d_clips(recordings: Path, mano: HandModel, name: str, frames: int) -> None:
    """Both hands at 30 frames a second, every frame there; things keep still or move by less than 5 cm a frame."""
    found = read_recording(recordings / "hot3d" / name, mano)
    assert list(found.tracks) == ["left", "right"]
    for track in found.tracks.values():
        assert len(track) == frames
        assert track.valid.all()
        assert track.fps == pytest.approx(30, abs=0.1)
        assert track.betas.shape == (10,)
        assert (track.joints(mano)[:, 0].diff(dim=0).norm(dim=-1) < 0.05).all()
    assert {"mug_white", "keyboard"} <= set(found.objects)
    for thing in found.objects.values():
        assert thing.valid.all()
        assert (thing.pose[:, :3, 3].diff(dim=0).norm(dim=-1) < 0.05).all()
    wrists = [track.joints(mano)[:, 0] for track in found.tracks.values()]
    nearest = min((w - t.pose[:, :3, 3]).norm(dim=-1).min() for w in wrists for t in found.objects.values())
    assert nearest < 0.4, "hands and things are in one world"


@pytest.mark.recording
@pytest.mark.parametrize("name", ["P0002_273c2819", "P0003_c701bd11"])
def test_recorded_wrists_lie_where_the_other_hand_model_has_them(recordings: Path, hand: HandModel, name: str) -> None:
    """HOT3D has every hand twice: UmeTrack's wrist is 1 to 2 cm from MANO's, and 8 to 11 cm from its translation."""
    folder = recordings / "hot3d" / name
    mano = replace(hand, name="mano")  # the open hand's rest wrist is MANO's
    found = read_recording(folder, mano)
    first = json.loads((folder / "umetrack_hand_pose_trajectory.jsonl").read_text().splitlines()[0])
    for key, side in (("0", "left"), ("1", "right")):
        wrist = torch.tensor(first["hand_poses"][key]["wrist_xform"]["t_xyz"])
        assert (found.tracks[side].joints(mano)[0, 0] - wrist).norm() < 0.025


# ------------------------------------------------------------------------------------------------------------- HO-Cap
def write_hocap(root: Path, numbers: dict) -> Path:
    """Frame 2 has no left hand, frame 1 no thing."""
    folder = root / "subject_1" / "20231025_165502"
    folder.mkdir(parents=True)
    poses = np.stack([
        torch.cat([numbers[s]["root"], numbers[s]["components"], numbers[s]["at"]], 1) for s in ("right", "left")
    ])  # fmt: skip
    poses[1, 2] = -1
    np.save(folder / "poses_m.npy", poses)
    things = np.tile(np.float32([0, 0, 1, 0, 1, 2, 3]), (1, T, 1))
    things[0, 1] = -1
    np.save(folder / "poses_o.npy", things)
    meta = {"num_frames": T, "mano_sides": ["right", "left"], "object_ids": ["G01_1"], "subject_id": "subject_1"}
    (folder / "meta.yaml").write_text(yaml.safe_dump(meta))
    calibration = root / "calibration" / "mano" / "subject_1.yaml"
    calibration.parent.mkdir(parents=True)
    calibration.write_text(yaml.safe_dump({"betas": numbers["right"]["betas"].tolist()}))
    return folder


def test_hocap(tmp_path: Path, mano: HandModel, numbers: dict) -> None:
    folder = write_hocap(tmp_path, numbers)
    found = read_recording(folder, mano, fps=25.0)
    assert found.fps == 25.0
    betas = numbers["right"]["betas"]
    for side in SIDES:
        n, own = numbers[side], mano if side == "right" else left_of(mano, has_fault=True)
        joints = posed(own, n["root"], n["components"] @ own.hands_components, betas, n["at"])
        track = found.tracks[side]
        kept = slice(None) if side == "right" else slice(0, 1)
        torch.testing.assert_close(
            track.joints(mano)[track.valid][:, kept], joints[track.valid][:, kept], atol=2e-6, rtol=0
        )
    assert found.tracks["right"].valid.all()
    assert found.tracks["left"].valid.tolist() == [True, True, False, True, True, True]
    thing = found.objects["G01_1"]
    assert thing.valid.tolist() == [True, False, True, True, True, True]
    assert thing.pose[0].diagonal().tolist() == pytest.approx([-1, -1, 1, 1], abs=1e-6)
    assert thing.pose[0, :3, 3].tolist() == [1, 2, 3]
    next((tmp_path / "calibration").glob("*/*")).unlink()
    with pytest.raises(MotionError, match=r"the subject's hand shape; it comes with HO-Cap"):
        read_recording(folder, mano)


# ------------------------------------------------------------------------------------------------------------ OakInk2
def write_oakink2(root: Path, numbers: dict) -> Path:
    """Every second frame id from 100 on; frame 106 lacks the left hand."""
    ids = list(range(100, 100 + 2 * T, 2))
    mano: dict[int, dict[str, torch.Tensor]] = {frame: {} for frame in ids}
    for prefix, side in (("lh", "left"), ("rh", "right")):
        n = numbers[side]
        q = roma.rotvec_to_unitquat(torch.cat([n["root"], n["fingers"]], 1).view(T, 16, 3)).roll(1, -1)
        for k, frame in enumerate(ids):
            if not (frame == 106 and side == "left"):
                mano[frame] |= {
                    f"{prefix}__pose_coeffs": q[k : k + 1], f"{prefix}__tsl": n["at"][k : k + 1],
                    f"{prefix}__betas": n["betas"][None],
                }  # fmt: skip
    transf = {"O02@0011@00001": {frame: np.eye(4, dtype=np.float32) for frame in ids[:-1]}}
    content = {
        "cam_def": {"x": "egocentric"}, "cam_selection": ["egocentric"], "frame_id_list": ids[::2],
        "mocap_frame_id_list": ids, "obj_list": list(transf), "obj_transf": transf, "raw_smplx": {}, "raw_mano": mano,
    }  # fmt: skip
    path = root / "anno_preview" / "scene_01__A001++0__2023.pkl"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(content))
    return path


def test_oakink2(tmp_path: Path, mano: HandModel, hand: HandModel, numbers: dict) -> None:
    path = write_oakink2(tmp_path, numbers)
    found = read_recording(path, mano)
    assert found.fps == 60.0
    assert found.tracks["left"].valid.tolist() == [True, True, True, False, True, True]
    for side in SIDES:
        n, own = numbers[side], mano if side == "right" else left_of(mano, has_fault=False)
        joints = centred(posed(own, n["root"], n["fingers"], n["betas"], n["at"]), n["at"])
        track = found.tracks[side]
        torch.testing.assert_close(track.joints(mano)[track.valid], joints[track.valid], atol=3e-6, rtol=0)
        assert torch.equal(read_tracks(path, hand=hand)[side].R, track.R)
    thing = found.objects["O02@0011@00001"]
    assert thing.valid.tolist() == [True] * (T - 1) + [False]
    with pytest.raises(MotionError, match=r"no mesh of this thing was found; it comes with OakInk2, from oakink"):
        thing.mesh_file()
    mesh = tmp_path / "object_raw" / "align_ds" / "O02@0011@00001" / "scan.ply"
    mesh.parent.mkdir(parents=True)
    mesh.touch()
    assert read_recording(path, mano).objects["O02@0011@00001"].mesh_file().samefile(mesh)
    with pytest.raises(MotionError, match="states 60 fps, not 30"):
        read_tracks(path, fps=30.0)
    path.write_bytes(pickle.dumps({"raw_mano": {}, "mocap_frame_id_list": [0, 1]}))
    with pytest.raises(MotionError, match="no hand in any of 2 frames"):
        read_tracks(path)


# ------------------------------------------------------------------------------------------------------- what is none
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.mkdir(), "a folder without leftHand.bvh and rightHand.bvh, and of no other data set"),
        (lambda p: p.write_bytes(pickle.dumps({"a": 1})), "no sequence of a data set; expected a sequence folder"),
        (lambda p: None, "not found"),
    ],
)
def test_what_is_no_data_set_is_said(tmp_path: Path, hand: HandModel, make: Callable, message: str) -> None:
    path = tmp_path / "thing.pkl"
    make(path)
    with pytest.raises(MotionError, match=message):
        read_recording(path, hand)


@pytest.mark.recording
def test_a_manipnet_take_is_a_recording(recordings: Path, hand: HandModel) -> None:
    folder = recordings / "manipnet" / "Data" / "SimpleVisualizer" / "Assets" / "BVH" / "cup1"
    found = read_recording(folder, hand, fps=5.0)
    assert list(found.tracks) == ["left", "right"]
    assert found.held == "object"
    assert found.objects["object"].mesh_file().name == "cup1.obj"
    assert len(found.objects["object"].pose) == len(found.tracks["left"])
