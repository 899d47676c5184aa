"""The player of the first page: the demo clip's right hand, before and after refining, and the truth.

python book/opening.py PAGE.html
"""

import sys
from pathlib import Path

from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.hand import DATA, load_hand
from handdiff_lib.players import player
from handdiff_lib.presets import config_for
from handdiff_lib.refine import refine
from handdiff_lib.stage import Stage
from handdiff_lib.storage import load_motion


def opening(autoplay: bool = True) -> Stage:
    """What an estimator would say of a motion, refined, and the motion itself."""
    hand, (model, card) = load_hand(), load_denoiser()
    clip = load_motion(DATA / "clips" / "demo.npz")
    after = refine(clip["right"], model, hand, config_for(card))
    tracks = {"before": clip["right"], "after": after, "truth": clip["right.truth"]}
    return player(tracks, hand, trails=8, autoplay=autoplay)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(opening().html(), encoding="utf-8")
