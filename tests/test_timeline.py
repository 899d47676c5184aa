"""States in order: against all stories there are, and what it does to doubtful frames."""

from itertools import product

import pytest
import torch

from handdiff_lib.timeline import PART, in_order, steps
from handdiff_lib.topology import GRASP, MANIPULATE, REACH, RELEASE


def sure(states: list[int], how: float = 0.97) -> torch.Tensor:
    """Frames that each believe in one state."""
    prob = torch.full((len(states), 4), (1 - how) / 3)
    prob[range(len(states)), states] = how
    return prob


def test_all_stories_of_five_frames(generator):
    """Forwards and backwards is the sum over every path."""
    prob = torch.rand(5, 4, generator=generator).softmax(-1)
    A, total = steps(), torch.zeros(5, 4)
    for path in product(range(4), repeat=5):
        weight = 1.0
        for t, state in enumerate(path):
            weight *= prob[t, state].item() ** PART * (A[path[t - 1], state].item() if t else 1.0)
        for t, state in enumerate(path):
            total[t, state] += weight
    torch.testing.assert_close(in_order(prob), total / total.sum(-1, keepdim=True), atol=1e-5, rtol=0)


def test_steps_are_probabilities_and_the_order_is_the_papers():
    A = steps()
    torch.testing.assert_close(A.sum(1), torch.ones(4))
    assert A[REACH, MANIPULATE] > 10 * A[REACH, RELEASE]
    assert A[MANIPULATE, RELEASE] > 10 * A[MANIPULATE, REACH]
    assert A[RELEASE, REACH] > 10 * A[RELEASE, GRASP]


def test_a_clear_story_stays():
    story = 20 * [REACH] + 30 * [GRASP] + 30 * [MANIPULATE] + 20 * [RELEASE]
    assert in_order(sure(story)).argmax(-1).tolist() == story


def test_a_moment_of_doubt_is_overruled():
    story = 20 * [MANIPULATE]
    flicker = story.copy()
    flicker[9:11] = [REACH, REACH]
    assert in_order(sure(flicker)).argmax(-1).tolist() == story


def test_what_follows_manipulation_is_a_release():
    """Frames that cannot tell reach from release are told by what came before, for half a second."""
    prob = sure(30 * [MANIPULATE] + 20 * [REACH])
    prob[30:] = torch.tensor([0.5, 0.02, 0.02, 0.46])
    told = in_order(prob)
    assert told[31:42].argmax(-1).eq(RELEASE).all()
    torch.testing.assert_close(told.sum(-1), torch.ones(50))


@pytest.mark.parametrize("frames", [1, 2])
def test_short_clips(frames):
    prob = sure(frames * [GRASP])
    assert in_order(prob).argmax(-1).tolist() == frames * [GRASP]
