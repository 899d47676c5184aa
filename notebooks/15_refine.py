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
# # Refine a sequence
#
# The network looks at thirty-two frames.
# Your recording has a thousand, with holes in it.
# How does it become one motion?
#
# On this page
# - the whole clip walks back as one, seen through overlapping windows, so that there are no seams,
# - short gaps are filled and long ones stay marked, and a motion that is good already should hardly change,
# - two commands do this for a file of your own.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
track = "right"
window = 32  # frames that the network sees at once
stride = 8  # frames from one window to the next
seed = 0

# %% [markdown]
# ## Before and after
#
# The clip that ships is made up by a program, and its noise is simulated: no camera has seen this hand.
# That is why the truth is known, and why the numbers on this page say little about your recordings.

# %%
from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.hand import DATA, load_hand
from handdiff_lib.presets import config_for
from handdiff_lib.refine import refine
from handdiff_lib.storage import load_motion

clip = load_motion(DATA / "clips" / "demo.npz")
before, truth = clip[track], clip[f"{track}.truth"]
hand = load_hand()
model, card = load_denoiser()
cfg = config_for(card, window=window, stride=stride, seed=seed)
after = refine(before, model, hand, cfg)
print(f"{len(after)} frames at {after.fps:g} a second; {int((~before.valid).sum())} of them had no estimate")

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import player, show

tracks = {"before": before, "after": after, "truth": truth}
show(player(tracks, hand, start=1.5, seconds=1.3, max_frames=40, trails=8))

# %% [markdown]
# The lines behind the finger tips are where they have been.
# Press Play and look at the left hand shake; where it is grey the estimator has said nothing.
# Then compare the middle with the right: what has *not* changed?

# %% tags=["nbval-ignore-output"]
from handdiff_lib.baselines import best_gaussian, gaussian
from handdiff_lib.metrics import score
from handdiff_lib.motion import fill_missing

sigma = best_gaussian([(before, truth)], (0.5, 1, 2, 3, 4, 6), hand)
rows = {"before": fill_missing(before), f"Gaussian, σ = {sigma:g}": gaussian(before, sigma), "after": after}
print("                   MJE (mm)   fingers (°)   ACCL (mm/frame²)")
for name, motion in rows.items():
    found = score(motion, truth, hand)
    print(f"{name:16s} {found['mje_mm']:8.1f} {found['finger_deg']:12.1f} {found['accl_mm']:15.2f}")

# %% [markdown]
# ACCL is the shaking.
# MJE, the mean distance of the joints, is mostly an error that stays: the simulated estimator has the wrist turned
# much the same wrong way for seconds.
# A steady error looks like a motion, and nothing in the estimate gives it away.
# The middle row is what one has to beat, column by column: a Gaussian filter on rotations.
# Its width was chosen with the truth in hand, which you do not have.

# %% [markdown]
# ## Where seams come from
#
# The network that ships can see 128 frames at once, nearly all of this clip; a recording has thousands.
# So that there is something to cut, it gets 32 on this page.
# The easy way with a long clip: cut it into pieces of that length, refine each, and put them together again.

# %%
import torch

from handdiff_lib.motion import concat

pieces = concat([refine(before[k : k + window], model, hand, cfg) for k in range(0, len(before), window)])
seams = torch.arange(window, len(before), window)


def speed_mm(motion):
    joints = motion.joints(hand)
    return 1000 * (joints - joints[:, :1]).diff(dim=0).norm(dim=-1).mean(-1)


# %% [markdown]
# The curves show how far the joints move from one frame to the next, seen from the wrist.
# Thin upright lines mark the places where two pieces meet.

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go

from handdiff_lib.view import light

look = {"pieces": "#D55E00", "one walk": "#0072B2", "truth": "#009E73"}
fig = light(go.Figure(), height=400)
for name, motion in {"pieces": pieces, "one walk": after, "truth": truth}.items():
    fig.add_scatter(y=speed_mm(motion).numpy().round(2), x0=1, name=name, line=dict(color=look[name], width=2))
for seam in seams.tolist():
    fig.add_vline(x=seam, line=dict(color="#999999", width=1))
fig.update_layout(xaxis_title="frame", yaxis_title="speed of the joints (mm/frame)", hovermode="x")
show(fig)

# %% tags=["nbval-ignore-output"]
at_seam = torch.zeros(len(before) - 1, dtype=torch.bool)
at_seam[seams - 1] = True  # from the last frame of a piece to the first of the next
print("mm/frame    where pieces meet   elsewhere")
for name, motion in {"pieces": pieces, "one walk": after, "truth": truth}.items():
    speed = speed_mm(motion)
    print(f"{name:11s} {speed[at_seam].mean():12.1f} {speed[~at_seam].mean():14.1f}")
assert speed_mm(pieces)[at_seam].mean() > speed_mm(after)[at_seam].mean()

# %% [markdown]
# Look at the orange spikes that stand on a line.
# A spike that orange and blue share has another cause: the estimate itself.
#
# Three things end at the edge of a piece.
# - What the network is told: the estimates on the other side, and their means over time.
# - Where the walk starts: each piece draws noise of its own.
# - What is decided: two pieces with the same doubt may settle it in different ways.
#
# The cure is to let the clip walk back as a whole, and to cut it only where the network cannot do without.
# It is told of all frames once.
# At each step it looks through windows that overlap, and *all* of them see the same $x_n$.
# Their answers are joined to one $\hat x_0$ before the next step begins, so no two windows can drift apart.

# %% [markdown]
# ## Many windows, one answer
#
# With a window every eight frames, most frames are seen four times.
# Who is right?
# A window knows most in its middle, so frame $k$ of its $W = 32$ (16 in the paper) speaks with the Hann weight
#
# $$ w_k = \sin^2\!\Big(\pi\,\frac{k + \frac12}{W}\Big), \qquad k = 0, \dots, W - 1. $$
#
# The blue curve is the share of one window in the answer; grey curves are the shares of the others.
# Drag to move the windows closer.

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.refine import window_starts
from handdiff_lib.view import frames_slider

hann = torch.sin(torch.pi * (torch.arange(window) + 0.5) / window).square()


def shares(every, frames=4 * window):
    starts = window_starts(frames, window, every)
    weight = torch.full((len(starts), frames), torch.nan)
    for row, start in zip(weight, starts, strict=True):
        row[start : start + window] = hann
    return weight / weight.nansum(0)


def scene(every):
    share = shares(every)
    chosen = len(share) // 2
    gap = torch.full((len(share) - 1, 1), torch.nan)  # lifts the pen between two windows
    others = torch.cat([share[torch.arange(len(share)) != chosen], gap], dim=1).flatten()
    frame = torch.arange(others.numel() // (len(share) - 1)).repeat(len(share) - 1)
    return [
        go.Scatter(x=frame.numpy(), y=others.numpy().round(3), name="the others", line=dict(color="#BBBBBB", width=1)),
        go.Scatter(y=share[chosen].numpy().round(3), name="one window", line=dict(color="#0072B2", width=4)),
    ]


strides = (32, 16, 8, 4, 2)
fig = light(go.Figure(scene(8)), height=430)
fig.update_layout(xaxis_title="frame", yaxis=dict(title="share in the answer", range=[-0.04, 1.08]))
frames_slider(fig, [go.Frame(data=scene(k), name=str(k)) for k in strides], "stride =", 800)
fig.layout.sliders[0].active = strides.index(8)
show(fig)

# %% [markdown]
# At stride 32 a frame has one voice, and the next frame may have another: a seam.
# From stride 16 on the windows fade into each other.
# The first and the last frames have fewer voices at any stride.

# %% [markdown]
# ## The mean of rotations
#
# Windows answer with rotations, and the sum of rotations is none.
# So we ask for the rotation with the least squared distance to all answers $R_k$, each with its weight:
#
# $$ \bar R = \arg\min_R \sum_k w_k \lVert R - R_k \rVert^2
#   = \arg\max_R \; \mathrm{tr}\big(R^\top M\big), \qquad M = \sum_k w_k R_k , $$
#
# since $\lVert R - R_k \rVert^2 = 6 - 2\,\mathrm{tr}(R^\top R_k)$.
# Only the sum $M$ matters.
# Write $M = U S V^\top$; then $\mathrm{tr}(R^\top M) = \mathrm{tr}(Q S)$ with $Q = V^\top R^\top U$.
# No entry of an orthogonal $Q$ is above 1, so the best is $Q = I$, which is $\bar R = U V^\top$.
# If that is a mirror image, the weakest axis turns around.
# This is the **chordal mean**.


# %%
from handdiff_lib import rotation


def nearest_by_hand(M):
    U, _, Vh = torch.linalg.svd(M)
    turn = torch.ones_like(M[..., 0])
    turn[..., 2] = torch.linalg.det(U @ Vh).sign()
    return U @ (turn[..., None] * Vh)


answers = rotation.exp(0.5 * torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)))
weight = torch.tensor([0.1, 0.7, 0.9, 0.3])
M = (weight[:, None, None] * answers).sum(0)
mean = rotation.mean_rotation(answers, weight)
torch.testing.assert_close(nearest_by_hand(M), mean, atol=1e-5, rtol=0)

# %% [markdown]
# Now the windows, one after the other; each adds what it says to the sum $M$ of every frame that it sees.
# What the network is told about the estimate, the library packs into `y`: the clip without holes, with one shape,
# seen from a slowly turning frame that follows the wrist.

# %%
from handdiff_lib.frames import estimate_frames
from handdiff_lib.refine import predict_clip

y, frame = estimate_frames(fill_missing(before).with_one_shape())


@torch.no_grad()
def predict_by_hand(features, n, starts):
    M = torch.zeros_like(y.R[0])
    for start in starts.tolist():
        index = torch.arange(start, start + window)
        pred = model.predict(features[None, index], n, y.windows(index[None]), hand)
        M[index] += hann[:, None, None, None] * pred.R[0]
    return nearest_by_hand(M)


# %% [markdown]
# We try it at the first step, from the estimate itself in the place of $x_N$.

# %%
with torch.no_grad():
    features = (model.encode_estimate(y, hand) + model.encode_noisy(y.R, y.betas, hand))[0]
    n = torch.tensor([cfg.N])
    library = predict_clip(model, features, n, y, hand, cfg).R[0]
by_hand = predict_by_hand(features, n, window_starts(len(before), window, stride))
torch.testing.assert_close(by_hand, library, atol=1e-4, rtol=0)

# %% [markdown]
# ## Algorithm 2
#
# The rest is the walk back of page 8, with the clip's prediction as its denoiser.
# This is how the paper infers {cite:p}`dip`; the lines of the code below have the same numbers.
#
# | | Algorithm 2, Model Inference | here |
# |---|---|---|
# | | **Require:** $\eta_{1:N}$: diffusion noise scheduling | `shift.eta` |
# | | $\kappa$: noise variance level | `shift.kappa` |
# | | $f_W(x^n_{1:T}, y_{1:T}, n)$: trained denoising model | `denoise` |
# | | $y_{1:T}$: initial motion estimates | `y` |
# | 1: | $x^N_{1:T} \sim \mathcal N(y_{1:T}, \kappa I)$ | `x = y + std * noise(...)` |
# | 2: | **for all** $n$ from $N$ to $1$ **do** | `for n in range(shift.N, 0, -1)` |
# | 3: | estimate the inverse transition distribution $p_W(x^{n-1}_{1:T} \mid x^n_{1:T}, y_{1:T})$ | `mean`, `std` |
# | | $\quad$via $\hat x_{1:T} = f_W(x^n_{1:T}, y_{1:T}, n)$ | `x_hat = denoise(x, y, n)` |
# | 4: | sample $x^{n-1}_{1:T}$ from $p_W(x^{n-1}_{1:T} \mid x^n_{1:T}, y_{1:T})$ | `x = mean + std * noise(...)` |
# | 5: | **end for** | |
# | 6: | $x_{1:T} = x^0_{1:T}$ | `return x` |
#
# Motions are seen from the estimate, so `origin`, the $y$ of the walk, is zero.
# Each frame is encoded once a step, however many windows look at it, so the time grows evenly with the number of
# frames.
#
# Paper vs code: line 1 prints the variance $\kappa$, the paper's text $\kappa^2$; we take what the chain itself gives,
# $\kappa^2\eta_N$.
# The paper walks back in windows of 16 frames and does not say how a longer clip is cut.

# %%
from handdiff_lib.diffusion import decode, encode, frame_noise, residual_shift, sample

features_y, shift = model.encode_estimate(y, hand).detach(), residual_shift(cfg.N)


def denoise(rn, _, n):
    features = features_y + model.encode_noisy(decode(rn, y.R), y.betas, hand)
    return encode(predict_clip(model, features[0], n, y, hand, cfg).R, y.R)


@torch.no_grad()
def algorithm_2(denoise, y, noise):
    eta, kappa = shift.eta.tolist(), shift.kappa
    x = y + kappa * eta[-1] ** 0.5 * noise(y.shape)  # 1
    for n in range(shift.N, 0, -1):  # 2
        x_hat = denoise(x, y, torch.tensor([n]))  # 3
        mean = eta[n - 1] / eta[n] * x + (eta[n] - eta[n - 1]) / eta[n] * x_hat
        std = kappa * (eta[n - 1] / eta[n] * (eta[n] - eta[n - 1])) ** 0.5  # 0 at n = 1
        x = mean + std * noise(y.shape)  # 4
    return x  # 6


origin = torch.zeros_like(y.R[..., 0])  # the estimate, seen from itself
by_hand = algorithm_2(denoise, origin, frame_noise(seed))
*_, library = sample(denoise, origin, shift, "posterior", frame_noise(seed))
torch.testing.assert_close(by_hand, library.x0, atol=1e-5, rtol=0)

# %% [markdown]
# `--preset paper` walks like this.
# By default line 4 draws nothing: each step keeps the noise that is already there, so that less chance is left in the
# answer (page 8).

# %%
walk = list(sample(denoise, origin, shift, cfg.rule, frame_noise(seed)))

# %% [markdown]
# The library's `walk_back` yields the same predictions.
# `refine` then goes to the last of them as far as a head of the network takes the estimate for noisy:
#
# $$ R_t = R^y_t \exp\big(g_t \log({R^y_t}^\top \hat R_t)\big), $$
#
# where $g_t$ is 1 for a track that shakes and 0 for clean motion, which stays as it is.

# %%
from handdiff_lib.frames import from_steady, to_steady
from handdiff_lib.refine import how_noisy, walk_back

predictions = list(walk_back(model, y, hand, cfg))
for step, pred in zip(walk, predictions, strict=True):
    torch.testing.assert_close(decode(step.x0, y.R), pred.R, atol=1e-4, rtol=0)
R_y, R_hat = (from_steady(R, frame)[0] for R in (y.R, decode(walk[-1].x0, y.R)))
g = how_noisy(predictions[0].noisy[0], before.valid)[:, None, None]
torch.testing.assert_close(R_y @ rotation.exp(g * rotation.log(R_y.mT @ R_hat)), after.R, atol=1e-4, rtol=0)
print(f"noisy: {g.mean():.2f} on average")

# %% [markdown]
# The whole method in one picture, which stands for figures 2 and 3 of the paper.
# The first row is what the camera saw, though no camera was there: four frames of the true motion.
# Below is what a frame-by-frame estimator makes of each of them, $y_{1:T}$.
# These are walked from; the third row is where the walk is, $x^n_{1:T}$, and the last what the network makes of both,
# $\hat x_{1:T} = f_W(x^n_{1:T}, y_{1:T}, n)$, from which the next $x^{n-1}_{1:T}$ comes.
# Drag from $n = N$ to the end.

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.scene import EYE, across
from handdiff_lib.view import hand_figure

true_R = to_steady(truth.R[None], frame)
moments = torch.tensor([44, 50, 56, 62])  # frames, from left to right
eye = torch.tensor(EYE)
right = across(eye)
down = torch.nn.functional.normalize(torch.linalg.cross(right, eye), dim=0)
paint = {"camera": (0.89, 0.71, 0.61), "y": (0.84, 0.37, 0.0), "xn": (0.7, 0.7, 0.7), "x0": (0.0, 0.45, 0.7)}
shaped = hand.shape(truth.betas)


def strip(R, row):
    """Hands of four moments from left to right, in a row of their own."""
    skin = shaped.pose(R[0, moments]).skin()
    return skin + 0.2 * torch.arange(4)[:, None, None] * right + 0.2 * row * down


views = []
for step in walk:
    rows = (true_R, y.R, decode(step.xn, y.R), decode(step.x0, y.R))
    views.append(torch.cat([strip(R, k) for k, R in enumerate(rows)]).flatten(0, 1))
count = len(hand.v_template)
faces = torch.cat([hand.faces + k * count for k in range(16)])
colours = torch.tensor(list(paint.values())).repeat_interleave(4 * count, 0)
labels = [str(step.n) for step in walk]
show(hand_figure(torch.stack(views), faces, fps=1, colors=colours, labels=labels, label="n ="))

# %% [markdown]
# Look along the second row: each frame is wrong in a way of its own, and its neighbours do not help it.
# Then look along the last row while $n$ falls.
# If it hardly changes although the row above it does, the network knows its answer from $y$ alone; the numbers below
# say how nearly.

# %% [markdown]
# In numbers, over all frames: the mean angle of $x_n$ and of the prediction to the truth, and how far the
# prediction has moved since the step before.

# %% tags=["nbval-ignore-output"]
from dataclasses import replace
from itertools import pairwise


def apart_deg(R, Q):
    return rotation.angle_between(R, Q).rad2deg().mean()


said = [decode(step.x0, y.R) for step in walk]
moved = [apart_deg(y.R, said[0]), *(apart_deg(R, Q) for R, Q in pairwise(said))]
other = refine(before, model, hand, replace(cfg, seed=seed + 1))

print(" n     x_n to truth   prediction to truth   moved")
for step, R, since in zip(walk, said, moved, strict=True):
    here = apart_deg(decode(step.xn, y.R), true_R)
    print(f"{step.n:2d} {here:12.2f}° {apart_deg(R, true_R):17.2f}° {since:13.2f}°")
print(f"another seed ends {apart_deg(after.R, other.R):.2f}° away")

error = rotation.angle_between(after.R, truth.R).rad2deg()
expected = after.sigma.rad2deg() * 3**0.5  # three axes
for name, part in {"wrist": slice(0, 1), "fingers": slice(1, 16)}.items():
    rms = [x[:, part].square().mean().sqrt() for x in (expected, error)]
    print(f"{name:7s} expects to err by {rms[0]:4.1f}°, errs by {rms[1]:4.1f}°")

# %% [markdown]
# The first row of the last column is the step away from the estimate.
# If the rows below it are small, the network knew from the start, and a shorter walk would do.
# If the column before it falls, the network gains from seeing its own better guesses in $x_n$.
# How far another seed ends is the network's doubt, as far as the walk tells it.
# If that is far below the error, the walk is too sure of itself, as every walk in few steps was on page 8.
# So the network also says how far off it expects to be: `sigma`, for each joint and frame, in the last two lines.

# %% [markdown]
# ## Missing frames
#
# We punch two holes into the estimate, one of ten frames and one of forty.
# To be sure that nothing there is read, we fill them with NaN.

# %%
holes = {"short": slice(60, 70), "long": slice(90, 130)}
R, seen = before.R.clone(), before.valid.clone()
for hole in holes.values():
    R[hole], seen[hole] = torch.nan, False
gappy = replace(before, R=R, valid=seen)
filled = refine(gappy, model, hand, cfg)

for name, hole in holes.items():
    print(f"{name:5s} {len(seen[hole])} frames missing, {int(filled.valid[hole].sum())} of them valid afterwards")
assert filled.R.isfinite().all()

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.scene import COLORS
from handdiff_lib.topology import JOINTS


def bend(motion, keep=None):
    angle = rotation.log(fill_missing(motion).R[:, JOINTS.index("middle2")])[:, 2].rad2deg()
    return angle.where(torch.ones_like(motion.valid) if keep is None else keep, torch.nan).numpy().round(1)


doubtful = ~filled.valid
doubtful[1:] |= ~filled.valid[:-1]  # join the dotted line to the drawn one
doubtful[:-1] |= ~filled.valid[1:]
fig = light(go.Figure(), height=420)
fig.add_scatter(y=bend(truth), name="truth", line=dict(color=COLORS["truth"], width=4))
fig.add_scatter(y=bend(gappy, seen), name="before", line=dict(color=COLORS["before"], width=1))
fig.add_scatter(y=bend(filled, filled.valid), name="after", line=dict(color=COLORS["after"], width=2))
fig.add_scatter(
    y=bend(filled, doubtful), name="after, not valid", line=dict(color=COLORS["after"], width=2, dash="dot")
)
for hole in holes.values():
    fig.add_vrect(x0=hole.start, x1=hole.stop - 1, fillcolor="#DDDDDD", opacity=0.5, line_width=0, layer="below")
fig.update_layout(xaxis_title="frame", yaxis_title="bend of the middle finger (°)")
show(fig)

# %% [markdown]
# Look at the grey bands.
# Both are bridged, at first by an even turn from the last estimate to the next, which is where the walk back begins.
# Up to thirty-two frames, the length of a window, the answer becomes valid.
# In a longer gap some windows see nothing but the bridge.
# Its frames hold a pose, so that players do not stumble, but they stay marked: `valid` is False there.
# So do the frames before the first and after the last estimate.

# %% tags=["nbval-ignore-output"]
from handdiff_lib.metrics import rotation_error_deg

rows = {"bridged evenly": fill_missing(gappy), "refined": filled, "refined, without holes": after}
print("fingers, inside the holes (°)  " + "   ".join(holes))
for name, motion in rows.items():
    error = rotation_error_deg(motion.R, truth.R)[:, 1:]
    short_long = "   ".join(f"{error[hole].mean():5.1f}" for hole in holes.values())
    print(f"{name:30s} {short_long}")

# %% [markdown]
# What happened in a hole is a guess.
# If the second row is no better than the first, the network has only passed the bridge on.

# %% [markdown]
# ## Do no harm
#
# What if the estimate is good?
# We give the refiner the truth, and see how much it changes; then its own answer, once more.
# Fast frames are the third of the frames in which the true hand moves fastest.

# %% tags=["nbval-ignore-output"]
speed = torch.cat([speed_mm(truth)[:1], speed_mm(truth)])
is_fast = speed > speed.quantile(2 / 3)
change = {}
for name, motion in {"the estimate": before, "the truth": truth, "its own answer": after}.items():
    answer = refine(motion, model, hand, cfg)
    change[name] = rotation_error_deg(answer.R, fill_missing(motion).R).mean(-1)

print("changed by (°)   all frames   fast   the rest")
for name, deg in change.items():
    print(f"{name:15s} {deg.mean():8.2f} {deg[is_fast].mean():10.2f} {deg[~is_fast].mean():8.2f}")

# %% [markdown]
# The row of the truth should be close to zero.
# A refiner that smooths whatever it is given changes fast frames most.
# The place of the wrist it leaves alone: `transl` goes through as it came, and is bridged in gaps.

# %%
assert torch.equal(after.transl[before.valid], before.transl[before.valid])

# %% [markdown]
# ## Your own file
#
# Two commands, for a file of any length:
#
# ```
# handdiff refine hamer.npz -o refined.npz --fps 25
# handdiff view refined.npz -o refined.html
# ```
#
# The first reads what your estimator wrote, by its content:
#
# | you have | file | what is in it | say also |
# |---|---|---|---|
# | HaMeR, WiLoR, over time | `.npz` `.pkl` | `global_orient`, `hand_pose`, `betas`, `right` | `--fps` |
# | HaMeR, WiLoR-mini, by image | `.pkl` | list of what they return; None: no hand found | `--fps` |
# | Dyn-HaMR | `.npz` | `trans`, `root_orient`, `pose_body`, `betas`, `is_right` | |
# | MediaPipe, any 21 keypoints | `.npz` `.npy` `.pkl` | (T, 21, 3) in metres; NaN: missing | `--fps` `--side` |
# | handdiff | `.npz` | tracks, as on this page | |
#
# Of MediaPipe's answers only the *world* landmarks are in metres.
# Without `--fps` a file that does not state its frame rate is taken to have 30 frames a second.
# The network has learned from 20 to 60; bring a faster recording down first, with `motion.resample`.
# In Python the first step is `read_tracks`.
# Here we write the demo's estimate under HaMeR's names, and read it back.

# %%
import tempfile
from pathlib import Path

import numpy as np

from handdiff_lib.readers import read_tracks

room = tempfile.TemporaryDirectory()  # goes with the kernel
folder = Path(room.name)
as_hamer = {
    "global_orient": before.R[:, :1].numpy(),
    "hand_pose": before.R[:, 1:].numpy(),
    "betas": np.zeros((len(before), 10)),
    "right": np.full(len(before), before.side == "right", dtype=float),
    "valid": before.valid.numpy(),
}
np.savez(folder / "hamer.npz", **as_hamer)
for name, motion in read_tracks(folder / "hamer.npz", fps=30).items():
    print(f"{name}: {len(motion)} frames, {int(motion.valid.sum())} valid, hand {motion.hand}")
    torch.testing.assert_close(motion.R[motion.valid], before.R[before.valid])

# %% [markdown]
# And the commands themselves, run from inside this page.


# %% tags=["nbval-ignore-output"]
def handdiff(*words):
    command = [sys.executable, "-c", "from handdiff_lib.cli import main; main()", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout.strip())


handdiff("refine", "hamer.npz", "-o", "refined.npz", "--fps", "30")
handdiff("view", "refined.npz", "-o", "refined.html")

# %% [markdown]
# What the file holds: each track under its name, and the estimate it came from beside it.
# Reading needs no pickle; the notation page lists all fields.

# %%
for name, motion in load_motion(folder / "refined.npz").items():
    print(f"{name:13s} {len(motion)} frames, {int(motion.valid.sum())} valid, {motion.fps:g} fps, hand {motion.hand}")
refined = load_motion(folder / "refined.npz")[track]
for field in ("R", "betas", "transl", "valid", "sigma", "state_prob", "refined"):
    print(f"   {field:12s} {tuple(getattr(refined, field).shape)}")

# %% [markdown]
# `sigma` is the expected error of each rotation, in radians about each axis.
# `state_prob` has four numbers a frame, for reach, stable grasp, manipulate and release.
# The network sees no object, so take them as a hint.
# `refined` says which frames were changed.
# A track of MANO keeps its own shape, the median over its frames.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} The seam
# :label: ex-15-predict
# ````
# *Predict.* `config_for(card, stride=32)` takes the overlap away and leaves all else: one walk, one noise, and `y`
# computed from the whole clip.
# Will the seams be as high as those of the pieces?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-15-predict
# :class: dropdown
# ````
# Of the three things that ended at the edge of a piece, only the last still does.
# The difference between the first two rows is what the network is told, and where it starts.
# If the strides differ little, windows agree even where they end, since all are told of the whole clip.

# %% tags=["nbval-ignore-output"]
rows = {"pieces": pieces}
rows |= {f"stride {k}": refine(before, model, hand, replace(cfg, stride=k)) for k in (32, 16, 8)}

print("mm/frame      where windows meet   elsewhere")
for name, motion in rows.items():
    speed = speed_mm(motion)
    print(f"{name:11s} {speed[at_seam].mean():14.1f} {speed[~at_seam].mean():14.1f}")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Shares that sum to one
# :label: ex-15-derive
# ````
# *Derive.* At stride 8, inside the clip, show that the four Hann weights of a frame sum to 2, whatever the frame.
# What follows for the share of each window?
# At which other strides is the sum constant?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-15-derive
# :class: dropdown
# ````
# Eight frames further on the angle has grown by $8\pi/32$, so the four angles are $\theta + m\pi/4$, $m = 0, 1, 2, 3$.
# Two that are $\pi/2$ apart sum to one: $\sin^2\theta + \sin^2(\theta + \pi/2) = \sin^2\theta + \cos^2\theta = 1$.
# There are two such pairs, so the sum is 2, and the share of a window is half its weight: one smooth bump.
#
# In general $\sin^2\theta = \frac12 - \frac12\cos 2\theta$, and the cosines of angles spread evenly over a whole turn
# cancel: the sum is constant at each stride that divides 32 and leaves two windows or more, 16, 8, 4, 2 and 1.
# At stride 32 there is one window, nothing cancels, and its share is 1.

# %%
for every in (32, 16, 8, 4, 2, 1):
    total = sum(hann.roll(every * m) for m in range(window // every))
    print(f"stride {every:2d}   sum from {total.min():.3f} to {total.max():.3f}")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Online
# :label: ex-15-build
# ````
# *Build.* A robot cannot wait for the end of the clip.
# Write `online(motion, lookahead)`, which answers frame t from frames up to `t + lookahead` only: refine the slice
# that ends there and keep frame t of the answer.
# A frame too late must not matter, and who may look at everything gives what `refine` gives:
#
# ```python
# later = replace(short, R=torch.cat([short.R[:20], short.R[20:].flip(0)]))
# assert torch.equal(online(short, 4).R[:16], online(later, 4).R[:16])
# assert torch.equal(online(short, 24).R, refine(short, model, hand, cfg).R)
# ```
#
# with `short = before[60:84]`.
# How much does it shake at a lookahead of 0, and what does a frame more cost?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-15-build
# :class: dropdown
# ````


# %%
def online(motion, lookahead):
    answers = []
    for t in range(len(motion)):
        known = refine(motion[: t + lookahead + 1], model, hand, cfg)
        answers.append(known[t : t + 1])
    return concat(answers)


short = before[60:84]
later = replace(short, R=torch.cat([short.R[:20], short.R[20:].flip(0)]))
assert torch.equal(online(short, 4).R[:16], online(later, 4).R[:16])
assert torch.equal(online(short, 24).R, refine(short, model, hand, cfg).R)

# %% tags=["nbval-ignore-output"]
span = slice(56, 80)
found = {k: score(online(before[span], k), truth[span], hand) for k in (0, 4, 24)}

print("lookahead   delay (ms)   MJE (mm)   ACCL (mm/frame²)")
for lookahead, row in found.items():
    delay = 1000 * lookahead / before.fps
    print(f"{lookahead:6d} {delay:13.0f} {row['mje_mm']:11.1f} {row['accl_mm']:13.2f}")

# %% [markdown]
# Each frame comes from a walk of its own, with a shape of its own, and at the very edge of a window.
# A few frames of lookahead bring it further in.
# This is slow, since the slice grows; frames more than about a hundred back hardly have a say, so one may drop them.
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} How strong?
# :label: ex-15-explore
# ````
# *Explore.* Put a knob between the estimate (0) and the answer (1): `rotation.slerp(estimate.R, after.R, share)`,
# joint by joint.
# Which setting is best on this clip, by MJE and by ACCL?
# Turn it past 1 as well.
# Is it the same for the other hand?
# How would you choose it where there is no truth?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-15-explore
# :class: dropdown
# ````


# %% tags=["nbval-ignore-output"]
def mixed(estimate, answer, strength):
    share = torch.full(estimate.R.shape[:2], strength)
    return replace(answer, R=rotation.slerp(estimate.R, answer.R, share))


truths = [clip[f"{side}.truth"] for side in ("right", "left")]
pairs = [(fill_missing(clip[side]), refine(clip[side], model, hand, cfg)) for side in ("right", "left")]
table = {}
for knob in (0.0, 0.25, 0.5, 0.75, 1.0, 1.25):
    table[knob] = [score(mixed(*pair, knob), true, hand) for pair, true in zip(pairs, truths, strict=True)]

print("           right              left")
print("knob    MJE    ACCL       MJE    ACCL")
for knob, scores in table.items():
    print(f"{knob:4.2f}" + "".join(f" {s['mje_mm']:7.2f} {s['accl_mm']:7.2f}  " for s in scores))

# %% [markdown]
# A network trained to the least squared error has its best knob near 1 on motion like that of its training, and
# elsewhere it need not.
# A best knob below 1 says that it trusts the estimate too little, above 1 too much.
# Without a truth one can still ask whether the answer shakes more or less than people do, or hold back what the
# estimator was most sure of and see whether the answer agrees with it.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - One walk back for the whole clip; windows only look, and a chordal mean with Hann weights joins what they say.
# - Gaps of up to one window are filled and valid, longer ones stay marked; feed in a good motion to see what harm is
#   done.
# - `handdiff refine`, then `handdiff view`; the estimate stays in the file beside the answer.
