"""The command line. Bad input ends with one line that says what is wrong and the cure, and exit code 2."""

import sys
import time
from pathlib import Path
from typing import Literal

import tyro

from handdiff_lib import bench as benchmarks
from handdiff_lib.all_trials import bench_all
from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.data_set_trials import bench_bimanual, bench_table2, submit_ho3d
from handdiff_lib.diffusion import Rule
from handdiff_lib.hand import DATA, InputError, load_hand
from handdiff_lib.mano_file import import_mano
from handdiff_lib.metrics import rotation_error_deg, second_difference_deg
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.presets import config_for
from handdiff_lib.readers import read_tracks
from handdiff_lib.refine import refine as refine_track
from handdiff_lib.report import report
from handdiff_lib.speed_trials import bench_speed
from handdiff_lib.storage import BEFORE, TRUTH, check_output, load_motion, save_motion
from handdiff_lib.study import annotate, train
from handdiff_lib.terminal import Input, Output, console, print_scores, score_rows
from handdiff_lib.training_trials import bench_rivals, bench_table3
from handdiff_lib.trials import bench_occlusion, bench_table1
from handdiff_lib.twin_trials import bench_twin


def refine(
    input: Input,
    output: Output,
    fps: float | None = None,
    side: Side | None = None,
    hand: Path | None = None,
    weights: Path | None = None,
    preset: Literal["recommended", "paper", "official-demo"] = "recommended",
    rule: Rule | None = None,
    stride: int | None = None,
    samples: int | None = None,
    strength: float | None = None,
    seed: int = 0,
    force: bool = False,
) -> None:
    """Refine the hand motion in a file: estimator output in, a HandMotion .npz out.

    Args:
        input: HandMotion .npz, HaMeR or WiLoR parameters, Dyn-HaMR results, keypoints, or a data set's sequence.
        output: where to write the refined tracks (.npz); the estimates stay beside them as NAME.before.
        fps: frames a second, where the file does not say.
        side: which hand the file shows, where it does not say; otherwise refine only this hand.
        hand: your MANO as `handdiff hand import` writes it, for data sets whose poses are its principal components.
        weights: another model than `base`: a file, or `mediapipe` or `free`, which ship too.
        preset: how to walk back: what measures best, the paper's Algorithm 2, or as the authors' released demo.
        rule: instead of the preset's: without new noise, the paper's posterior, or the released demo's re-noising.
        stride: frames from one window to the next; smaller asks more windows about each frame and is slower.
        samples: walks from different noise, averaged.
        strength: how far to go from the estimate (0) to the answer (1).
        seed: of the noise; the same seed gives the same motion.
        force: replace the output if it exists.
    """
    output = check_output(output, (".npz",), force)
    model, card = load_denoiser(weights)
    seen = load_hand()
    own = None if hand is None else load_hand(hand)
    tracks = {k: m for k, m in read_tracks(input, fps, side, own).items() if not k.endswith((BEFORE, TRUTH))}
    if not tracks:
        raise MotionError(f"{input}: it holds only estimates that were refined before; give the original file")
    console.print(f"read     {input}: " + ", ".join(f"{k} {len(m)} frames at {m.fps:g} fps" for k, m in tracks.items()))
    cfg = config_for(card, preset, rule=rule, stride=stride, samples=samples, strength=strength, seed=seed)
    written: dict[str, HandMotion] = {}
    for name, motion in tracks.items():
        if not motion.valid.any():
            console.print(f"{name:8} no hand in any frame: left out")
            continue
        start = time.perf_counter()
        refined = refine_track(motion, model, seen, cfg)
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


def demo(output: Output = Path("outputs/demo")) -> None:
    """Refine the clip that ships, print what it gained against the truth, and write a page to look at.

    Args:
        output: folder for report.html.
    """
    output.mkdir(parents=True, exist_ok=True)
    clip, hand, (model, card) = load_motion(DATA / "clips" / "demo.npz"), load_hand(), load_denoiser()
    names = [name for name in clip if not name.endswith(TRUTH)]
    pairs = [(clip[name], clip[name + TRUTH]) for name in names]
    console.print(f"refining {', '.join(names)}: {len(pairs[0][0])} frames a hand, made-up motion with simulated noise")
    start = time.perf_counter()
    after = {name: refine_track(clip[name], model, hand, config_for(card)) for name in names}
    seconds = time.perf_counter() - start
    scores = benchmarks.compare(pairs, list(after.values()), hand)
    print_scores(scores, f"against the truth ({seconds:.1f} s for {len(names) * len(pairs[0][0])} frames)")
    page = output / "report.html"
    before, truth = {n: clip[n] for n in names}, {n: clip[n + TRUTH] for n in names}
    report(page, before, after, hand, truth, table=score_rows(scores), force=True)
    console.print(f"look at it: open {page} in a browser")
    console.print("your own file: handdiff refine YOUR_FILE -o out.npz && handdiff view out.npz -o out.html")


def hand_import(input: Input, output: Output = Path("mano_right.npz"), force: bool = False) -> None:
    """Convert your licensed MANO_RIGHT.pkl to a .npz that `--hand` takes; nothing in it is executed.

    Args:
        input: MANO_RIGHT.pkl as downloaded from the MANO site.
        output: the .npz to write.
        force: replace the output if it exists.
    """
    import_mano(input, output, force)
    console.print(f"wrote {output}; use it with: handdiff view OUT.npz -o out.html --hand {output}")


COMMANDS = {"refine": refine, "view": view, "demo": demo, "train": train, "annotate": annotate}
GROUPS = {
    "bench": {
        "table1": bench_table1,
        "table2": bench_table2,
        "table3": bench_table3,
        "occlusion": bench_occlusion,
        "bimanual": bench_bimanual,
        "speed": bench_speed,
        "all": bench_all,
        "rivals": bench_rivals,
        "twin": bench_twin,
    },
    "hand": {"import": hand_import},
    "submit": {"ho3d": submit_ho3d},
}


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
            if words[0] == "bench" and words[1:] and words[1].startswith("--") and words[1] != "--help":
                words.insert(1, "all")  # `handdiff bench --quick --data ...`
            # A group of one command would otherwise hide its name: `handdiff hand import FILE` must work as written.
            tyro.extras.subcommand_cli_from_dict(group, prog=f"handdiff {words[0]}", args=words[1:])
    except InputError as error:
        print(f"handdiff: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
