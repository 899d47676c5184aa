"""Measure how a real estimator shakes, and how our noise does: data/noise/hamer.json.

    python data/noise/measure.py path/to/*_world_results.npz

Dyn-HaMR files keep HaMeR's raw finger poses. There is no ground truth, so only what motion itself cannot do is
measured: the second difference of the finger rotations, in degrees per frame^2 (white noise has a lag-1 correlation of
-2/3 there, smooth motion a positive one), and how the power above 3 Hz is spread over frequencies. The same numbers
follow for the noise of `perturb` on a hand that does not move.
"""

import json
import sys
from pathlib import Path

import torch

from handdiff_lib import rotation
from handdiff_lib.hand import load_hand
from handdiff_lib.metrics import BANDS_HZ, shake_spectrum, shake_statistics
from handdiff_lib.perturb import NoiseConfig, perturb
from handdiff_lib.readers import read_tracks

Numbers = dict[str, float]
SEQUENCES, FRAMES = 64, 128


def shake(R: torch.Tensor, fps: float) -> Numbers:
    """All statistics of finger rotations (t, 15, 3, 3)."""
    names = [f"share_{low:g}_{high:g}_hz" for low, high in BANDS_HZ]
    return shake_statistics(R) | dict(zip(names, shake_spectrum(R, fps).tolist(), strict=True))


def mean(found: list[Numbers]) -> Numbers:
    """Key by key, to three decimals."""
    return {key: round(sum(each[key] for each in found) / len(found), 3) for key in found[0]}


def noise_alone(noise: NoiseConfig) -> Numbers:
    """Statistics of sequences in which a hand in the mean pose does not move."""
    hand = load_hand()
    pose = torch.cat([torch.zeros(1, 3), hand.hands_mean.view(15, 3)])
    R = rotation.exp(pose).expand(SEQUENCES, FRAMES, 16, 3, 3)
    betas, severity = torch.zeros(SEQUENCES, 10), torch.ones(SEQUENCES)
    said = perturb(R, betas, hand, noise, severity, torch.Generator().manual_seed(0))
    return mean([shake(one[:, 1:], 30.0) for one in said.R])


def main(paths: list[str]) -> None:
    """Write the statistics of all tracks and of the noise beside this script."""
    found = {f"{Path(p).stem}.{name}": shake(m.R[:, 1:], m.fps) for p in paths for name, m in read_tracks(p).items()}
    out = {
        "about": "HaMeR finger poses in two hands of one Dyn-HaMR file (Apache-2.0), 30 frames a second",
        "mean": mean(list(found.values())),
        "tracks": {name: mean([numbers]) for name, numbers in found.items()},
        "noise on a still hand": {
            "hamer-like": noise_alone(NoiseConfig.hamer_like()),
            "khand-like": noise_alone(NoiseConfig.khand_like()),
            "training": noise_alone(NoiseConfig()),
        },
    }
    Path(__file__).with_name("hamer.json").write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
