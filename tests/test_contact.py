"""Distances to a moving thing: trimesh as the slow twin, inside is 0, and rigid motion changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from handdiff_lib import rotation
from handdiff_lib.contact import DIGITS, RigidObject, Surface, hand_parts, signals
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.readers.manipnet import METRES, TAKES, take_joints
from handdiff_lib.topology import FINGERS, TIPS

SHAPES = {
    "box": trimesh.creation.box((0.1, 0.06, 0.08)),
    "cylinder": trimesh.creation.cylinder(0.03, 0.12, sections=40),
    "pipe": trimesh.creation.annulus(0.03, 0.034, 0.1),
    "ball": trimesh.creation.icosphere(3, 0.04),
    "needle": trimesh.creation.cone(0.002, 0.15, sections=90),
}


def rigid(mesh, frames=1):
    vertices = torch.from_numpy(np.array(mesh.vertices)).float()
    return RigidObject(vertices, torch.from_numpy(np.array(mesh.faces)), torch.eye(4).repeat(frames, 1, 1))


def cloud(mesh, count=1500):
    """Points on the surface moved by up to 4 cm: near, far, inside."""
    points, _ = trimesh.sample.sample_surface(mesh, count, seed=0)
    return np.asarray(points) + np.random.default_rng(0).uniform(-0.025, 0.025, (count, 3))


@pytest.mark.parametrize("mesh", SHAPES.values(), ids=SHAPES)
def test_distances_equal_the_slow_twin(mesh):
    surface, points = Surface(mesh), cloud(mesh)
    truth = trimesh.proximity.closest_point(mesh, points)[1]
    is_inside = mesh.contains(points)
    np.testing.assert_allclose(surface.distance(points), np.where(is_inside, 0, truth), atol=2e-4)
    assert is_inside.any() or mesh is SHAPES["needle"]


def test_a_sheet_has_no_inside():
    """The box without its lid: the middle is 3 cm from the long sides, not inside."""
    box = SHAPES["box"]
    open_box = trimesh.Trimesh(box.vertices, box.faces[box.face_normals[:, 2] < 0.5])
    assert Surface(box).distance(np.zeros((1, 3))) == 0
    assert Surface(open_box).distance(np.zeros((1, 3)))[0] == pytest.approx(0.03)


def test_a_mesh_turned_inside_out_keeps_its_inside():
    box = SHAPES["box"]
    flipped = trimesh.Trimesh(box.vertices, box.faces[:, ::-1])
    assert Surface(flipped).distance(np.array([[0, 0, 0], [0, 0.05, 0]])) == pytest.approx([0, 0.02])


def test_reach_cuts_distances_off_and_skips_nothing_near():
    thing = rigid(SHAPES["box"], frames=40)
    shift = torch.linspace(0, 1, 40)[:, None, None] * torch.tensor([0.3, 0.2, 0.0])
    points = torch.from_numpy(cloud(SHAPES["box"], 50)).float() + shift
    whole, cut = thing.distance(points), thing.distance(points, reach=0.02)
    torch.testing.assert_close(cut, whole.clamp(max=0.02))
    assert (cut == 0.02).any()
    assert (cut < 0.02).any()


def test_what_moves_together_stays_as_far():
    thing = rigid(SHAPES["cylinder"], frames=3)
    points = torch.from_numpy(cloud(SHAPES["cylinder"], 60)).reshape(3, 20, 3)
    R = rotation.exp(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())
    t = torch.tensor([[0.3, 1.0, -2.0]]).double().repeat(3, 1)
    pose = torch.eye(4).double().repeat(3, 1, 1)
    pose[:, :3, :3], pose[:, :3, 3] = R, t
    moved = replace(thing, pose=pose).distance(points @ R.mT + t[:, None])
    torch.testing.assert_close(moved, thing.distance(points))


def test_every_finger_tip_belongs_to_its_finger(hand):
    parts = hand_parts(hand)
    assert parts[list(TIPS["smplx"])].tolist() == list(range(5))
    assert DIGITS[:5] == FINGERS
    assert (torch.bincount(parts, minlength=6) > 50).all()


def still_hand(hand, frames, fps=30.0):
    return HandMotion(
        R=torch.eye(3).repeat(frames, 16, 1, 1),
        betas=torch.zeros(10),
        transl=torch.zeros(frames, 3),
        valid=torch.ones(frames, dtype=torch.bool),
        fps=fps,
        hand=hand.name,
        frame="world",
    )


def test_signals_of_a_box_that_flies_by_at_30_cm_a_second(hand):
    """The hand rests; seen from the box its tips move at 0.3 m/s, and the far box comes nearer by almost that."""
    motion, thing = still_hand(hand, 60), rigid(SHAPES["box"], 60)
    pose = thing.pose.clone()
    pose[:, 0, 3] = 1.5 - 0.01 * torch.arange(60)
    found = signals(motion, hand, replace(thing, pose=pose), 0.005, 0.05)
    middle = slice(10, 50)
    np.testing.assert_allclose(found.slide[middle], 0.3, rtol=1e-3)
    np.testing.assert_allclose(found.approach[middle], -0.3, rtol=0.03)
    assert found.turn.max() < 1e-6
    np.testing.assert_allclose(found.gap, 0.03, rtol=1e-6)


def test_turning_fingers_are_measured_in_radians_a_second(hand):
    """All 15 joints at 1 rad/s: the RMS is 1, at any frame rate."""
    for fps in (15.0, 60.0):
        motion = still_hand(hand, int(2 * fps), fps)
        bend = torch.arange(len(motion))[:, None, None] / fps * torch.tensor([0.0, 0, 1])
        R = motion.R.clone()
        R[:, 1:] = rotation.exp(bend).expand(-1, 15, -1, -1)
        far = rigid(SHAPES["ball"], len(motion))
        inner = slice(int(0.3 * fps), int(1.7 * fps))
        found = signals(replace(motion, R=R), hand, far, 0.005, 0.05)
        np.testing.assert_allclose(found.turn[inner], 1, rtol=1e-3)


def test_bad_things_are_named():
    good = rigid(SHAPES["box"])
    with pytest.raises(MotionError, match="100 m large; scale its vertices to metres"):
        replace(good, vertices=good.vertices * 1000)
    with pytest.raises(MotionError, match="no triangle"):
        replace(good, faces=good.faces[:0])
    with pytest.raises(MotionError, match=r"outside 0\.\.7"):
        replace(good, faces=good.faces + 5)
    with pytest.raises(MotionError, match="NaN or inf"):
        replace(good, pose=good.pose * float("nan"))


@pytest.mark.recording
@pytest.mark.parametrize("take", [t for t in TAKES if t != "teapot3"])
def test_real_meshes_agree_with_the_slow_twin(recordings, take):
    mesh = trimesh.load(take_joints(recordings / "manipnet", take).object_mesh, force="mesh")
    mesh.apply_scale(METRES)
    points = cloud(mesh, 150)
    truth = trimesh.proximity.closest_point(mesh, points)[1]
    surface = Surface(mesh)
    found = surface.distance(points)
    is_outside = found > 0
    np.testing.assert_allclose(found[is_outside], truth[is_outside], atol=6e-4)  # mug3 has slivers
    if surface.is_closed:
        is_wrong = is_outside != (winding(mesh, points) < 0.5)
        assert is_wrong.mean() < 0.02
        assert truth[is_wrong].max(initial=0) < 0.005, "only where sheets lie on each other"


def winding(mesh, points):
    """How often the surface goes round each point, from the solid angles of its triangles (Van Oosterom 1983).

    Parts of teapot2 overlap: there it is 2, and a ray from inside crosses an even number of sheets.
    """
    a, b, c = np.moveaxis(mesh.triangles[None] - points[:, None, None], 2, 0)
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    ab, bc, ca = ((x * y).sum(-1) for x, y in ((a, b), (b, c), (c, a)))
    solid = np.arctan2((a * np.cross(b, c)).sum(-1), la * lb * lc + ab * lc + bc * la + ca * lb)
    return solid.sum(-1) / (2 * np.pi)
