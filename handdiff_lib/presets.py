"""Named ways to refine, put together with what belongs to the weights.

    paper          DIP Algorithm 2: a draw from the posterior at every step, down to step 1
    official-demo  what the released code does: the network's first answer as y, re-noised steps, and an end at step 2;
                   a window starts at every frame and only its first frame counts
    recommended    what measures best for its time: no new noise on the way, and clean motion stays as it is

A preset says how to walk. How many steps the chain has, which coordinates it lives in and how far the doubt can be
trusted is a matter of training, so it stands on the card of the weights and is no part of a preset.
"""

from dataclasses import replace
from typing import get_args

from handdiff_lib.diffusion import Space
from handdiff_lib.motion import MotionError
from handdiff_lib.refine import Doubt, RefineConfig, first_step

PRESETS: dict[str, RefineConfig] = {
    "recommended": RefineConfig(),
    "paper": RefineConfig(rule="posterior", leave_clean=False),
    "official-demo": RefineConfig(rule="renoise", stop=2, stride=1, kept="first", first_pass=True, leave_clean=False),
}
"""Paper vs code: the demo walks each window by itself; ours walks the clip, so windows see the same x_n."""

OF_THE_WEIGHTS = ("N", "space", "doubt", "sigma_scale")
"""Fields of RefineConfig that a card answers."""


def config_for(card: dict, preset: str = "recommended", **changes: object) -> RefineConfig:
    """The preset for the weights that `card` describes, with changes to some of its fields.

    A change that is None is none. A card without a field means the default of RefineConfig. Raises MotionError for an
    unknown preset, and for a number of steps or a space that the weights were not trained with.
    """
    if preset not in PRESETS:
        raise MotionError(f"preset {preset!r} is unknown; there are {', '.join(PRESETS)}")
    trained = {name: card[name] for name in OF_THE_WEIGHTS if name in card}
    for name, known in (("space", get_args(Space)), ("doubt", get_args(Doubt))):
        if trained.get(name, known[0]) not in known:
            raise MotionError(f"card of the weights: {name} expected {' or '.join(known)}, found {trained[name]!r}")
    cfg = replace(PRESETS[preset], **trained)
    cfg = replace(cfg, stop=min(cfg.stop, first_step(cfg)))
    changes = {name: value for name, value in changes.items() if value is not None}
    for name in ("N", "space"):
        if name in changes and changes[name] != getattr(cfg, name):
            raise MotionError(
                f"{name} = {changes[name]} does not fit the weights, which were trained with {name} = "
                f"{getattr(cfg, name)}; leave it out, or train with it"
            )
    return replace(cfg, **changes)
