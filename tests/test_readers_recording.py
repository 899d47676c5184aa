"""Parameters of data sets as tracks: compared with posing the left file itself, which knows no mirror."""

import pytest
import torch
from mano_hands import left_of, mano_like, real_joints

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError
from handdiff_lib.readers.recording import (
    Place,
    around_mean_fingers,
    hand_track,
    object_track,
    pca_fingers,
    real_fingers,
)

T = 4


@pytest.fixture
def numbers() -> dict[str, torch.Tensor]:
    """A hand's rotation vectors, components, shape and place."""
    random = torch.Generator().manual_seed(0)
    sizes = {"root": (T, 3), "fingers": (T, 45), "components": (T, 15), "betas": (10,), "at": (T, 3)}
    return {name: 0.4 * torch.randn(size, generator=random) for name, size in sizes.items()}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["components", "components from flat", "around the mean", "absolute"])
def test_a_track_is_what_its_own_file_poses(hand: HandModel, numbers: dict, side: str, kind: str) -> None:
    mano = mano_like(hand)
    own = mano if side == "right" else left_of(mano, has_fault=False)
    if kind == "components":
        vectors = numbers["components"] @ own.hands_components[:15] + own.hands_mean
        fingers = pca_fingers(numbers["components"], mano, flat_hand_mean=False, where="")
    elif kind == "components from flat":
        vectors = numbers["components"] @ own.hands_components[:15]
        fingers = pca_fingers(numbers["components"], mano, flat_hand_mean=True, where="")
    elif kind == "around the mean":
        vectors = numbers["fingers"] + own.hands_mean
        fingers = around_mean_fingers(numbers["fingers"], side, mano, where="")
    else:
        vectors = numbers["fingers"]
        fingers = real_fingers(rotation.exp(vectors.view(T, 15, 3)), side)
    R = rotation.exp(torch.cat([numbers["root"][:, None], vectors.view(T, 15, 3)], dim=1))
    expected = real_joints(own, R, numbers["betas"], numbers["at"])
    places = (Place(numbers["at"], is_wrist=False), Place(expected[:, 0], is_wrist=True))
    for place in places:
        motion = hand_track(
            R[:, 0], fingers, numbers["betas"], place, torch.ones(T).bool(), side, 30.0, mano, "world", ""
        )
        torch.testing.assert_close(motion.joints(mano), expected, atol=2e-6, rtol=0)
        assert (motion.side, motion.hand, motion.frame) == (side, "mano", "world")


def test_the_faulty_left_file_keeps_its_wrist(hand: HandModel, numbers: dict) -> None:
    """Its shape directions lack the mirror: the wrist is exact, the fingers are those of the true mirror."""
    mano = mano_like(hand)
    own = left_of(mano, has_fault=True)
    R = rotation.exp(torch.cat([numbers["root"], numbers["fingers"]], dim=1).view(T, 16, 3))
    expected = real_joints(own, R, numbers["betas"], numbers["at"])
    fingers, seen = real_fingers(R[:, 1:], "left"), torch.ones(T).bool()
    found = {}
    for fault in (True, False):
        place = Place(numbers["at"], is_wrist=False, left_shape_fault=fault)
        track = hand_track(R[:, 0], fingers, numbers["betas"], place, seen, "left", 30.0, mano, "world", "")
        found[fault] = (track.joints(mano) - expected).norm(dim=-1)
    assert found[True][:, 0].max() < 1e-6
    assert found[False][:, 0].min() > 1e-4
    assert 1e-4 < found[True][:, 1:].mean() < 0.01


def test_another_hand_gets_its_mean_shape_and_the_same_wrist(hand: HandModel, numbers: dict) -> None:
    R = rotation.exp(torch.cat([numbers["root"], numbers["fingers"]], dim=1).view(T, 16, 3))
    place, seen = Place(numbers["at"], is_wrist=True), torch.tensor([True, True, False, True])
    motion = hand_track(R[:, 0], R[:, 1:], numbers["betas"], place, seen, "right", 30.0, hand, "camera", "")
    assert (motion.hand, motion.betas.abs().max().item()) == ("open", 0.0)
    torch.testing.assert_close(motion.joints(hand)[seen, 0], numbers["at"][seen], atol=1e-6, rtol=0)
    assert motion.transl[2].tolist() == [0, 0, 0]


def test_mano_is_asked_for_in_one_sentence(hand: HandModel, numbers: dict) -> None:
    cure = r"mano\.is\.tue\.mpg\.de.*handdiff hand import MANO_RIGHT.pkl"
    with pytest.raises(MotionError, match="a.npz: the fingers are coefficients.*" + cure):
        pca_fingers(numbers["components"], hand, flat_hand_mean=True, where="a.npz")
    with pytest.raises(MotionError, match="counted from MANO's mean pose.*" + cure):
        around_mean_fingers(numbers["fingers"], "left", hand, where="a.npz")
    eye, seen = torch.eye(3).repeat(T, 16, 1, 1), torch.ones(T).bool()
    place = Place(numbers["at"], is_wrist=False)
    with pytest.raises(MotionError, match="translation of MANO's rest wrist.*" + cure):
        hand_track(eye[:, 0], eye[:, 1:], torch.zeros(10), place, seen, "right", 30.0, hand, "world", "")


def test_faults_in_valid_frames_are_named_and_others_do_not_matter(hand: HandModel) -> None:
    eye, at = torch.eye(3).repeat(T, 16, 1, 1), torch.zeros(T, 3)
    broken = eye.clone()
    broken[1] = torch.nan
    seen = torch.tensor([True, False, True, True])
    args = (Place(at, is_wrist=True), seen, "right", 30.0, hand, "world", "x")
    motion = hand_track(broken[:, 0], broken[:, 1:], torch.zeros(10), *args)
    assert motion.R.isfinite().all()
    with pytest.raises(MotionError, match="x: shape expected finite"):
        hand_track(eye[:, 0], eye[:, 1:], torch.full((10,), torch.nan), *args)
    with pytest.raises(MotionError, match="finger pose expected rotation matrices"):
        hand_track(eye[:, 0], 2 * eye[:, 1:], torch.zeros(10), *args)
    with pytest.raises(MotionError, match="no frame has a right hand"):
        hand_track(eye[:, 0], eye[:, 1:], torch.zeros(10), args[0], ~seen & False, *args[2:])


def test_a_thing_that_was_not_tracked_rests_at_the_origin(tmp_path) -> None:
    R, at = torch.full((2, 3, 3), torch.nan), torch.full((2, 3), torch.nan)
    R[0], at[0] = torch.eye(3), torch.tensor([1.0, 2.0, 3.0])
    track = object_track(R, at, torch.tensor([True, False]), tmp_path / "thing.obj", "Some Set", "x")
    assert track.pose[0, :3, 3].tolist() == [1, 2, 3]
    assert torch.equal(track.pose[1], torch.eye(4))
    with pytest.raises(MotionError, match=r"thing.obj not found: the mesh of the thing; it comes with Some Set"):
        track.mesh_file()
    (tmp_path / "thing.obj").write_text("v 0 0 0\n")
    assert track.mesh_file() == tmp_path / "thing.obj"
