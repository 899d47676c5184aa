"""What refining, scoring, training and the hand layer cost: ratios in one run, and shares of the measured peak."""

import time
from dataclasses import asdict, replace

import torch
from rich.table import Table

from handdiff_lib import bench as benchmarks
from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.framescore import frame_scores
from handdiff_lib.hand import load_hand
from handdiff_lib.layers import BATCHES, layer_times
from handdiff_lib.peak import matrix_rate
from handdiff_lib.perturb import NoiseConfig, simulated_estimate
from handdiff_lib.pool import in_threads
from handdiff_lib.results import keep
from handdiff_lib.synth import synthesize
from handdiff_lib.terminal import console
from handdiff_lib.train import TrainConfig

SCORED = 1280
"""Frames of a sequence whose metrics are timed."""


def bench_speed(quick: bool = False, threads: int = 2) -> None:
    """Refining with every preset and filter, all metrics, training, and our hand layer beside smplx and body-models.

    Args:
        quick: one clip of 128 frames without the slowest preset, few frames to score, no training, small batches.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {"threads": threads, "refining": _refining(quick)}
    found["metrics"] = _scoring(2560 if quick else 20480)
    found["layers"] = _layers(device, BATCHES[:2] if quick else BATCHES)
    if not quick:
        found["training"] = _training(device)
    keep("speed.json", found)


def _refining(quick: bool) -> list[dict]:
    (model, card), hand = load_denoiser(), load_hand()
    peak = matrix_rate(torch.float32, torch.device("cpu"))
    title = f"refining, {card['name']}, CPU; matrix peak measured {peak / 1e9:.0f} GFLOP/s"
    table = Table("", "frames", "ms", "x real time", "times ours", "of the peak", title=title, title_justify="left")
    rows = list(benchmarks.refining_times(model, card, hand, (128,) if quick else (128, 1280), quick))
    for row in rows:
        ratio = row.seconds / row.frames / (rows[0].seconds / rows[0].frames)
        share = f"{row.flops / row.seconds / peak:.1%}" if row.flops else "–"
        numbers = (f"{1000 * row.seconds:.1f}", f"{row.real_time:.0f}", f"{ratio:.3f}", share)
        table.add_row(row.name, str(row.frames), *numbers)
    console.print(table)
    return [asdict(row) for row in rows]


def _scoring(frames: int) -> dict:
    """Every metric of noisy made-up hands with motion states and doubt, sequences of SCORED frames."""
    hand = load_hand()
    clip = synthesize(hand, seed=7, frames=SCORED)
    said = simulated_estimate(clip.motion, hand, NoiseConfig.hamer_like(), seed=7)
    said = replace(said, sigma=torch.full((SCORED, 16), 0.1), state_prob=torch.full((SCORED, 4), 0.25))
    frame_scores("warm up", said, clip.motion, hand, clip.state)
    start, cpu = time.perf_counter(), time.process_time()
    in_threads(lambda k: frame_scores(str(k), said, clip.motion, hand, clip.state), range(frames // SCORED))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    table = Table("", "frames/s", "s for 100,000", "s of CPU for 100,000", title="all metrics", title_justify="left")
    numbers = (frames / seconds, 1e5 * seconds / frames, 1e5 * cpu / frames)
    table.add_row("metrics", *(f"{x:.{digits}f}" for x, digits in zip(numbers, (0, 1, 1), strict=True)))
    console.print(table)
    return {"frames": frames, "seconds": seconds, "cpu_seconds": cpu}


def _layers(device: torch.device, batches: tuple[int, ...]) -> list[dict]:
    title = f"hand layers on {device}: times ours (and ms)"
    rows = list(layer_times(device, batches))
    names = list(dict.fromkeys(row.layer for row in rows))
    table = Table("batch", "", *names, title=title, title_justify="left")
    for k in range(0, len(rows), len(names)):
        each = rows[k : k + len(names)]
        table.add_row(str(each[0].batch), each[0].work, *(f"{r.ratio:.2f} ({r.milliseconds:.2f})" for r in each))
    console.print(table)
    return [asdict(row) for row in rows]


def _training(device: torch.device) -> list[dict]:
    hand, found = load_hand(), []
    for dtype in (torch.float32, torch.bfloat16):
        peak = matrix_rate(dtype, device)
        console.print(f"training on {device}, {dtype}: matrix peak measured {peak / 1e12:.2f} TFLOP/s")
        for name in ("tiny", "base", "paper"):
            done = benchmarks.training_speed(getattr(TrainConfig, name)(), hand, dtype, device)
            share = done.flops / peak
            console.print(f"  {name:6} {done.windows:8.1f} windows of 16 frames a second, {share:6.1%} of the peak")
            found.append({"config": name, "dtype": str(dtype), "windows": done.windows, "share_of_peak": share})
    return found
