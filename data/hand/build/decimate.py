"""Reduction by half-edge collapses in the order of their quadric error (Garland and Heckbert 1997)."""

import heapq
from collections import defaultdict

import numpy as np
from mesh import boundary_loops

SHAPES = (0.30, 0.22, 0.15, 0.08)  # least 2 area / longest edge squared; worse triangles only if nothing else is left


def decimate(v, f, target, boundary_target, density, fixed=()):
    """The kept vertices and the faces (old numbering): every vertex that stays is an input vertex.

    `density` is the wanted relative fineness at each vertex; vertices in `fixed` stay.
    """
    mesh = _Collapsing(v, f, density)
    mesh.thin_border(boundary_target)
    for min_shape in SHAPES:
        mesh.thin_inside(target, min_shape, fixed)
        if len(mesh.around) <= target:
            break
    return np.array(sorted(mesh.around)), np.array(list(mesh.faces.values()))


class _Collapsing:
    """A mesh whose half edges collapse one after the other."""

    def __init__(self, v, f, density):
        self.v, self.density = v, density
        self.faces = {i: list(t) for i, t in enumerate(f)}
        self.around = defaultdict(set)  # faces around each vertex that is left
        for i, t in self.faces.items():
            for a in t:
                self.around[a].add(i)
        self.border = {x for loop in boundary_loops(f) for x in loop}
        self.Q = np.zeros((len(v), 4, 4))
        for t in self.faces.values():
            n = np.cross(v[t[1]] - v[t[0]], v[t[2]] - v[t[0]])
            area = np.linalg.norm(n) / 2
            if area < 1e-16:
                continue
            n = n / (2 * area)
            plane = np.append(n, -n @ v[t[0]])
            for a in t:
                self.Q[a] += np.outer(plane, plane) * area / 3

    def neighbours(self, a):
        """Vertices that share a face with `a`."""
        return {x for i in self.around[a] for x in self.faces[i]} - {a}

    def cost(self, u, w):
        """Quadric error of moving u to w, plus a little for long edges where the mesh should be fine."""
        q = np.append(self.v[w], 1.0)
        length2 = ((self.v[u] - self.v[w]) ** 2).sum() * 4e4
        return q @ (self.Q[u] + self.Q[w]) @ q + 1e-9 * (max(self.density[u], self.density[w]) * length2) ** 2

    def allowed(self, u, w, min_shape):
        """Whether moving u to w keeps a manifold, the border, the way the faces look and good triangles."""
        v, border = self.v, self.border
        nu, nw, shared = self.neighbours(u), self.neighbours(w), self.around[u] & self.around[w]
        if len(nu & nw) != len(shared) or len(nw | nu) - 2 > 10:
            return False
        if len(shared) != (1 if u in border else 2) or (u in border and w not in border):
            return False
        for i in self.around[u] - shared:
            old = [v[x] for x in self.faces[i]]
            new = [v[w] if x == u else v[x] for x in self.faces[i]]
            n_old, n_new = np.cross(old[1] - old[0], old[2] - old[0]), np.cross(new[1] - new[0], new[2] - new[0])
            size = np.linalg.norm(n_new)
            if size < 1e-14 or n_old @ n_new < 0.35 * size * np.linalg.norm(n_old):
                return False
            if size / max(np.linalg.norm(new[k] - new[k - 1]) for k in range(3)) ** 2 < min_shape:
                return False
        return True

    def collapse(self, u, w):
        """Move u to w."""
        for i in list(self.around[u]):
            if w in self.faces[i]:
                for a in self.faces[i]:
                    self.around[a].discard(i)
                del self.faces[i]
            else:
                self.faces[i] = [w if x == u else x for x in self.faces[i]]
                self.around[w].add(i)
        del self.around[u]
        self.border.discard(u)
        self.Q[w] += self.Q[u]

    def thin_border(self, target):
        """Collapse border edges, as evenly as possible, until `target` border vertices are left."""
        v = self.v
        while len(self.border) > target:
            candidates = []
            for u in self.border:
                near = [w for w in self.neighbours(u) if w in self.border and len(self.around[u] & self.around[w]) == 1]
                candidates += [(sum(np.linalg.norm(v[u] - v[x]) for x in near), u, w) for w in near]
            self.collapse(*next((u, w) for _, u, w in sorted(candidates) if self.allowed(u, w, 0.03)))

    def thin_inside(self, target, min_shape, fixed):
        """Collapse the cheapest inner edges until `target` vertices are left or no collapse is allowed."""
        stamp, heap = defaultdict(int), []

        def push(u):
            for w in self.neighbours(u):
                for a, b in ((u, w), (w, u)):
                    if a not in self.border and a not in fixed:
                        heapq.heappush(heap, (self.cost(a, b), a, b, stamp[a], stamp[b]))

        for u in list(self.around):
            push(u)
        while len(self.around) > target and heap:
            _, a, b, stamp_a, stamp_b = heapq.heappop(heap)
            if a not in self.around or b not in self.around or (stamp[a], stamp[b]) != (stamp_a, stamp_b):
                continue
            if not self.allowed(a, b, min_shape):
                continue
            ring = self.neighbours(a)
            self.collapse(a, b)
            for x in ring | {b}:
                stamp[x] += 1
            for x in ring | {b}:
                push(x)
