r"""How far a hand's surface is from the truth: vertices number by number, and whatever vertex is nearest.

Meshes have the same vertices in the same order, metres, and count as they stand: put the wrists on one point first, as
`mesh_scores` does. The F-score at $\tau$ (Knapitsch et al. 2017; HO3D's F@5 and F@15) is the harmonic mean of

    precision   share of predicted vertices with a vertex of the truth nearer than tau
    recall      share of the truth's vertices with a predicted vertex nearer than tau
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib.metrics import align

BLOCK = 98
"""Rows of a distance matrix that are made at once: 98 x 778 numbers stay in a core's cache."""
TAUS_MM = (5.0, 15.0)
"""Of the F-scores."""


def mve_mm(pred: Float[Tensor, "*b v 3"], truth: Float[Tensor, "*b v 3"]) -> Float[Tensor, "*b"]:
    """Mean vertex error, mm, of meshes as they stand."""
    return 1000 * (pred - truth).square().sum(-1).sqrt().mean(-1)


def p_mve_mm(pred: Float[Tensor, "*b t v 3"], truth: Float[Tensor, "*b t v 3"]) -> Float[Tensor, "*b t"]:
    """Mean vertex error, mm, after the best rotation, scale and shift of the mesh itself, as HO3D scores it."""
    return mve_mm(align(pred, truth), truth)


@dataclass(frozen=True)
class Nearest:
    """How far each vertex is from the nearest vertex of the other mesh, metres."""

    pred: Float[Tensor, "*b v"]
    """From each predicted vertex to the truth."""
    truth: Float[Tensor, "*b v"]
    """From each vertex of the truth to the prediction."""

    def f_score(self, tau_mm: float) -> Float[Tensor, "*b"]:
        """Harmonic mean of precision and recall in [0, 1]; 0 where both are 0."""
        precision, recall = ((apart < tau_mm / 1000).to(apart).mean(-1) for apart in (self.pred, self.truth))
        return _harmonic_mean(precision, recall)


def nearest(pred: Float[Tensor, "*b v 3"], truth: Float[Tensor, "*b v 3"], enough: float = 0.0) -> Nearest:
    """Distances to the nearest vertices, right to a micrometre at 5 mm in float32.

    Where the two vertices of one number are nearer than `enough` (metres) no nearer one is looked for, and their
    distance is the answer: an F-score at `enough` or more is the same, in less time.
    """
    centre = truth.mean(-2, keepdim=True)  # small numbers: distances come from squares
    p, g = ((points - centre).reshape(-1, *points.shape[-2:]) for points in (pred, truth))
    from_pred = (p - g).square().sum(-1)
    from_truth = from_pred.clone()
    p2, g2 = p.square().sum(-1, keepdim=True), g.square().sum(-1, keepdim=True)
    left = torch.cat([-2 * p, p2, torch.ones_like(p2)], -1)
    right = torch.cat([g, torch.ones_like(g2), g2], -1)  # left_i . right_j is |p_i - g_j|^2
    for each in zip(left, right, from_pred, from_truth, strict=True):
        _search(*each, enough**2)
    return Nearest(*(apart2.clamp(min=0).sqrt().view(pred.shape[:-1]) for apart2 in (from_pred, from_truth)))


def _search(
    left: Float[Tensor, "v 5"],
    right: Float[Tensor, "v 5"],
    from_pred: Float[Tensor, "v"],
    from_truth: Float[Tensor, "v"],
    enough2: float,
) -> None:
    """Turn the squared distances of one frame, which start as those of the same vertices, into those of the nearest.

    Rows that are far give the minima of those rows, and of the columns over them; a column that is still far then
    looks through the other rows. If most rows are far, all are searched at once, which is faster.
    """
    is_far = from_pred >= enough2
    if not is_far.any():
        return
    is_far |= 2 * is_far.sum() > len(is_far)
    columns, found = right.mT.contiguous(), []
    for rows in left[is_far].split(BLOCK):
        apart2 = rows @ columns
        found.append(apart2.amin(1))
        torch.minimum(from_truth, apart2.amin(0), out=from_truth)
    from_pred[is_far] = torch.cat(found)
    is_open = (from_truth >= enough2) & (~is_far.all())
    if is_open.any():
        others = left[~is_far].mT.contiguous()
        found = [(rows @ others).amin(1) for rows in right[is_open].split(BLOCK)]
        from_truth[is_open] = torch.minimum(from_truth[is_open], torch.cat(found))


def f_scores(
    pred: Float[Tensor, "t v 3"], truth: Float[Tensor, "t v 3"], taus_mm: tuple[float, ...] = TAUS_MM
) -> dict[float, Float[Tensor, "t"]]:
    """`Nearest.f_score` at each distance; on a CPU by asking only who is near (`near.count_near`), ten times faster."""
    if pred.device.type != "cpu":
        near = nearest(pred, truth, enough=taus_mm[0] / 1000)
        return {tau: near.f_score(tau) for tau in taus_mm}
    from handdiff_lib.near import count_near

    arrays = (points.detach().float().mT.contiguous().numpy() for points in (pred, truth))
    counts = count_near(*arrays, tuple(tau / 1000 for tau in taus_mm))
    precision, recall = (torch.from_numpy(counts) / pred.shape[-2]).to(pred).unbind(1)
    return dict(zip(taus_mm, _harmonic_mean(precision, recall).unbind(-1), strict=True))


def _harmonic_mean(x: Float[Tensor, "*b"], y: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """0 where both are 0."""
    return 2 * x * y / (x + y).clamp(min=torch.finfo(x.dtype).tiny)


def mesh_scores(
    pred: Float[Tensor, "t v 3"],
    truth: Float[Tensor, "t v 3"],
    pred_wrist: Float[Tensor, "t 3"],
    truth_wrist: Float[Tensor, "t 3"],
) -> dict[str, Float[Tensor, "t"]]:
    """MVE, F@5 and F@15, the wrist joints on one point; then all three after the mesh's own alignment (`p_`)."""
    pred, truth = (points.mT.contiguous().mT for points in (pred, truth))  # each axis in a row: sums are faster so
    truth = truth - truth_wrist[:, None]
    raw = pred - pred_wrist[:, None]
    found = {}
    for prefix, points in (("", raw), ("p_", align(raw, truth))):
        near = f_scores(points, truth)
        scores = {"mve_mm": mve_mm(points, truth), "f5": near[5.0], "f15": near[15.0]}
        found |= {prefix + key: value for key, value in scores.items()}
    return found
