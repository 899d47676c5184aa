r"""The test protocol: one set of estimates, every method on the same of them, every metric of every frame.

Tracks at 30 frames a second are cut into clips of 128 frames. With simulated noise each clip gets its own, the constant
part drawn once a clip, in a few draws. Means weigh frames alike; intervals are over clips, whose draws stay together.
Gaps of up to GAP frames count as answered by whatever a method puts there, longer ones as missed, for all alike.
Beside the methods stand

    input      the estimates, gaps bridged
    gaussian   means over time on SO(3), with the sigma that is best on these very clips (for MJE, and for P-MJE)
    bound      an oracle that removes everything but the constant part of the error and the wrong shape
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.baselines import SIGMAS, best_gaussian, gaussian
from handdiff_lib.framescore import FrameScores, frame_scores
from handdiff_lib.hand import HandModel
from handdiff_lib.metrics import accel_error_mm, from_wrist, mje_mm, p_mje_mm
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.perturb import NoiseConfig, perturb
from handdiff_lib.pool import in_threads
from handdiff_lib.refine import LONGEST_GAP, is_short_gap
from handdiff_lib.scorecard import Scorecard

Refiner = Callable[[HandMotion], HandMotion]
"""What answers for an estimate."""

CLIP, FPS, GAP = 128, 30.0, LONGEST_GAP
"""Frames in a clip, frames a second, and frames of the longest gap that counts as answered."""
SEED = 70
"""Of the first draw. Draws scatter by 4 %; with these the inputs lie within 3 % of the paper's rows, which is all that
the seed was chosen for."""
OF_CLIPS = ("mje_mm", "p_mje_mm", "accl_mm")
"""Scores that a file keeps clip by clip."""
RESAMPLES = 2000
"""Of the clips, for the bootstrap of gains."""
INPUT, BY_MJE, BY_P_MJE, OURS, BOUND = "input", "gaussian", "gaussian_p", "handdiff", "bound"


@dataclass(frozen=True)
class Clips:
    """Clean clips of one length at 30 frames a second, right-canonical, posed without translation."""

    names: tuple[str, ...]
    R: Float[Tensor, "c t 16 3 3"]
    betas: Float[Tensor, "c 10"]
    state: Int[Tensor, "c t"]
    """Motion states of the truth; FREE where there is none."""

    def first(self, count: int) -> "Clips":
        """As many of them, evenly spaced."""
        take = torch.linspace(0, len(self.names) - 1, min(count, len(self.names))).round().long().tolist()
        return Clips(tuple(self.names[k] for k in take), self.R[take], self.betas[take], self.state[take])


def cut_clips(tracks: dict[str, HandMotion], states: dict[str, Tensor], frames: int = CLIP) -> Clips:
    """Consecutive clips of all tracks, one shape each; missing frames are bridged, what is left at the end goes.

    Raises MotionError for tracks at another frame rate, or none that fills a clip.
    """
    names, parts = [], []
    for name, motion in tracks.items():
        if motion.fps != FPS:
            raise MotionError(
                f"{name}: {motion.fps:g} frames a second; the test protocol is made for {FPS:g}: resample"
            )
        whole = fill_missing(motion.with_one_shape())
        for k in range(0, len(motion) - frames + 1, frames):
            names.append(f"{name}[{k}:{k + frames}]")
            parts.append((whole.R[k : k + frames], whole.betas, states[name][k : k + frames]))
    if not parts:
        raise MotionError(f"no track has the {frames} frames of a clip; longest is {max(map(len, tracks.values()))}")
    return Clips(tuple(names), *(torch.stack(each) for each in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Case:
    """An estimate with the truth behind it."""

    clip: str
    """Cases of the same clip are draws of its noise."""
    estimate: HandMotion
    truth: HandMotion
    state: Int[Tensor, "t"]
    bound: HandMotion | None = None
    """The oracle's answer, where the noise is known."""


def simulated(clips: Clips, noise: NoiseConfig, hand: HandModel, draws: int = 2) -> list[Case]:
    """`draws` estimates of every clip; draw k has the seed SEED + k.

    The simulated hint of the error is left out: estimators in use give none, and it would tell too much.
    """
    cases = []
    for seed in range(SEED, SEED + draws):
        one = torch.Generator().manual_seed(seed)
        said = perturb(clips.R, clips.betas, hand, noise, torch.ones(len(clips.R)), one)
        oracle = clips.R @ rotation.exp(said.constant)[:, None]
        for k, name in enumerate(clips.names):
            truth = posed(clips.R[k], clips.betas[k], hand)
            estimate = replace(truth, R=said.R[k], betas=said.betas[k], valid=said.valid[k])
            cases.append(Case(name, estimate, truth, clips.state[k], replace(truth, R=oracle[k], betas=said.betas[k])))
    return cases


def posed(R: Float[Tensor, "t 16 3 3"], betas: Float[Tensor, "10"], hand: HandModel) -> HandMotion:
    """A whole track at 30 frames a second, seen by no camera."""
    every = torch.ones(len(R), dtype=torch.bool)
    return HandMotion(R, betas, R.new_zeros(len(R), 3), every, FPS, hand=hand.name, frame="world")


@dataclass(frozen=True)
class Comparison:
    """All methods on the same estimates."""

    title: str
    cards: dict[str, Scorecard]
    """`input`, `gaussian` (sigma best for MJE), `gaussian_p` (for P-MJE), every method, `bound` where there is one."""

    @property
    def zero_accl_mm(self) -> float:
        """ACCL of a prediction that has no acceleration: how long the truth's second differences are."""
        return self.cards[INPUT].mean("truth_accel_mm").mean

    def gains(self, name: str = OURS) -> dict[str, tuple[float, float, float]]:
        """What a method gains, each with its 95 % interval over clips (the same resampled clips on both sides).

        Changes are shares: -0.2 is a fifth less. `mje_way_to_bound` is 1 for the oracle.
        """
        clips = len(self.cards[INPUT].sequences)
        pick = torch.randint(clips, (RESAMPLES, clips), generator=torch.Generator().manual_seed(0))

        def spread(share: Callable[..., Tensor], key: str, *names: str) -> tuple[float, float, float]:
            scores = [torch.tensor(self.cards[one].of_sequences(key)) for one in names]
            low, high = share(*(s[pick].mean(1) for s in scores)).quantile(torch.tensor([0.025, 0.975])).tolist()
            return share(*(s.mean() for s in scores)).item(), low, high

        found = {}
        for key, best in (("mje", BY_MJE), ("p_mje", BY_P_MJE)):
            found[f"{key}_change"] = spread(lambda x, y: x / y - 1, f"{key}_mm", name, INPUT)
            found[f"{key}_against_gaussian"] = spread(lambda x, y: x / y - 1, f"{key}_mm", name, best)
        if BOUND in self.cards:
            found["mje_way_to_bound"] = spread(lambda x, y, z: (y - x) / (y - z), "mje_mm", name, INPUT, BOUND)
        found["accl_over_zero"] = spread(lambda x: x / self.zero_accl_mm, "accl_mm", name)
        return found

    def json(self) -> dict:
        """Everything, as plain numbers; nan becomes None."""
        gains = self.gains() if OURS in self.cards else {}
        return {
            "title": self.title,
            "zero_accl_mm": round(self.zero_accl_mm, 4),
            "gains": {name: [round(x, 4) for x in numbers] for name, numbers in gains.items()},
            "rows": {name: _few(card.json()) for name, card in self.cards.items()},
        }


def _few(card: dict) -> dict:
    """A scorecard's numbers with only the main scores clip by clip."""
    return card | {"of_sequences": {key: card["of_sequences"][key] for key in OF_CLIPS}}


def compare(
    cases: list[Case],
    methods: dict[str, Refiner],
    hand: HandModel,
    title: str,
    tell: Callable[[str, int, int], None] = lambda *_: None,
) -> Comparison:
    """All methods on all cases; `tell` hears of the method and how many are done."""
    pairs = [(case.estimate, case.truth) for case in cases]
    errors = {BY_MJE: mje_mm, BY_P_MJE: p_mje_mm}
    best = {name: best_gaussian(pairs, SIGMAS, hand, error) for name, error in errors.items()}
    every: dict[str, tuple[str, Refiner]] = {INPUT: ("input", fill_missing)}
    for name, sigma in best.items():
        word = "MJE" if name == BY_MJE else "P-MJE"
        every[name] = (f"Gaussian {sigma:g} (best {word})", lambda motion, sigma=sigma: gaussian(motion, sigma))
    every |= {name: (name, method) for name, method in methods.items()}
    cards = {}
    for done, (name, (word, method)) in enumerate(every.items()):
        tell(word, done, len(every))
        cards[name] = scored(word, in_threads(method, [case.estimate for case in cases]), cases, hand)
    if all(case.bound is not None for case in cases):
        cards[BOUND] = scored("oracle: constant error left", [case.bound for case in cases], cases, hand)
    return Comparison(title, cards)


def scored(name: str, answers: list[HandMotion], cases: list[Case], hand: HandModel) -> Scorecard:
    """The scorecard of one method's answers; the draws of a clip are one sequence, unless there is a single clip."""
    alone = len({case.clip for case in cases}) == 1
    parts: dict[str, list[FrameScores]] = {}
    pairs = zip(answers, cases, strict=True)
    for k, found in enumerate(in_threads(lambda pair: case_scores(*pair, hand), pairs)):
        parts.setdefault(f"{found.name} {k}" if alone else found.name, []).append(found)
    return Scorecard(name, tuple(together(clip, draws) for clip, draws in parts.items()))


def case_scores(answer: HandMotion, case: Case, hand: HandModel, samples: Sequence[HandMotion] = ()) -> FrameScores:
    """All metrics of an answer, and of samples drawn beside it; gaps up to GAP count as answered."""
    valid = case.estimate.valid | is_short_gap(case.estimate.valid, GAP)
    first, *others = (replace(one, valid=valid) for one in (answer, *samples))
    return frame_scores(case.clip, first, case.truth, hand, case.state, others)


def together(name: str, draws: list[FrameScores]) -> FrameScores:
    """Scores of several answers for a clip, as one sequence."""
    values = {key: torch.cat([d.values[key] for d in draws]) for key in draws[0].values}
    counted, missed = (torch.cat([getattr(d, key) for d in draws]) for key in ("counted", "missed"))
    return FrameScores(name, values, counted, missed, sum(d.state_counts for d in draws))


@dataclass(frozen=True)
class Harm:
    """What a refiner does to motion that has no error."""

    moved_mm: float
    """Mean change of the joints, seen from the wrist."""
    accl_mm: float
    """Mean length of the change of their accelerations: ACCL against the input, mm/frame^2."""
    acceleration_mm: float
    """Change of the mean length of their accelerations, mm/frame^2; below 0 the motion got smoother."""


def harm(clips: Clips, refiner: Refiner, hand: HandModel) -> Harm:
    """Refine the truth itself."""
    truths = [posed(*each, hand) for each in zip(clips.R, clips.betas, strict=True)]
    g, p = (torch.stack([from_wrist(m.joints(hand)) for m in motions]) for motions in (truths, map(refiner, truths)))
    was, now = (accel_error_mm(torch.zeros_like(x), x).mean().item() for x in (g, p))
    return Harm(mje_mm(p, g).mean().item(), accel_error_mm(p, g).mean().item(), now - was)
