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
# # Walking back
#
# We stand at $x_n$, somewhere between the truth and the estimate, in noise.
# A network tells us where it believes the truth to be.
# Where was the walk one step earlier?
#
# On this page
# - one step back is Bayes' rule for two Gaussians, and the estimate drops out of it,
# - posterior, deterministic and re-noising steps pass through the same clouds, and remember part, all and nothing of
#   $x_n$,
# - in few steps every rule is too sure of its answer; re-noising stays so with many.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
frames = 64
jitter_deg = 6.0
seed = 0

# %% [markdown]
# ## A finger, walked back
#
# A finger bends slowly over 64 frames: that is the truth.
# An estimator sees each frame on its own and errs by 6°, each time anew.
# The walk starts at the estimate plus 15° of noise.
# Drag the slider, from $n = 4$ down to the answer.

# %% tags=["hide-input"]
from math import pi, radians

import torch

from handdiff_lib.diffusion import residual_shift, sample, seeded_noise

generator = torch.Generator().manual_seed(seed)
sigma = radians(jitter_deg)

frequency = torch.arange(frames)
waves = torch.cos(pi * frequency[:, None] * (torch.arange(frames) + 0.5) / frames) * (2 / frames) ** 0.5
waves[0] /= 2**0.5  # rows of length 1, at right angles to each other
strength = radians(120) ** 2 / (1 + (frequency / 2) ** 4)  # slow waves are strong, fast ones weak

truth = (strength.sqrt() * torch.randn(frames, generator=generator)) @ waves
estimate = truth + sigma * torch.randn(frames, generator=generator)


def ideal_denoiser(shift):
    """The best guess of x0 from xn and y in this small world; derived further down."""

    def denoise(xn, y, n):
        eta = shift.eta[n].to(xn)[:, None]
        sees_xn = (1 - eta) / (shift.kappa**2 * eta)
        precision = 1 / strength + 1 / sigma**2 + (1 - eta) * sees_xn
        evidence = (y @ waves.mT) / sigma**2 + sees_xn * ((xn - eta * y) @ waves.mT)
        return (evidence / precision) @ waves

    return denoise


# %%
def walk_back(rule, shift, seen):
    """All steps of one walk for each of the estimates `seen` (b, frames)."""
    return list(sample(ideal_denoiser(shift), seen, shift, rule, seeded_noise(generator)))


shift = residual_shift()
walk = walk_back("posterior", shift, estimate[None])

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go

from handdiff_lib.view import frames_slider, light, show


def curve(values, **look):
    return go.Scatter(y=values.rad2deg().numpy().round(1), **look)


def scene(step):
    return [
        curve(truth, name="truth", line=dict(color="#009E73", width=4)),
        curve(estimate, name="estimate", line=dict(color="#D55E00", width=1)),
        curve(step.xn[0], name="where the walk is", mode="markers", marker=dict(color="#888888", size=5)),
        curve(step.x0[0], name="what the denoiser says", line=dict(color="#0072B2", width=2)),
    ]


fig = light(go.Figure(scene(walk[0])), height=470)
fig.update_layout(xaxis_title="frame", yaxis=dict(title="bend, from a half-closed hand (°)", range=[-70, 50]))
show(frames_slider(fig, [go.Frame(data=scene(step), name=str(step.n)) for step in walk], "n =", 900))

# %% [markdown]
# Look at the blue line: it is smooth from the start, near the truth, and changes little.
# Look at the grey points: they close in on it.

# %% [markdown]
# ## One step back
#
# Two things are known about $x_{n-1}$.
# The *past*: it is the truth with $n - 1$ shares of the residual $e = y - x_0$,
#
# $$ x_{n-1} \sim \mathcal N\big(x_0 + \eta_{n-1}\, e,\; \kappa^2 \eta_{n-1}\big). $$
#
# The *future*: one more share has taken it to $x_n$, so it lay near
#
# $$ x_{n-1} \approx x_n - \alpha_n\, e \quad\text{with variance}\quad \kappa^2 \alpha_n . $$
#
# Bayes' rule multiplies the two.
# The product of two Gaussians is a Gaussian; its mean weighs each by the variance of the *other*.
# The variances add up to $\kappa^2(\eta_{n-1} + \alpha_n) = \kappa^2 \eta_n$, so
#
# $$ \text{mean} = \frac{\alpha_n\,(x_0 + \eta_{n-1} e) + \eta_{n-1}\,(x_n - \alpha_n e)}{\eta_n}
#   = \frac{\alpha_n}{\eta_n}\, x_0 + \frac{\eta_{n-1}}{\eta_n}\, x_n , $$
#
# $$ \text{variance} = \kappa^2\, \frac{\eta_{n-1}\,\alpha_n}{\eta_n} . $$
#
# The two terms with $e$ cancel.
# The estimate has dropped out: given $x_n$ and $x_0$, it has nothing more to say.
#
# We check it without algebra: multiply the two densities on a fine grid.

# %%
x0, y, xn = 0.2, -0.3, -0.1
grid = torch.linspace(-2, 2, 40_001, dtype=torch.float64)
print(" n    grid: mean, std     formula: mean, std (degrees)")
for n in range(2, shift.N + 1):
    before, alpha, e = shift.eta[n - 1], shift.eta[n] - shift.eta[n - 1], y - x0
    past = -0.5 * (grid - x0 - before * e) ** 2 / (shift.kappa**2 * before)
    future = -0.5 * (xn - grid - alpha * e) ** 2 / (shift.kappa**2 * alpha)
    weight = torch.softmax(past + future, 0)
    mean = (weight * grid).sum()
    std = (weight * (grid - mean) ** 2).sum().sqrt()
    here, there, zero = torch.tensor([[xn], [x0], [0.0]]).double()
    by_formula = shift.reverse_step(here, there, torch.tensor([n]), zero)
    spread = shift.reverse_step(here, there, torch.tensor([n]), zero + 1) - by_formula
    numbers = torch.stack([mean, std, by_formula[0], spread[0]]).rad2deg()
    print("{:2d} {:11.2f} {:6.2f} {:15.2f} {:6.2f}".format(n, *numbers.tolist()))

# %% [markdown]
# At $n = 1$ the past is a point, since $\eta_0 = 0$: the step lands on $x_0$ itself.
# Walking back, the truth is not known; the denoiser's guess $\hat x_0 = f_W(x_n, y, n)$ stands in for it.
# So the answer of the walk is the guess at $n = 1$.

# %% [markdown]
# ## Three rules
#
# The posterior is not the only way to a cloud with the right mean and width at $n - 1$; the second rule is from
# {cite:t}`sinsr`.
#
# | rule | $x_{n-1}$ | remembers |
# |---|---|---|
# | posterior | $\hat x_0 + \frac{\eta_{n-1}}{\eta_n}(x_n - \hat x_0)$ + fresh noise | part of $x_n$ |
# | deterministic | $\hat x_0 + \eta_{n-1}(y - \hat x_0)$ + the noise in $x_n$, shrunk | all of $x_n$ |
# | re-noise | $\hat x_0 + \eta_{n-1}(y - \hat x_0)$ + fresh noise | only $\hat x_0$ |
#
# To fit the cloud at $n - 1$, the deterministic rule shrinks the noise by $\sqrt{\eta_{n-1}/\eta_n}$.
# The fresh noise has the variance derived above for the posterior, and all of $\kappa^2\eta_{n-1}$ for re-noising.
# We have checked the posterior; here are the other two.


# %%
def two_rules(xn, x0, y, before, now, z):
    """Deterministic and re-noised; before and now are the shares at n - 1 and n."""
    middle = x0 + before * (y - x0)
    noise_in_xn = xn - x0 - now * (y - x0)
    shrunk = (before / now) ** 0.5 * noise_in_xn
    return middle + shrunk, middle + shift.kappa * before**0.5 * z


a, b, c, z = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(seed))
for n in range(1, shift.N + 1):
    step = torch.full((5,), n)
    shares = shift.eta[n - 1].item(), shift.eta[n].item()
    deterministic, renoised = two_rules(a, b, c, *shares, z)
    torch.testing.assert_close(deterministic, shift.deterministic_step(a, b, c, step))
    torch.testing.assert_close(renoised, shift.renoise_step(b, c, step, z))

# %% [markdown]
# Paper vs code: Algorithm 2 of the paper draws from the posterior.
# The released demo re-noises, and stops after $n = 2$.
# Algorithm 2 starts with noise of variance $\kappa$, the text with $\kappa^2$; we take $\kappa^2\eta_N$, which is
# what the chain itself says.
#
# Below, thirty walks of one frame under each rule, in eight steps; drag to take them.

# %%
walks, eight = {}, residual_shift(8, power=0.3)
for rule in ("posterior", "deterministic", "renoise"):
    steps = walk_back(rule, eight, estimate.expand(30, -1))
    positions = torch.stack([step.xn for step in steps] + [steps[-1].x0])
    walks[rule] = positions[..., 30].rad2deg()  # (9, 30): frame 30 of each walk

# %% tags=["hide-input", "nbval-ignore-output"]
from plotly.subplots import make_subplots


def lines(taken):
    for path in walks.values():
        x = [*range(8, 7 - taken, -1), None] * 30
        y = torch.cat([path[: taken + 1], torch.full((1, 30), torch.nan)]).mT.flatten().numpy().round(1)
        yield go.Scatter(x=x, y=y, mode="lines+markers", line=dict(width=1, color="#0072B2"), marker_size=4)
        yield go.Scatter(x=[8, 0], y=[level, level], mode="lines", line=dict(width=3, color="#009E73"))


level = truth[30].rad2deg().item()
fig = make_subplots(1, 3, subplot_titles=list(walks), shared_yaxes=True, horizontal_spacing=0.03)
for k, trace in enumerate(lines(8)):
    fig.add_trace(trace, row=1, col=k // 2 + 1)
fig.update_xaxes(range=[8.4, -0.4], dtick=2, title="n").update_yaxes(title="bend (°)", col=1)
fig.update_yaxes(range=[level - 45, level + 45])
light(fig, height=450).update_layout(showlegend=False)
frames_slider(fig, [go.Frame(data=list(lines(k)), name=str(k)) for k in range(9)], "steps taken:", 500)
fig.layout.sliders[0].active = 8
show(fig)

# %% [markdown]
# Look at the crossings.
# Deterministic walks hardly cross: where you start says where you end.
# Posterior walks mix slowly.
# Re-noised walks are thrown anew at each step, high ones as often low next time.

# %% [markdown]
# ## The ideal denoiser
#
# Why could we do all this without a network?
# Because in this small world the best guess has a formula.
# Write each motion as a sum of cosine waves over time; the waves do not influence each other.
# About one wave of the truth, three things are known:
#
# - before seeing anything, it is near 0 with variance $s$, large for slow waves,
# - the estimate shows it with variance $\sigma^2$,
# - $x_n - \eta_n y = (1 - \eta_n)\, x_0 + \kappa\sqrt{\eta_n}\,\epsilon$ shows it once more.
#
# Three Gaussians multiply as two did; precisions add, and the mean is evidence over precision:
#
# $$ \hat x_0 = \frac{\dfrac{y}{\sigma^2} + \dfrac{1 - \eta_n}{\kappa^2\eta_n}\,(x_n - \eta_n y)}
#   {\dfrac{1}{s} + \dfrac{1}{\sigma^2} + \dfrac{(1 - \eta_n)^2}{\kappa^2 \eta_n}} . $$
#
# A trained network has to learn this, for hands, where no one knows $s$ or $\sigma$.
#
# The formula also gives what no recording can: how uncertain one *should* be once $y$ is seen.
# Drop $x_n$, and the variance of a wave is $1 / (1/s + 1/\sigma^2)$.

# %%
best_guess = ((estimate @ waves.mT) / (1 + sigma**2 / strength)) @ waves
doubt = (1 / (1 / strength + 1 / sigma**2)).mean().sqrt().rad2deg()
error = (best_guess - truth).square().mean().sqrt().rad2deg()
print(f"best guess from the estimate alone: error {error:.1f}°, expected {doubt:.1f}°")

# %% [markdown]
# ## How sure are the three rules?
#
# If the walk is right, its answers scatter as the truth might: by 2.4°.
# Here is how much 300 answers scatter, for 4 steps and for more.


# %%
def answers(rule, N, count=300):
    steps = walk_back(rule, residual_shift(N, power=0.3), estimate.expand(count, -1))
    return steps[-1].x0


def spread_deg(found):
    return found.var(0).mean().sqrt().rad2deg().item()


spread = {N: [spread_deg(answers(rule, N)) for rule in walks] for N in (1, 4, 15, 60)}
print("spread of the answers (degrees); it should be", f"{doubt:.1f}")
print("  N  posterior  deterministic  re-noise")
for N, found in spread.items():
    print("{:3d} {:8.1f} {:12.1f} {:12.1f}".format(N, *found))

# %% [markdown]
# With one step there is one answer, the best guess.
# With four, every rule is too sure.
# With sixty, posterior and deterministic walks tell the truth about their doubt, and re-noising does not:
# each step forgets $x_n$ and so forgets part of what had been decided.
#
# Being too sure is not only bad.
# Answers that scatter around the best guess by 1.3° have an error of $\sqrt{2.4^2 + 1.3^2} = 2.7$ degrees, those that
# scatter by 2.4° one of 3.4: the sharper the answers, the smaller the error.
# For one good motion, few steps; for honest uncertainty, many, or another way to measure it.

# %% [markdown]
# ## A hand, walked back
#
# Now twelve finger joints at once, each with its own estimate, denoised as above.
# Left, where the walk is; right, what the denoiser says.

# %%
from handdiff_lib import rotation
from handdiff_lib.hand import load_hand

hand = load_hand()
drawn = strength.sqrt() * torch.randn(4, frames, generator=generator)
fingers = drawn @ waves  # one curve a finger, shared by its three joints
true_bend = (fingers[:, None] * torch.tensor([[0.8], [1.0], [0.6]])).flatten(0, 1)
seen_bend = true_bend + sigma * torch.randn(12, frames, generator=generator)
hand_walk = walk_back("posterior", shift, seen_bend)


def rotations(bend):
    turn = torch.zeros(frames, 16, 3)
    turn[:, 1:13, 2] = radians(40) + bend.mT  # +z closes the fingers
    return rotation.exp(turn)


# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import hand_figure

aside = torch.tensor([0.0, -0.048, 0.064])  # to the left on the screen
shaped = hand.mean_shape()
both = [
    torch.cat([shaped.pose(rotations(bend)[20]).skin() + side * aside for bend, side in ((step.xn, 1), (step.x0, -1))])
    for step in hand_walk
]
faces = torch.cat([hand.faces, hand.faces + len(hand.v_template)])
show(hand_figure(torch.stack(both), faces, fps=1, labels=[str(step.n) for step in hand_walk], label="n ="))

# %% [markdown]
# A still shows only half of it, since jitter lives in time.
# Press play: the estimate on the left, the answer beside it, the truth on the right.

# %%
from handdiff_lib.motion import HandMotion


def motion(bend):
    betas, transl = torch.zeros(10), torch.zeros(frames, 3)
    valid = torch.ones(frames, dtype=torch.bool)
    return HandMotion(rotations(bend), betas, transl, valid, fps=15.0, hand="open")


bends = {"before": seen_bend, "after": hand_walk[-1].x0, "truth": true_bend}
tracks = {name: motion(bend) for name, bend in bends.items()}

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import player

show(player(tracks, hand, max_frames=40))

# %% [markdown]
# In numbers: MJE is the mean distance of the joints from the truth with wrists together, in mm;
# ACCL is the error of their acceleration, in mm per frame squared.

# %%
from handdiff_lib.metrics import score

for name in ("before", "after"):
    found = score(tracks[name], tracks["truth"], hand)
    mje, accl = found["mje_mm"], found["accl_mm"]
    print(f"{name:7s} MJE {mje:4.1f} mm   ACCL {accl:5.2f} mm/frame²")

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} Which varies more?
# :label: ex-08-predict
# ````
# *Predict.* Take 300 walks with 15 steps.
# Under which rule does $x_n$ jump most from one step to the next?
# Under which do the answers differ most in the end?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-08-predict
# :class: dropdown
# ````
# Re-noising jumps most and ends with the least variety: its jumps are noise that the next step forgets.

# %%
for rule in walks:
    steps = walk_back(rule, residual_shift(15, power=0.3), estimate.expand(300, -1))
    positions = torch.stack([step.xn for step in steps])
    jump = positions.diff(dim=0).square().mean().sqrt().rad2deg()
    print(f"{rule:14s} jump {jump:4.1f}°   answers {spread_deg(steps[-1].x0):.1f}°")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} The clouds stay
# :label: ex-08-derive
# ````
# *Derive.* Let $x_n$ follow its marginal, mean $x_0 + \eta_n e$ and variance $\kappa^2\eta_n$.
# Show that a posterior step gives the marginal at $n - 1$.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-08-derive
# :class: dropdown
# ````
# Write $k = \eta_{n-1}/\eta_n$, so that $x_{n-1} = x_0 + k(x_n - x_0) + \kappa\sqrt{k\alpha_n}\,\epsilon$.
#
# Mean: $x_0 + k\,\eta_n e = x_0 + \eta_{n-1} e$.
#
# Variance: $k^2\kappa^2\eta_n + \kappa^2 k \alpha_n = \kappa^2 k\,(\eta_{n-1} + \alpha_n) = \kappa^2 k\, \eta_n
# = \kappa^2 \eta_{n-1}$.
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} One reverse step
# :label: ex-08-build
# ````
# *Build.* Write `step_back(xn, x0, eta, n, kappa, noise)` for an integer `n`, without an `if` for $n = 1$.
# Check it with
# `torch.testing.assert_close(step_back(xn, x0, shift.eta, 3, shift.kappa, z),
# shift.reverse_step(xn, x0, torch.full((5,), 3), z))`
# for `xn, x0, z = torch.randn(3, 5, 2)`.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-08-build
# :class: dropdown
# ````


# %%
def step_back(xn, x0, eta, n, kappa, noise):
    keep = (eta[n - 1] / eta[n]).item()
    std = kappa * (keep * (eta[n] - eta[n - 1]).item()) ** 0.5
    return x0 + keep * (xn - x0) + std * noise


xn, x0, z = torch.randn(3, 5, 2, generator=generator)
for n in range(1, 5):
    library = shift.reverse_step(xn, x0, torch.full((5,), n), z)
    torch.testing.assert_close(step_back(xn, x0, shift.eta, n, shift.kappa, z), library)
assert torch.equal(step_back(xn, x0, shift.eta, 1, shift.kappa, z), x0)

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Fewer steps, same answer?
# :label: ex-08-explore
# ````
# *Explore.* Walk back in 1, 2, 4 and 15 steps and look at the error of one answer and of the mean of eight.
# The denoiser here is ideal.
# Which result would change with a network that has been trained on few motions?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-08-explore
# :class: dropdown
# ````

# %%
print("  N   error of one answer   of the mean of eight (degrees)")
for N in (1, 2, 4, 15):
    found = answers("posterior", N, 320)
    one = (found - truth).square().mean().sqrt().rad2deg()
    means = found.unflatten(0, (40, 8)).mean(1)
    eight = (means - truth).square().mean().sqrt().rad2deg()
    print(f"{N:3d} {one:14.1f} {eight:20.1f}")

# %% [markdown]
# For an ideal denoiser one step is the best single answer, and averaging undoes what more steps add.
# A network's first answer, from $x_N$ alone, is often blurred towards the mean motion.
# It may then profit from seeing its own better guesses in $x_n$; page 15 tries it.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - One step back is Bayes' rule for two Gaussians, and the estimate drops out of it.
# - Posterior, deterministic and re-noising steps pass through the same clouds, and remember part, all and nothing of
#   $x_n$.
# - In few steps every rule is too sure of its answer; re-noising stays so with many.
