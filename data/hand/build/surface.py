"""Points on a surface: the closest one, relaxation along it, a fit of whole faces to it."""

import numpy as np
from scipy.spatial import cKDTree


def _barycentric(p, a, b, c):
    """Barycentric coordinates of the closest point of each triangle (Ericson, Real-Time Collision Detection)."""
    ab, ac = b - a, c - a
    d1, d2, d3, d4, d5, d6 = ((side * (p - corner)).sum(-1) for corner in (a, b, c) for side in (ab, ac))
    va, vb, vc, tiny = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2, 1e-30
    w = np.stack([va, vb, vc], -1) / (va + vb + vc + tiny)[..., None]
    t = (d4 - d3) / (d4 - d3 + d5 - d6 + tiny)
    m = (va <= 0) & (d4 - d3 >= 0) & (d5 - d6 >= 0)
    w[m] = np.stack([0 * t, 1 - t, t], -1)[m]
    t, m = d2 / (d2 - d6 + tiny), (vb <= 0) & (d2 >= 0) & (d6 <= 0)
    w[m] = np.stack([1 - t, 0 * t, t], -1)[m]
    t, m = d1 / (d1 - d3 + tiny), (vc <= 0) & (d1 >= 0) & (d3 <= 0)
    w[m] = np.stack([1 - t, t, 0 * t], -1)[m]
    w[(d6 >= 0) & (d5 <= d6)] = [0, 0, 1]
    w[(d3 >= 0) & (d4 <= d3)] = [0, 1, 0]
    w[(d1 <= 0) & (d2 <= 0)] = [1, 0, 0]
    return w


def closest_points(points, v, f, candidates=40):
    """Face, barycentric coordinates and distance of the surface point closest to each query."""
    _, near = cKDTree(v[f].mean(1)).query(points, k=min(candidates, len(f)))
    face, bary, best = np.zeros(len(points), int), np.zeros((len(points), 3)), np.full(len(points), np.inf)
    for k in range(near.shape[1]):
        a, b, c = (v[f[near[:, k], n]] for n in range(3))
        w = _barycentric(points, a, b, c)
        d = ((w[:, :1] * a + w[:, 1:2] * b + w[:, 2:] * c - points) ** 2).sum(1)
        m = d < best
        best[m], face[m], bary[m] = d[m], near[m, k], w[m]
    return face, bary, np.sqrt(best)


def relax(v0, f0, points, f, fixed, density, steps=5, strength=0.5):
    """The matrix that makes, from v0, the points smoothed along the surface (v0, f0)."""
    neighbours = [set() for _ in points]
    for t in f:
        for a in t:
            neighbours[a].update(t)
    neighbours = [np.array(sorted(x - {i})) for i, x in enumerate(neighbours)]
    free = np.array([i for i in range(len(points)) if i not in set(fixed)])
    points = points.copy()

    def sample_density(face, bary):
        return (bary * density[f0[face]]).sum(1)

    face, bary, _ = closest_points(points, v0, f0)
    fine = sample_density(face, bary)
    for _ in range(steps):
        fn = np.cross(points[f[:, 1]] - points[f[:, 0]], points[f[:, 2]] - points[f[:, 0]])
        normal, area = np.zeros_like(points), np.zeros(len(points))
        for k in range(3):
            np.add.at(normal, f[:, k], fn)
            np.add.at(area, f[:, k], np.linalg.norm(fn, axis=1))
        area *= fine
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-15
        move = np.zeros_like(points)
        for i in free:
            w = area[neighbours[i]]
            d = (points[neighbours[i]] * w[:, None]).sum(0) / w.sum() - points[i]
            move[i] = d - normal[i] * (d @ normal[i])
        points[free] += strength * move[free]
        face, bary, _ = closest_points(points[free], v0, f0)
        points[free] = (bary[:, :, None] * v0[f0[face]]).sum(1)
        fine[free] = sample_density(face, bary)
    face, bary, _ = closest_points(points, v0, f0)
    S = np.zeros((len(points), len(v0)))
    for k in range(3):
        np.add.at(S, (np.arange(len(points)), f0[face, k]), bary[:, k])
    return S


def surface_fit(v, f, v0, f0, border, steps=12):
    """Small offsets of v that bring whole faces onto the surface (v0, f0), and the mean error left."""
    sample = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4.0]])
    sample /= sample.sum(1, keepdims=True)
    offset = np.zeros_like(v)
    for _ in range(steps):
        p = np.einsum("kb,fbd->kfd", sample, (v + offset)[f])
        face, bary, distance = closest_points(p.reshape(-1, 3), v0, f0)
        pull = ((bary[:, :, None] * v0[f0[face]]).sum(1).reshape(p.shape) - p).mean(0)
        total, count = np.zeros_like(v), np.zeros(len(v))
        for k in range(3):
            np.add.at(total, f[:, k], pull)
            np.add.at(count, f[:, k], 1)
        total /= count[:, None]
        total[border] = 0
        offset += 0.6 * total
    return offset, distance.mean()
