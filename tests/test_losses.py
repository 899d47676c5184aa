"""Losses by numbers one can do in the head, and their gradients."""

import math
from dataclasses import asdict, replace

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.denoiser import Prediction
from handdiff_lib.losses import (
    LossWeights,
    Target,
    difference_loss,
    joint_loss,
    loss_terms,
    rotation_loss,
    state_loss,
    weighted,
)
from handdiff_lib.topology import FREE

QUARTER = torch.tensor([0.0, 0.0, math.pi / 2])
ALMOST_ZERO = 1.1e-3
"""What a distance of 0 costs, in dm: a tenth of a millimetre, so that the root has a gradient."""


@pytest.fixture
def target(generator) -> Target:
    """Two windows of five frames."""
    R = rotation.exp(0.4 * torch.randn(2, 5, 16, 3, generator=generator))
    state = torch.tensor([[0, 1, 1, 3, FREE], [FREE] * 5])
    return Target(R, torch.randn(2, 10, generator=generator), state)


def right(target: Target) -> Prediction:
    """The prediction that says the truth, with no opinion about states."""
    return Prediction(target.R.clone(), target.betas.clone(), torch.zeros(2, 5, 4))


def test_rotation_loss_by_hand():
    r"""An angle a costs $4 (1 - \cos a)$: a quarter turn 4, a radian 1.84; a half turn, the most, 8."""
    R = torch.eye(3).expand(1, 1, 1, 3, 3)
    for angle, cost in ((0.0, 0.0), (math.pi / 2, 4.0), (1.0, 1.8388), (math.pi, 8.0)):
        turned = rotation.exp(torch.tensor([0.0, angle, 0.0])).expand_as(R)
        torch.testing.assert_close(rotation_loss(turned, R).item(), cost, atol=1e-4, rtol=0)
    half = torch.eye(3).repeat(1, 1, 2, 1, 1)
    half[0, 0, 1] = rotation.exp(QUARTER)
    torch.testing.assert_close(rotation_loss(half, torch.eye(3).expand_as(half)).item(), 2.0, atol=1e-5, rtol=0)


def test_joint_loss_by_hand():
    """1 cm is 0.1 dm; of two joints, one right and one off by (3, 4, 0) cm, the mean is 0.25."""
    p = torch.zeros(1, 1, 2, 3)
    off = p.clone()
    off[..., 0] = 0.1
    torch.testing.assert_close(joint_loss(off, p).item(), 0.1, atol=1e-4, rtol=0)
    off = p.clone()
    off[0, 0, 1] = torch.tensor([0.3, 0.4, 0.0])
    torch.testing.assert_close(joint_loss(off, p).item(), 0.25, atol=ALMOST_ZERO, rtol=0)


def test_difference_loss_by_hand():
    """One frame of four off by 1 cm: two of three steps are wrong by 0.1 dm, two accelerations by 0.2 and 0.1.

    A constant offset costs neither, a steady drift no acceleration.
    """
    p = torch.rand(1, 4, 3, 3)
    off = p.clone()
    off[:, 1, :, 2] += 0.1
    torch.testing.assert_close(difference_loss(off, p, 1).item(), 0.2 / 3, atol=ALMOST_ZERO, rtol=0)
    torch.testing.assert_close(difference_loss(off, p, 2).item(), 0.15, atol=ALMOST_ZERO, rtol=0)
    assert difference_loss(p + 1, p, 1) < ALMOST_ZERO
    drift = p + torch.arange(4.0)[:, None, None]
    assert difference_loss(drift, p, 1) > 1
    assert difference_loss(drift, p, 2) < ALMOST_ZERO


def test_a_window_too_short_costs_nothing():
    p = torch.rand(1, 2, 3, 3)
    assert difference_loss(p[:, :1] + 1, p[:, :1], 1) == 0
    assert difference_loss(2 * p, p, 2) == 0
    assert difference_loss(2 * p, p, 1) > 0


def test_state_loss_by_hand():
    """No opinion costs log 4; one that is sure and right nothing, sure and wrong by 10 costs 10."""
    state = torch.tensor([[2, FREE]])
    assert state_loss(torch.zeros(1, 2, 4), state).item() == pytest.approx(math.log(4))
    sure = torch.zeros(1, 2, 4)
    sure[0, 0, 2] = 20.0
    assert state_loss(sure, state) < 1e-6
    wrong = torch.full((1, 2, 4), -100.0)
    wrong[0, 0, :2] = torch.tensor([10.0, -100.0])
    wrong[0, 0, 2] = 0.0
    assert state_loss(wrong, state).item() == pytest.approx(10.0, abs=1e-3)
    elsewhere = wrong.clone()
    elsewhere[0, 1] = torch.tensor([5.0, -3.0, 2.0, 8.0])
    assert state_loss(elsewhere, state) == state_loss(wrong, state), "frames without a label do not count"


def test_no_labels_cost_nothing():
    logits = torch.randn(2, 3, 4, requires_grad=True)
    assert state_loss(logits, torch.full((2, 3), FREE)) == 0


def test_the_truth_costs_nothing_but_the_states(target, hand):
    terms = loss_terms(right(target), target, hand)
    assert terms.pop("state").item() == pytest.approx(math.log(4))
    assert terms.pop("rotation") < 1e-6
    assert terms.pop("shape") == 0
    assert set(terms) == {"joints", "fingers", "velocity", "acceleration"}
    assert all(term <= ALMOST_ZERO for term in terms.values())


def test_a_wrong_wrist_costs_joints_but_not_fingers(target, hand):
    pred = right(target)
    pred.R[:, :, 0] = pred.R[:, :, 0] @ rotation.exp(torch.tensor([0.0, 0.5, 0.0]))
    terms = loss_terms(pred, target, hand)
    assert terms["joints"] > 0.2
    assert terms["fingers"] < 2 * ALMOST_ZERO
    wrong_finger = right(target)
    wrong_finger.R[:, :, 1] = wrong_finger.R[:, :, 1] @ rotation.exp(torch.tensor([0.0, 0.0, 0.5]))
    terms = loss_terms(wrong_finger, target, hand)
    torch.testing.assert_close(terms["joints"], terms["fingers"], atol=1e-4, rtol=0)
    assert terms["fingers"] > 0.01


def test_joints_are_metres_of_the_hand_in_decimetres(target, hand):
    """The mean distance of the 21 joints from the wrist's view, computed the long way round."""
    pred = Prediction(target.R.flip(1), target.betas + 1, torch.zeros(2, 5, 4))
    distance = []
    for b in range(2):
        for t in range(5):
            p, q = (hand.shape(x.betas[b]).pose(x.R[b, t]).joints21() for x in (pred, target))
            distance.append(10 * ((p - p[0]) - (q - q[0])).norm(dim=-1).mean())
    terms = loss_terms(pred, target, hand)
    torch.testing.assert_close(terms["joints"], torch.stack(distance).mean(), atol=1e-4, rtol=0)
    assert terms["shape"].item() == pytest.approx(1.0, abs=1e-5)


def test_a_turned_world_costs_the_same(target, hand, generator):
    pred = replace(right(target), R=target.R @ rotation.exp(0.1 * torch.randn(2, 5, 16, 3, generator=generator)))
    Q = rotation.exp(QUARTER)

    def turned(R: torch.Tensor) -> torch.Tensor:
        return torch.cat([Q @ R[:, :, :1], R[:, :, 1:]], dim=2)

    want = loss_terms(pred, target, hand)
    got = loss_terms(replace(pred, R=turned(pred.R)), replace(target, R=turned(target.R)), hand)
    for name in want:
        torch.testing.assert_close(got[name], want[name], atol=1e-5, rtol=1e-4, msg=name)


def test_a_steady_error_costs_neither_velocity_nor_acceleration(target, hand):
    """A hand that holds still, wrong by the same turn throughout."""
    still = replace(target, R=target.R[:, :1].expand(-1, 5, -1, -1, -1))
    wrong = replace(right(still), R=still.R @ rotation.exp(0.5 * QUARTER))
    terms = loss_terms(wrong, still, hand)
    assert terms["velocity"] < ALMOST_ZERO
    assert terms["acceleration"] < ALMOST_ZERO
    assert terms["joints"] > 0.05


def test_the_weighted_sum_by_hand():
    terms = {name: torch.tensor(1.0) for name in asdict(LossWeights())}
    assert weighted(terms, LossWeights()) == pytest.approx(sum(asdict(LossWeights()).values()))
    terms["joints"] = torch.tensor(3.0)
    only = LossWeights(**{name: 0.0 for name in terms} | {"joints": 2.0})
    assert weighted(terms, only) == 6


@pytest.mark.parametrize("change", [{"physics": torch.tensor(1.0)}, None], ids=["one too many", "one missing"])
def test_names_must_match(change):
    terms = {name: torch.tensor(1.0) for name in asdict(LossWeights())}
    if change is None:
        del terms["joints"]
    with pytest.raises(KeyError, match="must have the same names"):
        weighted(terms | (change or {}), LossWeights())


def test_gradients_reach_every_output(target, hand, generator):
    """Finite even where the prediction is the truth."""
    for far in (0.0, 0.2):
        rotvec = (far * torch.randn(2, 5, 16, 3, generator=generator)).requires_grad_()
        betas, state = target.betas.clone().requires_grad_(), torch.zeros(2, 5, 4, requires_grad=True)
        pred = Prediction(target.R @ rotation.exp(rotvec), betas, state)
        weighted(loss_terms(pred, target, hand), LossWeights()).backward()
        for name, leaf in (("R", rotvec), ("betas", betas), ("state", state)):
            assert leaf.grad.isfinite().all(), name
        assert state.grad.abs().max() > 0
    assert (rotvec.grad.abs().amax((0, 1, 3)) > 0).all(), "every joint"
    assert betas.grad.abs().min() > 0
