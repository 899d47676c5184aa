"""The command line. Bad input ends with one line that says what is wrong and the cure, and exit code 2."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from handdiff_lib import bench as benchmarks
from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.contact import load_object
from handdiff_lib.diffusion import Rule
from handdiff_lib.hand import DATA, InputError, load_hand
from handdiff_lib.mano_file import import_mano
from handdiff_lib.metrics import rotation_error_deg, second_difference_deg
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.perturb import NoiseConfig
from handdiff_lib.readers import read_tracks
from handdiff_lib.readers.manipnet import METRES, TEST_TAKES, read_folder
from handdiff_lib.refine import RefineConfig
from handdiff_lib.refine import refine as refine_track
from handdiff_lib.report import report
from handdiff_lib.run import training_run
from handdiff_lib.states import annotate as annotate_track
from handdiff_lib.storage import check_output, load_motion, save_motion
from handdiff_lib.topology import FREE, STATES
from handdiff_lib.train import TrainConfig

Input = Annotated[Path, tyro.conf.Positional]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]

BEFORE, TRUTH = ".before", ".truth"
"""Endings of track names: the estimate that a refined track came from, and the truth where there is one."""

console = Console(highlight=False, soft_wrap=True)


def refine(
    input: Input,
    output: Output,
    fps: float | None = None,
    side: Side | None = None,
    weights: Path | None = None,
    rule: Rule = "deterministic",
    stride: int = 4,
    seed: int = 0,
    force: bool = False,
) -> None:
    """Refine the hand motion in a file: estimator output in, a HandMotion .npz out.

    Args:
        input: HandMotion .npz, HaMeR or WiLoR parameters, Dyn-HaMR results, keypoints, or a ManipNet take folder.
        output: where to write the refined tracks (.npz); the estimates stay beside them as NAME.before.
        fps: frames a second, where the file does not say.
        side: which hand the file shows, where it does not say; otherwise refine only this hand.
        weights: another model than the one that ships.
        rule: how to walk back: without new noise, the paper's posterior, or the released demo's re-noising.
        stride: frames from one window to the next; smaller asks more windows about each frame and is slower.
        seed: of the noise; the same seed gives the same motion.
        force: replace the output if it exists.
    """
    output = check_output(output, (".npz",), force)
    model, card = load_denoiser(weights)
    hand = load_hand()
    tracks = {k: m for k, m in read_tracks(input, fps, side).items() if not k.endswith((BEFORE, TRUTH))}
    if not tracks:
        raise MotionError(f"{input}: it holds only estimates that were refined before; give the original file")
    console.print(f"read     {input}: " + ", ".join(f"{k} {len(m)} frames at {m.fps:g} fps" for k, m in tracks.items()))
    cfg = RefineConfig(N=card["N"], rule=rule, stride=stride, seed=seed)
    written: dict[str, HandMotion] = {}
    for name, motion in tracks.items():
        if not motion.valid.any():
            console.print(f"{name:8} no hand in any frame: left out")
            continue
        start = time.perf_counter()
        refined = refine_track(motion, model, hand, cfg)
        console.print(f"{name:8} {describe(motion, refined, time.perf_counter() - start)}")
        written |= {name: refined, name + BEFORE: motion}
    if not written:
        raise MotionError(f"{input}: no track has a valid frame; the estimator found no hand")
    save_motion(output, written, force)
    console.print(f"wrote    {output}; to look at it: handdiff view {output} -o {output.with_suffix('.html')}")


def describe(before: HandMotion, after: HandMotion, seconds: float) -> str:
    """What refining did to a track, in one line."""
    missing, filled = int((~before.valid).sum()), int((after.valid & ~before.valid).sum())
    both = before.valid & after.valid
    change = rotation_error_deg(before.R[both], after.R[both]).mean()
    parts = [f"{missing} missing, {filled} filled", f"mean change {change:.1f}°"]
    if len(before) > 2:
        inner = before.valid[:-2] & before.valid[1:-1] & before.valid[2:]
        shake = [second_difference_deg(m.R[:, 1:])[inner].mean() for m in (before, after)]
        parts.append(f"finger shake {shake[0]:.2f} to {shake[1]:.2f} °/frame²")
    return ", ".join([*parts, f"{seconds:.2f} s"])


def view(input: Input, output: Output, hand: Path | None = None, force: bool = False) -> None:
    """Write a before/after page (.html) that plays in any browser, without a network.

    Args:
        input: a .npz written by refine.
        output: the page to write.
        hand: an imported hand (see `handdiff hand import`) instead of the open hand.
        force: replace the output if it exists.
    """
    output = check_output(output, (".html",), force)
    tracks = load_motion(input)
    after = {k: m for k, m in tracks.items() if k + BEFORE in tracks}
    if not after:
        raise MotionError(f"{input}: no refined track with its estimate; make one with: handdiff refine IN -o {input}")
    truth = {k: tracks[k + TRUTH] for k in after if k + TRUTH in tracks}
    report(output, {k: tracks[k + BEFORE] for k in after}, after, load_hand(hand), truth, force=force)
    console.print(f"wrote {output}; open it in a browser")


def train(
    config: Literal["tiny", "base", "paper"] = "tiny",
    data: Path | None = None,
    output: Output = Path("outputs/train"),
    steps: int | None = None,
    threads: int = 2,
) -> None:
    """Train a denoiser; started again, it goes on where it stopped.

    Args:
        config: size of the network and of the run.
        data: a clone of ManipNet; without it only made-up motion is used.
        output: folder for checkpoints, weights (NAME.safetensors and .json) and the log.
        steps: another number of steps.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    cfg = getattr(TrainConfig, config)()
    cfg = cfg if steps is None else replace(cfg, steps=steps)
    with _progress() as progress:
        tell = _teller(progress)
        for state, line in training_run(config, cfg, data, output / config, tell):
            tell("training", state.step, cfg.steps)
            if not console.is_terminal and state.step % 50 == 0:  # a log file shows no bar
                console.print(f"step {state.step} of {cfg.steps}, loss {line['loss']:.3f}")
    weights = output / config / f"{config}.safetensors"
    console.print(f"wrote {weights}; to use it: handdiff refine IN -o OUT.npz --weights {weights}")


def demo(output: Output = Path("outputs/demo")) -> None:
    """Refine the clip that ships, print what it gained against the truth, and write a page to look at.

    Args:
        output: folder for report.html.
    """
    output.mkdir(parents=True, exist_ok=True)
    clip, hand, (model, _) = load_motion(DATA / "clips" / "demo.npz"), load_hand(), load_denoiser()
    names = [name for name in clip if not name.endswith(TRUTH)]
    pairs = [(clip[name], clip[name + TRUTH]) for name in names]
    console.print(f"refining {', '.join(names)}: {len(pairs[0][0])} frames a hand, made-up motion with simulated noise")
    start = time.perf_counter()
    after = {name: refine_track(clip[name], model, hand) for name in names}
    seconds = time.perf_counter() - start
    scores = benchmarks.compare(pairs, list(after.values()), hand)
    _print_scores(scores, f"against the truth ({seconds:.1f} s for {len(names) * len(pairs[0][0])} frames)")
    page = output / "report.html"
    before, truth = {n: clip[n] for n in names}, {n: clip[n + TRUTH] for n in names}
    report(page, before, after, hand, truth, table=_rows(scores), force=True)
    console.print(f"look at it: open {page} in a browser")
    console.print("your own file: handdiff refine YOUR_FILE -o out.npz && handdiff view out.npz -o out.html")


def annotate(input: Input, output: Output, fps: float | None = None, force: bool = False) -> None:
    """Label the motion states of a captured take from contact: reach, stable grasp, manipulate, release.

    Args:
        input: a ManipNet take folder, inside its clone, whose object has a mesh.
        output: the .npz to write: both hands with `state_prob`, which is all zero in free motion.
        fps: frames a second, a divisor of 120; 30 if not given.
        force: replace the output if it exists.
    """
    output = check_output(output, (".npz",), force)
    hand = load_hand()
    take = read_folder(input, hand, fps)
    if take.object_mesh is None:
        raise MotionError(
            f"{input}: its object has no mesh in the clone, and the states are defined by the distance to it"
        )
    thing = load_object(take.object_mesh, METRES, take.object_pose)
    table = Table("hand", *STATES, "free", title=f"share of {len(thing.pose)} frames", title_justify="left")
    labelled: dict[str, HandMotion] = {}
    for name, motion in take.tracks.items():
        state = annotate_track(motion, hand, thing).state
        one_hot = (state[:, None] == torch.arange(len(STATES))).float()
        labelled[name] = replace(motion, state_prob=one_hot)
        shares = [*one_hot.mean(0).tolist(), (state == FREE).float().mean().item()]
        table.add_row(name, *(f"{100 * share:.0f} %" for share in shares))
    save_motion(output, labelled, force)
    console.print(table)
    console.print(f"wrote {output}")


def bench_takes(data: Path, draws: int = 5) -> None:
    """Errors on ManipNet's test takes with simulated noise: input, best Gaussian filter, ours.

    Args:
        data: a clone of ManipNet.
        draws: of the noise for each hand of a take.
    """
    hand, (model, _) = load_hand(), load_denoiser()
    for name, noise in (("HaMeR-like", NoiseConfig.hamer_like()), ("K-Hand-like", NoiseConfig.khand_like())):
        for take in TEST_TAKES:
            pairs = benchmarks.take_pairs(data, take, Path("outputs/bench/manipnet.npz"), hand, noise, draws)
            title = f"{take}, both hands, {name} simulated noise, {len(pairs)} tracks of {len(pairs[0][1])} frames"
            refined = [refine_track(estimate, model, hand) for estimate, _ in pairs]
            _print_scores(benchmarks.compare(pairs, refined, hand), title)


def bench_speed(threads: int = 2) -> None:
    """Time to refine 128, 1,280 and 12,800 frames.

    Args:
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    (model, card), hand = load_denoiser(), load_hand()
    console.print(f"weights {card['name']}, {threads} threads")
    for row in benchmarks.speed(model, hand):
        console.print(f"{row.frames:6} frames  {row.seconds:7.2f} s  {row.ms_per_frame:6.2f} ms a frame")


def hand_import(input: Input, output: Output = Path("mano_right.npz"), force: bool = False) -> None:
    """Convert your licensed MANO_RIGHT.pkl to a .npz that `--hand` takes; nothing in it is executed.

    Args:
        input: MANO_RIGHT.pkl as downloaded from the MANO site.
        output: the .npz to write.
        force: replace the output if it exists.
    """
    import_mano(input, output, force)
    console.print(f"wrote {output}; use it with: handdiff view OUT.npz -o out.html --hand {output}")


COLUMNS = {
    "mje_mm": "MJE mm",
    "p_mje_mm": "P-MJE mm",
    "accl_mm": "ACCL mm/frame²",
    "finger_deg": "fingers °",
    "finger_second_difference_deg": "shake °/frame²",
}


def _rows(scores: dict[str, dict[str, float]]) -> list[dict[str, str]]:
    """A table of scores as text, one row a method."""
    return [{"method": m} | {title: f"{row[key]:.2f}" for key, title in COLUMNS.items()} for m, row in scores.items()]


def _print_scores(scores: dict[str, dict[str, float]], title: str) -> None:
    table = Table("method", title=title, title_justify="left")
    for column in COLUMNS.values():
        table.add_column(column, justify="right")
    for row in _rows(scores):
        table.add_row(*row.values())
    console.print(table)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console,
    )  # fmt: skip


def _teller(progress: Progress) -> Callable[[str, int, int], None]:
    """A function (what, done, all) that keeps one bar for each `what`."""
    tasks: dict[str, int] = {}

    def tell(what: str, done: int, count: int) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=count)
        progress.update(tasks[what], completed=done)

    return tell


COMMANDS = {"refine": refine, "view": view, "demo": demo, "train": train, "annotate": annotate}
GROUPS = {"bench": {"takes": bench_takes, "speed": bench_speed}, "hand": {"import": hand_import}}


def main() -> None:
    """Run a command; InputError becomes one line on stderr and exit code 2."""
    words = sys.argv[1:]
    group = GROUPS.get(words[0]) if words else None
    more = "; ".join(f"handdiff {name} {{{','.join(each)}}}" for name, each in GROUPS.items())
    try:
        if group is None:
            about = f"Turn jittery 3D hand poses into coherent motion. Also: {more}."
            tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="handdiff", description=about, args=words)
        else:
            # A group of one command would otherwise hide its name: `handdiff hand import FILE` must work as written.
            tyro.extras.subcommand_cli_from_dict(group, prog=f"handdiff {words[0]}", args=words[1:])
    except InputError as error:
        print(f"handdiff: {error}", file=sys.stderr)
        raise SystemExit(2) from None
