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
# # Smoothing, and why it is not enough
#
# An estimate shakes, and a hand does not.
# Why not take means over time, and be done?
#
# On this page
# - a filter that only looks back pays for calm with lag: $\ell$ frames of lag divide the variance by $1 + 2\ell$,
# - a filter that also looks ahead has no lag, and flattens what is fast instead,
# - an error that lasts as long as a movement is a movement to every filter.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
gain = 0.25  # share of the way to each new answer
seed = 0

# %% [markdown]
# ## Keep most of the last answer
#
# The oldest filter there is: stay where you were, and go a share $g$ of the way to what the estimator says now.
# Write $y_t$ for what it says and $\hat x_t$ for our answer; then $\hat x_t = \hat x_{t-1} + g\,(y_t - \hat x_{t-1})$.
# For rotations *a share of the way* is `slerp`.
# The estimate is the one of the clip that ships; its truth is known because a program made both.


# %%
from dataclasses import replace

import torch

from handdiff_lib import rotation
from handdiff_lib.hand import DATA, load_hand
from handdiff_lib.motion import HandMotion, fill_missing
from handdiff_lib.storage import load_motion

hand = load_hand()
clip = load_motion(DATA / "clips" / "demo.npz")
truth = clip["right.truth"]
before = replace(fill_missing(clip["right"]), valid=truth.valid)  # gaps bridged, so that each frame has an answer


def low_pass(y, g):
    answer = [y[0]]
    for now in y[1:]:
        answer.append(rotation.slerp(answer[-1], now, torch.full(now.shape[:1], g)))
    return torch.stack(answer)


calm = replace(before, R=low_pass(before.R, gain))

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import player, show

show(player({"before": before, "low-pass": calm, "truth": truth}, hand, start=1.5, seconds=1.5, trails=8))

# %% [markdown]
# Press Play and compare the middle with the right.
# It is calm, and late.
#
# ## What calm costs
#
# Two questions tell the price.
# How far behind is the answer when the truth moves evenly?
# And how much of white noise, with variance $\sigma^2$, is left?
# The answers are exact, and both follow from the one line above:
#
# $$ \ell = \frac{1 - g}{g} \;\text{ frames of lag}, \qquad
#   \frac{\mathrm{Var}}{\sigma^2} = \frac{g}{2 - g} = \frac{1}{1 + 2\ell} . $$
#
# The last form has no $g$ in it: whoever looks back only, and with one number, gets no calm but for lag.


# %%
def lag_of(g):
    return (1 - g) / g


def variance_left(g):
    return 1 / (1 + 2 * lag_of(g))


generator = torch.Generator().manual_seed(seed)
z = torch.tensor([0.0, 0.0, 1.0])
turning = rotation.exp(torch.arange(200.0)[:, None, None].deg2rad() * z)  # a degree a frame, one joint
shake = 2 * torch.randn(200, 500, 1, generator=generator)  # degrees, of five hundred joints that do not move
still = rotation.exp(shake.deg2rad() * z)
print("gain   lag (frames)   variance left (%)")
for g in (0.5, 0.25, 0.1):
    behind = rotation.angle_between(low_pass(turning, g)[-1], turning[-1]).rad2deg().item()
    left = rotation.log(low_pass(still, g))[100:, :, 2].rad2deg().var().item() / 2**2
    assert abs(behind - lag_of(g)) < 0.01
    assert abs(left / variance_left(g) - 1) < 0.1
    print(f"{g:4.2f} {behind:10.1f} {100 * variance_left(g):16.0f}")

# %% [markdown]
# To halve the shaking is to divide its variance by four: one and a half frames late, 50 ms at 30 frames a second.
#
# Engineers name such a filter by its *cut-off*, the frequency at which it begins to take away.
# With a cut-off $f_c$ and frames $\Delta$ apart, $g = 1 / (1 + 1 / (2\pi f_c \Delta))$.
# The library's filters speak in cut-offs, and one of them is this one.

# %%
from handdiff_lib.filters import OneEuro

for cutoff in (1.0, 3.0):
    g = 1 / (1 + before.fps / (2 * torch.pi * cutoff))
    library = OneEuro(min_cutoff_hz=cutoff, beta=0.0)(before)
    torch.testing.assert_close(low_pass(before.R, g), library.R, atol=1e-4, rtol=0)
    print(f"cut-off {cutoff:.0f} Hz at {before.fps:.0f} frames a second: gain {g:.2f}, lag {lag_of(g):.1f} frames")

# %% [markdown]
# ## Three filters
#
# The *low-pass* has one gain for all times.
# The *One-Euro* filter {cite:p}`casiez2012` opens when the hand is fast, where lag shows and shaking does not:
# its cut-off is $f_{\min} + \beta\,\lVert\hat v\rVert$, with $\hat v$ the speed, itself low-passed.
# (This $\beta$ has nothing to do with shape.)
# The *Gaussian* takes a weighted mean of past and future, so it needs the whole recording.
#
# Each point below is one setting.
# To the right is lag, measured behind a finger that turns evenly by 90° a second; upwards is shaking, the error of the
# acceleration on the clip.
# Drag the slider through the settings and look at the bend of a finger underneath.

# %%
from handdiff_lib.baselines import gaussian
from handdiff_lib.metrics import score

frames, speed = 90, 3.0  # 3° a frame
ramp = rotation.exp((speed * torch.arange(frames))[:, None, None].deg2rad() * z).expand(frames, 16, 3, 3)
steady = HandMotion(ramp, torch.zeros(10), torch.zeros(frames, 3), torch.ones(frames, dtype=torch.bool), fps=30.0)

settings = {f"Gaussian, {k:g} frames": lambda m, k=k: gaussian(m, k) for k in (0.5, 1, 1.5, 2, 3, 6)}
settings |= {f"low-pass, {f:g} Hz": OneEuro(f, 0.0) for f in (1, 1.5, 2, 3, 5, 8)}
settings |= {f"One-Euro, β = {b:g}": OneEuro(0.3, b) for b in (0.1, 0.2, 0.4, 0.8, 1.5, 4)}


def lag_ms(smooth):
    middle = 60  # far from both ends
    behind = rotation.log(smooth(steady).R[middle].mT @ steady.R[middle])[1, 2].rad2deg()
    return (1000 * behind / speed / steady.fps).item()


answers = {name: smooth(before) for name, smooth in settings.items()}
lag = {name: lag_ms(smooth) for name, smooth in settings.items()}
found = {name: score(answer, truth, hand) for name, answer in answers.items()}

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from handdiff_lib.anatomy import anatomical_angles, anatomical_axes
from handdiff_lib.scene import COLORS
from handdiff_lib.topology import JOINTS
from handdiff_lib.view import frames_slider, light

axes, joint = anatomical_axes(hand), JOINTS.index("middle2")
LOOK = {"Gaussian": "#0072B2", "low-pass": "#E69F00", "One-Euro": "#CC79A7"}


def bend(motion):
    time = (torch.arange(len(motion)) / motion.fps).numpy().round(3)
    y = anatomical_angles(motion.R, axes)[:, joint, 2].rad2deg()
    return dict(x=time[30:110], y=y[30:110].numpy().round(1))


def chosen(name):
    color = LOOK[name.split(",")[0]]
    ring = dict(size=18, color="rgba(0,0,0,0)", line=dict(width=3, color="#333333"))
    yield go.Scatter(x=[lag[name]], y=[found[name]["accl_mm"]], mode="markers", marker=ring, showlegend=False)
    yield go.Scatter(**bend(answers[name]), line=dict(color=color, width=3), showlegend=False)


titles = ["shaking (mm/frame²) against lag (ms)", "bend of the middle finger (°) over time (s)"]
fig = make_subplots(2, 1, subplot_titles=titles, vertical_spacing=0.14)
for kind, color in LOOK.items():
    names = [name for name in settings if name.startswith(kind)]
    words = [f"{name}<br>MJE {found[name]['mje_mm']:.1f} mm" for name in names]
    y = [found[name]["accl_mm"] for name in names]
    look = dict(text=words, hoverinfo="text", mode="lines+markers", marker_size=8, line=dict(color=color, width=2))
    fig.add_scatter(x=[lag[name] for name in names], y=y, name=kind, **look, row=1, col=1)
fig.add_scatter(**bend(before), name="before", line=dict(color=COLORS["before"], width=1), row=2, col=1)
fig.add_scatter(**bend(truth), name="truth", line=dict(color=COLORS["truth"], width=6), opacity=0.4, row=2, col=1)
start = "low-pass, 1.5 Hz"
for row, trace in enumerate(chosen(start), 1):
    fig.add_trace(trace, row=row, col=1)
light(fig, height=680).update_layout(margin_t=95, legend_y=1.06)
each = [go.Frame(data=list(chosen(name)), traces=[5, 6], name=name) for name in settings]
show(frames_slider(fig, each, "", 900, list(settings).index(start)))

# %% [markdown]
# Look at the two curves of filters that only look back.
# They run from top left, quick and shaking, to bottom right, calm and late.
# One-Euro is a little nearer to the corner, since it is calm while a joint rests and quick while it turns.
# Look at the Gaussian: it falls straight down at no lag at all.
# Its price is another one.
# Drag to six frames, and look at the fast parts of the movement.

# %%
print("                      lag (ms)   MJE (mm)   ACCL (mm/frame²)")
print(f"{'before':20s} {0:8.0f} {score(before, truth, hand)['mje_mm']:10.1f}", end="")
print(f"{score(before, truth, hand)['accl_mm']:15.1f}")
for name in ("low-pass, 1.5 Hz", "One-Euro, β = 0.4", "Gaussian, 2 frames", "Gaussian, 6 frames"):
    row = found[name]
    print(f"{name:20s} {abs(lag[name]):8.0f} {row['mje_mm']:10.1f} {row['accl_mm']:14.1f}")

# %% [markdown]
# The Gaussian brings shaking down to a tenth, and MJE by less than a fifth.
# The two that look back gain less there, since lag takes what calm gives.
#
# ## What no filter sees
#
# Split the error of the fingers, as rotation vectors $\log(R_{\text{truth}}^\top R)$, into three parts:
# what is *constant* over the clip, what is *slow*, and what is *fast*.
# Slow is what a Gaussian mean with a standard deviation of a tenth of a second leaves.

# %%
from handdiff_lib.smoothing import smooth


def parts_deg(answer):
    """RMS of the constant, the slow and the fast part of the fingers' error, degrees a joint."""
    error = rotation.log(truth.R.mT @ answer.R)[:, 1:].flatten(1)
    constant = error.mean(0, keepdim=True)
    slow = smooth(error - constant, truth.valid, 0.1 * truth.fps)
    fast = error - constant - slow
    return [(3 * part.square().mean()).sqrt().rad2deg().item() for part in (constant, slow, fast)]


widths = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
smoothed = {width: gaussian(before, width) for width in widths}
parts = {width: parts_deg(answer) for width, answer in smoothed.items()}
print("Gaussian   constant    slow    fast (degrees)")
for width in (0.0, 2.0, 6.0):
    print(f"{width:5.0f}    " + "".join(f"{value:9.1f}" for value in parts[width]))

# %% tags=["hide-input", "nbval-ignore-output"]
KIND = {"constant": "#444444", "slow": "#0072B2", "fast": "#D55E00"}


def at_width(width):
    error = rotation.log(truth.R.mT @ smoothed[width].R)[:, joint, 2].rad2deg().numpy().round(1)
    yield go.Scatter(y=error, line=dict(color="#0072B2", width=3), showlegend=False)
    yield go.Scatter(x=[width, width], y=[0, 8], mode="lines", line=dict(color="#333333", width=1), showlegend=False)


titles = ["error of one joint's bend (°) over frames", "what is left (°) against σ (frames)"]
fig = make_subplots(2, 1, subplot_titles=titles, vertical_spacing=0.14)
raw = rotation.log(truth.R.mT @ before.R)[:, joint, 2].rad2deg().numpy().round(1)
fig.add_scatter(y=raw, line=dict(color=COLORS["before"], width=1), showlegend=False, row=1, col=1)
for k, (name, color) in enumerate(KIND.items()):
    y = [parts[width][k] for width in widths]
    fig.add_scatter(x=widths, y=y, name=name, line=dict(color=color, width=3), row=2, col=1)
for row, trace in enumerate(at_width(2.0), 1):
    fig.add_trace(trace, row=row, col=1)
light(fig, height=640).update_layout(margin_t=95, legend_y=1.07)
each = [go.Frame(data=list(at_width(width)), traces=[4, 5], name=f"{width:g} frames") for width in widths]
show(frames_slider(fig, each, "σ =", 700, widths.index(2.0)))

# %% [markdown]
# In the upper panel the orange line is the error before, the blue one the error after.
# Most of the fast part goes.
# The constant part stays, whatever the width: the mean of a constant is that constant.
# Of the slow part a tenth goes, and with the widest filter it grows again, since rounding off the movement is an error
# of its own.
# Nothing in the numbers of a single joint tells a slow error from a slow movement.
# To see it one has to know how hands move: which bends go together, where a finger stops, what a grasp looks like.
# This is what the rest of the book learns from data.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} The corner
# :label: ex-05-predict
# ````
# *Predict.* The best corner of the first figure is bottom left: no lag, no shaking.
# A robot may be 50 ms late.
# How much of the variance of white noise can a low-pass take away at 30, at 60 and at 120 frames a second?
# Which of the three filters gets into the corner, and why does the robot not use it?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-05-predict
# :class: dropdown
# ````
# 50 ms are 1.5, 3 and 6 frames, and $1/(1 + 2\ell)$ of the variance is left: the faster camera gives more to average.
# (If its errors are independent, which page 4 doubts.)
# Only the Gaussian gets there.
# It has seen the future, which a robot has not.

# %%
for fps in (30, 60, 120):
    late = 0.05 * fps
    g = 1 / (1 + late)
    assert abs(lag_of(g) - late) < 1e-9
    print(f"{fps:3d} fps: {late:.1f} frames late, {100 * variance_left(g):2.0f} % of the variance left")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Lag and noise
# :label: ex-05-derive
# ````
# *Derive.* Show that the low-pass is $(1 - g)/g$ frames behind a truth that moves by one unit a frame.
# Show that it leaves $g / (2 - g)$ of the variance of white noise.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-05-derive
# :class: dropdown
# ````
# Let $\ell_t$ be how far the answer is behind *after* frame $t$.
# The truth moves on by one, so before the update the answer is $\ell_{t-1} + 1$ behind; the update takes a share $g$ of
# that away: $\ell_t = (1 - g)(\ell_{t-1} + 1)$.
# In the long run both are equal, and $\ell = (1 - g) / g$.
#
# Noise: $\hat x_t = (1 - g)\,\hat x_{t-1} + g\,\epsilon_t$, and $\epsilon_t$ is independent of the past.
# In the long run $V = (1 - g)^2 V + g^2 \sigma^2$, so $V = g^2\sigma^2 / (1 - (1 - g)^2) = \sigma^2 g / (2 - g)$.
# With $g = 1/(1 + \ell)$ that is $\sigma^2 / (1 + 2\ell)$.

# %%
behind, variance = 0.0, 0.0
for _ in range(200):
    behind, variance = (1 - gain) * (behind + 1), (1 - gain) ** 2 * variance + gain**2
print(f"gain {gain}: {behind:.2f} frames behind, {100 * variance:.1f} % of the variance")
assert abs(behind - lag_of(gain)) < 1e-9
assert abs(variance - variance_left(gain)) < 1e-9

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} One-Euro
# :label: ex-05-build
# ````
# *Build.* Write `one_euro(R, fps, f_min, beta)` for rotations `R` (t, 16, 3, 3); each joint has a gain of its own.
# The way to the new rotation is $d = \log(\hat R_{t-1}^\top R_t)$, its speed $d / \Delta$ in radians a second.
# Low-pass the speed with a cut-off of 1 Hz, starting from 0; this is $\hat v$.
# Take $f_c = f_{\min} + \beta\,\lVert\hat v\rVert$ and go the share $g(f_c)$ of the way.
# Check it with `torch.testing.assert_close(one_euro(before.R, 30, 1.0, 0.7), OneEuro(1.0, 0.7)(before).R, atol=1e-4,
# rtol=0)`.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-05-build
# :class: dropdown
# ````
# Six lines; the two low-passes are the line from the top of the page, one on speeds and one on rotations.


# %%
def gain_at(cutoff_hz, fps):
    return 1 / (1 + fps / (2 * torch.pi * cutoff_hz))


def one_euro(R, fps, f_min, beta):
    answer, v = [R[0]], torch.zeros(len(R[0]), 3)
    for now in R[1:]:
        d = rotation.log(answer[-1].mT @ now)
        v = v + gain_at(1.0, fps) * (d * fps - v)
        f_c = f_min + beta * v.norm(dim=-1, keepdim=True)
        answer.append(answer[-1] @ rotation.exp(gain_at(f_c, fps) * d))
    return torch.stack(answer)


for f_min, beta in ((1.0, 0.7), (0.3, 2.0)):
    library = OneEuro(f_min, beta)(before).R
    torch.testing.assert_close(one_euro(before.R, 30, f_min, beta), library, atol=1e-4, rtol=0)

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} When does a filter win?
# :label: ex-05-explore
# ````
# *Explore.* Give the truth an error of 6° a joint that remembers (page 4): $\rho$ = 0 is jitter, near 1 it is drift.
# How wide is the best Gaussian, and how much of the MJE does it take away?
# From which $\rho$ on is a filter not worth its trouble?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-05-explore
# :class: dropdown
# ````

# %%
from handdiff_lib.baselines import best_gaussian
from handdiff_lib.metrics import mje_mm
from handdiff_lib.perturb import remembered

push = torch.randn(len(truth), 16, 3, generator=generator)
push[:, 0] = 0  # fingers only
print("  rho   half forgotten after   best σ   MJE before, after (mm)")
for rho in (0.0, 0.5, 0.8, 0.95, 0.99):
    xi = torch.tensor(6.0 / 3**0.5).deg2rad() * remembered(push[None], torch.tensor([rho]))[0]
    wrong = replace(truth, R=truth.R @ rotation.exp(xi))
    width = best_gaussian([(wrong, truth)], (0, 0.5, 1, 1.5, 2, 3, 4, 6), hand)
    pair = (wrong, gaussian(wrong, width))
    mje = [mje_mm(motion.joints(hand), truth.joints(hand)).mean() for motion in pair]
    half = f"{torch.tensor(0.5).log() / torch.tensor(rho).log():.1f} frames" if rho else "at once"
    print(f"{rho:5.2f} {half:>18s} {width:10g} {mje[0]:12.1f} {mje[1]:9.1f}")

# %% [markdown]
# White noise is nearly halved, and with $\rho$ = 0.95 next to nothing is gained.
# A filter wins where errors are forgotten faster than the hand moves; beyond that the best filter is one that does
# next to nothing.
# Page 4 measured how real errors shake, and page 15 sets a trained network against the best Gaussian.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - A filter that only looks back pays for calm with lag: $\ell$ frames of lag divide the variance by $1 + 2\ell$.
# - A filter that also looks ahead has no lag, and flattens what is fast instead.
# - An error that lasts as long as a movement is a movement to every filter.
