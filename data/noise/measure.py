"""Measure how a real estimator shakes: data/noise/hamer.json from Dyn-HaMR files, whose finger poses are raw HaMeR.

    python data/noise/measure.py path/to/*_world_results.npz

There is no ground truth, so only what motion itself cannot do is measured: the second difference of the finger
rotations, in degrees per frame^2. White noise has a lag-1 correlation of -2/3 there, smooth motion a positive one.
"""

import json
import sys
from pathlib import Path

import torch

from handdiff_lib.metrics import shake_statistics
from handdiff_lib.readers import read_tracks


def main(paths: list[str]) -> None:
    """Write the statistics of all tracks beside this script."""
    found = {}
    for path in map(Path, paths):
        for name, motion in read_tracks(path).items():
            found[f"{path.stem}.{name}"] = shake_statistics(motion.R[:, 1:])
    mean = {
        key: round(torch.tensor([each[key] for each in found.values()]).mean().item(), 3) for key in found[min(found)]
    }
    about = "HaMeR finger poses in two hands of one Dyn-HaMR file (Apache-2.0), 30 frames a second"
    out = {
        "about": about,
        "mean": mean,
        "tracks": {k: {n: round(x, 3) for n, x in v.items()} for k, v in found.items()},
    }
    Path(__file__).with_name("hamer.json").write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
