"""Edge flips: the same points, better shaped triangles."""

from collections import Counter, defaultdict

import numpy as np


def _flip(v, f, wanted, passes):
    """Faces with each edge ab flipped that `wanted(a, b, c, d, valence)` approves: abc, bad become adc, dbc."""
    f = [list(t) for t in f]
    for _ in range(passes):
        sides, valence = defaultdict(list), Counter()
        for i, t in enumerate(f):
            for k in range(3):
                sides[tuple(sorted((t[k], t[(k + 1) % 3])))].append(i)
        for a, b in sides:
            valence[a] += 1
            valence[b] += 1
        present, touched = set(sides), set()
        for (a, b), pair in sides.items():
            if len(pair) != 2 or touched & set(pair):
                continue
            t0, t1 = f[pair[0]], f[pair[1]]
            c, d = next(x for x in t0 if x not in (a, b)), next(x for x in t1 if x not in (a, b))
            if tuple(sorted((c, d))) in present:
                continue
            if t0[(t0.index(a) + 1) % 3] != b:
                a, b = b, a
            if not wanted(a, b, c, d, valence):
                continue
            f[pair[0]], f[pair[1]] = [a, d, c], [d, b, c]
            present.discard(tuple(sorted((a, b))))
            present.add(tuple(sorted((c, d))))
            touched |= set(pair)
            for x, step in ((a, -1), (b, -1), (c, 1), (d, 1)):
                valence[x] += step
        if not touched:
            break
    return np.array(f)


def _normal(v, x, y, z):
    """Unit normal of a triangle."""
    n = np.cross(v[y] - v[x], v[z] - v[x])
    return n / (np.linalg.norm(n) + 1e-15)


def flip_delaunay(v, f):
    """Faces after Delaunay-like flips where the surface is nearly flat."""

    def angle(p, q, r):
        a, b = v[q] - v[p], v[r] - v[p]
        return np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))

    def wanted(a, b, c, d, _):
        if angle(c, a, b) + angle(d, a, b) <= np.pi + 0.05:
            return False
        n0, n1, m0, m1 = _normal(v, a, b, c), _normal(v, b, a, d), _normal(v, a, d, c), _normal(v, d, b, c)
        return n0 @ n1 >= np.cos(0.6) and min(m0 @ n0, m1 @ n0, m0 @ n1, m1 @ n1) >= 0.5

    return _flip(v, f, wanted, 4)


def flip_valence(v, f, border):
    """Faces after flips that bring the valence closer to 6 (4 on the border) without making bad triangles."""

    def shape(x, y, z):
        squares = sum(((v[p] - v[q]) ** 2).sum() for p, q in ((x, y), (y, z), (z, x)))
        return np.linalg.norm(np.cross(v[y] - v[x], v[z] - v[x])) / squares * 2 * 3**0.5

    def wanted(a, b, c, d, valence):
        def off(x, step):
            return (valence[x] + step - (4 if x in border else 6)) ** 2

        if off(a, -1) + off(b, -1) + off(c, 1) + off(d, 1) >= off(a, 0) + off(b, 0) + off(c, 0) + off(d, 0):
            return False
        if valence[a] <= 4 or valence[b] <= 4:
            return False
        n0, n1, m0, m1 = _normal(v, a, b, c), _normal(v, b, a, d), _normal(v, a, d, c), _normal(v, d, b, c)
        if n0 @ n1 < 0.8 or m0 @ m1 < 0.8 or min(m0 @ n0, m0 @ n1, m1 @ n0, m1 @ n1) < 0.6:
            return False
        return min(shape(a, d, c), shape(d, b, c)) >= 0.45

    return _flip(v, f, wanted, 3)
