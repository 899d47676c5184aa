"""Frame scores and what they come to: misses, intervals, tails, and golden values.

The golden file is written by `python tests/test_scorecard.py`, from the seeds in `golden_card`.
"""

import json
from dataclasses import replace
from math import isnan, radians
from pathlib import Path

import numpy as np
import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.framescore import FrameScores, frame_scores
from handdiff_lib.hand import HandModel, load_hand
from handdiff_lib.metrics import score
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.scorecard import Scorecard
from handdiff_lib.topology import FREE, GRASP, REACH

GOLDEN = Path(__file__).with_name("golden_metrics.json")


def drawn_track(seed: int, frames: int = 12) -> HandMotion:
    """A hand that moves smoothly, from numbers that numpy draws the same everywhere."""
    rng = np.random.default_rng(seed)
    start, speed = rng.normal(0, 0.3, (2, 16, 3))
    angles = start + np.linspace(0, 1, frames)[:, None, None] * speed
    return HandMotion(
        R=rotation.exp(torch.from_numpy(angles).float()),
        betas=torch.from_numpy(rng.normal(0, 1, 10)).float(),
        transl=torch.from_numpy(rng.normal(0, 1, (frames, 3))).float(),
        valid=torch.ones(frames, dtype=torch.bool),
        fps=30.0,
        hand="open",
    )


def shaken(truth: HandMotion, seed: int) -> HandMotion:
    """An estimate of it with noise of 6 degrees, somewhere else, with sigma."""
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.normal(0, 0.1, (len(truth), 16, 3))).float()
    return replace(
        truth, R=truth.R @ rotation.exp(noise), transl=truth.transl + 1, sigma=torch.full(noise.shape[:2], 0.1)
    )


def golden_card(hand: HandModel) -> Scorecard:
    """Three sequences with states and samples; frame 3 of the second is missed."""
    state = torch.tensor([REACH] * 5 + [GRASP] * 6 + [FREE])
    parts = []
    for k in range(3):
        truth = drawn_track(k)
        said = torch.nn.functional.one_hot(torch.tensor([REACH] * (4 + k) + [GRASP] * (8 - k)), 4).float()
        pred = replace(shaken(truth, 100 + k), state_prob=said)
        if k == 1:
            pred = replace(pred, valid=torch.arange(12) != 3)
        parts.append(
            frame_scores(f"drawn {k}", pred, truth, hand, state, [shaken(truth, 200 + 10 * k + n) for n in range(4)])
        )
    return Scorecard("golden", tuple(parts))


def of_values(*sequences: list[float]) -> Scorecard:
    """A card with `mje_mm` alone; nan is a miss."""
    parts = []
    for k, values in enumerate(sequences):
        value = torch.tensor(values)
        no_states = torch.zeros(4, 3, dtype=torch.long)
        parts.append(FrameScores(str(k), {"mje_mm": value}, torch.ones(len(values)).bool(), value.isnan(), no_states))
    return Scorecard("by hand", tuple(parts))


# Frames


def test_the_scores_are_the_golden_ones(hand):
    """Every mean, tail and interval as on the day they were written; angles and distances to 0.1 %."""
    found, golden = golden_card(hand).json(), json.loads(GOLDEN.read_text())
    assert found.keys() == golden.keys()
    for part in ("scores", "tails", "state_f1"):
        assert found[part].keys() == golden[part].keys()
    flat = [(key, end, found["scores"][key][end], golden["scores"][key][end])
            for key in golden["scores"] for end in ("mean", "low", "high")]  # fmt: skip
    flat += [(key, tail, found["tails"][key][tail]["mean"], golden["tails"][key][tail]["mean"])
             for key in golden["tails"] for tail in ("p95", "worst10")]  # fmt: skip
    flat += [(key, "f1", found["state_f1"][key]["mean"], golden["state_f1"][key]["mean"]) for key in golden["state_f1"]]
    wrong = [each for each in flat if each[2] != pytest.approx(each[3], rel=1e-3, abs=1e-4)]
    assert not wrong


def test_means_are_those_of_score(hand):
    """What `score` has too is the same number where nothing is missed."""
    truth = drawn_track(0)
    pred = shaken(truth, 1)
    card, other = Scorecard("x", (frame_scores("x", pred, truth, hand),)), score(pred, truth, hand)
    for key in ("mje_mm", "p_mje_mm", "accl_mm", "finger_deg"):
        assert card.mean(key).mean == pytest.approx(other[key], rel=1e-5)
    assert card.mean("accl_m_s2").mean == pytest.approx(0.9 * other["accl_mm"], rel=1e-5)


def test_the_truth_scores_best(hand):
    """No error, all shares 1, and KIN and STA of the truth on both sides."""
    truth = drawn_track(3)
    state = torch.tensor([REACH] * 6 + [GRASP] * 6)
    said = torch.nn.functional.one_hot(state, 4).float()
    card = Scorecard("truth", (frame_scores("t", replace(truth, state_prob=said), truth, hand, state),))
    for key in ("mje_mm", "p_mje_mm", "mve_mm", "p_mve_mm", "accl_mm"):
        assert card.mean(key).mean < 1e-2
    for key in ("auc", "p_auc", "f5", "f15", "p_f5", "p_f15", "state_right"):
        assert card.mean(key).mean == pytest.approx(1, abs=0.006)
    for key in ("kin_deg", "kin_fingers_deg", "kin_mean_deg", "sta_deg2", "sta_abs_deg", "sta_geo_deg", "jitter_mm"):
        assert card.mean(key).mean == card.mean(f"truth_{key}").mean
    assert card.mean("sta_deg2").mean > 0.1, "a truth that moves has a STA"
    assert card.state_f1()["macro"].mean == 1


@pytest.mark.parametrize("how", ["not valid", "nan rotation", "inf translation"])
def test_a_missed_frame_is_a_miss_however_it_fails(hand, how):
    """AUC and F are 0 there, errors have no value, nothing else changes, and what spans it in time has no value."""
    truth = drawn_track(0)
    pred = shaken(truth, 1)
    whole = frame_scores("x", pred, truth, hand)
    broken = {
        "not valid": replace(pred, valid=torch.arange(12) != 5),
        "nan rotation": replace(pred, R=pred.R.index_fill(0, torch.tensor(5), torch.nan)),
        "inf translation": replace(pred, transl=pred.transl.index_fill(0, torch.tensor(5), torch.inf)),
    }[how]
    found = frame_scores("x", broken, truth, hand)
    assert found.missed.tolist() == [t == 5 for t in range(12)]
    others = torch.arange(12) != 5
    for key in ("mje_mm", "p_mje_mm", "mve_mm", "p_mve_mm", "auc", "f5", "p_f15", "crps_deg"):
        torch.testing.assert_close(found.values[key][others], whole.values[key][others])
    assert [found.values[key][5].item() for key in ("auc", "p_auc", "f5", "f15", "p_f5", "p_f15")] == [0] * 6
    assert isnan(found.values["mje_mm"][5])
    assert found.values["accl_mm"].isnan().nonzero()[:, 0].tolist() == [0, 4, 5, 6, 11]
    card = Scorecard("x", (found,))
    assert card.miss_rate == pytest.approx(1 / 12)
    assert card.mean("mje_mm").frames == 11
    assert card.mean("auc").frames == 12
    assert card.mean("auc").mean == pytest.approx(whole.values["auc"][others].sum().item() / 12, rel=1e-5)


def test_frames_without_truth_do_not_count(hand):
    """Whatever the prediction says there; a sequence without any answer is all missed."""
    truth = drawn_track(0)
    pred = shaken(truth, 1)
    known = replace(truth, valid=torch.arange(12) >= 2, R=truth.R.index_fill(0, torch.tensor([0, 1]), torch.nan))
    found = frame_scores("x", pred, known, hand)
    assert found.counted.sum() == 10
    assert not found.missed.any()
    assert Scorecard("x", (found,)).mean("f5").frames == 10
    silent = Scorecard("x", (frame_scores("x", replace(pred, valid=torch.zeros(12).bool()), truth, hand),))
    assert silent.miss_rate == 1
    assert silent.mean("p_auc").mean == 0
    assert isnan(silent.mean("mje_mm").mean)
    assert silent.tail("mje_mm") == {}
    assert json.loads(json.dumps(silent.json(), allow_nan=False))["scores"]["mje_mm"]["mean"] is None


def test_states_by_hand(hand):
    """Four reaches, four grasps, one free frame. One reach is called a grasp, one grasp is in a missed frame.

    Right are 6 of 8. Reach: 3 hits, 4 so, 3 said: 6/7. Grasp: 3 hits, 4 so, 4 said: 3/4.
    """
    truth = drawn_track(0, frames=9)
    state = torch.tensor([REACH] * 4 + [GRASP] * 4 + [FREE])
    said = torch.tensor([REACH] * 3 + [GRASP] * 5 + [REACH])
    pred = replace(truth, state_prob=torch.nn.functional.one_hot(said, 4).float(), valid=torch.arange(9) != 7)
    card = Scorecard("x", (frame_scores("x", pred, truth, hand, state),))
    assert card.mean("state_right").mean == pytest.approx(6 / 8)
    found = {name: value.mean for name, value in card.state_f1().items()}
    assert found == pytest.approx({"reach": 6 / 7, "stable grasp": 3 / 4, "macro": (6 / 7 + 3 / 4) / 2})


def test_kin_is_scored_where_the_truth_reaches(hand):
    """A finger joint that nods by 4 degrees: KIN 4 in the reach, STA 16/45 in the grasp, however it is shared out."""
    truth = replace(drawn_track(0), R=torch.eye(3).repeat(12, 16, 1, 1))
    nod = truth.R.clone()
    nod[1::2, 4] = rotation.exp(torch.tensor([0.0, 0.0, radians(4)]))
    state = torch.tensor([REACH] * 6 + [GRASP] * 6)
    found = frame_scores("x", replace(truth, R=nod), truth, hand, state)
    assert found.values["kin_deg"].isfinite().nonzero()[:, 0].tolist() == [1, 2, 3, 4]
    assert found.values["sta_deg2"].isfinite().nonzero()[:, 0].tolist() == [6, 7, 8, 9, 10]
    assert found.values["sta_geo_deg"].nanmean().item() == pytest.approx(4 / 15, rel=1e-3)
    assert found.values["truth_kin_deg"].nansum() == 0
    card = Scorecard("x", (found,))
    assert card.mean("kin_deg").frames == 4


def test_accl_against_the_smoothed_truth(hand):
    """The shaken estimate differs from both; the truth itself differs from its smoothed self alone."""
    truth = shaken(drawn_track(0), 1)
    found = frame_scores("x", truth, truth, hand)
    assert found.values["accl_mm"].nanmean() < 0.01
    assert found.values["accl_smooth_mm"].nanmean() > 1


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_tracks_have_no_differences_and_no_error(hand, frames):
    truth = drawn_track(0, frames)
    found = frame_scores("x", shaken(truth, 1), truth, hand, torch.full((frames,), GRASP))
    assert found.values["mje_mm"].isfinite().all()
    assert int(found.values["accl_mm"].isfinite().sum()) == max(frames - 2, 0)
    assert int(found.values["sta_deg2"].isfinite().sum()) == frames - 1


def test_what_cannot_be_compared_is_refused(hand):
    truth = drawn_track(0)
    pred = shaken(truth, 1)
    with pytest.raises(MotionError, match="11 frames against 12"):
        frame_scores("x", pred[:11], truth, hand)
    with pytest.raises(MotionError, match="11 frames in a sample against 12"):
        frame_scores("x", pred, truth, hand, samples=[pred, pred[:11]])
    with pytest.raises(MotionError, match="5 motion states against 12"):
        frame_scores("x", pred, truth, hand, torch.zeros(5, dtype=torch.long))
    with pytest.raises(MotionError, match="draw 2 or more"):
        frame_scores("x", pred, truth, hand, samples=[pred])
    with pytest.raises(MotionError, match="x: the truth is NaN or inf in 12 frames"):
        frame_scores("x", pred, replace(truth, transl=truth.transl * torch.nan), hand)
    with pytest.raises(MotionError, match="no sequence to score"):
        Scorecard("x", ())


# Sequences


def test_means_and_tails_by_hand():
    """1 to 20 and a miss: mean 10.5 over 20; 19 does not lie below 95 %; the worst two are 19 and 20."""
    card = of_values([float(x) for x in range(1, 11)], [*(float(x) for x in range(11, 21)), torch.nan])
    assert card.mean("mje_mm").mean == 10.5
    assert card.mean("mje_mm").frames == 20
    assert card.of_sequences("mje_mm") == [5.5, 15.5]
    assert card.tail("mje_mm")["p95"].mean == 19
    assert card.tail("mje_mm")["worst10"].mean == 19.5
    assert card.miss_rate == pytest.approx(1 / 21)


def test_intervals_are_those_of_a_loop(generator):
    """Sequences drawn with replacement, all their frames pooled, one resample after the other."""
    rows = [(5 + 3 * torch.randn(n, generator=generator).abs()).tolist() for n in (4, 9, 30, 12, 7)]
    card = of_values(*rows)
    pick = torch.randint(5, (1000, 5), generator=torch.Generator().manual_seed(0)).tolist()
    means, p95, worst = [], [], []
    for chosen in pick:
        pooled = sorted(x for k in chosen for x in rows[k])
        means.append(sum(pooled) / len(pooled))
        p95.append(pooled[len(pooled) - 1 - len(pooled) // 20])
        top = pooled[-((len(pooled) + 9) // 10) :]
        worst.append(sum(top) / len(top))
    for found, values in ((card.mean("mje_mm"), means), (card.tail("mje_mm")["p95"], p95),
                          (card.tail("mje_mm")["worst10"], worst)):  # fmt: skip
        low, high = np.quantile(values, [0.025, 0.975])
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-5)
        assert found.low < found.mean < found.high


def test_one_sequence_has_no_interval():
    found = of_values([1.0, 2.0]).mean("mje_mm")
    assert found.mean == 1.5
    assert isnan(found.low)
    assert isnan(found.high)


def test_json_has_every_frame_when_asked(hand):
    card = golden_card(hand)
    written = json.loads(json.dumps(card.json(frames=True), allow_nan=False))
    assert written["frames"] == 36
    assert written["missed"] == 1
    second = written["of_frames"][1]
    assert second["missed"].index(True) == 3
    assert second["values"]["mje_mm"][3] is None
    assert second["values"]["mje_mm"][4] == pytest.approx(card.sequences[1].values["mje_mm"][4].item(), rel=1e-5)
    assert "of_frames" not in card.json()


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden_card(load_hand()).json(), indent=1) + "\n")
