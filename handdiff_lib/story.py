r"""The script of a made-up take: a hand comes to a thing, takes it, carries it, moves it in its fingers, leaves it.

    come    off the thing, about, to the next grasp, and the fingers close       the thing rests
    hold    stations of the thing in the hand, steps and lifts of the fingers    hand and thing move

The wrist rests where the thing is taken or left, and nowhere between. Fingers are scripted as if the thing were soft;
`synth.py` keeps them out of it.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.spatial.transform import Rotation
from torch import Tensor

from handdiff_lib.grasp import LOWEST, Grasper
from handdiff_lib.grips import Grasp, draw_fingers, find_grasps
from handdiff_lib.inhand import ACTS, Hold
from handdiff_lib.paths import FingerPlan, Route, small_turn, unit
from handdiff_lib.shapes import Shape
from handdiff_lib.topology import FREE, GRASP, MANIPULATE, REACH, RELEASE

RATE = 30.0
"""Frames a second of the script."""
WIDER = float(np.radians(60))
"""Where a finger is in the way it may open by this much."""
NEAR, PALM = 0.13, torch.tensor([-0.09, -0.03, 0.0])
"""A thing is in the fingers' way when it is this near to the middle of the hand, m."""
FAULT, TRIES = 0.003, 3
"""Scenes that go deeper into the thing are told anew, so many times at most."""
OUT_OF_PALM = np.array([0.0, -1.0, 0.0])


@dataclass(frozen=True)
class Scene:
    """Some time of a take, RATE frames a second, right hand, world frame."""

    wrist: Rotation
    place: Float[np.ndarray, "t 3"]
    """The wrist joint, m."""
    thing: Rotation
    thing_place: Float[np.ndarray, "t 3"]
    fingers: Float[np.ndarray, "t 15 3"]
    """Angles that the fingers want."""
    label: Int[np.ndarray, "t"]
    """What the script is about: topology's states, or FREE."""

    def seen(self) -> tuple[Rotation, np.ndarray]:
        """Turn and place of the thing seen from the wrist."""
        back = self.wrist.inv()
        return back * self.thing, back.apply(self.thing_place - self.place)

    def __getitem__(self, frames: slice) -> "Scene":
        """Some of its frames."""
        return Scene(*(getattr(self, name)[frames] for name in self.__dataclass_fields__))


def write_script(grasper: Grasper, shape: Shape, rng: np.random.Generator, frames: int) -> Scene:
    """The first `frames` frames of episodes with one thing, from a random moment of the first one on."""
    teller = _Teller(grasper, shape, rng)
    skip = int(rng.uniform(0, 3.5) * RATE)
    while sum(len(scene.label) for scene in teller.scenes) < skip + frames:
        teller.episode()
    joined = []
    for name in Scene.__dataclass_fields__:
        parts = [getattr(scene, name) for scene in teller.scenes]
        joined.append(Rotation.concatenate(parts) if isinstance(parts[0], Rotation) else np.concatenate(parts))
    return Scene(*joined)[skip : skip + frames]


def keep_off(grasper: Grasper, shape: Shape, scene: Scene) -> Float[Tensor, "t 15 3"]:
    """The scene's finger angles, as wanted where the thing is far and as far as it lets them where it is near."""
    turn, place = scene.seen()
    R, p = torch.from_numpy(turn.as_matrix()).float(), torch.from_numpy(place).float()
    angles = torch.from_numpy(scene.fingers).float()
    opened = torch.maximum(angles[..., 2] - WIDER, LOWEST)
    near = torch.nonzero(shape.field(((PALM - p)[:, None] @ R)[:, 0]) < NEAR)[:, 0]
    for frames in near.split(128):
        angles[frames, :, 2] = grasper.close(shape.field, R[frames], p[frames], angles[frames], opened[frames])
    return angles


@dataclass(frozen=True)
class _Passage:
    """A scene, and what the next one starts from."""

    scene: Scene
    fingers: Float[np.ndarray, "15 3"]
    """What the fingers want at its end."""
    left: Grasp | None
    """The grasp that the hand is in at its end, or has left."""


@dataclass
class _Teller:
    """Tells one episode after the other; the thing rests where the last one left it."""

    grasper: Grasper
    shape: Shape
    rng: np.random.Generator
    scenes: list[Scene] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = self.rng
        self.thing, self.thing_place = Rotation.random(rng=rng), rng.uniform([-0.25, -0.15, 0.4], [0.25, 0.15, 0.7])
        self.wrist, self.place = Rotation.random(rng=rng), self.thing_place + 0.3 * unit(rng)
        self.fingers = self.draw_fingers()
        self.left: Grasp | None = None
        self.episodes = 0

    def draw_fingers(self) -> np.ndarray:
        """A random pose of the fingers."""
        return draw_fingers(self.rng, 1)[0].double().numpy()

    def episode(self) -> None:
        """Come, hold, let go."""
        if self.episodes % 6 == 0:
            self.grasps = find_grasps(self.grasper, self.shape, self.rng)
        self.episodes += 1
        grasp = self.grasps[self.rng.integers(len(self.grasps))]
        for tell in (self.come, self.hold):
            best, least = None, np.inf
            for _ in range(TRIES):
                passage = tell(grasp)
                fault = self._fault(passage.scene)
                if fault < least:
                    best, least = passage, fault
                if least <= FAULT:
                    break
            self._add(best)

    def _fault(self, scene: Scene) -> float:
        """How deep the hand goes into the thing, or how far it is from what it carries, m; from every fourth frame.

        Two parts of the hand carry, but for a moment.
        """
        few = scene[::4]
        turn, place = few.seen()
        R, p = torch.from_numpy(turn.as_matrix()).float(), torch.from_numpy(place).float()
        gap = self.grasper.gaps(self.shape.field, R, p, keep_off(self.grasper, self.shape, few)).sort(-1).values.numpy()
        is_carried = np.linalg.norm(np.diff(few.thing_place, axis=0), axis=1) > 1e-6
        apart = np.quantile(gap[1:, 1][is_carried], 0.85) if is_carried.any() else 0.0
        return float(max(-gap.min(), apart - 0.002))

    def _add(self, passage: _Passage) -> None:
        """Append a passage; the next one starts where it ends."""
        scene = passage.scene
        self.left, self.fingers = passage.left, passage.fingers
        self.scenes.append(scene)
        self.wrist, self.place = scene.wrist[-1], scene.place[-1]
        self.thing, self.thing_place = scene.thing[-1], scene.thing_place[-1]

    def come(self, grasp: Grasp) -> _Passage:
        """From where the hand is, off the thing, about, and to a grasp, until the fingers have closed."""
        rng, fingers = self.rng, FingerPlan(self.fingers)
        wait = 0.0
        if self.left is not None:
            lasts, after = rng.uniform(0.3, 0.6), self.draw_fingers()
            least = np.maximum(self.fingers[:, 2] - np.radians(rng.uniform(15, 40)), 0)
            after[:, 2] = np.minimum(after[:, 2], least)
            fingers.step(0.0, lasts, after)
            wait = rng.uniform(0.6, 1.0) * lasts
        route = self._route(grasp)
        times = wait + route.times
        arrives = times[-1]
        if arrives - wait > 1.0 and rng.random() < 0.7:
            fingers.step(wait, wait + rng.uniform(0.5, 0.7) * (arrives - wait), self.draw_fingers())
        ready = rng.uniform(0.6, 0.9) * arrives
        wider = grasp.opened.copy()
        wider[:, 2] = np.maximum(wider[:, 2] - np.radians(rng.uniform(0, 20)), LOWEST.numpy())
        fingers.step(max(0.0, ready - rng.uniform(0.5, 0.9)), ready, wider)
        closes = arrives - rng.uniform(0.0, 0.15)
        closed = closes + rng.uniform(0.25, 0.5)
        fingers.step(closes, closed, grasp.drive)
        at = _times(closed)
        label = np.where(at > times[-3], REACH, FREE)
        label[at > arrives] = MANIPULATE
        label[(at > wait) & (at < times[1]) & (self.left is not None)] = RELEASE
        label[at <= wait] = MANIPULATE
        still = Rotation.concatenate([self.thing] * len(at)), np.tile(self.thing_place, (len(at), 1))
        return _Passage(Scene(*route(at - wait), *still, fingers(at), label), fingers.end, self.left)

    def _route(self, grasp: Grasp) -> Route:
        """A way of the wrist to a grasp on which the palm keeps out of the thing; wider and wider ways are tried."""
        for wide in (1.0, 1.3, 1.6, 2.0):
            route = self._draw_route(grasp, wide)
            turn, place = route(_times(route.times[-1]))
            if self._palm_gap(turn.inv() * self.thing, turn.inv().apply(self.thing_place - place)).min() > -0.001:
                break
        return route

    def _draw_route(self, grasp: Grasp, wide: float) -> Route:
        """Off the thing the way the hand once came, past one or two places beside it, and to the grasp."""
        rng = self.rng
        goal = self.thing * grasp.turn.inv()
        goal_place = self.thing_place - goal.apply(grasp.place)
        turns, places = [self.wrist], [self.place]
        if self.left is not None:
            turns.append(self.wrist * small_turn(rng, 8))
            places.append(self.place - self.wrist.apply(self.left.approach) * rng.uniform(0.05, 0.10) * wide)
        for share in np.sort(rng.random(rng.integers(1, 3))):
            side = (1 - share) * unit(rng, self.place - self.thing_place)
            side = side + share * unit(rng, goal_place - self.thing_place) + 0.5 * unit(rng)
            away = wide * (self.shape.field.radius + rng.uniform(0.14, 0.30))
            places.append(self.thing_place + unit(rng, side) * away)
            between = self.wrist * Rotation.from_rotvec(share * (self.wrist.inv() * goal).as_rotvec())
            turns.append(between * small_turn(rng, 30))
        places += [goal_place - goal.apply(grasp.approach) * rng.uniform(0.05, 0.10) * wide, goal_place]
        turns += [goal * small_turn(rng, 8), goal]
        metres = np.linalg.norm(np.diff(places, axis=0), axis=1)
        radians = np.array([(a.inv() * b).magnitude() for a, b in pairwise(turns)])
        seconds = np.maximum(metres / rng.uniform(0.3, 0.7), radians / rng.uniform(1.5, 3.0)).clip(0.12)
        seconds[[0, -1]] = 1.2 * seconds[[0, -1]].clip(0.22)
        return Route(np.append(0, seconds.cumsum()), turns, np.array(places))

    def hold(self, grasp: Grasp) -> _Passage:
        """From when the fingers have closed until they open: carried or left standing, moved in the hand."""
        rng, fingers = self.rng, FingerPlan(self.fingers)
        story = Hold(rng, self.grasps, fingers, [(0.0, grasp.turn, grasp.place)], grasp)
        stands = rng.random() < 0.25 or not grasp.carries  # then the hand goes about the thing
        acts, odds = list(ACTS), np.array(list(ACTS.values()))
        odds[acts.index(Hold.regrasp)] *= 3 * stands  # nothing else holds the thing while the hand opens
        for _ in range(rng.integers(2, 5)):
            if rng.random() < 0.4:
                story.now += rng.uniform(0.4, 1.1)
            else:
                start = story.now
                rng.choice(acts, p=odds / odds.sum())(story)
                story.busy.append((start, story.now))
        story.now += rng.uniform(0.1, 0.6)
        at = _times(story.now)
        seen, place = story.seen(at)
        place = self._out_of_palm(seen, place)
        label = np.full(len(at), GRASP)
        for start, stop in story.busy:
            label[(at > start) & (at < stop)] = MANIPULATE
        if stands:
            thing, thing_place = Rotation.concatenate([self.thing] * len(at)), np.tile(self.thing_place, (len(at), 1))
            wrist = thing * seen.inv()
            wrist_place = thing_place - wrist.apply(place)
        else:
            times = np.linspace(0, story.now, 1 + max(1, round(story.now / rng.uniform(0.5, 1.0))))
            turns, places = [self.wrist], [self.place]
            for _ in times[1:]:
                turns.append(turns[-1] * small_turn(rng, 25))
                places.append(places[-1] + rng.normal(0, 0.07, 3))
            wrist, wrist_place = Route(times, turns, np.array(places))(at)
            thing, thing_place = wrist * seen, wrist_place + wrist.apply(place)
        return _Passage(Scene(wrist, wrist_place, thing, thing_place, fingers(at), label), fingers.end, story.grasp)

    def _palm_gap(self, seen: Rotation, place: Float[np.ndarray, "t 3"]) -> Float[np.ndarray, "t"]:
        """Distance of the palm to the thing, negative inside."""
        skin = self.grasper.pose(torch.zeros(1, 15, 3), self.grasper.palm).skin()[0]
        R, p = torch.from_numpy(seen.as_matrix()).float(), torch.from_numpy(place).float()
        return self.shape.field((skin - p[:, None]) @ R).amin(-1).double().numpy()

    def _out_of_palm(self, seen: Rotation, place: Float[np.ndarray, "t 3"]) -> Float[np.ndarray, "t 3"]:
        """The places of the thing, pushed straight out of the palm where it would go into it."""
        push = np.zeros(len(place))
        for _ in range(3):
            push += (0.0005 - self._palm_gap(seen, place + push[:, None] * OUT_OF_PALM)).clip(0)
        push = gaussian_filter1d(maximum_filter1d(push, 5), 1.0, mode="nearest")
        return place + push[:, None] * OUT_OF_PALM


def _times(seconds: float) -> Float[np.ndarray, "t"]:
    """Times of the frames of a scene, whose last one is its end."""
    count = max(2, round(seconds * RATE))
    return seconds * np.arange(1, count + 1) / count
