"""Commands that measure: gains on test takes, the ablation of the paper's Table 3, and speed."""

import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from rich.table import Table

from handdiff_lib import bench as benchmarks
from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.denoiser import Denoiser
from handdiff_lib.hand import HandModel, load_hand
from handdiff_lib.peak import matrix_rate
from handdiff_lib.perturb import NoiseConfig
from handdiff_lib.presets import config_for
from handdiff_lib.protocol import COLUMNS, Clips, Comparison, Refiner, harm, measure
from handdiff_lib.refine import refine
from handdiff_lib.run import Sources, training_run
from handdiff_lib.storage import write_whole
from handdiff_lib.terminal import console, progress_bars, teller
from handdiff_lib.train import ROWS, TrainConfig, ablated

PROFILES = {"hamer-like": NoiseConfig.hamer_like(), "khand-like": NoiseConfig.khand_like()}
FOLDER = Path("outputs/bench")


def bench_takes(
    data: Path, taco: Path | None = None, weights: Path | None = None, draws: int = 2, threads: int = 2
) -> None:
    """Errors on ManipNet's test takes with simulated noise: input, best Gaussian filter, ours, and what is possible.

    Args:
        data: a clone of ManipNet.
        taco: a TACO sequence (.pkl with the .obj of its tool beside it): another subject, hand and thing.
        weights: another model than the one that ships.
        draws: of the noise for each clip.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    hand, (model, card) = load_hand(), load_denoiser(weights)
    refiner = refiner_of(model, card, hand)

    sets = {"test takes cup1 + teapot3": benchmarks.manipnet_clips(data, FOLDER / "manipnet.npz", hand)}
    if taco is not None:
        sets["TACO"] = benchmarks.taco_clips(taco, hand)
    found = {}
    for where, clips in sets.items():
        for name, noise in PROFILES.items():
            title = f"{where}, {name} simulated noise, {len(clips.names)} clips of 128 frames, {draws} draws"
            found[f"{where}, {name}"] = show(measure(clips, noise, refiner, hand, title, draws)).json()
        harmed = harm(clips, refiner, hand)
        found[f"{where}, clean"] = vars(harmed)
        console.print(
            f"{where}, clean input: joints moved by {harmed.moved_mm:.2f} mm, ACCL against the input "
            f"{harmed.accl_mm:.2f}, mean acceleration changed by {harmed.acceleration_mm:+.2f} mm/frame²\n"
        )
    keep("takes.json", {"weights": card["name"], "steps": card["steps"]} | found)


def refiner_of(model: Denoiser, card: dict, hand: HandModel) -> Refiner:
    """Refining as these weights are meant to be used."""
    cfg = config_for(card)
    return lambda motion: refine(motion, model, hand, cfg)


def show(found: Comparison) -> Comparison:
    """Print a comparison: the table, what ours gains with its 95 % interval over clips, and the states."""
    table = Table(*COLUMNS[:1], title=found.title, title_justify="left")
    for column in COLUMNS[1:]:
        table.add_column(column, justify="right")
    for row in found.cells():
        table.add_row(*("–" if cell == "nan" else cell for cell in row))
    console.print(table, width=max(console.width, 132), crop=False)
    for name, (value, low, high) in found.gains().items():
        text = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
        console.print(f"  {name.replace('_', ' '):24} {text}")
    if not math.isnan(found.macro_f1):
        each = ", ".join(f"{name} {value:.2f}" for name, value in found.state_f1.items())
        console.print(f"  states: macro-F1 {found.macro_f1:.2f} ({each}), accuracy {found.state_accuracy:.2f}\n")
    return found


def keep(name: str, found: dict) -> None:
    """Write numbers as JSON beside the other measurements."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1) + "\n"
    write_whole(FOLDER / name, lambda file: file.write(text.encode()), suffix=".json", force=True)
    console.print(f"wrote {FOLDER / name}")


def bench_table3(data: Path, steps: int = 400, seeds: int = 3, batch: int = 16, threads: int = 1) -> None:
    """The rows of the paper's Table 3: each part of the method added in turn, trained and measured alike.

    Small models on a small budget, so that differences show their scatter over seeds; training goes on where it
    stopped.

    Args:
        data: a clone of ManipNet.
        steps: training steps of each model.
        seeds: models a row.
        batch: windows a step.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    hand = load_hand()
    clips = benchmarks.manipnet_clips(data, FOLDER / "manipnet.npz", hand)
    config = TrainConfig.tiny()
    decoder = replace(config.model, decoder="draft", decoder_layers=2, decoder_feedforward=256)
    config = replace(config, model=decoder, steps=steps, batch=batch, warmup=min(config.warmup, steps // 4))
    found: dict[str, list[dict]] = {}
    with progress_bars() as progress:
        tell = teller(progress)
        for row in ROWS:
            for seed in range(seeds):
                cfg = ablated(replace(config, seed=seed), row)
                name, folder = f"{row}-{seed}", FOLDER / "table3" / f"{row}-{seed}"
                for state, _ in training_run(name, cfg, Sources(data), folder, tell):
                    tell(name, state.step, steps)
                model, card = load_denoiser(folder / f"{name}.safetensors")
                found.setdefault(row, []).append(_scores(clips, hand, model, card))
    table = Table("row", title=f"test takes, khand-like, {steps} steps of {batch} windows, {seeds} seeds")
    for key in ("mje", "p_mje", "accl", "kin", "macro_f1"):
        table.add_column(key.replace("_", "-").upper(), justify="right")
    for row, runs in found.items():
        columns = torch.tensor([list(run.values()) for run in runs])
        table.add_row(row, *(f"{m:.2f} ± {s:.2f}" for m, s in zip(columns.mean(0), columns.std(0), strict=True)))
    console.print(table)
    keep("table3.json", {"steps": steps, "batch": batch, "rows": found})


def _scores(clips: Clips, hand: HandModel, model: Denoiser, card: dict) -> dict[str, float]:
    found = measure(clips, PROFILES["khand-like"], refiner_of(model, card, hand), hand, "", draws=1)
    ours = found.rows["handdiff"]
    scores = {key: ours.mean(f"{key}_mm") for key in ("mje", "p_mje", "accl")}
    return scores | {"kin": ours.kin_deg, "macro_f1": found.macro_f1}


def bench_speed(threads: int = 2) -> None:
    """Time to refine 128, 1,280 and 12,800 frames, and windows a second in training, with the share of the peak.

    Args:
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    (model, card), hand = load_denoiser(), load_hand()
    console.print(f"weights {card['name']}, {threads} threads")
    for row in benchmarks.speed(model, hand, config_for(card)):
        console.print(f"{row.frames:6} frames  {row.seconds:7.2f} s  {row.ms_per_frame:6.2f} ms a frame")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for dtype in (torch.float32, torch.bfloat16):
        peak = matrix_rate(dtype, device)
        console.print(f"training on {device}, {dtype}: matrix peak measured {peak / 1e12:.2f} TFLOP/s")
        for name in ("tiny", "base", "paper"):
            done = benchmarks.training_speed(getattr(TrainConfig, name)(), hand, dtype, device)
            console.print(
                f"  {name:6} {done.windows:8.1f} windows of 16 frames a second, {done.flops / peak:6.1%} of the peak"
            )
