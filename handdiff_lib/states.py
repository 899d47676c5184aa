r"""Motion states from geometry: when a hand reaches, holds, manipulates and releases a thing (DIP section 3.3, Fig. 4).

The paper names the states and what tells them apart, contact and the change of the hand-object distance $d(t)$; the
rules and thresholds here are ours:

    contact    the surfaces are close (hysteresis)       no contact
      fingers and hand still on the thing: stable grasp    d falls, contact follows:    reach
      else:                                  manipulate    d grows, contact went before: release
                                                           else:                         free

$d(t)$ is the mean distance of the 21 joints to the thing's surface, which still changes in contact. Rules give every
frame a label and a weight; the path with the best score among those that keep a state for a while and take usual
turns is the answer. Everything is measured in seconds and metres, and every rule reads the same backwards in time,
with reach and release exchanged.
"""

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from handdiff_lib.contact import RigidObject, Signals, signals
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.topology import FREE, GRASP, MANIPULATE, REACH, RELEASE

_FREE = 4
"""Free motion inside this file; outside it is FREE, or 4 with `n_states=5`."""


@dataclass(frozen=True)
class StateConfig:
    """Thresholds of the rules: metres, seconds, radians."""

    smooth_s: float = 0.05
    """Sigma of the Gaussian means that the motion passes through before anything is measured."""
    contact_on: float = 0.005
    """Contact needs a vertex nearer than this, and `contact_vertices` of them."""
    contact_off: float = 0.010
    """Contact lasts while a vertex is nearer than this."""
    contact_vertices: int = 5
    contact_s: float = 0.1
    """Contact must last this long; gaps and touches that are shorter are passed over."""
    still_turn: float = float(np.radians(20))
    """A grasp becomes stable when the fingers turn slower than this per second (RMS over 15 joints) ..."""
    still_approach: float = 0.020
    """... and the mean distance changes slower than this per second ..."""
    still_s: float = 0.2
    """... for this long."""
    move_turn: float = float(np.radians(35))
    """It is over when the fingers turn faster than this per second ..."""
    move_slide: float = 0.030
    """... or the finger tips move faster than this per second on the thing (RMS over five)."""
    approach: float = 0.030
    """Reaching and releasing change the mean distance faster than this per second ..."""
    contact_within_s: float = 2.0
    """... with a contact ahead or behind within this time ..."""
    approach_far: float = 0.020
    """... and by this much, unless they are the last before the contact or the first after it."""
    state_s: float = 0.1
    """Shortest state."""
    unusual: float = 4.0
    """Cost of a turn that is not usual (see USUAL), as a number of plain frames at 30 a second."""
    lenient: bool = False
    """Whether frames out of contact take a state by the sign of the distance's change alone, so that none is free."""
    n_states: Literal[4, 5] = 4
    """With 5, free motion is a state of its own, number 4; with 4 it is FREE, which losses ignore."""

    def for_noise(self, noise: float) -> "StateConfig":
        """The thresholds for labels whose surfaces are off by `noise` metres: contact at twice that, 3 mm at least."""
        on = max(0.003, 2 * noise)
        return replace(self, contact_on=on, contact_off=2 * on)


@dataclass(frozen=True)
class States:
    """What a hand does, frame by frame."""

    state: Int[Tensor, "t"]
    """Index into `topology.STATES`; FREE (or 4 with `n_states=5`) outside them."""
    confidence: Float[Tensor, "t"]
    r"""$1 - e^{-m}$, m the margin of the best path over the best with another state here; 0 in frames not valid."""
    contact: Bool[Tensor, "t 6"]
    """Which of `contact.DIGITS` touch: thumb to little, palm."""
    distance: Float[Tensor, "t"]
    """$d(t)$: mean distance of the 21 joints to the surface, metres, smoothed."""
    target: Int[Tensor, "t"]
    """Which of the things the labels are about."""


def annotate(motion: HandMotion, hand: HandModel, *things: RigidObject, config: StateConfig | None = None) -> States:
    """The motion states of a track beside one or several things, whose poses are in the track's own frame.

    Each frame's target is the thing whose contact is nearest in time; without any, the nearest thing. Frames that are
    not valid are filled first. Raises MotionError when no frame is valid, or a thing's frames are of another number.
    """
    config = config or StateConfig()
    if not things:
        raise MotionError("annotate: no object; the states are defined by the distance to one")
    seen = [signals(motion, hand, thing, config.contact_on, config.smooth_s) for thing in things]
    touches = np.stack([_contact(s.gap, s.touching, motion.fps, config) for s in seen])  # (things, t)
    target = _target(np.stack([s.distance for s in seen]), touches)
    frames = np.arange(len(motion))
    s = Signals(**{f.name: np.stack([getattr(s, f.name) for s in seen])[target, frames] for f in fields(Signals)})
    in_contact = touches[target, frames]
    state, margin = best_states(_scores(s, in_contact, motion.fps, config), motion.fps, config)
    plenty = np.full(len(motion), config.contact_vertices)
    digits = [in_contact & _contact(gap, plenty, motion.fps, config) for gap in s.digit_gap.T]
    outside = _FREE if config.n_states == 5 else FREE
    return States(
        state=torch.from_numpy(np.where(state == _FREE, outside, state)),
        confidence=torch.from_numpy(-np.expm1(-margin)).float() * motion.valid.cpu(),
        contact=torch.from_numpy(np.stack(digits, -1)),
        distance=torch.from_numpy(s.distance).float(),
        target=torch.from_numpy(target),
    )


def _contact(gap: np.ndarray, touching: np.ndarray, fps: float, config: StateConfig) -> np.ndarray:
    """Whether hand and thing touch: hysteresis on both ends alike, then short gaps and short touches go.

    Contact runs from the first to the last sure touch of a stretch that stays below `contact_off`, so it begins and
    ends at `contact_on`.
    """
    sure = _keep_long((gap < config.contact_on) & (touching >= config.contact_vertices), config.contact_s, fps)
    held = _between(sure, _fill_short(gap <= config.contact_off, config.contact_s, fps))
    return _keep_long(_fill_short(held, config.contact_s, fps), config.contact_s, fps)


def _target(distance: np.ndarray, touches: np.ndarray) -> np.ndarray:
    """(t,) the thing whose contact is nearest in time, of these the nearest; inputs are (things, t)."""
    t = np.arange(touches.shape[1])
    wait = [np.abs(t[:, None] - np.flatnonzero(row)).min(1, initial=len(t)) for row in touches]
    return np.lexsort((distance, np.stack(wait)), axis=0)[0]


def _scores(s: Signals, in_contact: np.ndarray, fps: float, config: StateConfig) -> np.ndarray:
    """(t, 5) scores: 0 for the state that the rules say, below 0 for others by how sure the rules are.

    Leaving the rules' side of contact and their state there both cost up to 1, the less the nearer the signal is to
    its threshold (0.1 at least). A hand that comes nearer leans to reach, one that goes away to release.
    """
    quiet = (s.turn < config.still_turn) & (np.abs(s.approach) < config.still_approach)
    activity = np.maximum(s.turn / config.move_turn, s.slide / config.move_slide)
    calm = in_contact & _fill_short(in_contact & (activity <= 1), config.state_s, fps)
    quiet = calm & _fill_short(calm & quiet, config.state_s, fps)
    still = _between(_keep_long(quiet, config.still_s, fps), calm)
    label = np.where(in_contact, np.where(still, GRASP, MANIPULATE), _FREE)
    speed = s.approach / config.approach
    margin = np.where(in_contact, np.where(still, 1 - activity, activity - 1), 1 - np.abs(speed))
    if config.lenient:
        label[~in_contact] = np.where(speed[~in_contact] < 0, REACH, RELEASE)
        margin[~in_contact] = np.abs(speed[~in_contact])
    else:
        _label_gaps(label, margin, s, fps, config)
    middle, half = (config.contact_on + config.contact_off) / 2, (config.contact_off - config.contact_on) / 2
    side = np.where(in_contact, middle - s.gap, s.gap - middle) / half
    is_touch = np.isin(np.arange(5), (GRASP, MANIPULATE))
    wrong_side = np.clip(side, 0.1, 1)[:, None] * (is_touch != in_contact[:, None])
    wrong_state = np.clip(margin, 0.1, 1)[:, None] * (np.arange(5) != label[:, None])
    lean = 0.01 * np.clip(speed, -1, 1)[:, None] * np.array([-1, 0, 0, 1, 0])  # settles what else would be equal
    return lean - wrong_side - wrong_state


def _label_gaps(label: np.ndarray, margin: np.ndarray, s: Signals, fps: float, config: StateConfig) -> None:
    """Write reach and release into `label` and `margin`, stretch by stretch between contacts.

    Fast stretches near enough to their contact count: the one next to it, with all frames between, and others that
    go far enough.
    """
    speed, within = s.approach / config.approach, config.contact_within_s * fps
    for start, stop in _runs(label == _FREE):
        t = np.arange(start, stop)
        near_end = (stop < len(label)) & (stop - t <= within)
        near_start = (start > 0) & (t - start < within)
        here, sure = label[start:stop], margin[start:stop]
        here[near_end & (speed[t] < -1)] = REACH
        here[near_start & (speed[t] > 1)] = RELEASE
        runs = [(kind, *run) for kind in (REACH, RELEASE) for run in _runs(here == kind)]
        last, first = max((r[2] for r in runs), default=0), min((r[1] for r in runs), default=0)
        for kind, i, j in runs:
            is_next = j == last if kind == REACH else i == first
            if not is_next and abs(s.distance[start + j - 1] - s.distance[start + i]) < config.approach_far:
                here[i:j] = _FREE
        sure[here != _FREE] = np.abs(speed[t])[here != _FREE] - 1
        sure[~near_end & ~near_start] = 1
        marked = np.flatnonzero(here != _FREE)
        if len(marked) and here[marked[0]] == RELEASE:
            here[: marked[0]], sure[: marked[0]] = RELEASE, 0.5
        if len(marked) and here[marked[-1]] == REACH:
            here[marked[-1] + 1 :], sure[marked[-1] + 1 :] = REACH, 0.5


USUAL = (
    *((_FREE, REACH), (REACH, GRASP), (REACH, MANIPULATE), (GRASP, MANIPULATE), (REACH, _FREE), (MANIPULATE, REACH)),
    *((RELEASE, _FREE), (GRASP, RELEASE), (MANIPULATE, RELEASE), (MANIPULATE, GRASP), (_FREE, RELEASE)),
    *((RELEASE, MANIPULATE), (RELEASE, REACH)),
)
"""Turns that cost nothing. Each has its mirror image in time: what may be reached may be released."""


def best_states(scores: Float[np.ndarray, "t 5"], fps: float, config: StateConfig) -> tuple[np.ndarray, np.ndarray]:
    r"""(t,) states of the best path, and by how much it beats the best path with another state at each frame.

    Viterbi's algorithm forwards and backwards over (state, age): a state lasts `state_s` before it may change, but
    where the track cuts it; a turn that is not in USUAL costs. Scores are a rate, so that a second weighs the same at
    any frame rate. Whole numbers keep equal paths equal, whichever way time runs.
    """
    unit = 1_000_000
    gain = np.rint(np.asarray(scores) * (30 / fps) * unit).astype(np.int64)
    cost = np.full((5, 5), round(config.unusual * unit), np.int64)
    cost[tuple(np.transpose(USUAL))] = 0
    np.fill_diagonal(cost, np.iinfo(np.int64).max // 4)
    ages = max(1, round(config.state_s * fps))
    never = np.iinfo(np.int64).min // 4
    ahead = np.full((len(gain), 5, ages), never)  # best score up to and with frame t
    ahead[0, :, -1] = gain[0]
    for t in range(1, len(gain)):
        old = ahead[t - 1]
        ahead[t, :, 1:] = old[:, :-1]
        ahead[t, :, -1] = np.maximum(ahead[t, :, -1], old[:, -1])
        ahead[t, :, 0] = np.maximum(ahead[t, :, 0], (old[:, -1, None] - cost).max(0))
        ahead[t] += gain[t][:, None]
    behind = np.zeros((5, ages), np.int64)  # best score of what follows frame t
    total = np.empty((len(gain), 5), np.int64)
    total[-1] = (ahead[-1] + behind).max(-1)
    for t in range(len(gain) - 2, -1, -1):
        after = behind + gain[t + 1][:, None]
        behind = np.empty_like(after)
        behind[:, :-1] = after[:, 1:]
        behind[:, -1] = np.maximum(after[:, -1], (after[None, :, 0] - cost).max(1))
        total[t] = (ahead[t] + behind).max(-1)
    order = np.array([GRASP, MANIPULATE, REACH, RELEASE, _FREE])  # the first of equals wins
    ranked = np.sort(total, axis=1)
    return order[total[:, order].argmax(1)], (ranked[:, -1] - ranked[:, -2]) / unit


def _runs(is_on: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_on.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _keep_long(is_on: np.ndarray, seconds: float, fps: float) -> np.ndarray:
    """Only the stretches that last."""
    kept = np.zeros_like(is_on)
    for start, stop in _runs(is_on):
        kept[start:stop] = stop - start >= round(seconds * fps)
    return kept


def _fill_short(is_on: np.ndarray, seconds: float, fps: float) -> np.ndarray:
    """With the short gaps between stretches filled; what the track's ends cut off is no gap."""
    filled = is_on.copy()
    for start, stop in _runs(~is_on):
        if start > 0 and stop < len(is_on) and stop - start < round(seconds * fps):
            filled[start:stop] = True
    return filled


def _between(sure: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Hysteresis: within each stretch of `held`, everything from the first to the last sure frame."""
    found = np.zeros_like(held)
    for start, stop in _runs(held | sure):
        inside = np.flatnonzero(sure[start:stop])
        if len(inside):
            found[start + inside[0] : start + inside[-1] + 1] = True
    return found
