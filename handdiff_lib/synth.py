r"""Motions made from nothing but the open hand: reach, grasp, manipulate, release, as often as one likes.

Fingers move between poses drawn from anatomical ranges along minimum-jerk curves, $s(u) = 10u^3 - 15u^4 + 6u^5$
(Flash and Hogan 1985), the wrist from place to place likewise. States follow the script that made the motion.
This is the data set that ships: no licence, any amount, the same for the same seed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, Side
from handdiff_lib.topology import FREE, GRASP, MANIPULATE, REACH, RELEASE


@dataclass(frozen=True)
class SynthClip:
    """A made-up motion and its labels."""

    motion: HandMotion
    state: torch.Tensor
    """(t,) index into `topology.STATES`, or FREE."""


def synthesize(hand: HandModel, seed: int, frames: int = 128, fps: float = 30.0, side: Side = "right") -> SynthClip:
    """A motion of a random person's hand with its states."""
    rng = np.random.default_rng(seed)
    poses, wrists, labels = [], [], []
    pose, wrist = _open_pose(rng), _Wrist.draw(rng)
    while sum(map(len, labels)) < frames:
        grasp = _grasp_pose(rng)
        preshape = pose + rng.uniform(0.2, 0.6) * (grasp - pose) - _flexion(rng.uniform(0, 12))
        target = wrist.near(rng, 0.2, 50.0)
        script = [  # (seconds, finger pose at the end, wrist at the end, label)
            (rng.uniform(0.0, 0.6), pose + _wander(rng, 3.0), wrist.near(rng, 0.01, 4.0), FREE),
            (rng.uniform(0.5, 1.2), preshape, target, REACH),
            (rng.uniform(0.15, 0.4), grasp, target.near(rng, 0.01, 5.0), REACH),
        ]
        held = target.near(rng, 0.01, 5.0)
        for _ in range(rng.integers(1, 4)):
            if rng.random() < 0.5:
                held = held.near(rng, 0.15, 45.0)
                script.append((rng.uniform(0.4, 1.5), grasp + _wander(rng, 0.3), held, GRASP))
            else:
                grasp = grasp + _wander(rng, rng.uniform(4, 14))
                held = held.near(rng, 0.04, 25.0)
                script.append((rng.uniform(0.25, 0.9), grasp, held, MANIPULATE))
        pose, wrist = _open_pose(rng), held.near(rng, 0.2, 35.0)
        script.append((rng.uniform(0.35, 0.9), pose, wrist, RELEASE))
        _play(script, poses, wrists, labels, fps)
    angles = np.concatenate(poses)[:frames]
    angles = angles + _tremor(rng, angles.shape, fps)
    R = _finger_matrices(angles, anatomical_axes(hand)[1:].double().numpy())
    walk = np.concatenate(wrists)[:frames]
    root = Rotation.from_rotvec(walk[:, 3:]).as_matrix()[:, None]
    motion = HandMotion(
        R=torch.from_numpy(np.concatenate([root, R], 1)).float(),
        betas=torch.from_numpy(rng.normal(0, 1, 10)).float(),
        transl=torch.from_numpy(walk[:, :3]).float(),
        valid=torch.ones(frames, dtype=torch.bool),
        fps=fps,
        side=side,
        hand=hand.name,
        frame="world",
    )
    return SynthClip(motion, torch.from_numpy(np.concatenate(labels)[:frames]))


@dataclass(frozen=True)
class _Wrist:
    """Place (m) and orientation (rotation vector) of the wrist."""

    place: np.ndarray
    turn: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Wrist":
        return cls(rng.uniform([-0.25, -0.15, 0.35], [0.25, 0.15, 0.7]), Rotation.random(random_state=rng).as_rotvec())

    def near(self, rng: np.random.Generator, metres: float, degrees: float) -> "_Wrist":
        """Another pose, moved and turned by normal amounts."""
        step = Rotation.from_rotvec(np.radians(degrees) * rng.normal(0, 0.6, 3))
        return _Wrist(self.place + rng.normal(0, metres, 3), (Rotation.from_rotvec(self.turn) * step).as_rotvec())


def _play(script: list, poses: list, wrists: list, labels: list, fps: float) -> None:
    """Append the frames of a script to the three lists; each part starts where the last one ended."""
    for seconds, pose, wrist, label in script:
        count = max(1, round(seconds * fps))
        u = np.arange(1, count + 1) / count
        s = 10 * u**3 - 15 * u**4 + 6 * u**5
        start = poses[-1][-1] if poses else pose
        poses.append(start + s[:, None, None] * (pose - start))
        here = wrists[-1][-1] if wrists else np.concatenate([wrist.place, wrist.turn])
        first = Rotation.from_rotvec(here[3:])
        way = (first.inv() * Rotation.from_rotvec(wrist.turn)).as_rotvec()
        turn = (first * Rotation.from_rotvec(s[:, None] * way)).as_rotvec()
        wrists.append(np.concatenate([here[:3] + s[:, None] * (wrist.place - here[:3]), turn], axis=1))
        labels.append(np.full(count, label))


# Finger angles are (15 joints in MANO order, [flexion, abduction, twist]) in degrees; four fingers have an MCP.
_MCP = np.array([0, 3, 6, 9])


def _assemble(mcp: np.ndarray, pip: np.ndarray, dip: np.ndarray, spread: np.ndarray, thumb: np.ndarray) -> np.ndarray:
    """Angles (15, 3) from per-finger flexions, spreads (4,), and the thumb's (3 flexions, opposition)."""
    angles = np.zeros((15, 3))
    angles[_MCP, 0], angles[_MCP + 1, 0], angles[_MCP + 2, 0] = mcp, pip, dip
    angles[_MCP, 1] = spread
    angles[12:, 0], angles[12, 1] = thumb[:3], thumb[3]
    return angles


def _open_pose(rng: np.random.Generator) -> np.ndarray:
    """A relaxed, open hand."""
    curl = rng.uniform(0, 30) + rng.normal(0, 5, 4)
    thumb = np.array([rng.uniform(-5, 20), rng.uniform(0, 20), rng.uniform(0, 25), rng.uniform(0, 30)])
    return _assemble(0.7 * curl, curl, 0.5 * curl, rng.normal([2, 0, 6, 2], 5), thumb)


def _grasp_pose(rng: np.random.Generator) -> np.ndarray:
    """A hand around something: from a pinch with two fingers to a fist."""
    close = np.clip(rng.uniform(0.25, 0.9) + rng.normal(0, 0.12, 4), 0, 1)
    if rng.random() < 0.3:  # a precision grip: some fingers stay out of it
        close[rng.permutation(4)[: rng.integers(1, 3)]] *= rng.uniform(0.1, 0.5)
    mcp = 80 * np.clip(close + rng.normal(0, 0.15, 4), -0.1, 1.05)
    pip = 100 * np.clip(close + rng.normal(0, 0.12, 4), 0, 1.05)
    spread = rng.normal([3, 1, 12, 5], 6) * (1 - 0.6 * close)
    thumb = np.array([rng.uniform(5, 45), rng.uniform(0, 40), rng.uniform(-5, 60), rng.uniform(15, 60)])
    return _assemble(mcp, pip, 0.6 * pip + rng.normal(0, 6, 4), spread, thumb)


def _wander(rng: np.random.Generator, degrees: float) -> np.ndarray:
    """A small change of every angle, most in flexion; neighbouring joints of a finger go together."""
    shared = np.repeat(rng.normal(0, 1, (5, 1, 3)), 3, axis=1).reshape(15, 3)
    hinge = np.ones((15, 3))
    hinge[:, 2] = 0
    hinge[[1, 2, 4, 5, 7, 8, 10, 11, 13, 14], 1] = 0
    return degrees * hinge * np.array([1, 0.4, 0]) * (0.7 * shared + 0.7 * rng.normal(0, 1, (15, 3)))


def _flexion(degrees: float) -> np.ndarray:
    """The same flexion in every joint but the thumb's: what opens the hand before it closes."""
    return _assemble(np.full(4, degrees), np.full(4, degrees), np.zeros(4), np.zeros(4), np.zeros(4))


def _tremor(rng: np.random.Generator, shape: tuple[int, ...], fps: float) -> np.ndarray:
    """Slow, small unrest (about half a degree, below 3 Hz) of all angles."""
    knots = max(4, int(shape[0] / fps * 6) + 4)
    coarse = rng.normal(0, 0.5, (knots, *shape[1:]))
    at = np.linspace(1, knots - 3, shape[0])
    k, u = at.astype(int), (at % 1)[:, None, None]
    a, b, c, d = (coarse[k + i] for i in (-1, 0, 1, 2))
    return ((1 - u) ** 3 * a + (3 * u**3 - 6 * u**2 + 4) * b + (-3 * u**3 + 3 * u**2 + 3 * u + 1) * c + u**3 * d) / 6


def _finger_matrices(angles: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Rotations (t, 15, 3, 3) in MANO's frames: abduction, then flexion, then twist about each joint's own axes."""
    order = angles[..., [1, 0, 2]].reshape(-1, 3)
    local = Rotation.from_euler("YZX", order, degrees=True).as_matrix().reshape(*angles.shape[:-1], 3, 3)
    return axes.transpose(0, 2, 1) @ local @ axes
