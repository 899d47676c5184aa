r"""What training minimises: the data term, the geometric terms and the states (DIP Eq. 4, 5; MDM Eq. 3-5).

Every term is one function from tensors to one number; `LossWeights` says how they add up.
"""

from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from handdiff_lib.denoiser import DECIMETRE, Prediction
from handdiff_lib.hand import HandModel
from handdiff_lib.topology import FREE


@dataclass(frozen=True)
class LossWeights:
    """Factor of each term in the sum; the names are those of `loss_terms`."""

    rotation: float = 2.0
    shape: float = 0.05
    joints: float = 0.5
    fingers: float = 1.0
    velocity: float = 1.0
    acceleration: float = 2.0
    state: float = 0.02


@dataclass(frozen=True)
class Target:
    """The truth of a batch of windows, in the estimate's steady frame."""

    R: Float[Tensor, "b t 16 3 3"]
    betas: Float[Tensor, "b 10"]
    state: Int[Tensor, "b t"]
    """Index into `topology.STATES`; FREE where there is none."""


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
    r"""Cross-entropy over labelled frames, $\frac1T \sum_t CE(c_t, \hat c_t)$ (DIP Eq. 5); 0 without labels."""
    if (state == FREE).all():
        return logits.new_zeros(())
    return F.cross_entropy(logits.flatten(0, 1), state.flatten(), ignore_index=FREE)


def loss_terms(pred: Prediction, target: Target, hand: HandModel) -> dict[str, Float[Tensor, ""]]:
    """All terms, unweighted, by name.

    `joints` are relative to the wrist; `fingers` are the same joints in the wrist's own frame, where an error of the
    wrist's orientation does not count; `velocity` and `acceleration` are means over both.
    """

    def joints(R: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        p = hand.shape(betas[:, None]).pose(R).joints21()
        p = (p - p[..., :1, :]) * DECIMETRE
        return p, p @ R[..., 0, :, :]

    (p_hat, q_hat), (p, q) = joints(pred.R, pred.betas), joints(target.R, target.betas)
    return {
        "rotation": rotation_loss(pred.R, target.R),
        "shape": F.mse_loss(pred.betas, target.betas),
        "joints": joint_loss(p_hat, p),
        "fingers": joint_loss(q_hat, q),
        "velocity": (difference_loss(p_hat, p, 1) + difference_loss(q_hat, q, 1)) / 2,
        "acceleration": (difference_loss(p_hat, p, 2) + difference_loss(q_hat, q, 2)) / 2,
        "state": state_loss(pred.state, target.state),
    }


def weighted(terms: dict[str, Float[Tensor, ""]], weights: LossWeights) -> Float[Tensor, ""]:
    """The weighted sum; KeyError when a term has no weight or a weight no term."""
    factor = asdict(weights)
    if factor.keys() != terms.keys():
        raise KeyError(f"terms {sorted(terms)} and weights {sorted(factor)} must have the same names")
    return torch.stack([factor[name] * term for name, term in terms.items()]).sum()
