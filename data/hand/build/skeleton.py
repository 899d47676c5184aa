"""The hand's skeleton: joint order, rest pose, joint places, bone proportions, axes, and how bones carry the flesh.

Frame of every function: fingers along -x, back of the hand +y, thumb side +z, metres, wrist joint at the origin.
Joint arrays are (21, 3): 16 joints in the order of NAMES, then the five finger tips in the order of FINGERS.
"""

import numpy as np

from handdiff_lib.topology import TIPS

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
NAMES = ("wrist", *(f"{finger}{k}" for finger in FINGERS for k in (1, 2, 3)))
CHAIN = {finger: [1 + 3 * k, 2 + 3 * k, 3 + 3 * k, 16 + k] for k, finger in enumerate(FINGERS)}
"""Three joints and the tip."""

WRIST = np.array([0.0957, 0.0064, 0.0062])
"""Where the wrist joint lies in the published file layout."""
TIP_IDS = dict(zip(("thumb", "index", "middle", "ring", "pinky"), zip(*TIPS.values(), strict=True), strict=True))
"""The vertex at the tip of each finger in the conventions of smplx and of manopth."""
WRIST_RING = np.array([108, 79, 78, 121, 214, 215, 279, 239, 234, 92, 38, 122, 118, 117, 119, 120])
"""Vertex numbers that public code uses to close the wrist."""

# Rest directions of the phalanges on a 5-degree grid: yaw > 0 towards the thumb, pitch > 0 dorsal.
REST_YAW = {
    "index": (5, 0, 0),
    "middle": (-10, -10, -10),
    "pinky": (-35, -35, -35),
    "ring": (-15, -15, -15),
    "thumb": (50, 35, 25),
}
REST_PITCH = {
    "index": (5, -5, -5),
    "middle": (5, -5, -5),
    "pinky": (0, -5, -5),
    "ring": (5, -5, -5),
    "thumb": (0, -10, -10),
}
REST_ROLL = {"index": -18.0, "thumb": 4.0}  # so that the nails face +y
PALM_YAW = -3.0  # direction wrist -> middle knuckle

# Dorsal direction used for axes and for the depth of the joints.
DORSAL = {finger: np.array([0, 1.0, 0]) for finger in FINGERS}
DORSAL["thumb"] = np.array([0.36, 0.54, 0.76])

# Anatomical places and proportions (own choice inside the range of published bone lengths and of measured hands).
# MakeHuman's knuckle markers lie near the finger webs; they move towards the wrist along the proximal phalanx (mm).
KNUCKLE_SLIDE = {"index": 9.0, "middle": 6.5, "ring": 8.0, "pinky": 9.0}
# The thumb's MCP moves distally along the proximal phalanx (mm); the CMC then lies BONE["thumb"][0] behind it.
THUMB_SLIDE = 4.0
# Length of each phalanx (thumb: metacarpal, phalanges) as a fraction of wrist -> middle tip.
BONE = {
    "index": (0.207, 0.127, 0.121),
    "middle": (0.225, 0.143, 0.125),
    "ring": (0.209, 0.141, 0.121),
    "pinky": (0.164, 0.105, 0.109),
    "thumb": (0.203, 0.174, 0.132),
}
# Shift of each finger's base as a fraction of wrist -> middle tip, applied to the flesh as well (a smooth morph).
BASE_SHIFT = {
    "index": (0, 0, 0),
    "middle": (0, 0.002, 0),
    "ring": (0, 0, -0.004),
    "pinky": (0.004, -0.006, -0.010),
    "thumb": (0.012, -0.050, 0.026),
}
HAND_LENGTH = 0.180  # wrist joint -> middle tip of the mean hand (about 189 mm from the wrist crease)


def rotation(axis, angle):
    """Rotation matrix about an axis."""
    axis = np.asarray(axis, float)
    axis = axis / np.linalg.norm(axis)
    K = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def rotation_between(a, b):
    """The smallest rotation that turns a into b."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    c = np.cross(a, b)
    K = np.array([[0, -c[2], c[1]], [c[2], 0, -c[0]], [-c[1], c[0], 0]])
    return np.eye(3) + K + K @ K / (1 + a @ b)


def rest_direction(finger, k):
    """Direction of phalanx k (0..2) in the rest pose."""
    yaw, pitch = np.radians(REST_YAW[finger][k]), np.radians(REST_PITCH[finger][k])
    return np.array([-np.cos(pitch) * np.cos(yaw), np.sin(pitch), np.cos(pitch) * np.sin(yaw)])


def canonicalize(vertices, joints, weights):
    """A hand in any pose, turned into the rest pose by linear blend skinning.

    Three values: vertices, joints and the rotation applied at each of the 16 joints.
    """
    x = joints[0] - joints[4]
    x = x / np.linalg.norm(x)
    z = joints[1] - joints[7]
    z = z - x * (x @ z)
    z /= np.linalg.norm(z)
    frame = rotation([0, 1, 0], np.radians(PALM_YAW)) @ np.stack([x, np.cross(z, x), z])
    vertices, joints = (vertices - joints[0]) @ frame.T, (joints - joints[0]) @ frame.T
    turn, placed = [np.eye(3)] * 16, joints.copy()
    for finger, chain in CHAIN.items():
        R = np.eye(3)
        for k in range(3):
            a, b = chain[k], chain[k + 1]
            goal = rest_direction(finger, k)
            R = rotation_between(R @ (joints[b] - joints[a]), goal) @ R
            if k == 0 and finger in REST_ROLL:
                R = rotation(goal, np.radians(REST_ROLL[finger])) @ R
            turn[a] = R
            placed[b] = placed[a] + R @ (joints[b] - joints[a])
    out = sum(weights[:, a : a + 1] * ((vertices - joints[a]) @ turn[a].T + placed[a]) for a in range(16))
    return out, placed, [R @ frame for R in turn]


def axes(joints, tips):
    """Per finger joint: flexion axis, dorsal axis, bone direction at rest; tips in the order of FINGERS."""
    out = {}
    for n, finger in enumerate(FINGERS):
        points = [*(joints[c] for c in CHAIN[finger][:3]), tips[n]]
        for k in range(3):
            along = points[k + 1] - points[k]
            along = along / np.linalg.norm(along)
            up = DORSAL[finger] - along * (along @ DORSAL[finger])
            up /= np.linalg.norm(up)
            out[CHAIN[finger][k]] = (np.cross(along, -up), up, along)
    return out


def deform(vertices, joints, weights, length, girth, palm, base_shift):
    """Vertices and joints of a stretched rest-pose hand; every bone carries its flesh by the skinning weights.

    `length` and `girth` (15,) are factors per finger bone, `palm` (3,) factors per axis, `base_shift` (5, 3) moves the
    finger bases, in the order of FINGERS.
    """
    placed, maps = joints.copy(), np.zeros((16, 3, 3))
    maps[0] = np.diag(palm)
    placed[0] = maps[0] @ joints[0]
    for n, finger in enumerate(FINGERS):
        chain, above = CHAIN[finger], 0
        for k in range(3):
            c, after = chain[k], chain[k + 1]
            placed[c] = placed[above] + maps[above] @ (joints[c] - joints[above]) + (base_shift[n] if k == 0 else 0)
            d = joints[after] - joints[c]
            d = d / np.linalg.norm(d)
            maps[c] = length[c - 1] * np.outer(d, d) + girth[c - 1] * (np.eye(3) - np.outer(d, d))
            above = c
        placed[chain[3]] = placed[chain[2]] + maps[chain[2]] @ (joints[chain[3]] - joints[chain[2]])
    return sum(weights[:, i : i + 1] * ((vertices - joints[i]) @ maps[i].T + placed[i]) for i in range(16)), placed
