"""A training run in a folder: corpora, checkpoints, the best weights with their card, and a log; it goes on where it
stopped."""

import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import save_file

from handdiff_lib.calibration import doubted, fit_scale
from handdiff_lib.checkpoint import load_denoiser, save_denoiser
from handdiff_lib.corpus import (
    Corpus,
    Labelled,
    is_validation,
    load_corpus,
    make_corpus,
    manipnet_states,
    manipnet_tracks,
    recorded_pairs,
    save_corpus,
    synthetic_corpus,
)
from handdiff_lib.denoiser import Denoiser
from handdiff_lib.hand import HandModel, InputError, load_hand
from handdiff_lib.metrics import score
from handdiff_lib.motion import HandMotion
from handdiff_lib.perturb import simulated_estimate
from handdiff_lib.presets import config_for
from handdiff_lib.refine import refine
from handdiff_lib.synth import synthesize
from handdiff_lib.train import NotFinite, TrainConfig, TrainState, load_state, new_state, save_state, train

CLIPS, FIRST_SEED = 300, 1000
"""Made-up clips of ten seconds, and the seed of the first."""
VALIDATION_SEED = 900
"""Of the made-up clips that a run without captured motion is judged by."""
SAVE_EVERY = 200
"""Steps from one checkpoint to the next."""

Tell = Callable[[str, int, int], None]
"""`tell(what, done, all)` hears of progress."""


@dataclass(frozen=True)
class Sources:
    """What to learn from."""

    manipnet: Path | None = None
    """A clone of ManipNet."""
    recorded: Path | None = None
    """Pairs of an estimator's output and the truth, see `corpus.recorded_pairs`; all there is, or beside ManipNet."""
    start: Path | None = None
    """Weights to start from (fine-tuning)."""


@dataclass
class Gathered:
    """Corpora, how often each is drawn, their names, and the clips that judge: estimates with their truths."""

    corpora: list[Corpus] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    judges: list[tuple[HandMotion, HandMotion]] = field(default_factory=list)


def training_run(
    name: str, cfg: TrainConfig, sources: Sources, folder: Path, tell: Tell, accelerator: Accelerator | None = None
) -> Iterator[tuple[TrainState, dict[str, float]]]:
    """Train in `folder`, yielding the state and its losses after every step.

    Every SAVE_EVERY steps, at the end and when the caller stops, `folder` gets `checkpoint.safetensors`; every
    SAVE_EVERY steps the moving average is judged (`judge`), and the best so far are `NAME.safetensors` with their card
    `NAME.json`, which are what one refines with. `log.jsonl` has a line a step. Raises InputError when the disk is full
    (the last checkpoint stays), and NotFinite when the loss breaks (the batch is written beside the log).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be a folder ({error.strerror}); choose another --output") from None
    hand, checkpoint, log = load_hand(), folder / "checkpoint.safetensors", folder / "log.jsonl"
    found = checkpoint.is_file()
    state = load_state(checkpoint, cfg, hand) if found else _start(cfg, sources, hand)
    is_main = accelerator is None or accelerator.is_main_process
    with accelerator.main_process_first() if accelerator else nullcontext():  # the others find what it has made
        gathered = gather(cfg, sources, folder.parent / "corpora", hand, tell)
    best = _best(folder / f"{name}.json") if found else float("inf")
    began, first, saved = time.time(), state.step, state.step
    if is_main:
        _keep(lambda: _forget(log, state.step))
    try:
        for line in train(state, cfg, gathered.corpora, gathered.share, hand, accelerator):
            if is_main and (state.step % SAVE_EVERY == 0 or state.step == cfg.steps):
                _keep(lambda: save_state(checkpoint, state, cfg))
                saved = state.step
                verdict, scale = judge(state.ema, hand, gathered.judges, cfg)
                line |= verdict
                if _error(verdict) < best:
                    best = _error(verdict)
                    seconds = {"this_start": round(time.time() - began), "from_step": first}
                    card = make_card(name, cfg, sources, gathered.names, hand)
                    card |= {"steps": state.step, "seconds": seconds, "judged": verdict, "sigma_scale": scale}
                    _keep(lambda card=card: save_denoiser(folder / f"{name}.safetensors", state.ema, card))
            if is_main:
                _keep(lambda line=line: _append(log, line))
            yield state, line
    except NotFinite as error:
        tensors = {"y": error.batch.y.R, "truth": error.batch.target.R, "betas": error.batch.target.betas}
        path = folder / "not_finite.safetensors"
        _keep(lambda: save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, path))
        raise InputError(f"{error}; it is in {path}, the run up to there in {checkpoint}") from None
    finally:
        if is_main and state.step > saved:
            _keep(lambda: save_state(checkpoint, state, cfg))


def _keep(save: Callable[[], None]) -> None:
    """Save, and say so in one line when the disk does not take it: what was there before is still there."""
    try:
        save()
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the run could not be written ({reason}); its last checkpoint stands. Free some space and start again"
        ) from None


def _append(log: Path, line: dict[str, int | float]) -> None:
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _forget(log: Path, step: int) -> None:
    """Drop what a run logged beyond its last checkpoint, a line cut short among it: it is done again."""
    kept = []
    for line in log.read_text().splitlines() if log.is_file() else ():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            break
    part = log.with_suffix(".part")
    part.write_text("".join(kept))
    part.replace(log)


def _start(cfg: TrainConfig, sources: Sources, hand: HandModel) -> TrainState:
    """A new state, with the weights to start from where there are any."""
    state = new_state(cfg, hand)
    if sources.start is not None:
        model, _ = load_denoiser(sources.start)
        if model.cfg != cfg.model:
            raise InputError(f"{sources.start} are weights of another network; choose the --config they came from")
        state.model.load_state_dict(model.state_dict())
        state.ema.load_state_dict(model.state_dict())
    return state


def _error(verdict: dict[str, float]) -> float:
    """What decides between two checkpoints, mm."""
    return verdict["val_mje_mm"] + verdict["val_p_mje_mm"]


def _best(card: Path) -> float:
    try:
        return _error(json.loads(card.read_text())["judged"])
    except (OSError, KeyError, ValueError):
        return float("inf")


def make_card(name: str, cfg: TrainConfig, sources: Sources, names: list[str], hand: HandModel) -> dict:
    """What weights are: the model card beside them."""
    license = "Apache-2.0 (made-up motion alone)"
    if sources.manipnet:
        license = "CC-BY-NC-4.0 (trained on ManipNet)"
    if (sources.recorded and not sources.manipnet) or sources.start:
        license = "that of the recordings and weights it was trained from"
    words = (("--data MANIPNET", sources.manipnet), ("--y PAIRS", sources.recorded), ("--start", sources.start))
    return {
        "name": name,
        "N": cfg.N,
        "space": cfg.space,
        "doubt": "network",
        "hand": hand.name,
        "data": names,
        "license": license,
        "intended_use": "research on hand motion: refining per-frame estimates of one hand at a time",
        "command": " ".join(["handdiff train", f"--config {name}", *(word for word, given in words if given)]),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads"
        if not torch.cuda.is_available()
        else torch.cuda.get_device_name(),
        "train": asdict(cfg),
    }


def gather(cfg: TrainConfig, sources: Sources, cache: Path, hand: HandModel, tell: Tell) -> Gathered:
    """What to train on, from `cache` where it was made before."""
    made = Gathered()
    pairs = [] if sources.recorded is None else recorded_pairs(sources.recorded, hand)
    if pairs and sources.manipnet is None:
        made.corpora, made.share, made.names = [make_corpus(pairs[:-1] or pairs)], [1.0], [sources.recorded.name]
        made.judges = [(pairs[-1].estimate[:512], pairs[-1].motion[:512])]
        return made
    if sources.manipnet is not None:  # first of all: a clone that is not there shall not be noticed after minutes
        tracks = manipnet_tracks(sources.manipnet, hand, cache / "manipnet.npz", _about(tell, "fitting takes"))
        used = {name: motion for name, motion in tracks.items() if not is_validation(name)}
        card = {"kind": "manipnet", "tracks": list(used), "hand": hand.name, "version": 2}

        def captured() -> Corpus:
            states = manipnet_states(sources.manipnet, hand, used, _about(tell, "finding states"))
            return make_corpus(Labelled(m, states[n]) for n, m in used.items())

        corpus = _kept(cache / "manipnet", card, captured)
        made.corpora, made.share, made.names = [corpus], [1 - cfg.synthetic], list(used)
        if pairs:
            made.corpora, made.names = [corpus, make_corpus(pairs)], [*used, sources.recorded.name]
            made.share = [1 - cfg.synthetic - cfg.recorded, cfg.recorded]
        truths = [
            replace(m[::4][k : k + 256], fps=30.0)
            for n, m in tracks.items()
            if is_validation(n)
            for k in range(0, len(m) // 4 - 255, 256)
        ]
    else:
        truths = [synthesize(hand, VALIDATION_SEED + k, frames=256).motion for k in range(6)]
    card = {"kind": "synthetic", "clips": CLIPS, "seed": FIRST_SEED, "hand": hand.name, "version": 2}
    corpus = _kept(
        cache / "synthetic", card, lambda: synthetic_corpus(hand, CLIPS, FIRST_SEED, _about(tell, "making clips"))
    )
    made.corpora, made.share = [*made.corpora, corpus], [*made.share, 1.0 - sum(made.share)]
    made.names = [*made.names, "synthetic"]
    made.judges = [(simulated_estimate(truth, hand, cfg.draw.noise, seed=k), truth) for k, truth in enumerate(truths)]
    return made


def _kept(folder: Path, card: dict, make: Callable[[], Corpus]) -> Corpus:
    """The corpus of this card, made where the folder does not hold it; read from there, so that it is mapped."""
    corpus = load_corpus(folder, card)
    if corpus is None:
        save_corpus(folder, make(), card)
        corpus = load_corpus(folder, card)
    return corpus


def _about(tell: Tell, what: str) -> Callable[[int, int], None]:
    return lambda done, count: tell(what, done, count)


@torch.no_grad()
def judge(
    model: Denoiser, hand: HandModel, pairs: list[tuple[HandMotion, HandMotion]], cfg: TrainConfig
) -> tuple[dict[str, float], float]:
    """How well truths are recovered from their estimates (`val`), how much they are changed themselves (`clean`), and
    the factor that makes the doubt of the recovered ones fit their errors."""
    device = model.pose_y.weight.device
    model = model.to("cpu")
    walk = config_for({"N": cfg.N, "space": cfg.space})
    totals: dict[str, float] = {}
    answers = [refine(estimate, model, hand, walk) for estimate, _ in pairs]
    for answer, (_, truth) in zip(answers, pairs, strict=True):
        for name, motion in (("val", answer), ("clean", refine(truth, model, hand, walk))):
            for key, value in score(motion, truth, hand).items():
                totals[f"{name}_{key}"] = totals.get(f"{name}_{key}", 0.0) + value / len(pairs)
    model.to(device)
    return totals, fit_scale(doubted(answers, [truth for _, truth in pairs]))
