r"""Ways to take hold of a made-up thing: around it, between the pads of thumb and fingers, or with the pads alone.

    fingers half open --frame--> align with a spot on the thing --advance until near--> close (`grasp.py`) --> judge

Hundreds of random hands meet random spots; those whose digits touch, do not cross and do not go into the thing are
grasps. Everything of a hand is in its wrist's frame, as `grasp.py` has it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import normalize

from handdiff_lib.grasp import DIGIT_JOINTS, HIGHEST, LOWEST, Grasper, at_joints, by_digit
from handdiff_lib.shapes import Shape

TOUCH = 0.003
"""A digit this near touches, m."""
SIDE_BY_SIDE = torch.tensor([-18.0, -4.0, 1.0, 16.0])
"""Abduction, degrees, of index to little finger when they lie side by side; at rest they are spread."""
DOWN, AHEAD = torch.tensor([0.0, -1.0, 0.0]), torch.tensor([-1.0, 0.0, 0.0])
"""Out of the palm, and along the fingers."""


@dataclass(frozen=True)
class Grasp:
    """A hand on a thing."""

    turn: Rotation
    place: Float[np.ndarray, "3"]
    """The thing seen from the wrist."""
    fingers: Float[np.ndarray, "15 3"]
    """Angles of the fingers on the thing."""
    drive: Float[np.ndarray, "15 3"]
    """What they press towards: where they would be if the thing were soft."""
    opened: Float[np.ndarray, "15 3"]
    """Before they close."""
    approach: Float[np.ndarray, "3"]
    """Direction in which the hand comes."""
    pivot: Float[np.ndarray, "3"]
    """The middle of the grip."""
    carries: bool
    """Whether fingers hold the thing against thumb or palm, rather than lie on it."""


@dataclass(frozen=True)
class Spots:
    """Places on a surface."""

    point: Float[Tensor, "n 3"]
    normal: Float[Tensor, "n 3"]
    """Outwards."""
    width: Float[Tensor, "n"]
    """Thickness of the thing below the point; inf where the far side is not parallel, so that fingers would slip."""


@dataclass(frozen=True)
class _Grips:
    """Hands ready to close."""

    opened: Float[Tensor, "n 15 3"]
    drive: Float[Tensor, "n 15 3"]
    is_in: Bool[Tensor, "n 5"]
    """Digits that take part."""
    is_between: Bool[Tensor, "n"]
    """Whether the thing belongs between thumb and fingers."""
    centre: Float[Tensor, "n 3"]
    """Where the spot belongs; the middle of the thing below it where it is held between pads."""
    inward: Float[Tensor, "n 3"]
    """Where the spot's inward normal points."""
    approach: Float[Tensor, "n 3"]


def find_grasps(grasper: Grasper, shape: Shape, rng: np.random.Generator, tries: int = 40) -> list[Grasp]:
    """Those of so many random tries that are good; the best one at least."""
    found = spots(shape, 4 * tries, rng)
    grips, spot = _draw(grasper, found.width, rng, tries)
    point, normal = found.point[spot], found.normal[spot]
    spin = torch.from_numpy(rng.uniform(0, 2 * np.pi, tries)).float()
    R = _frame(grips.inward, torch.zeros(tries)) @ _frame(-normal, spin).mT
    depth = torch.where(grips.is_between, found.width[spot] / 2, 0.0).nan_to_num(posinf=0.0)
    middle = (R @ (point - depth[:, None] * normal)[..., None])[..., 0]

    way = torch.linspace(-0.12, 0, 22)[:, None] + torch.where(grips.is_between, 0.0, 0.04)  # (s, n)
    stations = grips.centre - middle - way[..., None] * grips.approach
    skin = torch.cat([grasper.pose(grips.opened, part).skin() for part in (grasper.parts[0], grasper.palm)], 1)
    is_clear = (shape.field((skin - stations[:, :, None]) @ R).amin(-1) > 0.0015).int().cummin(0).values
    p = stations[is_clear.sum(0).sub(1).clamp(min=0), torch.arange(tries)]

    angles = grips.drive.clone()
    angles[..., 2] = grasper.close(shape.field, R, p, grips.drive, grips.opened[..., 2])
    gaps = grasper.gaps(shape.field, R, p, angles)
    touches = (gaps[:, :5] < TOUCH) & grips.is_in
    score = touches.sum(-1) + touches[:, 0] + 0.5 * (gaps[:, 5] < TOUCH)
    score = score - 2000 * (-gaps.amin(-1) - 0.002).clamp(min=0) - 3 * _cross(grasper, angles)
    good = (score >= torch.where(grips.is_in[:, 0], 3, 2)) & (is_clear[0] > 0)
    carries = (touches[:, 1:].any(-1) & (touches[:, 0] | (gaps[:, 5] < TOUCH))).tolist()
    misses = at_joints((~touches).float())  # what grasps the air is not a fist but stays half open
    back = misses * torch.from_numpy(rng.uniform(0.3, 1.0, (tries, 1))).float()
    angles[..., 2] += back * (grips.opened[..., 2] - angles[..., 2])
    press = torch.from_numpy(rng.uniform(0.15, 0.5, (tries, 1))).float() * (1 - misses)
    drive = angles.clone()
    drive[..., 2] += torch.minimum(grips.drive[..., 2] - angles[..., 2], press)
    chosen = torch.nonzero(good)[:, 0].tolist() or [int(score.argmax())]
    columns = (p, angles, drive, grips.opened, grips.approach, middle + p)
    return [
        Grasp(Rotation.from_matrix(R[k].numpy()), *(c[k].double().numpy() for c in columns), carries[k]) for k in chosen
    ]


def spots(shape: Shape, count: int, rng: np.random.Generator) -> Spots:
    """At most `count` random places on the outer surface, by area."""
    corners = shape.mesh.triangles.view(np.ndarray)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=-1)
    face = rng.choice(len(area), 2 * count, p=area / area.sum())
    u = np.sort(rng.random((2, 2 * count)), axis=0)
    weight = np.stack([u[0], u[1] - u[0], 1 - u[1]], -1)
    point = torch.from_numpy(np.einsum("nk,nkx->nx", weight, corners[face])).float()
    normal = torch.from_numpy(normal[face] / area[face, None]).float()
    outer = torch.nonzero(shape.field(point + 0.004 * normal) > 0.002)[:count, 0]  # not where parts overlap
    point, normal = point[outer], normal[outer]
    depth = 0.002 * torch.arange(1, 61)
    is_out = shape.field(point[:, None] - depth[:, None] * normal[:, None]) > 0
    width = depth[is_out.int().argmax(-1)]
    slope = shape.field.normal(point - width[:, None] * normal)
    is_parallel = is_out.any(-1) & ((slope * normal).sum(-1) < -0.8)
    return Spots(point, normal, torch.where(is_parallel, width, torch.inf))


def draw_fingers(rng: np.random.Generator, count: int) -> Float[Tensor, "n 15 3"]:
    """Random half-open poses: fingers that mostly bend alike, some that stay out, a thumb anywhere."""

    def normal(std: int, *shape: int) -> Tensor:
        return std * torch.from_numpy(rng.normal(size=shape)).float()

    def uniform(low: float | int, high: float | int, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, shape)).float()

    mcp = uniform(-14, 62, count, 1) + normal(12, count, 4)
    pip = uniform(-10, 70, count, 1) + normal(14, count, 4)
    dip = uniform(0.1, 0.9, count, 1) * pip + normal(18, count, 4)
    is_out = torch.from_numpy(rng.random((count, 4)) < [0.12, 0.12, 0.15, 0.3])  # the little finger most
    is_rolled = torch.from_numpy(rng.random((count, 4)) < 0.4)
    mcp = torch.where(is_out, torch.where(is_rolled, 70.0, -10.0) + normal(10, count, 4), mcp)
    pip = torch.where(is_out, torch.where(is_rolled, 90.0, 5.0) + normal(10, count, 4), pip)
    angles = torch.zeros(count, 15, 3)
    angles[:, DIGIT_JOINTS[1:], 2] = torch.stack([mcp, pip, dip], -1)
    fan = uniform(-0.4, 1.2, count, 1) * torch.tensor([12.0, 3.0, -3.0, -11.0]) + normal(9, count, 4)
    angles[:, DIGIT_JOINTS[1:, 0], 1] = SIDE_BY_SIDE + fan * (1 - mcp.clamp(0, 90) / 150)
    angles[:, DIGIT_JOINTS[:, 0], 0] = normal(3, count, 5)
    low, high = torch.tensor([0.0, -34.0, -18.0]), torch.tensor([55.0, 16.0, 40.0])
    angles[:, DIGIT_JOINTS[0], 2] = low + (high - low) * uniform(0, 1, count, 3)
    angles[:, DIGIT_JOINTS[0, 0], 1] = uniform(-24, 36, count)
    angles = angles.deg2rad()
    angles[..., 2] = angles[..., 2].clamp(LOWEST, HIGHEST)
    return angles


def _draw(
    grasper: Grasper, width: Float[Tensor, "s"], rng: np.random.Generator, count: int
) -> tuple[_Grips, Int[Tensor, "n"]]:
    """Ways to hold, and the spots (by their widths) to try them on: pads are a little further apart than the width."""
    pool = 12 * count
    opened = draw_fingers(rng, pool)
    kind = torch.from_numpy(rng.choice(3, pool, p=[0.35, 0.5, 0.15]))[:, None]  # around, between pads, pads alone
    around, between = kind == 0, kind == 1
    last = torch.from_numpy(rng.choice([1, 2, 3, 4], (pool, 1), p=[0.25, 0.2, 0.15, 0.4]))
    some = torch.from_numpy(rng.random((pool, 5)) < 0.6) & (torch.arange(5) > 0)
    is_in = torch.where(around, True, torch.where(between, torch.arange(5) <= last, some))
    is_in[~is_in[:, 1:].any(-1), 1] = True

    posed, joint = grasper.pose(opened, grasper.pads), DIGIT_JOINTS[:, 2] + 1
    pads, outward = posed.skin(), -(posed.R_world_joint[:, joint] @ grasper.axes[joint].mT)[..., 1]  # (n, 5, 3)
    share = (is_in * (torch.arange(5) > 0)).float()
    share = (share / share.sum(-1, keepdim=True))[..., None]
    fingers, fingers_outward = (pads * share).sum(1), (outward * share).sum(1)
    across, aperture = normalize(fingers - pads[:, 0], dim=-1), (fingers - pads[:, 0]).norm(dim=-1)
    is_facing = torch.minimum((outward[:, 0] * across).sum(-1), -(fingers_outward * across).sum(-1)) > 0.3

    lean = torch.from_numpy(rng.normal(0, 0.25, (pool, 3))).float()
    along, forward = (torch.from_numpy(rng.uniform(*ends, (pool, 1))).float() for ends in ((0.55, 1.05), (0, 0.8)))
    palm = along * posed.joints[:, DIGIT_JOINTS[1:, 0] + 1].mean(1) + 0.02 * DOWN
    middle = (fingers + pads[:, 0]) / 2
    centre = torch.where(around, palm, torch.where(between, middle, fingers))
    inward = torch.where(around, DOWN + 0.5 * lean, torch.where(between, across, fingers_outward))
    approach = torch.where(between, middle + 0.04 * lean, fingers_outward + lean)
    approach = torch.where(around, DOWN + forward * AHEAD + lean, approach)

    more = torch.where(around, by_digit((30, 25, 40), (65, 75, 45)), by_digit((25, 20, 15), (32, 25, 15)))
    drive = opened.clone()
    drive[..., 2] = (opened[..., 2] + more * at_joints(is_in.float())).clamp(LOWEST, HIGHEST)
    drawn = (opened, drive, is_in, between[:, 0], centre, normalize(inward, dim=-1), normalize(approach, dim=-1))

    spot = torch.from_numpy(rng.integers(len(width), size=pool))
    room = aperture - width[spot]
    fits = ~between[:, 0] | ((room > 0.008) & (room < 0.04) & is_facing)
    chosen = (~fits).int().argsort(stable=True)[:count]
    return _Grips(*(column[chosen] for column in drawn)), spot[chosen]


def _frame(z: Float[Tensor, "n 3"], spin: Float[Tensor, "n"]) -> Float[Tensor, "n 3 3"]:
    """Rotations that take the z axis to `z`, after a turn by `spin` about it."""
    x = normalize(torch.linalg.cross(torch.eye(3)[z.abs().argmin(-1)], z), dim=-1)
    y = torch.linalg.cross(z, x)
    cos, sin = spin.cos()[:, None], spin.sin()[:, None]
    return torch.stack([cos * x + sin * y, cos * y - sin * x, z], -1)


def _cross(grasper: Grasper, angles: Float[Tensor, "n 15 3"]) -> Bool[Tensor, "n"]:
    """Whether the thumb's outer bones come so near to a finger's bones (1 cm) that their flesh would cross."""
    posed = grasper.pose(angles, grasper.pads)
    joints = torch.cat([posed.joints[:, DIGIT_JOINTS + 1], posed.skin()[:, :, None]], 2)  # (n, 5, 4, 3)
    share = torch.linspace(0, 1, 5)[:, None]
    bones = joints[:, :, :-1, None] + share * joints.diff(dim=2)[:, :, :, None]  # (n, 5, 3, 5, 3)
    thumb, others = bones[:, 0, 1:].flatten(1, 2), bones[:, 1:].flatten(1, 3)
    return torch.cdist(thumb, others).amin((1, 2)) < 0.010
