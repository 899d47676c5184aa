r"""Levels of a hand mesh and the spirals on them, computed from any hand's vertices and faces.

Each level keeps half the vertices of the one before (778, 389, 195, 98, 49), chosen by quadric edge collapse
(Garland and Heckbert 1997) that only ever removes vertices, so that pooling is a selection of rows. A spiral lists a
vertex, its neighbours counter-clockwise, then their neighbours:

         4 --- 3
        / \   / \
       5 --- 0 --- 2        spiral of 0: 0, 1, 2, 3, 4, 5, 6, then the next ring
        \   / \   /
         6 --- 1
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

SPIRAL = 9
"""Vertices in a spiral, the centre included (DIP uses 9 at all levels)."""


@dataclass(frozen=True)
class Pyramid:
    """Spirals from each level to the next: one entry a convolution."""

    spirals: list[Int[Tensor, "_v_out k"]]
    """For every vertex kept by the next level, the numbers of its spiral within this level."""
    kept: list[Int[Tensor, "_v_out"]]
    """Which vertices of the whole mesh each level after the first consists of."""


def build_pyramid(v: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], levels: int = 4) -> Pyramid:
    """The pyramid of a mesh; about a second for a hand. The same mesh always gives the same pyramid.

    A convolution followed by pooling needs its spirals only where pooling keeps the vertex, so only those are listed.
    """
    points, triangles = v.detach().cpu().double().numpy(), faces.cpu().numpy()
    numbers = np.arange(len(points))
    spirals, kept = [], []
    for _ in range(levels):
        keep, coarser = decimate(points, triangles, (len(points) + 1) // 2)
        rings = spiral_rows(triangles, len(points))
        spirals.append(torch.from_numpy(rings[keep]))
        numbers = numbers[keep]
        kept.append(torch.from_numpy(numbers.copy()))
        points, triangles = points[keep], np.searchsorted(keep, coarser)
    return Pyramid(spirals, kept)


def spiral_rows(faces: np.ndarray, count: int, length: int = SPIRAL) -> np.ndarray:
    """The spiral of every vertex (count, length), starting at the neighbour with the smallest number.

    At a border the walk starts at the border's first neighbour. A mesh too small for a full spiral repeats the centre.
    """
    after: list[dict[int, int]] = [{} for _ in range(count)]  # around a, the neighbour that follows b
    for a, b, c in faces.tolist():
        after[a][b], after[b][c], after[c][a] = c, a, b
    rings = [_ring(around) for around in after]
    rows = np.empty((count, length), np.int64)
    for centre in range(count):
        row, seen, k = [centre], {centre}, 0
        row += [x for x in rings[centre] if x not in seen]
        seen.update(row)
        while len(row) < length and k + 1 < len(row):
            k += 1
            fresh = [x for x in rings[row[k]] if x not in seen]
            row += fresh
            seen.update(fresh)
        rows[centre] = (row + [centre] * length)[:length]
    return rows


def _ring(around: dict[int, int]) -> list[int]:
    """Neighbours of a vertex in order."""
    starts = sorted(set(around) - set(around.values())) or sorted(around)[:1]
    ring: list[int] = []
    for start in starts:  # more than one only where the mesh touches itself at a point
        x = start
        while x is not None and x not in ring:
            ring.append(x)
            x = around.get(x)
    return ring


def decimate(v: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Kept vertex numbers (sorted) and faces in the old numbering after collapsing edges down to `target` vertices.

    Cheapest collapse first by quadric error with a small penalty on edge length, ties by number. A collapse must keep
    the surface a manifold (link condition) and may not turn a face over.
    """
    triangles = {i: tuple(t) for i, t in enumerate(faces.tolist())}
    around: dict[int, set[int]] = defaultdict(set)
    edge_faces: dict[tuple[int, int], int] = defaultdict(int)
    quadric = np.zeros((len(v), 4, 4))
    for i, t in triangles.items():
        normal = np.cross(v[t[1]] - v[t[0]], v[t[2]] - v[t[0]])
        plane = np.append(normal, -normal @ v[t[0]]) / np.linalg.norm(normal)
        for k in range(3):
            around[t[k]].add(i)
            edge_faces[tuple(sorted((t[k], t[k - 1])))] += 1
            quadric[t[k]] += np.outer(plane, plane)
    border = {x for edge, n in edge_faces.items() if n == 1 for x in edge}
    scale = np.linalg.norm(v.max(0) - v.min(0))

    def neighbours(a: int) -> set[int]:
        return {x for i in around[a] for x in triangles[i]} - {a}

    def cost(gone: int, stays: int) -> float:
        p = np.append(v[stays], 1.0)
        return float(p @ (quadric[gone] + quadric[stays]) @ p + 1e-3 * ((v[gone] - v[stays]) ** 2).sum() / scale)

    def allowed(gone: int, stays: int) -> bool:
        shared = around[gone] & around[stays]
        if gone in border and (stays not in border or len(shared) != 1):
            return False
        if len(neighbours(gone) & neighbours(stays)) != len(shared):
            return False
        for i in around[gone] - shared:
            a, b, c = (v[x] for x in triangles[i])
            d, e, f = (v[stays if x == gone else x] for x in triangles[i])
            if np.cross(b - a, c - a) @ np.cross(e - d, f - d) <= 0:
                return False
        return True

    stamp: dict[int, int] = defaultdict(int)
    heap: list[tuple[float, int, int, int, int]] = []

    def push(a: int) -> None:
        for b in neighbours(a):
            for gone, stays in ((a, b), (b, a)):
                heapq.heappush(heap, (cost(gone, stays), gone, stays, stamp[gone], stamp[stays]))

    alive = set(around)
    for a in sorted(alive):
        push(a)
    while len(alive) > target:
        if not heap:
            raise ValueError(f"the mesh cannot be reduced below {len(alive)} vertices; is it a manifold?")
        _, gone, stays, s_gone, s_stays = heapq.heappop(heap)
        stale = gone not in alive or stays not in alive or (stamp[gone], stamp[stays]) != (s_gone, s_stays)
        if stale or not allowed(gone, stays):
            continue
        ring = neighbours(gone)
        for i in list(around[gone]):
            old = triangles[i]
            for x in old:
                around[x].discard(i)
            if stays in old:
                del triangles[i]
            else:
                triangles[i] = tuple(stays if x == gone else x for x in old)
                for x in triangles[i]:
                    around[x].add(i)
        alive.discard(gone)
        quadric[stays] += quadric[gone]
        for x in ring:
            stamp[x] += 1
        for x in ring:
            push(x)
    return np.array(sorted(alive)), np.array([triangles[i] for i in sorted(triangles)])
