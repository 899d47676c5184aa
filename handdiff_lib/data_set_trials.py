"""The part of the benchmark that takes data sets under licence: DexYCB, HO3D and ARCTIC, where a person has them."""

from pathlib import Path
from typing import Literal

import torch

from handdiff_lib.contestants import ours
from handdiff_lib.hand import HandModel, load_hand
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.protocol import CLIP, SEED, Clips, cut_clips, simulated
from handdiff_lib.published import TABLE2
from handdiff_lib.readers import arctic, dexycb, ho3d, read_tracks
from handdiff_lib.results import keep, provenance, show_published
from handdiff_lib.storage import check_output
from handdiff_lib.submit import in_list_order, write_ho3d
from handdiff_lib.terminal import Input, Output, console, progress_bars, teller
from handdiff_lib.topology import FREE
from handdiff_lib.trials import PROFILES, QUICK, held_out, run

FRAMES = 64
"""In a clip: DexYCB's sequences have about 72."""


def bench_table2(
    dexycb_root: Path | None = None,
    ho3d_root: Path | None = None,
    hand: Path | None = None,
    weights: Path | None = None,
    quick: bool = False,
    threads: int = 2,
) -> None:
    """The paper's Table 2 as published; with data sets at hand also our refiner on their motion, with simulated noise.

    Args:
        dexycb_root: DexYCB as unpacked: its test sequences of setup s0, from pose.npz and meta.yml alone.
        ho3d_root: HO3D as unpacked: its training sequences, since the evaluation's poses are not public.
        hand: your MANO as `handdiff hand import` writes it; DexYCB's poses need it.
        weights: another model than the one that ships.
        quick: eight clips.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    model = load_hand(hand)
    found: dict[str, dict] = {}
    if dexycb_root is not None:
        names = dexycb.split(dexycb_root, "s0", "test").sequences
        found["DexYCB s0 test"] = _scored("DexYCB s0 test", dexycb_root, names, model, weights, quick)
    if ho3d_root is not None:
        folder, names = ho3d_root / "train", tuple(ho3d.images(ho3d_root, "train"))
        found["HO3D train"] = _scored("HO3D train", folder, names, model, weights, quick)
    show_published(TABLE2)
    if found:
        keep("table2.json", found)
    else:
        console.print("ours needs the data: --dexycb-root and --hand, or --ho3d-root")


def _scored(title: str, root: Path, names: tuple[str, ...], hand: HandModel, weights: Path | None, quick: bool) -> dict:
    """Our refiner on the motion of these sequences, under both kinds of noise."""
    clips, models = _clips(title, {name: root / name for name in names}, hand, FRAMES), ours(weights, [], load_hand())
    clips = clips.first(QUICK) if quick else clips
    found: dict = provenance(SEED, clips.R)
    for name, noise in PROFILES.items():
        said = f"{title}, {name} simulated noise: {len(clips.names)} clips of {FRAMES} frames"
        found[name] = run(simulated(clips, noise, hand, 1), models, hand, said).json()
    return found


def _clips(title: str, paths: dict[str, Path], hand: HandModel, frames: int) -> Clips:
    """Clips of the sequences at these paths, under their names, without motion states."""
    tracks: dict[str, HandMotion] = {}
    with progress_bars() as progress:
        tell = teller(progress)
        for done, (name, path) in enumerate(paths.items()):
            tracks |= {f"{name}.{side}": m for side, m in read_tracks(path, hand=hand).items()}
            tell(f"reading {title}", done + 1, len(paths))
    long = {name: motion for name, motion in tracks.items() if len(motion) >= frames and motion.valid.any()}
    return cut_clips(long, {name: torch.full((len(m),), FREE) for name, m in long.items()}, frames)


def bench_bimanual(
    data: Path,
    arctic_root: Path | None = None,
    hand: Path | None = None,
    weights: Path | None = None,
    draws: int = 2,
    quick: bool = False,
    threads: int = 2,
) -> None:
    """Two hands at work, each refined by itself: left hands and right hands apart (the paper's Appendix B).

    Args:
        data: a clone of ManipNet.
        arctic_root: ARCTIC as unpacked, with `raw_seqs`: all its sequences, whose motion no weights of ours have seen.
        hand: your MANO as `handdiff hand import` writes it; ARCTIC's poses need it.
        weights: another model than the one that ships.
        draws: of the noise for each clip.
        quick: eight clips and one draw.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    sets = {"ManipNet cup1 + teapot3": (held_out(data, load_hand()), load_hand())}
    if arctic_root is not None:
        own, paths = load_hand(hand), sorted((arctic_root / "raw_seqs").glob(f"*/*{arctic.ENDING}"))
        if not paths:
            raise MotionError(f"{arctic_root}: no raw_seqs/SUBJECT/SEQUENCE{arctic.ENDING}; get {arctic.SOURCE}")
        named = {f"{path.parent.name}/{path.name.removesuffix(arctic.ENDING)}": path for path in paths}
        sets["ARCTIC"] = (_clips("ARCTIC", named, own, CLIP), own)
    models = ours(weights, [], load_hand())
    found: dict = provenance(SEED, *(clips.R for clips, _ in sets.values()))
    for where, (clips, own) in sets.items():
        clips, draws = (clips.first(QUICK), 1) if quick else (clips, draws)
        for name, noise in PROFILES.items():
            cases = simulated(clips, noise, own, draws)
            for side in ("left", "right"):
                some = [case for case in cases if f".{side}[" in case.clip]
                what = f"{name} simulated noise: {len(some) // draws} clips, {draws} draws"
                found[f"{where}, {side}, {name}"] = run(some, models, own, f"{where}, {side} hands, {what}").json()
    keep("bimanual.json", found)


def submit_ho3d(
    input: Input,
    root: Path,
    output: Output = Path("pred.zip"),
    hand: Path | None = None,
    version: Literal["v2", "v3"] = "v2",
    force: bool = False,
) -> None:
    """Write refined tracks as HO3D's server takes them: pred.json, in a zip.

    Args:
        input: HandMotion .npz whose tracks are named as the evaluation's sequences, a frame an image, camera axes.
        root: HO3D as unpacked; evaluation.txt says the order.
        output: pred.json, or a .zip with it.
        hand: your MANO as `handdiff hand import` writes it, which the meshes are of.
        version: of the data set.
        force: replace the output if it exists.
    """
    output = check_output(output, (".json", ".zip"), force)
    images = ho3d.images(root, "evaluation")
    said = in_list_order(read_tracks(input), images, load_hand(hand))
    write_ho3d(output, said.joints, said.vertices, version, force)
    console.print(f"wrote {output}, {len(said.joints)} images; upload it to the challenge's server")
