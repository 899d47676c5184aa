# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Diffusion in the plane
#
# Suppose that a pose had two numbers, and that all poses a hand can take lay on two arcs.
# An estimator points beside the arcs, somewhere between them.
# How does one find the poses that it may have meant?
#
# On this page
# - diffusion walks from the data into noise, and residual shifting walks from the data to the estimate,
# - the ideal denoiser is a mean of the data, each weighted by how well it explains what one sees,
# - following it back, step by step, ends on the data, at each point as often as Bayes' rule asks for.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
N = 8  # steps
kappa = 0.45
sigma = 0.3  # standard deviation of the estimator's error, in each direction
seed = 0

# %% [markdown]
# ## Two ways into the noise
#
# The data are 48 points.
# For each of a thousand walkers we draw a point $x_0$ of the data, and an estimate $y$: the point with an error.
# *Ordinary* diffusion shrinks $x_0$ to zero and fills up with noise:
# $x_n = \sqrt{1 - \eta_n}\; x_0 + \sqrt{\eta_n}\; \epsilon$.
# *Residual shifting* moves $x_0$ to $y$ instead, and adds a little noise on the way.
# In both $\eta$ climbs from $\eta_0 = 0$ to $\eta_N \approx 1$.
# Drag the slider.

# %%
import torch

from handdiff_lib.diffusion import residual_shift, sample, seeded_noise

generator = torch.Generator().manual_seed(seed)
angle = torch.linspace(0, torch.pi, 24)
upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=-1)
points = torch.cat([upper, -upper])  # (48, 2): the other arc, upside down
shift = residual_shift(N, kappa=kappa, power=0.3)


def draw(count):
    """Poses, and what the estimator says of them."""
    x0 = points[torch.randint(len(points), (count,), generator=generator)]
    return x0, x0 + sigma * torch.randn(count, 2, generator=generator)


x0, y = draw(1000)
noise = torch.randn(1000, 2, generator=generator)


def ordinary(n):
    eta = shift.eta[n].float()
    return (1 - eta).sqrt() * x0 + eta.sqrt() * noise


def shifted(n):
    return shift.forward_marginal(x0, y, torch.full((1000,), n), noise)


# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from handdiff_lib.view import frames_slider, light, show

GREEN, ORANGE, BLUE, VIOLET, GREY = "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#888888"


def dots(places, color, size=4, **look):
    x, y = places.mT.numpy().round(3)
    marker = dict(color=color, size=size) | look.pop("marker", {})
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, showlegend="name" in look, **look)


def square(fig, reach=2.2):
    """The same unit on both axes, without ticks."""
    fig.update_xaxes(range=[-reach, reach], showticklabels=False, constrain="domain")
    for k, axis in enumerate(fig.select_yaxes()):
        axis.update(range=[-0.75 * reach, 0.75 * reach], showticklabels=False, scaleanchor=f"x{k + 1 if k else ''}")
    return fig


is_upper = (x0[:, None] == upper).all(-1).any(-1)


def clouds(n):
    for places in (ordinary(n), shifted(n)):
        yield dots(places[is_upper], BLUE, marker=dict(opacity=0.5))
        yield dots(places[~is_upper], VIOLET, marker=dict(opacity=0.5))


fig = make_subplots(1, 2, subplot_titles=["ordinary", "residual shifting"], horizontal_spacing=0.03)
for k, trace in enumerate(clouds(N)):
    fig.add_trace(trace, row=1, col=k // 2 + 1)
square(light(fig, height=400), 2.5)
each = [go.Frame(data=list(clouds(n)), name=str(n)) for n in range(N + 1)]
show(frames_slider(fig, each, "n =", 400, N))

# %% [markdown]
# Look at the colours at $n = N$.
# On the left they are mixed: the walkers have forgotten where they came from, and on the way back everything has to be
# made up.
# On the right they still lie apart, the upper arc above and the other below, blurred by the error and by the noise.
#
# A step of residual shifting adds a share of the residual $e = y - x_0$, and any step can be reached in one jump:
#
# $$ x_n = x_0 + \eta_n\,(y - x_0) + \kappa\sqrt{\eta_n}\;\epsilon . $$
#
# The next page takes this apart.
# Here we ask what the way back needs.

# %%
for n in range(N + 1):
    eta = shift.eta[n].float()
    torch.testing.assert_close(x0 + eta * (y - x0) + kappa * eta.sqrt() * noise, shifted(n))

# %% [markdown]
# ## The ideal denoiser
#
# A walker stands at $x_n$, and its estimate is $y$.
# Which $x_0$ did it come from?
# One cannot know, but each point $p_i$ of the data can be asked how well it explains what one sees:
# with $p_i$ for $x_0$, the estimate is an error of standard deviation $\sigma$ away, and $x_n$ a noise of
# $\kappa\sqrt{\eta_n}$.
# Bayes' rule multiplies the two Gaussians, and of all guesses the *mean* has the least squared error:
#
# $$ \hat x_0 = \frac{\sum_i w_i\, p_i}{\sum_i w_i}, \qquad
#   w_i = \exp\left( - \frac{\lVert x_n - p_i - \eta_n (y - p_i) \rVert^2}{2\kappa^2\eta_n}
#   - \frac{\lVert y - p_i \rVert^2}{2\sigma^2} \right). $$
#
# This is what a network that is trained with a squared error tries to become.


# %%
def ideal_denoiser(shift, points, sigma):
    def denoise(xn, y, n):
        eta = shift.eta[n].to(xn)[:, None]
        expected = points + eta[..., None] * (y[:, None] - points)  # where x_n would be without noise
        from_xn = (xn[:, None] - expected).square().sum(-1) / (2 * shift.kappa**2 * eta)
        from_y = (y[:, None] - points).square().sum(-1) / (2 * sigma**2)
        return torch.softmax(-from_xn - from_y, dim=-1) @ points

    return denoise


denoise = ideal_denoiser(shift, points, sigma)

# %% [markdown]
# Is it really the best guess?
# The best guess in the sense of squares leaves an error that has nothing to do with the guess: their products are zero
# on average.
# We draw walkers with the library's own formula and look, at each $n$.

# %%
x0_many, y_many = draw(50_000)
nearest = points[torch.cdist(y_many, points).argmin(1)]
print("mean squared error of       n = 1      4      8    (in hundredths)")
rows = {"the ideal denoiser": [], "the nearest point to y": [], "the estimate y": []}
for n in (1, 4, 8):
    step = torch.full((50_000,), n)
    xn = shift.forward_marginal(x0_many, y_many, step, torch.randn(50_000, 2, generator=generator))
    guess = denoise(xn, y_many, step)
    assert ((x0_many - guess) * guess).mean().abs() < 0.003
    for row, answer in zip(rows.values(), (guess, nearest, y_many), strict=True):
        row.append(100 * (x0_many - answer).square().sum(-1).mean())
for name, row in rows.items():
    print(f"{name:24s}" + "".join(f"{value:8.0f}" for value in row))

# %% [markdown]
# At $n$ = 1 the walker has hardly left its point.
# At $n = N$ nearly all is in the estimate, and even the best guess is a compromise.
#
# Now one estimate, the orange cross, and the guess for every place where a walker may stand.
# Each line points from a place towards the guess.

# %% tags=["hide-input", "nbval-ignore-output"]
estimate = torch.tensor([0.05, 0.22])
side = torch.linspace(-1.9, 1.9, 16)
grid = torch.cartesian_prod(side, 0.7 * side)


def field(n):
    there = denoise(grid, estimate.expand(len(grid), 2), torch.full((len(grid),), n))
    ends = grid + 0.3 * (there - grid)
    lines = torch.stack([grid, ends, torch.full_like(grid, torch.nan)], dim=1).flatten(0, 1).numpy().round(3)
    yield go.Scatter(x=lines[:, 0], y=lines[:, 1], mode="lines", line=dict(color=GREY, width=1.5), showlegend=False)
    yield dots(ends, GREY, 4)
    yield dots(there.unique(dim=0), BLUE, 6, name="guesses", marker=dict(opacity=0.7))


def scene(n):
    marks = [dots(points, GREEN, 6, name="data")]
    cross = dots(estimate[None], ORANGE, 13, name="estimate", marker=dict(symbol="x"))
    return [*marks, *field(n), cross]


fig = square(light(go.Figure(scene(2)), height=500), 2.0)
order = range(N, 0, -1)
each = [go.Frame(data=scene(n), name=str(n)) for n in order]
show(frames_slider(fig, each, "n =", 700, order.index(2)))

# %% [markdown]
# Look at $n = N$: the noise is wide, $x_n$ says little, and all guesses crowd together where no pose is, between the
# arcs.
# Look at $n$ = 1: each place has its own guess, the data point that it most likely came from.
# In between the crowd splits, first by arc, then along each arc.
# The walk back makes these choices one after the other.
#
# ## Walking back
#
# Four hundred walkers start at the estimate plus noise.
# At each step they ask the denoiser and go a part of the way; page 8 says which part.

# %%
walk = list(sample(denoise, estimate.expand(400, 2), shift, "posterior", seeded_noise(generator)))
places = {str(step.n): step.xn for step in walk} | {"0": walk[-1].x0}

# %% tags=["hide-input", "nbval-ignore-output"]
names = list(places)


def walkers(k):
    taken = torch.stack([places[name] for name in names[: k + 1]])[:, :12]  # a few of them, with their way
    way = torch.cat([taken, torch.full((1, 12, 2), torch.nan)]).transpose(0, 1).flatten(0, 1).numpy().round(3)
    yield go.Scatter(x=way[:, 0], y=way[:, 1], mode="lines", line=dict(color=GREY, width=1), showlegend=False)
    yield dots(places[names[k]], BLUE, 4, name="walkers", marker=dict(opacity=0.6))


def walking(k):
    cross = dots(estimate[None], ORANGE, 13, name="estimate", marker=dict(symbol="x"))
    return [dots(points, GREEN, 6, name="data"), *walkers(k), cross]


fig = square(light(go.Figure(walking(len(names) - 3)), height=500), 2.0)
each = [go.Frame(data=walking(k), name=name) for k, name in enumerate(names)]
show(frames_slider(fig, each, "n =", 500, len(names) - 3))

# %% [markdown]
# Each walker ends on the data.
# Which point it ends on is chance, and not all points are as likely: those near the estimate are.
# How likely exactly, Bayes' rule says without any walk: point $i$ has the share
# $\exp(-\lVert y - p_i \rVert^2 / 2\sigma^2)$, divided by the sum of all.

# %%
bayes = torch.softmax(-(estimate - points).square().sum(-1) / (2 * sigma**2), dim=0)


def ends(rule, shift, count=4000):
    """Share of the walkers that end nearest to each point."""
    back = sample(ideal_denoiser(shift, points, sigma), estimate.expand(count, 2), shift, rule, seeded_noise(generator))
    answer = list(back)[-1].x0
    return torch.bincount(torch.cdist(answer, points).argmin(1), minlength=len(points)) / count


print("                  on the upper arc   on the likeliest five points")
likeliest = bayes.argsort(descending=True)[:5]
print(f"Bayes' rule {100 * bayes[:24].sum():14.0f} % {100 * bayes[likeliest].sum():18.0f} %")
for steps in (1, 4, 15, 60):
    found = ends("posterior", residual_shift(steps, kappa=kappa, power=0.3))
    print(f"{steps:2d} steps {100 * found[:24].sum():17.0f} % {100 * found[likeliest].sum():18.0f} %")
assert (found - bayes).abs().sum() / 2 < 0.08

# %% [markdown]
# With one step all walkers get the same answer, the mean of everything, which lies on neither arc.
# With sixty they end on each point about as often as they should.
# A few steps are in between: they find the data, but end too often on the likeliest points.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} The mean at the end
# :label: ex-06-predict
# ````
# *Predict.* Take one walker's $x_0$ and $y$ and walk a thousand times.
# Where is the mean at $n = N$, with ordinary diffusion and with residual shifting?
# And the mean over all thousand walkers of the first figure?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-06-predict
# :class: dropdown
# ````
# Ordinary diffusion ends at zero, whatever $x_0$ was.
# Residual shifting ends at $x_0 + \eta_N (y - x_0)$, which is $y$ but for a thousandth.
# Over all walkers the errors of the estimator cancel, so the mean is that of the data, again zero:
# the means do not tell the two apart, the walkers do.

# %%
start, said = torch.tensor([0.5, 0.75]), torch.tensor([1.0, 0.5])
end = torch.full((1000,), N)
one = shift.forward_marginal(start.expand(1000, 2), said.expand(1000, 2), end, noise)
print("ordinary", [f"{value:.1f}" for value in ((1 - shift.eta[N]).sqrt() * start).abs()], end="   ")
print("shifted", [f"{value:.1f}" for value in one.mean(0)], "   estimate", [f"{value:.1f}" for value in said])

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Two steps
# :label: ex-06-derive
# ````
# *Derive.* One step is $x_n = x_{n-1} + \alpha_n e + \kappa\sqrt{\alpha_n}\,\epsilon_n$ with
# $\alpha_n = \eta_n - \eta_{n-1}$.
# Put the first step into the second and show that $x_2$ has the mean and the variance of one jump.
# Which property of variances do you use, and what would go wrong with $\kappa\,\alpha_n \epsilon_n$?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-06-derive
# :class: dropdown
# ````
# $x_2 = x_0 + (\alpha_1 + \alpha_2)\, e + \kappa\,(\sqrt{\alpha_1}\,\epsilon_1 + \sqrt{\alpha_2}\,\epsilon_2)$.
# The shares add up to $\eta_2 - \eta_0 = \eta_2$.
# The noises are independent, so their variances add: $\kappa^2(\alpha_1 + \alpha_2) = \kappa^2\eta_2$.
# With $\kappa\,\alpha_n\epsilon_n$ the variance would be $\kappa^2(\alpha_1^2 + \alpha_2^2)$, which depends on how the
# way was cut, and not only on how far one has come.

# %%
fixed, said = start.expand(50_000, 2), said.expand(50_000, 2)
stepped = fixed
for n in (1, 2):
    step = torch.full((50_000,), n)
    stepped = shift.forward_step(stepped, fixed, said, step, torch.randn(50_000, 2, generator=generator))
eta = shift.eta[2].float()
torch.testing.assert_close(stepped.mean(0), start + eta * (said[0] - start), atol=0.01, rtol=0)
torch.testing.assert_close(stepped.std(0), (kappa * eta.sqrt()).expand(2), atol=0.01, rtol=0)

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Two points
# :label: ex-06-build
# ````
# *Build.* Let the data be two points, $a$ and $-a$.
# Write `between(xn, y, eta, a)`, the ideal denoiser, with one call of `tanh` and no `exp`.
# Check it with `torch.testing.assert_close(between(xn, y, eta, a), two(xn, y, n))` for
# `two = ideal_denoiser(shift, torch.stack([a, -a]), sigma)`, `a = torch.tensor([0.8, -0.3])`,
# `n = torch.randint(1, N + 1, (100,))`, `eta = shift.eta[n].float()[:, None]` and random `xn` and `y`.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-06-build
# :class: dropdown
# ````
# Write $u = x_n - \eta_n y$, so that the first square is $\lVert u - (1 - \eta_n)\, p \rVert^2$.
# For $p = \pm a$ all terms agree but the mixed ones, and the two weights are as $e^{s}$ to $e^{-s}$ with
#
# $$ s = \frac{(1 - \eta_n)\, a \cdot (x_n - \eta_n y)}{\kappa^2\eta_n} + \frac{a \cdot y}{\sigma^2}, \qquad
#   \hat x_0 = \frac{e^{s} - e^{-s}}{e^{s} + e^{-s}}\; a = a \tanh s . $$


# %%
def between(xn, y, eta, a):
    s = (1 - eta) / (kappa**2 * eta) * ((xn - eta * y) @ a)[:, None] + (y @ a)[:, None] / sigma**2
    return a * s.tanh()


a = torch.tensor([0.8, -0.3])
two = ideal_denoiser(shift, torch.stack([a, -a]), sigma)
n = torch.randint(1, N + 1, (100,), generator=generator)
eta = shift.eta[n].float()[:, None]
xn, guess_of = torch.randn(2, 100, 2, generator=generator)
torch.testing.assert_close(between(xn, guess_of, eta, a), two(xn, guess_of, n), atol=1e-4, rtol=0)

# %% [markdown]
# A step of $\tanh$ is a decision: between the points the guess is a compromise, beyond it is one or the other, and the
# smaller $\eta_n$, the sharper.
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Other schedules
# :label: ex-06-explore
# ````
# *Explore.* Four steps can be spread in many ways.
# Change `power` and compare where the walkers end with Bayes' rule.
# Half the sum over the points of the difference of the two shares, without its sign, is the share of walkers that end
# on a wrong point.
# Is a schedule that is better for four steps also better for fifteen?
# And is that the same question as which schedule is best for a motion?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-06-explore
# :class: dropdown
# ````

# %%
print("on the wrong point (%)   " + "   ".join(f"N = {steps:2d}" for steps in (4, 8, 15)))
for power in (0.1, 0.3, 1.0, 3.0):
    wrong = []
    for steps in (4, 8, 15):
        found = ends("posterior", residual_shift(steps, kappa=kappa, power=power))
        wrong.append(50 * (found - bayes).abs().sum())
    print(f"power {power:3.1f}" + " " * 13 + "".join(f"{value:9.0f}" for value in wrong))

# %% [markdown]
# Of these, 0.3 is best at every number of steps, or as good as any.
# With a small power much of the way lies between $n = 2$ and $n = 1$, so a point is chosen in one jump.
# With a large one the first step back is nearly the whole way, and follows a guess that is still a compromise.
# More steps make both milder.
#
# For a motion the question is another one.
# Here we asked for fair draws.
# Who wants one good answer wants the least error, and that is the mean, after a single step.
# A network also errs, and its schedule decides at which $n$ it has to be good.
# Page 8 comes back to fair draws, page 15 to what a trained network gains from its steps.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - Diffusion walks from the data into noise, and residual shifting walks from the data to the estimate.
# - The ideal denoiser is a mean of the data, each weighted by how well it explains what one sees.
# - Following it back, step by step, ends on the data, at each point as often as Bayes' rule asks for.
