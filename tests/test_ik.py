"""Inverse kinematics: known poses come back, laws of motion, a dense slow twin of one step, and real recordings."""

from dataclasses import replace
from math import radians

import numpy as np
import pytest
import torch

from handdiff_lib import ik, rotation
from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.ik import fit_joints
from handdiff_lib.motion import MotionError
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.topology import CHAIN, FINGERS

CHAINS = torch.tensor([CHAIN[finger] for finger in FINGERS])
LOWEST = torch.deg2rad(torch.tensor([[-15.0, -20, -15], [-25, -5, -5], [-25, -5, -5], [-25, -5, -5], [-25, -5, -5]]))
HIGHEST = torch.deg2rad(torch.tensor([[45.0, 40, 60], [85, 100, 70], [85, 100, 70], [85, 100, 70], [85, 100, 70]]))


def plausible(hand, count, generator):
    """Rotations of a hand that bends as hands do: hinges, knuckles that spread by up to 12 degrees, no twist."""
    C = anatomical_axes(hand)[CHAINS]
    z, y = torch.tensor([0.0, 0.0, 1.0]).to(C), torch.tensor([0.0, 1.0, 0.0]).to(C)
    share = torch.rand(count, 5, 3, generator=generator)
    flexion = (LOWEST + share * (HIGHEST - LOWEST)).to(C)
    spread = (
        radians(12) * (2 * torch.rand(count, 5, 3, generator=generator).to(C) - 1) * torch.tensor([1.0, 0, 0]).to(C)
    )
    R = rotation.exp(torch.randn(count, 16, 3, generator=generator).to(C))
    R[:, CHAINS] = C.mT @ rotation.exp(spread[..., None] * y) @ rotation.exp(flexion[..., None] * z) @ C
    return R


def smooth(hand, count, generator):
    """A motion through plausible poses, 24 frames from one to the next, its turn and its place included."""
    knots = plausible(hand, count // 24 + 2, generator)
    place = torch.arange(count) / 24
    before, share = place.long(), (place % 1).to(knots)
    return rotation.slerp(knots[before], knots[before + 1], share[:, None].expand(-1, 16))


def bones(hand, R):
    """Where the bone beyond each finger joint points, given that joint's rotation in any frame."""
    return (R[:, CHAINS] @ -anatomical_axes(hand)[CHAINS][:, :, 0, :, None])[..., 0]


def angle(a, b):
    """Radians between unit vectors."""
    return 2 * ((a - b).norm(dim=-1) / 2).clamp(max=1).asin()


def local_angles(hand, R):
    """(t, 5, 3) abduction, twist and flexion of the finger joints: R = C' Ry Rx Rz C."""
    C = anatomical_axes(hand)[CHAINS]
    M = C @ R[:, CHAINS] @ C.mT
    return {
        "abduction": torch.atan2(M[..., 0, 2], M[..., 2, 2]),
        "twist": -M[..., 1, 2].asin(),
        "flexion": torch.atan2(M[..., 1, 0], M[..., 1, 1]),
    }


def test_known_poses_and_shape_come_back(hand, generator):
    """Joints made from 80 poses of one person: within 0.3 mm, each bone within 2 degrees, in the world and locally."""
    R, transl = plausible(hand, 80, generator), torch.randn(80, 3, generator=generator)
    betas = 1.5 * torch.randn(10, generator=generator)
    truth = hand.shape(betas).pose(R, transl)
    found = fit_joints(truth.joints21(), hand)
    assert found.residual.max() < 3e-4
    posed = hand.shape(found.betas).pose(found.R, found.transl)
    assert (posed.joints21() - truth.joints21()).norm(dim=-1).max() < 3e-4
    assert angle(bones(hand, posed.R_world_joint), bones(hand, truth.R_world_joint)).max() < radians(2)
    assert angle(bones(hand, found.R), bones(hand, R)).max() < radians(2)
    assert rotation.angle_between(found.R[:, 0], R[:, 0]).max() < radians(0.5)
    assert (found.betas - betas).abs().max() < 0.5


def test_one_step_is_the_dense_gauss_newton_step(hand, generator):
    """The block elimination against autograd's Jacobian and one dense solve, with a hand whose tips are rigid."""
    hand = replace(hand.to(dtype=torch.float64), posedirs=torch.zeros_like(hand.posedirs, dtype=torch.float64))
    t, sigma = 3, 5e-3
    problem = ik._Problem(hand, anatomical_axes(hand)[CHAINS], ik._LIMITS, sigma)
    angles = 0.4 * torch.randn(t, 5, 3, 3, generator=generator, dtype=torch.float64)
    root = rotation.exp(torch.randn(t, 3, generator=generator, dtype=torch.float64))
    betas = torch.linspace(-4, 4, 10, dtype=torch.float64)
    zero = torch.zeros(t, 21, 3, dtype=torch.float64)
    R_world = root[:, None].expand(-1, 16, -1, -1)
    fit = ik._Fit(angles, root, zero[:, 0], betas.expand(t, -1), R_world, zero, zero[:, 0, 0])
    target = ik._look(problem, zero, fit).points + 3e-3 * torch.randn(
        t, 21, 3, generator=generator, dtype=torch.float64
    )
    fit = ik._look(problem, target, fit)

    def moved(x):
        turn, push, bend = x[: t * 51].reshape(t, 51).split([3, 3, 45], dim=1)
        return replace(
            fit,
            angles=angles + bend.reshape(t, 5, 3, 3),
            root=rotation.exp(turn) @ root,
            transl=push,
            betas=(betas + x[t * 51 :]).expand(t, -1),
        )

    def residuals(x):
        new = moved(x)
        posed = hand.shape(new.betas).pose(problem.rotations(new), new.transl)
        excess = new.betas - new.betas.clamp(-ik._SHAPE_BOUND, ik._SHAPE_BOUND)
        parts = [(posed.joints21() - target) / sigma, problem.strain(new)]
        parts += [ik._SHAPE_PULL**0.5 * new.betas, ik._SHAPE_HOLD**0.5 * excess]
        return torch.cat([part.flatten() for part in parts])

    x = torch.zeros(t * 51 + 10, dtype=torch.float64)
    r, J = residuals(x), torch.autograd.functional.jacobian(residuals, x)
    assert fit.cost.sum() == pytest.approx(r.square().sum().item() / 2)  # every distance is below Huber's corner
    for with_shape in (True, False):
        keep = slice(None) if with_shape else slice(0, t * 51)
        H = J[:, keep].T @ J[:, keep]
        H.diagonal().mul_(1 + 0.1)
        x = torch.zeros(t * 51 + 10, dtype=torch.float64)
        x[keep] = -torch.linalg.solve(H, J[:, keep].T @ r)
        step = ik._step(problem, target, fit, torch.full((t,), 0.1, dtype=torch.float64), with_shape)
        dense = moved(x)
        for name in ("angles", "root", "transl", "betas"):
            torch.testing.assert_close(getattr(step, name), getattr(dense, name), atol=1e-8, rtol=1e-7)


def test_a_rigid_frame_only_turns_the_root(hand, generator):
    """Keypoints turned and moved, or with the wrist at the origin in every frame, give the same fingers and shape."""
    hand = hand.to(dtype=torch.float64)
    truth = hand.shape(torch.linspace(-1, 1, 10, dtype=torch.float64)).pose(smooth(hand, 30, generator))
    joints = truth.joints21() + 1e-3 * torch.randn(30, 21, 3, generator=generator, dtype=torch.float64)
    turn = rotation.exp(torch.tensor([0.4, -2.0, 1.1], dtype=torch.float64))
    plain = fit_joints(joints, hand)
    moved = fit_joints(joints @ turn.T + torch.tensor([0.3, -7.0, 2.0], dtype=torch.float64), hand)
    centred = fit_joints(joints - joints[:, :1], hand)
    assert rotation.angle_between(turn @ plain.R[:, 0], moved.R[:, 0]).max() < 1e-3
    for other in (moved, centred):
        assert rotation.angle_between(plain.R[:, 1:], other.R[:, 1:]).max() < 1e-3
        torch.testing.assert_close(other.betas, plain.betas, atol=1e-3, rtol=0)
    torch.testing.assert_close(centred.transl, plain.transl - joints[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2])
def test_short_tracks_keep_their_dtype(hand, generator, count, dtype):
    joints = hand.mean_shape().pose(plausible(hand, count, generator)).joints21().to(dtype)
    found = fit_joints(joints, hand)
    assert found.R.shape == (count, 16, 3, 3)
    assert {found.R.dtype, found.betas.dtype, found.transl.dtype, found.residual.dtype} == {dtype}
    assert found.residual.max() < 3e-4


def test_missing_frames_repeat_the_valid_one_before(hand, generator):
    """Marked or not finite: no say in the shape, the pose of the frame before, residual 0."""
    joints = hand.mean_shape().pose(smooth(hand, 8, generator)).joints21()
    valid = torch.tensor([False, True, True, False, True, True, True, True])
    whole = fit_joints(joints[[1, 2, 4, 6, 7]], hand)
    joints[0], joints[3], joints[5, 4, 1] = 1e6, 0.0, torch.nan
    found = fit_joints(joints, hand, valid)
    torch.testing.assert_close(found.R, whole.R[[0, 0, 1, 1, 2, 2, 3, 4]])
    torch.testing.assert_close(found.betas, whole.betas)
    assert found.residual[[0, 3, 5]].tolist() == [0, 0, 0]
    assert (found.residual[[1, 2, 4, 6, 7]] > 0).all()


def test_a_given_shape_is_kept(hand, generator):
    betas = torch.randn(10, generator=generator)
    joints = hand.shape(betas).pose(smooth(hand, 20, generator)).joints21()
    known = fit_joints(joints, hand, fit_shape=False, betas=betas)
    assert torch.equal(known.betas, betas)
    assert known.residual.max() < 3e-4
    assert torch.equal(fit_joints(joints, hand, fit_shape=False).betas, torch.zeros(10))


@pytest.mark.parametrize(("scale", "size"), [(1000.0, "90.7"), (0.01, "0.000907")])
def test_keypoints_that_are_not_metres_are_named(hand, scale, size):
    joints = scale * hand.mean_shape().pose(torch.eye(3).expand(4, 16, 3, 3)).joints21()
    with pytest.raises(MotionError, match=rf"wrist to middle knuckle is {size}, .*0\.04 to 0\.2 metres; scale"):
        fit_joints(joints, hand)


def test_no_valid_frame_is_an_error(hand):
    with pytest.raises(MotionError, match="no valid frame"):
        fit_joints(torch.full((3, 21, 3), torch.nan), hand)


def test_noise_does_not_break_fingers(hand, generator):
    """Keypoints off by 5 mm, bones 10 % too long or short: hinges stay hinges, nothing bends back or folds over."""
    clean = hand.mean_shape().pose(smooth(hand, 96, generator)).joints21()
    stretch = 1 + 0.1 * torch.randn(96, 21, 1, generator=generator)
    noise = 5e-3 * torch.randn(96, 21, 3, generator=generator)
    found = fit_joints(clean[:, :1] + stretch * (clean - clean[:, :1]) + noise, hand)
    angles = {name: torch.rad2deg(value) for name, value in local_angles(hand, found.R).items()}
    assert found.betas.abs().max() < 3.5
    assert angles["abduction"][..., 1:].abs().max() < 15
    assert angles["twist"].abs().max() < 30
    assert angles["flexion"][:, 1:].min() > -60
    assert angles["flexion"][:, 1:, 1:].min() > -25
    assert angles["flexion"].max() < 135


def test_a_wrong_keypoint_is_outvoted(hand, generator):
    """One finger tip 6 cm off in one frame moves the other fingers by less than 1 mm."""
    joints = hand.mean_shape().pose(smooth(hand, 24, generator)).joints21()
    wrong = joints.clone()
    wrong[10, 8] += torch.tensor([0.0, 0.06, 0.0])
    found = fit_joints(wrong, hand)
    others = [k for k in range(21) if k not in (5, 6, 7, 8)]
    error = hand.shape(found.betas).pose(found.R, found.transl).joints21() - joints
    assert error[10, others].norm(dim=-1).max() < 1e-3
    assert error[[9, 11]].norm(dim=-1).max() < 1e-3


def test_a_frame_that_went_astray_is_won_back(hand, generator):
    """A search that ended in a folded hand starts again from its neighbours, and only that frame changes."""
    joints = hand.mean_shape().pose(smooth(hand, 12, generator)).joints21()
    problem = ik._Problem(hand, anatomical_axes(hand)[CHAINS], ik._LIMITS.float(), sigma=1e-3)
    good = ik._solve(problem, joints, ik._start(problem, joints, torch.zeros(10)))
    astray = replace(good, angles=good.angles.clone())
    astray.angles[5] += 2
    astray = ik._look(problem, joints, astray)
    assert astray.cost[5] > 1000
    back = ik._from_neighbours(problem, joints, astray)
    assert back.cost[5] < 1
    assert torch.equal(back.angles[[0, 1, 10, 11]], good.angles[[0, 1, 10, 11]])


@pytest.mark.recording
@pytest.mark.parametrize("side", ["right", "left"])
def test_motion_capture_fits_to_a_millimetre(hand, recordings, side):
    """ManipNet's cup1, one shape for the track; the same joints taken for the other hand fit far worse."""
    with np.load(recordings / "manipnet" / "check_cup1.npz") as arrays:
        joints = torch.from_numpy(arrays[f"joints_{side}"][::60])
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    found = fit_joints(joints if side == "right" else joints * mirror, hand)
    assert found.residual.median() < 1.5e-3
    assert found.betas.abs().max() < 4
    angles = {name: torch.rad2deg(value) for name, value in local_angles(hand, found.R).items()}
    assert angles["flexion"][:, 1:, 1:].min() > -20
    assert angles["twist"].abs().max() < 20
    wrong = fit_joints(joints if side == "left" else joints * mirror, hand)
    assert wrong.residual.median() > 2 * found.residual.median()


@pytest.mark.recording
def test_detector_keypoints_give_a_hand(hand, recordings):
    """MediaPipe on a video: bones that change by 16 %, wrist at the origin; the fit stays a hand."""
    joints = torch.from_numpy(np.stack(read_pickle(recordings / "mediapipe_video" / "human_joint_right.pkl")))[::20]
    found = fit_joints(joints.float(), hand)
    angles = {name: torch.rad2deg(value) for name, value in local_angles(hand, found.R).items()}
    assert found.residual.median() < 5e-3
    assert found.betas.abs().max() < 3.5
    assert angles["flexion"][:, 1:, 1:].min() > -20
    assert angles["flexion"].max() < 125
