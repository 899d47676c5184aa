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
# # Meet the hand
#
# A network that looks at a hand answers with sixty or so numbers.
# What are these numbers, and how do they move a skin of 778 points?
# The hand here is an open one with the layout of MANO {cite:p}`mano`, the hand model that most such networks speak.
#
# On this page
# - ten numbers say whose hand it is, sixteen rotations say what it does,
# - joints follow by walking along each finger,
# - each point of the skin goes along with a few joints, and takes the weighted mean of where they would carry it.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source, "smplx"], check=True)

# %% tags=["parameters"]
bend_deg = 75.0  # how far the index finger bends at each joint, at most
frames = 26

# %% [markdown]
# ## A finger bends
#
# Drag the slider: one angle grows, and three joints, the skin around them and a finger tip go along.

# %%
import torch

from handdiff_lib import rotation
from handdiff_lib.hand import load_hand
from handdiff_lib.topology import CHAIN, JOINTS, PARENTS

hand = load_hand()
angles = torch.linspace(0, bend_deg, frames)
rotvec = torch.zeros(frames, 16, 3)
# about +z: towards the palm
rotvec[:, list(CHAIN["index"]), 2] = angles[:, None].deg2rad()
posed = hand.mean_shape().pose(rotation.exp(rotvec))

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import hand_figure, show

labels = [f"{angle:.0f}°" for angle in angles]
look = dict(joints=posed.joints21(), labels=labels, label="bend", active=frames * 3 // 4)
show(hand_figure(posed.skin(), hand.faces, fps=15, **look))

# %% [markdown]
# Look at the knuckle: the skin there belongs to both sides of the joint.
# And look at the neighbours: the middle finger does not move at all.
#
# The hand has sixteen joints, the wrist and three for each finger.
# Joint 1 of a finger is its knuckle, joint 3 the one next to the tip.
# A rotation at a joint turns everything beyond it.
# The figure also draws the five finger tips, which have no rotation; with them there are 21 joints, as in benchmarks.
# At rest the fingers point along $-x$, the back of the hand along $+y$ and the thumb along $+z$.

# %%
print("joint     parent    rest position, mm")
for joint in (0, *CHAIN["index"]):
    x, y, z = (1000 * hand.J_template[joint]).tolist()
    parent = JOINTS[PARENTS[joint]] if joint else "-"
    print(f"{JOINTS[joint]:9s} {parent:9s} {x:5.0f} {y:5.0f} {z:5.0f}")

# %% [markdown]
# ## Walk along the finger
#
# Let $J_j$ be where joint $j$ rests, $a(j)$ its parent, and $R_j$ its rotation relative to the parent.
# The parent's world rotation $G_{a(j)}$ turns the bone that leads to $j$:
#
# $$ p_j = p_{a(j)} + G_{a(j)}\,(J_j - J_{a(j)}), \qquad G_j = G_{a(j)}\, R_j. $$
#
# Start at the wrist, where $p_0 = J_0$ and $G_0 = R_0$, and walk outwards.


# %%
def walk(R, J):
    G, p = [R[0]], [J[0]]
    for joint in range(1, 16):
        parent = PARENTS[joint]
        p.append(p[parent] + G[parent] @ (J[joint] - J[parent]))
        G.append(G[parent] @ R[joint])
    return torch.stack(G), torch.stack(p)


R = rotation.exp(rotvec[-1])
G, p = walk(R, hand.J_template)
torch.testing.assert_close(p, posed.joints[-1])
torch.testing.assert_close(G, posed.R_world_joint[-1])

# %% [markdown]
# ## Who moves the skin?
#
# Each point has sixteen weights, nearly all zero, which sum to one.
# The slider goes through the joints; yellow skin goes along with the joint, dark skin does not care.
# Hover over a point to read its joints.

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go

from handdiff_lib.view import frames_slider, hand_figure, show

rest = hand.mean_shape().pose(torch.eye(3).expand(1, 16, 3, 3)).skin()
words = [
    "<br>".join(f"{JOINTS[joint]} {row[joint]:.2f}" for joint in row.argsort(descending=True)[:3] if row[joint] > 0.01)
    for row in hand.weights
]
fig = hand_figure(rest, hand.faces, colors=hand.weights[:, 1]).update_traces(text=words, hoverinfo="text")
order = [1, 2, 3, *CHAIN["thumb"], 0]
films = [go.Mesh3d(intensity=hand.weights[:, joint].numpy(), cmin=0, cmax=1) for joint in order]
each = [go.Frame(data=[film], traces=[0], name=JOINTS[joint]) for joint, film in zip(order, films, strict=True)]
show(frames_slider(fig, each, "weight of", 700))

# %% [markdown]
# ## Skin one point by hand
#
# Take the point that two joints of the bent finger pull most evenly.
# Joint $j$ alone would carry the point $v$ to $G_j (v - J_j) + p_j$:
# step into the joint's own place, turn, step out to where the joint now is.
# The skin takes the weighted mean:
#
# $$ v' = \sum_j w_{vj} \left( G_j (v - J_j) + p_j \right). $$
#
# A mean of turned points lies inside the bend, so a bent finger would shrink.
# Therefore the rest pose is corrected first, by an amount that is linear in $R_j - I$ and zero at rest:
#
# $$ v = \bar T_v + (B_P)_v\, (R_1 - I, \dots, R_{15} - I) . $$
#
# $\bar T$ is the mean hand, `v_template`.
# $B_P$, `posedirs`, comes with the model: 135 columns, one for each of the 15 times 9 entries.

# %%
point = int(hand.weights[:, CHAIN["index"][1:]].amin(1).argmax())
corrections = (R[1:] - torch.eye(3)).flatten()
v = hand.v_template[point] + hand.posedirs[point] @ corrections
carried = (G @ (v - hand.J_template)[..., None])[..., 0] + p  # (16, 3)
by_hand = hand.weights[point] @ carried
torch.testing.assert_close(by_hand, posed.skin()[-1, point])

for joint in hand.weights[point].argsort(descending=True)[:3]:
    print(f"{JOINTS[joint]:8s} weight {hand.weights[point, joint]:.2f}")
print(f"the point moves {1000 * (by_hand - hand.v_template[point]).norm():.0f} mm")

# %% [markdown]
# From here on `hand.shape(betas).pose(R, transl).skin()` does this for all points and all frames.
#
# ## Whose hand?
#
# Ten shape numbers $\beta$ move the rest pose, $\bar T + B_S\,\beta$, and the joints with it:
# each joint rests at a weighted mean of the points around it, $J = \mathcal J\,(\bar T + B_S\,\beta)$.
# The numbers are sorted by how much they change; one unit is one standard deviation among the adults behind the model.
# The slider runs through the first two.

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import hand_figure, show

steps = torch.linspace(-3, 3, 13)
betas = torch.zeros(26, 10)
betas[:13, 0], betas[13:, 1] = steps, steps
shaped = hand.shape(betas).pose(torch.eye(3).expand(26, 16, 3, 3))
names = [f"{k + 1}: {value:+.1f}" for k in range(2) for value in steps]
look = dict(joints=shaped.joints21(), labels=names, label="shape number")
show(hand_figure(shaped.skin(), hand.faces, fps=8, **look))

# %% [markdown]
# The first number is size: everything grows.
# The second trades palm for fingers, as the lengths say.

# %%
for k, name in enumerate(["first", "second"]):
    pair = torch.zeros(2, 10)
    pair[:, k] = torch.tensor([-2.0, 2.0])
    rest_joints = hand.shape(pair).pose(torch.eye(3).expand(2, 16, 3, 3)).joints21()
    palm = 1000 * (rest_joints[:, 9] - rest_joints[:, 0]).norm(dim=-1)
    finger = 1000 * (rest_joints[:, 12] - rest_joints[:, 9]).norm(dim=-1)
    print(f"{name:6s} number from -2 to +2: palm {palm[0]:.0f} to {palm[1]:.0f} mm,", end=" ")
    print(f"middle finger {finger[0]:.0f} to {finger[1]:.0f} mm")

# %% [markdown]
# ## The public twin
#
# The model is MANO's, and `smplx` is the implementation that most people use.
# Fed with the same arrays, it must say the same.
# (This hand is open; a licensed MANO file works the same way.)

# %%
import contextlib
import io

import numpy as np
import smplx
from smplx.utils import Struct

from handdiff_lib.hand import OPEN_HAND

arrays = Struct(**np.load(OPEN_HAND))
with contextlib.redirect_stdout(io.StringIO()):  # it prints a warning about joints
    twin = smplx.MANO("", data_struct=arrays, is_rhand=True, use_pca=False, flat_hand_mean=True, batch_size=8)
generator = torch.Generator().manual_seed(0)
pose, shape = 0.4 * torch.randn(8, 48, generator=generator), torch.randn(8, 10, generator=generator)
theirs = twin(betas=shape, global_orient=pose[:, :3], hand_pose=pose[:, 3:]).vertices
ours = hand.shape(shape).pose(rotation.exp(pose.unflatten(-1, (16, 3)))).skin()
assert (ours - theirs).norm(dim=-1).max() < 1e-5
print("largest distance below 0.01 mm:", bool((ours - theirs).norm(dim=-1).max() < 1e-5))

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} The strongest joint
# :label: ex-01-predict
# ````
# *Predict.* Turn one joint by 10° and leave the others.
# Which joint moves the tip of the index finger most?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-01-predict
# :class: dropdown
# ````
# The farther a joint is from the tip, the longer its lever: the wrist.
# One degree at the wrist costs more millimetres at the tip than one degree anywhere else, which is why a
# wrist that shakes looks so bad.

# %%
flat = hand.mean_shape().pose(torch.eye(3).expand(16, 3, 3)).joints21()
for joint in (0, *CHAIN["index"]):
    turn = torch.zeros(16, 3)
    turn[joint, 2] = torch.tensor(10.0).deg2rad()
    moved = hand.mean_shape().pose(rotation.exp(turn)).joints21()
    print(f"{JOINTS[joint]:7s} {1000 * (moved[8] - flat[8]).norm():3.0f} mm")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} At rest
# :label: ex-01-derive
# ````
# *Derive.* Put $R_j = I$ for all joints.
# Show that every point of the skin stays where it is, whatever its weights are.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-01-derive
# :class: dropdown
# ````
# All $G_j = I$, so walking along the finger gives $p_j = J_j$.
# Each joint carries $v$ to $(v - J_j) + J_j = v$, and $\sum_j w_{vj}\, v = v$ because the weights sum to one.
# The corrections are linear in $R_j - I = 0$.

# %%
torch.testing.assert_close(hand.weights.sum(1), torch.ones(778))
torch.testing.assert_close(rest[0], hand.v_template, atol=1e-6, rtol=0)

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} All points at once
# :label: ex-01-build
# ````
# *Build.* Write `skin(v, G, p, J, weights)`, which moves all 778 points `v` without a loop.
# Check it with `torch.testing.assert_close(skin(v, G, p, hand.J_template, hand.weights), posed.skin()[-1])`,
# where `v = hand.v_template + hand.posedirs @ corrections`.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-01-build
# :class: dropdown
# ````
# Since the sum is linear in $v$, mix the sixteen maps first and apply the mixture once.


# %%
def skin(v, G, p, J, weights):
    offset = p - (G @ J[..., None])[..., 0]  # what remains of G (v - J) + p when v is 0
    G_mixed = torch.einsum("vj,jab->vab", weights, G)
    return (G_mixed @ v[..., None])[..., 0] + weights @ offset


v = hand.v_template + hand.posedirs @ corrections
torch.testing.assert_close(skin(v, G, p, hand.J_template, hand.weights), posed.skin()[-1])

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Shape from joints
# :label: ex-01-explore
# ````
# *Explore.* A motion capture system gives 21 joints, no skin.
# How many of the ten shape numbers can one tell from them, if joints are known to a millimetre?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-01-explore
# :class: dropdown
# ````
# Bone lengths are what pose does not change.
# Their change per unit of $\beta$ is a matrix, 20 lengths by ten numbers.
# Its singular values say how many millimetres a unit step changes the bones, from the best direction to the worst.


# %%
from handdiff_lib.topology import BONES21


def bone_lengths(betas):
    joints = hand.shape(betas).pose(torch.eye(3).expand(16, 3, 3)).joints21()
    return torch.stack([(joints[child] - joints[parent]).norm() for parent, child in BONES21])


slope = torch.autograd.functional.jacobian(bone_lengths, torch.zeros(10))
print("mm per unit:", " ".join(f"{1000 * s:.1f}" for s in torch.linalg.svdvals(slope)))

# %% [markdown]
# A length between two joints that are each off by a millimetre is off by $\sqrt 2$ mm.
# Two directions stand well above that, four are about as large, and four are lost in it.
# So about six numbers can be told, if one has many frames to average over.
# Fitting the other four gives large, meaningless numbers: keep them near zero.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - Ten numbers say whose hand it is, sixteen rotations say what it does.
# - Joints follow by walking along each finger.
# - Each point of the skin goes along with a few joints, and takes the weighted mean of where they would carry it.
