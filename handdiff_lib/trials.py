"""The benchmark's tables as commands: every method on the same estimates of motion that is known exactly."""

from pathlib import Path

import torch

from handdiff_lib import bench as benchmarks
from handdiff_lib import loop
from handdiff_lib.contestants import filters_as_shipped, learned, ours, tuned_filters
from handdiff_lib.corpus import manipnet_tracks
from handdiff_lib.hand import HandModel, load_hand
from handdiff_lib.perturb import NoiseConfig
from handdiff_lib.protocol import OURS, SEED, Case, Clips, Comparison, Refiner, compare, harm, simulated
from handdiff_lib.published import TABLE1
from handdiff_lib.results import FOLDER, keep, provenance, show, show_occlusion, show_published
from handdiff_lib.terminal import console, progress_bars, teller

PROFILES = {"hamer-like": NoiseConfig.hamer_like(), "khand-like": NoiseConfig.khand_like()}
"""The test noise: what a good and a weak estimator show on these takes."""
RIVALS = FOLDER / "rivals"
"""Where `handdiff bench rivals` puts the learned baselines."""
QUICK = 8
"""Clips of a quick run."""
TUNING = 8
"""Training clips that filters are tuned on."""


def bench_table1(
    data: Path,
    taco: Path | None = None,
    weights: Path | None = None,
    more: tuple[Path, ...] = (),
    rivals: Path = RIVALS,
    draws: int = 2,
    quick: bool = False,
    threads: int = 2,
) -> None:
    """Refiners on two simulated estimators, as in the paper's Table 1: filters, learned baselines, ours.

    Args:
        data: a clone of ManipNet; filters are tuned on its training takes, all are measured on its test takes.
        taco: a TACO sequence (.pkl with the .obj of its tool beside it): another subject, hand and thing.
        weights: another model than the one that ships.
        more: further weights of ours to stand beside it.
        rivals: folder of learned baselines, made by `handdiff bench rivals`; those that are not there are left out.
        draws: of the noise for each clip.
        quick: eight clips and one draw; filters keep the settings of the results that ship.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    hand = load_hand()
    alike = [path for path in sorted((rivals / "ours").glob("*/*.safetensors")) if path.stem == path.parent.name]
    models = learned(rivals, hand) | ours(weights, [*alike, *more], hand)
    sets = {"ManipNet cup1 + teapot3": held_out(data, hand)}
    if taco is not None:
        sets["TACO"] = benchmarks.taco_clips(taco, hand)
    if quick:
        sets, draws = {where: clips.first(QUICK) for where, clips in sets.items()}, 1
    found: dict = provenance(SEED, *(clips.R for clips in sets.values()))
    training = None if quick else _training_clips(data, hand)
    for name, noise in PROFILES.items():
        filters, found[f"tuned, {name}"] = _tuned(training, name, hand)
        for where, clips in sets.items():
            title = f"{where}, {name} simulated noise: {len(clips.names)} clips of 128 frames, {draws} draws"
            found[f"{where}, {name}"] = run(simulated(clips, noise, hand, draws), filters | models, hand, title).json()
    for where, clips in sets.items():
        harmed = harm(clips, models[OURS], hand)
        found[f"{where}, clean"] = vars(harmed)
        console.print(
            f"{where}, clean input: joints moved by {harmed.moved_mm:.2f} mm, ACCL against the input "
            f"{harmed.accl_mm:.2f}, mean acceleration changed by {harmed.acceleration_mm:+.2f} mm/frame²"
        )
    show_published(TABLE1)
    keep("table1.json", found)


def held_out(data: Path, hand: HandModel) -> Clips:
    """ManipNet's test takes."""
    return benchmarks.manipnet_clips(data, FOLDER / "manipnet.npz", hand)


def _training_clips(data: Path, hand: HandModel) -> Clips:
    """Those that filters are tuned on."""
    return benchmarks.manipnet_clips(data, FOLDER / "manipnet_train.npz", hand, training=True).first(TUNING)


def _tuned(clips: Clips | None, profile: str, hand: HandModel) -> tuple[dict[str, Refiner], dict | str]:
    """Filters with the settings that are best on these clips under this noise, and the record of the search.

    Without clips nothing is searched: they have the settings of the results that ship.
    """
    if clips is None:
        return filters_as_shipped(profile), "as in the results that ship"
    with progress_bars() as progress:
        tuned = tuned_filters(simulated(clips, PROFILES[profile], hand, 1), hand, teller(progress))
    return {name: each.best.filter for name, each in tuned.items()}, {n: each.json() for n, each in tuned.items()}


def run(cases: list[Case], methods: dict[str, Refiner], hand: HandModel, title: str) -> Comparison:
    """Compare, with a bar, and print the table."""
    with progress_bars() as progress:
        tell = teller(progress)
        found = compare(cases, methods, hand, title, lambda name, done, count: tell("methods", done, count))
    return show(found)


def bench_occlusion(
    data: Path,
    weights: Path | None = None,
    rivals: Path = RIVALS,
    more: tuple[Path, ...] = (Path("mediapipe"),),
    quick: bool = False,
    threads: int = 2,
) -> None:
    """A real estimator on rendered hands: MediaPipe's errors, by how much of the hand is hidden.

    Args:
        data: a clone of ManipNet; the estimates on its test takes ship.
        weights: another model than the one that ships.
        rivals: folder of learned baselines, made by `handdiff bench rivals`; those that are not there are left out.
        more: further weights of ours to stand beside it; by default those that learnt from MediaPipe's own output.
        quick: one camera of the three; filters keep the settings of the results that ship.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    hand = load_hand()
    tracks = manipnet_tracks(data, hand, FOLDER / "manipnet.npz", lambda *_: None, test=True)
    watched = loop.load_watched()
    if quick:
        camera = next(iter(watched)).split(".")[1]
        watched = {name: one for name, one in watched.items() if name.split(".")[1] == camera}
    given = loop.trials(watched, tracks, hand)
    filters, tuned = _tuned(None if quick else _training_clips(data, hand), "khand-like", hand)
    models = learned(rivals, hand) | ours(weights, list(more), hand)
    with console.status("lifting, filtering, refining"):
        found = loop.measure(given, filters | models, hand)
    show_occlusion(found)
    keep("occlusion.json", provenance(0) | found.json() | {"tuned on khand-like noise": tuned})
