"""MANO parameters in all the shapes that estimators write, and lists of per-frame detections."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError
from handdiff_lib.readers import DEFAULT_FPS, read_tracks

T = 5
MIRROR = torch.tensor([-1.0, 1.0, 1.0])


def rotvecs(seed: int = 0) -> np.ndarray:
    """Rotation vectors (T, 16, 3) below half a turn, so that they are unique."""
    return np.random.default_rng(seed).normal(0, 0.5, (T, 16, 3)).clip(-1.5, 1.5).astype(np.float32)


def matrices(seed: int = 0) -> np.ndarray:
    return rotation.exp(torch.from_numpy(rotvecs(seed))).numpy()


def hamer(seed: int = 0) -> dict[str, np.ndarray]:
    """HaMeR's outputs over T frames, stacked: dtypes and shapes as out["pred_mano_params"] has them."""
    random = np.random.default_rng(seed + 10)
    R = matrices(seed)
    return {
        "global_orient": R[:, :1],
        "hand_pose": R[:, 1:],
        "betas": random.normal(size=(T, 10)).astype(np.float32),
        "pred_cam_t": random.normal(size=(T, 3)).astype(np.float32),
        "right": np.ones(T, np.float32),
    }


def save(folder: Path, content: object) -> Path:
    """An .npz where the content is a dict of arrays, else a pickle."""
    is_flat = isinstance(content, dict) and all(not isinstance(v, dict | list) for v in content.values())
    path = folder / ("a.npz" if is_flat else "a.pkl")
    if is_flat:
        np.savez(path, **content)
    else:
        path.write_bytes(pickle.dumps(content))
    return path


ROOTS = {"(T,1,3,3)": (T, 1, 3, 3), "(T,3,3)": (T, 3, 3), "(T,3)": (T, 3), "(T,1,3)": (T, 1, 3)}
FINGERS = {"(T,15,3,3)": (T, 15, 3, 3), "(T,45)": (T, 45), "(T,15,3)": (T, 15, 3)}


@pytest.mark.parametrize("fingers", FINGERS)
@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_shape_is_the_same_motion(tmp_path: Path, root: str, fingers: str, dtype: type) -> None:
    def written(shape: tuple[int, ...], joints: slice) -> np.ndarray:
        source = matrices() if shape[-2:] == (3, 3) else rotvecs()
        return source[:, joints].reshape(shape).astype(dtype)

    content = {
        "global_orient": written(ROOTS[root], slice(0, 1)),
        "hand_pose": written(FINGERS[fingers], slice(1, 16)),
        "betas": np.arange(10, dtype=dtype),
    }
    motion = read_tracks(save(tmp_path, content))["right"]
    torch.testing.assert_close(motion.R, torch.from_numpy(matrices()), atol=1e-5, rtol=0)
    assert motion.betas.tolist() == list(range(10))
    assert not motion.transl.any()
    assert (motion.fps, motion.hand, motion.frame) == (DEFAULT_FPS, "mano", "camera")
    assert motion.R.dtype == torch.float32


def test_hamer_keeps_its_numbers_on_a_right_hand(tmp_path: Path) -> None:
    out = hamer()
    nested = {"pred_mano_params": {k: out[k] for k in ("global_orient", "hand_pose", "betas")}}
    for content in (out, nested | {"pred_cam_t": out["pred_cam_t"], "right": out["right"]}):
        motion = read_tracks(save(tmp_path, content))["right"]
        torch.testing.assert_close(motion.R[:, 0], torch.from_numpy(out["global_orient"][:, 0]), atol=1e-6, rtol=0)
        torch.testing.assert_close(motion.betas, torch.from_numpy(out["betas"]))
        torch.testing.assert_close(motion.transl, torch.from_numpy(out["pred_cam_t"]))


@pytest.mark.parametrize("name", ["pred_cam_t_full", "cam_t", "transl"])
def test_hamer_left_hand_stands_where_its_demo_draws_it(tmp_path: Path, hand: HandModel, name: str) -> None:
    """HaMeR draws a left hand as x-negated right-hand points plus the full-image camera translation."""
    out = hamer() | {"right": np.zeros(T, np.float32), "betas": np.zeros(10, np.float32)}
    out[name] = out.pop("pred_cam_t")
    motion = read_tracks(save(tmp_path, out))["left"]
    posed = hand.mean_shape().pose(torch.from_numpy(matrices()))
    drawn = posed.joints21() * MIRROR + torch.from_numpy(out[name])[:, None]
    torch.testing.assert_close(motion.joints(hand), drawn, atol=1e-5, rtol=0)


def test_the_networks_own_translation_is_the_flipped_crops(tmp_path: Path) -> None:
    out = hamer() | {"right": np.zeros((), np.int64)}
    motion = read_tracks(save(tmp_path, out))["left"]
    torch.testing.assert_close(motion.transl, torch.from_numpy(out["pred_cam_t"]))
    out |= {"cam_t": out["pred_cam_t"] + 1}
    motion = read_tracks(save(tmp_path, out))["left"]
    torch.testing.assert_close(motion.transl, torch.from_numpy(out["cam_t"]) * MIRROR)


def test_a_side_that_changes_makes_two_tracks(tmp_path: Path) -> None:
    out = hamer() | {"right": np.array([1, 1, 0, 0, 1])}
    path = save(tmp_path, out)
    tracks = read_tracks(path)
    assert tracks["right"].valid.tolist() == [True, True, False, False, True]
    assert tracks["left"].valid.tolist() == [False, False, True, True, False]
    torch.testing.assert_close(tracks["left"].R[2, 1:], torch.from_numpy(out["hand_pose"][2]), atol=1e-6, rtol=0)
    assert list(read_tracks(path, side="left")) == ["left"]


def test_valid_confidence_and_fps_are_kept(tmp_path: Path) -> None:
    out = hamer() | {
        "valid": np.array([1, 0, 1, 1, 0]),
        "confidence": np.linspace(0, 1, T),
        "fps": np.array(25.0),
    }
    out["hand_pose"] = out["hand_pose"].copy()
    out["hand_pose"][1] = np.nan
    out["pred_cam_t"][4] = np.inf
    motion = read_tracks(save(tmp_path, out))["right"]
    assert motion.valid.tolist() == [True, False, True, True, False]
    assert motion.fps == 25
    assert motion.confidence is not None
    assert motion.confidence[2].tolist() == [0.5] * 16
    assert motion.R.isfinite().all()
    assert motion.transl.isfinite().all()
    with pytest.raises(MotionError, match="states 25 fps, not 30"):
        read_tracks(save(tmp_path, out), fps=30.0)


def test_slight_drift_is_projected_away(tmp_path: Path) -> None:
    out = hamer()
    out["hand_pose"] = out["hand_pose"] * np.float32(1.0002)
    R = read_tracks(save(tmp_path, out))["right"].R.double()
    assert (R.mT @ R - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-6


def broken(**changes: object) -> dict:
    out = hamer()
    for name, change in changes.items():
        if change is None:
            del out[name]
        else:
            out[name] = change(out[name].copy()) if callable(change) else change
    return out


def with_nan(array: np.ndarray) -> np.ndarray:
    array[1:3] = np.nan
    return array


FAULTS = [
    (broken(hand_pose=with_nan), r"hand_pose expected finite numbers, found NaN or inf in 2 of 5 valid frames"),
    (broken(global_orient=with_nan), r"global_orient expected finite.*2 of 5"),
    (broken(betas=with_nan), r"betas expected finite.*2 of 5"),
    (broken(pred_cam_t=lambda a: a * np.inf), r"pred_cam_t expected finite.*5 of 5"),
    (broken(betas=np.full(10, np.nan)), r"betas expected finite"),
    (broken(hand_pose=lambda a: a * 1.1), r"hand_pose expected rotation matrices, found 5 frames.*off by 0.21"),
    (broken(global_orient=lambda a: -a), r"global_orient expected rotation matrices.*off by 2"),
    (broken(hand_pose=lambda a: a[:, :14]), r"hand_pose expected matrices \(T, 15, 3, 3\).*found \(5, 14, 3, 3\)"),
    (broken(global_orient=lambda a: a[:3]), r"global_orient has 3 frames, hand_pose has 5"),
    (broken(betas=lambda a: a[:, :9]), r"betas expected shape \(5, 10\), found \(5, 9\)"),
    (broken(betas=None), r"betas is missing"),
    (broken(pred_cam_t=lambda a: a[:, :2]), r"pred_cam_t expected shape \(5, 3\)"),
    (broken(right=np.full(T, 2)), r"right expected 1 for a right hand and 0 for a left one, found 2"),
    (broken(right=np.ones(3)), r"right expected shape \(5, 1\), found \(3,\)"),
    (broken(right=np.array(["r"] * T)), r"right expected numbers"),
    (broken(hand_pose=lambda a: a[:0]), r"hand_pose has no frames"),
    (broken(valid=np.zeros(T)), r"no frame is valid"),
    (broken(valid=np.zeros(T + 1)), r"valid expected shape \(5, 1\)"),
    (broken(confidence=np.full(T, 1.5)), r"confidence expected values in \[0, 1\]"),
    (broken(fps=np.array(-1)), r"fps expected one number between"),
    (broken(fps=np.array([30, 30])), r"fps expected one number"),
    (broken(global_orient=None), r"layout not known; found keys hand_pose \(5, 15, 3, 3\), betas .*understood are"),
]


@pytest.mark.parametrize(("content", "message"), FAULTS)
def test_faults_name_field_expected_and_found(tmp_path: Path, content: dict, message: str) -> None:
    with pytest.raises(MotionError, match=message):
        read_tracks(save(tmp_path, content))


def test_one_frame_works(tmp_path: Path) -> None:
    motion = read_tracks(save(tmp_path, {k: v[:1] for k, v in hamer().items()}))["right"]
    assert len(motion) == 1
    assert motion.betas.shape == (10,)


def wilor_mini(frame: int, is_right: int, seed: int = 0) -> dict:
    """One hand as WiLoR-mini returns it: a left hand's rotation vectors already mirrored, x of cam_t the image's."""
    vectors = rotvecs(seed)[None, frame] * (np.float32([1, 1, 1]) if is_right else np.float32([1, -1, -1]))
    return {
        "hand_bbox": [10.0, 20.0, 110.0, 120.0],
        "is_right": float(is_right),
        "wilor_preds": {
            "global_orient": vectors[:, :1],
            "hand_pose": vectors[:, 1:],
            "betas": np.zeros((1, 10), np.float32),
            "pred_cam": np.zeros((1, 3), np.float32),
            "pred_keypoints_3d": np.zeros((1, 21, 3), np.float32),
            "pred_vertices": np.zeros((1, 778, 3), np.float32),
            "pred_cam_t_full": np.array([[0.1 * frame, 0.2, 0.9]]),
            "scaled_focal_length": 6250.0,
        },
    }


def test_wilor_mini_both_hands_become_right_canonical(tmp_path: Path) -> None:
    frames = [[wilor_mini(0, 1), wilor_mini(0, 0)], [], [wilor_mini(2, 0)], None, [wilor_mini(4, 1)]]
    tracks = read_tracks(save(tmp_path, frames), fps=24.0)
    assert tracks["right"].valid.tolist() == [True, False, False, False, True]
    assert tracks["left"].valid.tolist() == [True, False, True, False, False]
    for name, sign in (("right", 1.0), ("left", -1.0)):
        motion = tracks[name]
        seen = motion.valid
        torch.testing.assert_close(motion.R[seen], torch.from_numpy(matrices())[seen], atol=1e-5, rtol=0)
        x = torch.arange(T)[seen] * 0.1 * sign
        torch.testing.assert_close(motion.transl[seen, 0], x.float(), atol=1e-6, rtol=0)
        assert motion.fps == 24
        assert motion.R.isfinite().all()


def hamer_frame(frame: int, rights: list[int]) -> dict:
    """HaMeR's output for one image with a row a hand."""
    many = [hamer(seed) for seed in range(len(rights))]
    params = {k: np.stack([out[k][frame] for out in many]) for k in ("global_orient", "hand_pose", "betas")}
    cam = np.stack([out["pred_cam_t"][frame] for out in many])
    return {"pred_mano_params": params, "pred_cam_t": cam, "right": np.array(rights, np.float32)}


def test_hamer_frame_by_frame(tmp_path: Path) -> None:
    frames = [hamer_frame(0, [1, 0]), None, hamer_frame(2, [1]), None, hamer_frame(4, [1, 0])]
    tracks = read_tracks(save(tmp_path, frames))
    right, left = tracks["right"], tracks["left"]
    assert right.valid.tolist() == [True, False, True, False, True]
    assert left.valid.tolist() == [True, False, False, False, True]
    torch.testing.assert_close(right.R[2], torch.from_numpy(matrices(0)[2]), atol=1e-6, rtol=0)
    torch.testing.assert_close(left.R[4], torch.from_numpy(matrices(1)[4]), atol=1e-6, rtol=0)
    assert left.betas.shape == (T, 10)


def test_a_frame_of_one_hand_needs_no_row(tmp_path: Path) -> None:
    out = hamer()
    frames = [{k: out[k][t] for k in ("global_orient", "hand_pose", "betas", "right")} for t in range(T)]
    for frame in frames:
        frame["global_orient"] = frame["global_orient"][0]
    motion = read_tracks(save(tmp_path, frames))["right"]
    torch.testing.assert_close(motion.R, torch.from_numpy(matrices()), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "layout not known; found a list of 0"),
        ([None, None], "layout not known; found a list of 2: NoneType"),
        ([[wilor_mini(0, 1), wilor_mini(0, 1)]], "frame 0 has two right hands"),
        ([{k: v for k, v in hamer_frame(0, [1, 0]).items() if k != "right"}], "2 hands and no `right`"),
        ([hamer_frame(0, [1]), {"global_orient": np.eye(3)}], "layout not known"),
        ([hamer_frame(0, [1]), {k: v for k, v in hamer_frame(1, [1]).items() if k != "pred_cam_t"}], "differ in their"),
        ([hamer_frame(0, [1]), wilor_mini(1, 1)], "differ in their fields"),
        ([hamer_frame(0, [3])], "right expected 1"),
        ([hamer_frame(0, [1]) | {"right": "yes"}], "frame 0: right expected numbers"),
        ([{"global_orient": 1.0, "hand_pose": 1.0, "betas": 1.0}], "global_orient expected matrices"),
        ([{k: v[:0] for k, v in hamer().items()}], "no hand in any of 1 frames"),
    ],
)
def test_bad_lists(tmp_path: Path, frames: list, message: str) -> None:
    with pytest.raises(MotionError, match=message):
        read_tracks(save(tmp_path, frames))


def test_side_is_used_where_the_file_does_not_say(tmp_path: Path) -> None:
    out = {k: v for k, v in hamer().items() if k != "right"}
    assert read_tracks(save(tmp_path, out), side="left")["left"].side == "left"
    with pytest.raises(MotionError, match="no left hand; the file has right"):
        read_tracks(save(tmp_path, hamer()), side="left")
    assert math.isclose(read_tracks(save(tmp_path, out), fps=12.5)["right"].fps, 12.5)
