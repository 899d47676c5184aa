"""Random plausible hand poses, as axis-angle vectors."""

import numpy as np
from scipy.spatial.transform import Rotation
from skeleton import FINGERS, axes

RESTING_SPREAD = {"index": (4, -6), "middle": (0, 4), "ring": (-3, 9), "pinky": (-4, 24)}  # degrees open, closed


def plausible_poses(joints, tips, count, seed):
    """Random poses (count, 45): correlated flexion per finger, spread, thumb opposition."""
    rng = np.random.default_rng(seed)
    joint_axes, out = axes(joints, tips), np.zeros((count, 16, 3))
    closing = rng.beta(1.3, 1.6, count)
    none = np.zeros(count)
    for n, finger in enumerate(FINGERS):
        if finger == "thumb":
            oppose = np.clip(0.25 + 0.6 * closing + rng.normal(0, 0.25, count), -0.3, 1.2)
            flex = np.clip(0.2 + 0.6 * closing + rng.normal(0, 0.3, count), -0.3, 1.2)
            angles = [
                (40 * flex, 48 * oppose),
                (28 * flex + rng.normal(0, 6, count), none),
                (50 * np.clip(flex + rng.normal(0, 0.2, count), -0.4, 1.3), none),
            ]
        else:
            close = np.clip(closing + rng.normal(0, 0.22, count), -0.15, 1)
            mcp = np.clip(close + rng.normal(0, 0.15, count), -0.25, 1.05)
            opened, closed = RESTING_SPREAD[finger]
            spread = rng.normal(0, 5, count) + opened * (1 - np.clip(close, 0, 1)) + closed * np.clip(close, 0, 1)
            angles = [
                (84 * mcp, spread),
                (100 * close, none),
                (62 * np.clip(close + rng.normal(0, 0.1, count), -0.1, 1.1), none),
            ]
        for k in range(3):
            flexion, up, _ = joint_axes[1 + 3 * n + k]
            flex, spread = np.radians(angles[k][0])[:, None], np.radians(angles[k][1])[:, None]
            out[:, 1 + 3 * n + k] = (
                Rotation.from_rotvec(up * spread) * Rotation.from_rotvec(flexion * flex)
            ).as_rotvec()
    return out[:, 1:].reshape(count, 45)
