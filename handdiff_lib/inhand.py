r"""What a hand does with a thing it holds: turn it, walk around it with its fingers, tap, reshape, take it anew.

stations    where the thing is in the hand, and when; between two it goes by a minimum-jerk step
fingers     steps and lifts (`paths.FingerPlan`)
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from handdiff_lib.grasp import DIGIT_JOINTS
from handdiff_lib.grips import Grasp
from handdiff_lib.paths import FingerPlan, min_jerk, unit

JOINTS = DIGIT_JOINTS.numpy()


@dataclass
class Hold:
    """What happens to a thing in the hand; seconds from when it is held."""

    rng: np.random.Generator
    grasps: list[Grasp]
    fingers: FingerPlan
    stations: list[tuple[float, Rotation, np.ndarray]]
    """When the thing is where, seen from the wrist."""
    grasp: Grasp
    now: float = 0.0
    busy: list[tuple[float, float]] = field(default_factory=list)

    def turn(self) -> None:
        """Turn the thing to and fro; some fingers are lifted."""
        rng, (_, turn, place), pivot = self.rng, self.stations[-1], self.grasp.pivot
        axis = np.radians(rng.uniform(8, 35)) * unit(rng)
        for sign in rng.choice([-1, 1]) * np.array([1, -1, 1, 0])[: rng.integers(1, 5)]:
            lasts, by = rng.uniform(0.3, 0.7), Rotation.from_rotvec(sign * axis + rng.normal(0, 0.05, 3))
            for digit in np.flatnonzero(rng.random(5) < 0.35):
                self.fingers.lift(self.now, self.now + lasts, JOINTS[digit], rng.uniform(12, 30))
            self._bring(lasts, by * turn, by.apply(place - pivot) + pivot + rng.normal(0, 0.003, 3))

    def walk(self) -> None:
        """Lift one finger after the other and put it down elsewhere."""
        rng = self.rng
        for digit in rng.permutation(5)[: rng.integers(2, 6)]:
            lasts, goal = rng.uniform(0.25, 0.5), self.fingers.end.copy()
            goal[JOINTS[digit], 2] += np.radians(rng.normal(4, 14, 3))
            goal[JOINTS[digit, 0], 1] += np.radians(rng.normal(0, 5))
            self.fingers.lift(self.now, self.now + lasts, JOINTS[digit], rng.uniform(15, 45))
            self.fingers.step(self.now, self.now + lasts, goal)
            self.now += lasts * rng.uniform(0.4, 0.9)
        self.now += 0.2

    def tap(self) -> None:
        """Tap with a finger."""
        digit, lasts = self.rng.integers(1, 5), self.rng.uniform(0.25, 0.4)
        for _ in range(self.rng.integers(2, 5)):
            self.fingers.lift(self.now, self.now + lasts, JOINTS[digit], self.rng.uniform(20, 40))
            self.now += lasts

    def reshape(self) -> None:
        """Bend all joints a little otherwise, so that the fingers slide."""
        lasts, goal = self.rng.uniform(0.5, 1.0), self.fingers.end.copy()
        goal[:, 2] += np.radians(self.rng.normal(5, 16, 15))
        goal[JOINTS[:, 0], 1] += np.radians(self.rng.normal(0, 5, 5))
        self.fingers.step(self.now, self.now + lasts, goal)
        self.now += lasts

    def regrasp(self) -> None:
        """Open, shift to another grasp that is not far, close."""
        _, turn, place = self.stations[-1]
        near = [
            g for g in self.grasps if (turn.inv() * g.turn).magnitude() < 1.2 and np.linalg.norm(g.place - place) < 0.08
        ]
        self.grasp = near[self.rng.integers(len(near))] if near else self.grasp
        lasts = self.rng.uniform(0.5, 0.9)
        self.fingers.lift(self.now, self.now + lasts, np.arange(15), self.rng.uniform(25, 45))
        self.fingers.step(self.now, self.now + lasts, self.grasp.drive)
        self._bring(lasts, self.grasp.turn, self.grasp.place)

    def _bring(self, lasts: float, turn: Rotation, place: np.ndarray) -> None:
        """Move the thing in the hand."""
        self.stations += [(self.now, *self.stations[-1][1:]), (self.now + lasts, turn, place)]
        self.now += lasts

    def seen(self, at: np.ndarray) -> tuple[Rotation, np.ndarray]:
        """The thing seen from the wrist: it turns about what of it is gripped."""
        times, places = np.array([s[0] for s in self.stations]), np.array([s[2] for s in self.stations])
        turns = Rotation.concatenate([s[1] for s in self.stations])
        k = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 1)
        after = np.minimum(k + 1, len(times) - 1)
        u = min_jerk((at - times[k]) / np.maximum(times[after] - times[k], 1e-6))[:, None]
        turn = turns[k] * Rotation.from_rotvec(u * (turns[k].inv() * turns[after]).as_rotvec())
        held = turns.inv().apply(self.grasp.pivot - places)[k]
        first, last = turns[k].apply(held) + places[k], turns[after].apply(held) + places[after]
        return turn, first + u * (last - first) - turn.apply(held)


ACTS: dict[Callable[[Hold], None], float] = {
    Hold.turn: 0.35,
    Hold.walk: 0.25,
    Hold.tap: 0.1,
    Hold.reshape: 0.15,
    Hold.regrasp: 0.15,
}
"""What a hand does with what it holds, and how often."""
