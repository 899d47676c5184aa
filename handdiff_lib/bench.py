"""Measurements anyone can repeat: what refining costs, and what it gains on motion capture with simulated noise."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from handdiff_lib import rotation
from handdiff_lib.baselines import best_gaussian, gaussian
from handdiff_lib.contact import load_object
from handdiff_lib.corpus import manipnet_states, manipnet_tracks, synthetic_corpus
from handdiff_lib.denoiser import Denoiser
from handdiff_lib.hand import HandModel
from handdiff_lib.metrics import score
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.perturb import NoiseConfig, simulated_estimate
from handdiff_lib.protocol import FPS, SIGMAS, Clips, cut_clips
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.refine import RefineConfig, refine
from handdiff_lib.states import annotate
from handdiff_lib.synth import synthesize
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


def manipnet_clips(root: Path, cache: Path, hand: HandModel) -> Clips:
    """Both hands of ManipNet's test takes; states where the clone has the object's mesh (see `manipnet_tracks`)."""
    tracks = manipnet_tracks(root, hand, cache, lambda *_: None, test=True)
    states = manipnet_states(root, hand, tracks, lambda *_: None)
    slow = {name: replace(motion[::4], fps=motion.fps / 4) for name, motion in tracks.items()}
    return cut_clips(slow, {name: state[::4] for name, state in states.items()})


def taco_clips(path: Path, hand: HandModel) -> Clips:
    """A TACO sequence (`.pkl` with the `.obj` of its tool beside it), a *left* hand's MANO parameters on `hand`.

    The pose is the recorded one; the shape is the mean of `hand`, since betas do not carry over from MANO.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or not {"hand_pose", "hand_trans", "obj_pose"} <= set(content):
        raise MotionError(
            f"{path}: no TACO sequence; it needs hand_pose (T, 48), hand_trans (T, 3), obj_pose (T, 4, 4)"
        )
    pose, wrist, thing = (
        torch.from_numpy(np.asarray(content[k])).float() for k in ("hand_pose", "hand_trans", "obj_pose")
    )
    motion = HandMotion(
        R=rotation.mirror(rotation.exp(pose.view(-1, 16, 3))),
        betas=torch.zeros(10),
        transl=rotation.mirror_points(wrist) - hand.J_template[0],
        valid=torch.ones(len(pose), dtype=torch.bool),
        fps=FPS, side="left", hand=hand.name, frame="world",
    )  # fmt: skip
    name = f"taco.{path.stem}"
    state = annotate(motion, hand, load_object(path.with_suffix(".obj"), 1.0, thing)).state
    return cut_clips({name: motion}, {name: state})


@dataclass(frozen=True)
class Speed:
    """What refining a clip of some length takes."""

    frames: int
    seconds: float

    @property
    def ms_per_frame(self) -> float:
        """Milliseconds a frame."""
        return 1000 * self.seconds / self.frames


def speed(
    model: Denoiser, hand: HandModel, cfg: RefineConfig, lengths: tuple[int, ...] = (128, 1280, 12_800)
) -> Iterator[Speed]:
    """Time `refine` on noisy made-up clips of these lengths, after one warm-up."""
    truth = synthesize(hand, seed=7, frames=max(lengths)).motion
    noisy = simulated_estimate(truth, hand, NoiseConfig.hamer_like(), seed=7)
    refine(noisy[:128], model, hand, cfg)
    for length in lengths:
        start = time.perf_counter()
        refine(noisy[:length], model, hand, cfg)
        yield Speed(length, time.perf_counter() - start)


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
