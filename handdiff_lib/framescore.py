r"""Every metric of every frame of a sequence.

What a method does not answer is counted, never dropped. A frame counts where the truth is valid; there the answer is
*missed* if it is not valid or has a NaN or inf anywhere. Then

    shares    AUC, F-scores and motion states are 0 in a missed frame, so a miss costs as much as a failure
    the rest  errors, differences over time and doubt have no value there: their means are over answered frames, and
              the miss rate stands beside (`scorecard.Scorecard`)

Differences over time need all their frames valid and answered. All is blind to where the wrist is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_angles, anatomical_axes
from handdiff_lib.calibration import LEVELS, crps, energy_score, is_covered, is_in_range, sample_crps
from handdiff_lib.hand import HandModel, PosedHand
from handdiff_lib.metrics import (
    accel_error_mm,
    align_both_ways,
    auc,
    from_wrist,
    jitter_mm,
    joint_error_mm,
    mje_mm,
    require_same_track,
    rotation_error_deg,
)
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.physics import grasp_pairs, kin_readings, sta_readings, transit_triplets
from handdiff_lib.smoothing import smooth_rotations
from handdiff_lib.surface import mesh_scores
from handdiff_lib.topology import FREE, STATES

SHARES = ("auc", "p_auc", "f5", "f15", "p_f5", "p_f15")
"""Scores that are 0 in a missed frame, as `state_right` is."""
TRUTH_SIGMA = 1.5
"""Frames: the Gaussian that smooths the truth for `accl_smooth_mm`, that of the training data."""
CHUNK = 128
"""Frames whose meshes are held at once: more do not stay in a core's cache."""


@dataclass(frozen=True)
class FrameScores:
    """Every metric of every frame of one sequence."""

    name: str
    values: dict[str, Float[Tensor, "t"]]
    """nan where a metric has no value. Three frames' difference stands at the middle one, two frames' at the first."""
    counted: Bool[Tensor, "t"]
    """Where the truth is valid."""
    missed: Bool[Tensor, "t"]
    """Counted, but not answered."""
    state_counts: Int[Tensor, "4 3"]
    """Of each motion state: hits, frames that are so, frames that are said to be so."""


def frame_scores(
    name: str,
    pred: HandMotion,
    truth: HandMotion,
    hand: HandModel,
    state: Int[Tensor, "t"] | None = None,
    samples: Sequence[HandMotion] = (),
) -> FrameScores:
    """All metrics of `pred`; `state` are the truth's motion states, `samples` two or more answers drawn for the same.

    Each motion is posed with its own betas. Where `pred` is not valid it is missed, also if it was filled: mark filled
    frames valid if they are meant as answers. A sequence without any answer is one with no valid frame.
    States are scored if `pred` has `state_prob`, KIN and STA (also `truth_`, of the truth) if `state` is given, doubt
    if `pred` has sigma. Raises MotionError when the tracks do not match or the truth is NaN where it is valid.
    """
    require_same_track(pred, truth)
    for what, other in (("motion states", state), *(("frames in a sample", sample) for sample in samples)):
        if other is not None and len(other) != len(truth):
            raise MotionError(f"{name}: {len(other)} {what} against {len(truth)} frames; cut both to the same frames")
    counted = truth.valid
    broken = int((counted & ~_is_finite(truth)).sum())
    if broken:
        raise MotionError(f"{name}: the truth is NaN or inf in {broken} frames it calls valid; mark them not valid")
    answered = counted & pred.valid & _is_finite(pred)
    pred, truth = _neutral(pred, answered), _neutral(truth, counted)
    posed = pred.pose(hand), truth.pose(hand)
    p, g = (from_wrist(one.joints21()) for one in posed)
    aligned, officially = align_both_ways(p, g)
    values = {
        "mje_mm": mje_mm(p, g),
        "p_mje_mm": joint_error_mm(aligned, g),
        "p_mje_official_mm": joint_error_mm(officially, g),
        "auc": auc(p, g),
        "p_auc": auc(aligned, g),
        "finger_deg": rotation_error_deg(pred.R[:, 1:], truth.R[:, 1:]).mean(-1),
    }
    values |= _mesh(*posed)
    values = {key: _where(value, answered) for key, value in values.items()}
    values |= _over_time(p, g, pred, truth, hand, answered, counted, state)
    if pred.sigma is not None:
        error = rotation.log(pred.R.mT @ truth.R)
        doubt = {f"coverage_{k}": is_covered(error, pred.sigma, k).to(error).mean(-1) for k in LEVELS}
        doubt["crps_deg"] = crps(error, pred.sigma).rad2deg().mean((-1, -2))
        values |= {key: _where(value, answered) for key, value in doubt.items()}
    if samples:
        values |= _sampled(samples, g, hand, answered)
    counts = torch.zeros(4, 3, dtype=torch.long)
    if state is not None and pred.state_prob is not None:
        said = torch.where(answered, pred.state_prob.argmax(-1), FREE)
        scored = counted & (state != FREE)
        values["state_right"] = _where((said == state).to(p), scored)
        is_so, is_said = (torch.stack([scored & (x == k) for k in range(len(STATES))]) for x in (state, said))
        counts = torch.stack([(is_so & is_said).sum(1), is_so.sum(1), is_said.sum(1)], dim=1)
    missed = counted & ~answered
    values |= {key: torch.where(missed, 0, values[key]) for key in SHARES}
    return FrameScores(name, values, counted, missed, counts)


def _mesh(pred: PosedHand, truth: PosedHand) -> dict[str, Float[Tensor, "t"]]:
    """`surface.mesh_scores`, a few frames at a time."""
    parts = []
    for k in range(0, len(pred.R), CHUNK):
        some = [posed[k : k + CHUNK] for posed in (pred, truth)]
        parts.append(mesh_scores(*(one.skin() for one in some), *(one.joints[:, 0] for one in some)))
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _over_time(
    p: Float[Tensor, "t 21 3"],
    g: Float[Tensor, "t 21 3"],
    pred: HandMotion,
    truth: HandMotion,
    hand: HandModel,
    answered: Bool[Tensor, "t"],
    counted: Bool[Tensor, "t"],
    state: Int[Tensor, "t"] | None,
) -> dict[str, Float[Tensor, "t"]]:
    """Differences over two, three and four frames, in mm and m/s^2, degrees and their squares."""
    still = torch.zeros_like(p)
    smoothed = replace(truth, R=smooth_rotations(truth.R, counted, TRUTH_SIGMA))
    smooth_g = from_wrist(smoothed.pose(hand).joints21())
    found = {
        "accl_mm": _in_time(accel_error_mm(p, g), answered),
        "accl_smooth_mm": _in_time(accel_error_mm(p, smooth_g), answered),
        "truth_accel_mm": _in_time(accel_error_mm(still, g), counted),
        "jitter_mm": _in_time(jitter_mm(p), answered),
        "truth_jitter_mm": _in_time(jitter_mm(g), counted),
    }
    found |= {f"{key}_m_s2": found[f"{key}_mm"] * pred.fps**2 / 1000 for key in ("accl", "accl_smooth")}
    if state is not None:
        axes = anatomical_axes(hand)
        for prefix, motion, known in (("", pred, answered), ("truth_", truth, counted)):
            angles = anatomical_angles(motion.R, axes)
            for key, value in kin_readings(angles).items():
                found[prefix + key] = _in_time(value, known, transit_triplets(state))
            for key, value in sta_readings(motion.R, angles).items():
                found[prefix + key] = _in_time(value, known, grasp_pairs(state))
    return found


def _sampled(
    samples: Sequence[HandMotion], g: Float[Tensor, "t 21 3"], hand: HandModel, answered: Bool[Tensor, "t"]
) -> dict[str, Float[Tensor, "t"]]:
    """Scores of several answers as one claim about the joints seen from the wrist; wrists say nothing and stay out."""
    known = torch.stack([answered, *(sample.valid & _is_finite(sample) for sample in samples)]).all(0)
    drawn = torch.stack([from_wrist(_neutral(s, known).pose(hand).joints21()) for s in samples])
    values = {
        "energy_mm": 1000 * energy_score(drawn[:, :, 1:], g[:, 1:]).mean(-1),
        "sample_crps_mm": 1000 * sample_crps(drawn[:, :, 1:], g[:, 1:]).mean((-1, -2)),
        "best_mje_mm": joint_error_mm(drawn, g).amin(0),
        "range_coverage": is_in_range(drawn[:, :, 1:], g[:, 1:]).to(g).mean((-1, -2)),
    }
    return {key: _where(value, known) for key, value in values.items()}


def _is_finite(motion: HandMotion) -> Bool[Tensor, "t"]:
    """Frames without NaN or inf in anything that says where the hand is, or how sure that is."""
    said = [motion.R, motion.betas.expand(len(motion), -1), motion.transl, motion.sigma, motion.state_prob]
    return torch.stack([x.flatten(1).isfinite().all(1) for x in said if x is not None]).all(0)


def _neutral(motion: HandMotion, known: Bool[Tensor, "t"]) -> HandMotion:
    """The track at the origin, with the flat hand wherever it is not known: nothing there reaches a sum as NaN."""
    eye = torch.eye(3).to(motion.R)
    betas = motion.betas if motion.betas.ndim == 1 else torch.where(known[:, None], motion.betas, 0)
    return replace(
        motion,
        R=torch.where(known[:, None, None, None], motion.R, eye),
        betas=torch.where(known.any(), betas, 0),
        transl=torch.zeros_like(motion.transl),
    )


def _where(value: Float[Tensor, "t"], known: Bool[Tensor, "t"]) -> Float[Tensor, "t"]:
    return torch.where(known, value, torch.nan)


def _in_time(
    value: Float[Tensor, "n"], known: Bool[Tensor, "t"], also: Bool[Tensor, "n"] | None = None
) -> Float[Tensor, "t"]:
    """Differences over frames at the first frame (of two) or the second (of more) they are of, where all are known."""
    full = value.new_full((len(known),), torch.nan)
    span = len(known) - len(value)
    if len(value):
        whole = known.unfold(0, span + 1, 1).all(-1)
        if also is not None:
            whole &= also
        start = min(span, 2) - 1
        full[start : start + len(value)] = _where(value, whole)
    return full
