r"""A scorecard: what the metrics of all frames come to over many sequences, with intervals.

Means weigh every frame the same. The 95 % intervals are from sequences drawn with replacement (percentile bootstrap),
since the frames of one sequence are much alike. What a missed frame costs, `framescore` says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib.framescore import FrameScores
from handdiff_lib.motion import MotionError
from handdiff_lib.topology import STATES

TAILS = ("mje_mm", "p_mje_mm")
"""Errors whose tails are told."""
RESAMPLES = 1000
"""Of the sequences."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % bootstrap interval over sequences."""

    mean: float
    low: float
    """nan, as `high` is, for a single sequence: it does not tell how far others would scatter."""
    high: float
    frames: int
    """How many the mean is over."""

    def json(self) -> dict[str, float | int | None]:
        """Plain numbers, nan as None."""
        return {k: _number(getattr(self, k)) for k in ("mean", "low", "high")} | {"frames": self.frames}


@dataclass(frozen=True)
class Scorecard:
    """All metrics of one method on some sequences."""

    name: str
    sequences: tuple[FrameScores, ...]

    def __post_init__(self) -> None:
        if not self.sequences:
            raise MotionError(f"{self.name}: no sequence to score")

    def count(self, key: Literal["counted", "missed"]) -> int:
        """How many frames count, or are missed."""
        return sum(int(getattr(s, key).sum()) for s in self.sequences)

    @property
    def miss_rate(self) -> float:
        """Share of the counted frames that are missed."""
        return self.count("missed") / self.count("counted")

    def keys(self) -> list[str]:
        """Names of all metrics that some sequence has."""
        return list(dict.fromkeys(key for s in self.sequences for key in s.values))

    def mean(self, key: str) -> Estimate:
        """Mean over all frames that have a value; nan without any."""
        sums, counts = self._sums(key)
        return self._estimate(lambda times: (times @ sums) / (times @ counts), int(counts.sum()))

    def of_sequences(self, key: str) -> list[float]:
        """Means of the sequences one by one, nan where there is no value."""
        sums, counts = self._sums(key)
        return (sums / counts).tolist()

    def tail(self, key: str) -> dict[str, Estimate]:
        """`p95`, the smallest value that 95 % of the frames do not exceed, and `worst10`, the mean of the worst 10 %.

        Over answered frames, as the mean is; no key without any.
        """
        found = [s.values[key][s.values[key].isfinite()].double() for s in self.sequences]
        value, order = torch.cat(found).sort(descending=True)
        if len(value) == 0:
            return {}
        owner = torch.arange(len(found)).repeat_interleave(torch.tensor([len(x) for x in found]))[order]

        def p95(times: Float[Tensor, "n s"]) -> Float[Tensor, "n"]:
            seen = times[:, owner].cumsum(-1)
            above = (seen[:, -1:] / 20).floor()
            return value[(seen <= above).sum(-1).clamp(max=len(value) - 1)]

        def worst10(times: Float[Tensor, "n s"]) -> Float[Tensor, "n"]:
            weight = times[:, owner]
            seen = weight.cumsum(-1)
            number = (seen[:, -1:] / 10).ceil()
            taken = torch.minimum(weight, (number - (seen - weight)).clamp(min=0))
            return (taken @ value) / number[:, 0]

        return {"p95": self._estimate(p95, len(value)), "worst10": self._estimate(worst10, len(value))}

    def state_f1(self) -> dict[str, Estimate]:
        """F1 of each motion state that the truth has, and `macro`, their mean; empty if no states are scored."""
        counts = torch.stack([s.state_counts for s in self.sequences]).double()  # (s, 4, 3)
        is_so = int(counts[..., 1].sum())

        def f1(times: Float[Tensor, "n s"]) -> Float[Tensor, "n 4"]:
            hits, so, said = torch.einsum("ns,skc->cnk", times, counts)
            return torch.where(so > 0, 2 * hits / (so + said), torch.nan)

        there = [k for k in range(len(STATES)) if counts[:, k, 1].sum() > 0]
        found = {STATES[k]: self._estimate(lambda times, k=k: f1(times)[:, k], is_so) for k in there}
        return found | ({"macro": self._estimate(lambda times: f1(times).nanmean(-1), is_so)} if there else {})

    def json(self, frames: bool = False) -> dict:
        """Everything as plain numbers, nan as None; `frames` adds the values frame by frame."""
        found = {
            "name": self.name,
            "frames": self.count("counted"),
            "missed": self.count("missed"),
            "miss_rate": _number(self.miss_rate),
            "scores": {key: self.mean(key).json() for key in self.keys()},
            "tails": {key: {k: v.json() for k, v in self.tail(key).items()} for key in TAILS},
            "state_f1": {key: value.json() for key, value in self.state_f1().items()},
            "sequences": [s.name for s in self.sequences],
            "of_sequences": {key: [_number(x) for x in self.of_sequences(key)] for key in self.keys()},
        }
        if frames:
            found["of_frames"] = [_frames_json(s) for s in self.sequences]
        return found

    def _sums(self, key: str) -> tuple[Float[Tensor, "s"], Float[Tensor, "s"]]:
        """Sum and number of the values in each sequence."""
        found = [s.values.get(key, torch.empty(0)).double() for s in self.sequences]
        return torch.stack([x.nansum() for x in found]), torch.stack([x.isfinite().sum() for x in found]).double()

    def _estimate(self, statistic: Callable[[Tensor], Tensor], frames: int) -> Estimate:
        """`statistic` maps how many times each sequence is taken, (n, s), to n numbers."""
        many = len(self.sequences)
        once = torch.ones(1, many, dtype=torch.float64)
        mean = statistic(once).item()
        if many == 1:
            return Estimate(mean, float("nan"), float("nan"), frames)
        pick = torch.randint(many, (RESAMPLES, many), generator=torch.Generator().manual_seed(0))
        times = torch.zeros(RESAMPLES, many, dtype=torch.float64).scatter_add(1, pick, once.expand(RESAMPLES, -1))
        spread = torch.cat([statistic(part) for part in times.split(20)])
        low, high = spread.nanquantile(spread.new_tensor([0.025, 0.975])).tolist()
        return Estimate(mean, low, high, frames)


def _frames_json(scores: FrameScores) -> dict:
    values = {key: [_number(x) for x in value.tolist()] for key, value in scores.values.items()}
    return {"name": scores.name, "counted": scores.counted.tolist(), "missed": scores.missed.tolist(), "values": values}


def _number(value: float) -> float | None:
    """Six digits; JSON has no nan."""
    return float(f"{value:.6g}") if isfinite(value) else None
