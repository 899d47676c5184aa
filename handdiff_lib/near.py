r"""Which vertices have one of the other mesh near: what an F-score asks, searched by compiled code.

Vertices are sorted once into blocks of BLOCK that lie together. A vertex whose own number is near needs no search; for
the others, block by block, it is looked through the blocks of the other mesh whose boxes are near.

    boxes apart by tau or more?   no vertex of the one is near one of the other
    else                          |p - g|^2 of all of them, a block of p at once

It is not imported before the first search: the compiler (Numba) takes half a second to load. What it has compiled is
kept beside this file, or in the user's cache.
"""

import inspect
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int64
from numba import njit

BLOCK, UNROLLED = 16, 4
"""Vertices in a block, that many float32 fill one or two registers; and how many others they meet in one go."""
HALF = np.float32(0.5)
"""A Python number would turn float32 into float64."""
_ROUNDING = {"contract", "reassoc", "nsz", "arcp"}
"""Sums in any order, but nan stays nan: it is near nothing."""


def _compiled(signature: str | None = None) -> Callable:
    """Compile a function: for these types at once and kept for the next time, or as part of what calls it."""

    def decorate(function: Callable) -> Callable:
        bare = inspect.unwrap(function)  # tests wrap every function in a check of its types
        return njit(signature, nogil=True, cache=signature is not None, fastmath=_ROUNDING)(bare)

    return decorate


def count_near(
    pred: Float32[np.ndarray, "t 3 v"], truth: Float32[np.ndarray, "t 3 v"], taus: tuple[float, ...]
) -> Int64[np.ndarray, "t 2 taus"]:
    """How many vertices of `pred`, and of `truth`, have a vertex of the other nearer than each of `taus` (rising)."""
    order = blocks_of(truth[0])
    whole = np.concatenate([order, np.repeat(order[-1:], -len(order) % BLOCK)]).reshape(-1, BLOCK)
    found = np.empty((len(pred), 2, len(taus)), np.int64)
    _count(pred, truth, whole, len(order), np.array(taus, np.float32), found)
    return found


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
    for a in range(len(x)):
        for c in range(3):
            low = high = x[a, c, 0]
            for k in range(BLOCK):
                low, high = min(low, x[a, c, k]), max(high, x[a, c, k])
            middle[c, a], half[c, a] = HALF * (low + high), HALF * (high - low)


@_compiled()
def _gaps(a, middle, half, middles, halves, gap2):
    """Squared distances of box a from the boxes of the other mesh; 0 where they meet."""
    gap2[:] = 0
    for c in range(3):
        at, side = middle[c, a], half[c, a]
        for b in range(len(gap2)):
            apart = abs(middles[c, b] - at) - side - halves[c, b]
            apart = HALF * (apart + abs(apart))  # where it is negative, 0: a maximum would not be vectorised
            gap2[b] += apart * apart


@_compiled()
def _approach(points, others, apart2):
    """Lower the squared distances of a block's points to those from the nearest point of another block.

    The loop over UNROLLED, whose length the compiler knows, is unrolled; then the one around it is vectorised.
    """
    for first in range(0, others.shape[1], UNROLLED):
        for i in range(len(apart2)):
            x, y, z, least = points[0, i], points[1, i], points[2, i], apart2[i]
            for j in range(first, first + UNROLLED):
                dx, dy, dz = x - others[0, j], y - others[1, j], z - others[2, j]
                new = dx * dx + dy * dy + dz * dz
                least = new if new < least else least
            apart2[i] = least


@_compiled()
def _search(p, g, boxes_p, boxes_g, own2, v, tau2, counts):
    """Count the first v of p with a point of g nearer than each tau; `own2` are squared distances of equal numbers."""
    counts[:] = 0
    gap2 = np.empty(len(g), np.float32)
    apart2 = np.empty(own2.shape[1], np.float32)
    for a in range(len(p)):
        many = min(BLOCK, v - a * BLOCK)
        apart2[:] = own2[a]
        searched = np.float32(-1)
        for s in range(len(tau2)):
            near = 0
            for i in range(many):
                near += apart2[i] < tau2[s]
            if near < many:
                if searched < 0:
                    _gaps(a, boxes_p[0], boxes_p[1], boxes_g[0], boxes_g[1], gap2)
                for b in range(len(g)):
                    if not gap2[b] <= searched and not gap2[b] > tau2[s]:  # nan: nobody knows where it is
                        _approach(p[a], g[b], apart2)
                searched = tau2[s]
                near = 0
                for i in range(many):
                    near += apart2[i] < tau2[s]
            counts[s] += near


@_compiled("void(f4[:,:,::1], f4[:,:,::1], i8[:,::1], i8, f4[::1], i8[:,:,::1])")
def _count(pred, truth, order, v, taus, found):
    """`count_near` of some frames, on one thread; `order` is filled up to whole blocks, one a row.

    Arrays have the width of its rows, not BLOCK: of a width known to the compiler, loops are unrolled, not vectorised.
    """
    blocks, width = order.shape
    p = np.empty((blocks, 3, width), np.float32)
    boxes_p = np.empty((2, 3, blocks), np.float32)
    g, boxes_g = np.empty_like(p), np.empty_like(boxes_p)
    own2 = np.empty((blocks, width), np.float32)
    tau2 = taus * taus
    for t in range(len(pred)):
        for a in range(blocks):
            own2[a] = 0
            for c in range(3):
                for i in range(width):
                    p[a, c, i], g[a, c, i] = pred[t, c, order[a, i]], truth[t, c, order[a, i]]
                    own2[a, i] += (p[a, c, i] - g[a, c, i]) ** 2
        _boxes(p, boxes_p[0], boxes_p[1])
        _boxes(g, boxes_g[0], boxes_g[1])
        _search(p, g, boxes_p, boxes_g, own2, v, tau2, found[t, 0])
        _search(g, p, boxes_g, boxes_p, own2, v, tau2, found[t, 1])
