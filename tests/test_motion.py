"""HandMotion: slicing, resampling, filling, joining and mirroring, by laws and by numbers done in the head."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.motion import HandMotion, MotionError, concat, fill_missing, mirror, resample


def steady(count: int, fps: float = 30.0, **changes) -> HandMotion:
    """Every joint turns at 1 rad/s about its own axis, the wrist moves at 0.3 m/s along x, every field is filled."""
    axis = torch.nn.functional.normalize(torch.linspace(-1, 1, 48).reshape(16, 3) + 0.1, dim=-1)
    seconds = torch.arange(count) / fps
    transl = torch.zeros(count, 3)
    transl[:, 0] = 0.3 * seconds
    values = {
        "R": rotation.exp(axis * seconds[:, None, None]),
        "betas": torch.linspace(-1, 1, 10),
        "transl": transl,
        "valid": torch.ones(count, dtype=torch.bool),
        "fps": fps,
        "hand": "open",
        "confidence": torch.full((count, 16), 0.5),
        "sigma": torch.full((count, 16), 0.1),
        "state_prob": torch.full((count, 4), 0.25),
        "refined": torch.ones(count, dtype=torch.bool),
    }
    return HandMotion(**(values | changes))


def assert_same(a: HandMotion, b: HandMotion, atol: float = 1e-6) -> None:
    """Every field agrees."""
    for field in fields(HandMotion):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, Tensor):
            torch.testing.assert_close(x, y, atol=atol, rtol=0, msg=lambda text, name=field.name: f"{name}: {text}")
        else:
            assert x == y, field.name


def test_a_slice_cuts_every_tensor_along_time():
    motion = steady(10)
    part = motion[2:5]
    assert len(part) == 3
    for field in fields(HandMotion):
        value = getattr(motion, field.name)
        if isinstance(value, Tensor) and field.name != "betas":
            assert torch.equal(getattr(part, field.name), value[2:5]), field.name
    assert torch.equal(part.betas, motion.betas)  # one shape for the whole track


def test_a_slice_cuts_a_shape_for_each_frame_too():
    betas = torch.arange(100.0).reshape(10, 10)
    assert torch.equal(steady(10, betas=betas)[3:4].betas, betas[3:4])


def test_a_mask_and_an_index_select_frames():
    motion = steady(5)
    mask = torch.tensor([True, False, True, False, False])
    assert_same(motion[mask], motion[torch.tensor([0, 2])])
    assert_same(motion[::2], motion[torch.tensor([0, 2, 4])])


def test_a_single_number_is_refused():
    """It would drop the time axis."""
    with pytest.raises(TypeError):
        steady(3)[1]


def test_resampling_there_and_back_is_the_identity():
    """30 to 60 to 30 frames a second: the old frames are all shared ones."""
    motion = steady(20)
    motion = replace(motion, R=rotation.exp(torch.randn(20, 16, 3, generator=torch.Generator().manual_seed(1))))
    double = resample(motion, 60.0)
    assert len(double) == 39
    assert double.fps == 60.0
    torch.testing.assert_close(double.R[::2], motion.R, atol=1e-6, rtol=0)
    assert_same(resample(double, 30.0), motion, atol=2e-6)


@pytest.mark.parametrize("fps", [10.0, 24.0, 45.0, 59.94, 120.0])
def test_a_constant_velocity_stays_so(fps):
    """Turning and moving steadily looks the same at any frame rate, and ends at the same time to within a frame."""
    motion = resample(steady(31), fps)
    expected = steady(len(motion), fps)
    torch.testing.assert_close(motion.R, expected.R, atol=2e-6, rtol=0)
    torch.testing.assert_close(motion.transl, expected.transl, atol=1e-6, rtol=0)
    assert len(motion) == int(1.0 * fps + 1e-6) + 1


def test_a_new_frame_is_valid_when_both_neighbours_are():
    """Frames 0 and 2 are known: at twice the rate only they are, since each frame between has an unknown neighbour."""
    valid = torch.tensor([True, False, True])
    assert resample(steady(3, valid=valid), 60.0).valid.tolist() == [True, False, False, False, True]


def test_resampling_at_the_same_rate_changes_nothing():
    assert_same(resample(steady(7), 30.0), steady(7), atol=0)


def test_one_frame_only_changes_its_rate():
    assert_same(resample(steady(1), 60.0), steady(1, 60.0))


@pytest.mark.parametrize("fps", [0.0, -30.0, math.nan])
def test_a_rate_that_is_none_is_refused(fps):
    with pytest.raises(MotionError, match="fps must be positive"):
        resample(steady(3), fps)


def spoil(motion: HandMotion, missing: list[int]) -> HandMotion:
    """The frames in `missing` hold NaN and are not valid."""
    R, transl, valid = motion.R.clone(), motion.transl.clone(), motion.valid.clone()
    R[missing], transl[missing], valid[missing] = math.nan, math.nan, False
    return replace(motion, R=R, transl=transl, valid=valid)


def test_a_gap_in_a_steady_motion_is_filled_exactly():
    motion = steady(12)
    filled = fill_missing(spoil(motion, [3, 4, 5, 8]))
    torch.testing.assert_close(filled.R, motion.R, atol=1e-6, rtol=0)
    torch.testing.assert_close(filled.transl, motion.transl, atol=1e-6, rtol=0)


def test_filling_keeps_what_is_known_and_says_what_was_not():
    spoilt = spoil(steady(12), [0, 5, 11])
    filled = fill_missing(spoilt)
    assert torch.equal(filled.R[spoilt.valid], spoilt.R[spoilt.valid])
    assert torch.equal(filled.valid, spoilt.valid)


def test_the_ends_repeat_the_nearest_known_frame():
    motion = steady(8)
    filled = fill_missing(spoil(motion, [0, 1, 7]))
    torch.testing.assert_close(filled.R[:2], motion.R[2].expand(2, 16, 3, 3))
    torch.testing.assert_close(filled.R[7], motion.R[6])
    torch.testing.assert_close(filled.transl[0], motion.transl[2])


def test_one_known_frame_fills_all():
    motion = steady(5)
    filled = fill_missing(spoil(motion, [0, 1, 3, 4]))
    torch.testing.assert_close(filled.R, motion.R[2].expand(5, 16, 3, 3))


def test_shapes_of_each_frame_are_filled_too():
    betas = torch.arange(4.0)[:, None].expand(4, 10).clone()
    motion = spoil(steady(4, betas=betas), [1, 2])
    motion.betas[1:3] = math.nan
    torch.testing.assert_close(fill_missing(motion).betas, torch.arange(4.0)[:, None].expand(4, 10))


def test_nothing_missing_changes_nothing():
    motion = steady(4)
    assert fill_missing(motion) is motion


def test_no_known_frame_is_an_error_with_a_cure():
    with pytest.raises(MotionError, match=r"no valid frame.*drop the track"):
        fill_missing(spoil(steady(3), [0, 1, 2]))


def test_concat_undoes_slicing():
    motion = steady(10)
    assert_same(concat([motion[:3], motion[3:4], motion[4:]]), motion, atol=0)


def test_concat_of_one_is_itself():
    assert_same(concat([steady(3)]), steady(3), atol=0)


def test_concat_gives_each_frame_its_shape_where_tracks_differ():
    a, b = steady(2), steady(3, betas=torch.ones(10))
    betas = concat([a, b]).betas
    assert betas.shape == (5, 10)
    torch.testing.assert_close(betas[:2], a.betas.expand(2, -1))
    torch.testing.assert_close(betas[2:], torch.ones(3, 10))


def test_concat_drops_what_one_track_lacks():
    joined = concat([steady(2), steady(3, sigma=None)])
    assert joined.sigma is None
    assert joined.confidence.shape == (5, 16)


@pytest.mark.parametrize(
    ("name", "value"), [("fps", 60.0), ("side", "left"), ("hand", "mano"), ("frame", "world")], ids=lambda x: str(x)
)
def test_concat_refuses_tracks_that_do_not_fit(name, value):
    with pytest.raises(MotionError, match=f"concat: {name} differs"):
        concat([steady(2), steady(2, **{name: value})])


def test_mirror_is_an_involution_that_changes_only_the_side(hand):
    motion = steady(6)
    assert mirror(motion).side == "left"
    assert_same(mirror(mirror(motion)), motion, atol=0)
    assert torch.equal(mirror(motion).R, motion.R)
    flip = torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(mirror(motion).joints(hand), motion.joints(hand) * flip)


def test_mirroring_parameters_is_an_involution_and_a_reflection():
    motion = steady(6, transl=torch.arange(18.0).reshape(6, 3))
    R, transl = rotation.mirror(motion.R), rotation.mirror_points(motion.transl)
    torch.testing.assert_close(transl, motion.transl * torch.tensor([-1.0, 1, 1]))
    torch.testing.assert_close(rotation.log(R), rotation.log(motion.R) * torch.tensor([1.0, -1, -1]), atol=1e-6, rtol=0)
    back_R, back_transl = rotation.mirror(R), rotation.mirror_points(transl)
    torch.testing.assert_close(back_R, motion.R)
    torch.testing.assert_close(back_transl, motion.transl)


def test_betas_do_not_carry_over_to_another_hand(hand):
    """MANO's numbers mean nothing to the open hand, so its mean shape stands in."""
    foreign = steady(3, hand="mano", betas=torch.full((10,), 3.0))
    mean = steady(3, betas=torch.zeros(10))
    torch.testing.assert_close(foreign.joints(hand), mean.joints(hand))
    assert not torch.allclose(steady(3, betas=torch.full((10,), 3.0)).joints(hand), mean.joints(hand), atol=1e-3)


def test_the_wrist_is_the_rest_wrist_plus_transl(hand):
    motion = steady(4)
    rest = hand.shape(motion.betas).rest_joints[0]
    torch.testing.assert_close(motion.joints(hand)[:, 0], rest + motion.transl)


def test_one_shape_is_the_median_of_the_valid_frames():
    """Shapes 1, 2, 100 and, not valid, NaN: the median is 2."""
    betas = torch.tensor([1.0, 2.0, 100.0, math.nan])[:, None].expand(4, 10).clone()
    motion = steady(4, betas=betas, valid=torch.tensor([True, True, True, False]))
    torch.testing.assert_close(motion.with_one_shape().betas, torch.full((10,), 2.0))
    whole = steady(4)
    assert whole.with_one_shape() is whole


def test_to_changes_the_precision_of_numbers_only():
    motion = steady(3).to(dtype=torch.float64)
    assert {motion.R.dtype, motion.betas.dtype, motion.transl.dtype, motion.sigma.dtype} == {torch.float64}
    assert {motion.valid.dtype, motion.refined.dtype} == {torch.bool}


def test_functions_leave_their_argument_alone():
    motion = spoil(steady(6), [2])
    before = {name: value.clone() for name, value in motion._per_frame().items()}
    for change in (fill_missing, mirror, lambda m: resample(m, 60.0), lambda m: concat([m, m]), lambda m: m[1:3]):
        change(motion)
    for name, value in motion._per_frame().items():
        torch.testing.assert_close(value, before[name], equal_nan=True)
