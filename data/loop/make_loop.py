"""Make data/loop/mediapipe.npz: MediaPipe's landmarks of rendered ManipNet takes.

python data/loop/make_loop.py MANIPNET MODELS [--limit 50]

MANIPNET is a clone of ManipNet with `hand_skin_model.npz` beside `Data`; MODELS is the folder `mediapipe/modules` of
the mediapipe 0.10.21 wheel, unpacked. Needs `pip install ai-edge-litert` beside the library. Every take and camera is
kept in a file of its own until all are there, so a run that was stopped goes on where it was.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from detector import Seen, Tracker
from scenery import background, cameras, dress, look, paint_thing

from handdiff_lib.contact import load_object
from handdiff_lib.corpus import manipnet_tracks
from handdiff_lib.hand import HandModel, load_hand
from handdiff_lib.loop import Watched, load_watched, save_watched
from handdiff_lib.motion import HandMotion, fill_missing
from handdiff_lib.raster import Camera, Picture, render
from handdiff_lib.readers.manipnet import METRES, TAKES, TEST_TAKES, TakeJoints, take_joints

STRIDE = 4
"""Of the takes' 120 frames a second, every fourth."""
STAND_IN = {"teapot3": ("Dining/teapot2.obj", 1.2)}
"""Its own mesh is not published; another teapot, this much larger, comes closest to where the hands grasp."""
FARTHEST = 0.5
"""A hand that was found is a true hand's when their joints are this near: mean distance, in diagonals of its box."""
SIDES = ("left", "right")


def main() -> None:
    """Render, detect and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manipnet", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--takes", nargs="+", default=list(TEST_TAKES), choices=TAKES)
    parser.add_argument("--cameras", nargs="+", default=["head", "front", "side"])
    parser.add_argument("--limit", type=int, help="only the first LIMIT frames of each take")
    parser.add_argument("--work", type=Path, default=Path("outputs/loop"), help="where parts are kept")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("mediapipe.npz"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    hand, made = load_hand(), {}
    for take in args.takes:
        tracks = manipnet_tracks(args.manipnet, hand, args.work / "tracks.npz", lambda *_: None, take in TEST_TAKES)
        for name in args.cameras:
            part = args.work / f"{take}.{name}{f'.{args.limit}' if args.limit else ''}.npz"
            if not part.is_file():
                start = time.process_time()
                watched = watch(args.manipnet, take, name, tracks, hand, Tracker(args.models), args.limit)
                save_watched(part, watched)
                print(f"{part}: {time.process_time() - start:.0f} s of CPU", flush=True)
            made |= load_watched(part)
    save_watched(args.output, made, force=True)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB, {len(made)} tracks")


def watch(
    root: Path,
    take: str,
    name: str,
    tracks: dict[str, HandMotion],
    hand: HandModel,
    tracker: Tracker,
    limit: int | None,
) -> dict[str, Watched]:
    """Both hands of a take, seen by one camera."""
    whole = take_joints(root, take)
    frames = slice(0, limit and limit * STRIDE, STRIDE)
    fps = whole.fps / STRIDE
    slow = {side: fill_missing(replace(tracks[f"{take}.{side}"][frames], fps=fps)) for side in SIDES}
    views = cameras(*(whole.joints[side].numpy() for side in SIDES))
    seed, camera = len(views) * TAKES.index(take) + list(views).index(name), views[name]
    scene = look(seed)
    behind = background(camera, scene, table_of(whole), seed)
    mesh, size = (whole.object_mesh, 1.0) if whole.object_mesh else STAND_IN[take]
    thing = load_object(root / "Data" / "ObjectModel" / mesh, METRES * size, whole.object_pose[frames])
    is_closed = thing.surface.is_closed
    dressed = {side: dress(motion, hand, scene) for side, motion in slow.items()}
    truth = {side: camera.project(motion.joints(hand).double().numpy()) for side, motion in slow.items()}
    records = {side: [] for side in SIDES}
    for k in range(len(slow["left"])):
        surfaces = [part for side in SIDES for part in dressed[side].paint(k)]
        picture = render([*surfaces, paint_thing(thing, k, scene, is_closed)], camera, scene.light, behind)
        hits = whose(tracker(picture.rgb), {side: points[k] for side, points in truth.items()})
        for number, side in enumerate(SIDES):
            records[side].append(record(hits.get(side), picture, 2 * number, truth[side][k], camera))
    return {f"{take}.{name}.{side}": gathered(records[side], side, fps, camera) for side in SIDES}


def table_of(take: TakeJoints) -> np.ndarray:
    """A point on the table: below the middle of where the thing is, at the height of its lowest place."""
    place = take.object_pose[:, :3, 3].double().numpy()
    return place.mean(0) * [1, 0, 1] + [0, place[:, 1].min() - 0.09, 0]


def whose(found: list[Seen], truth: dict[str, np.ndarray]) -> dict[str, Seen]:
    """Which true hand each hand is, by where it is; the nearest pair first. What it is taken for has no say."""
    pairs = []
    for seen in found:
        for side, points in truth.items():
            box = np.linalg.norm(points.max(0) - points.min(0))
            pairs.append((np.linalg.norm(seen.pixels - points, axis=1).mean() / box, side, seen))
    given: dict[str, Seen] = {}
    for distance, side, seen in sorted(pairs, key=lambda pair: pair[0]):
        if distance < FARTHEST and side not in given and all(seen is not other for other in given.values()):
            given[side] = seen
    return given


def record(seen: Seen | None, picture: Picture, surface: int, truth: np.ndarray, camera: Camera) -> dict:
    """One hand in one picture; `surface` is its number there."""
    size = (camera.width, camera.height)
    return {
        "pixels": np.full((21, 2), np.nan) if seen is None else seen.pixels,
        "world": np.full((21, 3), np.nan) if seen is None else seen.world,
        "presence": np.nan if seen is None else seen.presence,
        "handedness": np.nan if seen is None else seen.handedness,
        "hidden": picture.hidden(surface),
        "inside": ((truth >= 0) & (truth < size)).all(1).mean(),
    }


def gathered(records: list[dict], side: str, fps: float, camera: Camera) -> Watched:
    """The frames' records put together."""
    return Watched(side, fps, camera, **{key: np.stack([r[key] for r in records]) for key in records[0]})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
