"""Made-up things: closed meshes of hand size, whose formulas, grids and meshes tell the same distances."""

import numpy as np
import pytest
import torch

from handdiff_lib.contact import Surface
from handdiff_lib.shapes import KINDS, MARGIN, Block, Lathe, MadeObject, Pipe, Shape, draw_shape


def draw(kind, seed=0):
    return Shape(kind, KINDS[kind](np.random.default_rng(seed)))


def cloud(shape, count=800):
    """Points inside and up to 2 cm around."""
    low, high = shape.mesh.bounds
    return np.random.default_rng(1).uniform(low - 0.02, high + 0.02, (count, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_meshes_are_closed_small_and_of_the_size_of_things_one_holds(kind):
    for seed in range(5):
        mesh = draw(kind, seed).mesh
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert mesh.volume > 0
        assert len(mesh.faces) < 1000
        assert 0.02 < mesh.extents.max() < 0.36
        np.testing.assert_allclose(mesh.bounds.mean(0), 0, atol=0.08)


@pytest.mark.parametrize("kind", KINDS)
def test_formula_and_grid_equal_the_distance_to_the_mesh(kind):
    """The mesh's flat sides lie up to 0.6 mm inside round ones; a grid rounds sharp edges."""
    shape = draw(kind)
    points = cloud(shape)
    truth = Surface(shape.mesh).distance(points)
    formula = np.abs(shape.signed(points).clip(0) - truth)
    assert np.quantile(formula, 0.99) < 6e-4
    grid = np.abs(shape.field.distance(points, MARGIN) - np.minimum(truth, MARGIN))
    assert np.quantile(grid, 0.99) < 1e-3
    assert grid.mean() < 2e-4


def test_signed_distances_by_hand():
    """A ball of 2 cm has its middle 2 cm deep; 3 cm out of a box's corner (3, 4, 0) / 5 it is 5 mm away."""
    angle = np.linspace(0, np.pi, 181)
    ball = Lathe(0.02 * np.stack([np.sin(angle), -np.cos(angle)], -1))
    np.testing.assert_allclose(ball.signed(np.array([[0, 0, 0], [0, 0.05, 0]])), [-0.02, 0.03], atol=1e-5)
    box = Block((0.02, 0.04, 0.06))
    np.testing.assert_allclose(box.signed(np.array([[0, 0, 0], [0.013, 0.024, 0]])), [-0.01, 0.005])
    pipe = Pipe(np.array([[0.0, 0, 0], [0.1, 0, 0]]), 0.01)
    np.testing.assert_allclose(pipe.signed(np.array([[0.05, 0, 0], [0.13, 0.04, 0]])), [-0.01, 0.04])


def test_a_part_on_its_side_is_the_same_part_turned():
    profile = np.array([(0, -0.05), (0.02, -0.05), (0.01, 0.05), (0, 0.05)])
    points = np.random.default_rng(0).uniform(-0.06, 0.06, (200, 3))
    lying = Lathe(profile, axis=0)
    np.testing.assert_allclose(lying.signed(points), Lathe(profile).signed(np.roll(points, 2, axis=-1)))
    assert lying.mesh().extents[0] == pytest.approx(0.1)


def test_inside_of_a_mug_is_not_inside_its_wall():
    mug = draw("mug")
    assert mug.signed(np.zeros((1, 3)))[0] > 0.02
    assert Surface(mug.mesh).distance(np.zeros((1, 3)))[0] > 0.02


def test_normals_of_the_field_point_outwards():
    ball = draw("ball")
    way = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert (ball.field.normal(0.04 * way) * way).sum(-1).min() > 0.99


def test_a_field_answers_like_a_surface():
    shape = draw("can")
    pose = torch.eye(4).repeat(4, 1, 1)
    pose[:, :3, 3] = torch.tensor([0.3, 0, 0])
    mesh = shape.mesh
    thing = MadeObject(torch.from_numpy(mesh.vertices).float(), torch.from_numpy(np.array(mesh.faces)), pose, shape)
    points = torch.from_numpy(cloud(shape, 200)).float().expand(4, -1, -1) + pose[:, None, :3, 3]
    exact = torch.from_numpy(Surface(mesh).distance(points[0].numpy() - [0.3, 0, 0])).float()
    torch.testing.assert_close(thing.distance(points)[2], exact, atol=6e-4, rtol=0)
    torch.testing.assert_close(thing.distance(points, reach=0.01)[2], exact.clamp(max=0.01), atol=1e-3, rtol=0)


def test_the_same_generator_draws_the_same_shape():
    one, same = (draw_shape(np.random.default_rng(3)) for _ in range(2))
    assert one.kind == same.kind
    np.testing.assert_array_equal(one.mesh.vertices, same.mesh.vertices)
    assert len({draw_shape(np.random.default_rng(seed)).kind for seed in range(60)}) > 8
