r"""Inverse kinematics: the pose, and one shape per track, whose 21 joints lie on given keypoints.

A finger is written in three anatomical angles a joint (`anatomy`), so that a flip or a bent-back finger is a number
out of range; C is the joint's anatomical frame:

    R = C^T Rot_y(abduction) Rot_x(twist) Rot_z(flexion) C

Each frame minimises, with $d_i$ the distance of joint i and $\rho$ Huber's function,

$$\sum_i \rho(d_i / \sigma) + \tfrac12 \sum_a ((x_a - \mathrm{clip}(x_a, l_a, h_a)) / s_a)^2$$

Joints do not show how a bone twists about itself; the second sum, anatomy, decides that. $\sigma$ is measured on the
track: exact keypoints outweigh anatomy, noisy ones yield to it.
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError
from handdiff_lib.topology import CHAIN, FINGERS, TIPS

_CHAINS = torch.tensor([CHAIN[finger] for finger in FINGERS])
_ABOVE = torch.cat([torch.zeros(5, 1, dtype=torch.long), _CHAINS[:, :2]], dim=1)  # parents of the chain joints


def _finger(resting: int) -> list:
    """Three rows, one a joint, of (lowest, highest, softness) in degrees for twist, abduction, flexion.

    Flexion ranges are the clinical ones with about ten degrees of slack, counted from the rest pose, in which the
    thumb is bent by 18 degrees; outer joints are hinges. `resting` is the abduction of a half closed hand.
    """
    knuckle = [(0, 0, 6), (resting, resting, 20), (-35, 100, 5)]
    return [knuckle, [*_HINGE, (-8, 115, 5)], [*_HINGE, (-12, 95, 5)]]


_HINGE = [(0, 0, 5), (0, 0, 5)]
_THUMB = [[(0, 0, 6), (10, 10, 20), (-25, 50, 5)], [*_HINGE, (-35, 60, 5)], [*_HINGE, (-30, 95, 5)]]
_LIMITS = torch.deg2rad(torch.tensor([_THUMB] + [_finger(resting) for resting in (0, 2, 4, 10)], dtype=torch.float64))

_HUBER = 2.5  # in units of sigma
_NOISE = (2e-4, 1e-2)  # metres: the range that sigma is kept in
_SHAPE_FRAMES = 80
_SHAPE_PULL = 0.2  # towards the mean shape, a frame: decides only what no bone shows
_SHAPE_BOUND, _SHAPE_HOLD = 3.0, 5.0  # shapes beyond three standard deviations are held back
_ROUNDS = 25
_LEAP = 0.7  # radians a frame
_CHUNK = 512  # frames solved together; larger ones leave the cache


@dataclass(frozen=True)
class IKResult:
    """The hand found on a track of `t` frames, right-canonical."""

    R: Float[Tensor, "t 16 3 3"]
    """Absolute rotations, parent to joint, as in HandMotion."""
    betas: Float[Tensor, "10"]
    """One shape for the whole track, of the hand that was fitted."""
    transl: Float[Tensor, "t 3"]
    """Metres; wrist = rest wrist joint + transl."""
    residual: Float[Tensor, "t"]
    """Mean distance of the 21 joints in metres; 0 in frames that are not valid."""


@torch.no_grad()
def fit_joints(
    joints: Float[Tensor, "t 21 3"],
    hand: HandModel,
    valid: Bool[Tensor, "t"] | None = None,
    fit_shape: bool = True,
    betas: Float[Tensor, "10"] | None = None,
) -> IKResult:
    """The motion of `hand` whose joints follow `joints`, in the dtype of `joints`.

    Joints are metres, right-canonical (mirror a left hand first: x to -x), wrist then thumb to little, four each.
    The shape is fitted to frames spread over the track, from `betas` or the mean shape; `fit_shape=False` keeps that.
    Frames that are not valid, or hold a number that is not finite, repeat the valid frame before them.

    Raises:
        MotionError: no valid frame, or the hand is not of a hand's size in metres.
    """
    finite = joints.isfinite().all(-1).all(-1)
    known = (finite if valid is None else finite & valid).nonzero()[:, 0]
    if len(known) == 0:
        raise MotionError("no valid frame among the keypoints: the detector found no hand; check the input")
    target = joints[known]
    size = (target[:, 9] - target[:, 0]).norm(dim=-1).median().item()
    if not 0.04 <= size <= 0.2:
        raise MotionError(
            f"keypoints: wrist to middle knuckle is {size:.3g}, a hand has 0.04 to 0.2 metres; "
            "scale the keypoints to metres (millimetres: divide by 1000) and check the joint order"
        )
    wrist = target[:, 0]
    target = target - wrist[:, None]  # small numbers: float32 then resolves a micrometre anywhere in the room
    hand = hand.to(joints.device, joints.dtype)
    betas = joints.new_zeros(10) if betas is None else betas.to(joints)

    problem = _Problem(hand, anatomical_axes(hand)[_CHAINS], _LIMITS.to(joints), sigma=3e-3)
    some = target[torch.linspace(0, len(target) - 1, min(_SHAPE_FRAMES, len(target))).round().long()]
    fit = _start(problem, some, betas)
    for _ in range(3):  # noise and shape in turn: exact keypoints show themselves only once the shape fits
        fit = _solve(problem, some, _look(problem, some, fit), fit_shape)
        problem = replace(problem, sigma=(fit.points - some).norm(dim=-1).median().clamp(*_NOISE).item())
    betas = fit.betas[0]

    fit = _from_neighbours(problem, target, _solve(problem, target, _start(problem, target, betas)))
    last = (torch.searchsorted(known, torch.arange(len(joints), device=known.device), right=True) - 1).clamp(min=0)
    residual = joints.new_zeros(len(joints))
    residual[known] = (fit.points - target).norm(dim=-1).mean(-1)
    return IKResult(problem.rotations(fit)[last], betas, (fit.transl + wrist)[last], residual)


@dataclass(frozen=True)
class _Fit:
    """Where the search stands, one row a frame; the last three fields follow from the others."""

    angles: Float[Tensor, "t 5 3 3"]
    """Finger, joint, (twist, abduction, flexion), radians."""
    root: Float[Tensor, "t 3 3"]
    transl: Float[Tensor, "t 3"]
    betas: Float[Tensor, "t 10"]
    """The same in every frame."""
    R_world: Float[Tensor, "t 16 3 3"]
    points: Float[Tensor, "t 21 3"]
    cost: Float[Tensor, "t"]

    def __getitem__(self, frames: Tensor) -> "_Fit":
        return _Fit(*[getattr(self, f.name)[frames] for f in fields(self)])

    def put(self, frames: Tensor, new: "_Fit") -> None:
        """Write rows; only for a fit that is still being searched."""
        for field in fields(self):
            getattr(self, field.name)[frames] = getattr(new, field.name)


@dataclass(frozen=True)
class _Problem:
    """What stays fixed while one track is fitted."""

    hand: HandModel
    C: Float[Tensor, "5 3 3 3"]
    """Anatomical frame of each finger joint: rows x to the palm, y to the back, z the hinge."""
    limits: Float[Tensor, "5 3 3 3"]
    """Lowest, highest, softness of each angle, radians."""
    sigma: float
    """Noise of the keypoints, metres."""

    def rotations(self, fit: _Fit) -> Float[Tensor, "t 16 3 3"]:
        """Absolute rotations of all 16 joints."""
        R = fit.root[:, None].repeat(1, 16, 1, 1)
        c, s = fit.angles[..., 2, None].cos(), fit.angles[..., 2, None].sin()
        x, y, z = _before_hinge(fit.angles).unbind(-1)
        R[:, _CHAINS] = self.C.mT @ torch.stack([c * x + s * y, c * y - s * x, z], dim=-1) @ self.C
        return R

    def strain(self, fit: _Fit) -> Float[Tensor, "t 5 3 3"]:
        """How far each angle is out of its range, in units of its softness."""
        low, high, soft = self.limits.unbind(-1)
        return (fit.angles - fit.angles.clamp(low, high)) / soft


def _before_hinge(angles: Float[Tensor, "t 5 3 3"]) -> Float[Tensor, "t 5 3 3 3"]:
    """Rot_y(abduction) Rot_x(twist): its columns 0 and 2 are the axes of twist and flexion."""
    twist, abduction, _ = angles.unbind(-1)
    ct, st, ca, sa = twist.cos(), twist.sin(), abduction.cos(), abduction.sin()
    rows = [ca, sa * st, sa * ct, torch.zeros_like(st), ct, -st, -sa, ca * st, ca * ct]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def _start(problem: _Problem, target: Float[Tensor, "t 21 3"], betas: Float[Tensor, "10"]) -> _Fit:
    """The closed-form pose: Kabsch on the palm, then each bone turned onto its keypoints, always within range."""
    rest = problem.hand.shape(betas).rest_joints
    palm = torch.cat([rest[:1], rest[_CHAINS[:, 0]]])
    weight = rest.new_tensor([1.0, 0.3, 1, 1, 1, 1])[:, None]  # the thumb's base moves against the palm
    seen = target[:, [0, 1, 5, 9, 13, 17]]
    centre, seen_centre = ((weight * p).sum(-2) / weight.sum() for p in (palm, seen))
    root = rotation.nearest_rotation((weight * (seen - seen_centre[:, None])).mT @ (palm - centre))
    transl = seen_centre - (root @ (centre - rest[0])[:, None])[..., 0] - rest[0]

    bones = target[:, 1:].unflatten(1, (5, 4)).diff(dim=2)
    angles, betas = bones.new_zeros(len(bones), 5, 3, 3), betas.expand(len(bones), -1)
    fit = _Fit(angles, root, transl, betas, root[:, None].expand(-1, 16, -1, -1), target, angles[:, 0, 0, 0])
    parent = root[:, None].expand(-1, 5, -1, -1)
    low, high, soft = problem.limits.unbind(-1)
    for k in range(3):
        x, y, z = (problem.C[:, k] @ parent.mT @ bones[:, :, k, :, None])[..., 0].unbind(-1)
        forward = torch.where(x > 0, -1.0, 1.0)
        flexion = torch.atan2(-y, forward * torch.hypot(x, z))
        flexion = (flexion + torch.pi / 2) % (2 * torch.pi) - torch.pi / 2  # bent back beyond reason: a full curl
        guess = torch.stack([torch.zeros_like(x), torch.atan2(forward * z, x.abs()), flexion], dim=-1)
        angles[:, :, k] = guess.clamp(low[:, k] - soft[:, k], high[:, k] + soft[:, k])
        parent = parent @ problem.rotations(fit)[:, _CHAINS[:, k]]
    return _look(problem, target, fit)


def _look(problem: _Problem, target: Float[Tensor, "t 21 3"], fit: _Fit) -> _Fit:
    """The fit with its joints and its cost up to date."""
    posed = problem.hand.shape(fit.betas).pose(problem.rotations(fit), fit.transl)
    points = posed.joints21()
    d = (points - target).norm(dim=-1) / problem.sigma
    data = torch.where(d < _HUBER, d.square() / 2, _HUBER * d - _HUBER**2 / 2).sum(-1)
    shape = _SHAPE_PULL * fit.betas.square() + _SHAPE_HOLD * (fit.betas.abs() - _SHAPE_BOUND).clamp(min=0).square()
    cost = data + problem.strain(fit).square().sum((1, 2, 3)) / 2 + shape.sum(-1) / 2
    return replace(fit, R_world=posed.R_world_joint, points=points, cost=cost)


def _solve(problem: _Problem, target: Float[Tensor, "t 21 3"], fit: _Fit, with_shape: bool = False) -> _Fit:
    """Levenberg-Marquardt: every frame on its own until it rests; with the shape, all frames together."""
    fit = replace(fit, **{f.name: getattr(fit, f.name).clone() for f in fields(fit)})
    damping = torch.full_like(fit.cost, 1e-3)
    for busy in torch.arange(len(target), device=target.device).split(len(target) if with_shape else _CHUNK):
        for _ in range(_ROUNDS):
            old = fit[busy]
            new = _look(problem, target[busy], _step(problem, target[busy], old, damping[busy], with_shape))
            before, after = (f.cost.mean().expand_as(f.cost) if with_shape else f.cost for f in (old, new))
            is_better = after < before
            fit.put(busy[is_better], new[is_better])
            damping[busy] *= torch.where(is_better, 0.2, 10.0).to(damping)
            busy = busy[~((before - after).abs() <= 1e-3 * before + 1e-4)]  # a failed step is not a number: try on
            if len(busy) == 0:
                break
    return fit


def _step(
    problem: _Problem, target: Float[Tensor, "t 21 3"], fit: _Fit, damping: Float[Tensor, "t"], with_shape: bool
) -> _Fit:
    r"""One damped Gauss-Newton step. A finger's 9 angles meet the other fingers' only through the palm, so

        [ F  C ] [f]   [u]      F: 9 x 9, one a finger      f: angles
        [ C' P ] [p] = [v]      P: palm, translation, shape p

    is solved by eliminating first the fingers, then each frame's palm; the shape's equations are summed over frames.
    """
    hand, eye = problem.hand, torch.eye(3, dtype=target.dtype, device=target.device)
    error = fit.points - target
    distance = error.norm(dim=-1, keepdim=True) / problem.sigma
    scale = (_HUBER / distance.clamp(min=_HUBER)).sqrt() / problem.sigma  # (t, 21, 1)
    error = scale * error

    # Turning joint k about an axis moves the points m beyond it by axis x arm. The tip counts as rigid here.
    x, _, z = _before_hinge(fit.angles).unbind(-1)
    axes = torch.stack([x, eye[1].expand_as(x), z], dim=-2) @ problem.C @ fit.R_world[:, _ABOVE].mT
    chain = fit.points[:, 1:].unflatten(1, (5, 4))
    arm = (chain[:, :, None, 1:] - chain[:, :, :3, None]) * eye.new_ones(3, 3).triu()[:, :, None]
    arm = arm * scale[:, 1:].unflatten(1, (5, 4))[:, :, None, 1:]
    finger = torch.linalg.cross(axes[..., None, :], arm[:, :, :, None]).flatten(4).flatten(2, 3)  # (t, 5, 9, 9)

    arm = scale * (fit.points - fit.points[:, :1])
    palm = [torch.linalg.cross(eye[None, None], arm[:, :, None]), scale[..., None] * eye]  # (t, 21, unknown, xyz)
    if with_shape:
        palm.append(scale[..., None] * _shape_slope(hand, fit.R_world).mT)
    palm = torch.cat(palm, dim=2)
    beyond = palm[:, 1:].unflatten(1, (5, 4))[:, :, 1:].transpose(2, 3).flatten(3)  # (t, 5, unknown, m xyz)
    palm = palm.transpose(1, 2).flatten(2)

    low, high, soft = problem.limits.unbind(-1)
    strain, is_held = problem.strain(fit), (fit.angles <= low) | (fit.angles >= high)
    F = finger @ finger.mT
    F.diagonal(dim1=-2, dim2=-1).add_((is_held / soft**2).flatten(2))
    C = finger @ beyond.mT
    error_finger = error[:, 1:].unflatten(1, (5, 4))[:, :, 1:].reshape(-1, 5, 9, 1)
    u = finger @ error_finger + (strain / soft).reshape(-1, 5, 9, 1)
    P, v = palm @ palm.mT, palm @ error.flatten(1)[..., None]
    if with_shape:
        excess = fit.betas - fit.betas.clamp(-_SHAPE_BOUND, _SHAPE_BOUND)
        P[:, 6:, 6:] += torch.diag_embed(_SHAPE_PULL + _SHAPE_HOLD * (excess != 0))
        v[:, 6:, 0] += _SHAPE_PULL * fit.betas + _SHAPE_HOLD * excess
    for M in (F, P):
        M.diagonal(dim1=-2, dim2=-1).mul_(1 + damping.reshape(-1, *[1] * (M.ndim - 2)))

    X = torch.cholesky_solve(torch.cat([C, u], dim=-1), torch.linalg.cholesky_ex(F).L)
    reduced = torch.cat([P, v], dim=-1) - (C.mT @ X).sum(1)
    Y = torch.linalg.solve_ex(reduced[:, :6, :6], reduced[:, :6, 6:]).result
    shape = (reduced[:, 6:, 6:] - reduced[:, 6:, :6] @ Y).sum(0)
    betas = torch.linalg.solve_ex(shape[:, :-1], shape[:, -1]).result
    p = torch.cat([Y[..., -1] - Y[..., :-1] @ betas, betas.expand(len(Y), -1)], dim=-1)
    f = X[..., -1] - (X[..., :-1] @ p[:, None, :, None])[..., 0]
    if with_shape:
        fit = replace(fit, betas=fit.betas - p[:, 6:])
    angles, root = fit.angles - f.unflatten(-1, (3, 3)), rotation.exp(-p[:, :3]) @ fit.root
    return replace(fit, angles=angles, root=root, transl=fit.transl - p[:, 3:6])


def _shape_slope(hand: HandModel, R_world: Float[Tensor, "t 16 3 3"]) -> Float[Tensor, "t 21 3 10"]:
    """What each shape number does to the 21 posed joints."""
    wrist = hand.J_shapedirs[0]
    tips = hand.shapedirs[list(TIPS["smplx"])][:, None]
    bones = torch.cat([wrist.expand(5, 1, -1, -1), hand.J_shapedirs[_CHAINS], tips], dim=1).diff(dim=1)
    R_bone = R_world[:, torch.cat([_ABOVE, _CHAINS[:, 2:]], dim=1)]  # (t, 5, 4, 3, 3)
    beyond = wrist + (R_bone @ bones).cumsum(2)
    return torch.cat([wrist.expand(len(R_world), 1, -1, -1), beyond.flatten(1, 2)], dim=1)


def _from_neighbours(problem: _Problem, target: Float[Tensor, "t 21 3"], fit: _Fit) -> _Fit:
    """The fit with its doubtful frames tried again from the nearest sound frame before and after; the lower cost wins.

    Doubtful: the cost is well above the track's median, or a joint leaps against the frame before.
    """
    leap = rotation.angle_between(fit.R_world[1:], fit.R_world[:-1]).amax(-1) > _LEAP
    is_doubtful = fit.cost > 3 * fit.cost.median() + 1
    is_doubtful[1:] |= leap
    is_doubtful[:-1] |= leap
    sound, doubtful = (~is_doubtful).nonzero()[:, 0], is_doubtful.nonzero()[:, 0]
    if len(sound) == 0 or len(doubtful) == 0:
        return fit
    place = torch.searchsorted(sound, doubtful)
    for near in ((place - 1).clamp(min=0), place.clamp(max=len(sound) - 1)):
        start = replace(fit[sound[near]], transl=fit.transl[doubtful])
        new = _solve(problem, target[doubtful], _look(problem, target[doubtful], start))
        is_better = new.cost < fit.cost[doubtful]
        fit.put(doubtful[is_better], new[is_better])
    return fit
