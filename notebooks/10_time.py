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
# # Attention over frames
#
# One frame is blurred, and the frames around it are not.
# To say where the hand was, a network has to know which other frames to ask.
# How does it ask, and whom?
#
# On this page
# - each frame is a token; it asks all others a question at once and takes the weighted mean of what they say,
# - the weights come from the tokens themselves: a question times a key, through a softmax,
# - where a frame looks is not what it believes: to learn that, take frames away and see what changes.

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
first = 68  # frame of the clip where the window begins
hidden = 10  # frames to hide in its middle

# %% [markdown]
# ## Whom does a frame ask?
#
# The network that ships sees up to 128 frames at once, which is more than a page can show.
# Here it gets a window of 32.
# Above, the bend of the middle finger's middle joint in such a window.
# Below, how much one frame asks each of the others, layer by layer.
# Drag the slider to change the frame that asks.

# %%
import torch

from handdiff_lib import rotation
from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.decoder import sinusoids
from handdiff_lib.frames import estimate_frames
from handdiff_lib.hand import DATA, load_hand
from handdiff_lib.motion import fill_missing
from handdiff_lib.storage import load_motion

hand = load_hand()
model, card = load_denoiser()
d, heads = model.cfg.d, model.cfg.heads
clip = load_motion(DATA / "clips" / "demo.npz")
before, truth = clip[track], clip[f"{track}.truth"]
part = slice(first, first + window)
n = torch.tensor([card["N"]])  # the first step of the walk


# %%
@torch.no_grad()
def tokens(motion):
    """Frames of the window, their features, and their tokens behind the step's."""
    y = estimate_frames(fill_missing(motion).with_one_shape())[0][:, part]
    features = model.encode_estimate(y, hand) + model.encode_noisy(y.R, y.betas, hand)
    step = model.step(sinusoids(n, d))[:, None]
    return y, features, torch.cat([step, features + sinusoids(torch.arange(window), d)], dim=1)


@torch.no_grad()
def attention_maps(x):
    """Who asks whom, for every layer and head: (layers, heads, 33, 33); a row sums to one."""
    maps = []
    for layer in model.transformer.layers:
        h = layer.norm1(x)
        maps.append(layer.self_attn(h, h, h, average_attn_weights=False)[1][0])
        x = layer(x)
    return torch.stack(maps)


y, features, x = tokens(before)
maps = attention_maps(x)

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from handdiff_lib.scene import COLORS
from handdiff_lib.topology import JOINTS
from handdiff_lib.view import frames_slider, light, show

finger = JOINTS.index("middle2")
bend = {name: rotation.log(m.R[part, finger])[:, 2].rad2deg().numpy().round(1) for name, m in clip.items()}
frame, blues = torch.arange(window).numpy(), ["#9ECAE1", "#6BAED6", "#3182BD", "#08306B"]


def asked(t):
    weight = maps[:, :, 1 + t, 1:].mean(1).numpy().round(4)  # (layers, frames), mean over heads
    size = (3 + 160 * weight.mean(0)).round(1)
    yield go.Scatter(x=frame, y=bend[track], marker=dict(size=size))
    yield go.Scatter(x=[t], y=[bend[track][t]])
    for row in weight:
        yield go.Scatter(x=frame, y=row)


fig = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.5, 0.5], vertical_spacing=0.06)
fig.add_scatter(y=bend[f"{track}.truth"], name="truth", line=dict(color=COLORS["truth"], width=3), row=1, col=1)
looks = [dict(name="estimate", mode="markers", marker=dict(color=COLORS["before"]))]
looks += [dict(name="asks", mode="markers", marker=dict(color="#222222", size=16, symbol="x-thin", line_width=3))]
looks += [dict(name=f"layer {k + 1}", line=dict(color=color)) for k, color in enumerate(blues)]
for k, (trace, look) in enumerate(zip(asked(15), looks, strict=True)):
    fig.add_trace(trace.update(look), row=1 if k < 2 else 2, col=1)
light(fig, height=560).update_yaxes(title="bend (°)", row=1).update_yaxes(title="weight", range=[0, 0.2], row=2)
fig.update_xaxes(title="frame", row=2)
films = [go.Frame(data=list(asked(t)), traces=list(range(1, 7)), name=str(t)) for t in range(window)]
show(frames_slider(fig, films, "asking: frame", 200, active=15))

# %% [markdown]
# The large dots are the frames that are asked most.
# Look at the first layer, then at the others: do they ask near the frame, or all over the window?
# A Gaussian filter asks its neighbours, always with the same weights.
# Here each frame has weights of its own, and they move as it moves.
#
# ## Question, key, value
#
# Stack the tokens as rows of $X$: one for the step $n$, one for each frame.
# Three matrices make three vectors out of each token:
# a *question* (row of $Q$), a *key* that says what the token is about ($K$), and a *value*, what it has to tell ($V$).
# A question that fits a key has a large product with it, and a softmax turns products into
# shares {cite:p}`vaswani2017`:
#
# $$ A = \mathrm{softmax}\!\Big( \frac{Q K^\top}{\sqrt{d_h}} \Big), \qquad \text{answer} = A V . $$
#
# Row $t$ of $A$ is what the figure shows.
# Eight *heads* do this side by side, each with $d_h = d / 8$ of the $d$ numbers, and a last matrix joins them.
# We read the matrices from the weights that ship, and do it by hand.


# %%
def attention_by_hand(layer, x):
    X, attn = layer.norm1(x)[0], layer.self_attn
    three = X @ attn.in_proj_weight.mT + attn.in_proj_bias
    Q, K, V = three.unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3)  # each (heads, 33, d_h)
    A = (Q @ K.mT / Q.shape[-1] ** 0.5).softmax(-1)  # (heads, 33, 33)
    gathered = (A @ V).transpose(0, 1).flatten(1)  # (33, d)
    return A, gathered @ attn.out_proj.weight.mT + attn.out_proj.bias


by_hand = x
with torch.no_grad():
    for k, layer in enumerate(model.transformer.layers):
        A, answer = attention_by_hand(layer, by_hand)
        torch.testing.assert_close(A, maps[k], atol=1e-5, rtol=1e-4)
        by_hand = by_hand + answer
        alone = layer.linear1(layer.norm2(by_hand))
        by_hand = by_hand + layer.linear2(torch.nn.functional.gelu(alone))
        torch.testing.assert_close(by_hand, layer(x), atol=1e-4, rtol=1e-4)
        x = layer(x)
    memory = model.transformer.norm(by_hand)
    library = model.predict(features, n, y, hand)
torch.testing.assert_close(model.state_head(memory[:, 1:]), library.state, atol=1e-3, rtol=1e-3)
print(f"{len(model.transformer.layers)} layers of {heads} heads, {d // heads} numbers each")

# %% [markdown]
# Each layer adds what was gathered to the token, and then lets every token think by itself: a small network
# (`linear1`, `linear2`) that sees one token at a time.
# So attention is the only place where frames meet.
#
# Why $\sqrt{d_h}$?
# A product of two vectors of $d_h$ random numbers has a standard deviation of $\sqrt{d_h}$.
# Undivided, it would make the softmax choose one token and forget the rest.
#
# ## All heads
#
# Rows ask, columns are asked; the first row and the first column are the step's token.
# Drag through the layers and heads.

# %% tags=["hide-input", "nbval-ignore-output"]
squares = [
    go.Frame(data=[go.Heatmap(z=(255 * A.sqrt()).round().to(torch.uint8).numpy())], name=f"{k + 1}, head {h + 1}")
    for k, layer_maps in enumerate(maps)
    for h, A in enumerate(layer_maps)
]
shown = 2 * heads + 4
look = dict(colorscale="Blues", zmin=0, zmax=160, showscale=False, hoverinfo="skip")
fig = light(go.Figure(go.Heatmap(z=squares[shown].data[0].z, **look)), height=560)
ticks = dict(tickvals=[0, *range(9, window + 1, 8)], ticktext=["step", *map(str, range(8, window, 8))], tickangle=0)
fig.update_xaxes(title="asked", **ticks).update_yaxes(title="asks", autorange="reversed", **ticks)
show(frames_slider(fig, squares, "layer", 400, active=shown))

# %% [markdown]
# A blue diagonal is a head that asks the neighbours, an upright bar one that asks the same frame whoever is asking,
# a blue first column one that only asks for the step.
# (Colour is the root of the weight, so that small weights show.)
# No one has told the heads to share the work in this way.

# %% tags=["nbval-ignore-output"]
apart = (torch.arange(window)[:, None] - torch.arange(window)).abs()
print("layer   mean distance of the frames asked, head by head")
for k, layer_maps in enumerate(maps):
    A = layer_maps[:, 1:, 1:]
    far = (apart * A).sum((1, 2)) / A.sum((1, 2))
    print(f"{k + 1:5d}   " + " ".join(f"{value:5.1f}" for value in far.sort().values))

# %% [markdown]
# A head that asks everyone alike has a mean distance of about 11 frames.
#
# ## Hide a stretch
#
# Now the estimator fails for some frames in the middle of the window.
# They are bridged by an even turn and marked as missing, and the network looks again.
# The slider sets how many; the grey band is what it does not see.

# %%
from dataclasses import replace


def hide(motion, count):
    start = first + (window - count) // 2
    seen = motion.valid.clone()
    seen[start : start + count] = False
    return replace(motion, valid=seen)


@torch.no_grad()
def answer(motion):
    y, features, x = tokens(motion)
    return y, model.predict(features, n, y, hand), attention_maps(x)


counts = range(0, 17, 2)
looks_again = {count: answer(hide(before, count)) for count in counts}

# %% tags=["hide-input", "nbval-ignore-output"]


def degrees(R):
    return rotation.log(R[0, :, finger])[:, 2].rad2deg().numpy().round(1)


def hiding(count):
    y, pred, A = looks_again[count]
    got = A.mean((0, 1))[1:, 1:].mean(0).numpy().round(4)
    start = (window - count) // 2
    band = [start - 0.5, start - 0.5, start + count - 0.5, start + count - 0.5]
    yield go.Scatter(x=band, y=[-200, 400, 400, -200])
    yield go.Scatter(x=frame, y=degrees(y.R))
    yield go.Scatter(x=frame, y=degrees(pred.R))
    yield go.Scatter(x=frame, y=got)


fig = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.06)
looks = [dict(name="hidden", mode="lines", fill="toself", fillcolor="#E4E4E4", line_width=0, hoverinfo="skip")]
looks += [dict(name="before", line=dict(color=COLORS["before"], width=1.5))]
looks += [dict(name="after", line=dict(color=COLORS["after"], width=3))]
looks += [dict(name="asked", line=dict(color="#222222"))]
for k, (trace, look) in enumerate(zip(hiding(hidden), looks, strict=True)):
    fig.add_trace(trace.update(look), row=1 + k // 3, col=1)
fig.add_scatter(y=bend[f"{track}.truth"], name="truth", line=dict(color=COLORS["truth"], width=3), row=1, col=1)
low, high = min(bend[track]), max(bend[track])
light(fig, height=560).update_yaxes(title="bend (°)", range=[low - 5, high + 5], row=1)
fig.update_yaxes(title="weight", range=[0, 0.15], row=2).update_xaxes(title="frame", row=2)
films = [go.Frame(data=list(hiding(count)), traces=[0, 1, 2, 3], name=str(count)) for count in counts]
show(frames_slider(fig, films, "hidden frames:", 500, active=list(counts).index(hidden)))

# %% [markdown]
# Look to the right of the band: there the estimate is wrong for some frames, and the answer does not follow it.
# Look at the band: does the blue line follow the straight bridge, or does it know better?
# Below: how much each frame is asked, the mean over all heads, layers and frames; asked evenly it would be 1/33.
# Here is how far the bridge and the answer are off inside the gap, over all finger joints:

# %% tags=["nbval-ignore-output"]
gap = slice((window - hidden) // 2, (window + hidden) // 2)
bridge, pred, _ = looks_again[hidden]
for name, R in {"the bridge": bridge.R, "the answer": pred.R}.items():
    off = rotation.angle_between(R[0, gap, 1:], truth.R[part][gap, 1:]).rad2deg().mean()
    print(f"{name} is off by {off:.1f}°")

# %% [markdown]
# What no frame has seen no network knows; at best it says what hands usually do between two such ends.
#
# The same window on the hand.
# Grey is what the network was not told; the answer to it is in the middle.

# %%
from handdiff_lib.frames import from_steady

gappy = hide(before, hidden)
steady = estimate_frames(fill_missing(gappy).with_one_shape())[1][:, part]
answered = replace(gappy[part], R=from_steady(looks_again[hidden][1].R, steady)[0])

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import player

trio = {"before": fill_missing(gappy)[part], "after": replace(answered, valid=truth.valid[part]), "truth": truth[part]}
show(player(trio, hand, trails=6))

# %% [markdown]
# ## Looking is not believing
#
# A large weight says that a frame is *asked*, not that its answer counts.
# A hidden frame may be asked a lot and say "I know nothing", or pass on what it has gathered from others a layer
# before.
# To learn what a frame is worth, forbid all others to ask it, and see how far the answer moves.
# PyTorch lets us put a mask on the keys from outside.


# %%
@torch.no_grad()
def without(keys, y, features):
    """The answer when no token may ask the frames that are True in `keys`."""
    forbidden = torch.cat([torch.tensor([False]), keys])[None]

    def mask_keys(_, args, kwargs):
        return args, kwargs | dict(src_key_padding_mask=forbidden)

    hook = model.transformer.register_forward_pre_hook(mask_keys, with_kwargs=True)
    try:
        return model.predict(features, n, y, hand)
    finally:
        hook.remove()


y, features, _ = tokens(before)
free = without(torch.zeros(window, dtype=torch.bool), y, features)
torch.testing.assert_close(free.R, library.R, atol=1e-4, rtol=0)

# %% tags=["nbval-ignore-output"]
middle = window // 2
print(f"forbid one frame: the answer at frame {middle} moves by (°)")
for ago in (0, 1, 2, 4, 8, 12):
    one = torch.zeros(window, dtype=torch.bool)
    one[middle - ago] = True
    moved = rotation.angle_between(without(one, y, features).R, free.R)[0, middle].rad2deg().mean()
    print(f"{ago:3d} frames ago {moved:6.2f}")

# %% [markdown]
# The first row forbids the frame's neighbours to ask it, and itself too; its own token stays, since each layer adds
# to it.
# Angles are means over the sixteen joints.
# If all rows are small, no frame is needed on its own: the others know the same.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} Who is asked?
# :label: ex-10-predict
# ````
# *Predict.* Ten frames are hidden.
# Are they asked less than before?
# And what moves the answer *inside* the gap more: to forbid the hidden frames, or to forbid the ten frames on either
# side of it?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-10-predict
# :class: dropdown
# ````
# Add up what the hidden frames get, with and without the gap; then forbid one set of frames and the other.

# %% tags=["nbval-ignore-output"]
inside = torch.zeros(window, dtype=torch.bool)
start = (window - hidden) // 2
inside[start : start + hidden] = True
beside = torch.zeros(window, dtype=torch.bool)
beside[max(0, start - hidden) : start + 2 * hidden] = True
beside &= ~inside

for name, count in {"seen": 0, "hidden": hidden}.items():
    got = looks_again[count][2][:, :, 1:, 1:][..., inside].sum(-1).mean()
    print(f"{name:6s} they get {100 * got:.0f} % of all weight; evenly it would be {100 * hidden / 33:.0f} %")

y_gap, features_gap, _ = tokens(gappy)
whole = without(inside & False, y_gap, features_gap)
for name, keys in {"hidden frames": inside, "frames beside": beside}.items():
    moved = rotation.angle_between(without(keys, y_gap, features_gap).R, whole.R)[0, inside].rad2deg().mean()
    print(f"forbid the {name}: the answer inside moves by {moved:.2f}°")

# %% [markdown]
# The first two lines say whether the network has learned to look away.
# It need not look away completely: a hidden frame still carries means over time that reach far beyond the gap, and
# from the second layer on it passes on what it has gathered itself.
# The last two lines say what counts: what the answer in a gap rests on is the frames on its two sides.
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} What does a longer window cost?
# :label: ex-10-derive
# ````
# *Derive.* For $t$ tokens of $d$ numbers, how many multiplications does one attention take?
# Count the four matrices, $Q K^\top$, and $A V$.
# From which $t$ on do the last two cost more than the matrices?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-10-derive
# :class: dropdown
# ````
# A matrix of $d \times d$ on $t$ tokens takes $t d^2$, and there are four.
# $Q K^\top$ takes $t^2 d_h$ in each of $d / d_h$ heads, so $t^2 d$ together, and $A V$ as much:
#
# $$ 4\, t\, d^2 + 2\, t^2 d . $$
#
# They are equal at $t = 2d$, 512 frames for $d = 256$.
# Below that, time is spent on matrices, and a window twice as long costs about twice as much.
# What stops one from looking at a whole clip is learning, not arithmetic: time codes that were never seen in training.

# %%
from torch.utils.flop_counter import FlopCounterMode

for t in (33, 2 * d):
    some = torch.randn(1, t, d)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        attention_by_hand(model.transformer.layers[0], some)
    multiplications = counter.get_total_flops() // 2
    assert multiplications == 4 * t * d**2 + 2 * t**2 * d
    print(
        f"{t:3d} tokens: {multiplications / 1e6:5.1f} million, {200 * t**2 * d / multiplications:.0f} % of them for A"
    )

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} The step's token
# :label: ex-10-build
# ````
# *Build.* The network is told the step $n$ by a token of its own.
# First $n$ becomes $d$ numbers: $\sin(n f_i)$ and $\cos(n f_i)$ in turn, with $f_i = 10000^{-2i/d}$ for
# $i = 0, \dots, d/2 - 1$.
# Then a linear layer, a GELU and another linear layer follow, `model.step[0]` and `model.step[2]`.
# Write `step_token(n)` for an integer `n`, and check it for $n = 1, \dots, 4$ with
# `torch.testing.assert_close(step_token(n), model.step(sinusoids(torch.tensor([n]), d))[0], atol=1e-4, rtol=1e-4)`.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-10-build
# :class: dropdown
# ````


# %%
def code(position):
    f = 10_000.0 ** (-2 * torch.arange(d // 2) / d)
    return torch.stack([(position * f).sin(), (position * f).cos()], dim=1).flatten()


def step_token(n):
    hidden_layer = torch.nn.functional.gelu(code(n) @ model.step[0].weight.mT + model.step[0].bias)
    return hidden_layer @ model.step[2].weight.mT + model.step[2].bias


for step in range(1, 5):
    token = model.step(sinusoids(torch.tensor([step]), d))[0]
    torch.testing.assert_close(step_token(step), token, atol=1e-4, rtol=1e-4)

# %% [markdown]
# The same code tells each frame its place in the window; there it is added to the frame's token.
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Relative time
# :label: ex-10-explore
# ````
# *Explore.* A frame is told its place in the window, 0 to 31.
# But a motion does not care where a window begins.
# Tell the frames that they stand at 3 to 34, or at 100 to 131, and see how far the answer moves.
# How would you build attention that only knows how far apart two frames are?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-10-explore
# :class: dropdown
# ````
# The difference of the codes, put into the tokens on their way in:


# %%
@torch.no_grad()
def moved_by(shift):
    moved = sinusoids(torch.arange(window) + shift, d) - sinusoids(torch.arange(window), d)
    extra = torch.cat([torch.zeros(1, d), moved])

    def add(_, args):
        return (args[0] + extra, *args[1:])

    hook = model.transformer.register_forward_pre_hook(add)
    try:
        R = model.predict(features, n, y, hand).R
    finally:
        hook.remove()
    return rotation.angle_between(R, library.R).rad2deg().mean().item()


assert moved_by(0) == 0

# %% tags=["nbval-ignore-output"]
for shift in (1, 3, 10, 100):
    print(f"frames {shift} to {shift + window - 1}: the answer moves by {moved_by(shift):.2f}°")

# %% [markdown]
# One way that needs no table of places: turn question and key, pair of numbers by pair of numbers, by an angle that
# grows with the frame (rotary embedding, Su et al. 2021).
# The product of two turned vectors depends on the difference of their angles alone, so all windows look alike.


# %%
def turned(x):
    """Rows of x, row t turned by t f_i in its i-th pair of numbers."""
    f = 10_000.0 ** (-torch.arange(x.shape[1] // 2) / (x.shape[1] // 2))
    spin = torch.polar(torch.ones(len(x), len(f)), torch.arange(len(x))[:, None] * f)
    return torch.view_as_real(torch.view_as_complex(x.unflatten(1, (-1, 2)).contiguous()) * spin).flatten(1)


Q, K = torch.randn(2, 1, d // heads).expand(2, 40, -1)  # the same question and key at all frames
scores = turned(Q) @ turned(K).mT
torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1], atol=1e-4, rtol=1e-4)

# %% [markdown]
# Scores are the same along each diagonal: only the distance counts.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - Each frame is a token; it asks all others a question at once and takes the weighted mean of what they say.
# - The weights come from the tokens themselves: a question times a key, through a softmax.
# - Where a frame looks is not what it believes: to learn that, take frames away and see what changes.
