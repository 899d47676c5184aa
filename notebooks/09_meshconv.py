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
# # Convolution on a hand
#
# A picture has rows and columns, so a filter can slide over it.
# A hand is 778 points on a bent skin, without rows and without columns.
# What does it mean to slide a filter over that?
#
# On this page
# - a spiral lists a point and its neighbours in a fixed order, so that one matrix can read any place on the hand,
# - each level keeps half of the points, and after four levels one number has read up to half of the hand,
# - nearly all of the weights sit in the last layer, which joins 49 places to one description of the frame.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
finger = "index"  # whose tip the first figure climbs to, and the third one pushes
push_mm = 5.0
seed = 0

# %% [markdown]
# ## A spiral climbs a finger
#
# Drag the slider, or press Play.
# The large dot is a point of the skin.
# The line starts there and visits eight more: first the ring of neighbours, counter-clockwise, then the next ring.

# %%
import torch

from handdiff_lib.hand import load_hand
from handdiff_lib.pyramid import build_pyramid, spiral_rows
from handdiff_lib.topology import CHAIN, FINGERS, TIPS

hand = load_hand()
spirals = torch.from_numpy(spiral_rows(hand.faces.numpy(), len(hand.v_template)))
print(f"{len(spirals)} points, {spirals.shape[1]} in each spiral")


# %% tags=["hide-input"]
from itertools import pairwise

corner = hand.v_template[hand.faces]
normal = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
normal = torch.zeros_like(hand.v_template).index_add(0, hand.faces.flatten(), normal.repeat_interleave(3, 0))
normal = torch.nn.functional.normalize(normal, dim=1)
tip = TIPS["smplx"][FINGERS.index(finger)]


def lifted(points, by=0.0025):
    """Points of the template, a little above the skin, so that lines drawn there can be seen."""
    return (hand.v_template + by * normal)[points]


def climb():
    """Points on the back of the hand, from the wrist along the finger's joints to its tip."""
    joints = torch.stack([*hand.J_template[[0, *CHAIN[finger]]], hand.v_template[tip]])
    facing = (normal[:, 1] > 0.7).nonzero()[:, 0]
    share = torch.arange(8)[:, None] / 8
    for start, end in pairwise(joints):
        for place in start + share * (end - start) + torch.tensor([0, 0.01, 0]):
            yield facing[(hand.v_template[facing] - place).norm(dim=1).argmin()].item()


path = list(dict.fromkeys(climb()))

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go

from handdiff_lib.scene import EYE, SKIN, Grid, film, mesh
from handdiff_lib.view import frames_slider, light, show

grid = Grid(hand.v_template[None], torch.tensor(EYE))
flat = dict(l=5, r=5, t=10)


def on_hand(traces, moving, names, label, frame_ms=400, active=0):
    fig = film(traces, moving, range(len(names)), names, active)
    light(fig).update_layout(**grid.layout(), margin=flat, showlegend=False)
    return frames_slider(fig, fig.frames, label, frame_ms, active)


skin = mesh(hand.faces, dict(color=SKIN))
line = go.Scatter3d(mode="lines+markers", hoverinfo="skip", line=dict(color="#222222", width=4))
line.marker = dict(size=[15] + [9] * 8, color=["#D55E00"] + ["#0072B2"] * 8)
moving = [lambda k: grid.xyz(hand.v_template), lambda k: grid.xyz(lifted(spirals[path[k]]))]
show(on_hand([skin, line], moving, [str(k + 1) for k in range(len(path))], "point", active=len(path) // 3))

# %% [markdown]
# Look at the order, not at the shape.
# On the finger the spiral is small, on the back of the hand it is large, and at a border it is cut.
# But place 1 is always the point itself, and place 2 always the first neighbour.
# All hands share one mesh, so the spirals are computed once and hold for every hand and every pose.
#
# ## One matrix for all places
#
# Let $x_v$ be what is known at point $v$: three coordinates at first, later 32 or 64 features; $y_v$ is what comes out.
# Write $S(v, k)$ for place $k$ of the spiral of $v$.
# Put the nine descriptions into one long row, and multiply:
#
# $$ y_v = W \big[\, x_{S(v,1)}, \dots, x_{S(v,9)} \,\big] + b . $$
#
# The same $W$ and $b$ serve every point, as a filter serves every pixel.
# In code it is a lookup and a matrix product.


# %%
def convolve(x, W, b, spirals):
    around = x[spirals]  # (v, 9, features)
    return around.flatten(1) @ W.mT + b


# %% [markdown]
# The paper's encoder has four of these, with 32, 64, 64 and 64 features.
# After each, half of the points are dropped.
# A point that will be dropped need not be computed, so the library lists only the spirals of points that stay.

# %%
from handdiff_lib.meshconv import MeshEncoder

pyramid = build_pyramid(hand.v_template, hand.faces)
torch.manual_seed(seed)
encoder = MeshEncoder(pyramid, channels=(32, 64, 64, 64), d=512)

x = 10 * hand.v_template  # the network sees decimetres
print("level   points   features")
print(f"{0:5d} {len(x):8d} {x.shape[1]:10d}")
for level, conv in enumerate(encoder.convs, 1):
    torch.nn.init.normal_(conv.bias, std=0.1)  # else it starts at zero, and b would not show
    by_hand = convolve(x, conv.weight, conv.bias, pyramid.spirals[level - 1])
    torch.testing.assert_close(by_hand, conv(x[None])[0], atol=1e-5, rtol=1e-4)
    x = torch.nn.functional.elu(by_hand)
    print(f"{level:5d} {len(x):8d} {x.shape[1]:10d}")
frame_feature = encoder.out(x.flatten())
torch.testing.assert_close(frame_feature, encoder(10 * hand.v_template[None])[0], atol=1e-5, rtol=1e-4)

# %% [markdown]
# The last line joins the 49 places that are left, 64 features each, to 512 numbers.
# That is all the Transformer of the next page gets to know of the shape of a hand in one frame.
#
# Paper vs code: the paper feeds the estimate and the noisy motion together, as a mesh with six numbers a point.
# Ours has an encoder for each and adds what they say, so that the estimate is encoded once for all steps of the walk.
#
# ## Which points stay?
#
# Dropping every second number would leave holes.
# The library removes the point whose removal changes the surface least, again and again
# {cite:p}`garland1997`: points on flat skin go early, points on a bend stay.
# No point moves, so pooling is picking rows.

# %% tags=["hide-input", "nbval-ignore-output"]
levels = [torch.arange(len(hand.v_template)), *pyramid.kept]
glass = mesh(hand.faces, dict(color=SKIN), opacity=0.5)
dots = go.Scatter3d(mode="markers", hoverinfo="skip", marker=dict(size=4, color="#0072B2"))
moving = [lambda k: grid.xyz(hand.v_template), lambda k: grid.xyz(lifted(levels[k], 0.0005))]
names = [f"{k}: {len(points)} points" for k, points in enumerate(levels)]
show(on_hand([glass, dots], moving, names, "level", 1200, active=2))

# %% [markdown]
# ## How much does one number see?
#
# A number at level 1 has read nine points.
# At level 2 it has read nine numbers of level 1, whose spirals overlap, and so on.
# Go down from a point at level 4 and collect everything that it depends on: this is its *receptive field*.


# %%
def field(row, level):
    """Points of the skin that one row of a level depends on."""
    rows = torch.tensor([row])
    for spirals in pyramid.spirals[:level][::-1]:
        rows = spirals[rows].unique()
    return rows


# %% [markdown]
# The slider goes over eight of the 49 points of level 4.
# Yellow is what a number of level 1 has read at that place; orange, red and violet are what levels 2, 3 and 4 add.
# Pale skin is never read.

# %% tags=["hide-input", "nbval-ignore-output"]
places = {f"tip of the {name} finger": TIPS["smplx"][k] for k, name in enumerate(FINGERS)}
places["tip of the thumb"] = places.pop("tip of the thumb finger")
spots = {"the knuckles": (0.0, 0.02, 0.0), "the back": (0.05, 0.03, 0.0), "the wrist": (0.09, 0.03, 0.0)}
centres = {name: hand.v_template[point] for name, point in places.items()}
centres |= {name: torch.tensor(point) for name, point in spots.items()}

bands = torch.tensor([[0.45, 0.2, 0.55], [0.8, 0.28, 0.35], [0.93, 0.55, 0.2], [0.97, 0.87, 0.25]])  # levels 4 to 1
paints = []
for centre in centres.values():
    paint = torch.tensor([0.93, 0.88, 0.84]).repeat(len(hand.v_template), 1)
    row = (hand.v_template[pyramid.kept[3]] - centre).norm(dim=1).argmin()
    for level, color in zip((4, 3, 2, 1), bands, strict=True):
        same = int((pyramid.kept[level - 1] == pyramid.kept[3][row]).nonzero())  # its row in a finer level
        paint[field(same, level)] = color
    paints.append((255 * paint).round().to(torch.uint8).numpy())

skin = mesh(hand.faces, dict(vertexcolor=paints[0]))
moving = [lambda k: grid.xyz(hand.v_template) | dict(vertexcolor=paints[k])]
show(on_hand([skin], moving, list(centres), "around", 1000, active=1))

# %% [markdown]
# Look at a finger tip: level 2 has read a third of the finger, level 3 most of it, level 4 all of it and about as many
# points of the hand behind it.
# Look at the back of the hand: the same number of steps reaches far, since there the points lie far apart.
# Whether the thumb touches the little finger no level can tell: on the skin the way from tip to tip is too long.
# That is the price of walking on the mesh.
# The last layer, which sees all 49 places, has to make up for it.

# %%
tips = torch.tensor(TIPS["smplx"])
held = torch.tensor([torch.isin(tips, field(row, 4)).sum() for row in range(49)])
print("finger tips in a field of level 4:", ", ".join(f"{k} in {(held == k).sum()}" for k in held.unique()))
assert held.max() == 2

# %% [markdown]
# ## A push spreads
#
# Push the tip of the finger out by a few millimetres, and ask the weights that ship what changes.
# The colour of a dot is how much its features change, in shares of the most that any dot of the level changes.

# %%
from handdiff_lib.checkpoint import load_denoiser

model, card = load_denoiser()
near = torch.exp(-((hand.v_template - hand.v_template[tip]).norm(dim=1) / 0.008).square())
pushed = hand.v_template - 0.001 * push_mm * near[:, None] * torch.tensor([1.0, 0.0, 0.0])
pushed = torch.where((near > 0.01)[:, None], pushed, hand.v_template)

x, changes = torch.stack([hand.v_template, pushed]) * 10, []
changes.append((x[1] - x[0]).norm(dim=1))
with torch.no_grad():
    for conv in model.mesh_y.convs:
        x = torch.nn.functional.elu(conv(x))
        changes.append((x[1] - x[0]).norm(dim=1))

touched = (near > 0.01).nonzero()[:, 0]
for level in range(1, 5):
    reads = torch.tensor([torch.isin(field(row, level), touched).any() for row in range(len(pyramid.kept[level - 1]))])
    assert changes[level][~reads].max() < 1e-5  # who does not read the place does not hear of it
    print(f"level {level}: {reads.sum()} of {len(reads)} points can hear of it")

# %% tags=["hide-input", "nbval-ignore-output"]
loud = [(change / change.max()).numpy().round(3) for change in changes]
dots = go.Scatter3d(mode="markers", hoverinfo="skip", marker=dict(size=5, cmin=0, cmax=1, colorscale="Viridis"))
dots.marker.colorbar = dict(thickness=12, len=0.6)
moving = [
    lambda k: grid.xyz(hand.v_template),
    lambda k: grid.xyz(lifted(levels[k], 0.0005)) | dict(marker=dict(color=loud[k])),
]
show(on_hand([glass, dots], moving, [str(k) for k in range(5)], "level", 1200, active=2))

# %% [markdown]
# The push stays where it was made, level after level, and its share of the points grows.
# So the layers before the last describe places, not the hand: a thumb is read as a thumb whatever the others do.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} The whole hand?
# :label: ex-09-predict
# ````
# *Predict.* There are 49 points at level 4, each with its receptive field.
# What share of the skin does the largest field cover, and what share the smallest?
# Is there a point of the skin that no field covers?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-09-predict
# :class: dropdown
# ````
# Fields grow where points lie far apart: on the palm and the back.
# At a finger tip there is only the finger to walk on.

# %%
fields = [field(row, 4) for row in range(49)]
share = torch.tensor([len(points) for points in fields]) / len(hand.v_template)
print(f"smallest {100 * share.min():.0f} %, largest {100 * share.max():.0f} % of the skin")
covered = torch.cat(fields).unique()
print(f"covered by at least one: {len(covered)} of {len(hand.v_template)} points")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Count the weights
# :label: ex-09-derive
# ````
# *Derive.* How many numbers does one spiral convolution from $a$ to $b$ features have?
# How many have the four of them together, and how many the last layer?
# And how many would a plain linear layer from the 778 points to the features of level 1 have?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-09-derive
# :class: dropdown
# ````
# $W$ is $b \times 9a$ and the bias is $b$, whatever the number of points: $9ab + b$.
#
# The last layer has $49 \cdot 64 \cdot 512 + 512$.
# The plain layer would have $778 \cdot 3$ inputs and $389 \cdot 32$ outputs: thirty thousand times as many as the
# convolution that does its work.


# %%
def size(a, b):
    return 9 * a * b + b


by_formula = [size(3, 32), size(32, 64), size(64, 64), size(64, 64)]
last = 49 * 64 * 512 + 512
counted = [sum(p.numel() for p in part.parameters()) for part in [*encoder.convs, encoder.out]]
assert counted == [*by_formula, last]
print(f"convolutions {sum(by_formula):,}, last layer {last:,}")
print(f"plain layer instead of the first convolution: {778 * 3 * 389 * 32:,} against {by_formula[0]:,}")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} A spiral
# :label: ex-09-build
# ````
# *Build.* Write `spiral(faces, centre, length=9)` from nothing but the list of triangles.
# A triangle `(a, b, c)` of `faces` says that around `a`, counter-clockwise, `c` follows `b`.
# Start at the neighbour with the smallest number, or, at a border, with the one that follows no other.
# When the ring is used up, go on with the rings of the points listed so far, in order.
# Check it with `assert all(spiral(hand.faces, v) == spirals[v].tolist() for v in range(778))`.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-09-build
# :class: dropdown
# ````


# %%
def ring(faces, centre):
    follows = {}
    for triangle in faces[(faces == centre).any(1)].tolist():
        k = triangle.index(centre)
        follows[triangle[(k + 1) % 3]] = triangle[(k + 2) % 3]
    open_ends = set(follows) - set(follows.values())
    around = [min(open_ends or follows)]
    while follows.get(around[-1], around[0]) != around[0]:
        around.append(follows[around[-1]])
    return around


def spiral(faces, centre, length=9):
    listed = [centre]
    for point in listed:  # grows while we walk along it
        if len(listed) < length:
            listed += [near for near in ring(faces, point) if near not in listed]
    return listed[:length]


assert all(spiral(hand.faces, v) == spirals[v].tolist() for v in range(778))

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Mesh or joints?
# :label: ex-09-explore
# ````
# *Explore.* Why look at 778 points, when 21 joints tell the pose?
# Turn one joint of a finger by 10° about three axes: along the bone, sideways, and as it bends.
# How far do the joints move, and how far does the skin?
# What does that say about networks that only see joints, and about recordings that only hold joints?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-09-explore
# :class: dropdown
# ````
# `anatomical_axes` says which way along, across and bending are at each joint.

# %%
from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.topology import JOINTS

axes = anatomical_axes(hand)
flat_hand = hand.mean_shape().pose(torch.eye(3).expand(16, 3, 3))
print("largest move, mm                 joints    skin")
for joint in ("index1", "index3"):
    for k, name in enumerate(("along the bone", "sideways", "bending")):
        turn = torch.zeros(16, 3)
        turn[JOINTS.index(joint)] = torch.tensor(10.0).deg2rad() * axes[JOINTS.index(joint), k]
        turned = hand.mean_shape().pose(rotation.exp(turn))
        skin_mm = 1000 * (turned.skin() - flat_hand.skin()).norm(dim=-1).max()
        joints_mm = 1000 * (turned.joints21() - flat_hand.joints21()).norm(dim=-1).max()
        print(f"{joint}, {name:22s} {joints_mm:8.1f} {skin_mm:7.1f}")

# %% [markdown]
# A turn along the bone hardly moves the joints, since they lie on the line that it turns about.
# A network that sees joints has to guess it from how people usually move; so does a fit to keypoints.
# The skin shows it, if faintly.
# Ours is told the rotations as well, so for the poses of one hand the mesh adds little that it could not work out;
# what it adds is *this person's* hand: where the skin is, and so what is near what.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - A spiral lists a point and its neighbours in a fixed order, so that one matrix can read any place on the hand.
# - Each level keeps half of the points, and after four levels one number has read up to half of the hand.
# - Nearly all of the weights sit in the last layer, which joins 49 places to one description of the frame.
