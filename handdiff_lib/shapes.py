r"""Made-up things to hold, of the sizes of the YCB set: boxes, cans, balls, bottles, mugs, tools, bowls, pens, plates.

A shape is a union of parts whose signed distance (negative inside) has a formula, and whose mesh is closed:

    Lathe   a profile (r, z) turned about z        Block   a box        Pipe   a thick line
        z |--.                                                             .--.
          |   |   distance to the profile                                 (    )   distance to the line, less r
          +---'--- r

`Field` keeps the distance on a grid, so that a hundred thousand points cost some milliseconds. Lengths are metres.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from handdiff_lib.contact import RigidObject

SECTIONS = 28
"""Sides of what is round in a mesh; a radius of 5 cm is 0.3 mm off between corners."""
MARGIN = 0.03
"""How far a grid reaches beyond its shape."""
CELLS = 90_000
"""About how many grid points a field has; none are closer than 2.5 mm."""


@dataclass(frozen=True)
class Lathe:
    """A profile turned about z."""

    profile: Float[np.ndarray, "n 2"]
    """(r, z) from the axis, up, back to the axis."""
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    axis: int = 2
    """Which axis of the shape the part's z is."""

    def signed(self, points: np.ndarray) -> np.ndarray:
        """Signed distances of (n, 3) points."""
        p = np.roll(points - self.centre, 2 - self.axis, axis=-1)
        r, z = np.hypot(p[:, 0], p[:, 1]), p[:, 2]
        nearest2, inside = np.full(len(p), np.inf), np.zeros(len(p), bool)
        for (r0, z0), (r1, z1) in zip(self.profile, self.profile[1:], strict=False):
            dr, dz = r1 - r0, z1 - z0
            u = np.clip(((r - r0) * dr + (z - z0) * dz) / (dr * dr + dz * dz), 0, 1)
            nearest2 = np.minimum(nearest2, np.square(r - r0 - u * dr) + np.square(z - z0 - u * dz))
            if dz:
                crosses = (z0 <= z) != (z1 <= z)
                inside ^= crosses & (r < r0 + (z - z0) / dz * dr)
        return np.where(inside, -1, 1) * np.sqrt(nearest2)

    def mesh(self) -> trimesh.Trimesh:
        """The closed surface."""
        angle = 2 * np.pi * np.arange(SECTIONS) / SECTIONS
        circle = np.stack([np.cos(angle), np.sin(angle)], -1)
        rings = [np.column_stack([r * circle, np.full(SECTIONS, z)]) for r, z in self.profile[1:-1]]
        ends = [(0, 0, self.profile[0, 1]), (0, 0, self.profile[-1, 1])]
        made = _tube(rings, ends)
        made.vertices = np.roll(made.vertices, self.axis - 2, axis=-1) + self.centre
        return made


@dataclass(frozen=True)
class Block:
    """A box along the axes."""

    size: tuple[float, float, float]
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def signed(self, points: np.ndarray) -> np.ndarray:
        """Signed distances of (n, 3) points."""
        q = np.abs(points - self.centre) - np.array(self.size) / 2
        return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0)

    def mesh(self) -> trimesh.Trimesh:
        """The closed surface."""
        made = trimesh.creation.box(self.size)
        made.apply_translation(self.centre)
        return made


@dataclass(frozen=True)
class Pipe:
    """A thick line in the plane y = 0."""

    path: Float[np.ndarray, "n 3"]
    radius: float

    def signed(self, points: np.ndarray) -> np.ndarray:
        """Signed distances of (n, 3) points; the ends are round."""
        nearest2, square = np.full(len(points), np.inf), np.square(points).sum(-1)
        for start, end in zip(self.path, self.path[1:], strict=False):
            way = end - start
            along, length2 = points @ way - start @ way, way @ way
            u = np.clip(along / length2, 0, 1)
            from_start2 = square - 2 * points @ start + start @ start
            nearest2 = np.minimum(nearest2, from_start2 - u * (2 * along - u * length2))
        return np.sqrt(nearest2.clip(0)) - self.radius

    def mesh(self) -> trimesh.Trimesh:
        """The closed surface; the ends are flat."""
        along = np.gradient(self.path, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        angle = 2 * np.pi * np.arange(12) / 12
        side = np.cross([0.0, 1.0, 0.0], along)
        ring = np.cos(angle)[:, None] * np.array([0.0, 1.0, 0.0]) + np.sin(angle)[:, None] * side[:, None]
        return _tube(list(self.path[:, None] + self.radius * ring), [self.path[0], self.path[-1]])


Part = Lathe | Block | Pipe


@dataclass(frozen=True)
class Shape:
    """A thing to hold."""

    kind: str
    parts: tuple[Part, ...] = field(repr=False)

    def signed(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
        """Distance to the surface, negative inside; where parts overlap it is less deep than it could be."""
        return np.min([part.signed(points) for part in self.parts], axis=0)

    @cached_property
    def mesh(self) -> trimesh.Trimesh:
        """The parts' closed surfaces together."""
        return trimesh.util.concatenate([part.mesh() for part in self.parts])

    @cached_property
    def field(self) -> "Field":
        """The signed distance on a grid, made once."""
        return Field(self)


class Field:
    """A shape's signed distance on a grid: fast, and within a few tenths of a millimetre but at sharp edges.

    It answers like `contact.Surface`.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        low, high = shape.mesh.bounds
        self.centre, self.radius = (low + high) / 2, float(np.linalg.norm(high - low) / 2)
        size = high - low + 2 * MARGIN
        step = max(0.0025, float((size.prod() / CELLS) ** (1 / 3)))
        count = np.ceil(size / step).astype(int) + 1
        axes = [a - MARGIN + step * np.arange(n) for a, n in zip(low, count, strict=True)]
        z, y, x = np.meshgrid(*axes[::-1], indexing="ij")  # grid_sample reads z, y, x
        value = shape.signed(np.stack([x, y, z], -1).reshape(-1, 3)).reshape(x.shape)
        self.value = torch.from_numpy(value).float()[None, None]
        self.low, self.size = (torch.tensor(v, dtype=torch.float32) for v in (low - MARGIN, step * (count - 1)))

    def __call__(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        """Signed distances; beyond the grid, which ends MARGIN from the shape, an upper bound."""
        seat = 2 * (points - self.low) / self.size - 1
        inside = seat.clamp(-1, 1)
        found = torch.nn.functional.grid_sample(self.value, inside.reshape(1, 1, 1, -1, 3), align_corners=True)
        return found.reshape(points.shape[:-1]) + ((seat - inside) * self.size / 2).norm(dim=-1)

    def normal(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Unit direction in which the distance grows."""
        step = 0.002 * torch.eye(3)
        slope = self(points[..., None, :] + step) - self(points[..., None, :] - step)
        return torch.nn.functional.normalize(slope, dim=-1)

    def distance(self, points: np.ndarray, reach: float = float("inf")) -> np.ndarray:
        """(n,) distances of (n, 3) points, 0 inside; `reach`, MARGIN at most, where it is more."""
        if reach > MARGIN:
            return self.shape.signed(points).clip(0, reach)
        return self(torch.from_numpy(points).float()).clamp(0, reach).double().numpy()


@dataclass(frozen=True)
class MadeObject(RigidObject):
    """A shape that moves; distances come from its field."""

    shape: Shape

    @property
    def surface(self) -> Field:
        """What `RigidObject.distance` asks."""
        return self.shape.field


def draw_shape(rng: np.random.Generator) -> Shape:
    """A shape of a random kind and random size."""
    kind = str(rng.choice(list(KINDS)))
    return Shape(kind, KINDS[kind](rng))


def _tube(rings: list[np.ndarray], ends: list) -> trimesh.Trimesh:
    """A closed surface through rings of as many points each, with a point at either end."""
    n = len(rings[0])
    k, after = np.arange(n), (np.arange(n) + 1) % n
    first, last = n * len(rings), n * len(rings) + 1
    faces = [np.stack([np.full(n, first), after, k], -1)]
    for row in range(len(rings) - 1):
        a, b, c, d = (row * n + x for x in (k, after, n + k, n + after))
        faces += [np.stack([a, b, c], -1), np.stack([b, d, c], -1)]
    top = n * (len(rings) - 1)
    faces.append(np.stack([np.full(n, last), top + k, top + after], -1))
    made = trimesh.Trimesh(np.concatenate([*rings, np.array(ends, float)]), np.concatenate(faces), process=False)
    if made.volume < 0:
        made.invert()
    return made


def _turned(*rz: tuple[float, float]) -> Lathe:
    """A lathe through these (r, z), centred in height, closed at both ends."""
    profile = np.array([(0.0, rz[0][1]), *rz, (0.0, rz[-1][1])])
    top, bottom = profile[:, 1].max(), profile[:, 1].min()
    return Lathe(profile - [0, (top + bottom) / 2])


def _box(rng: np.random.Generator) -> tuple[Part, ...]:
    a, b, c = np.sort(rng.uniform([0.02, 0.03, 0.05], [0.08, 0.10, 0.20]))
    return (Block((a, b, c)),)


def _can(rng: np.random.Generator) -> tuple[Part, ...]:
    r, h = rng.uniform(0.018, 0.045), rng.uniform(0.03, 0.16)
    return (_turned((r, 0.0), (r, h)),)


def _ball(rng: np.random.Generator) -> tuple[Part, ...]:
    r, angle = rng.uniform(0.018, 0.045), np.linspace(0, np.pi, 17)
    profile = np.stack([r * np.sin(angle), -r * np.cos(angle)], -1)
    profile[[0, -1], 0] = 0
    return (Lathe(profile),)


def _bottle(rng: np.random.Generator) -> tuple[Part, ...]:
    r, h = rng.uniform(0.024, 0.042), rng.uniform(0.12, 0.22)
    neck, shoulder = rng.uniform(0.3, 0.5) * r, rng.uniform(0.55, 0.75) * h
    cap = neck * rng.uniform(1.05, 1.3)
    end = 0.88 * h
    return (_turned((0.9 * r, 0.0), (r, 0.05 * h), (r, shoulder), (neck, 0.82 * h), (neck, end), (cap, end), (cap, h)),)


def _mug(rng: np.random.Generator) -> tuple[Part, ...]:
    r, h, wall = rng.uniform(0.034, 0.045), rng.uniform(0.07, 0.11), rng.uniform(0.004, 0.006)
    body = _turned((r, 0.0), (r, h), (r - wall, h), (r - wall, 0.01))
    angle = np.linspace(-np.pi / 2, np.pi / 2, 9)
    out, up = rng.uniform(0.03, 0.04), rng.uniform(0.26, 0.34) * h
    path = np.stack([r - wall / 2 + out * np.cos(angle), 0 * angle, up * np.sin(angle)], -1)
    return (body, Pipe(path, rng.uniform(0.004, 0.007)))


def _bowl(rng: np.random.Generator) -> tuple[Part, ...]:
    r, h, wall = rng.uniform(0.05, 0.085), rng.uniform(0.04, 0.065), 0.005
    angle = np.linspace(0.25, np.pi / 2, 7)
    outer = [(r * np.sin(a), h * (1 - np.cos(a))) for a in angle]
    inner = [(max(0.004, x - wall), z + wall * (1 - z / h)) for x, z in reversed(outer)]
    return (_turned(*outer, *inner),)


def _screwdriver(rng: np.random.Generator) -> tuple[Part, ...]:
    r, grip, shaft = rng.uniform(0.011, 0.018), rng.uniform(0.08, 0.11), rng.uniform(0.06, 0.12)
    thin = rng.uniform(0.003, 0.005)
    profile = ((0.8 * r, 0.0), (r, 0.08 * grip), (r, 0.7 * grip), (0.7 * r, 0.85 * grip), (0.8 * r, grip))
    return (_turned(*profile, (thin, grip), (thin, grip + shaft)),)


def _hammer(rng: np.random.Generator) -> tuple[Part, ...]:
    r, length, head = rng.uniform(0.010, 0.017), rng.uniform(0.15, 0.24), rng.uniform(0.07, 0.11)
    thick = rng.uniform(0.011, 0.017)
    handle = _turned((r, 0.0), (1.1 * r, 0.15 * length), (0.85 * r, 0.6 * length), (0.8 * r, length))
    bar = Lathe(np.array([(0, -head / 2), (thick, -head / 2), (thick, head / 2), (0, head / 2)]), axis=0)
    return (handle, Lathe(bar.profile, (0.0, 0.0, length / 2), axis=0))


def _pen(rng: np.random.Generator) -> tuple[Part, ...]:
    r, length = rng.uniform(0.004, 0.009), rng.uniform(0.11, 0.16)
    return (_turned((0.25 * r, 0.0), (r, 0.1 * length), (r, length)),)


def _plate(rng: np.random.Generator) -> tuple[Part, ...]:
    r, h = rng.uniform(0.05, 0.09), rng.uniform(0.006, 0.012)
    return (_turned((0.7 * r, 0.0), (r, 0.6 * h), (r, h)),)


def _slab(rng: np.random.Generator) -> tuple[Part, ...]:
    a, b, c = rng.uniform([0.006, 0.05, 0.08], [0.025, 0.09, 0.17])
    return (Block((a, b, c)),)


def _spatula(rng: np.random.Generator) -> tuple[Part, ...]:
    thick, length, blade = rng.uniform(0.008, 0.016), rng.uniform(0.12, 0.18), rng.uniform(0.04, 0.08)
    handle = Block((thick, rng.uniform(0.014, 0.025), length))
    return (handle, Block((0.005, rng.uniform(0.04, 0.07), blade), (0.0, 0.0, length / 2 + 0.45 * blade)))


KINDS: dict[str, Callable[[np.random.Generator], tuple[Part, ...]]] = {
    "box": _box,
    "can": _can,
    "ball": _ball,
    "bottle": _bottle,
    "mug": _mug,
    "bowl": _bowl,
    "screwdriver": _screwdriver,
    "hammer": _hammer,
    "pen": _pen,
    "plate": _plate,
    "slab": _slab,
    "spatula": _spatula,
}
"""How each kind is drawn."""
