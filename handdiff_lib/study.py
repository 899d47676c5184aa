"""Commands of those who study: training, annotation and measurements."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from rich.table import Table

from handdiff_lib.contact import load_object
from handdiff_lib.hand import load_hand
from handdiff_lib.learning import write_curves
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.peak import matrix_rate
from handdiff_lib.readers import read_recording
from handdiff_lib.run import Sources, training_run
from handdiff_lib.states import StateConfig
from handdiff_lib.states import annotate as annotate_track
from handdiff_lib.storage import check_output, save_motion
from handdiff_lib.terminal import Input, Output, console, progress_bars, teller
from handdiff_lib.topology import FREE, STATES
from handdiff_lib.train import ROWS, TrainConfig, ablated


def train(
    config: Literal["tiny", "base", "paper"] = "tiny",
    data: Path | None = None,
    y: Path | None = None,
    start: Path | None = None,
    output: Output = Path("outputs/train"),
    row: Literal["deterministic", "diffusion", "state", "kinetics", "stability"] = "stability",
    steps: int | None = None,
    batch: int | None = None,
    seed: int | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    threads: int = 2,
    cpu: bool = False,
) -> None:
    """Train a denoiser; started again, it goes on where it stopped.

    Runs on the GPU if there is one; on several with `accelerate launch -m handdiff_lib.cli train ...`.

    Args:
        config: size of the network and of the run.
        data: a clone of ManipNet; without it only made-up motion is used.
        y: a .npz of an estimator's tracks NAME and truths NAME.truth: learn from its own errors, not simulated ones.
        start: weights to start from (fine-tuning).
        output: folder for checkpoints, weights (NAME.safetensors and .json) and the log.
        row: how much of the method to use, as the rows of the paper's Table 3; all of it by default.
        steps: another number of steps.
        batch: another number of windows a step.
        seed: of everything random.
        precision: of the large matrix products; auto takes bfloat16 where the machine is built for it.
        threads: CPU threads.
        cpu: leave the GPU alone.
    """
    torch.set_num_threads(threads)
    half = precision == "bfloat16" or (precision == "auto" and _likes_bf16(cpu))
    given = {"steps": steps, "batch": batch, "seed": seed}
    for word in ("steps", "batch"):
        if given[word] is not None and given[word] < 1:
            raise MotionError(f"--{word} must be 1 or more, found {given[word]}")
    cfg = replace(getattr(TrainConfig, config)(), bf16=half, **{k: v for k, v in given.items() if v is not None})
    cfg = ablated(cfg, row)
    name = config if row == ROWS[-1] else f"{config}-{row}"
    accelerator = Accelerator(cpu=cpu or not torch.cuda.is_available())
    folder, line = output / name, None
    try:
        with progress_bars() as progress:
            tell = teller(progress)
            for state, line in training_run(name, cfg, Sources(data, y, start), folder, tell, accelerator):
                tell("training", state.step, cfg.steps)
                if not console.is_terminal and state.step % 50 == 0:  # a log file shows no bar
                    console.print(f"step {state.step} of {cfg.steps}, loss {line['loss']:.3f}")
                if "val_p_mje_mm" in line:
                    console.print(
                        f"step {state.step}: validation MJE {line['val_mje_mm']:.2f}, P-MJE {line['val_p_mje_mm']:.2f},"
                        f" ACCL {line['val_accl_mm']:.2f}; clean input moved {line['clean_mje_mm']:.2f} mm"
                    )
    except KeyboardInterrupt:
        console.print(f"stopped; everything up to here is in {folder}: the same command goes on from it")
        raise SystemExit(130) from None
    finally:
        if line is not None and accelerator.is_main_process:
            with suppress(OSError):  # the disk may be full: that is said already
                write_curves(folder / "log.jsonl", folder / "curves.html")
    weights = folder / f"{name}.safetensors"
    console.print(f"learning curves: {folder / 'curves.html'}")
    console.print(f"wrote {weights}; to use it: handdiff refine IN -o OUT.npz --weights {weights}")


def _likes_bf16(cpu: bool) -> bool:
    """Whether matrix products in bfloat16 are much the faster ones here, by trying."""
    device = torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")
    return all(matrix_rate(torch.bfloat16, device) > 2 * matrix_rate(torch.float32, device) for _ in range(2))


def annotate(
    input: Input,
    output: Output,
    fps: float | None = None,
    hand: Path | None = None,
    label_noise: float | None = None,
    force: bool = False,
) -> None:
    """Label the motion states of a captured sequence from contact: reach, stable grasp, manipulate, release.

    Args:
        input: a sequence of ManipNet, DexYCB, HO3D, TACO, ARCTIC, HOT3D, HO-Cap or OakInk2, its meshes beside it.
        output: the .npz to write: both hands with `state_prob`, which is all zero in free motion.
        fps: frames a second, where the data set leaves a choice.
        hand: your MANO as `handdiff hand import` writes it, for data sets whose poses are MANO's; else the open hand.
        label_noise: by how many millimetres the recorded surfaces are off; contact then begins at twice that, 3 mm at
            least, instead of 5 mm.
        force: replace the output if it exists.
    """
    output = check_output(output, (".npz",), force)
    if label_noise is not None and not 0 <= label_noise < 100:
        raise MotionError(f"--label-noise is in millimetres, from 0 to 100, found {label_noise:g}")
    config = StateConfig() if label_noise is None else StateConfig().for_noise(label_noise / 1000)
    model = load_hand(hand)
    take = read_recording(input, model, fps)
    if not take.objects:
        raise MotionError(f"{input}: it has no thing, and the states are defined by the distance to one")
    track = take.objects[take.held or next(iter(take.objects))]
    thing = load_object(track.mesh_file(), track.metres, track.pose)
    table = Table("hand", *STATES, "free", title=f"share of {len(thing.pose)} frames", title_justify="left")
    labelled: dict[str, HandMotion] = {}
    for name, motion in take.tracks.items():
        state = annotate_track(motion, model, thing, config=config).state
        one_hot = (state[:, None] == torch.arange(len(STATES))).float()
        labelled[name] = replace(motion, state_prob=one_hot)
        shares = [*one_hot.mean(0).tolist(), (state == FREE).float().mean().item()]
        table.add_row(name, *(f"{100 * share:.0f} %" for share in shares))
    save_motion(output, labelled, force)
    console.print(table)
    console.print(f"wrote {output}")
