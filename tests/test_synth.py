"""Made-up motion: smooth, varied, labelled, repeatable."""

import torch

from handdiff_lib import rotation
from handdiff_lib.metrics import second_difference_deg
from handdiff_lib.synth import synthesize
from handdiff_lib.topology import FREE


def test_the_same_seed_makes_the_same_clip(hand):
    one, same, other = synthesize(hand, 1), synthesize(hand, 1), synthesize(hand, 2)
    assert torch.equal(one.motion.R, same.motion.R)
    assert not torch.equal(one.motion.R, other.motion.R)


def test_clips_have_the_asked_length_and_all_states_occur(hand):
    states = torch.cat([synthesize(hand, seed, 200).state for seed in range(6)])
    assert len(states) == 1200
    assert set(states.tolist()) == {FREE, 0, 1, 2, 3}


def test_motion_is_smooth_and_moves(hand):
    clip = synthesize(hand, 5, 300).motion
    assert second_difference_deg(clip.R[:, 1:]).mean() < 0.6
    assert torch.rad2deg(rotation.angle_between(clip.R[:1].expand_as(clip.R), clip.R)).max() > 20
    assert clip.transl.diff(dim=0).norm(dim=-1).max() * 30 < 2.0, "wrists move slower than 2 m/s"


def test_grasps_hold_still_and_manipulation_moves_the_fingers(hand):
    held, moved = [], []
    for seed in range(12):
        clip = synthesize(hand, seed, 300)
        speed = rotation.angle_between(clip.motion.R[:-1, 1:], clip.motion.R[1:, 1:]).mean(-1)
        held.append(speed[clip.state[1:] == 1])
        moved.append(speed[clip.state[1:] == 2])
    assert torch.cat(moved).mean() > 2 * torch.cat(held).mean()


def test_frame_rate_only_samples_the_same_kind_of_motion(hand):
    """A frame at 120 fps turns about a quarter as far as one at 30."""

    def step(fps, frames):
        R = torch.cat([synthesize(hand, s, frames, fps).motion.R[None] for s in range(6)])
        return rotation.angle_between(R[:, :-1], R[:, 1:]).mean()

    assert 3 < step(30.0, 150) / step(120.0, 600) < 5
