r"""Intuitive physics: a hand goes straight to a thing and away from it, and holds it still (DIP Eq. 6, 7).

Symbols: $\theta$ are anatomical Euler angles in radians, `anatomy.anatomical_angles`, flattened to k numbers a frame;
$d_t = \theta_{t+1} - \theta_t$, wrapped into $(-\pi, \pi]$. $C_r$ are the frames of reaching or releasing, $C_g$ those
of a stable grasp; triplets and pairs count when all their frames have the same state, so they lie in one stretch.

A frozen hand scores 0 in all of this: read the numbers beside MJE and ACCL, and beside those of the truth.
"""

from math import pi

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.topology import GRASP, REACH, RELEASE


def transit_triplets(state: Int[Tensor, "*b t"]) -> Bool[Tensor, "*b t_minus_2"]:
    """Where frames t, t+1 and t+2 are all reaching, or all releasing."""
    first, second, third = state[..., :-2], state[..., 1:-1], state[..., 2:]
    return ((first == REACH) | (first == RELEASE)) & (first == second) & (second == third)


def grasp_pairs(state: Int[Tensor, "*b t"]) -> Bool[Tensor, "*b t_minus_1"]:
    """Where frames t and t+1 are both stable grasping."""
    return (state[..., :-1] == GRASP) & (state[..., 1:] == GRASP)


def kinetic_loss(angles: Float[Tensor, "b t k"], state: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
    r"""Turning back while reaching or releasing, radians: mean over triplets in $C_r$ of the sum over angles of
    $\max(0, \phi_t)$ with $\phi_t = -\mathrm{sign}(d_t)\, d_{t+1}$ (DIP Eq. 6). No triplet costs nothing.

    Paper vs code: Eq. 6 prints $\theta_{t+3}$ though it names three frames, and divides by $|C_r|$, the number of
    frames; here it is $\theta_{t+1}$ in its place, and the number of triplets, so that short stretches weigh as much.
    The sign is a constant: no gradient asks the earlier step to turn.
    """
    return _mean(_turning_back(angles), transit_triplets(state))


def stability_loss(fingers: Float[Tensor, "b t k"], state: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
    r"""Finger motion in a stable grasp, radians^2: mean over pairs in $C_g$ of $\lVert d_t \rVert^2$ (DIP Eq. 7).

    `fingers` leaves out the wrist: the hand may carry what it holds. No pair costs nothing. Eq. 7 divides by the number
    of frames, this by the number of pairs.
    """
    return _mean(_steps(fingers).square().sum(-1), grasp_pairs(state))


def kin_deg(angles: Float[Tensor, "*b t k"]) -> Float[Tensor, "*b t_minus_2"]:
    """KIN of every three frames, degrees: the sum over all angles of what turns back. Average over `transit_triplets`.

    48 angles with the wrist, 45 without. One angle that goes to and fro by a degree scores 1 at every frame.
    """
    return _turning_back(angles).rad2deg()


def sta_deg2(fingers: Float[Tensor, "*b t k"]) -> Float[Tensor, "*b t_minus_1"]:
    """STA of every two frames, degrees^2: the mean over finger angles of the squared change. For `grasp_pairs`."""
    return _steps(fingers).rad2deg().square().mean(-1)


def sta_abs_deg(fingers: Float[Tensor, "*b t k"]) -> Float[Tensor, "*b t_minus_1"]:
    """As `sta_deg2`, but the mean absolute change, degrees."""
    return _steps(fingers).rad2deg().abs().mean(-1)


def sta_geo_deg(R_fingers: Float[Tensor, "*b t j 3 3"]) -> Float[Tensor, "*b t_minus_1"]:
    """As `sta_abs_deg` without Euler angles: the mean over joints of the angle turned, degrees."""
    return rotation.angle_between(R_fingers[..., :-1, :, :, :], R_fingers[..., 1:, :, :, :]).rad2deg().mean(-1)


def kin_readings(angles: Float[Tensor, "*b t 16 3"]) -> dict[str, Float[Tensor, "*b t_minus_2"]]:
    """KIN in every reading, degrees, of every three frames' anatomical angles, for `transit_triplets`.

    `kin_deg` sums over 48 angles, `kin_fingers_deg` over the 45 of the fingers, `kin_mean_deg` is the mean over 48.
    Paper vs code: DIP Eq. 6 does not say which; with the sum over 48, noise of the size that gives the paper's KIN
    gives its STA too.
    """
    wrist, fingers = kin_deg(angles[..., 0, :]), kin_deg(angles[..., 1:, :].flatten(-2))
    return {"kin_deg": wrist + fingers, "kin_fingers_deg": fingers, "kin_mean_deg": (wrist + fingers) / 48}


def sta_readings(
    R: Float[Tensor, "*b t 16 3 3"], angles: Float[Tensor, "*b t 16 3"]
) -> dict[str, Float[Tensor, "*b t_minus_1"]]:
    r"""STA in every reading, of every two frames' rotations and anatomical angles, fingers only, for `grasp_pairs`.

    `sta_deg2`, `sta_abs_deg` and `sta_geo_deg` are the functions of these names. The norm of DIP Eq. 7 as printed, a
    sum over 45 angles, is 45 `sta_deg2`. Paper vs code: the paper calls the unit degrees though it squares.
    """
    fingers = angles[..., 1:, :].flatten(-2)
    return {
        "sta_deg2": sta_deg2(fingers),
        "sta_abs_deg": sta_abs_deg(fingers),
        "sta_geo_deg": sta_geo_deg(R[..., 1:, :, :]),
    }


def flips(angles: Float[Tensor, "*b t k"]) -> Int[Tensor, "*b"]:
    """How many angles change by more than a quarter turn between frames: Euler angles that broke, not motion."""
    return (_steps(angles).abs() > pi / 2).sum((-1, -2))


def _steps(angles: Float[Tensor, "*b t k"]) -> Float[Tensor, "*b t_minus_1 k"]:
    """Changes from frame to frame, the short way round."""
    step = angles.diff(dim=-2)
    return step - 2 * pi * torch.round(step.detach() / (2 * pi))


def _turning_back(angles: Float[Tensor, "*b t k"]) -> Float[Tensor, "*b t_minus_2"]:
    step = _steps(angles)
    return torch.relu(-step[..., :-1, :].detach().sign() * step[..., 1:, :]).sum(-1)


def _mean(values: Float[Tensor, "b n"], counts: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Mean of the values that count; 0 without any."""
    return torch.where(counts, values, 0).sum() / counts.sum().clamp(min=1)
