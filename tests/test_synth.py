"""Made-up motion: smooth, varied, repeatable, off the things it holds, and labelled by the geometry."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_angles, anatomical_axes
from handdiff_lib.contact import Surface
from handdiff_lib.metrics import second_difference_deg
from handdiff_lib.paths import FingerPlan, Route, min_jerk, smoothest
from handdiff_lib.states import annotate
from handdiff_lib.synth import play, synthesize
from handdiff_lib.topology import CHAIN, FINGERS, GRASP, MANIPULATE, REACH, RELEASE

SEEDS, FRAMES = 8, 180


@pytest.fixture(scope="module")
def clips(hand):
    """Eight clips of six seconds."""
    return [synthesize(hand, seed, FRAMES) for seed in range(SEEDS)]


def turning(clip):
    """RMS speed of the 15 finger joints, degrees a second, (t-1,)."""
    R = clip.motion.R[:, 1:]
    return torch.rad2deg(rotation.angle_between(R[:-1], R[1:]).square().mean(-1).sqrt()) * clip.motion.fps


def test_the_same_seed_makes_the_same_clip(hand):
    one, same, other = synthesize(hand, 1), synthesize(hand, 1), synthesize(hand, 2)
    assert torch.equal(one.motion.R, same.motion.R)
    assert torch.equal(one.motion.transl, same.motion.transl)
    assert torch.equal(one.thing.pose, same.thing.pose)
    assert torch.equal(one.state, same.state)
    assert not torch.equal(one.motion.R, other.motion.R)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_clips_may_be_short(hand, frames):
    clip = synthesize(hand, 4, frames, fps=120.0)
    assert len(clip.motion) == len(clip.state) == len(clip.thing.pose) == frames


def test_states_occur_in_good_shares_and_follow_the_script(hand, clips):
    state = torch.cat([clip.state for clip in clips])
    assert len(state) == SEEDS * FRAMES
    for kind in (REACH, GRASP, MANIPULATE, RELEASE):
        assert (state == kind).double().mean() > 0.08
    label = torch.from_numpy(np.concatenate([play(hand, s, FRAMES).scene.label[:FRAMES] for s in range(2)]))
    told, read = (torch.isin(x, torch.tensor([GRASP, MANIPULATE])) for x in (label, state[: len(label)]))
    assert (told == read).double().mean() > 0.85
    both = told & read
    assert (label == state[: len(label)])[both].double().mean() > 0.7


def test_labels_are_what_annotate_says_with_exact_distances(hand):
    clip = synthesize(hand, 3, 100)
    exact = annotate(
        clip.motion[:120], hand, type(clip.thing)(clip.thing.vertices, clip.thing.faces, clip.thing.pose[:120])
    )
    assert (exact.state[:60] == clip.state[:60]).double().mean() > 0.97, "the end of a cut track may read otherwise"


def test_held_things_are_touched_and_not_gone_into(hand, clips):
    gaps = []
    for clip in clips[:4]:
        frames = torch.nonzero(torch.isin(clip.state, torch.tensor([GRASP, MANIPULATE])))[::8, 0]
        seen = clip.thing.local(clip.motion.vertices(hand))[frames].double()
        mesh = clip.thing.surface
        away = mesh.distance(seen.flatten(0, 1).numpy()).reshape(len(frames), -1)
        assert np.quantile(away.min(1), 0.9) < 0.005
        turned_out = Surface.__new__(Surface)  # without an inside all distances are to the sheet
        turned_out.__dict__ = mesh.__dict__ | {"normals": None}
        depth = turned_out.distance(seen.flatten(0, 1).numpy()).reshape(len(frames), -1)
        gaps.append(np.where(away == 0, depth, 0).max(1))
    assert np.quantile(np.concatenate(gaps), 0.95) < 0.003


def test_a_thing_in_a_stable_grasp_stays_where_it_is_in_the_hand(hand, clips):
    turns, ways = [], []
    for clip in clips:
        R_hand, pose, wrist = clip.motion.R[:, 0], clip.thing.pose, clip.motion.joints(hand)[:, 0]
        seen = R_hand.mT @ pose[:, :3, :3]
        place = (R_hand.mT @ (pose[:, :3, 3] - wrist)[..., None])[..., 0]
        held = (clip.state[1:] == GRASP) & (clip.state[:-1] == GRASP)
        turns.append(torch.rad2deg(rotation.angle_between(seen[1:], seen[:-1]))[held])
        ways.append((place[1:] - place[:-1]).norm(dim=-1)[held])
    assert torch.cat(turns).quantile(0.8) < 0.01
    assert torch.cat(ways).quantile(0.8) < 1e-5


def test_a_thing_rests_outside_contact(clips):
    state = torch.cat([clip.state[1:] for clip in clips])
    moves = torch.cat([clip.thing.pose.diff(dim=0).abs().amax((1, 2)) > 1e-6 for clip in clips])
    touches = (state == GRASP) | (state == MANIPULATE)
    assert moves[touches].double().mean() > 0.3
    assert moves[~touches].double().mean() < 0.03


def test_fingers_turn_as_fast_as_in_captured_motion(clips):
    """ManipNet's training takes: 42 to 88 degrees a second RMS over a take, 5 or less while a hand holds still."""
    speed = torch.cat([turning(clip) for clip in clips])
    state = torch.cat([clip.state[1:] for clip in clips])
    assert 35 < speed.square().mean().sqrt() < 90
    assert 25 < speed[state == MANIPULATE].median() < 85
    assert speed[state == GRASP].median() < 10
    assert speed.max() < 1000


def test_motion_is_smooth_and_wrists_are_no_faster_than_people(clips):
    assert torch.stack([second_difference_deg(clip.motion.R[:, 1:]).mean() for clip in clips]).mean() < 1.0
    speed = torch.cat([clip.motion.transl.diff(dim=0).norm(dim=-1) * 30 for clip in clips])
    assert 0.3 < speed.quantile(0.95) < 1.2
    assert speed.max() < 2.0


def test_joints_stay_within_their_limits_and_use_them(hand, clips):
    R = torch.cat([clip.motion.R for clip in clips])
    angles = torch.rad2deg(anatomical_angles(R, anatomical_axes(hand)))
    for finger in FINGERS:
        first, second, third = CHAIN[finger]
        assert angles[:, [first, second, third], 2].amin() > -40
        assert angles[:, [first, second, third], 2].amax() < 110
        assert angles[:, [second, third], :2].abs().max() < 4, "hinges only bend, but for the tremor"
        assert angles[:, [first, second, third], 2].std(0).min() > 11
    assert angles[:, [CHAIN[f][0] for f in FINGERS[1:]], 1].abs().max() < 60


def test_another_frame_rate_samples_the_same_motion(hand):
    slow, fast = synthesize(hand, 5, 90), synthesize(hand, 5, 360, fps=120.0)
    torch.testing.assert_close(fast.motion.R[::4], slow.motion.R, atol=2e-3, rtol=0)
    torch.testing.assert_close(fast.thing.pose[::4], slow.thing.pose, atol=1e-4, rtol=0)
    assert (fast.state[::4] == slow.state).double().mean() > 0.95
    middle = rotation.slerp(slow.motion.R[:-1], slow.motion.R[1:], torch.full((89, 16), 0.5))
    assert rotation.angle_between(fast.motion.R[2:-2:4], middle).max().rad2deg() < 3


def test_a_left_hand_is_the_right_one_in_the_mirror(hand):
    right, left = synthesize(hand, 6, 60), synthesize(hand, 6, 60, side="left")
    assert left.motion.side == "left"
    assert torch.equal(left.motion.R, right.motion.R)
    assert torch.equal(left.state, right.state)
    d_right, d_left = (c.thing.distance(c.motion.joints(hand)) for c in (right, left))
    torch.testing.assert_close(d_right, d_left, atol=1e-5, rtol=0)


def test_people_and_things_differ(clips):
    assert torch.stack([clip.motion.betas for clip in clips]).std() > 0.7
    assert len({len(clip.thing.vertices) for clip in clips}) > 2


def test_the_smoothest_path_rests_at_its_ends_and_not_between():
    """Between two places it is the minimum-jerk curve; through a third it keeps going."""
    u = np.linspace(0, 1, 101)
    two = smoothest(np.array([0.0, 1.0]), np.array([[0.0], [2.0]]), u)
    np.testing.assert_allclose(two[:, 0], 2 * min_jerk(u), atol=1e-9)
    three = smoothest(np.array([0.0, 0.5, 1.0]), np.array([[0.0], [1.0], [2.0]]), u)[:, 0]
    assert three[50] == pytest.approx(1)
    speed = np.gradient(three, u)
    assert speed[[0, -1]].max() < 0.01
    assert speed[50] > 2


def test_a_route_passes_its_turns():
    turns = [Rotation.from_rotvec([0, 0, a]) for a in (0.0, 1.0, 2.5)]
    turn, place = Route(np.array([0.0, 1, 2]), turns, np.eye(3))(np.array([0.0, 1, 2, 9]))
    np.testing.assert_allclose(turn.as_rotvec()[:, 2], [0, 1, 2.5, 2.5], atol=1e-9)
    np.testing.assert_allclose(place[:3], np.eye(3), atol=1e-9)


def test_steps_add_up_and_lifts_come_back():
    start = np.zeros((15, 3))
    plan, goal = FingerPlan(start), start.copy()
    goal[0, 2] = 1.0
    plan.step(0.0, 1.0, goal)
    goal = goal.copy()
    goal[1, 2] = 0.5
    plan.step(0.5, 1.5, goal)
    plan.lift(1.0, 2.0, np.array([0]), 30.0)
    made = plan(np.array([0.0, 0.5, 1.5, 2.0]))
    np.testing.assert_allclose(made[:, 0, 2], [0, 0.5, 1 - np.radians(30), 1])
    np.testing.assert_allclose(made[:, 1, 2], [0, 0, 0.5, 0.5])
