"""From the source patch to 778 vertices in the public order, with weights that suit them."""

import numpy as np
from decimate import decimate
from flips import flip_delaunay, flip_valence
from mesh import boundary_loops, cut_plane, edges
from skeleton import CHAIN, TIP_IDS, WRIST_RING
from surface import relax, surface_fit

from handdiff_lib.topology import PARENTS

VERTICES, WRIST_VERTICES = 778, 16
WRIST_CUT = 0.020  # the forearm is cut this far behind the wrist joint
FINGER_DENSITY, TIP_DENSITY = 2.2, 4.0  # fineness of the mesh; the palm has 1


def finger_tips(v, weights, joints):
    """Tip vertex of each finger: far along the last bone and near the middle line of the flesh."""
    tips = {}
    for finger, chain in CHAIN.items():
        own = np.where(weights[:, chain[2]] > 0.5)[0]
        along = (joints[chain[3]] - joints[chain[2]]) / np.linalg.norm(joints[chain[3]] - joints[chain[2]])
        p = v[own] - v[own].mean(0)
        reach = p @ along
        tips[finger] = int(own[np.argmax(reach - 0.5 * np.linalg.norm(p - reach[:, None] * along, axis=1))])
    return tips


def reduce_mesh(vertices, faces, weights, joints):
    """The hand cut behind the wrist and reduced to 778 vertices.

    Three values: faces, the matrix that makes the vertices of any sample, and the offsets to add to those.
    """
    faces, cut = cut_plane(faces, vertices[:, 0] - WRIST_CUT)
    source, w = cut @ vertices, cut @ weights
    density = np.where(w[:, 0] > 0.5, 1.0, FINGER_DENSITY)
    for chain in CHAIN.values():
        base, tip = joints[chain[2]], joints[chain[3]]
        u = (source - base) @ (tip - base) / ((tip - base) @ (tip - base))
        density[(w[:, chain[2]] > 0.5) & (u > 0.5)] = TIP_DENSITY
    keep, f = decimate(source, faces, VERTICES, WRIST_VERTICES, density, set(finger_tips(source, w, joints).values()))
    f = np.searchsorted(keep, f)
    points = source[keep]
    border = boundary_loops(f)[0]
    for _ in range(6):
        f = flip_valence(points, flip_delaunay(points, f), set(border))
        select = relax(source, faces, points, f, border, density)
        points = select @ source
    f = flip_delaunay(points, f)
    offset, error = surface_fit(points, f, source, faces, border)
    print(f"surface error of the reduction: {error * 1e3:.3f} mm mean")
    return f, select @ cut, offset


def smooth_weights(v, f, weights, web_passes=6):
    """Weights averaged half way with the neighbours' (by inverse edge length).

    Once everywhere, then `web_passes` times where bones that are not parent and child meet (the webs of fingers and
    thumb), since those may move far apart.
    """
    A = np.zeros((len(v), len(v)))
    for a, b in edges(f):
        A[a, b] = A[b, a] = 1 / np.linalg.norm(v[a] - v[b])
    A /= A.sum(1, keepdims=True)
    apart = np.ones((16, 16))
    parents = np.array(PARENTS[1:])
    apart[np.arange(1, 16), parents] = apart[parents, np.arange(1, 16)] = 0
    np.fill_diagonal(apart, 0)
    weights = (weights + A @ weights) / 2
    for _ in range(web_passes):
        web = np.einsum("ni,ij,nj->n", weights, apart, weights) > 0.03
        weights[web] = ((weights + A @ weights) / 2)[web]
    return weights


def public_order(v, f, weights, tips):
    """The order of vertices in which the finger-tip and wrist-ring numbers of public code hit the right places."""
    slot = np.full(len(v), -1)
    for finger, (first, second) in TIP_IDS.items():
        t = tips[finger]
        slot[first] = t
        near = {x for face in f if t in face for x in face} - set(slot)
        slot[second] = min(near, key=lambda x: (v[x] - v[t]) @ (v[x] - v[t]))
    loop = boundary_loops(f)[0]
    start = int(np.argmin(v[loop][:, 1]))
    slot[WRIST_RING] = loop[start:] + loop[:start]
    group = np.array([0, 1, 1, 1, 2, 2, 2, 4, 4, 4, 3, 3, 3, 5, 5, 5])[weights.argmax(1)]
    rest = sorted(set(range(len(v))) - set(slot), key=lambda i: (group[i], -v[i, 0]))
    slot[slot < 0] = rest
    return slot
