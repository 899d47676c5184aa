"""Results of the benchmark for the eye and for the record: a table in the terminal, JSON, and a page of the book."""

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

from handdiff_lib.loop import BINS, LoopScores
from handdiff_lib.protocol import INPUT, Comparison
from handdiff_lib.published import Published
from handdiff_lib.scorecard import Estimate, Scorecard
from handdiff_lib.storage import write_whole
from handdiff_lib.terminal import console

FOLDER = Path("outputs/bench")
COLUMNS = {
    "mje_mm": "MJE mm", "p_mje_mm": "P-MJE mm", "mve_mm": "MVE mm", "f15": "F@15", "auc": "AUC",
    "accl_mm": "ACCL mm/f²", "kin_deg": "KIN °", "sta_deg2": "STA °²",
}  # fmt: skip
"""Scores that a table shows; the JSON has them all."""
WITH_INTERVAL = ("mje_mm", "p_mje_mm", "accl_mm")


def cell(value: Estimate, interval: bool) -> str:
    """A mean to three digits, with its interval if wanted and known."""
    if math.isnan(value.mean):
        return "–"
    digits = 2 if abs(value.mean) < 100 else 1
    text = f"{value.mean:.{digits}f}"
    return (
        text if math.isnan(value.low) or not interval else f"{text} [{value.low:.{digits}f}, {value.high:.{digits}f}]"
    )


def rows(cards: Iterable[Scorecard], zero_accl_mm: float) -> list[list[str]]:
    """The table's cells: name, scores, how many times the ACCL of no acceleration, and macro-F1 of the states."""
    table = []
    for card in cards:
        scores = [cell(card.mean(key), key in WITH_INTERVAL) for key in COLUMNS]
        macro = card.state_f1().get("macro")
        states = f"{macro.mean:.2f}" if macro else "–"
        table.append([card.name, *scores, f"{card.mean('accl_mm').mean / zero_accl_mm:.2f}", states])
    return table


HEADS = ("method", *COLUMNS.values(), "ACCL / zero", "states F1")


def show(found: Comparison) -> Comparison:
    """Print the table, and what the method called handdiff gains."""
    table = Table(HEADS[0], title=found.title, title_justify="left")
    for head in HEADS[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows(found.cards.values(), found.zero_accl_mm):
        table.add_row(*row)
    print_wide(table)
    for name, (value, low, high) in found.gains().items():
        console.print(f"  handdiff, {name.replace('_', ' '):24} {value:+.3f} [{low:+.3f}, {high:+.3f}]")
    given = found.cards[INPUT]
    console.print(
        f"  truth: ACCL of no acceleration {found.zero_accl_mm:.2f}, KIN {cell(given.mean('truth_kin_deg'), False)}, "
        f"STA {cell(given.mean('truth_sta_deg2'), False)}; missed frames {given.miss_rate:.1%}\n"
    )
    return found


def show_occlusion(found: LoopScores) -> None:
    """Print a real estimator's errors, over all and in each bin of the hand's hidden share."""
    shares = [f"{low:.0%}-{high:.0%}" for low, high in pairwise(BINS)]
    title = (
        f"MediaPipe on rendered ManipNet test takes: P-MJE by hidden share of the hand; found {found.detected[0]} of "
    )
    title += f"{found.detected[1]} hands"
    table = Table("method", "MJE mm", "P-MJE mm", "ACCL mm/f²", *shares, title=title, title_justify="left")
    for row in found.rows.values():
        told = []
        for key in ("mje_mm", "p_mje_mm", "accl_mm"):
            low, high = row.interval(key)
            told.append(f"{row.mean(key):.1f} [{low:.1f}, {high:.1f}]")
        table.add_row(row.name, *told, *(f"{x:.1f}" for x in row.by_hidden("p_mje_mm")))
    seen = (f"{found_here}/{there}" for found_here, there in found.detected_by_hidden)
    table.add_row("found", "", "", "", *seen)
    print_wide(table)


def print_wide(table: Table) -> None:
    """Print a table whole, wider than the terminal if it must be: wrapped lines are easier to read than cut numbers."""
    Console(width=max(console.width, 172), soft_wrap=True).print(table)


def show_published(table: Published) -> None:
    """Print numbers of others, said to be so."""
    shown = Table(
        "published", *table.columns, title=f"published, not measured here: {table.source}", title_justify="left"
    )
    for name, values in table.rows.items():
        shown.add_row(name, *("–" if value is None else f"{value:g}" for value in values))
    print_wide(shown)


def provenance(seed: int, *data: Tensor) -> dict[str, str | int]:
    """What a result came from: command, commit where there is one, seed, and a hash of the test data."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    hashed = hashlib.sha256(b"".join(x.contiguous().cpu().numpy().tobytes() for x in data)).hexdigest()
    return {"command": " ".join(["handdiff", *words]), "commit": _commit(), "seed": seed, "data_sha256": hashed[:16]}


def _commit() -> str:
    """Of the checkout that the library runs from; empty outside one."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip()


def keep(name: str, found: dict) -> None:
    """Write numbers as JSON beside the other measurements."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1) + "\n"
    write_whole(FOLDER / name, lambda file: file.write(text.encode()), suffix=".json", force=True)
    console.print(f"wrote {FOLDER / name}")
