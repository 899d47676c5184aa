r"""Pictures of triangle meshes, drawn on the CPU: a z-buffer, a pinhole camera and Phong's light.

    vertices --camera--> pixels --each triangle's spans, row by row--> fragments --nearest--> shaded pixels

Camera axes are OpenCV's: x to the right, y down, z forward. The picture's corner is (0, 0), the centre of its first
pixel (0.5, 0.5), and the axis z goes through the middle of the picture. Arrays are NumPy's; lengths are metres.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from handdiff_lib.motion import MotionError

NEAR = 0.02
"""Triangles with a corner nearer than this to the camera's plane are not drawn."""
SHINE = 20.0
"""Phong's exponent: how narrow a highlight is."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion."""

    R_camera_world: Float[np.ndarray, "3 3"]
    t_camera_world: Float[np.ndarray, "3"]
    """Camera coordinates of a point p are R p + t."""
    focal: float
    """In pixels."""
    width: int
    height: int

    def see(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """World points in camera axes, metres."""
        return points @ self.R_camera_world.T + self.t_camera_world

    def project(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Where world points in front of the camera appear, pixels."""
        seen = self.see(points)
        return self.focal * seen[..., :2] / seen[..., 2:] + np.array([self.width / 2, self.height / 2])

    @property
    def place(self) -> Float[np.ndarray, "3"]:
        """Where the camera stands in the world."""
        return -self.R_camera_world.T @ self.t_camera_world


def look_at(
    place: Float[np.ndarray, "3"],
    target: Float[np.ndarray, "3"],
    up: Float[np.ndarray, "3"],
    focal: float,
    width: int,
    height: int,
) -> Camera:
    """A camera at `place` with `target` in the middle of its picture and `up` upwards in it.

    Raises MotionError when the camera stands on its target or looks along `up`.
    """
    forward = target - place
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-9:
        raise MotionError("camera: it stands on its target or looks along up; move it aside")
    rows = np.stack([right, np.cross(forward, right), forward])
    R = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return Camera(R, -R @ place, focal, width, height)


@dataclass(frozen=True)
class Painted:
    """A mesh with a colour at every vertex."""

    vertices: Float[np.ndarray, "v 3"]
    """World, metres."""
    faces: Int[np.ndarray, "f 3"]
    colour: Float[np.ndarray, "v 3"]
    """Red, green, blue in [0, 1]."""
    gloss: float = 0.0
    """Strength of the highlight."""
    is_closed: bool = True
    """Whether triangles turned away are hidden by others, so that they need not be drawn."""


@dataclass(frozen=True)
class Light:
    """A distant lamp and the light of the surroundings, which is brightest from above."""

    direction: Float[np.ndarray, "3"]
    """Towards the lamp, world, of length 1."""
    up: Float[np.ndarray, "3"]
    lamp: float = 0.6
    around: float = 0.5


@dataclass(frozen=True)
class Picture:
    """What the camera sees of k surfaces."""

    rgb: Float[np.ndarray, "h w 3"]
    """In [0, 1]."""
    depth: Float[np.ndarray, "h w"]
    """Along z, metres; inf where there is background."""
    surface: Int[np.ndarray, "h w"]
    """Number of the surface seen; -1 for the background."""
    covered: Bool[np.ndarray, "k h w"]
    """Pixels where each surface would be seen if it were alone."""

    def hidden(self, surface: int) -> float:
        """Share of a surface's pixels that other surfaces stand in front of; nan when it is out of the picture."""
        alone = self.covered[surface]
        return float(1 - (self.surface[alone] == surface).mean()) if alone.any() else float("nan")


def render(surfaces: list[Painted], camera: Camera, light: Light, background: Float[np.ndarray, "h w 3"]) -> Picture:
    """The surfaces before the background, a picture of the camera's size."""
    h, w = camera.height, camera.width
    if background.shape != (h, w, 3):
        raise MotionError(f"background: expected {(h, w, 3)}, the camera's size, found {background.shape}")
    starts = np.cumsum([0, *(len(s.vertices) for s in surfaces)])
    faces = np.concatenate([s.faces + start for s, start in zip(surfaces, starts, strict=False)])
    owner = np.repeat(np.arange(len(surfaces)), [len(s.faces) for s in surfaces])
    is_closed = np.array([s.is_closed for s in surfaces])
    parts = [np.hstack([s.colour, vertex_normals(s.vertices, s.faces), s.vertices]) for s in surfaces]
    traits = np.concatenate(parts)  # (v, 9)

    seen = camera.see(traits[:, 6:])
    depth = np.maximum(seen[:, 2], NEAR / 2)
    xy = camera.focal * seen[:, :2] / depth[:, None] + np.array([w / 2, h / 2])
    found = _fragments(xy, depth, faces, is_closed[owner], seen[:, 2] >= NEAR, h, w)

    whose = owner[found.face]
    covered = np.zeros((len(surfaces), h * w), dtype=bool)
    covered[whose, found.pixel] = True
    nearest = np.zeros(h * w)
    np.maximum.at(nearest, found.pixel, found.inverse_depth)
    in_front = np.flatnonzero(found.inverse_depth == nearest[found.pixel])
    first = np.full(h * w, -1)
    first[found.pixel[in_front]] = in_front
    pixel = np.flatnonzero(first >= 0)
    won = first[pixel]
    whose, corners, weight = whose[won], faces[found.face[won]].T, found.weight[:, won]
    colour, normal, point = np.split(
        sum(w[:, None] * traits[k] for w, k in zip(weight, corners, strict=True)), 3, axis=1
    )

    gloss = np.array([s.gloss for s in surfaces])[whose]
    rgb, deep, which = background.reshape(-1, 3).copy(), np.full(h * w, np.inf), np.full(h * w, -1)
    rgb[pixel] = _phong(colour, normal, point, gloss, is_closed[whose], camera.place, light)
    deep[pixel], which[pixel] = 1 / nearest[pixel], whose
    return Picture(rgb.reshape(h, w, 3), deep.reshape(h, w), which.reshape(h, w), covered.reshape(-1, h, w))


def vertex_normals(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v 3"]:
    """Means of the normals of the triangles around each vertex, weighed by area; not of length 1."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    flat = faces.ravel()
    sums = [np.bincount(flat, np.repeat(normal[:, k], 3), len(vertices)) for k in range(3)]
    return np.stack(sums, axis=-1)


@dataclass(frozen=True)
class _Fragments:
    """Points of triangles under pixel centres."""

    face: Int[np.ndarray, "n"]
    pixel: Int[np.ndarray, "n"]
    """Row by row."""
    inverse_depth: Float[np.ndarray, "n"]
    weight: Float[np.ndarray, "3 n"]
    """Of the corners, in space; they sum to 1."""


def _fragments(
    xy: Float[np.ndarray, "v 2"],
    depth: Float[np.ndarray, "v"],
    faces: Int[np.ndarray, "f 3"],
    may_cull: Bool[np.ndarray, "f"],
    in_front: Bool[np.ndarray, "v"],
    h: int,
    w: int,
) -> _Fragments:
    r"""All of them, nearest or not.

    $\lambda_k(x, y)$, the weights in the picture, are linear in x and y, and so is $1/z = \sum_k \lambda_k / z_k$; the
    weights in space are $\lambda_k z / z_k$.
    """
    corner = xy[faces].transpose(2, 1, 0)  # (x or y, corner, f)
    edge = np.roll(corner, -2, axis=1) - np.roll(corner, -1, axis=1)  # opposite each corner
    area = edge[0, 0] * edge[1, 1] - edge[1, 0] * edge[0, 1]
    size = np.array([[w], [h]])
    low, high = _centres(corner.min(1), corner.max(1), size)
    # counter-clockwise from outside, in a picture whose y goes down, has a negative area when it faces the camera
    is_seen = in_front[faces].all(1) & np.where(may_cull, area < 0, area != 0) & (high > low).all(0)
    face = np.flatnonzero(is_seen)
    corner, edge = corner[:, :, face], edge[:, :, face]
    slope = np.stack([-edge[1], edge[0]]) / area[face]
    offset = 1 - (slope * corner).sum(0)  # lambda_k = slope_k . (x, y) + offset_k

    row, y = _expand(low[1, face], high[1, face])
    across, at_left = slope[0][:, row], slope[1][:, row] * (y + 0.5) + offset[:, row]  # (3, rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = -at_left / across  # where lambda_k changes its sign along the row
    start = np.where(across > 0, zero, -np.inf).max(0)
    end = np.where(across < 0, zero, np.inf).min(0)
    end[((across == 0) & (at_left < 0)).any(0)] = -np.inf
    span, x = _expand(*_centres(start, end, w))
    weight = across[:, span] * (x + 0.5) + at_left[:, span]
    face = face[row[span]]
    weight /= depth[faces[face]].T
    inverse = weight.sum(0)
    return _Fragments(face, y[span] * w + x, inverse, weight / inverse)


def _centres(start: np.ndarray, end: np.ndarray, size: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel whose centre is at or after `start` and the one after the last at or before `end`, in the picture."""
    return np.ceil(start - 0.5).clip(0, size).astype(int), (np.floor(end - 0.5) + 1).clip(0, size).astype(int)


def _expand(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole numbers of many ranges one after the other, each with the number of its range."""
    count = (end - start).clip(0)
    which = np.repeat(np.arange(len(start)), count)
    return which, np.arange(len(which)) + np.repeat(start - np.cumsum(count) + count, count)


def _phong(
    colour: Float[np.ndarray, "n 3"],
    normal: Float[np.ndarray, "n 3"],
    point: Float[np.ndarray, "n 3"],
    gloss: Float[np.ndarray, "n"],
    is_closed: Bool[np.ndarray, "n"],
    eye: Float[np.ndarray, "3"],
    light: Light,
) -> Float[np.ndarray, "n 3"]:
    """Colours in [0, 1] of points seen from `eye` (Phong 1975); sheets have light on both sides."""
    view, normal = _unit(eye - point), _unit(normal)
    is_back = (np.vecdot(normal, view) < 0) & ~is_closed
    normal[is_back] *= -1
    towards = normal @ light.direction
    mirrored = 2 * towards[:, None] * normal - light.direction
    highlight = np.vecdot(mirrored, view).clip(0) ** SHINE * (towards > 0)
    around = light.around * (0.75 + 0.25 * (normal @ light.up))
    lit = colour * (around + light.lamp * towards.clip(0))[:, None] + (gloss * highlight)[:, None]
    return lit.clip(0, 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt(np.vecdot(vectors, vectors)).clip(1e-12)[:, None]
