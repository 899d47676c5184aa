"""What commands share: the console, tables of scores and progress bars."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

Input = Annotated[Path, tyro.conf.Positional]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]

console = Console(highlight=False, soft_wrap=True)

COLUMNS = {
    "mje_mm": "MJE mm",
    "p_mje_mm": "P-MJE mm",
    "accl_mm": "ACCL mm/frame²",
    "finger_deg": "fingers °",
    "finger_second_difference_deg": "shake °/frame²",
}


def score_rows(scores: dict[str, dict[str, float]]) -> list[dict[str, str]]:
    """A table of scores as text, one row a method."""
    return [{"method": m} | {title: f"{row[key]:.2f}" for key, title in COLUMNS.items()} for m, row in scores.items()]


def print_scores(scores: dict[str, dict[str, float]], title: str) -> None:
    table = Table("method", title=title, title_justify="left")
    for column in COLUMNS.values():
        table.add_column(column, justify="right")
    for row in score_rows(scores):
        table.add_row(*row.values())
    console.print(table)


def progress_bars() -> Progress:
    return Progress(
        TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console,
    )  # fmt: skip


def teller(progress: Progress) -> Callable[[str, int, int], None]:
    """A function (what, done, all) that keeps one bar for each `what`."""
    tasks: dict[str, int] = {}

    def tell(what: str, done: int, count: int) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=count)
        progress.update(tasks[what], completed=done)

    return tell
