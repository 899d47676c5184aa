"""The part of the benchmark that trains: learned baselines, and the rows of the paper's Table 3."""

from dataclasses import replace
from math import isfinite
from pathlib import Path

import torch
from rich.table import Table

from handdiff_lib.contestants import refiner_of
from handdiff_lib.hand import load_hand
from handdiff_lib.protocol import OURS, SEED, compare, simulated
from handdiff_lib.published import TABLE3
from handdiff_lib.results import FOLDER, keep, print_wide, provenance, show_published
from handdiff_lib.rival_runs import save_rival, train_rival
from handdiff_lib.rivals import NAMES, RivalConfig
from handdiff_lib.run import Sources, gather, training_run
from handdiff_lib.terminal import console, progress_bars, teller
from handdiff_lib.train import ROWS, TrainConfig, ablated, load_state
from handdiff_lib.trials import PROFILES, QUICK, RIVALS, held_out

SAME_BUDGET = {"diffusion": TrainConfig.base().N, "deterministic": 0}
"""Ours and its deterministic twin, which differ in the number of diffusion steps alone."""


def bench_rivals(
    data: Path, y: Path | None = None, steps: int = 1500, batch: int = 4, output: Path = RIVALS, threads: int = 1
) -> None:
    """Train the learned baselines, and ours and its deterministic twin beside them: same data, clips, steps.

    Rivals see the clips in windows of 32 frames, about as long as their authors' are, ours whole.

    Args:
        data: a clone of ManipNet.
        y: pairs of an estimator's output and the truth, for all of them beside the simulated noise.
        steps: training steps of each model.
        batch: clips a step.
        output: folder for their weights; what is there already is kept.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    hand, budget = load_hand(), replace(TrainConfig.base(), steps=steps, batch=batch, shorter=0.0)
    with progress_bars() as progress:
        tell = teller(progress)
        gathered = gather(budget, Sources(data, y), output / "ours" / "corpora", hand, tell)
        for name in NAMES:
            path = output / f"{name}.safetensors"
            if path.is_file():
                continue
            cfg = RivalConfig.usual(name)
            cut = replace(budget, batch=batch * budget.model.window // cfg.window)
            for trained, line in train_rival(cfg, cut, gathered.corpora, gathered.share, hand):
                tell(name, line["step"], steps)
                model = trained
            save_rival(path, model, {"steps": steps, "batch": batch, "data": gathered.names})
        for name, N in SAME_BUDGET.items():
            cfg, folder = replace(budget, N=N, bf16=True), output / "ours" / name
            for state, _ in training_run(name, cfg, Sources(data, y), folder, tell):
                tell(name, state.step, steps)
    console.print(f"learned baselines are in {output}; compare them with: handdiff bench table1 --data MANIPNET")


KEYS = {"mje_mm": "MJE mm", "p_mje_mm": "P-MJE mm", "accl_mm": "ACCL mm/f²", "kin_deg": "KIN °", "sta_deg2": "STA °²"}


def show_ablation(found: dict[str, list[dict[str, float]]], title: str) -> None:
    """Print the mean and the scatter over seeds of every row; a score that the takes do not have is left out."""
    scores = list(next(iter(found.values()))[0])
    table = Table("row", *(KEYS.get(key, "states F1") for key in scores), title=title, title_justify="left")
    for row, runs in found.items():
        columns = torch.tensor([[run[key] for key in scores] for run in runs])
        spread = columns.std(0) if len(runs) > 1 else torch.full_like(columns[0], torch.nan)
        table.add_row(row, *(f"{m:.2f} ± {s:.2f}" for m, s in zip(columns.mean(0), spread, strict=True)))
    print_wide(table)


def bench_table3(
    data: Path, steps: int = 300, seeds: int = 3, batch: int = 16, quick: bool = False, threads: int = 1
) -> None:
    """The rows of the paper's Table 3: each part of the method added in turn, trained and measured alike.

    Small models on a small budget, so that differences show their scatter over seeds; training goes on where it
    stopped. All answer with what their last step left, and as if no input were clean: after so few steps it is a matter
    of chance what is taken for clean, and that would decide more than the rows do.

    Args:
        data: a clone of ManipNet.
        steps: training steps of each model.
        seeds: models a row.
        batch: windows a step.
        quick: five steps, one seed and eight clips: to see it run.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    if quick:
        steps, seeds = 5, 1
    hand, config = load_hand(), TrainConfig.tiny()
    clips = held_out(data, hand).first(QUICK if quick else 1000)
    decoder = replace(config.model, decoder="draft", decoder_layers=2, decoder_feedforward=256)
    config = replace(config, model=decoder, steps=steps, batch=batch, warmup=min(config.warmup, steps // 4))
    cases = simulated(clips, PROFILES["khand-like"], hand, draws=1)
    found: dict[str, list[dict[str, float]]] = {}
    with progress_bars() as progress:
        tell = teller(progress)
        for row in ROWS:
            for seed in range(seeds):
                cfg = ablated(replace(config, seed=seed), row)
                name, folder = f"{row}-{seed}", FOLDER / "table3" / f"{steps}" / f"{row}-{seed}"
                for state, _ in training_run(name, cfg, Sources(data), folder, tell):
                    tell(name, state.step, steps)
                last = load_state(folder / "checkpoint.safetensors", cfg, hand).ema
                model = refiner_of(last, {"N": cfg.N, "space": cfg.space}, hand, leave_clean=False)
                card = compare(cases, {OURS: model}, hand, name).cards[OURS]
                scores = {key: card.mean(key).mean for key in KEYS} | {"macro_f1": card.state_f1()["macro"].mean}
                found.setdefault(row, []).append({key: value for key, value in scores.items() if isfinite(value)})
    show_ablation(found, f"test takes, khand-like simulated noise: {steps} steps of {batch} windows, {seeds} seeds")
    show_published(TABLE3)
    keep("table3.json", provenance(SEED, clips.R) | {"steps": steps, "batch": batch, "rows": found})
