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
# # Shift the residual
#
# An estimator looks at one frame and says where the hand is.
# It is roughly right.
# How do we walk from the truth to such an estimate, in small steps that a network can learn to undo?
#
# On this page
# - the error is added in N shares, with a little noise on top of each,
# - any step can be reached in one jump, which is what makes training cheap,
# - the schedule $\eta$ says where the cloud is, the noise level $\kappa$ how wide it may become.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
N = 12  # steps; the released demo has 4, more of them make a smoother film
kappa_deg = 15.0
seed = 0

# %% [markdown]
# ## A cloud that moves
#
# Take one knuckle and two of its angles: how far it bends, and how far it spreads.
# The truth is a bend of 60° and a spread of 0°.
# The estimate says 25° and 20°.
# Drag the slider: a thousand walkers leave the truth together and end as a cloud around the estimate.

# %%
from functools import partial
from math import radians

import torch

from handdiff_lib.diffusion import residual_shift

randn = partial(torch.randn, generator=torch.Generator().manual_seed(seed))
truth = torch.tensor([60.0, 0.0]).deg2rad()
estimate = torch.tensor([25.0, 20.0]).deg2rad()

shift = residual_shift(N, kappa=radians(kappa_deg), power=0.3)
x0, y = truth.expand(1000, 2), estimate.expand(1000, 2)
walk = [x0]
for step in range(1, N + 1):
    n = torch.full((1000,), step)
    walk.append(shift.forward_step(walk[-1], x0, y, n, randn(1000, 2)))

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go

from handdiff_lib.view import frames_slider, light, show


def in_degrees(points, **look):
    x, y = points.rad2deg().mT.numpy().round(1)
    return go.Scatter(x=x, y=y, **look)


def scene(n):
    return [
        in_degrees(walk[n], mode="markers", marker=dict(size=3, color="#0072B2", opacity=0.4), name="1000 walkers"),
        in_degrees(
            torch.stack([w[0] for w in walk[: n + 1]]), line=dict(color="#333333", width=1.5), name="one of them"
        ),
        in_degrees(truth[None], mode="markers", marker=dict(size=13, color="#009E73"), name="truth"),
        in_degrees(estimate[None], mode="markers", marker=dict(size=13, color="#D55E00"), name="estimate"),
    ]


fig = light(go.Figure(scene(N)), height=520)
fig.update_layout(xaxis=dict(range=[-35, 90], title="bend (°)"), yaxis=dict(range=[-35, 60], title="spread (°)"))
frames_slider(fig, [go.Frame(data=scene(n), name=str(n)) for n in range(N + 1)], "n =", 250)
fig.layout.sliders[0].active = N
show(fig)

# %% [markdown]
# Look at the middle of the cloud: it slides along a straight line from the truth to the estimate.
# Look at its width: it only grows.
# Ordinary diffusion ends in noise that knows nothing.
# This walk ends at the estimate, so the way back starts from something useful and can be short.
# The paper's released demo takes four steps.

# %% [markdown]
# ## One step
#
# Write $x_0$ for the truth, $y$ for the estimate and $e = y - x_0$ for the **residual**.
# Step $n$ adds a share $\alpha_n$ of the residual, and noise whose variance has the same share:
#
# $$ x_n = x_{n-1} + \alpha_n\, e + \kappa \sqrt{\alpha_n}\, \epsilon_n, \qquad \epsilon_n \sim \mathcal N(0, I). $$
#
# The shares are differences of a sequence that climbs from $\eta_0 = 0$ to $\eta_N \approx 1$:
# $\alpha_n = \eta_n - \eta_{n-1}$.
#
# ## All steps at once
#
# Put the steps one into the other, from $x_0$ on.
# The shares of the residual add up, and neighbours cancel:
#
# $$ \sum_{m=1}^{n} \alpha_m = (\eta_1 - \eta_0) + (\eta_2 - \eta_1) + \dots + (\eta_n - \eta_{n-1}) = \eta_n. $$
#
# The noises are independent, so their variances add: $\kappa^2 \sum_m \alpha_m = \kappa^2 \eta_n$.
# A sum of Gaussians is a Gaussian, and so
#
# $$ x_n = x_0 + \eta_n\, (y - x_0) + \kappa \sqrt{\eta_n}\, \epsilon . $$
#
# This is equation 1 of the paper.
# Training needs it: to show the network a motion after $n$ steps, one jump will do.


# %%
def shift_by_hand(x0, y, eta, kappa, noise):
    return x0 + eta * (y - x0) + kappa * eta**0.5 * noise


noise = randn(1000, 2)
for step in range(N + 1):
    n = torch.full((1000,), step)
    by_hand = shift_by_hand(x0, y, shift.eta[step].item(), shift.kappa, noise)
    torch.testing.assert_close(by_hand, shift.forward_marginal(x0, y, n, noise))

# %% [markdown]
# The line we derived is the line in the library.
# Do the walkers agree with it?
# The table gives the bend of the middle of the cloud and its width, from the walk above and from the formula.

# %%
print(" n   walked: mean, width    formula: mean, width")
for step in range(0, N + 1, 3):
    bend = walk[step][:, 0].rad2deg()
    mean = (truth + shift.eta[step] * (estimate - truth))[0].rad2deg()
    std = shift.noise_std[step].rad2deg()
    print(f"{step:2d} {bend.mean():14.0f}° {bend.std():5.0f}° {mean:16.0f}° {std:5.0f}°")

# %% [markdown]
# ## The schedule
#
# Which $\eta$?
# The paper takes it from image super-resolution, from ResShift {cite:p}`resshift`.
# There $\eta$ grows from a tiny first share, here $\eta_1 = 0.001$, to almost one, $\eta_N = 0.999$.
# For $p = 1$ it does so by the same *factor* at each step; a smaller power makes it grow earlier:
#
# $$ \eta_n = \eta_1^{\,1-w}\; \eta_N^{\,w}, \qquad w = \Big(\frac{n-1}{N-1}\Big)^{p}. $$
#
# ResShift uses $p = 0.3$.
# The released demo of the paper uses $p = 0.1$, four steps, and $\kappa$ = 15°.
# Here are both powers in four steps, and what they do to the same cloud, with $\kappa$ = 15° and with 5°.

# %%
official, gentle = residual_shift(power=0.1), residual_shift(power=0.3)
for name, chosen in {"p = 0.1": official, "p = 0.3": gentle}.items():
    eta = ", ".join(f"{value:.4f}" for value in chosen.eta)
    std = ", ".join(f"{value:.2f}" for value in chosen.noise_std.rad2deg())
    print(f"{name}   eta {eta}\n          noise {std} degrees")

# %% tags=["hide-input", "nbval-ignore-output"]
from plotly.subplots import make_subplots

from handdiff_lib.view import frames_slider, light, show

clouds = {
    f"κ = {width}°, p = {power}": residual_shift(power=power, kappa=radians(width))
    for width in (5, 15)
    for power in (0.1, 0.3)
}
same_noise = noise[:300]


def panels(step):
    n = torch.full((300,), step)
    for chosen in clouds.values():
        cloud = chosen.forward_marginal(x0[:300], y[:300], n, same_noise)
        yield in_degrees(cloud, mode="markers", marker=dict(size=3, color="#0072B2", opacity=0.5))
        yield in_degrees(
            torch.stack([truth, estimate]), mode="markers", marker=dict(size=9, color=["#009E73", "#D55E00"])
        )


fig = make_subplots(2, 2, subplot_titles=list(clouds), horizontal_spacing=0.06, vertical_spacing=0.12)
for k, trace in enumerate(panels(2)):
    fig.add_trace(trace, row=k // 4 + 1, col=k // 2 % 2 + 1)
fig.update_xaxes(range=[-25, 85]).update_yaxes(range=[-30, 50])
fig.update_xaxes(title="bend (°)", row=2).update_yaxes(title="spread (°)", col=1)
light(fig, height=660).update_layout(showlegend=False)
frames_slider(fig, [go.Frame(data=list(panels(n)), name=str(n)) for n in range(1, 5)], "n =", 600)
fig.layout.sliders[0].active = 1
show(fig)

# %% [markdown]
# Look at $n = 2$.
# With $p = 0.1$ half of the residual is in already, so on the way back the step from 2 to 1 has to undo half at once.
# With $p = 0.3$ the work is spread more evenly.
# Now drag to $n = 4$ and look at $\kappa$ = 5°: there the cloud around the estimate does not reach the truth at all.
# The noise must be wide enough to cover the error that is to be undone.

# %% [markdown]
# ## The same walk on a hand
#
# A pose is sixteen rotations, and rotations cannot be added.
# So we look at each one from the estimate: $r = \log(R_y^\top R_x)$, the turn that takes the estimate to $x$,
# as axis times angle.
# These are plain vectors, and in them the estimate is the origin, so the jump reads
#
# $$ r_n = (1 - \eta_n)\, r + \kappa\sqrt{\eta_n}\; \epsilon . $$
#
# Paper vs code: the paper's released demo adds noise to Euler angles, which jump from 180° to −180°;
# with turns seen from the estimate nothing jumps.

# %%
from handdiff_lib import rotation
from handdiff_lib.diffusion import decode, encode
from handdiff_lib.hand import load_hand

hand = load_hand()
bend = torch.zeros(16, 3)  # a loose grasp; +z closes the fingers
bend[1:13, 2] = torch.tensor([45.0, 55.0, 35.0]).repeat(4).deg2rad()
wrong = 14 * randn(16, 3).deg2rad()
R_x = rotation.exp(bend)
R_y = R_x @ rotation.exp(wrong)

r = encode(R_x, R_y)
torch.testing.assert_close(decode(r, R_y), R_x, atol=1e-5, rtol=0)
origin = torch.zeros_like(r)
torch.testing.assert_close(decode(origin, R_y), R_y)

# %% [markdown]
# Now the slider from above moves a whole hand.
# Left, only the residual is shifted ($\epsilon = 0$).
# Right, the noise is there too: this is what the network sees in training, next to the estimate.

# %%
steps = torch.arange(official.N + 1)
ends = r.expand(5, 16, 3), origin.expand(5, 16, 3)
shifted = official.forward_marginal(*ends, steps, torch.zeros(5, 16, 3))
noisy = official.forward_marginal(*ends, steps, randn(5, 16, 3))

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import hand_figure, show

aside = torch.tensor([0.0, -0.048, 0.064])  # to the left on the screen
pair = [hand.mean_shape().pose(decode(walked, R_y)).skin() for walked in (shifted, noisy)]
both = torch.cat([pair[0] + aside, pair[1] - aside], dim=1)
faces = torch.cat([hand.faces, hand.faces + len(hand.v_template)])
labels = ["0, the truth", *map(str, range(1, official.N)), f"{official.N}, around the estimate"]
show(hand_figure(both, faces, fps=2, labels=labels, label="n =", active=2))

# %% [markdown]
# Look at $n = 2$: the left hand is half-way to the estimate, the right one is off that by another 10° a joint and axis.
#
# How far is the right hand from the truth?
# We measure the mean distance of its 21 joints, wrists together, in millimetres, and average over 200 draws.

# %%
from handdiff_lib.metrics import mje_mm

true_joints = hand.mean_shape().pose(R_x).joints21().expand(200, 21, 3)
ends = r.expand(200, 16, 3), origin.expand(200, 16, 3)
print(" n   mm from the truth")
for step in range(official.N + 1):
    n = torch.full((200,), step)
    xn = official.forward_marginal(*ends, n, randn(200, 16, 3))
    joints = hand.mean_shape().pose(decode(xn, R_y)).joints21()
    print(f"{step:2d} {mje_mm(joints, true_joints).mean():8.0f}")
at_y = hand.mean_shape().pose(R_y).joints21()
print(f" y {mje_mm(at_y, true_joints[0]).mean():8.0f}")

# %% [markdown]
# The last line is the estimate itself: at $n = N$ the walk is farther from the truth than the estimate is.
# This is the price of noise, and the way back begins by taking it out again.
#
# One thing the slider does not show: the noise of each frame is drawn on its own.
# A motion at $n = N$ does not only sit in the wrong place, it also shakes.
# Learning to take out this shaking is how the network learns to take out the estimator's.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} Where is it widest?
# :label: ex-07-predict
# ````
# *Predict.* Halve $\kappa$.
# At which $n$ is the cloud widest now, and how far from the truth is its middle there?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-07-predict
# :class: dropdown
# ````
# The width is $\kappa\sqrt{\eta_n}$, and $\eta_n$ grows with $n$: widest at $n = N$ whatever $\kappa$ is.
# The middle, $x_0 + \eta_N e$, does not depend on $\kappa$: the whole residual away, all but a thousandth.

# %%
narrow = residual_shift(kappa=official.kappa / 2)
widest = narrow.noise_std.argmax()
print(f"widest at n = {widest}, with {narrow.noise_std[widest].rad2deg():.1f}°")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} From m to n
# :label: ex-07-derive
# ````
# *Derive.* You hold $x_m$ and want $x_n$ for some $n > m$, in one jump.
# What is its mean and its variance, given $x_m$, $x_0$ and $y$?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-07-derive
# :class: dropdown
# ````
# Add the steps $m+1, \dots, n$ only.
# The shares add up to $\eta_n - \eta_m$, so
# $x_n = x_m + (\eta_n - \eta_m)\, e + \kappa\sqrt{\eta_n - \eta_m}\,\epsilon$.
# With $m = 0$ this is the marginal, with $m = n - 1$ the single step.

# %%
m, n = 3, 9
jump = (shift.eta[n] - shift.eta[m]).item()
ended = walk[m] + jump * (y - x0) + shift.kappa * jump**0.5 * randn(1000, 2)
assert abs(ended.std(0) - walk[n].std(0)).max().rad2deg() < 1

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} The schedule
# :label: ex-07-build
# ````
# *Build.* Write `schedule(N, power, eta_1, eta_N)`, which returns $\eta_0, \dots, \eta_N$ as a list of N + 1 numbers.
# What should it do for N = 1, where the formula divides by zero?
# Check it with
# `torch.testing.assert_close(torch.tensor(schedule(4, 0.1, 0.001, 0.999)), residual_shift().eta.float())`.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-07-build
# :class: dropdown
# ````
# A single step must go all the way, so its only share is $\eta_N$.


# %%
def schedule(N, power, eta_1, eta_N):
    w = [((n - 1) / (N - 1)) ** power if N > 1 else 1.0 for n in range(1, N + 1)]
    return [0.0] + [eta_1 ** (1 - share) * eta_N**share for share in w]


for N_, power_ in [(1, 0.1), (4, 0.1), (4, 0.3), (15, 0.3)]:
    library = residual_shift(N_, power=power_).eta
    ours = torch.tensor(schedule(N_, power_, 0.001, 0.999), dtype=torch.float64)
    torch.testing.assert_close(ours, library)

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Choose κ from data
# :label: ex-07-explore
# ````
# *Explore.* $\kappa$ = 15° is the paper's choice for its estimators.
# `handdiff_lib.perturb` makes estimates like those of HaMeR and of K-Hand.
# How wide are their residuals, per axis of a joint?
# What would you choose for each, and for wrist and fingers apart?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-07-explore
# :class: dropdown
# ````
# The residual must lie inside the cloud, and the network must be able to tell the steps apart.
# So $\kappa$ should be at least as wide as the residuals.
# The table says how wide they are.

# %% tags=["nbval-ignore-output"]
from handdiff_lib.perturb import NoiseConfig, perturb
from handdiff_lib.synth import synthesize

clips = torch.stack([synthesize(hand, seed=k, frames=64).motion.R for k in range(8)])
generator = torch.Generator().manual_seed(seed)
for like in (NoiseConfig.hamer_like, NoiseConfig.khand_like):
    guess = perturb(clips, torch.zeros(8, 10), hand, like(), torch.ones(8), generator)
    squared = encode(clips, guess.R).rad2deg().square()
    wrist, fingers = squared[:, :, 0].mean().sqrt(), squared[:, :, 1:].mean().sqrt()
    print(f"{like.__name__:12s} wrist {wrist:5.1f}°   fingers {fingers:5.1f}°")

# %% [markdown]
# Residuals of this size are inside 15°.
# A smaller $\kappa$ keeps more of the estimate; a larger one forgets more and lets the prior speak.
# Which is better depends on how far to trust the estimator, and is worth a training run each.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - The error is added in N shares, with a little noise on top of each.
# - Any step can be reached in one jump, $x_n = x_0 + \eta_n (y - x_0) + \kappa\sqrt{\eta_n}\,\epsilon$,
#   which is what makes training cheap.
# - The schedule $\eta$ says where the cloud is, the noise level $\kappa$ how wide it may become.
#
# Next: the way back.
