r"""What training minimises: the data term, geometry, states, physics and doubt (DIP Eq. 4-7; MDM Eq. 3, 5).

Every term is one function from tensors to one number; `LossWeights` says how they add up.

    term           equation                  unit
    rotation       DIP Eq. 4, on matrices    -          an error of a radian costs 1.8
    shape          DIP Eq. 4, on betas       -
    joints         MDM Eq. 3                 dm         wrists on one point
    fingers        MDM Eq. 3                 dm         in the wrist's own frame: its orientation does not count
    velocity       MDM Eq. 5                 dm/frame
    acceleration   what ACCL reports         dm/frame^2
    state          DIP Eq. 5                 nats
    kinetics       DIP Eq. 6                 rad        see `physics`
    stability      DIP Eq. 7                 rad^2      see `physics`
    consistency    DIP ref. [28]             -          the answers at n and at n - 1 agree
    doubt          Gaussian likelihood       nats       trains what log_sigma says, nothing else
    noisy          cross-entropy             nats       trains what tells noise from clean motion, nothing else

Paper vs code: DIP weights states, kinetics and stability by 50, 500 and 1000 beside a data term of unknown scale.
Beside ours, with the data term at 2000 times the mean squared error, that is 0.05, 0.5 and 1. Then kinetics and
stability, sums over 45 angles and more, outweigh the data, and the recovered pose is worse.
"""

from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_angles, anatomical_axes
from handdiff_lib.denoiser import DECIMETRE, Prediction
from handdiff_lib.frames import from_steady
from handdiff_lib.hand import HandModel
from handdiff_lib.physics import kinetic_loss, stability_loss
from handdiff_lib.topology import FREE


@dataclass(frozen=True)
class LossWeights:
    """Factor of each term in the sum; the names are those of `loss_terms`."""

    rotation: float = 2.0
    shape: float = 0.05
    joints: float = 1.0
    fingers: float = 1.0
    velocity: float = 1.0
    acceleration: float = 3.0
    state: float = 0.05
    kinetics: float = 0.01
    stability: float = 0.02
    consistency: float = 0.0
    doubt: float = 0.02
    noisy: float = 0.02


@dataclass(frozen=True)
class Target:
    """The truth of a batch of windows, in the estimate's steady frame."""

    R: Float[Tensor, "b t 16 3 3"]
    betas: Float[Tensor, "b 10"]
    state: Int[Tensor, "b t"]
    """Index into `topology.STATES`; FREE where there is none."""
    frame: Float[Tensor, "b t 3 3"]
    """The steady frame in the world."""
    noisy: Float[Tensor, "b"]
    """From 0 for an estimate that is the truth to 1 for one whose errors matter."""


def rotation_loss(R_hat: Float[Tensor, "b t j 3 3"], R: Float[Tensor, "b t j 3 3"]) -> Float[Tensor, ""]:
    r"""$\lVert \hat R - R \rVert_F^2$, mean over joints (DIP Eq. 4 on matrices); an error of a radian costs 1.8."""
    return (R_hat - R).square().sum((-1, -2)).mean()


def joint_loss(p_hat: Float[Tensor, "b t k 3"], p: Float[Tensor, "b t k 3"]) -> Float[Tensor, ""]:
    r"""$\lVert \hat p - p \rVert$ of joints in dm, mean over joints (MDM Eq. 3); 1 cm costs 0.1.

    Paper vs code: MDM squares the distance. Its mean is what MJE reports, and it does not let the few joints that
    cannot be recovered outweigh the many that can.
    """
    return ((p_hat - p).square().sum(-1) + 1e-6).sqrt().mean()


def difference_loss(p_hat: Float[Tensor, "b t k 3"], p: Float[Tensor, "b t k 3"], order: int) -> Float[Tensor, ""]:
    r"""$\lVert \Delta^m \hat p - \Delta^m p \rVert$ with $\Delta p = p_{t+1} - p_t$, dm per frame^m, mean.

    Order 1 compares velocities (MDM Eq. 5), order 2 accelerations, which is what ACCL reports. Windows that are too
    short cost nothing.
    """
    if p.shape[1] <= order:
        return p_hat.new_zeros(())
    return joint_loss(p_hat.diff(n=order, dim=1), p.diff(n=order, dim=1))


def state_loss(logits: Float[Tensor, "b t 4"], state: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
    r"""Cross-entropy over labelled frames, $\frac1T \sum_t CE(c_t, \hat c_t)$ (DIP Eq. 5); 0 without labels.

    Each class weighs by the inverse root of its share in the batch, so that rare states count.
    """
    labelled = state != FREE
    if not labelled.any():
        return 0 * logits.sum()  # with a gradient, of zeros: several processes wait for one from every parameter
    count = torch.bincount(state[labelled], minlength=logits.shape[-1]).to(logits)
    return F.cross_entropy(logits[labelled], state[labelled], weight=count.clamp(min=1).rsqrt())


def doubt_loss(
    R_hat: Float[Tensor, "b t j 3 3"], R: Float[Tensor, "b t j 3 3"], log_sigma: Float[Tensor, "b t j"]
) -> Float[Tensor, ""]:
    r"""Minus the log-likelihood of the error under $\mathcal N(0, \sigma^2 I_3)$ in tangent space, mean over joints.

    $3 \log\sigma + \lVert e \rVert^2 / 2\sigma^2$ with $e = \log(\hat R^\top R)$, without the constant. The error is a
    number here: the rotations get no gradient. Least where sigma is the root mean square of e's coordinates.
    """
    error2 = rotation.angle_between(R_hat.detach(), R).square()
    return (3 * log_sigma + 0.5 * error2 * torch.exp(-2 * log_sigma)).mean()


def noise_loss(logits: Float[Tensor, "b t"], noisy: Float[Tensor, "b"]) -> Float[Tensor, ""]:
    """Cross-entropy of what every frame says of its window's estimate, nats; log 2 without a clue."""
    return F.binary_cross_entropy_with_logits(logits, noisy[:, None].expand_as(logits))


def loss_terms(
    pred: Prediction, target: Target, hand: HandModel, before: Prediction | None = None
) -> dict[str, Float[Tensor, ""]]:
    """All terms, unweighted, by name; `before` is the answer one step earlier on the walk, for `consistency`.

    `velocity` and `acceleration` are means over the joints seen from the world's and from the wrist's axes.
    """

    def joints(R: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        p = hand.shape(betas[:, None]).pose(R).joints21()
        p = (p - p[..., :1, :]) * DECIMETRE
        return p, p @ R[..., 0, :, :]

    (p_hat, q_hat), (p, q) = joints(pred.R, pred.betas), joints(target.R, target.betas)
    angles = _angles(pred.R, target, hand)
    return {
        "rotation": rotation_loss(pred.R, target.R),
        "shape": F.mse_loss(pred.betas, target.betas),
        "joints": joint_loss(p_hat, p),
        "fingers": joint_loss(q_hat, q),
        "velocity": (difference_loss(p_hat, p, 1) + difference_loss(q_hat, q, 1)) / 2,
        "acceleration": (difference_loss(p_hat, p, 2) + difference_loss(q_hat, q, 2)) / 2,
        "state": state_loss(pred.state, target.state),
        "kinetics": kinetic_loss(angles.flatten(-2), target.state),
        "stability": stability_loss(angles[..., 1:, :].flatten(-2), target.state),
        "consistency": pred.R.new_zeros(()) if before is None else rotation_loss(pred.R, before.R.detach()),
        "doubt": doubt_loss(pred.R, target.R, pred.log_sigma),
        "noisy": noise_loss(pred.noisy, target.noisy),
    }


def _angles(R: Float[Tensor, "b t 16 3 3"], target: Target, hand: HandModel) -> Float[Tensor, "b t 16 3"]:
    """Anatomical angles of a prediction; the wrist's are those of its turn since the window's first true frame.

    Seen from the world, the wrist may stand at a quarter turn of twist, where angles jump and have no gradient.
    """
    world = from_steady(R, target.frame)
    start = (target.frame[:, :1] @ target.R[:, :1, 0]).mT
    world = torch.cat([(start @ world[:, :, 0])[:, :, None], world[:, :, 1:]], dim=2)
    return anatomical_angles(world, anatomical_axes(hand).to(R))


def weighted(terms: dict[str, Float[Tensor, ""]], weights: LossWeights) -> Float[Tensor, ""]:
    """The weighted sum; KeyError when a term has no weight or a weight no term."""
    factor = asdict(weights)
    if factor.keys() != terms.keys():
        raise KeyError(f"terms {sorted(terms)} and weights {sorted(factor)} must have the same names")
    return torch.stack([factor[name] * term for name, term in terms.items()]).sum()
