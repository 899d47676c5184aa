"""Anatomical axes: proper frames, along the bones, with flexion and abduction the way a hand moves."""

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.topology import CHAIN, FINGERS, TIPS


@pytest.fixture(scope="module")
def axes(hand):
    return anatomical_axes(hand)


def moved_tip(hand, axes, finger, joint, axis, degrees=30.0):
    """Where a finger's tip goes (3,) when one joint turns about one of its anatomical axes."""
    R = torch.eye(3).repeat(16, 1, 1)
    about = torch.deg2rad(torch.tensor(degrees)) * torch.eye(3)[axis]
    R[joint] = axes[joint].mT @ rotation.exp(about) @ axes[joint]
    k = FINGERS.index(finger)
    return hand.mean_shape().pose(R).tips()[k] - hand.mean_shape().pose(torch.eye(3).repeat(16, 1, 1)).tips()[k]


def test_they_are_rotations(axes):
    torch.testing.assert_close(axes @ axes.mT, torch.eye(3).expand(16, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(axes), torch.ones(16))


def test_the_wrist_keeps_its_own(axes):
    assert torch.equal(axes[0], torch.eye(3))


@pytest.mark.parametrize("finger", FINGERS)
def test_x_runs_along_the_bone_towards_the_palm(hand, axes, finger):
    points = [*hand.J_template[list(CHAIN[finger])], hand.v_template[TIPS["smplx"][FINGERS.index(finger)]]]
    for joint, start, end in zip(CHAIN[finger], points[:-1], points[1:], strict=True):
        bone = axes[joint] @ (start - end)
        torch.testing.assert_close(bone, bone.norm() * torch.tensor([1.0, 0, 0]), atol=1e-6, rtol=0)


def test_y_points_out_of_the_back(axes):
    """The back of the flat hand is +y; only the thumb lies turned."""
    assert (axes[1:13, 1, 1] > 0.8).all()
    assert (axes[13:, 1, 1] < 0.8).all()


@pytest.mark.parametrize("finger", FINGERS)
def test_flexion_closes(hand, axes, finger):
    """The tips of four fingers move to the palm's side (-y), the thumb's across the palm; a negative angle opens."""
    for joint in CHAIN[finger]:
        step = moved_tip(hand, axes, finger, joint, axis=2)
        middle = hand.J_template[CHAIN["little"][0]] - hand.J_template[CHAIN["thumb"][0]]
        closes = middle @ step if finger == "thumb" else -step[1]
        assert closes > 0, f"joint {joint}"
        opens = moved_tip(hand, axes, finger, joint, axis=2, degrees=-30.0)
        assert (middle @ opens if finger == "thumb" else -opens[1]) < 0


@pytest.mark.parametrize("finger", [f for f in FINGERS if f != "thumb"])
def test_abduction_goes_towards_the_thumb(hand, axes, finger):
    """The thumb's side is +z; nothing leaves the plane of the hand by more than a third of that."""
    step = moved_tip(hand, axes, finger, CHAIN[finger][0], axis=1)
    assert step[2] > 0.02
    assert abs(step[1]) < step[2] / 3


@pytest.mark.parametrize("finger", FINGERS)
def test_twist_of_the_last_joint_leaves_the_tip(hand, axes, finger):
    """Only pose corrections of the skin, a few millimetres, move it."""
    step = moved_tip(hand, axes, finger, CHAIN[finger][2], axis=0)
    assert step.norm() < 0.004
    assert step.norm() < moved_tip(hand, axes, finger, CHAIN[finger][2], axis=2).norm() / 2


def test_another_precision_gives_the_same_axes(hand, axes):
    double = anatomical_axes(hand.to(dtype=torch.float64))
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), axes, atol=1e-6, rtol=0)
