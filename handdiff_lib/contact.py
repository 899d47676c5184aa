r"""A hand beside a thing: distances to a mesh that moves as one piece, and how they change.

    points in the object's frame --KD-tree--> nearest pieces of surface --exact--> closest point of their triangles

The mesh is cut once into pieces of a few millimetres. The centres of the nearest pieces say which triangles can be the
closest; the distance to those is exact (an answer is at most a few hundredths of a millimetre too large, 0.2 mm on
meshes of slivers). Inside the thing it is 0.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.smoothing import smooth, smooth_rotations
from handdiff_lib.topology import CHAIN, FINGERS

DIGITS = (*FINGERS, "palm")
"""The parts of a hand whose contact is told apart."""

PIECE = 0.004
"""Longest edge, metres, of the pieces that a surface is cut into; a hundredth of the thing where that is longer."""
CANDIDATES = 8
"""How many of the nearest pieces are looked at exactly."""


@dataclass(frozen=True)
class RigidObject:
    """A thing that moves as one piece. Several of them make a scene."""

    vertices: Float[Tensor, "v 3"]
    """Metres, in the thing's own frame."""
    faces: Int[Tensor, "f 3"]
    pose: Float[Tensor, "t 4 4"]
    """Mesh to world (or camera): the frame of the hand's track."""

    def __post_init__(self) -> None:
        """Raises MotionError for a mesh or pose that cannot be measured against."""
        if len(self.faces) == 0:
            raise MotionError("object mesh: no triangle; give a surface, not a point cloud")
        if not 0 <= self.faces.min() <= self.faces.max() < len(self.vertices):
            raise MotionError(f"object mesh: faces name vertices outside 0..{len(self.vertices) - 1}; export it again")
        if not (self.vertices.isfinite().all() and self.pose.isfinite().all()):
            raise MotionError("object mesh or pose: NaN or inf; give the poses of tracked frames only")
        extent = (self.vertices.amax(0) - self.vertices.amin(0)).max().item()
        if not 1e-3 < extent < 10:
            raise MotionError(f"object mesh: {extent:g} m large; scale its vertices to metres")

    @cached_property
    def surface(self) -> "Surface":
        """The surface, made ready for distances once."""
        return Surface(trimesh.Trimesh(self.vertices.double().cpu().numpy(), self.faces.cpu().numpy()))

    def local(self, points: Float[Tensor, "t k 3"]) -> Float[Tensor, "t k 3"]:
        r"""The points seen from the thing: $R^\top (p - t)$."""
        if len(points) != len(self.pose):
            raise MotionError(
                f"{len(points)} frames of the hand against {len(self.pose)} of the object; cut both alike"
            )
        pose = self.pose.to(points)
        return (points - pose[:, None, :3, 3]) @ pose[:, :3, :3]

    def distance(self, points: Float[Tensor, "t k 3"], reach: float = float("inf")) -> Float[Tensor, "t k"]:
        """Distance of every point to the surface in metres, 0 inside (see `Surface`); `reach` where it is more."""
        seen = self.local(points.double())
        found = torch.full(seen.shape[:2], reach, dtype=torch.double)
        centre = (seen.amax(1) + seen.amin(1)) / 2
        radius = (seen - centre[:, None]).norm(dim=-1).amax(1)
        away = (centre.cpu() - torch.from_numpy(self.surface.centre)).norm(dim=-1).to(radius)
        near = torch.nonzero(away - radius - self.surface.radius < reach)[:, 0]
        for frames in near.split(32):
            flat = seen[frames].flatten(0, 1).cpu().numpy()
            found[frames.cpu()] = torch.from_numpy(self.surface.distance(flat, reach)).reshape(-1, points.shape[1])
        return found.to(points)


def load_object(path: Path, scale: float, pose: Float[Tensor, "t 4 4"]) -> RigidObject:
    """The thing in a mesh file; `scale` turns the file's unit into metres. MotionError for a file that is no mesh."""
    try:
        mesh = trimesh.load(path, force="mesh")
    except (ValueError, OSError, IndexError) as error:
        raise MotionError(f"{path} is not a readable mesh ({' '.join(str(error).split())}); export it again") from None
    vertices, faces = torch.from_numpy(mesh.vertices * scale).float(), torch.from_numpy(np.array(mesh.faces)).long()
    return RigidObject(vertices, faces, pose)


@dataclass(frozen=True)
class Signals:
    """One hand beside one thing, per frame; smoothed, float64."""

    distance: Float[np.ndarray, "t"]
    """Mean distance of the joints to the surface, m."""
    approach: Float[np.ndarray, "t"]
    """Its change, m/s; negative when the hand comes closer."""
    gap: Float[np.ndarray, "t"]
    """Distance of the nearest vertex, m."""
    touching: Float[np.ndarray, "t"]
    """Number of vertices nearer than `near`."""
    digit_gap: Float[np.ndarray, "t 6"]
    """Distance of the nearest vertex of each of DIGITS, m."""
    turn: Float[np.ndarray, "t"]
    """RMS turning speed of the 15 finger joints, rad/s."""
    slide: Float[np.ndarray, "t"]
    """RMS speed of the finger tips seen from the thing, m/s."""


class Surface:
    """A triangle mesh made ready for distances.

    Inside is told by the normal at the closest point (Baerentzen and Aanaes 2005), which is right for closed meshes
    alone. A mesh with a hole has no inside, and all its distances are those to the sheet.
    """

    def __init__(self, mesh: trimesh.Trimesh) -> None:
        corners = mesh.triangles.view(np.ndarray)
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        self.triangles = corners[area > 0]
        self.is_closed = bool(mesh.is_watertight and mesh.is_winding_consistent)
        self.normals = _feature_normals(mesh)[area > 0] if self.is_closed else None
        self.centre = mesh.bounds.mean(0)
        self.radius = float(np.linalg.norm(mesh.vertices - self.centre, axis=1).max())
        self.piece = max(PIECE, mesh.extents.max() / 100)
        centres, self.owner = _cut(self.triangles, self.piece)
        self.tree = cKDTree(centres)

    def distance(self, points: np.ndarray, reach: float = float("inf")) -> np.ndarray:
        """(n,) distances of (n, 3) points, 0 inside; `reach` where it is more."""
        k = min(CANDIDATES, self.tree.n)
        to_centre, pieces = self.tree.query(points, k, distance_upper_bound=reach + 2 * self.piece)
        to_centre, pieces = to_centre.reshape(-1, k), pieces.reshape(-1, k)
        near = np.flatnonzero(np.isfinite(to_centre[:, 0]))
        found = np.where(np.isfinite(to_centre[near]), pieces[near], pieces[near, :1])
        owner = self.owner[found].ravel()
        weight, away = _closest(np.repeat(points[near], k, axis=0), self.triangles[owner])
        exact = np.linalg.norm(away, axis=-1).reshape(-1, k)
        best = exact.argmin(1) + k * np.arange(len(near))
        distance = np.full(len(points), reach)
        distance[near] = np.minimum(exact.ravel()[best], reach)
        if self.normals is not None:
            feature = (weight[best] > 1e-9) @ np.array([1, 2, 4])  # which corners the closest point lies between
            along = (self.normals[owner[best], feature] * away[best]).sum(-1)
            # where a sheet is folded back on itself its normals cancel, and the sign says nothing
            distance[near[along < -0.01 * exact.ravel()[best]]] = 0
        return distance


def hand_parts(hand: HandModel) -> Int[Tensor, "v"]:
    """Index into DIGITS of every vertex: the finger whose joints move it most, or the palm."""
    part = torch.full((16,), DIGITS.index("palm"))
    for digit, finger in enumerate(FINGERS):
        part[list(CHAIN[finger])] = digit
    return part.to(hand.weights.device)[hand.weights.argmax(-1)]


def signals(motion: HandMotion, hand: HandModel, thing: RigidObject, near: float, smooth_s: float) -> Signals:
    """How a hand moves beside a thing whose pose is in the track's own frame.

    The motion passes through a Gaussian of `smooth_s` seconds before speeds are taken, so that noise is no motion;
    frames that are not valid are filled and have no say. Distances of vertices are cut off at six times `near`.
    """
    motion = fill_missing(motion)
    fps, sigma = motion.fps, smooth_s * motion.fps

    def calm(values: Tensor) -> Tensor:
        return smooth(values.double(), motion.valid, sigma)

    vertex = thing.distance(motion.vertices(hand), reach=6 * near).double()
    part = hand_parts(hand)
    by_part = torch.stack([vertex[:, part == k].amin(1) for k in range(len(DIGITS))], -1)
    joints = motion.joints(hand)
    measured = [thing.distance(joints).mean(1), vertex.amin(1), (vertex < near).sum(1)]
    distance, gap, touching = calm(torch.stack([m.double() for m in measured], -1)).unbind(-1)
    tips = calm(thing.local(joints.double())[:, [4, 8, 12, 16, 20]].flatten(1)).unflatten(-1, (5, 3))
    R = smooth_rotations(motion.R[:, 1:].double(), motion.valid, sigma)
    turn = rotation.log(R[:-1].mT @ R[1:]).square().sum(-1).mean(-1).sqrt() * fps  # between frames, (t-1,)
    found = {
        "distance": distance,
        "approach": _rate(distance[:, None], fps)[:, 0],
        "gap": gap,
        "touching": touching,
        "digit_gap": calm(by_part),
        "turn": _at_frames(turn),
        "slide": _rate(tips.flatten(1), fps).unflatten(-1, (5, 3)).square().sum(-1).mean(-1).sqrt(),
    }
    return Signals(**{name: value.cpu().numpy() for name, value in found.items()})


def _at_frames(steps: Tensor) -> Tensor:
    """(t,) values at frames from (t-1,) values between them: means of both sides."""
    if len(steps) == 0:
        return steps.new_zeros(1)
    padded = torch.cat([steps[:1], steps, steps[-1:]])
    return (padded[:-1] + padded[1:]) / 2


def _rate(values: Tensor, fps: float) -> Tensor:
    """Change per second of (t, d) values: central differences, one-sided at the ends."""
    if len(values) == 1:
        return torch.zeros_like(values)
    steps = values.diff(dim=0) * fps
    padded = torch.cat([steps[:1], steps, steps[-1:]])
    return (padded[:-1] + padded[1:]) / 2


def _cut(triangles: np.ndarray, piece: float) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the pieces that (n, 3, 3) triangles fall into when long edges are halved, and whose piece it is."""
    owner, centres, owners = np.arange(len(triangles)), [], []
    while len(triangles):
        edge2 = np.square(np.roll(triangles, -1, axis=1) - triangles).sum(-1)
        is_small = edge2.max(1) <= piece**2
        centres.append(triangles[is_small].mean(1))
        owners.append(owner[is_small])
        first = edge2[~is_small].argmax(1)[:, None] + np.arange(3)  # the longest edge becomes a to b
        a, b, c = np.take_along_axis(triangles[~is_small], (first % 3)[..., None], axis=1).swapaxes(0, 1)
        triangles = np.concatenate([np.stack([a, (a + b) / 2, c], 1), np.stack([(a + b) / 2, b, c], 1)])
        owner = np.tile(owner[~is_small], 2)
    centre, owner = np.concatenate(centres), np.concatenate(owners)
    place = np.column_stack([owner, np.floor(centre / piece)])  # slivers fall into far too many pieces
    kept = np.unique(place, axis=0, return_index=True)[1]
    return centre[kept], owner[kept]


def _closest(p: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closest point of each triangle (n, 3, 3) to each point (n, 3): its corner weights, and the way from it to p."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    ab, ac, ap = b - a, c - a, p - a

    def dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.einsum("ni,ni->n", x, y)

    bb, bc, cc, pb, pc = dot(ab, ab), dot(ab, ac), dot(ac, ac), dot(ap, ab), dot(ap, ac)
    det = np.maximum(bb * cc - bc * bc, np.finfo(float).tiny)
    v, w = (cc * pb - bc * pc) / det, (bb * pc - bc * pb) / det  # of the plane through the triangle
    weight = np.stack([1 - v - w, v, w], -1)
    outside = np.flatnonzero(weight.min(-1) < 0)
    if len(outside):
        weight[outside] = _closest_on_edges(*(x[outside] for x in (bb, bc, cc, pb, pc)))
    away = ap - weight[:, 1:2] * ab - weight[:, 2:] * ac
    return weight, away


def _closest_on_edges(bb: np.ndarray, bc: np.ndarray, cc: np.ndarray, pb: np.ndarray, pc: np.ndarray) -> np.ndarray:
    """Corner weights of the closest point on the border of a triangle, from the dot products of its sides and ap."""
    zero = np.zeros_like(bb)
    ee = bb - 2 * bc + cc  # |bc|^2
    along_ab = np.clip(pb / bb, 0, 1)
    along_ac = np.clip(pc / cc, 0, 1)
    along_bc = np.clip((pc - pb - bc + bb) / ee, 0, 1)
    v = np.stack([along_ab, zero, 1 - along_bc], -1)  # (n, 3 edges)
    w = np.stack([zero, along_ac, along_bc], -1)
    away2 = v * v * bb[:, None] + w * w * cc[:, None] + 2 * v * w * bc[:, None]
    away2 = away2 - 2 * v * pb[:, None] - 2 * w * pc[:, None]  # less |ap|^2
    pick = away2.argmin(-1)[:, None]
    v, w = np.take_along_axis(v, pick, -1)[:, 0], np.take_along_axis(w, pick, -1)[:, 0]
    return np.stack([np.where(pick[:, 0] == 2, 0, 1 - v - w), v, w], -1)


def _feature_normals(mesh: trimesh.Trimesh) -> np.ndarray:
    """(f, 8, 3) outward normals at corners (1, 2, 4), on edges (3, 5, 6) and inside (7) of a closed mesh's triangles.

    An edge has the sum of its two faces' normals, a corner the sum of its faces' weighted by their angles there.
    """
    face = mesh.face_normals * np.sign(mesh.volume)
    table = np.zeros((len(mesh.faces), 8, 3))
    table[:, 7] = face
    corner = np.zeros_like(mesh.vertices.view(np.ndarray))
    np.add.at(corner, mesh.faces, mesh.face_angles[..., None] * face[:, None])
    for k in range(3):
        table[:, 1 << k] = corner[mesh.faces[:, k]]
    pairs = np.array([(0, 1), (0, 2), (1, 2)])
    edge = np.sort(mesh.faces[:, pairs], axis=-1).reshape(-1, 2)  # (3 f, 2)
    _, name = np.unique(edge, axis=0, return_inverse=True)
    side = np.zeros((name.max() + 1, 3))
    np.add.at(side, name.ravel(), np.repeat(face, 3, axis=0))
    table[:, (1 << pairs).sum(1)] = side[name].reshape(-1, 3, 3)
    return table
