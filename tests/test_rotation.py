"""Rotations: group laws, bijections up to their edges, gradients, slow twins."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from handdiff_lib import rotation

EYE = torch.eye(3, dtype=torch.float64)


def random_rotvec(count: int, generator: torch.Generator, largest: float = math.pi) -> Tensor:
    """Rotation vectors with angles up to `largest`, float64."""
    axis = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    angle = torch.rand(count, 1, generator=generator, dtype=torch.float64) * largest
    return axis / axis.norm(dim=-1, keepdim=True) * angle


def random_rotation(count: int, generator: torch.Generator) -> Tensor:
    return rotation.exp(random_rotvec(count, generator))


def assert_rotations(R: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(R.mT @ R, torch.eye(3, dtype=R.dtype).expand_as(R), atol=atol, rtol=0)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones_like(R[..., 0, 0]), atol=atol, rtol=0)


def nearest_by_svd(M: np.ndarray) -> np.ndarray:
    """The slow twin: U diag(1, 1, det) V^T, one matrix at a time."""
    U, _, Vt = np.linalg.svd(M)
    return U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt


def test_a_quarter_turn_about_z_takes_x_to_y():
    R = rotation.exp(torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64))
    torch.testing.assert_close(R, torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64))


def test_exp_equals_the_matrix_exponential(generator):
    v = random_rotvec(50, generator, 2 * math.pi)
    zero = torch.zeros(50, dtype=torch.float64)
    x, y, z = v.unbind(-1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(50, 3, 3)
    torch.testing.assert_close(rotation.exp(v), torch.linalg.matrix_exp(cross), atol=1e-12, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.99e-4, 1.01e-4, 1e-3, 1.0, math.pi - 1e-3, math.pi - 1e-7])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-8), (torch.float32, 2e-6)], ids=["double", "single"])
def test_log_undoes_exp_at_every_angle(generator, angle, dtype, atol):
    """Also where exp changes from its series to sines (1e-4) and next to the half turn."""
    axis = torch.nn.functional.normalize(torch.randn(30, 3, generator=generator, dtype=torch.float64), dim=-1)
    v = (axis * angle).to(dtype)
    R = rotation.exp(v)
    assert_rotations(R, atol=10 * torch.finfo(dtype).eps)
    if dtype == torch.float64 or angle < math.pi - 1e-4:  # in single precision the last sliver wraps around
        torch.testing.assert_close(rotation.log(R), v, atol=atol, rtol=0)
    torch.testing.assert_close(rotation.exp(rotation.log(R)), R, atol=atol, rtol=0)


def test_a_half_turn_has_an_axis(generator):
    """At exactly pi the axis is found up to its sign, along coordinate axes too."""
    axis = torch.cat([EYE, -EYE, torch.randn(20, 3, generator=generator, dtype=torch.float64)])
    axis = torch.nn.functional.normalize(axis, dim=-1)
    R = 2 * axis[:, :, None] * axis[:, None, :] - EYE
    v = rotation.log(R)
    torch.testing.assert_close(v.norm(dim=-1), torch.full((26,), math.pi, dtype=torch.float64))
    torch.testing.assert_close((v * axis).sum(-1).abs(), torch.full((26,), math.pi, dtype=torch.float64))


def test_log_agrees_with_scipy(generator):
    R = random_rotation(200, generator)
    expected = Rotation.from_matrix(R.numpy()).as_rotvec()
    np.testing.assert_allclose(rotation.log(R).numpy(), expected, atol=1e-9)


def test_exp_has_a_gradient_at_zero():
    """Along the axis e_i it is the matrix that takes e_k to e_i x e_k."""
    J = torch.autograd.functional.jacobian(rotation.exp, torch.zeros(3, dtype=torch.float64))
    by_hand = [torch.stack([torch.linalg.cross(EYE[i], EYE[k]) for k in range(3)], -1) for i in range(3)]
    torch.testing.assert_close(J, torch.stack(by_hand, -1))


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1.01e-4, 0.5, 3.0])
def test_gradients_equal_finite_differences(generator, angle):
    v = random_rotvec(4, generator)
    v = (v / v.norm(dim=-1, keepdim=True) * angle).requires_grad_()
    torch.autograd.gradcheck(rotation.exp, (v,), atol=1e-6)
    torch.autograd.gradcheck(
        lambda v: rotation.sixd_to_matrix(rotation.matrix_to_sixd(rotation.exp(v))), (v,), atol=1e-6
    )


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, 1.0])
def test_log_has_a_gradient(generator, angle):
    """log after exp is the identity, so its Jacobian is too, at no rotation as well."""
    v = random_rotvec(1, generator)[0]
    v = v / v.norm() * angle
    J = torch.autograd.functional.jacobian(lambda v: rotation.log(rotation.exp(v)), v)
    torch.testing.assert_close(J, EYE, atol=1e-6, rtol=0)


def test_sixd_is_the_first_two_columns():
    R = rotation.exp(torch.tensor([0.0, 0.0, math.pi / 2]))
    torch.testing.assert_close(rotation.matrix_to_sixd(R), torch.tensor([0.0, 1, 0, -1, 0, 0]))


def test_sixd_round_trip_and_free_scale(generator):
    R = random_rotation(100, generator)
    sixd = rotation.matrix_to_sixd(R)
    torch.testing.assert_close(rotation.sixd_to_matrix(sixd), R)
    first, second = sixd.split(3, dim=-1)
    stretched = torch.cat([7 * first, 0.1 * second + 3 * first], -1)
    torch.testing.assert_close(rotation.sixd_to_matrix(stretched), R)


def test_any_six_numbers_make_a_rotation(generator):
    assert_rotations(rotation.sixd_to_matrix(torch.randn(500, 6, generator=generator, dtype=torch.float64)), atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 1.0, 3.0, math.pi])
def test_angle_between_is_the_angle_turned(generator, angle):
    R = random_rotation(20, generator)
    v = random_rotvec(20, generator)
    turned = R @ rotation.exp(v / v.norm(dim=-1, keepdim=True) * angle)
    found = rotation.angle_between(R, turned)
    torch.testing.assert_close(found, torch.full_like(found, angle), atol=1e-7, rtol=1e-7)


def test_angle_between_is_a_metric_that_ignores_the_frame(generator):
    A, B, C, Q = random_rotation(400, generator).split(100)
    distance = rotation.angle_between
    torch.testing.assert_close(distance(A, B), distance(B, A))
    assert (distance(A, C) <= distance(A, B) + distance(B, C) + 1e-12).all()
    torch.testing.assert_close(distance(Q @ A, Q @ B), distance(A, B))
    torch.testing.assert_close(distance(A @ Q, B @ Q), distance(A, B))


def hostile_matrices(generator: torch.Generator) -> Tensor:
    """Matrices that an average may be: near rotations, scaled, reflected, flat, and nearly so."""
    R = random_rotation(40, generator)
    noise = torch.randn(40, 3, 3, generator=generator, dtype=torch.float64)
    flat = R * torch.tensor([1.0, 0.7, 0.0], dtype=torch.float64)
    nearly_flat = R * torch.tensor([1.0, 0.7, 1e-6], dtype=torch.float64)
    reflected = R * torch.tensor([1.0, 0.8, -0.5], dtype=torch.float64)
    long = R * torch.tensor([100.0, 1.0, 0.01], dtype=torch.float64)
    return torch.cat([R, R + 0.05 * noise, 1e-3 * R, 1e3 * R, noise, flat, nearly_flat, reflected, long])


@pytest.mark.parametrize(
    ("find", "atol"), [(rotation.nearest_rotation, 1e-9), (rotation.polar, 1e-5)], ids=["nearest_rotation", "polar"]
)
def test_the_nearest_rotation_equals_the_slow_twin(generator, find, atol):
    """polar stops its iteration at 1e-5, which is 0.0006 degrees."""
    M = hostile_matrices(generator)
    found = find(M)
    assert_rotations(found, atol)
    expected = torch.from_numpy(np.stack([nearest_by_svd(m) for m in M.numpy()]))
    torch.testing.assert_close(found, expected, atol=max(atol, 1e-7), rtol=0)


def test_polar_in_single_precision(generator):
    M = hostile_matrices(generator).float()
    assert_rotations(rotation.polar(M), atol=5e-5)
    torch.testing.assert_close((rotation.polar(M) * M).sum((-1, -2)), (rotation.nearest_rotation(M) * M).sum((-1, -2)))


def test_polar_survives_matrices_without_a_nearest_rotation():
    """Zero, rank one and a point reflection: many rotations are equally near, one comes back."""
    rank_one = torch.zeros(3, 3, dtype=torch.float64)
    rank_one[0, 0] = 1
    assert_rotations(rotation.polar(torch.stack([torch.zeros(3, 3, dtype=torch.float64), rank_one, -EYE])))


def test_mean_of_two_lies_half_way(generator):
    v = random_rotvec(20, generator, 1.0)
    R = random_rotation(20, generator)
    pair = torch.stack([R @ rotation.exp(v), R @ rotation.exp(-v)], dim=1)
    torch.testing.assert_close(rotation.mean_rotation(pair, torch.ones(20, 2, dtype=torch.float64)), R)


def test_mean_is_the_best_rotation_of_all_near_it(generator):
    """No small turn away from the mean lowers the weighted sum of squared chords."""
    R = random_rotation(12, generator)[None]
    weight = torch.rand(1, 12, generator=generator, dtype=torch.float64)
    mean = rotation.mean_rotation(R, weight)

    def cost(Q: Tensor) -> Tensor:
        return (weight * (R - Q[:, None]).square().sum((-1, -2))).sum(-1)

    around = mean @ rotation.exp(0.01 * torch.randn(50, 3, generator=generator, dtype=torch.float64))
    assert (cost(around) > cost(mean)).all()


def test_mean_ignores_scale_and_frame(generator):
    R = random_rotation(60, generator).reshape(10, 6, 3, 3)
    weight = torch.rand(10, 6, generator=generator, dtype=torch.float64)
    mean = rotation.mean_rotation(R, weight)
    assert_rotations(mean, atol=1e-9)
    Q = random_rotation(1, generator)[0]
    torch.testing.assert_close(rotation.mean_rotation(Q @ R, 1e6 * weight), Q @ mean)
    torch.testing.assert_close(rotation.mean_rotation(R[:, :1], weight[:, :1]), R[:, 0])


def test_slerp_has_constant_speed(generator):
    R, Q = random_rotation(60, generator).split(30)
    whole = rotation.angle_between(R, Q)
    for share in (0.0, 0.25, 0.5, 1.0):
        at = rotation.slerp(R, Q, torch.full((30,), share, dtype=torch.float64))
        torch.testing.assert_close(rotation.angle_between(R, at), share * whole, atol=1e-7, rtol=0)
        torch.testing.assert_close(rotation.angle_between(at, Q), (1 - share) * whole, atol=1e-7, rtol=0)


def test_mirror_is_an_involution_that_keeps_products(generator):
    A, B = random_rotation(60, generator).split(30)
    torch.testing.assert_close(rotation.mirror(rotation.mirror(A)), A)
    torch.testing.assert_close(rotation.mirror(A @ B), rotation.mirror(A) @ rotation.mirror(B))
    assert_rotations(rotation.mirror(A))


def test_mirror_turns_a_b_c_into_a_minus_b_minus_c(generator):
    v = random_rotvec(30, generator, 3.0)
    flip = torch.tensor([1.0, -1, -1], dtype=torch.float64)
    torch.testing.assert_close(rotation.log(rotation.mirror(rotation.exp(v))), v * flip)


def test_mirror_is_what_a_mirror_shows(generator):
    """Turning a point and looking at it in the mirror x = 0 is turning the point seen there."""
    R = random_rotation(30, generator)
    p = torch.randn(30, 3, 1, generator=generator, dtype=torch.float64)
    flip = torch.tensor([-1.0, 1, 1], dtype=torch.float64)[:, None]
    torch.testing.assert_close(rotation.mirror(R) @ (flip * p), flip * (R @ p))


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_batch_shape_and_dtype(generator, shape, dtype):
    v = torch.randn(*shape, 3, generator=generator, dtype=dtype)
    R = rotation.exp(v)
    share = torch.full(shape, 0.5, dtype=dtype)
    for result, tail in (
        (R, (3, 3)),
        (rotation.log(R), (3,)),
        (rotation.matrix_to_sixd(R), (6,)),
        (rotation.sixd_to_matrix(rotation.matrix_to_sixd(R)), (3, 3)),
        (rotation.angle_between(R, R.mT), ()),
        (rotation.nearest_rotation(R), (3, 3)),
        (rotation.polar(R), (3, 3)),
        (rotation.slerp(R, R.mT, share), (3, 3)),
        (rotation.mirror(R), (3, 3)),
        (rotation.mean_rotation(torch.stack([R, R], -3), torch.ones(*shape, 2, dtype=dtype)), (3, 3)),
    ):
        assert result.shape == (*shape, *tail)
        assert result.dtype == dtype
