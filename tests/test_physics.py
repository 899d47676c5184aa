"""Intuitive physics: Euler angles there and back, hand-computed terms, and what an empty set costs."""

from itertools import pairwise
from math import pi, radians

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_angles, anatomical_axes, anatomical_rotations
from handdiff_lib.physics import (
    flips,
    grasp_pairs,
    kin_deg,
    kin_readings,
    kinetic_loss,
    sta_abs_deg,
    sta_deg2,
    sta_geo_deg,
    sta_readings,
    stability_loss,
    transit_triplets,
)
from handdiff_lib.topology import FREE, GRASP, MANIPULATE, REACH, RELEASE


@pytest.fixture(scope="module")
def axes(hand):
    return anatomical_axes(hand.to(dtype=torch.float64))


def degrees(*rows):
    """Angles (1, t, k) in radians from degrees."""
    return torch.deg2rad(torch.tensor([rows], dtype=torch.float64).mT.contiguous())


def states(*values):
    return torch.tensor([values])


def test_angles_of_any_rotation_make_it_again(axes):
    R = rotation.exp(3 * torch.randn(200, 16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    again = anatomical_rotations(anatomical_angles(R, axes), axes)
    assert rotation.angle_between(again, R).max() < 1e-6
    assert (again - R).abs().max() < 1e-6


def test_pure_flexion_is_flexion_alone(axes):
    """45 degrees about each joint's own flexion axis, made without Euler angles."""
    bend = rotation.exp(torch.tensor([0, 0, pi / 4], dtype=torch.float64))
    angles = anatomical_angles(axes.mT @ bend @ axes, axes)
    torch.testing.assert_close(angles[:, 2], torch.full((16,), pi / 4, dtype=torch.float64))
    assert angles[:, :2].abs().max() < 1e-6


def test_the_order_is_abduction_twist_flexion(axes):
    x, y, z = (rotation.exp(v) for v in torch.diag(torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)))
    angles = anatomical_angles(axes.mT @ (y @ x @ z) @ axes, axes)
    torch.testing.assert_close(angles, torch.tensor([0.1, 0.2, 0.3]).double().expand(16, 3))


def test_kinetic_loss_by_hand():
    """0, 2, 5, 4, 4 degrees: steps 2, 3, -1, 0; only the third turns back, by 1 degree, in one of three triplets."""
    angles = degrees([0, 2, 5, 4, 4])
    loss = kinetic_loss(angles, states(*[REACH] * 5))
    assert loss.rad2deg().item() == pytest.approx(1 / 3)


def test_kinetic_loss_sums_over_angles_and_counts_both_ways_back():
    angles = degrees([0, 1, 0], [0, -3, 0], [0, 1, 2])
    assert kinetic_loss(angles, states(RELEASE, RELEASE, RELEASE)).rad2deg().item() == pytest.approx(4)


def test_triplets_lie_in_one_stretch_of_reach_or_release():
    state = states(REACH, REACH, REACH, GRASP, REACH, REACH, RELEASE, RELEASE, RELEASE, FREE)[0]
    assert transit_triplets(state).tolist() == [True, False, False, False, False, False, True, False]
    assert grasp_pairs(states(GRASP, GRASP, MANIPULATE, GRASP, GRASP)[0]).tolist() == [True, False, False, True]


def test_stability_loss_by_hand():
    """A pair moves by 3 and 4 degrees, 25 squared; another pair is still: the mean is 12.5 squared degrees."""
    fingers = degrees([0, 3, 3, 90], [0, 4, 4, 0])
    loss = stability_loss(fingers, states(GRASP, GRASP, GRASP, MANIPULATE))
    assert loss.item() == pytest.approx(12.5 * (pi / 180) ** 2)


def test_an_empty_set_costs_nothing_and_has_a_zero_gradient():
    angles = torch.randn(2, 6, 48, requires_grad=True)
    for loss, state in ((kinetic_loss, GRASP), (stability_loss, REACH), (kinetic_loss, FREE)):
        value = loss(angles, torch.full((2, 6), state))
        assert value == 0
        assert torch.autograd.grad(value, angles)[0].abs().max() == 0
    assert kinetic_loss(angles[:, :2], torch.zeros(2, 2, dtype=torch.long)) == 0
    assert stability_loss(angles[:, :1], torch.ones(2, 1, dtype=torch.long)) == 0


def test_the_earlier_step_gets_no_gradient_from_its_sign():
    """d phi / d theta touches only theta_{t+1} and theta_{t+2}."""
    angles = degrees([0, 2, 1]).requires_grad_()
    grad = torch.autograd.grad(kinetic_loss(angles, states(REACH, REACH, REACH)), angles)[0]
    torch.testing.assert_close(grad.flatten(), torch.tensor([0.0, 1, -1]).double())


def test_angles_that_pass_half_a_turn_do_not_jump():
    """From 179 to -179 degrees is 2 degrees on; then 1 back."""
    angles = degrees([177, 179, -179, 180])
    torch.testing.assert_close(kin_deg(angles)[0], torch.tensor([0.0, 1.0]).double())
    torch.testing.assert_close(sta_abs_deg(angles)[0], torch.tensor([2.0, 2, 1]).double())
    assert flips(angles).item() == 0
    assert flips(degrees([0, 120, 0], [0, 1, 2])).item() == 2


def test_kin_of_steady_motion_is_0_and_of_a_degree_to_and_fro_is_1():
    steady, shaking = degrees(range(10)), degrees([0, 1] * 5)
    assert kin_deg(steady).max() < 1e-12
    torch.testing.assert_close(kin_deg(shaking), torch.ones(1, 8).double())
    torch.testing.assert_close(sta_deg2(shaking), torch.ones(1, 9).double())
    torch.testing.assert_close(sta_abs_deg(degrees([0, 3], [0, 1])), torch.full((1, 1), 2.0).double())


def test_white_jitter_has_the_kin_and_sta_of_the_formula():
    r"""Steps of white jitter s have variance 2 s^2 and correlation -1/2: KIN is k 3 s / (2 sqrt(pi)), STA 2 s^2."""
    noise = torch.randn(4000, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angles = torch.deg2rad(0.7 * noise)
    assert kin_deg(angles).mean().item() == pytest.approx(48 * 3 * 0.7 / (2 * pi**0.5), rel=0.01)
    assert sta_deg2(angles).mean().item() == pytest.approx(2 * 0.7**2, rel=0.01)


def test_a_hand_that_is_carried_is_stable(hand, axes):
    """STA of frozen fingers is 0 while the wrist turns."""
    R = torch.eye(3).repeat(5, 16, 1, 1).double()
    R[:, 0] = rotation.exp(torch.linspace(0, 1, 5).double()[:, None] * torch.tensor([0.3, 0.5, 0.2]).double())
    angles = anatomical_angles(R, axes)
    assert sta_deg2(angles[:, 1:].flatten(1)).max() == 0
    assert angles[-1, 0].abs().max() > 0.1


# Readings


def nodding(axes, degrees_of_wrist, degrees_of_finger):
    """Rotations whose flexion at the wrist and at one finger joint goes to and fro between 0 and so many degrees."""
    angles = torch.zeros(2, 6, 16, 3, dtype=torch.float64)
    angles[:, 1::2, 0, 2], angles[:, 1::2, 4, 2] = radians(degrees_of_wrist), radians(degrees_of_finger)
    return anatomical_rotations(angles, axes)


def test_readings_by_hand(axes):
    """The wrist nods by 2 degrees, one finger joint by 3: KIN 5, 3 without the wrist, 5/48 on average.

    One of 45 finger angles changes by 3 degrees: STA 9/45 squared, 3/45 absolute; one of 15 joints turns by 3.
    """
    R = nodding(axes, 2, 3)
    angles = anatomical_angles(R, axes)
    found = kin_readings(angles) | sta_readings(R, angles)
    want = {"kin_deg": 5, "kin_fingers_deg": 3, "kin_mean_deg": 5 / 48}
    want |= {"sta_deg2": 9 / 45, "sta_abs_deg": 3 / 45, "sta_geo_deg": 3 / 15}
    assert found.keys() == want.keys()
    for key, value in want.items():
        frames = 4 if key.startswith("kin") else 5
        torch.testing.assert_close(found[key], torch.full((2, frames), value).double())


def test_readings_are_loops_over_angles(axes, generator):
    R = rotation.exp(0.4 * torch.randn(5, 16, 3, generator=generator, dtype=torch.float64))
    angles = anatomical_angles(R, axes)
    kin, sta = kin_readings(angles), sta_readings(R, angles)
    step = [[[(b - a).item() for a, b in zip(x, y, strict=True)] for x, y in zip(*pair, strict=True)]
            for pair in pairwise(angles.rad2deg())]  # fmt: skip
    for t in range(3):
        back = [[max(0.0, -(a > 0) * b + (a < 0) * b) for a, b in zip(x, y, strict=True)]
                for x, y in zip(step[t], step[t + 1], strict=True)]  # fmt: skip
        assert kin["kin_deg"][t].item() == pytest.approx(sum(map(sum, back)))
        assert kin["kin_fingers_deg"][t].item() == pytest.approx(sum(map(sum, back[1:])))
    for t in range(4):
        flat = [x for joint in step[t][1:] for x in joint]
        assert sta["sta_deg2"][t].item() == pytest.approx(sum(x * x for x in flat) / 45)
        assert sta["sta_abs_deg"][t].item() == pytest.approx(sum(map(abs, flat)) / 45)
        turned = [(R[t, j].mT @ R[t + 1, j]).trace().sub(1).div(2).acos().rad2deg().item() for j in range(1, 16)]
        assert sta["sta_geo_deg"][t].item() == pytest.approx(sum(turned) / 15)


def test_geodesic_sta_does_not_depend_on_the_axes(generator):
    R = rotation.exp(torch.randn(5, 15, 3, generator=generator, dtype=torch.float64))
    other = rotation.exp(torch.randn(15, 3, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(sta_geo_deg(other @ R @ other.mT), sta_geo_deg(R))
