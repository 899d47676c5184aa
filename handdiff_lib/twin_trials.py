r"""What diffusion buys: a model and its deterministic twin, trained alike, on the same estimates.

The mean of a posterior's samples is what a regressor learns, so means can only be equal. What samples may add is asked
of both, with the samples that each has:

    chain     the walk back with new noise at every step (DIP Algorithm 2); the twin has no noise, so none of these
    doubt     the answer turned by what the network's sigma allows, each joint by one draw a clip

and of a hand that is not seen for a second: GAP frames in the middle of every clip are taken away.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.table import Table

from handdiff_lib import rotation
from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.contestants import refiner_of
from handdiff_lib.framescore import FrameScores
from handdiff_lib.hand import HandModel, load_hand
from handdiff_lib.motion import HandMotion
from handdiff_lib.protocol import GAP, SEED, Case, Refiner, case_scores, simulated
from handdiff_lib.results import keep, print_wide, provenance
from handdiff_lib.scorecard import Scorecard
from handdiff_lib.terminal import progress_bars, teller
from handdiff_lib.training_trials import SAME_BUDGET
from handdiff_lib.trials import PROFILES, QUICK, RIVALS, held_out

COLUMNS = {
    "mje_mm": "MJE mm", "p_mje_mm": "P-MJE mm", "accl_mm": "ACCL mm/f²", "kin_deg": "KIN °", "sta_deg2": "STA °²",
    "coverage_50": "50 % ball", "coverage_90": "90 % ball", "crps_deg": "CRPS °",
    "best_mje_mm": "best MJE mm", "energy_mm": "energy mm", "range_coverage": "in range",
}  # fmt: skip
"""Scores that the table shows; the last three are of samples."""


@dataclass(frozen=True)
class Contender:
    """One of the two, with its ways to answer."""

    answer: Refiner
    walk: Callable[[int], Refiner]
    """A walk with new noise at every step, from a seed."""


def contender(path: Path, hand: HandModel) -> Contender:
    """The weights in a file, as they are meant to be used."""
    model, card = load_denoiser(path)
    return Contender(
        refiner_of(model, card, hand), lambda seed: refiner_of(model, card, hand, rule="posterior", seed=seed)
    )


def bench_twin(data: Path, rivals: Path = RIVALS, samples: int = 8, quick: bool = False, threads: int = 2) -> None:
    """Ours and its deterministic twin, trained on the same budget: means, samples, doubt, and a second without a hand.

    Args:
        data: a clone of ManipNet.
        rivals: folder that `handdiff bench rivals` has filled.
        samples: answers drawn for every clip.
        quick: eight clips.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    hand = load_hand()
    clips = held_out(data, hand)
    clips = clips.first(QUICK) if quick else clips
    both = {name: contender(rivals / "ours" / name / f"{name}.safetensors", hand) for name in SAME_BUDGET}
    found: dict = provenance(SEED, clips.R) | {"samples": samples, "gap": GAP}
    for noise, profile in PROFILES.items():
        cases, cards = simulated(clips, profile, hand, draws=1), {}
        with progress_bars() as progress:
            tell = teller(progress)
            for done, (name, one) in enumerate(both.items()):
                tell(f"{noise}: walking", done, len(both))
                cards |= cards_of(name, one, cases, samples, hand)
            tell(f"{noise}: walking", len(both), len(both))
        title = f"{noise} simulated noise: {len(clips.names)} clips, {samples} samples each"
        table = Table("", *COLUMNS.values(), title=title, title_justify="left")
        for card in cards.values():
            table.add_row(card.name, *(f"{card.mean(key).mean:.2f}" for key in COLUMNS))
        print_wide(table)
        found[noise] = {name: {key: card.mean(key).json() for key in COLUMNS} for name, card in cards.items()}
    keep("twin.json", found)


def cards_of(name: str, one: Contender, cases: list[Case], samples: int, hand: HandModel) -> dict[str, Scorecard]:
    """Its scorecards: samples of the chain, samples of its doubt, and within a gap in every clip."""
    parts: dict[str, list[FrameScores]] = {"chain": [], "doubt": [], "gap": []}
    for number, case in enumerate(cases):
        answer = one.answer(case.estimate)
        walks = [one.walk(seed)(case.estimate) for seed in range(samples)]
        for way, drawn in (("chain", walks), ("doubt", from_doubt(answer, samples, number))):
            parts[way].append(case_scores(answer, case, hand, drawn))
        unseen = hide(case.estimate)
        only = replace(case.truth, valid=case.estimate.valid & ~unseen.valid)
        parts["gap"].append(case_scores(one.answer(unseen), replace(case, truth=only), hand))
    said = {"chain": "samples of the chain", "doubt": "samples of the doubt", "gap": "within the gap"}
    return {f"{name}, {way}": Scorecard(f"{name}, {said[way]}", tuple(rows)) for way, rows in parts.items()}


def from_doubt(answer: HandMotion, count: int, seed: int) -> list[HandMotion]:
    r"""Answers turned by what their doubt allows, $R \exp(\sigma \epsilon)$ with one $\epsilon$ a joint and clip."""
    generator = torch.Generator().manual_seed(seed)
    turns = torch.randn(count, 16, 3, generator=generator).to(answer.R)
    return [replace(answer, R=answer.R @ rotation.exp(answer.sigma[..., None] * turn)) for turn in turns]


def hide(motion: HandMotion) -> HandMotion:
    """The track with GAP frames in its middle missing."""
    start = (len(motion) - GAP) // 2
    valid = motion.valid.clone()
    valid[start : start + GAP] = False
    return replace(motion, valid=valid)
