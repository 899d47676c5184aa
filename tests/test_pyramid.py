"""Levels and spirals of a mesh, and the convolution on them."""

import numpy as np
import pytest
import torch

from handdiff_lib.meshconv import MeshEncoder, SpiralConv
from handdiff_lib.pyramid import SPIRAL, build_pyramid, decimate, spiral_rows


@pytest.fixture(scope="module")
def pyramid(hand):
    return build_pyramid(hand.v_template, hand.faces)


def test_the_hand_has_the_papers_levels(pyramid):
    assert [len(k) for k in pyramid.kept] == [389, 195, 98, 49]
    assert [tuple(s.shape) for s in pyramid.spirals] == [(389, 9), (195, 9), (98, 9), (49, 9)]


def test_pooling_only_selects_vertices_of_the_level_before(pyramid):
    for coarse, fine in zip(pyramid.kept[1:], pyramid.kept, strict=False):
        assert set(coarse.tolist()) <= set(fine.tolist())


def test_a_spiral_starts_at_its_own_vertex_and_names_nine_others_once(pyramid):
    level0 = pyramid.spirals[0]
    assert torch.equal(level0[:, 0], pyramid.kept[0])
    assert all(len(set(row)) == SPIRAL for row in level0.tolist())


def test_the_spiral_of_a_hexagon_walks_counter_clockwise():
    faces = np.array([[0, k, k % 6 + 1] for k in range(1, 7)])
    row = spiral_rows(faces, 7)[0]
    assert row[:7].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert row[7:].tolist() == [0, 0], "a mesh with too few vertices repeats the centre"


def test_spirals_stay_near(hand, pyramid):
    v = hand.v_template
    reach = (v[pyramid.spirals[0]] - v[pyramid.spirals[0][:, :1]]).norm(dim=-1)
    assert reach.max() < 0.05


def test_decimation_keeps_a_manifold_with_the_same_border(hand):
    v, f = hand.v_template.double().numpy(), hand.faces.numpy()
    keep, faces = decimate(v, f, 389)
    assert len(keep) == 389
    assert set(np.unique(faces)) == set(keep)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    assert count.max() == 2
    vertices, n_edges, n_faces = len(keep), len(count), len(faces)
    assert vertices - n_edges + n_faces == 1, "a disc: a hand that is open at the wrist"


def test_the_same_mesh_gives_the_same_pyramid(hand, pyramid):
    again = build_pyramid(hand.v_template, hand.faces)
    assert all(torch.equal(a, b) for a, b in zip(again.spirals, pyramid.spirals, strict=True))


def test_spiral_convolution_is_its_formula(pyramid):
    """y_i = W [x_S(i,1), ..., x_S(i,9)] + b, one vertex at a time."""
    torch.manual_seed(0)
    conv, x = SpiralConv(3, 5, pyramid.spirals[0]), torch.randn(2, 778, 3)
    y = conv(x)
    for i in (0, 17, 388):
        around = x[1, pyramid.spirals[0][i]].flatten()
        torch.testing.assert_close(y[1, i], conv.weight @ around + conv.bias)


def test_renumbering_the_vertices_does_not_change_the_encoding(hand, pyramid):
    """Spirals follow the vertices: a permuted mesh with permuted spirals gives the same features."""
    torch.manual_seed(0)
    encoder = MeshEncoder(pyramid, (4, 4, 4, 4), 8)
    order = torch.randperm(778)
    place = order.argsort()
    v = torch.randn(2, 778, 3)
    want = encoder(v)
    encoder.convs[0].spirals.copy_(place[pyramid.spirals[0]])
    torch.testing.assert_close(encoder(v[:, order]), want)
