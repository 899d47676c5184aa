"""Make pairs for training on MediaPipe's own output: its estimates of training takes beside the truth.

python data/loop/make_pairs.py MANIPNET [--output outputs/loop]

MANIPNET is a clone of ManipNet with `hand_skin_model.npz` beside `Data`. Writes `pairs_train.npz`, for `handdiff train
--data MANIPNET --y`, and `pairs_val.npz`, of the take that is kept out of training. Training tracks whose wrist is off
by more than LOST degrees on average are left out: another hand or thing was followed there.
"""

import argparse
from pathlib import Path

from handdiff_lib.corpus import is_validation, manipnet_tracks
from handdiff_lib.hand import HandModel, load_hand
from handdiff_lib.loop import Trial, load_watched, pairs, trials
from handdiff_lib.metrics import rotation_error_deg
from handdiff_lib.motion import HandMotion
from handdiff_lib.storage import save_motion

ESTIMATES = Path(__file__).with_name("mediapipe_train.npz")
LOST = 80.0
"""Mean error of the wrist's orientation, degrees. It is 13 to 80 in 58 of the 63 training tracks."""


def main() -> None:
    """Fit the truth, lift the estimates and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manipnet", type=Path)
    parser.add_argument("--output", type=Path, default=Path("outputs/loop"))
    args = parser.parse_args()
    hand = load_hand()
    tracks = manipnet_tracks(args.manipnet, hand, args.output / "tracks.npz", lambda *_: None)
    for name, made in train_and_val(ESTIMATES, tracks, hand).items():
        save_motion(args.output / f"pairs_{name}.npz", made, force=True)


def train_and_val(estimates: Path, tracks: dict[str, HandMotion], hand: HandModel) -> dict[str, dict[str, HandMotion]]:
    """Pairs `train` and `val` of all estimates where the hand was ever found, and not lost in training tracks."""
    found = {name: one for name, one in load_watched(estimates).items() if one.found.any()}
    made = pairs([one for one in trials(found, tracks, hand) if is_validation(one.name) or wrist_error(one) < LOST])
    parts = {"train": False, "val": True}
    return {part: {n: m for n, m in made.items() if is_validation(n) == is_val} for part, is_val in parts.items()}


def wrist_error(trial: Trial) -> float:
    """Mean error of the wrist's orientation where there is an estimate and a truth, degrees; infinite without any."""
    both = trial.estimate.valid & trial.counts
    error = rotation_error_deg(trial.estimate.R[both, :1], trial.truth.R[both, :1])
    return error.mean().item() if both.any() else float("inf")


if __name__ == "__main__":
    main()
