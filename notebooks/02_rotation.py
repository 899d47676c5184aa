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
# # Turning
#
# A wrist turns slowly past half a turn.
# Nothing special happens to the hand.
# What happens to the numbers that we write it down with?
#
# On this page
# - a rotation vector, axis times angle, is three numbers, and they jump at half a turn,
# - six numbers, the first two columns of the matrix, never jump, and Gram-Schmidt takes any six back to a rotation,
# - seen from an estimate nearby, three numbers are enough.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
frames = 40  # even, so that no frame is exactly at half a turn
window = 9  # frames in a mean over time
seed = 0

# %% [markdown]
# ## A wrist turns past 180°
#
# In forty frames the wrist turns from 120° to 240°, evenly, about an axis near that of the forearm.
# Fingers never bend by half a turn, but a wrist, as seen by a camera, may be turned by any amount.

# %%
import torch

from handdiff_lib import rotation
from handdiff_lib.hand import load_hand

hand = load_hand()
axis = torch.nn.functional.normalize(torch.tensor([1.0, 0.5, 0.3]), dim=0)
turn = torch.linspace(120, 240, frames)
R = rotation.exp(turn.deg2rad()[:, None] * axis)

# %% [markdown]
# We write each frame down as numbers, take the mean of each number over nine frames, and read the rotation back:
# once as a rotation vector, once as six numbers (both are explained below).
# A filter does this, and so does a network in its way: its answers change smoothly with what it sees.


# %%
def mean_over_time(numbers, window):
    """Of each number on its own; the first and the last frame stand for those beyond the ends."""
    padded = torch.nn.functional.pad(numbers.mT[None], (window // 2, window // 2), mode="replicate")
    return padded[0].unfold(-1, window, 1).mean(-1).mT


def by_vector(R, window):
    return rotation.exp(mean_over_time(rotation.log(R), window))


def by_six(R, window):
    return rotation.sixd_to_matrix(mean_over_time(rotation.matrix_to_sixd(R), window))


# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.motion import HandMotion
from handdiff_lib.view import player, show


def wrist_motion(R_wrist):
    fingers = rotation.exp(hand.hands_mean.view(15, 3)).expand(len(R_wrist), -1, -1, -1)
    whole = torch.cat([R_wrist[:, None], fingers], dim=1)
    valid = torch.ones(len(whole), dtype=torch.bool)
    return HandMotion(whole, torch.zeros(10), torch.zeros(len(whole), 3), valid, fps=15.0, hand="open")


pair = {"rotation vector": by_vector(R, window), "six numbers": by_six(R, window)}
motions = {name: wrist_motion(found) for name, found in pair.items()}
show(player(motions, hand, trails=frames // 2))

# %% [markdown]
# Press Play.
# The right hand turns as it was told.
# The left one does so too, until the middle of the film, where it throws itself around and goes back.
#
# ## Axis times angle
#
# A rotation in space has an axis, a unit vector $a$, and an angle $\theta$ in radians.
# Their product $v = \theta a$ is the *rotation vector*: three numbers, with $\theta = \lVert v \rVert$.
# Write $[v]_\times$ for the matrix with $[v]_\times p = v \times p$.
# The rotation that $v$ stands for is
#
# $$ R = \exp([v]_\times) = I + \frac{\sin\theta}{\theta}\,[v]_\times
#   + \frac{1 - \cos\theta}{\theta^2}\,[v]_\times^2 . $$


# %%
def cross_matrix(v):
    x, y, z = v.tolist()
    return torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def exp_by_hand(v):
    theta, K = v.norm(), cross_matrix(v)
    return torch.eye(3) + theta.sin() / theta * K + (1 - theta.cos()) / theta**2 * K @ K


v = torch.tensor([0.3, -1.2, 0.7])
torch.testing.assert_close(exp_by_hand(v), rotation.exp(v))
quarter = torch.tensor([0.0, 0.0, torch.pi / 2])
print("a quarter turn about z takes x to", exp_by_hand(quarter)[:, 0].round().int().tolist())

# %% [markdown]
# The way back is `rotation.log`.
# A turn by 190° about $a$ is a turn by 170° about $-a$, and `log` always names the shorter one.
# So all rotations live in a ball whose radius is half a turn, and a point on its surface is the same rotation as the
# point opposite.
# Drag the slider through 180°: what leaves the ball on one side comes in on the other.

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go

from handdiff_lib.scene import EYE, Grid, across
from handdiff_lib.view import frames_slider, light, show

eye = torch.tensor(EYE)
left, right = -1.15 * across(eye), 1.15 * across(eye)
angle = torch.linspace(0, 2 * torch.pi, 61)
flat = torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=-1)
grid = Grid(torch.cat([centre + flat.roll(k, -1) for centre in (left, right) for k in range(3)])[None], eye)
COLUMN = {"first column": "#0072B2", "second column": "#E69F00"}
gap = torch.full((1, 3), torch.nan)


def path(points, **look):
    return go.Scatter3d(**grid.xyz(points), hoverinfo="skip", **look)


def circles(centre):
    points = torch.cat([torch.cat([flat.roll(k, -1), gap]) for k in range(3)])
    return path(centre + points, mode="lines", line=dict(color="#BBBBBB", width=2), showlegend=False)


def balls(k):
    inside = left + rotation.log(R[: k + 1]) / torch.pi
    yield path(inside, mode="markers", marker=dict(size=2, color="#D55E00"), showlegend=False)
    now = torch.stack([left, inside[-1]])
    look = dict(mode="lines+markers", line=dict(width=7, color="#D55E00"), marker=dict(size=[0, 6], color="#D55E00"))
    yield path(now, name="rotation vector", **look)
    for column, (name, color) in enumerate(COLUMN.items()):
        ends = torch.stack([right.expand(k + 1, 3), right + R[: k + 1, :, column]])
        trail = torch.cat([ends[1], gap, ends[:, -1]])
        yield path(trail, name=name, mode="lines", line=dict(width=7, color=color))


start = frames // 2 - 1
fig = go.Figure([circles(left), circles(right), *balls(start)])
light(fig).update_layout(**grid.layout(), margin=dict(l=5, r=5))
each = [go.Frame(data=list(balls(k)), traces=[2, 3, 4, 5], name=f"{turn[k]:.0f}°") for k in range(frames)]
show(frames_slider(fig, each, "turn", 80, start))

# %% [markdown]
# Left, the ball of rotation vectors; right, the columns of the matrix, on a sphere.
# Look at the left: two frames in a row are as far apart as two points of the ball can be.
# Look at the right: nothing happens at all.
#
# This is nobody's mistake.
# No three numbers, and no four, can describe all rotations without such a jump {cite:p}`zhou2019`.
# Five can, and with six it is easy.
#
# ## Six numbers
#
# Keep the first two columns of the matrix.
# Going back, any six numbers $(a, b)$ will do, as long as $a$ and $b$ are not parallel:
# make $a$ one long, take out of $b$ what points along it, make that one long too, and add the direction at right angles
# to both:
#
# $$ x = \frac{a}{\lVert a \rVert}, \qquad y = \frac{b - (x \cdot b)\,x}{\lVert b - (x \cdot b)\,x \rVert},
#   \qquad z = x \times y, \qquad R = (x, y, z). $$


# %%
def gram_schmidt(a, b):
    x = a / a.norm()
    y = b - (x @ b) * x
    y = y / y.norm()
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


generator = torch.Generator().manual_seed(seed)
for a, b in torch.randn(20, 2, 3, generator=generator):
    torch.testing.assert_close(gram_schmidt(a, b), rotation.sixd_to_matrix(torch.cat([a, b])))
torch.testing.assert_close(gram_schmidt(R[5, :, 0], R[5, :, 1]), R[5])
print("a quarter turn about z is", rotation.matrix_to_sixd(rotation.exp(quarter)).round().int().tolist())

# %% [markdown]
# This is what the network answers with: six numbers a joint.
#
# ## The jump in numbers
#
# The thin lines are the numbers of each frame, the thick ones their means.
# The lowest panel shows how far the rotation that one reads back is from the truth.
# Drag the slider to change over how many frames the mean is taken.

# %% tags=["hide-input", "nbval-ignore-output"]
from plotly.subplots import make_subplots

vectors, sixes = rotation.log(R), rotation.matrix_to_sixd(R)
LOOK = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#444444")


def line(values, color, width, **look):
    y = values.numpy().round(3)
    return go.Scatter(x=turn.numpy().round(1), y=y, line=dict(color=color, width=width), showlegend=False, **look)


def means(window):
    for row, numbers in enumerate((vectors.rad2deg(), sixes), 1):
        for values, color in zip(mean_over_time(numbers, window).mT, LOOK, strict=False):
            yield row, line(values, color, 4)
    for read_back, color, name in ((by_vector, "#D55E00", "rotation vector"), (by_six, "#0072B2", "six numbers")):
        away = rotation.angle_between(read_back(R, window), R).rad2deg()
        yield 3, line(away, color, 3, name=name).update(showlegend=True)


titles = ["rotation vector (°)", "six numbers", "away from the truth (°)"]
fig = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.09, subplot_titles=titles)
for row, numbers in enumerate((vectors.rad2deg(), sixes), 1):
    for values, color in zip(numbers.mT, LOOK, strict=False):
        fig.add_trace(line(values, color, 1), row=row, col=1)
for row, trace in means(window):
    fig.add_trace(trace, row=row, col=1)
light(fig, height=700).update_xaxes(title="turn of the wrist (°)", row=3).update_yaxes(range=[-5, 185], row=3)
windows = (1, 3, 5, 9, 13, 17)
each = [go.Frame(data=[t for _, t in means(k)], traces=list(range(9, 20)), name=f"{k} frames") for k in windows]
show(frames_slider(fig, each, "mean over", 700, windows.index(window)).update_layout(margin_t=80, legend_y=1.05))

# %% [markdown]
# Three lines cross zero where the truth has a jump, since the mean of $v$ and $-v$ is nothing.
# Nothing, read as a rotation, is no turn at all: the hand is half a turn off.
# A wider mean is wrong for longer.
# The mean of the six numbers is always between its frames, and its error stays at the ends, where frames repeat.

# %%
for name, read_back in {"rotation vector": by_vector, "six numbers": by_six}.items():
    away = rotation.angle_between(read_back(R, window), R).rad2deg()
    spoiled = int((away > 15).sum())
    print(f"{name:16s} off by up to {away.max():3.0f}°, by more than 15° in {spoiled} of {frames} frames")

# %% [markdown]
# ## Seen from nearby
#
# Three numbers are pleasant: they can be added, and noise on them means the same in all directions.
# So where the chain of diffusion adds noise, this library keeps three, but looks at each rotation from the estimate:
# $r = \log(R_y^\top R_x)$ is the turn that leads from the estimate to $x$, and it jumps only where the estimate is
# half a turn off.
# Here the estimate is taken to be off by 20°, about an axis of its own in each frame.

# %%
from handdiff_lib.diffusion import encode

off = torch.nn.functional.normalize(torch.randn(frames, 3, generator=generator), dim=-1)
R_y = R @ rotation.exp(torch.tensor(20.0).deg2rad() * off)
r = encode(R, R_y)
torch.testing.assert_close(r, rotation.log(R_y.mT @ R))
print("largest step of the vectors from one frame to the next")
print(f"    as seen from the rest pose {vectors.diff(dim=0).norm(dim=-1).max().rad2deg():4.0f}°")
print(f"    as seen from the estimate  {r.diff(dim=0).norm(dim=-1).max().rad2deg():4.0f}°, never more than twice 20°")

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} Where it breaks
# :label: ex-02-predict
# ````
# *Predict.* The wrist turns by 3° a frame.
# In how many frames is a mean of rotation vectors over nine frames off by more than 15°
# if the wrist turns from 120° to 240°, from 0° to 120°, and from 240° to 360°?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-02-predict
# :class: dropdown
# ````
# Those whose nine frames lie on both sides of 180°: eight.
# The other two stay on one side of it, the last as a turn by $-120°$ to 0°: none.

# %%
for first in (120, 0, 240):
    turns = rotation.exp(torch.linspace(first, first + 120, frames).deg2rad()[:, None] * axis)
    away = rotation.angle_between(by_vector(turns, 9), turns).rad2deg()
    print(f"from {first:3d}° to {first + 120}°: {int((away > 15).sum())} frames spoiled")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} The third column
# :label: ex-02-derive
# ````
# *Derive.* The columns $x, y, z$ of a rotation have length 1 and are at right angles, and $\det R = 1$.
# Show that $z = x \times y$, so that the third column says nothing new.
# Where did we need the determinant?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-02-derive
# :class: dropdown
# ````
# Only two unit vectors are at right angles to both $x$ and $y$: $x \times y$ and $-x \times y$.
# The determinant is $\det R = (x \times y) \cdot z$, which is 1 for the first and $-1$ for the second.
# Without it $z = -x \times y$ would do as well, and that is not a turn but a mirror image.

# %%
x, y, z = R[7].mT
torch.testing.assert_close(z, torch.linalg.cross(x, y))
mirrored = torch.stack([x, y, -z], dim=-1)
print(f"determinants {torch.linalg.det(R[7]):.0f} and {torch.linalg.det(mirrored):.0f}")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Small turns
# :label: ex-02-build
# ````
# *Build.* `exp_by_hand` divides by $\theta$, so it fails for $v = 0$, and `(1 - theta.cos())` is a difference of
# numbers that are nearly equal.
# Write `exp_safe(v)`, right to seven digits for all angles.
# Check it with
# `torch.testing.assert_close(exp_safe(v), rotation.exp(v))` for `v = size * torch.tensor([0.6, 0.0, 0.8])`
# and size 0, $10^{-8}$, $10^{-4}$, $10^{-2}$, 1 and 3.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-02-build
# :class: dropdown
# ````
# For small angles use the first terms of the series, $\sin\theta/\theta \approx 1 - \theta^2/6$ and
# $(1 - \cos\theta)/\theta^2 \approx 1/2 - \theta^2/24$: what they leave out is of size $\theta^4/120$.


# %%
def exp_safe(v):
    theta, K = v.norm().item(), cross_matrix(v)
    theta_2 = torch.tensor(theta**2)
    if theta < 1e-2:
        return torch.eye(3) + (1 - theta_2 / 6) * K + (0.5 - theta_2 / 24) * K @ K
    return torch.eye(3) + theta_2.sqrt().sin() / theta * K + (1 - theta_2.sqrt().cos()) / theta_2 * K @ K


for size in (0.0, 1e-8, 1e-4, 1e-2, 1.0, 3.0):
    v = size * torch.tensor([0.6, 0.0, 0.8])
    torch.testing.assert_close(exp_safe(v), rotation.exp(v))
print("by hand, for no turn at all:", exp_by_hand(torch.zeros(3))[0].tolist())

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Which loss?
# :label: ex-02-explore
# ````
# *Explore.* A network answers with six numbers, which stand for $\hat R$, and the answer should be $R$.
# Compare three losses: the squared difference of the matrices, the squared angle between them, and the squared
# difference of their rotation vectors.
# How do they grow with the angle?
# Let the six numbers walk downhill from a turn by $-170°$ to one by 170°, which is 20° away: which way do they go?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-02-explore
# :class: dropdown
# ````
# Two rotations that are an angle $\theta$ apart differ by $\lVert \hat R - R \rVert_F^2 = 8 \sin^2(\theta/2)$.
# For small angles that is $2\theta^2$, like the others; towards half a turn it flattens.

# %%
from handdiff_lib.losses import rotation_loss

losses = {
    "matrices": lambda R_hat, R: rotation_loss(R_hat[None, None, None], R[None, None, None]),
    "angle": lambda R_hat, R: 2 * rotation.angle_between(R_hat, R).square(),
    "rotation vectors": lambda R_hat, R: 2 * (rotation.log(R_hat) - rotation.log(R)).square().sum(),
}
for degrees in (1.0, 57.0, 170.0):
    apart = rotation.exp(torch.tensor(degrees).deg2rad() * axis)
    by_formula = 8 * (torch.tensor(degrees).deg2rad() / 2).sin().square()
    torch.testing.assert_close(losses["matrices"](apart, torch.eye(3)), by_formula)


# %% [markdown]
# Now downhill, five hundred small steps with each of the three.


# %%
def walk(loss, degrees, rate=0.03, steps=500):
    """The angles about the axis that the six numbers pass on their way to a turn by 170°."""
    goal = rotation.exp(torch.tensor(170.0).deg2rad() * axis)
    sixd = rotation.matrix_to_sixd(rotation.exp(torch.tensor(degrees).deg2rad() * axis)).requires_grad_()
    passed = []
    for _ in range(steps):
        found = rotation.sixd_to_matrix(sixd)
        passed.append(found.detach())
        (slope,) = torch.autograd.grad(loss(found, goal), sixd)
        sixd = (sixd - rate * slope).detach().requires_grad_()
    return torch.stack(passed)


way = {name: walk(loss, -170.0) for name, loss in losses.items()}
goal = rotation.exp(torch.tensor(170.0).deg2rad() * axis)
for name, passed in way.items():
    far = rotation.angle_between(passed[:-1], passed[1:]).sum().rad2deg()
    left_over = rotation.angle_between(passed[-1], goal).rad2deg()
    print(f"{name:16s} turns by about {10 * (far / 10).round():3.0f}° in all, ends {left_over:.0f}° away")

# %% [markdown]
# The first two take the short way, over half a turn.
# The loss on rotation vectors sends the hand around the whole circle, since to it $-170°$ and $170°$ are far apart.
# We use the first: it needs no `acos` and no `log`, and a few answers that are far off do not outweigh the many that
# are close.
# Its weakness is that same flatness: from an answer half a turn off there is no slope at all.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - A rotation vector, axis times angle, is three numbers, and they jump at half a turn.
# - Six numbers, the first two columns of the matrix, never jump, and Gram-Schmidt takes any six back to a rotation.
# - Seen from an estimate nearby, three numbers are enough.
