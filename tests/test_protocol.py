"""The test protocol: what each row must be for refiners whose answer is known, and a slow twin for the scores."""

import json
from dataclasses import replace

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.baselines import gaussian
from handdiff_lib.bench import taco_clips
from handdiff_lib.metrics import score
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.perturb import NoiseConfig
from handdiff_lib.protocol import GAP, OURS, Clips, Comparison, compare, cut_clips, harm, simulated
from handdiff_lib.readers.manipnet import TEST_TAKES, read_take
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.results import HEADS, rows
from handdiff_lib.topology import FREE, GRASP, REACH, TIPS

FRAMES, DRAWS = 40, 2
SCORES = ("mje_mm", "p_mje_mm", "accl_mm", "finger_deg")
NOISE = replace(NoiseConfig.hamer_like(), missing=0.0)


@pytest.fixture(scope="module")
def clips(hand) -> Clips:
    """Three clips of swinging joints: reaching, then holding, then free."""
    pace = torch.linspace(0.02, 0.12, 3 * 16).view(3, 1, 16, 1)
    swing = 0.4 * torch.sin(pace * torch.arange(float(FRAMES))[:, None, None] + torch.arange(3.0))
    state = torch.tensor(15 * [REACH] + 15 * [GRASP] + 10 * [FREE]).expand(3, FRAMES)
    return Clips(("a", "b", "c"), rotation.exp(swing), torch.zeros(3, 10), state)


def identity(motion: HandMotion) -> HandMotion:
    """The input, and the belief that a hand always reaches."""
    return replace(gaussian(motion, 0.0), state_prob=torch.eye(4)[REACH].expand(len(motion), 4))


@pytest.fixture(scope="module")
def unchanged(clips, hand) -> Comparison:
    return compare(simulated(clips, NOISE, hand, DRAWS), {OURS: identity}, hand, "nothing done")


def test_doing_nothing_is_the_input(unchanged):
    for key in SCORES:
        ours, given = (unchanged.cards[name].of_sequences(key) for name in (OURS, "input"))
        assert ours == pytest.approx(given, rel=1e-5)
    gains = unchanged.gains()
    for name in ("mje_change", "p_mje_change", "mje_way_to_bound"):
        assert gains[name] == pytest.approx((0, 0, 0), abs=1e-3)
    ratio = unchanged.cards["input"].mean("accl_mm").mean / unchanged.zero_accl_mm
    assert gains["accl_over_zero"][0] == pytest.approx(ratio, rel=1e-3)


def test_the_scores_are_those_of_single_tracks(unchanged, clips, hand):
    """Slow twin: `metrics.score` for every clip and draw."""
    cases = simulated(clips, NOISE, hand, DRAWS)
    for k in range(3):
        found = [score(fill_missing(case.estimate), case.truth, hand) for case in cases if case.clip == clips.names[k]]
        assert len(found) == DRAWS
        for key in SCORES:
            mean = sum(s[key] for s in found) / DRAWS
            assert unchanged.cards["input"].of_sequences(key)[k] == pytest.approx(mean, rel=1e-3)


def test_states_are_scored_where_the_truth_has_one(unchanged):
    """15 of 30 frames are reaching: F1 of always saying so is 2 * 15 / (30 + 15), of holding 0."""
    f1 = {name: value.mean for name, value in unchanged.cards[OURS].state_f1().items()}
    assert f1 == pytest.approx({"reach": 2 / 3, "stable grasp": 0, "macro": 1 / 3})
    assert not unchanged.cards["gaussian"].state_f1(), "a filter says nothing of states"


def test_the_truth_as_answer_is_perfect(clips, hand):
    cases = simulated(clips, NOISE, hand, DRAWS)
    truths = iter([(case.truth, case.state) for case in cases])

    def oracle(motion):
        truth, state = next(truths)
        return replace(truth, state_prob=(state[:, None] == torch.arange(4)).float())

    card = compare(cases, {OURS: oracle}, hand, "perfect").cards[OURS]
    for key in SCORES:
        assert card.mean(key).mean < 1e-3
    assert card.state_f1()["macro"].mean == 1
    for key in ("kin_deg", "sta_deg2"):
        assert card.mean(key).mean == pytest.approx(card.mean(f"truth_{key}").mean, rel=1e-4)


def test_the_references_stand_in_order(unchanged):
    """Smoothing is no worse than the input in what its sigma was chosen for, the oracle better than both."""

    def mean(name: str, key: str) -> float:
        return unchanged.cards[name].mean(key).mean

    assert mean("bound", "mje_mm") < mean("gaussian", "mje_mm") < mean("input", "mje_mm")
    assert mean("bound", "p_mje_mm") < mean("gaussian_p", "p_mje_mm") <= mean("gaussian", "p_mje_mm")


def test_an_oracle_without_noise_that_moves_has_nothing_left(clips, hand):
    """With a constant error alone the input is the bound."""
    still = replace(NOISE, jitter_deg=(1e-9, 1e-9), root_jitter_deg=(1e-9, 1e-9), bursts=0.0)
    still = replace(still, drift_deg=(1e-9, 1e-9), root_drift_deg=(1e-9, 1e-9), missing=0.0)
    cards = compare(simulated(clips, still, hand, 1), {}, hand, "constant").cards
    bound, given = (cards[name].of_sequences("mje_mm") for name in ("bound", "input"))
    assert bound == pytest.approx(given, abs=1e-2)


def test_gaps_count_alike_for_all(clips, hand):
    """A gap of GAP frames is answered by whoever fills it; in a longer one everybody misses."""
    cases = simulated(clips, NOISE, hand, 1)
    for length, missed in ((GAP, 0), (GAP + 1, GAP + 1)):
        valid = torch.ones(FRAMES, dtype=torch.bool)
        valid[2 : 2 + length] = False
        gappy = [replace(case, estimate=replace(case.estimate, valid=valid), bound=None) for case in cases]
        cards = compare(gappy, {OURS: identity}, hand, "gaps").cards
        assert "bound" not in cards
        assert {card.count("missed") for card in cards.values()} == {3 * missed}


def test_a_file_and_a_table(unchanged):
    kept = json.loads(json.dumps(unchanged.json(), allow_nan=False))
    mean = unchanged.cards["input"].mean("mje_mm").mean
    assert kept["rows"]["input"]["scores"]["mje_mm"]["mean"] == pytest.approx(mean, rel=1e-5)
    assert len(kept["rows"]["input"]["of_sequences"]["mje_mm"]) == 3
    cells = rows(unchanged.cards.values(), unchanged.zero_accl_mm)
    assert {len(row) for row in cells} == {len(HEADS)}
    assert cells[0][1].startswith(f"{mean:.2f} [")


def test_a_single_clip_keeps_its_draws_apart(clips, hand):
    alone = Clips(("a",), clips.R[:1], clips.betas[:1], torch.full((1, FRAMES), FREE))
    card = compare(simulated(alone, NOISE, hand, 4), {OURS: identity}, hand, "one clip").cards["input"]
    assert len(card.of_sequences("mje_mm")) == 4
    assert card.mean("mje_mm").low < card.mean("mje_mm").high
    assert not card.state_f1()


def test_a_few_clips_are_spread_over_all(clips):
    assert clips.first(2).names == ("a", "c")
    assert clips.first(9).names == clips.names
    torch.testing.assert_close(clips.first(2).R[1], clips.R[2])


def test_harm_by_hand(clips, hand):
    """Nothing done harms nothing; a frozen hand loses all its acceleration."""
    assert harm(clips, identity, hand).moved_mm < 1e-3

    def frozen(motion):
        return replace(motion, R=motion.R[:1].expand_as(motion.R))

    found = harm(clips, frozen, hand)
    assert found.moved_mm > 1
    assert found.accl_mm == pytest.approx(-found.acceleration_mm, rel=1e-3)


def test_clips_are_consecutive_and_whole(clips):
    """100 frames make two clips of 40; a missing frame lies half way between its neighbours."""
    R = rotation.exp(torch.arange(100.0)[:, None, None] * torch.tensor([0.0, 0.0, 0.01]).expand(16, 3))
    valid = torch.ones(100, dtype=torch.bool)
    valid[50] = False
    R[50] = torch.eye(3)
    motion = HandMotion(R, torch.zeros(10), torch.zeros(100, 3), valid, 30.0, hand="open")
    found = cut_clips({"a": motion}, {"a": torch.arange(100)}, frames=40)
    assert found.names == ("a[0:40]", "a[40:80]")
    assert found.state[1].tolist() == list(range(40, 80))
    half = rotation.slerp(R[49], R[51], torch.full((16,), 0.5))
    torch.testing.assert_close(found.R[1, 10], half, atol=1e-5, rtol=0)
    with pytest.raises(MotionError, match="60 frames a second"):
        cut_clips({"a": replace(motion, fps=60.0)}, {"a": torch.arange(100)})
    with pytest.raises(MotionError, match="128 frames of a clip; longest is 100"):
        cut_clips({"a": motion}, {"a": torch.arange(100)})


@pytest.mark.recording
def test_the_profiles_show_the_papers_rows(recordings, hand):
    """DIP Table 1 frame-wise rows, within 5 %, with the seeds of the protocol on cup1 and teapot3."""
    tracks = {
        f"{take}.{side}": motion
        for take in TEST_TAKES
        for side, motion in read_take(recordings / "manipnet", take, hand).tracks.items()
    }
    clips = cut_clips(tracks, {name: torch.full((len(motion),), FREE) for name, motion in tracks.items()})
    assert len(clips.names) == 28
    paper = {NoiseConfig.hamer_like(): (18.9, 4.4, 7.95), NoiseConfig.khand_like(): (24.4, 5.8, 14.41)}
    for noise, row in paper.items():
        given = compare(simulated(clips, noise, hand), {}, hand, "").cards["input"]
        found = [given.mean(key).mean for key in ("mje_mm", "p_mje_mm", "accl_mm")]
        assert found == pytest.approx(row, rel=0.05)


@pytest.mark.recording
def test_taco_is_a_left_hand(recordings, hand):
    """Recorded finger tips lie within 20 mm of ours (another hand's shape), seen from the wrist and mirrored back."""
    path = recordings / "taco" / "20231104_010.pkl"
    clips = taco_clips(path, hand)
    content = read_pickle(path)
    tips, wrist = content["hand_verts"][:128, list(TIPS["smplx"])], content["hand_trans"][:128, None]
    posed = hand.mean_shape().pose(clips.R[0])
    ours = rotation.mirror_points(posed.tips() - posed.joints[:, :1])
    apart = (ours - torch.from_numpy(tips - wrist).float()).norm(dim=-1)
    assert apart.mean() < 0.02
    assert set(clips.state.unique().tolist()) >= {FREE, REACH}
