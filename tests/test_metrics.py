"""Metrics: numbers one can do in the head, invariances, and slow twins."""

from dataclasses import replace
from math import radians

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes

from handdiff_lib import rotation
from handdiff_lib.metrics import (
    accel_error_m_s2,
    accel_error_mm,
    align,
    auc,
    jitter_mm,
    macro_f1,
    mje_mm,
    p_mje_mm,
    p_mje_official_mm,
    rotation_error_deg,
    score,
    second_difference_deg,
    shake_spectrum,
    shake_statistics,
    state_f1,
)
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.topology import FREE, GRASP, MANIPULATE, REACH

ABOUT_Z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@pytest.fixture
def joints(generator):
    """Two clouds of 21 joints over six frames, a hand's size, float64."""
    return 0.05 * torch.randn(2, 6, 21, 3, generator=generator, dtype=torch.float64)


def still_motion(t=6):
    return HandMotion(
        R=torch.eye(3).expand(t, 16, 3, 3).clone(),
        betas=torch.zeros(10),
        transl=torch.zeros(t, 3),
        valid=torch.ones(t, dtype=torch.bool),
        fps=30.0,
        hand="open",
    )


# Joint errors


def test_mje_by_hand(joints):
    """One of 21 joints off by 21 mm: the mean is 1 mm. The wrist off by 1 mm: the other 20 are off by 1 mm."""
    truth = joints[0]
    pred = truth.clone()
    pred[:, 7, 0] += 0.021
    torch.testing.assert_close(mje_mm(pred, truth), torch.ones(6, dtype=torch.float64))
    pred = truth.clone()
    pred[:, 0, 2] += 0.001
    torch.testing.assert_close(mje_mm(pred, truth), torch.full((6,), 20 / 21, dtype=torch.float64))


def test_mje_does_not_see_where_the_hand_is(joints):
    pred, truth = joints
    torch.testing.assert_close(mje_mm(pred + torch.ones(6, 1, 3), truth), mje_mm(pred, truth))


def test_p_mje_forgives_a_similarity(joints, generator):
    """A turned, scaled and shifted copy has no error; the same turn of the prediction changes nothing."""
    pred, truth = joints
    R = rotation.exp(torch.randn(6, 3, generator=generator, dtype=torch.float64))

    def move(points):
        return 1.7 * points @ R.mT + torch.tensor([0.1, -2.0, 0.3])

    torch.testing.assert_close(p_mje_mm(move(truth), truth), torch.zeros(6, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(p_mje_mm(move(pred), truth), p_mje_mm(pred, truth))
    torch.testing.assert_close(p_mje_official_mm(move(pred), truth), p_mje_official_mm(pred, truth))


def test_only_the_official_alignment_forgives_a_mirror(joints):
    truth = joints[0]
    mirrored = truth * torch.tensor([-1.0, 1.0, 1.0])
    assert (p_mje_official_mm(mirrored, truth) < 1e-9).all()
    assert (p_mje_mm(mirrored, truth) > 5).all()


def test_official_alignment_is_scipys(joints):
    """Frame by frame: centre, norm 1, orthogonal Procrustes with its scale, as the public evaluators do."""
    pred, truth = joints
    for p, g, ours in zip(pred.numpy(), truth.numpy(), p_mje_official_mm(pred, truth), strict=True):
        p, g = p - p.mean(0), g - g.mean(0)
        R, s = orthogonal_procrustes(p / np.linalg.norm(p), g / np.linalg.norm(g))
        aligned = p / np.linalg.norm(p) @ R * s * np.linalg.norm(g)
        assert 1000 * np.linalg.norm(aligned - g, axis=1).mean() == pytest.approx(ours.item(), rel=1e-9)


def test_no_nearby_similarity_is_better(joints, generator):
    """`align` is a least-squares optimum among proper rotations: small moves of the result only add squared error."""
    pred, truth = joints
    aligned = align(pred, truth)
    centre = truth.mean(-2, keepdim=True)
    best = (aligned - truth).square().sum((-1, -2))
    for _ in range(20):
        R = rotation.exp(0.02 * torch.randn(6, 3, generator=generator, dtype=torch.float64))
        scale = 1 + 0.02 * torch.randn(6, 1, 1, generator=generator, dtype=torch.float64)
        shift = 0.001 * torch.randn(6, 1, 3, generator=generator, dtype=torch.float64)
        moved = scale * (aligned - centre) @ R.mT + centre + shift
        assert ((moved - truth).square().sum((-1, -2)) > best).all()


def test_alignments_are_ordered(joints):
    """More freedom, less squared error: reflections allowed never loses."""
    pred, truth = joints

    def squared(may_reflect):
        return (align(pred, truth, may_reflect) - truth).square().sum((-1, -2))

    assert (squared(True) <= squared(False) + 1e-12).all()


def test_a_point_goes_to_the_centre():
    """All predicted joints on one spot: the aligned joints sit at the truth's centre, finite."""
    truth = torch.zeros(1, 21, 3)
    truth[0, 0, 0] = 0.021
    aligned = align(torch.full((1, 21, 3), 0.3), truth)
    torch.testing.assert_close(aligned[..., 0], torch.full((1, 21), 0.001), atol=1e-6, rtol=0)


def test_auc_by_hand():
    """Thresholds lie 50/99 mm apart. No error has area 1. 20 mm is within from number 40 on: 59 trapezoids and a half.

    Half of the joints at 0, half beyond 50 mm: one half.
    """
    truth = torch.zeros(1, 2, 3)
    assert auc(truth, truth).item() == 1
    assert auc(truth + torch.tensor([0.02, 0.0, 0.0]), truth).item() == pytest.approx(59.5 / 99)
    assert auc(torch.tensor([[[0.0, 0, 0], [0, 0.051, 0]]]), truth).item() == 0.5


def test_auc_is_the_evaluators_loop(joints):
    """Share of all points within each threshold, trapezoids over 0 to 50 mm: the mean over frames is the same."""
    pred, truth = joints
    pred = truth + 0.3 * (pred - truth)
    error = (pred - truth).norm(dim=-1).numpy()
    thresholds = np.linspace(0, 0.05, 100)
    shares = [np.mean([np.mean(error[:, k] <= limit) for k in range(21)]) for limit in thresholds]
    want = np.trapezoid(shares, thresholds) / 0.05
    assert 0.2 < want < 0.8
    assert auc(pred, truth).mean().item() == pytest.approx(want, rel=1e-9)
    capped = 1 - (1000 * error).clip(max=50).mean() / 50
    assert want == pytest.approx(capped, abs=0.01), "one minus the capped mean error"


def test_clips_are_scored_at_once(generator):
    """Three clips of six frames: what each has alone."""
    pred, truth = 0.05 * torch.randn(2, 3, 6, 21, 3, generator=generator)
    for metric in (mje_mm, p_mje_mm, p_mje_official_mm, auc, accel_error_mm):
        torch.testing.assert_close(
            metric(pred, truth), torch.stack([metric(*each) for each in zip(pred, truth, strict=True)])
        )
    torch.testing.assert_close(jitter_mm(pred), torch.stack([jitter_mm(each) for each in pred]))


# Differences over time


def test_acceleration_by_hand():
    """One of 21 joints at 0, 0, 2.1 mm: second difference 2.1 mm/frame^2, a mean of 0.1."""
    truth = torch.zeros(3, 21, 3)
    pred = truth.clone()
    pred[2, 5, 1] = 0.0021
    torch.testing.assert_close(accel_error_mm(pred, truth), torch.tensor([0.1]))


def test_a_mm_a_frame_squared_is_0_9_m_s2_at_30_frames_a_second(joints):
    torch.testing.assert_close(accel_error_m_s2(*joints, 30.0), 0.9 * accel_error_mm(*joints))


def test_constant_velocity_has_no_acceleration(joints):
    pred, other = joints
    drift = torch.arange(6, dtype=torch.float64)[:, None, None] * other[0]
    torch.testing.assert_close(
        accel_error_mm(pred + drift, pred), torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0
    )


def test_acceleration_error_is_the_textbook_sum(joints):
    pred, truth = joints
    for t, ours in enumerate(accel_error_mm(pred, truth)):
        total = 0.0
        for k in range(21):
            second = [
                (x[t, k] - x[t, 0]) - 2 * (x[t + 1, k] - x[t + 1, 0]) + (x[t + 2, k] - x[t + 2, 0])
                for x in (pred, truth)
            ]
            total += (second[0] - second[1]).norm().item()
        assert 1000 * total / 21 == pytest.approx(ours.item())


def test_jitter_of_a_parabola_is_zero_and_of_a_cubic_six():
    """Every joint but the wrist along t^3 mm: third difference 6 mm/frame^3 on 20 of 21 joints."""
    t = torch.arange(6, dtype=torch.float64)[:, None]
    joints = torch.zeros(6, 21, 3, dtype=torch.float64)
    joints[:, 1:, 0] = 0.001 * t**2
    torch.testing.assert_close(jitter_mm(joints), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    joints[:, 1:, 0] = 0.001 * t**3
    torch.testing.assert_close(jitter_mm(joints), torch.full((3,), 6 * 20 / 21, dtype=torch.float64))


# Rotations


def test_rotation_error_by_hand():
    R = rotation.exp(torch.tensor([0.0, 0.1, radians(30)])[:, None] * torch.ones(3))
    expected = torch.tensor([[0.0, 0.0, 0.0]])
    torch.testing.assert_close(rotation_error_deg(R[None], R[None]), expected, atol=1e-4, rtol=0)
    turned = R @ rotation.exp(torch.tensor([radians(20), 0.0, 0.0]))
    torch.testing.assert_close(rotation_error_deg(turned[None], R[None]), expected + 20)


def test_a_steady_turn_has_no_second_difference():
    """7 degrees a frame about z, through several whole turns."""
    R = rotation.exp(torch.arange(200, dtype=torch.float64)[:, None] * radians(7) * ABOUT_Z)[:, None]
    torch.testing.assert_close(second_difference_deg(R), torch.zeros(198, dtype=torch.float64), atol=1e-6, rtol=0)


def test_second_difference_by_hand():
    """Angles 0, 1, 3, 6, 6 degrees: steps 1, 2, 3, 0, so changes of 1, 1 and 3. A still joint beside it halves them."""
    angle = torch.tensor([0, 1, 3, 6, 6], dtype=torch.float64).deg2rad()
    R = rotation.exp(torch.stack([angle, 0 * angle], 1)[..., None] * ABOUT_Z)
    torch.testing.assert_close(second_difference_deg(R), torch.tensor([0.5, 0.5, 1.5], dtype=torch.float64))


def test_second_difference_does_not_depend_on_the_world(generator):
    R = rotation.exp(0.3 * torch.randn(8, 4, 3, generator=generator, dtype=torch.float64))
    world = rotation.exp(torch.randn(3, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(second_difference_deg(world @ R), second_difference_deg(R))


# The whole score


def test_score_of_the_truth_is_zero(hand):
    motion = still_motion()
    found = score(motion, motion, hand)
    assert list(found) == ["mje_mm", "p_mje_mm", "accl_mm", "finger_deg", "finger_second_difference_deg"]
    assert max(found.values()) < 1e-3


def test_score_sees_a_bent_finger(hand):
    """One of 15 finger joints bent by 30 degrees in every frame: 2 degrees on average, no acceleration."""
    truth = still_motion()
    bent = truth.R.clone()
    bent[:, 3] = rotation.exp(torch.tensor([0.0, 0.0, radians(30)]))
    found = score(replace(truth, R=bent), truth, hand)
    assert found["finger_deg"] == pytest.approx(2, rel=1e-4)
    assert 0.1 < found["mje_mm"] < 1  # one tip of 21 joints moves about 11 mm
    assert found["accl_mm"] < 1e-3


def test_score_uses_each_ones_shape(hand):
    truth = still_motion()
    other = replace(truth, betas=torch.tensor([2.0] + [0.0] * 9))
    assert score(other, truth, hand)["mje_mm"] > 0.5


def test_score_looks_where_the_truth_is_known(hand):
    """A wrong or missing truth frame does not count; a frame the prediction calls missing does."""
    truth = still_motion(7)
    spoiled = truth.R.clone()
    spoiled[0] = torch.nan
    known = truth.valid.clone()
    known[0] = False
    found = score(truth, replace(truth, R=spoiled, valid=known), hand)
    assert max(found.values()) < 1e-3
    bent = truth.R.clone()
    bent[0, 3] = rotation.exp(torch.tensor([0.0, 0.0, radians(70)]))
    assert score(replace(truth, R=bent, valid=known), truth, hand)["mje_mm"] > 0.05


def test_score_refuses_what_cannot_be_compared(hand):
    motion = still_motion()
    with pytest.raises(MotionError, match="6 frames against 5"):
        score(motion, motion[:5], hand)
    with pytest.raises(MotionError, match="side differs"):
        score(motion, replace(motion, side="left"), hand)
    with pytest.raises(MotionError, match="fps differs"):
        score(replace(motion, fps=60.0), motion, hand)
    with pytest.raises(MotionError, match="no valid frame"):
        score(motion, replace(motion, valid=torch.zeros(6, dtype=torch.bool)), hand)
    unfilled = replace(motion, transl=motion.transl * torch.nan)
    with pytest.raises(MotionError, match="NaN or inf in 6 frames"):
        score(unfilled, motion, hand)


def test_white_noise_has_the_correlations_of_a_second_difference(generator):
    """e2 - 2 e1 + e0 has variance 6, and -4 and 1 with itself one and two frames on."""
    R = rotation.exp(0.01 * torch.randn(4000, 3, 3, generator=generator))
    found = shake_statistics(R)
    assert found["lag1"] == pytest.approx(-2 / 3, abs=0.02)
    assert found["lag2"] == pytest.approx(1 / 6, abs=0.02)
    assert found["spikes"] == 0
    assert found["mean_deg"] < found["p95_deg"] < found["p99_deg"]


def test_a_steady_turn_does_not_shake():
    R = rotation.exp(torch.arange(20.0)[:, None, None] * torch.tensor([0.05, 0.0, 0.0]))
    assert shake_statistics(R)["mean_deg"] < 0.01


def test_white_noise_fills_each_band_by_its_width(generator):
    """2, 2.5, 2.5 and 5 of 12 Hz; numbers that remember lose power from band to band."""
    white = 0.01 * torch.randn(4000, 15, 3, generator=generator)
    shares = torch.tensor([2, 2.5, 2.5, 5]) / 12
    torch.testing.assert_close(shake_spectrum(rotation.exp(white), 30.0), shares, atol=0.02, rtol=0)
    smooth = (white[2:] + 2 * white[1:-1] + white[:-2]) / 4
    low, _, _, high = shake_spectrum(rotation.exp(smooth), 30.0)
    assert low > 0.35 > 0.2 > high


# Motion states


def test_macro_f1_by_hand():
    """Two of three reaches and both holds are found, the other reach is called a hold, the free frame does not count.

    Reach: 2 hits, 1 missed, F1 4/5. Grasp: 2 hits, 1 too many, F1 4/5. Nothing is manipulated or released.
    """
    truth = torch.tensor([REACH, REACH, REACH, GRASP, GRASP, FREE])
    pred = torch.tensor([REACH, REACH, GRASP, GRASP, GRASP, MANIPULATE])
    assert state_f1(pred, truth) == {"reach": pytest.approx(0.8), "stable grasp": pytest.approx(0.8)}
    assert macro_f1(pred, truth) == pytest.approx(0.8)
    absent = torch.tensor([REACH, REACH, MANIPULATE, GRASP, GRASP, FREE])  # grasp now 1, reach 4/5
    assert macro_f1(absent, truth) == pytest.approx(0.9)
    assert macro_f1(pred, torch.full((6,), FREE)) != macro_f1(pred, torch.full((6,), FREE)), "nothing to score is nan"
