"""Measurements anyone can repeat: what refining costs, and what it gains on motion capture with simulated noise."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from handdiff_lib.baselines import GRIDS, SIGMAS, best_gaussian, gaussian
from handdiff_lib.contact import load_object
from handdiff_lib.corpus import is_validation, manipnet_states, manipnet_tracks, synthetic_corpus
from handdiff_lib.denoiser import Denoiser
from handdiff_lib.hand import HandModel
from handdiff_lib.metrics import score
from handdiff_lib.motion import HandMotion
from handdiff_lib.perturb import NoiseConfig, simulated_estimate
from handdiff_lib.presets import PRESETS, config_for
from handdiff_lib.protocol import FPS, Clips, cut_clips
from handdiff_lib.readers.taco import read_single
from handdiff_lib.refine import refine
from handdiff_lib.states import annotate
from handdiff_lib.synth import synthesize
from handdiff_lib.topology import FREE
from handdiff_lib.train import TrainConfig, new_state, train

Pair = tuple[HandMotion, HandMotion]
"""An estimate and the truth it came from."""


def compare(pairs: list[Pair], refined: list[HandMotion], hand: HandModel) -> dict[str, dict[str, float]]:
    """Scores (see `metrics.score`), mean over the pairs, of the input, of a Gaussian filter and of what we refined.

    The filter gets the sigma that is best for the MJE of these very pairs.
    """
    sigma = best_gaussian(pairs, SIGMAS, hand)
    estimates, truths = zip(*pairs, strict=True)
    answers = {
        "input": [gaussian(estimate, 0.0) for estimate in estimates],
        f"Gaussian σ {sigma:g}": [gaussian(estimate, sigma) for estimate in estimates],
        "handdiff": refined,
    }
    table = {}
    for name, motions in answers.items():
        scores = [score(motion, truth, hand) for motion, truth in zip(motions, truths, strict=True)]
        table[name] = {key: sum(s[key] for s in scores) / len(scores) for key in scores[0]}
    return table


def manipnet_clips(root: Path, cache: Path, hand: HandModel, training: bool = False) -> Clips:
    """Both hands of ManipNet's test takes, with states where the clone has the object's mesh (see `manipnet_tracks`).

    With `training` those of the training takes, without mug3 and without states.
    """
    tracks = manipnet_tracks(root, hand, cache, lambda *_: None, test=not training)
    tracks = {name: motion for name, motion in tracks.items() if not is_validation(name)}
    states = {name: torch.full((len(motion),), FREE) for name, motion in tracks.items()}
    if not training:
        states = manipnet_states(root, hand, tracks, lambda *_: None)
    slow = {name: replace(motion[::4], fps=motion.fps / 4) for name, motion in tracks.items()}
    return cut_clips(slow, {name: state[::4] for name, state in states.items()})


def taco_clips(path: Path, hand: HandModel) -> Clips:
    """The hand of a TACO sequence (`.pkl` with the `.obj` of its tool beside it), posed as recorded, of mean shape."""
    recording = read_single(path, hand)
    motion = next(iter(recording.tracks.values()))
    tool, name = recording.objects["tool"], f"taco.{path.stem}"
    state = annotate(motion, hand, load_object(tool.mesh_file(), tool.metres, tool.pose)).state
    return cut_clips({name: motion}, {name: state})


@dataclass(frozen=True)
class RefiningTime:
    """What one way to refine a clip takes."""

    name: str
    frames: int
    seconds: float
    """The median of three, after one to warm up."""
    real_time: float
    """Seconds of motion at 30 frames a second for each second of work."""
    flops: int
    """Multiplications and additions of matrix products; 0 where there is no network."""


def refining_times(
    model: Denoiser, card: dict, hand: HandModel, lengths: tuple[int, ...], quick: bool = False
) -> Iterator[RefiningTime]:
    """Time our presets and the filters on a noisy made-up clip of the first length, the recommended one on all.

    `quick` leaves out presets that ask the network for each frame by itself, which take fifteen times as long.
    """
    truth = synthesize(hand, seed=7, frames=max(lengths)).motion
    noisy = simulated_estimate(truth, hand, NoiseConfig.hamer_like(), seed=7)
    ways: dict[str, Callable[[HandMotion], HandMotion]] = {
        name: partial(refine, model=model, hand=hand, cfg=config_for(card, name))
        for name, preset in PRESETS.items()
        if preset.kept == "all" or not quick
    }
    first = next(iter(ways))
    yield from (_timed(first, ways[first], noisy[:length]) for length in lengths)
    filters = {name: grid[len(grid) // 2] for name, grid in GRIDS.items() if name != "identity"}
    for name, way in (ways | filters).items():
        if name != first:
            yield _timed(name, way, noisy[: lengths[0]])


def _timed(name: str, way: Callable[[HandMotion], HandMotion], motion: HandMotion) -> RefiningTime:
    with FlopCounterMode(display=False) as counter:
        way(motion)
    took = []
    for _ in range(3):
        start = time.perf_counter()
        way(motion)
        took.append(time.perf_counter() - start)
    seconds = median(took)
    return RefiningTime(name, len(motion), seconds, len(motion) / FPS / seconds, counter.get_total_flops())


@dataclass(frozen=True)
class TrainingSpeed:
    """What training reaches."""

    windows: float
    """Windows of 16 frames a second, drawing them included."""
    flops: float
    """Multiplications and additions of matrix products a second."""


def training_speed(
    cfg: TrainConfig, hand: HandModel, dtype: torch.dtype, device: torch.device, steps: int = 5
) -> TrainingSpeed:
    """Train an untrained network for a few steps on made-up clips, after two to warm up."""
    on_gpu = device.type == "cuda"
    batch = 1024 if on_gpu else 512 // cfg.model.window
    cfg = replace(cfg, bf16=dtype == torch.bfloat16, batch=batch, steps=steps + 2, rollout=0.0)
    corpus = synthetic_corpus(hand, 2, 0, lambda *_: None)
    run = train(new_state(cfg, hand), cfg, [corpus], [1.0], hand, Accelerator(cpu=not on_gpu))
    with FlopCounterMode(display=False) as counter:
        next(run)
    next(run)
    start = time.perf_counter()
    for _ in run:
        pass
    seconds = (time.perf_counter() - start) / steps
    return TrainingSpeed(batch * cfg.model.window / 16 / seconds, counter.get_total_flops() / seconds)
