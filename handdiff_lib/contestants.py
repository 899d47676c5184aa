"""Who takes part in the benchmark: filters tuned on training takes, learned baselines, and our own weights.

filters    each with the settings that are best on training clips under the same kind of noise (`baselines.tune`), or
           that were so in the run whose results ship
learned    every rival found in a folder, trained as ours (`rival_runs`)
handdiff   the weights that ship; others of ours under the names of their files
"""

import json
from collections.abc import Callable
from pathlib import Path

from handdiff_lib.baselines import GRIDS, Tuned, tune
from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.denoiser import Denoiser
from handdiff_lib.hand import DATA, HandModel, InputError
from handdiff_lib.presets import config_for
from handdiff_lib.protocol import OURS, Case, Refiner
from handdiff_lib.refine import refine
from handdiff_lib.rival_runs import load_rival, refine_rival

SHOWN = {
    "gaussian": "Gaussian", "savitzky_golay": "Savitzky-Golay", "one_euro": "One-Euro",
    "rauch_tung_striebel": "Rauch-Tung-Striebel", "naive_euler": "SmoothFilter (naive Euler)",
    "smoothnet": "SmoothNet-style",
    "posebert_angles": "PoseBERT (angles)", "posebert_positions": "PoseBERT (positions)",
    "transformer": "deterministic Transformer", "constant_acceleration": "constant acceleration loss",
}  # fmt: skip
"""How tables name the baselines."""


def tuned_filters(cases: list[Case], hand: HandModel, tell: Callable[[str, int, int], None]) -> dict[str, Tuned]:
    """Every filter tuned on these cases, which must be none of the test's; by its name in tables."""
    pairs = [(case.estimate, case.truth) for case in cases]
    names = [name for name in GRIDS if name != "identity"]
    found = {}
    for done, name in enumerate(names):
        tell("tuning filters", done, len(names))
        found[SHOWN[name]] = tune(name, GRIDS[name], pairs, hand)
    tell("tuning filters", len(names), len(names))
    return found


def filters_as_shipped(profile: str) -> dict[str, Refiner]:
    """Every filter with the setting that the results that ship found on training takes under this profile's noise."""
    tuned = json.loads((DATA / "results" / "table1.json").read_text())[f"tuned, {profile}"]
    return {name: type(GRIDS[each["name"]][0])(**each["best"]["setting"]) for name, each in tuned.items()}


def learned(folder: Path, hand: HandModel) -> dict[str, Refiner]:
    """The rivals whose weights lie in a folder, by their names in tables; none if there is no such folder.

    Those that have also learnt from recorded pairs say so.
    """
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        model, card = load_rival(path, hand)
        name = SHOWN.get(model.cfg.name, model.cfg.name)
        pairs = ", also on pairs" if any(data.endswith(".npz") for data in card.get("data", ())) else ""
        found[f"{name}, {card['steps']} steps{pairs}"] = lambda motion, model=model: refine_rival(motion, model, hand)
    return found


def ours(weights: Path | None, more: list[Path], hand: HandModel) -> dict[str, Refiner]:
    """Our refiner as its weights are meant to be used: `handdiff`, and others by the names on their cards."""
    found = {OURS: refiner_of(*load_denoiser(weights), hand)}
    for path in more:
        model, card = load_denoiser(path)
        name = f"ours: {card['name']}, {card['steps']} steps"
        if name in found:
            raise InputError(f"{path}: there is another {name!r}; compare models of different names or steps")
        found[name] = refiner_of(model, card, hand)
    return found


def refiner_of(model: Denoiser, card: dict, hand: HandModel, **changes: object) -> Refiner:
    """Refining as these weights are meant to be used, with changes to the preset."""
    cfg = config_for(card, **changes)
    return lambda motion: refine(motion, model, hand, cfg)
