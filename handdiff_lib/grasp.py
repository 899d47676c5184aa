r"""Fingers that close on a thing until they touch it.

    open -----------------> wanted          a digit bends until a vertex is CLEARANCE from the surface;
          first bone stops                  then its two outer joints go on,
             second bone stops              then the last one alone

Any number of frames close at once, so the same sweep that makes a grasp keeps the fingers of a moving hand out of the
thing. Finger angles are (15 joints in MANO order; twist, abduction, flexion), radians. The thing is seen from the
wrist, $x_{wrist} = R x_{thing} + p$: the wrist joint lies at the origin, fingers point along -x, the palm faces -y, the
thumb side is +z.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib.anatomy import anatomical_axes, anatomical_rotations
from handdiff_lib.hand import HandModel, PosedHand, ShapedHand
from handdiff_lib.shapes import Field
from handdiff_lib.topology import CHAIN, FINGERS, TIPS

CLEARANCE = 0.0015
"""Where a digit stops, metres from the surface."""
STEPS = 14
"""Poses looked at on the way from open to closed; the stop is interpolated between two of them."""
PER_BONE, PALM = 15, 160
"""Vertices that are looked at on each finger bone, and on the palm."""

DIGIT_JOINTS = torch.tensor([CHAIN[finger] for finger in FINGERS]) - 1
"""(5, 3) places of the digits' joints among the 15."""


def by_digit(thumb: tuple[int, int, int], finger: tuple[int, int, int]) -> Float[Tensor, "15"]:
    """One value a joint, from those of the thumb and of a finger, radians from degrees."""
    values = torch.zeros(15)
    values[DIGIT_JOINTS[0]] = values.new_tensor(thumb)
    values[DIGIT_JOINTS[1:]] = values.new_tensor(finger)
    return values.deg2rad()


LOWEST = by_digit((0, -34, -25), (-24, -13, -11))
HIGHEST = by_digit((66, 30, 66), (92, 106, 84))
"""Limits of flexion."""


class Grasper:
    """One person's right hand, thinned out to some 400 vertices that stand for its surface."""

    def __init__(self, hand: HandModel, betas: Float[Tensor, "10"]) -> None:
        self.axes = anatomical_axes(hand)
        self.betas = betas
        rest = hand.shape(betas)
        owner = hand.weights.argmax(-1)
        bones = [_spread(hand.v_template, owner == j + 1, PER_BONE) for j in DIGIT_JOINTS.mT.flatten().tolist()]
        bones = torch.stack(bones).reshape(3, 5, PER_BONE)
        self.parts = [_thin(rest, bones[k:].flatten()) for k in range(3)]
        """Whole digits, their two outer bones, their last bones: what moves in the three stages of closing."""
        self.palm = _thin(rest, _spread(hand.v_template, owner == 0, PALM))
        tips, last = hand.v_template[list(TIPS["smplx"])], DIGIT_JOINTS[:, 2] + 1
        beside = (hand.v_template - tips[:, None]) @ self.axes[last].mT  # (5, v, 3) in the last bones' frames
        behind_nail = beside[..., 1] + 0.4 * (beside[..., 0] - 0.006).abs() + (owner != last[:, None])
        self.pads = _thin(rest, behind_nail.argmin(-1))
        """One vertex in the middle of each pad."""

    @property
    def wrist(self) -> Float[Tensor, "3"]:
        """The wrist joint at rest."""
        return self.palm.rest_joints[0]

    def rotations(self, angles: Float[Tensor, "n 15 3"]) -> Float[Tensor, "n 16 3 3"]:
        """The joints' rotations in MANO's frames; the wrist is not turned."""
        return anatomical_rotations(torch.nn.functional.pad(angles, (0, 0, 1, 0)), self.axes)

    def pose(self, angles: Float[Tensor, "n 15 3"], part: ShapedHand) -> PosedHand:
        """A part of the hand with the wrist at the origin."""
        return part.pose(self.rotations(angles), -self.wrist.expand(len(angles), 3))

    def close(
        self,
        field: Field,
        R: Float[Tensor, "n 3 3"],
        p: Float[Tensor, "n 3"],
        wanted: Float[Tensor, "n 15 3"],
        opened: Float[Tensor, "n 15"],
    ) -> Float[Tensor, "n 15"]:
        """Flexion between `opened` and that of `wanted`, as far as the thing lets the digits go."""
        x, y, z = self.axes[1:].unbind(-2)
        before_bend = self.rotations(wanted * torch.tensor([1.0, 1, 0]))[:, 1:] @ self.axes[1:].mT
        goal, flexion = wanted[..., 2], torch.minimum(opened, wanted[..., 2])
        share = torch.linspace(0, 1, STEPS)[:, None]
        for stage, part in enumerate(self.parts):
            moves = torch.zeros(15)
            moves[DIGIT_JOINTS[:, stage:]] = 1
            way = (goal - flexion) * moves
            bend = (flexion[:, None] + share * way[:, None])[..., None]  # (n, STEPS, 15, 1)
            bent = torch.stack(
                [bend.cos() * x - bend.sin() * y, bend.sin() * x + bend.cos() * y, z.expand_as(bend * z)], -2
            )
            turn = torch.eye(3).repeat(len(goal), STEPS, 16, 1, 1)
            turn[:, :, 1:] = before_bend[:, None] @ bent
            skin = part.pose(turn, -self.wrist.expand(*turn.shape[:2], 3)).skin()
            gap = field((skin - p[:, None, None]) @ R[:, None])
            stop = _stop(gap.unflatten(-1, (3 - stage, 5, PER_BONE)).amin((-3, -1)), first=stage == 0)
            flexion = flexion + at_joints(stop) * way
        return flexion

    def gaps(
        self, field: Field, R: Float[Tensor, "n 3 3"], p: Float[Tensor, "n 3"], angles: Float[Tensor, "n 15 3"]
    ) -> Float[Tensor, "n 6"]:
        """Distance of the nearest vertex of each digit and the palm to the thing, negative inside."""
        digits = (self.pose(angles, self.parts[0]).skin() - p[:, None]) @ R
        palm = (self.pose(angles, self.palm).skin() - p[:, None]) @ R
        digit_gap = field(digits).unflatten(-1, (3, 5, PER_BONE)).amin((-3, -1))
        return torch.cat([digit_gap, field(palm).amin(-1, keepdim=True)], -1)


def at_joints(values: Float[Tensor, "n 5"]) -> Float[Tensor, "n 15"]:
    """The values of the digits at each of their joints."""
    spread = values.new_zeros(len(values), 15)
    spread[:, DIGIT_JOINTS] = values[..., None].expand(-1, -1, 3)
    return spread


def _spread(points: Float[Tensor, "v 3"], among: Tensor, count: int) -> Int[Tensor, "k"]:
    """Indices of points that lie far from each other, the outermost first."""
    rows = torch.nonzero(among)[:, 0]
    chosen = [points[rows, 0].argmin()]
    away = torch.full((len(rows),), torch.inf)
    for _ in range(count - 1):
        away = torch.minimum(away, (points[rows] - points[rows[chosen[-1]]]).norm(dim=-1))
        chosen.append(away.argmax())
    return rows[torch.stack(chosen)]


def _thin(hand: ShapedHand, rows: Int[Tensor, "k"]) -> ShapedHand:
    """The hand with these vertices only."""
    model = hand.model
    few = {name: getattr(model, name)[rows] for name in ("v_template", "shapedirs", "posedirs", "weights")}
    return ShapedHand(replace(model, **few, J_regressor=model.J_regressor[:, rows]), hand.betas, hand.rest_joints)


def _stop(gap: Float[Tensor, "n s 5"], first: bool) -> Float[Tensor, "n 5"]:
    """Share of the way at which each digit meets the surface; where it starts inside it, the least deep place."""
    n_steps = gap.shape[1]
    blocked = gap < CLEARANCE
    index = blocked.int().argmax(1).clamp(min=1)
    before, after = gap.gather(1, index[:, None] - 1)[:, 0], gap.gather(1, index[:, None])[:, 0]
    part = ((before - CLEARANCE) / (before - after).clamp(min=1e-9)).clamp(0, 1)
    share = (index - 1 + part) / (n_steps - 1)
    share = torch.where(blocked.any(1), share, 1.0)
    stuck = gap.argmax(1) / (n_steps - 1) if first else torch.zeros_like(share)
    return torch.where(blocked[:, 0], stuck, share)
