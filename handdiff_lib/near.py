r"""Which vertices have one of the other mesh near: what an F-score asks, searched by compiled code.

Vertices are sorted once into blocks of BLOCK that lie together. A vertex whose own number is near needs no search; for
the others, block by block, the blocks of the other mesh whose boxes are near are put side by side and looked through.

    boxes apart by tau or more?   no vertex of the one is near one of the other
    else                          |p - g|^2 < tau^2 for all of them, many at once, without a square root

It is not imported before the first search: the compiler (Numba) takes half a second to load. What it has compiled is
kept beside this file, or in the user's cache.
"""

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Int64
from numba import njit

BLOCK = 16
"""Vertices in a block; that many float32 fill one or two registers."""
_ROUNDING = {"contract", "reassoc", "nsz", "arcp"}
"""Sums in any order, but nan stays nan: it is near nothing."""


def _compiled(signature: str | None = None) -> Callable:
    """Compile a function: for these types at once and kept for the next time, or as part of what calls it."""

    def decorate(function: Callable) -> Callable:
        bare = inspect.unwrap(function)  # tests wrap every function in a check of its types
        return njit(signature, nogil=True, cache=signature is not None, fastmath=_ROUNDING)(bare)

    return decorate


def count_near(
    pred: Float32[np.ndarray, "t 3 v"], truth: Float32[np.ndarray, "t 3 v"], taus: tuple[float, ...], threads: int
) -> Int64[np.ndarray, "t 2 taus"]:
    """How many vertices of `pred`, and of `truth`, have a vertex of the other nearer than each of `taus` (rising)."""
    order = blocks_of(truth[0])
    whole = np.concatenate([order, np.repeat(order[-1:], -len(order) % BLOCK)])
    found = np.empty((len(pred), 2, len(taus)), np.int64)
    limits = np.array(taus, np.float32)
    parts = [(one, two, whole, len(order), limits, out) for one, two, out in _split(threads, pred, truth, found)]
    if len(parts) == 1:
        _count(*parts[0])
    else:
        with ThreadPoolExecutor(len(parts)) as pool:  # the compiled code lets other threads run
            list(pool.map(lambda part: _count(*part), parts))
    return found


def _split(threads: int, *arrays: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """The same frames of all arrays, for each thread some."""
    cuts = np.linspace(0, len(arrays[0]), min(threads, len(arrays[0])) + 1).round().astype(int)
    return [tuple(x[a:b] for x in arrays) for a, b in pairwise(cuts)]


@_compiled("i8[::1](f4[:,::1])")
def blocks_of(points):
    """An order in which each BLOCK of points (3, v) lies together: halves along the longest side, halves of these."""
    order = np.arange(points.shape[1])
    waiting = [(0, points.shape[1])]
    while waiting:
        start, end = waiting.pop()
        some = order[start:end]
        axis, longest = 0, -1.0
        for c in range(3):
            place = points[c][some]
            if place.max() - place.min() > longest:
                axis, longest = c, place.max() - place.min()
        order[start:end] = some[np.argsort(points[axis][some])]
        half = start + BLOCK * (((end - start) // BLOCK + 1) // 2)
        for first, last in ((start, half), (half, end)):
            if last - first > BLOCK:
                waiting.append((first, last))
    return order


@_compiled()
def _boxes(x, middle, half):
    """Middle and half the sides of the box around each block."""
    for a in range(middle.shape[1]):
        for c in range(3):
            low = high = x[c, a * BLOCK]
            for k in range(a * BLOCK, (a + 1) * BLOCK):
                low, high = min(low, x[c, k]), max(high, x[c, k])
            middle[c, a], half[c, a] = (low + high) / 2, (high - low) / 2


@_compiled()
def _gaps(a, middle, half, middles, halves, gap2):
    """Squared distances of box a from the boxes of the other mesh; 0 where they meet."""
    for b in range(len(gap2)):
        gap2[b] = 0
        for c in range(3):
            apart = abs(middle[c, a] - middles[c, b]) - half[c, a] - halves[c, b]
            gap2[b] += ((apart + abs(apart)) / 2) ** 2  # where apart is negative, 0: a maximum would not be vectorised


@_compiled()
def _any_near(x, y, z, points, many, tau2):
    """Whether one of the first `many` points is near; all are asked, since a way out early would not be vectorised."""
    found = np.int32(0)
    for j in range(many):
        dx, dy, dz = points[0, j] - x, points[1, j] - y, points[2, j] - z
        found |= np.int32(dx * dx + dy * dy + dz * dz < tau2)
    return found


@_compiled()
def _search(p, g, boxes_p, boxes_g, apart2, v, taus, counts):
    """Count the first v of p with a point of g nearer than each tau; `apart2` starts as that of the same vertices."""
    counts[:] = 0
    blocks = boxes_p.shape[2]
    near, gap2, which = np.empty_like(g), np.empty(blocks, np.float32), np.empty(blocks, np.int64)
    for a in range(blocks):
        last = min((a + 1) * BLOCK, v)
        many, searched = 0, np.float32(-1)
        for s in range(len(taus)):
            tau2 = taus[s] * taus[s]
            left = 0
            for k in range(a * BLOCK, last):
                left += not apart2[k] < tau2
            if left > 0:
                if searched < 0:
                    _gaps(a, boxes_p[0], boxes_p[1], boxes_g[0], boxes_g[1], gap2)
                more = 0
                for b in range(blocks):  # those within the last tau are there already
                    which[more] = b
                    more += (not gap2[b] <= searched) & (not gap2[b] > tau2)
                for b in which[:more]:
                    for c in range(3):
                        for j in range(BLOCK):
                            near[c, many + j] = g[c, b * BLOCK + j]
                    many += BLOCK
                searched = tau2
                for k in range(a * BLOCK, last):
                    if not apart2[k] < tau2 and _any_near(p[0, k], p[1, k], p[2, k], near, many, tau2):
                        apart2[k] = 0
            for k in range(a * BLOCK, last):
                counts[s] += apart2[k] < tau2


@_compiled("void(f4[:,:,::1], f4[:,:,::1], i8[::1], i8, f4[::1], i8[:,:,::1])")
def _count(pred, truth, order, v, taus, found):
    """`count_near` of some frames, on one thread; `order` is filled up to whole blocks."""
    p, g = np.empty((2, 3, len(order)), np.float32)
    from_pred, from_truth = np.empty((2, len(order)), np.float32)
    boxes_p, boxes_g = np.empty((2, 2, 3, len(order) // BLOCK), np.float32)
    for t in range(len(pred)):
        for k in range(len(order)):
            apart2 = np.float32(0)
            for c in range(3):
                p[c, k], g[c, k] = pred[t, c, order[k]], truth[t, c, order[k]]
                apart2 += (p[c, k] - g[c, k]) ** 2
            from_pred[k] = from_truth[k] = apart2
        _boxes(p, boxes_p[0], boxes_p[1])
        _boxes(g, boxes_g[0], boxes_g[1])
        _search(p, g, boxes_p, boxes_g, from_pred, v, taus, found[t, 0])
        _search(g, p, boxes_g, boxes_p, from_truth, v, taus, found[t, 1])
