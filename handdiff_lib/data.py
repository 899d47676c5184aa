"""Clean motion to learn from, captured and made up, and batches of noisy windows of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.baselines import gaussian
from handdiff_lib.denoiser import Frames, smoother_turns, steady_frame, to_steady
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.losses import Target
from handdiff_lib.motion import HandMotion
from handdiff_lib.perturb import NoiseConfig, perturb
from handdiff_lib.readers.manipnet import TAKES, TEST_TAKES, VALIDATION_TAKES, read_take
from handdiff_lib.storage import load_motion, save_motion
from handdiff_lib.synth import synthesize
from handdiff_lib.topology import CHAIN, FREE, REACH, RELEASE

FPS = 120.0
"""Frame rate of the stored tracks; training picks every second to every sixth frame."""
SMOOTH = 3.0
"""Captured truth is smoothed with this sigma in frames (25 ms), as the paper smooths its data (DIP section 4.1)."""


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


def captured_corpus(tracks: list[HandMotion]) -> Corpus:
    """Captured tracks, smoothed; they carry no states."""
    return make_corpus([gaussian(motion, SMOOTH) for motion in tracks], [None] * len(tracks))


def make_corpus(tracks: list[HandMotion], states: list[Tensor | None]) -> Corpus:
    """Tracks put end to end; a missing frame splits a track in two."""
    pieces, labels, betas = [], [], []
    for motion, state in zip(tracks, states, strict=True):
        state = torch.full((len(motion),), FREE) if state is None else state
        edge = torch.nn.functional.pad(motion.valid.int(), (1, 1)).diff()
        for start, end in zip(edge.eq(1).nonzero()[:, 0], edge.eq(-1).nonzero()[:, 0], strict=True):
            pieces.append(motion.R[start:end])
            labels.append(state[start:end])
            betas.append(motion.betas)
    length = torch.tensor([len(p) for p in pieces])
    return Corpus(torch.cat(pieces), torch.stack(betas), torch.cat(labels), length.cumsum(0) - length, length)


def synthetic_corpus(hand: HandModel, clips: int, seed: int, tell: Callable[[int, int], None]) -> Corpus:
    """Made-up clips of ten seconds; `tell(done, all)` reports progress."""
    made = []
    for k in range(clips):
        made.append(synthesize(hand, seed + k, frames=1200, fps=FPS))
        tell(k + 1, clips)
    return make_corpus([clip.motion for clip in made], [clip.state for clip in made])


def manipnet_tracks(
    root: Path, hand: HandModel, cache: Path, tell: Callable[[int, int], None], test: bool = False
) -> dict[str, HandMotion]:
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


@dataclass(frozen=True)
class Batch:
    """Windows to learn from."""

    y: Frames
    target: Target


CONTEXT = 12
"""Frames before and after the window that the noise and the steady frame see."""


def draw_batch(
    corpora: list[Corpus],
    share: list[float],
    hand: HandModel,
    noise: NoiseConfig,
    size: int,
    window: int,
    generator: torch.Generator,
) -> Batch:
    """A batch of perturbed windows; the same generator state gives the same batch.

    Augmented by frame rate (20 to 60 fps), time reversal, other wrists and fingers of the same batch, and constant
    changes of every joint. Severity is drawn from [0, 1], a fifth of the windows is left clean.
    """

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    frames = window + 2 * CONTEXT
    stride = torch.tensor([2, 3, 4, 4, 4, 5, 6])[torch.randint(7, (size,), generator=generator)]
    which = torch.multinomial(torch.tensor(share), size, replacement=True, generator=generator)
    R, betas, state = [], [], []
    for k in range(size):
        corpus = corpora[int(which[k])]
        span = (frames - 1) * int(stride[k]) + 1
        room = (corpus.length - span + 1).clamp(min=0)
        if not room.any():
            raise InputError(f"no track has the {span} frames that a window and its surroundings need")
        track = int(torch.multinomial(room.float(), 1, generator=generator))
        start = corpus.first[track] + torch.randint(int(room[track]), (1,), generator=generator)
        index = start + torch.arange(frames) * stride[k]
        R.append(corpus.R[index])
        state.append(corpus.state[index])
        betas.append(corpus.betas[track])
    R, betas, state = torch.stack(R), torch.stack(betas), torch.stack(state)

    R, state = _reversed(R, state, rand(size) < 0.5)
    R = _recombined(R, rand(size, 6))
    widen = 0.14 * rand(size, 1, 1, 1) * torch.randn(size, 1, 15, 3, generator=generator)
    widen = widen * (rand(size, 1, 1, 1) < 0.6)
    R = torch.cat([R[:, :, :1], R[:, :, 1:] @ rotation.exp(widen)], dim=2)
    betas = betas + 0.5 * torch.randn(size, 10, generator=generator)

    severity = (rand(size) * 1.25 - 0.25).clamp(min=0)
    estimate = perturb(R, betas, hand, noise, severity, generator)
    frame = steady_frame(estimate.R[:, :, 0], estimate.valid)
    cut = torch.randint(2 * CONTEXT + 1, (size, 1), generator=generator) + torch.arange(window)
    row = torch.arange(size)[:, None]
    seen = to_steady(estimate.R, frame)[row, cut]
    turns = smoother_turns(estimate.R, estimate.valid)[row, cut]
    y = Frames(seen, estimate.betas, estimate.valid[row, cut], estimate.confidence[row, cut], turns)
    return Batch(y, Target(to_steady(R, frame)[row, cut], betas, state[row, cut]))


def _reversed(R: Tensor, state: Tensor, backwards: Tensor) -> tuple[Tensor, Tensor]:
    """Motions and states, some of them played backwards: a reach becomes a release."""
    swapped = state.clone()
    swapped[state == REACH], swapped[state == RELEASE] = RELEASE, REACH
    R = torch.where(backwards[:, None, None, None, None], R.flip(1), R)
    return R, torch.where(backwards[:, None], swapped.flip(1), state)


def _recombined(R: Tensor, dice: Float[Tensor, "b 6"]) -> Tensor:
    """Some wrists (one in three) and fingers (one in eight) exchanged with those of the next motion in the batch."""
    other = R.roll(1, 0)
    R = R.clone()
    for k, joints in enumerate([(0,), *CHAIN.values()]):
        take = (dice[:, k] < (1 / 3 if k == 0 else 1 / 8)).nonzero()[:, 0]
        for joint in joints:
            R[take, :, joint] = other[take, :, joint]
    return R
