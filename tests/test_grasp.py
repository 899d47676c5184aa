"""Fingers close until they touch, and grips are found whose digits lie on the thing."""

import numpy as np
import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.grasp import CLEARANCE, DIGIT_JOINTS, HIGHEST, LOWEST, Grasper, at_joints
from handdiff_lib.grips import TOUCH, draw_fingers, find_grasps, spots
from handdiff_lib.shapes import KINDS, Block, Shape
from handdiff_lib.topology import CHAIN, FINGERS


@pytest.fixture(scope="module")
def grasper(hand):
    return Grasper(hand, torch.zeros(10))


def draw(kind, seed=0):
    return Shape(kind, KINDS[kind](np.random.default_rng(seed)))


def test_a_thinned_hand_has_the_vertices_of_the_whole(hand, grasper):
    angles = draw_fingers(np.random.default_rng(0), 3)
    whole = hand.mean_shape().pose(grasper.rotations(angles)).skin() - hand.J_template[0]
    for part in (*grasper.parts, grasper.palm, grasper.pads):
        few = grasper.pose(angles, part).skin()
        assert (few[:, :, None] - whole[:, None]).norm(dim=-1).amin(-1).max() < 1e-6


def test_pads_lie_on_the_palm_side_near_the_tips(hand, grasper):
    pads = grasper.pads.model.v_template
    tips = hand.v_template[[744, 320, 443, 554, 671]]
    assert ((pads - tips).norm(dim=-1) < 0.02).all()
    assert (pads[1:, 1] < tips[1:, 1] - 0.003).all(), "below the tips of index to little; the palm faces -y"


def test_fingers_stop_at_a_wall(grasper):
    """The hand flat over a wall 3 cm under its palm: bending fingers meet it, and none goes in."""
    wall = Shape("box", (Block((0.4, 0.02, 0.4)),))
    R, p = torch.eye(3)[None], torch.tensor([[-0.1, -0.05, 0.0]])
    wanted = torch.zeros(1, 15, 3)
    wanted[0, DIGIT_JOINTS[1:], 2] = torch.tensor([1.2, 0.6, 0.4])
    flexion = grasper.close(wall.field, R, p, wanted, torch.zeros(1, 15))
    angles = torch.cat([wanted[..., :2], flexion[..., None]], -1)
    gaps = grasper.gaps(wall.field, R, p, angles)[0, 1:5]
    torch.testing.assert_close(gaps, torch.full((4,), CLEARANCE), atol=1e-3, rtol=0)
    assert (flexion <= wanted[..., 2] + 1e-6).all()
    assert (flexion[0, DIGIT_JOINTS[1:, 0]] > 0.1).all()


def test_fingers_close_fully_on_nothing(grasper):
    wanted = draw_fingers(np.random.default_rng(0), 4)
    far = torch.tensor([0.0, 1.0, 0.0]).expand(4, 3)
    flexion = grasper.close(draw("ball").field, torch.eye(3).expand(4, 3, 3), far, wanted, LOWEST.expand(4, 15))
    torch.testing.assert_close(flexion, wanted[..., 2])


def test_a_finger_goes_on_beyond_the_bone_that_is_stopped(grasper):
    """A bar under the first bones stops the knuckles; the outer joints still close around it, all the way."""
    bar = Shape("box", (Block((0.02, 0.02, 0.3)),))
    wanted = torch.zeros(1, 15, 3)
    wanted[0, DIGIT_JOINTS[1:], 2] = 1.3
    knuckle = grasper.pads.rest_joints[1] - grasper.wrist
    p = (knuckle + torch.tensor([-0.015, -0.024, 0.0]))[None]
    flexion = grasper.close(bar.field, torch.eye(3)[None], p, wanted, torch.zeros(1, 15))[0]
    mcp, pip, dip = flexion[DIGIT_JOINTS[1]]
    assert mcp < 0.6
    assert pip > mcp + 0.3
    assert dip >= pip - 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_grips_touch_and_do_not_go_in(hand, kind):
    shape, rng = draw(kind), np.random.default_rng(1)
    grasper = Grasper(hand, torch.from_numpy(rng.normal(0, 1, 10)).float())
    found = find_grasps(grasper, shape, rng)
    assert len(found) > 1
    R = torch.from_numpy(np.stack([g.turn.as_matrix() for g in found])).float()
    p, angles = (torch.from_numpy(np.stack([getattr(g, name) for g in found])).float() for name in ("place", "fingers"))
    gaps = grasper.gaps(shape.field, R, p, angles)
    assert ((gaps[:, :5] < TOUCH).sum(-1) >= 1).all()
    assert gaps.min() > -0.004
    for grasp in found:
        assert (grasp.drive[:, 2] >= grasp.fingers[:, 2] - 1e-6).all(), "fingers press inwards"
        assert np.linalg.norm(grasp.approach) == pytest.approx(1, abs=1e-5)


def test_spots_lie_on_the_outer_surface_and_know_how_thick_the_thing_is():
    slab = Shape("slab", (Block((0.01, 0.08, 0.12)),))
    found = spots(slab, 200, np.random.default_rng(0))
    assert slab.field(found.point).abs().max() < 1e-3
    broad = found.normal[:, 0].abs() > 0.9
    assert broad.any()
    assert ((found.width[broad] - 0.01).abs() < 2.1e-3).double().mean() > 0.95, "edges are not parallel to anything"
    mug = spots(draw("mug"), 200, np.random.default_rng(0))
    assert (draw("mug").field(mug.point + 0.003 * mug.normal) > 0).all()


def test_drawn_fingers_stay_within_their_limits():
    angles = draw_fingers(np.random.default_rng(0), 2000)
    assert (angles[..., 2] >= LOWEST).all()
    assert (angles[..., 2] <= HIGHEST).all()
    assert angles[:, DIGIT_JOINTS[1:, 1:], :2].abs().max() == 0, "hinges only bend"
    assert angles[..., 2].std(0).min().rad2deg() > 12


def test_values_of_digits_go_to_their_joints():
    spread = at_joints(torch.arange(5.0)[None])[0]
    for digit, finger in enumerate(FINGERS):
        assert (spread[[j - 1 for j in CHAIN[finger]]] == digit).all()


def test_turning_hand_and_thing_together_changes_nothing(grasper):
    """The thing's own frame is of no account: turn it, and its pose back."""
    wanted = draw_fingers(np.random.default_rng(2), 1) + torch.tensor([0, 0, 0.6])
    ball = draw("ball", 2)
    p = torch.tensor([[-0.09, -0.06, 0.0]])
    Q = rotation.exp(torch.tensor([[0.4, 0.3, -0.8]]))
    one = grasper.close(ball.field, torch.eye(3)[None], p, wanted, LOWEST[None])
    other = grasper.close(ball.field, Q, p, wanted, LOWEST[None])
    torch.testing.assert_close(one, other, atol=0.03, rtol=0)
