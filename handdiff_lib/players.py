"""Players: motions side by side, steps of a walk, samples through each other, each a stage with one slider.

Motions are drawn in *viewing axes*: the mean wrist orientation is undone, so that the back of the hand faces the
reader and the fingers point up, whatever frame the track was recorded in. Left hands are drawn as left hands.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib.actors import Actor, Cast
from handdiff_lib.hand import HandModel
from handdiff_lib.lanes import curve_lane, state_lane
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.rotation import mean_rotation
from handdiff_lib.scene import color_of
from handdiff_lib.stage import Scale, Stage

_SHOWN_FPS = 30
_FRAMES = 240
_FRAMES_OF_VERTICES = 60
"""A frame is 128 bytes of rotations or 6 kB of vertices."""


def player(
    tracks: dict[str, HandMotion],
    hand: HandModel,
    seconds: float | None = None,
    start: float = 0.0,
    max_frames: int | None = None,
    steady: bool = True,
    trails: int = 0,
    title: str | None = None,
    error_to: str | None = None,
    heat: dict[str, Float[Tensor, "_t 16"]] | None = None,
    scale: Scale | None = None,
    lines: dict[str, dict[str, Float[Tensor, "_t"]]] | None = None,
    states: dict[str, Int[Tensor, "_t"]] | None = None,
    autoplay: bool = False,
) -> Stage:
    """Several motions of one hand side by side, in time with each other, under one slider and one camera.

    The window begins at `start` seconds of the first track and lasts `seconds` (default: to its end). It is played at
    up to 30 frames a second, thinned further to `max_frames` (240, or 60 where vertices go into the page). `steady`
    holds the wrists still, so that turning and bending show; otherwise each hand also moves, about the place where its
    wrist is on average. Frames without a valid estimate are grey. `trails` draws the path of the finger tips over that
    many shown frames. Tracks of another frame rate show the frame nearest in time.

    Colour: `error_to` names the track from which every vertex's distance is shown, wrists together, in mm; `heat` gives
    a number a joint and frame of some tracks (`motion.sigma.rad2deg()`); `scale` says what the colours mean.
    Under the hands: `lines` are curves, title -> track -> a number a frame (a difference may be one or two shorter),
    `states` a strip for each track, numbers of topology.STATES. A cursor follows the slider, and a click moves it.
    """
    names, first = list(tracks), next(iter(tracks.values()))
    _check_names(names, error_to, heat, states, *(lines or {}).values())
    most = max_frames or (_FRAMES if hand.name == "open" else _FRAMES_OF_VERTICES)
    times = _window(first, seconds, start, most)
    R_view_world = _facing(tracks[names[-1]])
    actors = []
    for k, (name, motion) in enumerate(tracks.items()):
        values = None if heat is None or name not in heat else heat[name][_frames(motion, times)].float()
        place = dict(color=color_of(name, names), column=k, heat=values)
        actors.append(_actor(motion, hand, times, R_view_world, steady, **place))
    cast = Cast(tuple(actors), hand, first.side == "left")
    truth = names.index(error_to) if error_to else None
    lanes = [
        curve_lane(about, {n: _at(v, tracks[n], times) for n, v in told.items()}, {n: color_of(n, names) for n in told})
        for about, told in (lines or {}).items()
    ]
    lanes += [state_lane(f"states, {n}", v[_frames(tracks[n], times)]) for n, v in (states or {}).items()]
    return Stage(
        cast,
        tuple(names),
        fps=1 / (times[1] - times[0]) if len(times) > 1 else 1.0,
        start=times[0],
        trails=trails,
        active=min(trails, len(times) - 1),  # the first picture has whole trails already
        title=title,
        truth=truth,
        scale=scale or _scale(cast, truth),
        lanes="".join(lanes),
        autoplay=autoplay,
    )


def walk(
    poses: dict[str, Float[Tensor, "_s 16 3 3"]],
    hand: HandModel,
    labels: Sequence[str],
    label: str = "n =",
    fps: float = 1.2,
    active: int = 0,
    title: str | None = None,
    error_to: str | None = None,
    scale: Scale | None = None,
) -> Stage:
    """Poses of one right hand at every step of something, such as a diffusion, side by side under one slider.

    Every entry has a pose a step, or one for all steps. `labels` name the steps. `error_to` is as in `player`.
    """
    names, count = list(poses), len(labels)
    _check_names(names, error_to)
    R_view = poses[names[-1]][-1, 0].float().mT
    actors = []
    for k, name in enumerate(names):
        R = poses[name].float().expand(count, -1, -1, -1).clone()
        R[:, 0] = R_view @ R[:, 0]
        rest = dict(betas=torch.zeros(10), place=torch.zeros(count, 3), is_seen=torch.ones(count, dtype=torch.bool))
        actors.append(Actor(color_of(name, names), R, column=k, **rest))
    cast = Cast(tuple(actors), hand)
    truth = names.index(error_to) if error_to else None
    look = dict(title=title, truth=truth, scale=scale or _scale(cast, truth))
    return Stage(cast, tuple(names), fps, label, tuple(labels), active=active, **look)


def ghosts(
    samples: Sequence[HandMotion],
    hand: HandModel,
    over: HandMotion | None = None,
    name: str = "samples",
    over_name: str = "truth",
    max_frames: int = 40,
    title: str | None = None,
) -> Stage:
    """Many motions of one hand through each other, each faint, and one of them (or `over`) solid, wrists together."""
    solid = over or samples[0]
    times, names = _window(solid, None, 0.0, max_frames), [name, over_name]
    R_view = _facing(solid)
    faint = [_actor(m, hand, times, R_view, True, color=color_of(name, names), opacity=0.12) for m in samples]
    actors = [_actor(solid, hand, times, R_view, True, color=color_of(over_name if over else name, names)), *faint]
    heads = f"{len(samples)} {name}" + (f", {over_name} solid" if over else "")
    fps = 1 / (times[1] - times[0]) if len(times) > 1 else 1.0
    return Stage(Cast(tuple(actors), hand, solid.side == "left"), (heads,), fps, title=title)


def _actor(
    motion: HandMotion, hand: HandModel, times: list[float], R_view_world: Float[Tensor, "3 3"], steady: bool, **look
) -> Actor:
    """The track at these times, turned to face the reader, its wrist at the origin (on average unless steady)."""
    frames = _frames(motion, times)
    shown = fill_missing(motion).to("cpu", torch.float32)[frames]
    wrist = shown.pose(hand).joints[:, 0]
    place = torch.zeros_like(wrist) if steady else (wrist - wrist.mean(0)) @ R_view_world.mT
    R = torch.cat([R_view_world @ shown.R[:, :1], shown.R[:, 1:]], dim=1)
    betas = shown.betas if motion.hand == hand.name else torch.zeros(10)
    return Actor(R=R, betas=betas, place=place, is_seen=motion.valid[frames].cpu(), **look)


def _frames(motion: HandMotion, times: list[float]) -> Int[Tensor, "k"]:
    """The track's frames nearest to these times."""
    return (torch.tensor(times) * motion.fps).round().long().clamp(max=len(motion) - 1)


def _at(values: Float[Tensor, "_t"], motion: HandMotion, times: list[float]) -> Float[Tensor, "k"]:
    """A number a frame at these times; what a difference lacks at the ends is NaN."""
    short = len(motion) - len(values)
    if not 0 <= short <= 2:
        raise MotionError(f"player: a curve has {len(values)} values for {len(motion)} frames")
    pads = torch.full((short - short // 2,), torch.nan), torch.full((short // 2,), torch.nan)
    return torch.cat([pads[0], values.float(), pads[1]])[_frames(motion, times)]


def _check_names(names: list[str], *told: str | dict | None) -> None:
    """MotionError where something is told of a track that is not shown."""
    for words in told:
        for name in [words] if isinstance(words, str) else (words or ()):
            if name not in names:
                raise MotionError(f"no track {name!r} on the stage; there are {', '.join(names)}")


def _scale(cast: Cast, truth: int | None) -> Scale | None:
    """A scale for what the cast shows: up to a round number that most values stay below."""
    if truth is not None:
        few = torch.linspace(0, len(cast) - 1, min(len(cast), 40)).round().long().tolist()
        true = cast.points(cast.actors[truth], few)
        apart = [cast.points(actor, few) - true for k, actor in enumerate(cast.actors) if k != truth]
        return Scale("distance (mm)", 0.0, _round_up(1000 * torch.stack(apart).norm(dim=-1).quantile(0.99).item()))
    heats = [actor.heat.nan_to_num().flatten() for actor in cast.actors if actor.heat is not None]
    return Scale("value", 0.0, _round_up(torch.cat(heats).quantile(0.99).item())) if heats else None


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    ten = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    return next(ten * k for k in (1, 2, 5, 10) if ten * k >= value * (1 - 1e-9))


def _facing(motion: HandMotion) -> Float[Tensor, "3 3"]:
    """The turn that takes the track's mean wrist orientation to the rest pose."""
    R = motion.R[motion.valid, 0].float()
    return mean_rotation(R, R.new_ones(len(R))).mT


def _window(motion: HandMotion, seconds: float | None, start: float, max_frames: int) -> list[float]:
    """Times of the frames to show, in seconds: real frames of the track, evenly spaced."""
    first = min(round(start * motion.fps), len(motion) - 1)
    last = len(motion) - 1 if seconds is None else min(len(motion) - 1, first + round(seconds * motion.fps))
    step = max(1, round(motion.fps / _SHOWN_FPS), -(-(last - first + 1) // max_frames))
    return [frame / motion.fps for frame in range(first, last + 1, step)]
