r"""Rotations: the few maps the library needs, each with its convention, on top of RoMa.

A rotation is a matrix `R` that turns column vectors, `p' = R p`; a rotation vector is axis times angle in
radians. Six-number rotations hold the first two *columns*, one after the other. There are no quaternions.
"""

import roma
import torch
from jaxtyping import Float
from torch import Tensor


def exp(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    r"""Matrix of a rotation vector: $R = \exp([v]_\times)$. Zero gives the identity, with a gradient."""
    x, y, z = rotvec.unbind(-1)
    zero = torch.zeros_like(x)
    K = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    angle2 = rotvec.square().sum(-1)[..., None, None]
    small = angle2 < 1e-8
    angle = torch.where(small, torch.ones_like(angle2), angle2).sqrt()
    sinc = torch.where(small, 1 - angle2 / 6, angle.sin() / angle)
    cosc = torch.where(small, 0.5 - angle2 / 24, (1 - angle.cos()) / angle**2)
    return torch.eye(3, dtype=K.dtype, device=K.device) + sinc * K + cosc * (K @ K)


def log(R: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    r"""Rotation vector of a matrix, angle in $[0, \pi]$; a half turn picks one of its two axes."""
    return roma.rotmat_to_rotvec(R)


def matrix_to_sixd(R: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """First two columns, one after the other: a quarter turn about z is `(0, 1, 0, -1, 0, 0)`."""
    return R[..., :2].mT.flatten(-2)


def sixd_to_matrix(sixd: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation whose first columns follow the six numbers, by Gram-Schmidt; their scale does not matter."""
    first, second = sixd.unflatten(-1, (2, 3)).unbind(-2)
    x = torch.nn.functional.normalize(first, dim=-1)
    y = torch.nn.functional.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def angle_between(R: Float[Tensor, "*batch 3 3"], Q: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    r"""Geodesic distance in radians, $2\arcsin(\lVert R - Q\rVert_F / \sqrt 8)$: exact near 0, in $[0, \pi]$."""
    chord = torch.linalg.matrix_norm(R - Q) / 8**0.5
    return 2 * chord.clamp(max=1).asin()


def nearest_rotation(M: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation closest to `M` (Frobenius), for any matrix, singular and reflecting ones included."""
    return roma.special_procrustes(M)


def mean_rotation(R: Float[Tensor, "*batch k 3 3"], weight: Float[Tensor, "*#batch k"]) -> Float[Tensor, "*batch 3 3"]:
    r"""Chordal mean: the rotation closest to $\sum_k w_k R_k$. The scale of the weights does not matter.

    Rotations that lie together need no SVD: Newton's polar iteration $M \leftarrow (M + M^{-\top})/2$
    converges quadratically where the average still has positive determinant; the rest goes to the SVD.
    """
    total = weight.sum(-1).clamp(min=torch.finfo(R.dtype).tiny)[..., None, None]
    average = (weight[..., None, None] * R).sum(-3) / total
    return polar(average)


def polar(M: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Nearest rotation, fast where `M` is already close to one (see `mean_rotation`); no gradient promised."""
    flat = M.reshape(-1, 3, 3)
    X = _newton(flat, 3)
    far = _misfit(X) > 32 * torch.finfo(M.dtype).eps
    if far.any():  # most averages are of rotations that lie together; the others take longer
        rest = _newton(X[far], 4)
        poor = (_misfit(rest) > 1e-5) | (torch.linalg.det(flat[far]) < 0.05)
        if poor.any():
            rest[poor] = nearest_rotation(flat[far][poor])
        X[far] = rest
    return X.view(M.shape)


def _newton(X: Float[Tensor, "n 3 3"], steps: int) -> Float[Tensor, "n 3 3"]:
    """Newton's polar iteration."""
    for _ in range(steps):
        a, b, c = X.unbind(-1)
        cofactor = torch.stack([torch.linalg.cross(*pair) for pair in ((b, c), (c, a), (a, b))], dim=-1)
        det = (cofactor[..., 0] * a).sum(-1)[:, None, None]
        X = (X + cofactor / torch.where(det.abs() < 1e-12, torch.ones_like(det), det)) / 2
    return X


def _misfit(X: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n"]:
    """How far from a rotation: in length, angles and handedness."""
    eye = torch.eye(3, dtype=X.dtype, device=X.device)
    skew = (X.mT @ X - eye).abs().amax((-1, -2))
    return torch.where(torch.linalg.det(X) > 0, skew, torch.ones_like(skew))


def slerp(
    R: Float[Tensor, "*batch 3 3"], Q: Float[Tensor, "*batch 3 3"], share: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """Point on the shortest way from R (share 0) to Q (share 1)."""
    return R @ exp(share[..., None] * log(R.mT @ Q))


def mirror(R: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation seen in a mirror at x = 0: $M R M$ with $M = diag(-1, 1, 1)$; (a, b, c) becomes (a, -b, -c)."""
    M = torch.tensor([-1.0, 1.0, 1.0], dtype=R.dtype, device=R.device)
    return M[:, None] * R * M


def mirror_points(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """The points seen in the same mirror: x becomes -x."""
    return points * points.new_tensor([-1.0, 1.0, 1.0])
