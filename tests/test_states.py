"""Motion states: scripted sequences are read back, at any frame rate, forwards and backwards, through noise."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
import trimesh

from handdiff_lib.anatomy import anatomical_axes, anatomical_rotations
from handdiff_lib.contact import DIGITS, RigidObject
from handdiff_lib.motion import HandMotion, MotionError, mirror
from handdiff_lib.readers.manipnet import METRES, read_take
from handdiff_lib.states import USUAL, StateConfig, annotate, best_states
from handdiff_lib.topology import FREE, GRASP, MANIPULATE, REACH, RELEASE

TIMES = (0, 0.5, 1.3, 1.6, 2.4, 2.6, 2.8, 3.0, 3.2, 4.0, 4.3, 5.1, 5.6)
HEIGHT = (80, 80, -1, -1, -1, -1, -1, -1, -1, -1, -1, 80, 80)
FLEXION = (0, 0, 0, 30, 30, 10, 30, 10, 30, 30, 0, 0, 0)
"""A hand comes down on a box at 10 cm/s, closes, holds, moves its fingers, holds, opens, leaves: s, mm, degrees."""
STORY = [FREE, REACH, MANIPULATE, GRASP, MANIPULATE, GRASP, MANIPULATE, RELEASE, FREE]
BORDERS = (0.5, 1.24, 1.6, 2.4, 3.2, 4.0, 4.36, 5.1)
"""Contact, 5 mm, comes 0.06 s before the hand has arrived."""


def script(hand, fps, times=TIMES, height=HEIGHT, flexion=FLEXION):
    """The scripted motion and the box (80 x 60 x 60 mm, still) under the lowest point of the open hand."""
    at = np.arange(round(times[-1] * fps)) / fps
    bend, h = (
        torch.from_numpy(np.interp(at, times, v)).float() for v in (np.radians(flexion), np.array(height) / 1000)
    )
    angles = torch.zeros(len(at), 16, 3)
    angles[:, 1:, 2] = bend[:, None]
    rest = hand.mean_shape().pose(torch.eye(3).repeat(16, 1, 1)).skin()
    lowest = rest[rest[:, 1].argmin()]
    motion = HandMotion(
        R=anatomical_rotations(angles, anatomical_axes(hand)),
        betas=torch.zeros(10),
        transl=torch.stack([0 * h, h, 0 * h], -1),
        valid=torch.ones(len(at), dtype=torch.bool),
        fps=fps,
        hand=hand.name,
        frame="world",
    )
    mesh = trimesh.creation.box((0.08, 0.06, 0.06))
    pose = torch.eye(4).repeat(len(at), 1, 1)
    pose[:, :3, 3] = lowest - torch.tensor([0, 0.03, 0])
    return motion, rigid(mesh, pose)


def rigid(mesh, pose):
    """A mesh as a thing."""
    return RigidObject(torch.from_numpy(mesh.vertices).float(), torch.from_numpy(mesh.faces).long(), pose)


def segments(state):
    """(states, start frames of all but the first)."""
    cut = 1 + np.flatnonzero(np.diff(state.numpy()))
    return [int(state[k]) for k in (0, *cut)], cut


def backwards(state):
    """Labels of the same motion played backwards."""
    swapped = torch.where(state == REACH, RELEASE, torch.where(state == RELEASE, REACH, state))
    return swapped.flip(0)


@pytest.mark.parametrize("fps", [15.0, 30.0, 60.0])
def test_a_scripted_sequence_is_read_back_within_two_frames_of_thirty_a_second(hand, fps):
    motion, thing = script(hand, fps)
    states = annotate(motion, hand, thing)
    story, cut = segments(states.state)
    assert story == STORY
    np.testing.assert_allclose(cut / fps, BORDERS, atol=max(2 / fps, 2.01 / 30))


def test_frame_rates_agree(hand):
    cuts = [segments(annotate(*order(script(hand, fps), hand)).state)[1] / fps for fps in (15.0, 30.0, 60.0)]
    np.testing.assert_allclose(cuts[0], cuts[1], atol=2 / 30)
    np.testing.assert_allclose(cuts[2], cuts[1], atol=2 / 30)


def order(scene, hand):
    return scene[0], hand, scene[1]


def test_time_reversal_swaps_reach_and_release_exactly(hand):
    motion, thing = script(hand, 30.0)
    noise = torch.randn(len(motion), 3, generator=torch.Generator().manual_seed(0))
    motion = replace(motion, transl=motion.transl + 0.002 * noise)
    there = annotate(motion, hand, thing)
    back = annotate(motion[torch.arange(len(motion) - 1, -1, -1)], hand, replace(thing, pose=thing.pose.flip(0)))
    assert torch.equal(back.state, backwards(there.state))
    assert torch.equal(back.contact, there.contact.flip(0))
    torch.testing.assert_close(back.confidence, there.confidence.flip(0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("is_constant", [True, False], ids=["shifted", "shaking"])
def test_three_millimetres_of_object_noise_change_few_labels(hand, is_constant):
    motion, thing = script(hand, 30.0)
    clean = annotate(motion, hand, thing).state
    generator = torch.Generator().manual_seed(1)
    changed = []
    for _ in range(6):
        noise = 0.003 * (2 * torch.rand(1 if is_constant else len(motion), 3, generator=generator) - 1)
        pose = thing.pose.clone()
        pose[:, :3, 3] += noise
        changed.append((annotate(motion, hand, replace(thing, pose=pose)).state != clean).double().mean())
    assert torch.stack(changed).mean() < 0.03


def test_labels_do_not_depend_on_where_the_scene_is_or_which_hand_it_is(hand):
    motion, thing = script(hand, 30.0)
    states = annotate(motion, hand, thing)
    flip = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
    mirrored = RigidObject(thing.vertices * torch.tensor([-1.0, 1, 1]), thing.faces.flip(1), flip @ thing.pose @ flip)
    left = annotate(mirror(motion), hand, mirrored)
    assert torch.equal(left.state, states.state)
    assert torch.equal(left.contact, states.contact)
    torch.testing.assert_close(left.distance, states.distance)


def test_distance_contact_and_confidence_mean_what_they_say(hand):
    motion, thing = script(hand, 30.0)
    states = annotate(motion, hand, thing)
    held = slice(60, 66)
    assert states.contact.shape == (168, 6)
    assert not states.contact[:30].any()
    assert not states.contact[held, [DIGITS.index("little")]].any(), "only the ball of the thumb lies on the box"
    assert states.contact[held, [DIGITS.index("palm")]].all()
    fall = states.distance[16] - states.distance[34]
    assert 0.04 < fall < 0.06, "18 frames at 10 cm/s; joints beside the box come nearer by less"
    assert ((states.confidence >= 0) & (states.confidence <= 1)).all()
    assert states.confidence[3] > 0.9 > states.confidence[segments(states.state)[1]].mean()


def test_missing_frames_are_bridged_and_not_trusted(hand):
    motion, thing = script(hand, 30.0)
    gone = torch.zeros(168, dtype=torch.bool)
    gone[[20, 50, 51, 100]] = True
    broken = replace(motion, valid=~gone, transl=torch.where(gone[:, None], 5.0, motion.transl))
    states, whole = annotate(broken, hand, thing), annotate(motion, hand, thing)
    assert (states.state != whole.state).double().mean() < 0.03
    assert (states.confidence[gone] == 0).all()


def test_free_motion_can_be_a_class_and_can_be_done_away_with(hand):
    motion, thing = script(hand, 30.0)
    four, five = annotate(motion, hand, thing), annotate(motion, hand, thing, config=StateConfig(n_states=5))
    assert torch.equal(torch.where(four.state == FREE, 4, four.state), five.state)
    assert (annotate(motion, hand, thing, config=StateConfig(lenient=True)).state >= 0).all()


def test_a_pass_without_contact_is_free_unless_lenient(hand):
    motion, thing = script(hand, 30.0, (0, 1, 2, 3), (90, 40, 40, 90), (0, 0, 0, 0))
    assert (annotate(motion, hand, thing).state == FREE).all()
    lenient = annotate(motion, hand, thing, config=StateConfig(lenient=True)).state
    assert (lenient[3:27] == REACH).all()
    assert (lenient[63:87] == RELEASE).all()


def test_the_target_is_the_thing_that_is_touched(hand):
    motion, thing = script(hand, 30.0)
    pose = thing.pose.clone()
    pose[:, 1, 3] += 0.2  # nearer at first, never touched
    states = annotate(motion, hand, replace(thing, pose=pose), thing)
    assert (states.target == 1).all()
    assert torch.equal(states.state, annotate(motion, hand, thing).state)
    far = pose.clone()
    far[:, 1, 3] += 1
    none = annotate(motion[:20], hand, replace(thing, pose=far[:20]), replace(thing, pose=pose[:20]))
    assert (none.target == 1).all(), "the nearer one, when none is touched"


def test_thresholds_follow_the_noise_of_the_labels():
    assert StateConfig().for_noise(0.004).contact_on == 0.008
    assert StateConfig().for_noise(0.0).contact_on == 0.003


def test_the_best_path_keeps_states_and_takes_usual_turns():
    """At 30 fps a state lasts three frames: a blip of one goes. Free to grasp must pass through reach."""
    scores = np.full((12, 5), -1.0)
    scores[:, GRASP] = 0
    scores[5, GRASP], scores[5, MANIPULATE] = -1, 0
    state, margin = best_states(scores, 30.0, StateConfig())
    assert (state == GRASP).all()
    assert margin[5] == pytest.approx(1.0), "3 frames of manipulation lose 2, the grasp loses 1"
    scores = np.full((12, 5), -1.0)
    scores[:6, 4], scores[6:, GRASP] = 0, 0
    state, _ = best_states(scores, 30.0, StateConfig())
    assert (state == REACH).sum() == 3


def test_the_best_path_is_the_best_of_all_paths():
    """A slow twin: every path of five frames, states of at least two frames but at the ends."""
    rng = np.random.default_rng(0)
    config = StateConfig(state_s=2 / 30, unusual=1.0)
    for _ in range(5):
        scores = rng.normal(0, 1, (5, 5))
        best = {}
        for path in product(range(5), repeat=5):
            cuts = [k for k in range(1, 5) if path[k] != path[k - 1]]
            if any(b - a < 2 for a, b in pairwise(cuts)):
                continue
            turns = sum((path[k - 1], path[k]) not in USUAL for k in cuts)
            best[path] = scores[range(5), path].sum() - turns
        winner = max(best, key=best.get)
        state, margin = best_states(scores, 30.0, config)
        assert tuple(state) == winner
        for t in range(5):
            other = max(v for path, v in best.items() if path[t] != winner[t])
            assert margin[t] == pytest.approx(best[winner] - other, abs=1e-4)


def test_bad_input_is_named(hand):
    motion, thing = script(hand, 30.0)
    with pytest.raises(MotionError, match="no object"):
        annotate(motion, hand)
    with pytest.raises(MotionError, match="168 frames of the hand against 100"):
        annotate(motion, hand, replace(thing, pose=thing.pose[:100]))


@pytest.mark.recording
def test_a_real_take_has_all_states_reads_the_same_backwards_and_bears_noise(hand, recordings):
    take = read_take(recordings / "manipnet", "mug1", hand)
    mesh = trimesh.load(take.object_mesh, force="mesh")
    mesh.apply_scale(METRES)
    motion, thing = take.tracks["right"], rigid(mesh, take.object_pose)
    state = annotate(motion, hand, thing).state
    share = [(state == k).double().mean().item() for k in range(4)]
    assert 0.5 < share[GRASP] + share[MANIPULATE] < 0.65
    assert min(share) > 0.03
    last = torch.arange(len(motion) - 1, -1, -1)
    back = annotate(motion[last], hand, replace(thing, pose=thing.pose.flip(0))).state
    assert torch.equal(back, backwards(state))
    noise = 0.003 * (2 * torch.rand(len(thing.pose), 3, generator=torch.Generator().manual_seed(0)) - 1)
    pose = thing.pose.clone()
    pose[:, :3, 3] += noise
    assert (annotate(motion, hand, replace(thing, pose=pose)).state != state).double().mean() < 0.03
