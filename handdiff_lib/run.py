"""A training run in a folder: corpora, checkpoints, weights with their card, and a log; it goes on where it stopped."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from handdiff_lib.checkpoint import save_denoiser
from handdiff_lib.data import Corpus, captured_corpus, is_validation, manipnet_tracks, synthetic_corpus
from handdiff_lib.hand import HandModel, load_hand
from handdiff_lib.train import TrainConfig, TrainState, load_state, new_state, save_state, train

CLIPS, FIRST_SEED = 200, 1000
"""Made-up clips of ten seconds, and the seed of the first."""
SAVE_EVERY = 200
"""Steps from one checkpoint to the next."""

Tell = Callable[[str, int, int], None]
"""`tell(what, done, all)` hears of progress."""


def training_run(
    name: str, cfg: TrainConfig, data: Path | None, folder: Path, tell: Tell
) -> Iterator[tuple[TrainState, dict[str, float]]]:
    """Train in `folder`, yielding the state and its losses after every step.

    `folder` gets `checkpoint.safetensors` every SAVE_EVERY steps, `NAME.safetensors` and its card `NAME.json`, which
    are what one refines with, and `log.jsonl`. `data` is a clone of ManipNet or None for made-up motion alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hand, checkpoint = load_hand(), folder / "checkpoint.safetensors"
    state = load_state(checkpoint, cfg, hand) if checkpoint.is_file() else new_state(cfg, hand)
    corpora, share, names = gather(cfg, data, folder.parent / "manipnet.npz", hand, tell)
    began, first = time.time(), state.step
    with (folder / "log.jsonl").open("a") as log:
        for line in train(state, cfg, corpora, share, hand):
            log.write(json.dumps(line) + "\n")
            if state.step % SAVE_EVERY == 0 or state.step == cfg.steps:
                log.flush()
                save_state(checkpoint, state, cfg)
                card = {
                    "name": name,
                    "N": cfg.N,
                    "hand": hand.name,
                    "data": names,
                    "license": "CC-BY-NC-4.0 (trained on ManipNet)" if data else "Apache-2.0 (made-up motion alone)",
                    "command": f"handdiff train --config {name}" + (" --data MANIPNET" if data else ""),
                    "steps": state.step,
                    "seconds": {"this_start": round(time.time() - began), "from_step": first},
                    "train": asdict(cfg),
                }
                save_denoiser(folder / f"{name}.safetensors", state.ema, card)
            yield state, line


def gather(
    cfg: TrainConfig, data: Path | None, cache: Path, hand: HandModel, tell: Tell
) -> tuple[list[Corpus], list[float], list[str]]:
    """What to train on, how often each part is drawn, and what the parts are called."""
    made = synthetic_corpus(hand, CLIPS, FIRST_SEED, lambda done, count: tell("making clips", done, count))
    if data is None:
        return [made], [1.0], ["synthetic"]
    tracks = manipnet_tracks(data, hand, cache, lambda done, count: tell("fitting takes", done, count))
    used = {name: motion for name, motion in tracks.items() if not is_validation(name)}
    return [captured_corpus(list(used.values())), made], [1 - cfg.synthetic, cfg.synthetic], [*used, "synthetic"]
