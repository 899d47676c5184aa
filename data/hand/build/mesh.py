"""Triangle meshes: edges, boundary loops, normals, quads to triangles, a cut along a plane."""

from collections import Counter

import numpy as np


def edges(faces):
    """Undirected edges with their number of faces."""
    return Counter(tuple(sorted(e)) for t in faces for e in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0])))


def boundary_loops(faces):
    """Ordered boundary loops, following the winding of the faces."""
    half = {(a, b) for t in faces for a, b in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))}
    after = {a: b for a, b in half if (b, a) not in half}
    loops = []
    while after:
        start = next(iter(after))
        loop, a = [start], after.pop(start)
        while a != start:
            loop.append(a)
            a = after.pop(a)
        loops.append(loop)
    return loops


def vertex_normals(v, f):
    """Unit normals, averaged over the faces by area."""
    n = np.zeros_like(v)
    face = np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]])
    for k in range(3):
        np.add.at(n, f[:, k], face)
    return n / (np.linalg.norm(n, axis=1, keepdims=True) + 1e-12)


def triangulate(quads, vertices):
    """Triangles: quads split along the shorter diagonal."""
    out = []
    for q in quads:
        if len(q) == 3:
            out.append(list(q))
            continue
        a, b, c, d = q
        if np.linalg.norm(vertices[a] - vertices[c]) <= np.linalg.norm(vertices[b] - vertices[d]):
            out += [[a, b, c], [a, c, d]]
        else:
            out += [[a, b, d], [b, c, d]]
    return np.array(out)


def cut_plane(faces, coordinate, near=1e-4):
    """The part with coordinate < 0: its faces, and the matrix that makes its vertices from the old ones."""
    coordinate = np.where(np.abs(coordinate) < near, 0.0, coordinate)
    rows, crossing, out = list(np.eye(len(coordinate))), {}, []

    def cross(a, b):
        k = (min(a, b), max(a, b))
        if k not in crossing:
            t = coordinate[k[0]] / (coordinate[k[0]] - coordinate[k[1]])
            crossing[k] = len(rows)
            rows.append((1 - t) * rows[k[0]] + t * rows[k[1]])
        return crossing[k]

    for t in faces:
        if all(coordinate[i] <= 0 for i in t):
            if any(coordinate[i] < 0 for i in t):
                out.append(list(t))
            continue
        if not any(coordinate[i] < 0 for i in t):
            continue
        polygon = []
        for a, b in zip(t, np.roll(t, -1), strict=True):
            if coordinate[a] <= 0:
                polygon.append(a)
            if coordinate[a] * coordinate[b] < 0:
                polygon.append(cross(a, b))
        out += [[polygon[0], polygon[k], polygon[k + 1]] for k in range(1, len(polygon) - 1)]
    out = np.array(out)
    used, index = np.unique(out, return_inverse=True)
    return index.reshape(out.shape), np.stack([rows[i] for i in used])
