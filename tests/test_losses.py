"""Losses by numbers one can do in the head, and their gradients."""

import math
from dataclasses import asdict, replace

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_axes, anatomical_rotations
from handdiff_lib.denoiser import Prediction
from handdiff_lib.losses import (
    LossWeights,
    Target,
    difference_loss,
    doubt_loss,
    joint_loss,
    loss_terms,
    noise_loss,
    rotation_loss,
    state_loss,
    weighted,
)
from handdiff_lib.topology import FREE, GRASP, MANIPULATE, REACH, RELEASE

QUARTER = torch.tensor([0.0, 0.0, math.pi / 2])
ALMOST_ZERO = 1.1e-3
"""What a distance of 0 costs, in dm: a tenth of a millimetre, so that the root has a gradient."""


@pytest.fixture
def target(generator) -> Target:
    """Two windows of five frames."""
    R = rotation.exp(0.4 * torch.randn(2, 5, 16, 3, generator=generator))
    state = torch.tensor([[REACH, GRASP, GRASP, RELEASE, FREE], [FREE] * 5])
    frame = rotation.exp(torch.randn(2, 5, 3, generator=generator))
    return Target(R, torch.randn(2, 10, generator=generator), state, frame, torch.tensor([0.0, 1.0]))


def right(target: Target) -> Prediction:
    """The prediction that says the truth, with no opinion about states and noise, and a doubt of a radian."""
    b, t = target.state.shape
    opinions = (torch.zeros(b, t, *size) for size in ((4,), (16,), ()))
    return Prediction(target.R.clone(), target.betas.clone(), *opinions)


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
    state = torch.tensor([[MANIPULATE, FREE]])
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


def test_rare_states_count_more():
    """Of five frames four grasp, one reaches. Weights 1/2 and 1: the reach makes up 1 / (4 / 2 + 1), a third."""
    state = torch.tensor([[GRASP, GRASP, GRASP, GRASP, REACH]])
    logits = torch.zeros(1, 5, 4)
    logits[0, :4, GRASP] = 100.0
    logits[0, 4] = torch.tensor([-3.0, 3.0, -100.0, -100.0])
    assert state_loss(logits, state).item() == pytest.approx((6 + math.log1p(math.exp(-6))) / 3, abs=1e-4)


def test_no_labels_cost_nothing():
    """And give a gradient, of zeros: several processes wait for one from every parameter."""
    logits = torch.randn(2, 3, 4, requires_grad=True)
    cost = state_loss(logits, torch.full((2, 3), FREE))
    cost.backward()
    assert cost == 0
    assert (logits.grad == 0).all()


def test_doubt_by_hand():
    """An error of 0.3 rad with sigma e^-1: 3 * -1 + 0.09 / 2 * e^2 = -2.667."""
    R = torch.eye(3).expand(1, 1, 1, 3, 3)
    off = rotation.exp(torch.tensor([0.0, 0.3, 0.0])).expand_as(R)
    log_sigma = torch.tensor([[[-1.0]]])
    assert doubt_loss(off, R, log_sigma).item() == pytest.approx(-3 + 0.045 * math.e**2, abs=1e-5)
    assert doubt_loss(R, R, log_sigma).item() == pytest.approx(-3.0)


def test_noise_loss_by_hand():
    """Sure and right costs nothing, sure and wrong its logit; half noisy costs log 2 at best."""
    logits = torch.tensor([[20.0, 20.0], [20.0, -20.0], [0.0, 0.0]])
    for noisy, cost in (([1.0, 1.0, 0.5], 20 / 6 + math.log(2) / 3), ([1.0, 0.0, 0.5], 20 / 6 + math.log(2) / 3)):
        assert noise_loss(logits, torch.tensor(noisy)).item() == pytest.approx(cost, abs=1e-5)
    assert noise_loss(logits[:1], torch.tensor([1.0])).item() == pytest.approx(0.0, abs=1e-6)


def test_doubt_is_least_at_the_error_and_asks_nothing_of_the_rotations(generator):
    """One sigma for a thousand errors of 0.2 rad about each axis: the RMS of all their coordinates."""
    vector = 0.2 * torch.randn(1, 1000, 1, 3, generator=generator)
    R = torch.eye(3).expand(1, 1000, 1, 3, 3)
    best = vector.square().mean().sqrt().log()
    costs = []
    for off in (-0.05, 0.0, 0.05):
        R_hat = rotation.exp(vector).requires_grad_()
        log_sigma = (best + off).expand(1, 1000, 1).clone().requires_grad_()
        cost = doubt_loss(R_hat, R, log_sigma)
        cost.backward()
        assert R_hat.grad is None
        slope = log_sigma.grad.sum()
        assert slope.abs() < 1e-4 if off == 0 else slope.sign() == math.copysign(1, off)
        costs.append(cost.item())
    assert costs[1] < min(costs[0], costs[2])


@pytest.fixture
def poses(hand):
    """From anatomical angles (b, t, 16, 3) of the motion in the world to a prediction and its target, all at rest."""
    axes = anatomical_axes(hand)

    def make(angles: torch.Tensor, state: list[int], frame: torch.Tensor | None = None) -> tuple[Prediction, Target]:
        world = anatomical_rotations(angles, axes)
        b, t = angles.shape[:2]
        frame = torch.eye(3).expand(b, t, 3, 3) if frame is None else frame
        R = torch.cat([(frame.mT @ world[:, :, 0])[:, :, None], world[:, :, 1:]], dim=2)
        start = anatomical_rotations(torch.zeros_like(angles), axes)
        start[:, :, 0] = frame.mT @ start[:, :, 0]
        truth = Target(start, torch.zeros(b, 10), torch.tensor([state] * b), frame, torch.ones(b))
        return replace(right(truth), R=R), truth

    return make


def test_kinetics_by_hand(hand, poses):
    """One joint flexes by 0, 0.2, 0.1, 0.4 rad while reaching: it turns back by 0.1 and then by 0.3. Mean 0.2."""
    angles = torch.zeros(1, 4, 16, 3)
    angles[0, :, 5, 2] = torch.tensor([0.0, 0.2, 0.1, 0.4])
    terms = loss_terms(*poses(angles, [REACH] * 4), hand)
    assert terms["kinetics"].item() == pytest.approx(0.2, abs=1e-4)
    assert terms["stability"] == 0
    for state in ([FREE] * 4, [GRASP] * 4, [REACH, REACH, RELEASE, RELEASE]):
        assert loss_terms(*poses(angles, state), hand)["kinetics"] == 0, "no three frames of one transit"
    half = loss_terms(*poses(angles, [RELEASE, RELEASE, RELEASE, FREE]), hand)
    assert half["kinetics"].item() == pytest.approx(0.1, abs=1e-4)


def test_stability_by_hand(hand, poses):
    """Two joints flex by 0.3 and 0.4 rad between two frames of a grasp, then rest: 0.25 rad^2 over two pairs."""
    angles = torch.zeros(1, 3, 16, 3)
    angles[0, 1:, 5, 2], angles[0, 1:, 9, 2] = 0.3, 0.4
    terms = loss_terms(*poses(angles, [GRASP] * 3), hand)
    assert terms["stability"].item() == pytest.approx(0.125, abs=1e-4)
    assert terms["kinetics"] == 0
    assert loss_terms(*poses(angles, [GRASP, MANIPULATE, GRASP]), hand)["stability"] == 0
    carried = torch.zeros(1, 3, 16, 3)
    carried[0, :, 0] = torch.tensor([0.0, 0.5, 1.0])[:, None]
    assert loss_terms(*poses(carried, [GRASP] * 3), hand)["stability"] < 1e-9, "the hand may carry what it holds"


def test_the_wrist_is_judged_in_the_world(hand, poses):
    """A wrist that turns back by 0.1 rad does so whatever the steady frame makes of it."""
    angles = torch.zeros(1, 4, 16, 3)
    angles[0, :, 0, 0] = torch.tensor([0.0, 0.2, 0.1, 0.0])
    turning = rotation.exp(torch.linspace(0, 2, 4)[None, :, None] * torch.tensor([0.3, 1.0, -0.5]))
    for frame in (None, turning):
        terms = loss_terms(*poses(angles, [REACH] * 4, frame), hand)
        assert terms["kinetics"].item() == pytest.approx(0.05, abs=1e-4)


def test_consistency_by_hand(target, hand):
    """Answers a quarter turn apart in every joint cost 4; the earlier one gets no gradient, none costs nothing."""
    pred = right(target)
    assert loss_terms(pred, target, hand)["consistency"] == 0
    before = replace(pred, R=(pred.R @ rotation.exp(QUARTER)).requires_grad_())
    now = replace(pred, R=pred.R.requires_grad_())
    cost = loss_terms(now, target, hand, before)["consistency"]
    assert cost.item() == pytest.approx(4.0, abs=1e-4)
    cost.backward()
    assert before.R.grad is None
    assert now.R.grad.abs().max() > 0


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_without_states_and_in_short_windows_all_is_finite(target, hand, frames):
    """Empty sets cost 0; the gradient of the sum is finite and that of an empty term is 0."""
    per_frame = (x[1:, :frames] for x in (target.state, target.frame))
    cut = Target(target.R[1:, :frames], target.betas[1:], *per_frame, target.noisy[1:])
    leaves = {"R": cut.R.clone(), "betas": cut.betas.clone()}
    leaves |= {"state": torch.zeros(1, frames, 4), "log_sigma": torch.zeros(1, frames, 16)}
    leaves |= {"noisy": torch.zeros(1, frames)}
    pred = Prediction(*(leaf.requires_grad_() for leaf in leaves.values()))
    terms = loss_terms(pred, cut, hand)
    assert all(terms[name] == 0 for name in ("state", "kinetics", "stability", "consistency"))
    weighted(terms, LossWeights()).backward()
    for name, leaf in leaves.items():
        assert leaf.grad.isfinite().all(), name
    assert (leaves["state"].grad == 0).all()
    assert (leaves["log_sigma"].grad > 0).all(), "it was doubted too much"
    assert (leaves["noisy"].grad < 0).all(), "this estimate is noisy"


def test_the_truth_costs_nothing_but_the_states(target, hand):
    terms = loss_terms(right(target), target, hand)
    assert terms.pop("state").item() == pytest.approx(math.log(4))
    assert terms.pop("noisy").item() == pytest.approx(math.log(2))
    assert terms.pop("rotation") < 1e-6
    assert terms.pop("shape") == 0
    assert terms.pop("consistency") == 0
    assert terms.pop("doubt").abs() < 1e-6, "log 1"
    assert terms.pop("kinetics") == 0
    assert terms.pop("stability") > 0, "this truth shakes in its grasp"
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
    pred = replace(right(target), R=target.R.flip(1), betas=target.betas + 1)
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
        log_sigma = torch.zeros(2, 5, 16, requires_grad=True)
        noisy = torch.zeros(2, 5, requires_grad=True)
        pred = Prediction(target.R @ rotation.exp(rotvec), betas, state, log_sigma, noisy)
        weighted(loss_terms(pred, target, hand), LossWeights()).backward()
        leaves = dict(R=rotvec, betas=betas, state=state, log_sigma=log_sigma, noisy=noisy)
        for name, leaf in leaves.items():
            assert leaf.grad.isfinite().all(), name
        assert state.grad.abs().max() > 0
        assert (log_sigma.grad.abs() > 0).all()
    assert (rotvec.grad.abs().amax((0, 1, 3)) > 0).all(), "every joint"
    assert betas.grad.abs().min() > 0
