"""The test protocol: what each row must be for refiners whose answer is known, and a slow twin for the scores."""

import json
from dataclasses import replace

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.baselines import gaussian
from handdiff_lib.bench import taco_clips
from handdiff_lib.metrics import score
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.perturb import NoiseConfig, perturb
from handdiff_lib.protocol import COLUMNS, SEED, Clips, cut_clips, harm, measure
from handdiff_lib.readers.manipnet import TEST_TAKES, read_take
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.topology import FREE, GRASP, REACH, TIPS

FRAMES, DRAWS = 40, 2
SCORES = ("mje_mm", "p_mje_mm", "accl_mm", "finger_deg")


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
def unchanged(clips, hand):
    return measure(clips, NoiseConfig.hamer_like(), identity, hand, "nothing done", DRAWS)


def test_doing_nothing_is_the_input(unchanged):
    for key in SCORES:
        ours, given = (getattr(unchanged.rows[name], key) for name in ("handdiff", "input"))
        torch.testing.assert_close(ours, given, atol=1e-3, rtol=1e-3)
    gains = unchanged.gains()
    for name in ("mje_change", "p_mje_change", "mje_way_to_bound"):
        assert gains[name] == pytest.approx((0, 0, 0), abs=1e-3)
    assert gains["accl_over_zero"][0] == pytest.approx(
        unchanged.rows["input"].mean("accl_mm") / unchanged.zero_accl_mm, rel=1e-3
    )


def test_the_scores_are_those_of_single_tracks(unchanged, clips, hand):
    """Slow twin: `metrics.score` for every clip and draw."""
    for k in range(3):
        found = []
        for seed in range(SEED, SEED + DRAWS):
            noise, one = NoiseConfig.hamer_like(), torch.Generator().manual_seed(seed)
            said = perturb(clips.R, clips.betas, hand, noise, torch.ones(3), one)
            place, valid = torch.zeros(FRAMES, 3), torch.ones(FRAMES, dtype=torch.bool)
            pred, truth = (
                HandMotion(R[k], betas[k], place, valid, 30.0, hand="open")
                for R, betas in ((said.R, said.betas), (clips.R, clips.betas))
            )
            found.append(score(pred, truth, hand))
        for key in SCORES:
            mean = sum(s[key] for s in found) / DRAWS
            assert getattr(unchanged.rows["input"], key)[k].item() == pytest.approx(mean, rel=1e-3)


def test_states_are_scored_where_the_truth_has_one(unchanged):
    """15 of 30 frames are reaching: F1 of always saying so is 2 * 15 / (30 + 15), of holding 0."""
    assert unchanged.state_f1 == {"reach": pytest.approx(2 / 3), "stable grasp": 0}
    assert unchanged.macro_f1 == pytest.approx(1 / 3)
    assert unchanged.state_accuracy == pytest.approx(0.5)


def test_the_truth_as_answer_is_perfect(clips, hand):
    truths = iter(DRAWS * [*zip(clips.R, clips.betas, clips.state, strict=True)])

    def oracle(motion):
        R, betas, state = next(truths)
        return replace(motion, R=R, betas=betas, state_prob=(state[:, None] == torch.arange(4)).float())

    found = measure(clips, NoiseConfig.hamer_like(), oracle, hand, "perfect", DRAWS)
    for key in SCORES:
        assert found.rows["handdiff"].mean(key) < 1e-3
    assert found.macro_f1 == found.state_accuracy == 1
    assert found.rows["handdiff"].kin_deg == pytest.approx(found.rows["truth"].kin_deg, rel=1e-4)
    assert found.rows["handdiff"].sta_deg2 == pytest.approx(found.rows["truth"].sta_deg2, rel=1e-4)


def test_the_references_stand_in_order(unchanged):
    """Smoothing is no worse than the input in what its sigma was chosen for, the oracle better than both."""
    rows = unchanged.rows
    assert rows["bound"].mean("mje_mm") < rows["gaussian"].mean("mje_mm") < rows["input"].mean("mje_mm")
    assert rows["bound"].mean("p_mje_mm") < rows["gaussian_p"].mean("p_mje_mm") <= rows["gaussian"].mean("p_mje_mm")
    assert rows["truth"].mean("mje_mm") == 0
    low, high = rows["input"].interval("mje_mm")
    assert low < rows["input"].mean("mje_mm") < high


def test_an_oracle_without_noise_that_moves_has_nothing_left(clips, hand):
    """With a constant error alone the input is the bound."""
    still = replace(NoiseConfig.hamer_like(), jitter_deg=(1e-9, 1e-9), root_jitter_deg=(1e-9, 1e-9), bursts=0.0)
    still = replace(still, drift_deg=(1e-9, 1e-9), root_drift_deg=(1e-9, 1e-9), missing=0.0)
    rows = measure(clips, still, identity, hand, "constant", 1).rows
    torch.testing.assert_close(rows["bound"].mje_mm, rows["input"].mje_mm, atol=1e-2, rtol=0)


def test_a_table_and_a_file(unchanged):
    cells = unchanged.cells()
    assert len(cells) == 6
    assert {len(row) for row in cells} == {len(COLUMNS)}
    kept = json.loads(json.dumps(unchanged.json(), allow_nan=False))
    assert kept["rows"]["input"]["mje_mm"] == pytest.approx(unchanged.rows["input"].mean("mje_mm"), abs=1e-4)
    assert len(kept["rows"]["input"]["mje_mm_of_clips"]) == 3


def test_a_single_clip_keeps_its_draws_apart(clips, hand):
    alone = Clips(("a",), clips.R[:1], clips.betas[:1], torch.full((1, FRAMES), FREE))
    found = measure(alone, NoiseConfig.hamer_like(), identity, hand, "one clip", 4)
    assert found.rows["input"].mje_mm.shape == (4,)
    low, high = found.rows["input"].interval("mje_mm")
    assert low < high
    assert found.json()["states"] == {"macro_f1": None, "accuracy": None}


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
        given = measure(clips, noise, identity, hand, "").rows["input"]
        found = [given.mean(key) for key in ("mje_mm", "p_mje_mm", "accl_mm")]
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
