"""Clean motion to learn from, kept on disk as arrays that are mapped into memory, not loaded.

captured   ManipNet takes at 120 fps, raw, with motion states from the object (`states.annotate`)
made up    clips of `synth`, with the states that their geometry gives
recorded   an estimator's own output beside the truth (DIP appendix A): pairs NAME, NAME.truth in a .npz
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from handdiff_lib.contact import load_object
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.readers.manipnet import METRES, TAKES, TEST_TAKES, VALIDATION_TAKES, read_take, take_joints
from handdiff_lib.states import annotate
from handdiff_lib.storage import TRUTH, load_motion, save_motion
from handdiff_lib.synth import synthesize
from handdiff_lib.topology import FREE

CAPTURED_FPS, LABEL_STRIDE = 120.0, 4
"""Frame rate of captured tracks; every fourth frame is labelled, and the label holds until the next."""
MADE_FPS = 60.0
"""Frame rate of made-up clips."""

Tell = Callable[[int, int], None]
"""`tell(done, all)` hears of progress."""


@dataclass(frozen=True)
class Recorded:
    """What an estimator said of a corpus' motions."""

    R: Float[Tensor, "m 16 3 3"]
    betas: Float[Tensor, "k 10"]
    valid: Bool[Tensor, "m"]
    confidence: Float[Tensor, "m 16"]
    """-1 where the estimator does not say."""


@dataclass(frozen=True)
class Corpus:
    """Clean tracks end to end."""

    R: Float[Tensor, "m 16 3 3"]
    betas: Float[Tensor, "k 10"]
    """One shape a track."""
    state: Int[Tensor, "m"]
    first: Int[Tensor, "k"]
    """Where each track starts; it has `length` frames."""
    length: Int[Tensor, "k"]
    fps: float = CAPTURED_FPS
    recorded: Recorded | None = None


@dataclass(frozen=True)
class Labelled:
    """A clean track, its states, and perhaps an estimate of it of the same length."""

    motion: HandMotion
    state: Int[Tensor, "t"] | None = None
    estimate: HandMotion | None = None


def make_corpus(tracks: Iterable[Labelled]) -> Corpus:
    """Tracks put end to end; a missing frame splits a track in two. Parts without an estimate's answer are left out.

    Raises InputError without a valid frame, or when the frame rates differ.
    """
    pieces: dict[str, list[Tensor]] = {name: [] for name in ("R", "state", "betas", "length")}
    said: dict[str, list[Tensor]] = {name: [] for name in ("R", "betas", "valid", "confidence")}
    rates = set()
    for track in tracks:
        motion = track.motion
        rates.add(motion.fps)
        state = torch.full((len(motion),), FREE) if track.state is None else track.state
        edge = torch.nn.functional.pad(motion.valid.int(), (1, 1)).diff()
        for start, end in zip(edge.eq(1).nonzero()[:, 0], edge.eq(-1).nonzero()[:, 0], strict=True):
            if track.estimate is not None and not track.estimate.valid[start:end].any():
                continue
            for name, value in (("R", motion.R), ("state", state)):
                pieces[name].append(value[start:end])
            pieces["betas"].append(motion.with_one_shape().betas[None])
            pieces["length"].append((end - start)[None])
            if track.estimate is not None:
                _add_estimate(said, track.estimate[start:end])
    if not pieces["R"]:
        raise InputError("no track with a valid frame: nothing to learn from")
    if len(rates) > 1:
        raise InputError(f"tracks of {', '.join(f'{fps:g}' for fps in sorted(rates))} fps; make it the same first")
    whole = {name: torch.cat(parts) for name, parts in pieces.items()}
    recorded = Recorded(**{name: torch.cat(parts) for name, parts in said.items()}) if said["R"] else None
    return Corpus(first=whole["length"].cumsum(0) - whole["length"], fps=rates.pop(), recorded=recorded, **whole)


def _add_estimate(said: dict[str, list[Tensor]], estimate: HandMotion) -> None:
    filled = fill_missing(estimate.with_one_shape())
    unknown = torch.full(filled.R.shape[:2], -1.0)
    said["R"].append(filled.R)
    said["betas"].append(filled.betas[None])
    said["valid"].append(estimate.valid)
    sure = unknown if estimate.confidence is None else estimate.confidence
    said["confidence"].append(torch.where(estimate.valid[:, None], sure, unknown))  # as `estimate_frames` has it


def synthetic_corpus(hand: HandModel, clips: int, seed: int, tell: Tell) -> Corpus:
    """Made-up clips of ten seconds with seeds from `seed` on."""

    def make() -> Iterable[Labelled]:
        for k in range(clips):
            clip = synthesize(hand, seed + k, frames=round(10 * MADE_FPS), fps=MADE_FPS)
            tell(k + 1, clips)
            yield Labelled(clip.motion, clip.state)

    return make_corpus(make())


def manipnet_tracks(root: Path, hand: HandModel, cache: Path, tell: Tell, test: bool = False) -> dict[str, HandMotion]:
    """Both hands of every ManipNet take at 120 fps, named `take.side`, fitted once and kept in `cache`.

    Training takes unless `test`: test takes are never trained on, and mug3 is there for validation alone.
    """
    wanted = [take for take in TAKES if (take in TEST_TAKES) == test]
    found = load_motion(cache) if cache.is_file() else {}
    for k, take in enumerate(wanted):
        if f"{take}.right" not in found:
            found |= {f"{take}.{side}": m for side, m in read_take(root, take, hand, stride=1).tracks.items()}
            cache.parent.mkdir(parents=True, exist_ok=True)
            save_motion(cache, found, force=True)
        tell(k + 1, len(wanted))
    return {name: m for name, m in found.items() if name.split(".")[0] in wanted}


def is_validation(name: str) -> bool:
    """Whether a track is kept out of training to decide when to stop."""
    return name.split(".")[0] in VALIDATION_TAKES


def manipnet_states(root: Path, hand: HandModel, tracks: dict[str, HandMotion], tell: Tell) -> dict[str, Tensor]:
    """The motion states of tracks of `manipnet_tracks`, from the object each hand moves; FREE without its mesh."""
    found, things = {}, {}
    for k, (name, motion) in enumerate(tracks.items()):
        take, _ = name.split(".")
        if take not in things:
            read = take_joints(root, take)
            pose = read.object_pose[::LABEL_STRIDE]
            things[take] = read.object_mesh and load_object(read.object_mesh, METRES, pose)
        slow = replace(motion[::LABEL_STRIDE], fps=motion.fps / LABEL_STRIDE)
        if things[take] is None:
            found[name] = torch.full((len(motion),), FREE)
        else:
            state = annotate(slow, hand, things[take]).state
            found[name] = state.repeat_interleave(LABEL_STRIDE)[: len(motion)]
        tell(k + 1, len(tracks))
    return found


def recorded_pairs(path: Path, hand: HandModel) -> list[Labelled]:
    """Pairs of an estimator's output NAME and the truth NAME.truth in a .npz of HandMotion tracks.

    As in refining, pairs of another hand than `hand` are seen at its mean shape. Raises MotionError when the file holds
    no pair, or a pair does not match in frames, frame rate, side or hand.
    """
    tracks = load_motion(path)
    names = [name for name in tracks if name + TRUTH in tracks]
    if not names:
        raise MotionError(f"{path}: no pair of tracks NAME and NAME{TRUTH}; it holds {', '.join(tracks)}")
    pairs = []
    for name in names:
        y, x = tracks[name], tracks[name + TRUTH]
        what = [f for f in ("fps", "side", "hand") if getattr(x, f) != getattr(y, f)]
        what += ["number of frames"] if len(x) != len(y) else []
        if what:
            raise MotionError(f"{path}: {name} and its truth differ in {', '.join(what)}; save them alike")
        if x.hand != hand.name:
            x, y = (replace(m, betas=torch.zeros_like(m.betas)) for m in (x, y))
        pairs.append(Labelled(x, estimate=y))
    return pairs


def save_corpus(folder: Path, corpus: Corpus, card: dict) -> None:
    """Write the arrays and, last of all, the card that says what they are: a folder without it is not finished."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").unlink(missing_ok=True)
    for name in ("R", "betas", "state", "first", "length"):
        np.save(folder / f"{name}.npy", getattr(corpus, name).numpy())
    part = folder / "card.part"
    part.write_text(json.dumps(card | {"fps": corpus.fps}, indent=2) + "\n")
    os.replace(part, folder / "card.json")


def load_corpus(folder: Path, card: dict) -> Corpus | None:
    """The corpus that `save_corpus` wrote with this card, mapped into memory; None when there is no whole one."""
    try:
        found = json.loads((folder / "card.json").read_text())
        fps = found.pop("fps")
        if found != json.loads(json.dumps(card)):
            return None
        names = ("R", "betas", "state", "first", "length")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in names}
    except (OSError, ValueError, KeyError):
        return None
    # mapped for this process alone ("c"): torch wants memory that it may write
    return Corpus(fps=fps, **{name: torch.from_numpy(array) for name, array in arrays.items()})
