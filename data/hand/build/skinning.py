"""Skinning weights by bone heat."""

from itertools import pairwise

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from skeleton import CHAIN, FINGERS


def cotangent_laplacian(v, f):
    """Positive semi-definite cotangent Laplacian (weights clipped at a small positive value) and vertex areas."""
    rows, cols, vals = [], [], []
    area = np.zeros(len(v))
    for k in range(3):
        i, j, o = f[:, k], f[:, (k + 1) % 3], f[:, (k + 2) % 3]
        a, b = v[i] - v[o], v[j] - v[o]
        double = np.linalg.norm(np.cross(a, b), axis=1)
        w = np.clip((a * b).sum(1) / (double + 1e-15), 0.05, 10) / 2
        rows += [i, j]
        cols += [j, i]
        vals += [w, w]
        np.add.at(area, i, double / 6)
    W = coo_matrix((np.concatenate(vals), (np.concatenate(rows), np.concatenate(cols))), shape=(len(v), len(v))).tocsr()
    return diags(np.asarray(W.sum(1)).ravel()) - W, area


def _segment_distance(p, a, b):
    """Distances of points to one segment."""
    t = np.clip((p - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return np.linalg.norm(p - a - t[:, None] * (b - a), axis=1)


def heat_weights(v, f, joints, strength):
    """Weights (v, 16) by bone heat (Baran and Popovic 2007).

    The skin takes the temperature of its nearest bones by conduction along the surface; larger `strength`, narrower
    transitions. The wrist owns the forearm and the metacarpals of the four fingers.
    """
    bones = {c: [(joints[c], joints[after])] for chain in CHAIN.values() for c, after in pairwise(chain)}
    bones[0] = [
        (joints[0], joints[0] + [0.08, 0, 0]),
        *((joints[0], joints[CHAIN[finger][0]]) for finger in FINGERS),
    ]
    distance = np.stack([np.min([_segment_distance(v, a, b) for a, b in bones[k]], 0) for k in range(16)], 1)
    nearest = distance.min(1)
    share = (distance <= nearest[:, None] * 1.0001).astype(float)
    share /= share.sum(1, keepdims=True)
    L, area = cotangent_laplacian(v, f)
    H = strength * area / nearest**2
    weights = np.stack([spsolve((L + diags(H)).tocsc(), H * share[:, k]) for k in range(16)], 1)
    weights = np.clip(weights, 0, None)
    return weights / weights.sum(1, keepdims=True)


def limit_influences(weights, count=4, smallest=5e-3):
    """The weights with at most `count` influences per vertex, none below `smallest`."""
    w = weights.copy()
    w[w < np.maximum(np.sort(w, 1)[:, -count][:, None], smallest)] = 0
    return w / w.sum(1, keepdims=True)
