"""Mesh errors: numbers one can do in the head, the brute-force F-score, and the alignment of the mesh itself."""

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import cdist

from handdiff_lib import rotation
from handdiff_lib.near import BLOCK, blocks_of
from handdiff_lib.surface import f_scores, mesh_scores, mve_mm, nearest, p_mve_mm


@pytest.fixture
def meshes(hand, generator):
    """Bent hands and what an estimator makes of them: a few frames with errors from 1 mm to 40 mm."""
    true = 0.3 * torch.randn(6, 16, 3, generator=generator)
    error = torch.tensor([0.01, 0.05, 0.1, 0.2, 0.4, 0.8])[:, None, None]
    pose = true + error * torch.randn(6, 16, 3, generator=generator)
    return tuple(hand.mean_shape().pose(rotation.exp(x)).skin() for x in (pose, true))


def brute_f_score(pred, truth, tau_mm):
    """Precision and recall vertex by vertex, from all distances, one frame."""
    apart = 1000 * cdist(pred.double().numpy(), truth.double().numpy())
    precision = np.mean([min(row) < tau_mm for row in apart])
    recall = np.mean([min(column) < tau_mm for column in apart.T])
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_f_score_by_hand():
    """Four vertices: two are right, one is 7 mm off and 3 mm from the fourth of the truth, one lies far from all.

    Within 5 mm three predicted vertices have a true one and three of the truth a predicted one: F is 3/4. Within 15 mm
    the third of the truth has its own: precision 3/4, recall 1, F 6/7. Within 1 mm two are found: 1/2.
    """
    truth = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [0.2, 0.010, 0]])
    pred = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0.007, 0], [0.3, 0.0, 0]])
    near = nearest(pred, truth)
    torch.testing.assert_close(near.pred, torch.tensor([0, 0, 0.003, 0.1]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(near.truth, torch.tensor([0, 0, 0.007, 0.003]), atol=1e-5, rtol=1e-4)
    assert near.f_score(5.0).item() == pytest.approx(2 * (3 / 4 * 3 / 4) / (3 / 4 + 3 / 4))
    assert near.f_score(15.0).item() == pytest.approx(6 / 7)
    assert near.f_score(1.0).item() == pytest.approx(0.5)


@pytest.mark.parametrize("enough", [0.0, 0.005])
def test_f_score_is_the_brute_force_one(meshes, enough):
    pred, truth = meshes
    assert mve_mm(pred, truth).min() < 3 < 20 < mve_mm(pred, truth).max(), "some frames near, some far"
    near = nearest(pred, truth, enough)
    for tau in (5.0, 15.0):
        want = [brute_f_score(*frame, tau) for frame in zip(pred, truth, strict=True)]
        assert near.f_score(tau).tolist() == pytest.approx(want, abs=1e-6)
    assert near.f_score(5.0).min() < 0.7 < 0.99 < near.f_score(5.0).max()


def test_nearest_is_all_distances(meshes):
    pred, truth = meshes
    near = nearest(pred, truth)
    apart = torch.cdist(pred.double(), truth.double())
    torch.testing.assert_close(near.pred.double(), apart.amin(-1), atol=3e-5, rtol=1e-3)
    torch.testing.assert_close(near.truth.double(), apart.amin(-2), atol=3e-5, rtol=1e-3)


def test_f_score_knows_perfect_nothing_and_no_side(meshes):
    """1 for the truth itself, 0 for a hand elsewhere; it does not matter which of the two is called the truth."""
    pred, truth = meshes
    assert (nearest(truth, truth).f_score(5.0) == 1).all()
    assert (nearest(truth + 1, truth, 0.005).f_score(15.0) == 0).all()
    torch.testing.assert_close(nearest(pred, truth).f_score(5.0), nearest(truth, pred).f_score(5.0))


def test_a_hand_far_from_the_camera_is_scored_as_well(meshes):
    """At 1.5 metres, as camera frames have it."""
    pred, truth = meshes
    away = torch.tensor([0.3, -0.2, 1.5])
    torch.testing.assert_close(
        nearest(pred + away, truth + away).f_score(5.0), nearest(pred, truth).f_score(5.0), atol=3e-3, rtol=0
    )


def test_nan_is_far(meshes):
    pred, truth = meshes
    pred = pred.clone()
    pred[2] = torch.nan
    f = nearest(pred, truth, 0.005).f_score(15.0)
    assert f[2] == 0
    torch.testing.assert_close(f[0], nearest(*meshes).f_score(15.0)[0])


def test_compiled_search_counts_what_all_distances_say(meshes):
    """The slow twin vertex by vertex, but for ties within float32; also for meshes that do not fill a block."""
    for some in (slice(None), slice(0, 700, 3), slice(0, 5)):
        pred, truth = (points[:, some] for points in meshes)
        fast = f_scores(pred, truth)
        for tau, found in fast.items():
            want = nearest(pred.double(), truth.double()).f_score(tau)
            torch.testing.assert_close(found.double(), want, atol=1.01 / pred.shape[1], rtol=0)
            assert (found.double() - want).abs().gt(1e-6).sum() <= 1, "ties are rare"


def test_blocks_hold_neighbours(meshes):
    """Every vertex is in one block, and blocks are several times smaller than those of the vertices as numbered."""
    points = meshes[1][0].mT.contiguous().numpy()
    order = blocks_of(points)
    np.testing.assert_array_equal(np.sort(order), np.arange(778))

    def side(by: np.ndarray) -> float:
        return np.mean([np.ptp(points[:, by[k : k + BLOCK]], axis=1).max() for k in range(0, 778, BLOCK)])

    assert side(order) < side(np.random.default_rng(0).permutation(778)) / 3


def test_one_vertex_that_is_nan_leaves_the_others(meshes):
    """It is near nothing, and its twin looks for another."""
    pred, truth = meshes
    broken = pred.clone()
    broken[:, 0] = torch.nan
    lost = f_scores(truth.clone(), truth)[5.0] - f_scores(broken.where(broken.isnan(), truth), truth)[5.0]
    assert (lost > 0).all()
    assert (lost <= 1.01 / 778).all()
    shuffled = truth.flip(1)  # no vertex meets its own number, so that blocks with the broken one are searched
    shuffled[:, 0] = torch.nan
    found = f_scores(shuffled, truth)[5.0]
    assert (found < 1).all()
    assert (found > 1 - 3 / 778).all()


def test_mve_by_hand():
    """One of four vertices off by 4 mm: 1 mm on average."""
    truth = torch.eye(4)[None, :, :3]
    pred = truth.clone()
    pred[0, 2, 1] += 0.004
    assert mve_mm(pred, truth).item() == pytest.approx(1, rel=1e-4)


def test_p_mve_is_scipys_alignment_of_the_mesh(meshes):
    """Frame by frame in float64, the mesh by itself, as HO3D's evaluator does."""
    for pred, truth in zip(*(x.double() for x in meshes), strict=True):
        p, g = (pred - pred.mean(0)).numpy(), (truth - truth.mean(0)).numpy()
        R, s = orthogonal_procrustes(p / np.linalg.norm(p), g / np.linalg.norm(g))
        aligned = p / np.linalg.norm(p) @ R * s * np.linalg.norm(g)
        want = 1000 * np.linalg.norm(aligned - g, axis=1).mean()
        assert p_mve_mm(pred[None], truth[None]).item() == pytest.approx(want, rel=1e-6)


def test_mesh_scores_put_the_wrists_on_one_point(meshes, generator):
    """Moving either hand with its wrist changes nothing; the aligned scores do not see the wrist at all."""
    pred, truth = meshes
    wrist, other = torch.randn(2, 6, 3, generator=generator)
    here = mesh_scores(pred, truth, torch.zeros(6, 3), torch.zeros(6, 3))
    there = mesh_scores(pred + wrist[:, None], truth + other[:, None], wrist, other)
    for key, value in here.items():
        torch.testing.assert_close(there[key], value, atol=5e-3, rtol=1e-3)
    assert list(here) == ["mve_mm", "f5", "f15", "p_mve_mm", "p_f5", "p_f15"]
    assert (here["p_mve_mm"] < here["mve_mm"]).all()
    torch.testing.assert_close(here["mve_mm"], mve_mm(pred, truth))
