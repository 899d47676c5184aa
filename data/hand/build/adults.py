"""Hands of random adults in the rest pose, with joints where anatomy has them."""

import numpy as np
from mesh import triangulate
from skeleton import (
    BASE_SHIFT,
    BONE,
    CHAIN,
    DORSAL,
    FINGERS,
    HAND_LENGTH,
    KNUCKLE_SLIDE,
    THUMB_SLIDE,
    canonicalize,
    deform,
)

SAMPLES = 400
SIZE_SPREAD = 0.055  # s.d. of log hand length among adults
MACRO_SPREAD = {"gender": 0.25, "muscle": 0.2, "weight": 0.2, "height": 0.12, "proportion": 0.2}  # s.d. around 0.5
LOCAL_MORPHS = (
    "hands/r-hand-scale",
    "hands/r-hand-fingers-length",
    "hands/r-hand-fingers-diameter",
    "hands/measure-wrist-circ",
)

# Individual variation that the MakeHuman morphs lack (s.d. of factors; BASE in metres).
VARY = {
    "all fingers": 0.040,
    "finger": 0.025,
    "bone": 0.015,
    "girth": 0.03,
    "finger girth": 0.015,
    "palm": (0.03, 0.035, 0.04),
}
VARY_BASE = {
    "index": (0.0020, 0.0010, 0.0008),
    "middle": (0.0020, 0.0008, 0.0006),
    "ring": (0.0020, 0.0008, 0.0006),
    "pinky": (0.0025, 0.0015, 0.0012),
    "thumb": (0.0025, 0.0030, 0.0020),
}

# MakeHuman's names of the 21 joints and of the bones that each of the 16 joints moves.
FINGER_NUMBERS = (2, 3, 5, 4, 1)  # in the order of FINGERS
CUBES = (
    "joint-r-hand",
    *(f"joint-r-finger-{n}-{k}" for n in FINGER_NUMBERS for k in (1, 2, 3)),
    *(f"joint-r-finger-{n}-4" for n in FINGER_NUMBERS),
)
ARM = ("wrist.R", "lowerarm01.R", "lowerarm02.R", "upperarm01.R", "upperarm02.R")
BONES = (
    (*(f"metacarpal{n}.R" for n in (1, 2, 3, 4)), *ARM),
    *((f"finger{n}-{k}.R",) for n in FINGER_NUMBERS for k in (1, 2, 3)),
)


def source_patch(makehuman):
    """Hand and some forearm of the base mesh: vertex numbers, triangles, MakeHuman skin weights."""
    weights = np.zeros((len(makehuman.vertices), 16))
    for k, names in enumerate(BONES):
        for name in names:
            for vertex, w in makehuman.weights[name]:
                weights[vertex, k] += w
    body = makehuman.body()
    joints = np.array([makehuman.joint(body, c) for c in CUBES])
    hand = weights.sum(1) > 0.5
    length = np.linalg.norm(joints[4] - joints[0])
    along = (body - joints[0]) @ (joints[0] - joints[4]) / length  # positive up the forearm
    quads = [q for q in makehuman.quads if hand[q].all() and along[q].mean() < 0.8]
    used, faces = np.unique(triangulate(quads, body), return_inverse=True)
    return used, faces.reshape(-1, 3), weights[used] / weights[used].sum(1, keepdims=True)


def adult_hands(makehuman, used, faces, weights, rng):
    """Vertices (s, n, 3) and joints (s, 21, 3) of random adults in the rest pose, joints amid the flesh."""

    def read(body):
        return body[used] * 0.1, np.array([makehuman.joint(body, c) for c in CUBES]) * 0.1

    v, j = read(makehuman.body())
    v, j, _ = canonicalize(v, j, weights)
    offset, length = centre_offsets(v, faces, j), np.linalg.norm(j[4] - j[0])
    owner = [*range(16), 3, 6, 9, 12, 15]
    vertices, joints = [], []
    for _ in range(SAMPLES):
        local = {
            n: float(np.clip(rng.normal(0, 0.15), -1, 1))
            for n in LOCAL_MORPHS
            if makehuman.has_target(f"targets/{n}-incr.target.gz")
        }
        macro = {name: float(np.clip(rng.normal(0.5, sd), 0, 1)) for name, sd in MACRO_SPREAD.items()}
        v, j = read(makehuman.body(age=float(rng.uniform(0, 1)), race=rng.dirichlet((1, 1, 1)), local=local, **macro))
        _, placed, turn = canonicalize(v, j, weights)
        size = np.linalg.norm(placed[4] - placed[0]) / length
        v, j, _ = canonicalize(v, j + size * np.stack([turn[owner[k]].T @ offset[k] for k in range(21)]), weights)
        vertices.append(v)
        joints.append(j)
    return np.array(vertices), np.array(joints)


def ray_distance(origin, direction, vertices, faces):
    """Distance along a ray to the mesh (inf if it misses)."""
    t = vertices[faces]
    e1, e2 = t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]
    h = np.cross(direction, e2)
    det = (e1 * h).sum(1)
    det[np.abs(det) < 1e-14] = 1e-14
    s = origin - t[:, 0]
    u = (s * h).sum(1) / det
    q = np.cross(s, e1)
    w = (q @ direction) / det
    distance = (e2 * q).sum(1) / det
    hit = (u >= 0) & (w >= 0) & (u + w <= 1) & (distance > 0)
    return distance[hit].min() if hit.any() else np.inf


def centre_offsets(vertices, faces, joints, depth=0.42, max_depth=0.0085):
    """Offsets (21, 3) from finger joints just under the dorsal skin to `depth` of the finger's thickness."""
    offset = np.zeros((21, 3))
    for finger, chain in CHAIN.items():
        for k in range(3):
            c = chain[k]
            along = joints[chain[k + 1]] - joints[chain[k - 1] if k else c]
            along = along / np.linalg.norm(along)
            up = DORSAL[finger] - along * (along @ DORSAL[finger])
            up /= np.linalg.norm(up)
            side, place = np.cross(along, up), joints[c].copy()
            if k:
                plus, minus = ray_distance(place, side, vertices, faces), ray_distance(place, -side, vertices, faces)
                if max(plus, minus) < 0.02:
                    place = place + side * (plus - minus) / 2
            elif finger == "thumb":
                up = np.array([0, 1.0, 0])
            plus, minus = ray_distance(place, up, vertices, faces), ray_distance(place, -up, vertices, faces)
            below = depth * (plus + minus)
            if finger != "thumb" or k:
                below = min(below, max_depth)
            offset[c] = place + up * (plus - below) - joints[c]
        offset[chain[3]] = offset[chain[2]]
    return offset


def calibrate_size(vertices, joints):
    """The samples with the wanted mean length and spread of it; MakeHuman's gap between the sexes is too large."""
    length = sum(np.linalg.norm(joints[:, b] - joints[:, a], axis=1) for a, b in ((0, 4), (4, 5), (5, 6), (6, 17)))
    gain = (length.mean() / length) ** (1 - SIZE_SPREAD / np.log(length).std())
    gain *= HAND_LENGTH / np.linalg.norm((joints[:, 17] - joints[:, 0]) * gain[:, None], axis=1).mean()
    return vertices * gain[:, None, None], joints * gain[:, None, None]


def anatomical_joints(joints):
    """Joints moved to where anatomy has them; rest directions stay.

    The knuckles leave the finger webs for the wrist, the thumb's base goes to the root of its metacarpal.
    """
    out = joints.copy()
    size = (np.linalg.norm(joints[:, 17] - joints[:, 0], axis=1) / HAND_LENGTH)[:, None]

    def direction(a, b):
        d = joints[:, b] - joints[:, a]
        return d / np.linalg.norm(d, axis=1, keepdims=True)

    for finger, mm in KNUCKLE_SLIDE.items():
        c = CHAIN[finger]
        out[:, c[0]] -= mm * 1e-3 * size * direction(c[0], c[1])
    c = CHAIN["thumb"]
    out[:, c[1]] += THUMB_SLIDE * 1e-3 * size * direction(c[1], c[2])
    out[:, c[0]] = out[:, c[1]] - BONE["thumb"][0] * HAND_LENGTH * size * direction(c[0], c[1])
    return out


def anatomical_proportions(vertices, joints, weights):
    """The samples with bones of the wanted mean proportions, by one smooth morph."""
    mean = joints.mean(0)
    factor = np.ones(15)
    for finger, chain in CHAIN.items():
        for k in range(3):
            factor[chain[k] - 1] = BONE[finger][k] * HAND_LENGTH / np.linalg.norm(mean[chain[k + 1]] - mean[chain[k]])
    shift = np.array([BASE_SHIFT[finger] for finger in FINGERS])
    size = np.linalg.norm(joints[:, 17] - joints[:, 0], axis=1)
    done = [
        deform(v, j, weights, factor, np.ones(15), np.ones(3), shift * s)
        for v, j, s in zip(vertices, joints, size, strict=True)
    ]
    return np.array([v for v, _ in done]), np.array([j for _, j in done])


def vary_proportions(vertices, joints, weights, rng):
    """The samples, each with its own finger-to-palm ratio, finger and bone lengths, girths, palm and knuckle places."""

    def factor(name, count):
        return 1 + rng.normal(0, VARY[name], count)

    spread = np.array([VARY_BASE[finger] for finger in FINGERS])
    out_v, out_j = [], []
    for v, j in zip(vertices, joints, strict=True):
        length = factor("all fingers", 1) * np.repeat(factor("finger", 5), 3) * factor("bone", 15)
        girth = factor("girth", 1) * np.repeat(factor("finger girth", 5), 3)
        v, j = deform(v, j, weights, length, girth, factor("palm", 3), rng.normal(0, 1, (5, 3)) * spread)
        out_v.append(v)
        out_j.append(j)
    return np.array(out_v), np.array(out_j)
