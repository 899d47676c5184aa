"""Make data/loop/mediapipe.npz: MediaPipe's landmarks of rendered ManipNet takes.

python data/loop/make_loop.py MANIPNET MODELS [--limit 50]
python data/loop/make_loop.py MANIPNET MODELS --limit 160 --takes mug1 --cameras random0 random1 --output train.npz

MANIPNET is a clone of ManipNet with `hand_skin_model.npz` beside `Data`; MODELS is the folder `mediapipe/modules` of
the mediapipe 0.10.21 wheel, unpacked. Needs `pip install ai-edge-litert` beside the library. Every take and camera is
kept in a file of its own until all are there, so a run that was stopped goes on where it was.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from detector import Seen, Tracker
from scenery import PLACES, background, cameras, dress, look, paint_thing, random_camera

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
SPREAD = 0.618
"""Drawn camera k looks on from k times this share of the take on, without the whole: stretches differ for any count."""


def main() -> None:
    """Render, detect and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manipnet", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--takes", nargs="+", default=list(TEST_TAKES), choices=TAKES)
    parser.add_argument("--cameras", nargs="+", default=list(PLACES), help="or random0 random1 ...")
    parser.add_argument("--limit", type=int, help="LIMIT frames of each take, the first ones but for drawn cameras")
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
    seen = view(take, name, whole, limit)
    frames = slice(seen.start * STRIDE, limit and (seen.start + limit) * STRIDE, STRIDE)
    fps = whole.fps / STRIDE
    slow = {side: fill_missing(replace(tracks[f"{take}.{side}"][frames], fps=fps)) for side in SIDES}
    camera, scene = seen.camera, look(seen.seed)
    behind = background(camera, scene, table_of(whole), seen.seed)
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
    return {f"{take}.{name}.{side}": gathered(records[side], side, fps, seen) for side in SIDES}


@dataclass(frozen=True)
class View:
    """How one recording looks."""

    camera: Camera
    seed: int
    """Of colours and light."""
    start: int
    """Its first frame, of those at the pictures' rate."""


def view(take: str, name: str, whole: TakeJoints, limit: int | None) -> View:
    """A camera of PLACES, from the first frame on; or `random3`, which is drawn, around a stretch of its own."""
    joints = [whole.joints[side].numpy() for side in SIDES]
    if name in PLACES:
        return View(cameras(*joints)[name], len(PLACES) * TAKES.index(take) + list(PLACES).index(name), 0)
    number = int(name.removeprefix("random"))
    slow = np.concatenate(joints, axis=1)[::STRIDE]
    start = int(number * SPREAD % 1 * (len(slow) - (limit or len(slow))))
    seed = 100 * (1 + TAKES.index(take)) + number
    return View(random_camera(slow[start:][:limit], seed), seed, start)


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


def gathered(records: list[dict], side: str, fps: float, seen: View) -> Watched:
    """The frames' records put together."""
    values = {key: np.stack([r[key] for r in records]) for key in records[0]}
    return Watched(side, fps, seen.camera, **values, start=seen.start)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
