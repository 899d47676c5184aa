r"""Smooth ways: of a wrist through its places, and of fingers by steps and lifts.

wrist      the path of least jerk through its places (Flash and Hogan 1985): a quintic spline that rests at both
           ends and nowhere between
fingers    minimum-jerk steps, $s(u) = 10u^3 - 15u^4 + 6u^5$, which may overlap and then add up
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import make_interp_spline
from scipy.spatial.transform import Rotation

from handdiff_lib.grasp import HIGHEST, LOWEST


def min_jerk(u: np.ndarray) -> np.ndarray:
    r"""$10u^3 - 15u^4 + 6u^5$; 0 before and 1 after."""
    u = np.clip(u, 0, 1)
    return u**3 * (10 - 15 * u + 6 * u * u)


def smoothest(
    times: Float[np.ndarray, "k"], places: Float[np.ndarray, "k d"], at: Float[np.ndarray, "t"]
) -> Float[np.ndarray, "t d"]:
    """The path of least jerk through places at these times, at rest at both ends and nowhere between."""
    rest = [(1, np.zeros(places.shape[1])), (2, np.zeros(places.shape[1]))]
    return make_interp_spline(times, places, k=5, bc_type=(rest, rest))(at.clip(times[0], times[-1]))


@dataclass(frozen=True)
class Route:
    """Places and turns of a wrist, and when it is there."""

    times: Float[np.ndarray, "k"]
    turns: list[Rotation]
    places: Float[np.ndarray, "k 3"]

    def __call__(self, at: Float[np.ndarray, "t"]) -> tuple[Rotation, Float[np.ndarray, "t 3"]]:
        """The smoothest way through them; quaternions take it too."""
        quats = np.array([turn.as_quat() for turn in self.turns])
        for k in range(1, len(quats)):
            quats[k] *= 1 if quats[k] @ quats[k - 1] >= 0 else -1
        return Rotation.from_quat(smoothest(self.times, quats, at)), smoothest(self.times, self.places, at)


class FingerPlan:
    """Finger angles over time: a start, minimum-jerk steps that add up, and lifts that come and go."""

    def __init__(self, start: Float[np.ndarray, "15 3"]) -> None:
        self.start = self.end = start
        self.steps: list[tuple[float, float, np.ndarray]] = []
        self.lifts: list[tuple[float, float, np.ndarray, float]] = []

    def step(self, first: float, last: float, goal: Float[np.ndarray, "15 3"]) -> None:
        """Change to `goal`, on top of steps under way."""
        self.steps.append((first, last, goal - self.end))
        self.end = goal

    def lift(self, first: float, last: float, joints: np.ndarray, degrees: float) -> None:
        """Open some joints and close them again."""
        self.lifts.append((first, last, joints, np.radians(degrees)))

    def __call__(self, at: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t 15 3"]:
        """The angles at these times."""
        made = np.tile(self.start, (len(at), 1, 1))
        for first, last, change in self.steps:
            made += min_jerk((at - first) / (last - first))[:, None, None] * change
        for first, last, joints, angle in self.lifts:
            u = np.clip((at - first) / (last - first), 0, 1)
            made[:, joints, 2] -= angle * (16 * (u - u * u) ** 2)[:, None]
        made[..., 2] = made[..., 2].clip(LOWEST.numpy(), HIGHEST.numpy())
        return made


def small_turn(rng: np.random.Generator, degrees: int) -> Rotation:
    """A small random rotation."""
    return Rotation.from_rotvec(np.radians(degrees) * rng.normal(0, 0.6, 3))


def unit(rng: np.random.Generator, along: Float[np.ndarray, "3"] | None = None) -> Float[np.ndarray, "3"]:
    """A unit vector along something, in a random direction if along nothing."""
    v = rng.normal(size=3) if along is None or not along.any() else along
    return v / np.linalg.norm(v)
