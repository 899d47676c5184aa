"""Make data/clips/demo.npz: two made-up tracks, and what a simulated estimator says of them.

python data/clips/make_clips.py

The seeds are far from those that training draws its clips from.
"""

from pathlib import Path

from handdiff_lib.hand import load_hand
from handdiff_lib.perturb import NoiseConfig, simulated_estimate
from handdiff_lib.storage import save_motion
from handdiff_lib.synth import synthesize

SEEDS = {"left": 90_004, "right": 90_003}
FRAMES = 150


def main() -> None:
    """Write the clip beside this script."""
    hand, tracks = load_hand(), {}
    for side, seed in SEEDS.items():
        truth = synthesize(hand, seed, FRAMES, side=side).motion
        tracks[side] = simulated_estimate(truth, hand, NoiseConfig.khand_like(), seed)
        tracks[f"{side}.truth"] = truth
    save_motion(Path(__file__).with_name("demo.npz"), tracks, force=True)


if __name__ == "__main__":
    main()
