"""The chain: its schedule, its statistics, the ways back, and rotations on the way in and out."""

from math import pi, radians

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_axes, anatomical_rotations
from handdiff_lib.diffusion import (
    ResidualSpace,
    decode,
    encode,
    frame_noise,
    residual_shift,
    sample,
    seeded_noise,
    wrap,
)

RULES = ("posterior", "deterministic", "renoise")
COUNT = 200_000


@pytest.fixture
def shift():
    return residual_shift()


def steps(n, like):
    return torch.full((len(like),), n)


# The schedule


def test_official_values(shift):
    """The released demo: four steps, kappa 15 degrees, power 0.1."""
    torch.testing.assert_close(
        shift.eta[1:].float(), torch.tensor([0.0010, 0.48695, 0.75924, 0.9990]), atol=1e-5, rtol=0
    )
    std = torch.tensor([0.474, 10.467, 13.070, 14.992])
    torch.testing.assert_close(shift.noise_std[1:].rad2deg().float(), std, atol=1e-3, rtol=0)


def test_resshift_power():
    """Power 0.3, ResShift's own, shifts later."""
    eta = residual_shift(power=0.3).eta[1:].float()
    torch.testing.assert_close(eta, torch.tensor([0.001, 0.1437, 0.4529, 0.999]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("N", [1, 2, 4, 15])
@pytest.mark.parametrize("power", [0.1, 0.3, 1.0])
def test_schedule_is_monotone_from_zero(N, power):
    shift = residual_shift(N, power=power)
    assert shift.N == N
    assert shift.eta[0] == 0
    assert (shift.eta.diff() > 0).all()
    assert shift.eta[-1].item() == pytest.approx(0.999)


def test_one_step_is_a_regression():
    """With N = 1 the only share is eta_N: the walk back is one answer of the denoiser."""
    shift = residual_shift(1)
    torch.testing.assert_close(shift.eta, torch.tensor([0, 0.999], dtype=torch.float64))


def test_no_steps_is_no_diffusion(generator):
    """N = 0: the one step leads from x to y itself, and back to the answer, whatever the noise."""
    shift = residual_shift(0)
    x0, y, noise = torch.randn(3, 4, 5, generator=generator)
    n = steps(1, x0)
    assert shift.N == 1
    torch.testing.assert_close(shift.forward_marginal(x0, y, n, noise), y)
    assert torch.equal(shift.prior(y, noise), y)
    assert torch.equal(shift.reverse_step(y, x0, n, noise), x0)


def test_large_kappa_lowers_the_first_share():
    """kappa = 4 rad: (0.04 / 4)^2 = 0.0001, so the first noise is still 0.04 rad."""
    shift = residual_shift(kappa=4.0)
    assert shift.eta[1].item() == pytest.approx(1e-4)
    assert shift.noise_std[1].item() == pytest.approx(0.04)


@pytest.mark.parametrize(
    "bad", [{"N": -1}, {"kappa": 0.0}, {"eta_1": 0.0}, {"eta_1": 0.9, "eta_N": 0.5}, {"eta_N": 1.1}]
)
def test_impossible_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="residual_shift: needs"):
        residual_shift(**bad)


# Statistics: clouds of many equal items


def assert_moments(x, mean, std):
    """Mean and standard deviation within five standard errors."""
    assert x.mean().item() == pytest.approx(mean, abs=5 * std / COUNT**0.5 + 1e-9)
    assert x.std().item() == pytest.approx(std, rel=5 / (2 * COUNT) ** 0.5)


def test_composed_steps_give_the_marginal(shift, generator):
    """Steps of 1-D chains, x0 = 0.3 and y = -0.1: after n steps mean 0.3 - 0.4 eta_n, std kappa sqrt(eta_n)."""
    x0, y = torch.full((COUNT, 1), 0.3), torch.full((COUNT, 1), -0.1)
    x = x0
    for n in range(1, shift.N + 1):
        x = shift.forward_step(x, x0, y, steps(n, x0), torch.randn(COUNT, 1, generator=generator))
        eta = shift.eta[n].item()
        assert_moments(x, 0.3 - 0.4 * eta, shift.kappa * eta**0.5)


def test_regression_on_the_chain_gives_the_posterior(shift, generator):
    """Among chains, x_{n-1} regressed on x_n has the slope, the offset and the spread of `reverse_step`."""
    x0, y = torch.full((COUNT, 1), 0.3), torch.full((COUNT, 1), -0.1)
    before = x0
    for n in range(1, shift.N + 1):
        now = shift.forward_step(before, x0, y, steps(n, x0), torch.randn(COUNT, 1, generator=generator))
        pair = torch.cat([now, before], 1).mT.double()
        (var_now, cov), (_, var_before) = torch.cov(pair).tolist()
        slope = cov / var_now
        spread = max(var_before - slope * cov, 0.0) ** 0.5
        at_zero = pair[1].mean().item() - slope * pair[0].mean().item()
        still = torch.zeros(1, 1)
        one = torch.full((1,), n)
        ours_zero = shift.reverse_step(still, x0[:1], one, still).item()
        ours_slope = shift.reverse_step(still + 1, x0[:1], one, still).item() - ours_zero
        ours_spread = shift.reverse_step(still, x0[:1], one, still + 1).item() - ours_zero
        assert slope == pytest.approx(ours_slope, abs=0.01)
        assert at_zero == pytest.approx(ours_zero, abs=0.005)
        assert spread == pytest.approx(ours_spread, abs=0.001)
        before = now


def test_posterior_weights_of_the_official_schedule(shift):
    """Share of xn that is kept: 0, 0.00205, 0.64137, 0.76; std 0, 0.474, 6.268, 6.403 degrees."""
    n = torch.tensor([1, 2, 3, 4])
    zero, one = torch.zeros(4, 1), torch.ones(4, 1)
    keep = shift.reverse_step(one, zero, n, zero)[:, 0]
    torch.testing.assert_close(keep, torch.tensor([0, 0.00205, 0.64137, 0.76000]), atol=1e-4, rtol=0)
    std = shift.reverse_step(zero, zero, n, one)[:, 0].rad2deg()
    torch.testing.assert_close(std, torch.tensor([0, 0.474, 6.268, 6.403]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("rule", RULES)
def test_every_step_back_keeps_the_marginals(shift, generator, rule):
    """Go to n, step back once: the cloud has the mean and the spread of step n - 1."""
    x0, y = torch.full((COUNT, 1), 0.3), torch.full((COUNT, 1), -0.1)
    for step in range(2, shift.N + 1):
        n = steps(step, x0)
        noise = torch.randn(2, COUNT, 1, generator=generator)
        xn = shift.forward_marginal(x0, y, n, noise[0])
        back = {
            "posterior": shift.reverse_step(xn, x0, n, noise[1]),
            "deterministic": shift.deterministic_step(xn, x0, y, n),
            "renoise": shift.renoise_step(x0, y, n, noise[1]),
        }[rule]
        eta = shift.eta[step - 1].item()
        assert_moments(back, 0.3 - 0.4 * eta, shift.kappa * eta**0.5)


@pytest.mark.parametrize("rule", RULES)
def test_the_last_step_lands_on_the_truth(shift, generator, rule):
    """With eta_0 = 0 every way back from n = 1 gives x0 itself: nothing is masked or clipped."""
    x0, y, xn, noise = torch.randn(4, 5, 3, generator=generator)
    n = steps(1, x0)
    back = {
        "posterior": shift.reverse_step(xn, x0, n, noise),
        "deterministic": shift.deterministic_step(xn, x0, y, n),
        "renoise": shift.renoise_step(x0, y, n, noise),
    }[rule]
    assert torch.equal(back, x0)


def test_n_differs_between_items(shift, generator):
    """A batch with its own n for each item equals the items one by one."""
    x0, y, noise = torch.randn(3, 4, 5, 3, generator=generator)
    n = torch.tensor([1, 4, 2, 3])
    together = shift.forward_marginal(x0, y, n, noise)
    for item in range(4):
        eta = shift.eta[n[item]].item()
        alone = x0[item] + eta * (y[item] - x0[item]) + shift.kappa * eta**0.5 * noise[item]
        torch.testing.assert_close(together[item], alone)


# Walks back


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("N", [1, 4, 15])
def test_an_oracle_is_believed(rule, N, generator):
    """A denoiser that always answers x0 (or y) makes every walk end there."""
    x0, y = torch.randn(2, 5, 7, 3, generator=generator)
    for target in (x0, y):
        walk = list(sample(lambda xn, y, n, x0=target: x0, y, residual_shift(N), rule, seeded_noise(generator)))
        assert [step.n for step in walk] == list(range(N, 0, -1))
        assert torch.equal(walk[-1].x0, target)


@pytest.mark.parametrize("rule", RULES)
def test_walks_go_through_the_marginals(shift, rule, generator):
    """With an oracle the cloud at n has std kappa sqrt(eta_n), whatever the rule; its mean goes from y to x0.

    The start is at y instead of x0 + eta_N (y - x0), one thousandth of the residual away.
    """
    x0, y = torch.full((COUNT, 1), 0.3), torch.full((COUNT, 1), -0.1)
    for step in sample(lambda xn, y, n: x0, y, shift, rule, seeded_noise(generator)):
        std = shift.noise_std[step.n].item()
        assert step.xn.mean().item() == pytest.approx(
            0.3 - 0.4 * shift.eta[step.n].item(), abs=5e-4 + 5 * std / COUNT**0.5
        )
        assert step.xn.std().item() == pytest.approx(std, rel=0.01)


@pytest.mark.parametrize("rule", RULES)
def test_same_seed_same_walk(shift, rule):
    """The noise is the only chance: a seed fixes every step, and another seed gives another walk."""

    def walk(seed):
        noise = seeded_noise(torch.Generator().manual_seed(seed))
        return list(sample(lambda xn, y, n: 0.5 * xn + 0.5 * y, torch.ones(3, 4), shift, rule, noise))

    for a, b in zip(walk(1), walk(1), strict=True):
        assert torch.equal(a.xn, b.xn)
        assert torch.equal(a.x0, b.x0)
    assert not torch.equal(walk(1)[-1].x0, walk(2)[-1].x0)


def test_the_deterministic_walk_draws_once(shift):
    calls = []
    noise = lambda shape: calls.append(shape) or torch.zeros(shape)  # noqa: E731
    list(sample(lambda xn, y, n: xn, torch.ones(3, 4), shift, "deterministic", noise))
    assert calls == [(3, 4)]


def test_the_released_demo_stops_early(shift, generator):
    """Three evaluations: n = 4, 3, 2."""
    y = torch.zeros(2, 3)
    walk = sample(lambda xn, y, n: xn, y, shift, "renoise", seeded_noise(generator), stop=2)
    assert [step.n for step in walk] == [4, 3, 2]


def test_a_frame_keeps_its_noise_however_long_the_clip_is():
    """At every draw; the first one is that of `seeded_noise`."""
    short, long, first = frame_noise(3, 2), frame_noise(3, 2), frame_noise(3)
    for _ in range(4):
        assert torch.equal(short(torch.Size([1, 7, 16, 3])), long(torch.Size([1, 40, 16, 3]))[:, :7])
    shape = torch.Size([1, 7, 16, 3])
    assert torch.equal(first(shape), seeded_noise(torch.Generator().manual_seed(3))(shape))


def test_seeds_samples_and_draws_have_noise_of_their_own():
    """Standard normal, and no two alike."""
    sources = [frame_noise(seed, k) for seed in (0, 1) for k in (0, 1, 2)]
    drawn = torch.stack([source(torch.Size([1, 100, 16, 3])).flatten() for source in sources for _ in range(3)])
    assert (torch.corrcoef(drawn) - torch.eye(len(drawn))).abs().max() < 5 / 4800**0.5
    assert drawn.mean().item() == pytest.approx(0, abs=5 / drawn.numel() ** 0.5)
    assert drawn.std().item() == pytest.approx(1, abs=0.02)


# Rotations


def test_encode_and_decode_undo_each_other(generator):
    r = torch.randn(50, 16, 3, generator=generator, dtype=torch.float64)  # some beyond half a turn
    R_y = rotation.exp(torch.randn(50, 16, 3, generator=generator, dtype=torch.float64))
    R_x = decode(r, R_y)
    torch.testing.assert_close(decode(encode(R_x, R_y), R_y), R_x)
    short = r * (3 / r.norm(dim=-1, keepdim=True).clamp(min=3))
    torch.testing.assert_close(encode(decode(short, R_y), R_y), short)


def test_the_estimate_is_the_origin(generator):
    R_y = rotation.exp(torch.randn(6, 3, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(encode(R_y, R_y), torch.zeros(6, 3, dtype=torch.float64), atol=1e-7, rtol=0)


def test_residual_vectors_turn_with_the_joint_frame(generator):
    """In frames turned by C, rotation R reads C^T R C; the residual vector then reads C^T r, as long as before."""
    R_x, R_y, C = rotation.exp(torch.randn(3, 6, 3, generator=generator, dtype=torch.float64))
    r = encode(R_x, R_y)
    torch.testing.assert_close(encode(C.mT @ R_x @ C, C.mT @ R_y @ C), (C.mT @ r[..., None])[..., 0])


def test_the_long_way_round_is_never_taken():
    """y near +179 degrees, x near -179: two degrees apart, as angles and as rotations."""
    x, y = torch.tensor([radians(-179), radians(179)], dtype=torch.float64)
    assert wrap(y - x).abs().rad2deg().item() == pytest.approx(2)
    about_z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    r = encode(rotation.exp(x * about_z), rotation.exp(y * about_z))
    assert r.norm().rad2deg().item() == pytest.approx(2)


def test_wrap_keeps_what_is_inside():
    """Half a turn stays +pi, minus half a turn becomes +pi, whole turns vanish."""
    angle = torch.tensor([pi, -pi, 0.0, 1.0, -1.0, 2 * pi + 0.5, -4 * pi - 0.5], dtype=torch.float64)
    expected = torch.tensor([pi, pi, 0.0, 1.0, -1.0, 0.5, -0.5], dtype=torch.float64)
    torch.testing.assert_close(wrap(angle), expected)


SPACES = ("so3_at_y", "euler_anat")


@pytest.fixture(scope="module")
def axes(hand):
    """In float64, and as orthogonal as that allows."""
    return rotation.nearest_rotation(anatomical_axes(hand).double())


def random_poses(count, generator, scale=1.0):
    return rotation.exp(scale * torch.randn(count, 16, 3, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("name", SPACES)
def test_a_space_undoes_itself(name, axes, generator):
    """Rotations wherever they are; residual vectors where the angles at y leave room to a twist of a quarter turn."""
    space = ResidualSpace(name, axes)
    R_x, R_y = random_poses(50, generator), random_poses(50, generator)
    torch.testing.assert_close(space.to_rotations(space.to_chain(R_x, R_y), R_y), R_x)
    near = random_poses(50, generator, 0.1)
    r = 0.4 * torch.randn(50, 16, 3, generator=generator, dtype=torch.float64).clamp(-2, 2)
    torch.testing.assert_close(space.to_chain(space.to_rotations(r, near), near), r)


@pytest.mark.parametrize("name", SPACES)
def test_the_estimate_is_the_origin_of_every_space(name, axes, generator):
    space, R_y = ResidualSpace(name, axes), random_poses(6, generator)
    origin = torch.zeros(6, 16, 3, dtype=torch.float64)
    torch.testing.assert_close(space.to_chain(R_y, R_y), origin, atol=1e-7, rtol=0)
    torch.testing.assert_close(space.to_rotations(origin, R_y), R_y)


@pytest.mark.parametrize("name", SPACES)
def test_no_space_takes_the_long_way_round(name, axes):
    """Flexion of y is 179 degrees, that of x -179: two degrees on, as an angle and about C^T z."""
    bent = torch.zeros(2, 16, 3, dtype=torch.float64)
    bent[0, :, 2], bent[1, :, 2] = radians(-179), radians(179)
    R_x, R_y = anatomical_rotations(bent, axes)
    r = ResidualSpace(name, axes).to_chain(R_x, R_y).rad2deg()
    want = axes[:, 2] if name == "so3_at_y" else torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(16, 3)
    torch.testing.assert_close(r, 2 * want)


def test_angles_subtract_one_by_one(axes):
    """From (10, -20, 30) to (15, 5, -40) degrees of twist, abduction and flexion: (5, 25, -70)."""
    y, x = torch.tensor([[10.0, -20, 30], [15, 5, -40]], dtype=torch.float64).deg2rad()[:, None].expand(-1, 16, -1)
    r = ResidualSpace("euler_anat", axes).to_chain(anatomical_rotations(x, axes), anatomical_rotations(y, axes))
    torch.testing.assert_close(r.rad2deg(), torch.tensor([5.0, 25, -70], dtype=torch.float64).expand(16, 3))
