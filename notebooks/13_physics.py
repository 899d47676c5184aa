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
# # Constraints as losses
#
# A hand that reaches does not turn back on its way.
# A hand that holds does not fidget.
# Everyone knows this; how does one say it to a network?
#
# On this page
# - what must not happen becomes a number that is zero when it does not, and its gradient says where to go,
# - reaching and releasing are charged for turning back, a stable grasp for every motion of the fingers,
# - such terms say how a hand moves, not where it is: a frozen hand satisfies them all.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
clip_seed = 1  # which made-up clip
jitter_deg = 4.0
seed = 0

# %% [markdown]
# ## What the terms would change
#
# A made-up hand comes to a thing, holds it and lets it go; then every finger joint is shaken.
# The black arrows are what the two constraints ask of the joints, four times as long as they are.
# The hand is blue while it reaches, green while it holds, pink while it releases.
# Grey frames are manipulation or free motion, and no constraint speaks.

# %%
from dataclasses import replace

import torch

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_angles, anatomical_axes, anatomical_rotations
from handdiff_lib.hand import load_hand
from handdiff_lib.physics import grasp_pairs, kinetic_loss, stability_loss, transit_triplets
from handdiff_lib.synth import synthesize
from handdiff_lib.topology import FREE, GRASP, MANIPULATE, REACH, RELEASE

hand = load_hand()
axes = anatomical_axes(hand)  # twist, abduction and flexion at each joint
clip = synthesize(hand, seed=clip_seed, frames=110)
clean, state = clip.motion, clip.state
generator = torch.Generator().manual_seed(seed)
error = torch.tensor(jitter_deg).deg2rad() * torch.randn(len(clean), 16, 3, generator=generator)
error[:, 0] = 0  # the wrist keeps still
shaken = replace(clean, R=clean.R @ rotation.exp(error))


# %%
def asked(R, state):
    """What the constraints ask of the angles: the direction in which their sum falls."""
    angles = anatomical_angles(R, axes).requires_grad_()
    fingers = angles[None, :, 1:].flatten(-2)
    turning, moving = kinetic_loss(fingers, state[None]), stability_loss(fingers, state[None])
    a_little = torch.tensor(2.0).deg2rad()
    size = (transit_triplets(state).sum() * a_little, grasp_pairs(state).sum() / 4)  # derived further down
    (size[0] * turning + size[1] * moving).backward()
    return angles.detach(), -angles.grad


angles, step = asked(shaken.R, state)
R_after = anatomical_rotations(angles + step, axes)

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go

from handdiff_lib.scene import EYE, Grid, film, mesh
from handdiff_lib.view import frames_slider, light, show

LOOK = {REACH: "#56B4E9", GRASP: "#009E73", MANIPULATE: "#C8C8C8", RELEASE: "#CC79A7", FREE: "#C8C8C8"}
WORD = {REACH: "reach", GRASP: "stable grasp", MANIPULATE: "manipulate", RELEASE: "release", FREE: "free"}


def still(R):
    """The same fingers on a wrist that does not turn, so that bending shows."""
    return torch.cat([torch.eye(3).expand(len(R), 1, 3, 3), R[:, 1:]], dim=1)


def arrows(start, end, times=4.0):
    """Lines from joints to where they are asked to go, with a gap after each, and a head of two strokes."""
    way = times * (end - start)
    side = torch.linalg.cross(way, torch.tensor(EYE).expand_as(way)) * 0.2
    tip = start + way
    path = [start, tip, tip - 0.35 * way + side, tip, tip - 0.35 * way - side, torch.full_like(tip, torch.nan)]
    return torch.stack(path, dim=-2).flatten(-3, -2)


shaped = hand.shape(clean.betas)
before, after = (shaped.pose(still(R)) for R in (shaken.R, R_after))
skin, lines = before.skin(), arrows(before.joints21(), after.joints21())
grid = Grid(skin, torch.tensor(EYE))
pen = go.Scatter3d(mode="lines", hoverinfo="skip", showlegend=False, line=dict(color="#111111", width=5))
shown = range(0, len(clean), 3)
moving = [
    lambda k: grid.xyz(skin[k]) | dict(color=LOOK[int(state[k])]),
    lambda k: grid.xyz(lines[k]),
]
names = [f"{k / clean.fps:.2f} s, {WORD[int(state[k])]}" for k in shown]
first = 2
fig = film([mesh(hand.faces, {}, opacity=0.6), pen], moving, shown, names, active=first)
light(fig).update_layout(**grid.layout(), margin=dict(l=5, r=5, t=10))
show(frames_slider(fig, fig.frames, "", 200, active=first))

# %% [markdown]
# Look at a blue frame and at a green one.
# While it reaches, a joint that turns back is told to go on; one that goes on is left alone.
# While it holds, all joints are called to the middle between the frame before and the frame after.
#
# ## Do not turn back
#
# Let $\theta_t$ be the angles of the finger joints at frame $t$: twist, abduction and flexion, 45 numbers.
# An angle turns back when its next change has another sign than the last one:
#
# $$ \phi_t = -\,\mathrm{sign}(\theta_{t+1} - \theta_t)\,(\theta_{t+2} - \theta_{t+1}), \qquad
#    L_{kinetics} = \frac{1}{|C_r|} \sum_{t\, \in\, C_r} \max(0, \phi_t) . $$
#
# This is equation 6 of the paper {cite:p}`dip`; $C_r$ are the triplets of frames that all reach, or all release.
#
# Paper vs code: the paper prints $\theta_{t+3}$, but speaks of three frames.
# It divides by the number of frames; we divide by the number of triplets, and of pairs below.
# It does not say whether the wrist counts; in training and in the tables it does, 48 angles in all, and on this page it
# does not.
#
# ## Do not fidget
#
# In a stable grasp every change costs (equation 7); $C_g$ are the pairs of frames that both hold:
#
# $$ L_{stability} = \frac{1}{|C_g|} \sum_{t\, \in\, C_g} \lVert \theta_{t+1} - \theta_t \rVert^2 . $$
#
# Both in code, frame by frame:


# %%
def kinetics(theta, state):
    costs = []
    for t in range(len(theta) - 2):
        if state[t] == state[t + 1] == state[t + 2] and state[t] in (REACH, RELEASE):
            phi = -(theta[t + 1] - theta[t]).sign() * (theta[t + 2] - theta[t + 1])
            costs.append(phi.clamp(min=0).sum())
    return torch.stack(costs).mean()


def stability(theta, state):
    pairs = [t for t in range(len(theta) - 1) if state[t] == state[t + 1] == GRASP]
    return torch.stack([(theta[t + 1] - theta[t]).square().sum() for t in pairs]).mean()


theta = angles[:, 1:].flatten(1)  # fingers only: the wrist may carry what the hand holds
torch.testing.assert_close(kinetics(theta, state), kinetic_loss(theta[None], state[None]))
torch.testing.assert_close(stability(theta, state), stability_loss(theta[None], state[None]))
true_theta = anatomical_angles(clean.R, axes)[:, 1:].flatten(1)
for name, law in {"turning back": kinetics, "fidgeting": stability}.items():
    assert law(theta, state) > 10 * law(true_theta, state)
    print(f"{name}: more than ten times as much in the shaken motion as in the clean one")

# %% [markdown]
# ## Which way does it push?
#
# Three frames of one angle: 0, 2, 1.
# The change of 2 is followed by one of $-1$, so $\phi = 1$.
# Since $\phi = -(+1)(\theta_3 - \theta_2) = \theta_2 - \theta_3$, the gradient is $+1$ at the second frame and $-1$ at
# the third.
# Descent goes against it: the peak comes down, the dip comes up.
# The sign counts as a constant, so the first frame is not touched.

# %%
three = torch.tensor([0.0, 2.0, 1.0], requires_grad=True)
kinetic_loss(three[None, :, None], torch.full((1, 3), REACH)).backward()
assert three.grad.tolist() == [0.0, 1.0, -1.0]
held = torch.tensor([0.0, 2.0, 1.0], requires_grad=True)
stability_loss(held[None, :, None], torch.full((1, 3), GRASP)).backward()
assert held.grad.tolist() == [-2.0, 3.0, -1.0]
print("reach", three.grad.tolist(), "  hold", held.grad.tolist())

# %% [markdown]
# Now a whole curve: one angle closes by 60°, holds, and opens again, with 3° of noise on it.
# Nothing else is asked of it than the two terms.
# Drag through the steps of descent; the orange lines are the next step, three times as long.

# %%
u = torch.linspace(0, 1, 24)
smooth_step = 60 * (10 * u**3 - 15 * u**4 + 6 * u**5)
true_curve = torch.cat([smooth_step, torch.full((24,), 60.0), smooth_step.flip(0)]).deg2rad()
states = torch.tensor([REACH] * 24 + [GRASP] * 24 + [RELEASE] * 24)
curve = true_curve + torch.tensor(3.0).deg2rad() * torch.randn(72, generator=generator)

descent, pushes = [curve], []
for _ in range(60):
    x = descent[-1].clone().requires_grad_()
    told = 0.2 * kinetic_loss(x[None, :, None], states[None]) + 4 * stability_loss(x[None, :, None], states[None])
    told.backward()
    pushes.append(-x.grad)
    descent.append(descent[-1] - x.grad)

# %% tags=["hide-input", "nbval-ignore-output"]
kept = (0, 1, 2, 4, 8, 15, 30, 59)


def picture(step):
    now, push = descent[step].rad2deg(), 3 * pushes[step].rad2deg()
    gap = torch.full((72,), torch.nan)
    frame = torch.arange(72.0)
    yield go.Scatter(x=frame.numpy(), y=now.numpy().round(2))
    yield go.Scatter(
        x=torch.stack([frame, frame, gap], 1).flatten().numpy(),
        y=torch.stack([now, now + push, gap], 1).flatten().numpy().round(2),
    )


fig = light(go.Figure(), height=470)
for start, name in ((0, "reach"), (24, "stable grasp"), (48, "release")):
    tint = dict(fillcolor=LOOK[(REACH, GRASP, RELEASE)[start // 24]], opacity=0.15, line_width=0, layer="below")
    fig.add_vrect(x0=start - 0.5, x1=start + 23.5, annotation_text=name, annotation_position="bottom left", **tint)
fig.add_scatter(y=true_curve.rad2deg().numpy().round(2), name="truth", line=dict(color="#009E73", width=4))
looks = (dict(name="the angle", mode="lines+markers", line=dict(color="#0072B2", width=2), marker_size=4),)
looks += (dict(name="where it is pushed", mode="lines", line=dict(color="#D55E00", width=3)),)
for trace, look in zip(picture(0), looks, strict=True):
    fig.add_trace(trace.update(look))
fig.update_layout(xaxis_title="frame", yaxis=dict(title="bend (°)", range=[-15, 82]))
films = [go.Frame(data=list(picture(step)), traces=[1, 2], name=str(step)) for step in kept]
show(frames_slider(fig, films, "steps:", 800))

# %% [markdown]
# Look at the three parts after all steps.
# In the middle the angle is nearly constant, but not at 60°: nothing has told it where.
# On the slopes it no longer turns back, but climbs in stairs: nothing has told it to be even.
# The data term has to say the rest.
#
# ## Good marks for a frozen hand
#
# The paper measures both constraints, as KIN and STA.
# Here they are for some motions, from the angles of the fingers, with the error of the joints beside them.

# %%
from handdiff_lib.metrics import mje_mm
from handdiff_lib.physics import kin_deg, sta_deg2
from handdiff_lib.smoothing import smooth_rotations

filtered = replace(shaken, R=smooth_rotations(shaken.R, shaken.valid, 3.0))
frozen = replace(shaken, R=torch.cat([shaken.R[:, :1], shaken.R[:1, 1:].expand(len(shaken), -1, -1, -1)], dim=1))
print("                KIN (°)   STA (°²)   MJE (mm)")
for name, motion in {"clean": clean, "shaken": shaken, "Gaussian, σ = 3": filtered, "frozen": frozen}.items():
    fingers = anatomical_angles(motion.R, axes)[:, 1:].flatten(1)
    kin, sta = kin_deg(fingers)[transit_triplets(state)].mean(), sta_deg2(fingers)[grasp_pairs(state)].mean()
    print(f"{name:15s} {kin:7.0f} {sta:10.1f} {mje_mm(motion.joints(hand), clean.joints(hand)).mean():9.0f}")
    if name == "frozen":
        assert kin < 1e-3
        assert sta < 1e-6

# %% [markdown]
# A hand frozen at its first pose turns back nowhere and never fidgets.
# So a zero in these columns is no proof of anything: read it beside the error.
# The clean motion is near zero too, since it was made by a program that does not hesitate.
#
# ## A gallery of stable grasps
#
# A hand that holds still is where frame-by-frame estimates look worst: everyone sees that nothing moves, and it shakes.
# The paper's appendix C shows such grasps.
# Here are two of ours, from made-up clips that the network has not learned from, with noise like that of a weak
# estimator.
# Each hand is drawn at two moments of its grasp, one through the other, as seen from the thing and from the palm.
# Left is the estimate, in the middle what the network makes of it, right the truth.
# All of them have the true wrist, so that only the fingers differ.
# Drag from grasp to grasp.

# %%
from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.motion import fill_missing
from handdiff_lib.perturb import NoiseConfig, simulated_estimate
from handdiff_lib.presets import config_for
from handdiff_lib.refine import refine

model, card = load_denoiser()


def longest_grasp(state):
    """First frame and the one after the last of the longest stretch of stable grasp."""
    edges = torch.cat([torch.zeros(1), (state == GRASP).float(), torch.zeros(1)]).diff()
    starts, ends = ((edges == sign).nonzero()[:, 0] for sign in (1, -1))
    k = int((ends - starts).argmax())
    return slice(int(starts[k]), int(ends[k]))


grasps = []
for k in (502, 521):  # training has those from 1000 on
    held = synthesize(hand, seed=k, frames=90)
    said = simulated_estimate(held.motion, hand, NoiseConfig.khand_like(), seed=k)
    answer = refine(said, model, hand, config_for(card))
    grasps.append((held, longest_grasp(held.state), {"estimate": fill_missing(said), "refined": answer}))

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.scene import across

INK = {"estimate": "#D55E00", "refined": "#0072B2", "truth": "#009E73"}
eye = torch.tensor([-0.25, -1.0, 0.9])  # from the palm's side
aside = 0.2 * across(eye)


def grasp_scene(held, stretch, tracks):
    """Hands at two moments of a grasp, three columns of them, and the thing, as seen from it."""
    at = torch.linspace(stretch.start, stretch.stop - 1, 2).round().long()
    true_R, wrist = held.motion.R, held.motion.joints(hand)[:, :1]
    to_thing = held.thing.pose[:, :3, :3].mT
    view = rotation.mean_rotation(to_thing[at] @ true_R[at, 0], torch.ones(2)).mT
    hands, things = [], []
    for column, motion in enumerate((*tracks.values(), held.motion)):
        fingers = torch.cat([true_R[:, :1], motion.R[:, 1:]], dim=1)
        skin = replace(held.motion, R=fingers).vertices(hand)  # the true shape, too
        seen = held.thing.local(skin)[at] @ view.mT
        middle = (held.thing.local(wrist)[at] @ view.mT).mean((0, 1))
        hands.append(seen.flatten(0, 1) - middle + (column - 1) * aside)
        things.append(held.thing.vertices @ view.mT - middle + (column - 1) * aside)
    return hands, torch.cat(things)


scenes = [grasp_scene(*one) for one in grasps]
grid = Grid(torch.stack([torch.cat(hands) for hands, _ in scenes]), eye)
faces = torch.cat([hand.faces + k * len(hand.v_template) for k in range(2)])


def thing_mesh(k):
    held, points = grasps[k][0], scenes[k][1]
    corners = torch.cat([held.thing.faces + j * len(held.thing.vertices) for j in range(3)]).numpy()
    return grid.xyz(points) | {name: corners[:, j].astype("uint16") for j, name in enumerate("ijk")}


parts = [mesh(faces, dict(color=colour), opacity=0.3) for colour in INK.values()]
parts += [mesh(faces[:1], dict(color="#777777"), opacity=0.5)]
moving = [lambda k, column=column: grid.xyz(scenes[k][0][column]) for column in range(3)] + [thing_mesh]
fig = film(parts, moving, range(len(grasps)), [str(k + 1) for k in range(len(grasps))])
light(fig).update_layout(**grid.layout(), margin=dict(l=5, r=5, t=10))
show(frames_slider(fig, fig.frames, "grasp", 900))

# %% tags=["nbval-ignore-output"]
from handdiff_lib.metrics import rotation_error_deg

print("grasp   STA (°²): estimate  refined  truth    fingers off (°): estimate  refined")
for k, (held, stretch, tracks) in enumerate(grasps):
    row = []
    for motion in (*tracks.values(), held.motion):
        row.append(sta_deg2(anatomical_angles(motion.R[stretch], axes)[:, 1:].flatten(1)).mean())
    off = [rotation_error_deg(m.R[stretch, 1:], held.motion.R[stretch, 1:]).mean() for m in tracks.values()]
    print(f"{k + 1:5d} {row[0]:18.1f} {row[1]:8.2f} {row[2]:6.2f} {off[0]:26.1f} {off[1]:8.1f}")

# %% [markdown]
# Look at how thick a finger is on the left: two poses of a finger that did not move.
# In the middle they lie closer together, on the right the two are one.
# Then look at *where* they lie, and at the last two columns of the table.
# A grasp that is still is not yet the right grasp: a finger that has been bent too far all along stays bent, and goes
# through the thing or stands off it.
#
# ## Not through the thing
#
# Here is a constraint that the paper lacks.
# A finger must not go *through* a thing.
# For a ball with centre $m$ and radius $\rho$, the depth of a point $v$ of skin is $\rho - \lVert v - m \rVert$, and
#
# $$ L_{depth} = \sum_v \max\big(0,\; \rho - \lVert v - m \rVert\big)^2 . $$
#
# Its gradient runs from the skin through all joints of the finger.
# Drag: first the fingers close into the ball, as an estimator might say; then descent opens them.
# Red skin is inside.

# %%
centre, radius = torch.tensor([0.009, -0.046, 0.002]), 0.032


def depth_loss(skin):
    depth = (radius - (skin - centre).norm(dim=-1)).clamp(min=0)
    return depth.square().sum()


def closed(share):
    grip = torch.zeros(16, 3)
    grip[1:13, 2] = share * torch.tensor([65.0, 75.0, 40.0]).repeat(4).deg2rad()
    grip[13:, 1] = share * torch.tensor([-25.0, -20.0, -30.0]).deg2rad()
    return grip


closing = [closed(share) for share in torch.linspace(0, 0.8, 9)]
opening = [closing[-1]]
for _ in range(24):
    bent = opening[-1].clone().requires_grad_()
    depth_loss(hand.mean_shape().pose(rotation.exp(bent)).skin()).backward()
    bent.grad[0] = 0  # the wrist keeps still
    opening.append(opening[-1] - 2 * bent.grad)
for name, bent in {"closed": closing[-1], "after descent": opening[-1]}.items():
    deepest = radius - (hand.mean_shape().pose(rotation.exp(bent)).skin() - centre).norm(dim=-1).min()
    print(f"{name:13s} deepest point {1000 * deepest:4.1f} mm inside")
assert depth_loss(hand.mean_shape().pose(rotation.exp(opening[-1])).skin()) < 0.05 * depth_loss(
    hand.mean_shape().pose(rotation.exp(closing[-1])).skin()
)

# %% tags=["hide-input", "nbval-ignore-output"]
import trimesh

ball = trimesh.creation.icosphere(3, radius)
ball_points, ball_faces = torch.from_numpy(ball.vertices).float() + centre, torch.from_numpy(ball.faces)
poses = closing + opening[1:9] + opening[10::7]
names = [f"closing, {100 * share:.0f} %" for share in torch.linspace(0, 0.8, 9)]
names += [f"descent, step {k}" for k in [*range(1, 9), *range(10, 25, 7)]]
skins = [hand.mean_shape().pose(rotation.exp(pose)).skin() for pose in poses]
pale, red = torch.tensor([227, 181, 155]), torch.tensor([200, 20, 30])


def inside(skin):
    share = ((radius - (skin - centre).norm(dim=-1)) / 0.004).clamp(0, 1)[:, None]
    return (pale + share * (red - pale)).round().to(torch.uint8).numpy()


eye = torch.tensor([-0.25, -1.0, 0.9])  # from the palm's side
grid = Grid(torch.stack(skins), eye)
parts = [mesh(hand.faces, dict(vertexcolor=inside(skins[0]))), mesh(ball_faces, dict(color="#7AA6C2"), opacity=0.35)]
moving = [lambda k: grid.xyz(skins[k]) | dict(vertexcolor=inside(skins[k])), lambda k: grid.xyz(ball_points)]
fig = film(parts, moving, range(len(poses)), names, active=8)
light(fig).update_layout(**grid.layout(), margin=dict(l=5, r=5, t=10))
show(frames_slider(fig, fig.frames, "", 400, active=8))

# %% [markdown]
# Look at the knuckles: they open too, since each joint that can help is asked to.
# The deeper a finger is, the harder it is pushed; where it only touches, nothing pushes.
# The network that ships sees no thing at all, so it cannot keep this law.
# It could only be kept by one that is told where the thing is.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} Which way?
# :label: ex-13-predict
# ````
# *Predict.* An angle reads 10°, 14°, 12°, 15° in four frames of a reach.
# Which frames does the kinetic term push, and which way?
# And if they were frames of a stable grasp?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-13-predict
# :class: dropdown
# ````
# Up by 4, down by 2, up by 3: both triplets turn back.
# The first pushes frame 2 down and frame 3 up.
# In the second the last change was *down*, so it wants to go on down: it pushes frame 3 up and frame 4 down.
# So the fourth frame, which goes the right way again, is held back: the term judges by the change before, and that one
# was wrong.
# In a grasp each frame is pulled to its neighbours, the ends as well.

# %%
four = torch.tensor([10.0, 14.0, 12.0, 15.0]).deg2rad()
for name, law, key in (("reach", kinetic_loss, REACH), ("grasp", stability_loss, GRASP)):
    x = four.clone().requires_grad_()
    law(x[None, :, None], torch.full((1, 4), key)).backward()
    print(name, ["down" if g > 0 else "up" if g < 0 else "-" for g in x.grad.tolist()])

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Holding still is smoothing
# :label: ex-13-derive
# ````
# *Derive.* Take the gradient of $L_{stability}$ at a frame inside a grasp.
# Which step of descent puts the frame exactly between its two neighbours?
# What happens to a jitter that alternates, up, down, up, down, under one step of that size?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-13-derive
# :class: dropdown
# ````
# $\theta_t$ stands in two of the squares:
#
# $$ \frac{\partial L}{\partial \theta_t} = \frac{2}{|C_g|}\big( 2\theta_t - \theta_{t-1} - \theta_{t+1} \big). $$
#
# With a step of $|C_g| / 4$ the new value is $\frac12(\theta_{t-1} + \theta_{t+1})$: that is the size of the green
# frames' arrows above.
# All frames move at once, so an alternating jitter does not vanish; it changes its sign.
# With half of that step it is gone at once: $\frac14\theta_{t-1} + \frac12\theta_t + \frac14\theta_{t+1}$.
# Descent on this term *is* a smoothing filter, inside the grasp and nowhere else.

# %%
count = 20
jitter = torch.tensor([1.0, -1.0]).repeat(count // 2)
for share in (4, 8):
    x = jitter.clone().requires_grad_()
    stability_loss(x[None, :, None], torch.full((1, count), GRASP)).backward()
    moved = jitter - (count - 1) / share * x.grad
    wanted = -jitter if share == 4 else torch.zeros(count)
    torch.testing.assert_close(moved[1:-1], wanted[1:-1], atol=1e-6, rtol=0)
print("a quarter of |C| turns the jitter over, an eighth takes it away: yes")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Constant acceleration
# :label: ex-13-build
# ````
# *Build.* In its Table 3 the paper compares with a cruder law, the same in all states: acceleration does not change.
# Write `constant_acceleration(p)` for joints `p` (t, 21, 3): the mean over frames and joints of the squared length of
# the third difference, $p_{t+3} - 3 p_{t+2} + 3 p_{t+1} - p_t$.
# Where $p$ goes along x as $t^2$ it must be 0, and as $t^3$ it must be 36:
#
# ```python
# line = torch.zeros(10, 21, 3)
# line[..., 0] = torch.arange(10.0)[:, None]
# assert constant_acceleration(line**2) == 0
# assert constant_acceleration(line**3) == 36
# ```
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-13-build
# :class: dropdown
# ````


# %%
def constant_acceleration(p):
    return (p[3:] - 3 * p[2:-1] + 3 * p[1:-2] - p[:-3]).square().sum(-1).mean()


line = torch.zeros(10, 21, 3)
line[..., 0] = torch.arange(10.0)[:, None]
assert constant_acceleration(line**2) == 0
assert constant_acceleration(line**3) == 36
jerk = [constant_acceleration(1000 * motion.joints(hand)) for motion in (clean, shaken)]
assert jerk[1] > 10 * jerk[0]

# %% [markdown]
# It sees the jitter as well as the two terms do.
# But it also forbids what is right: a touch is a sudden stop.
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} No sliding
# :label: ex-13-explore
# ````
# *Explore.* A finger tip that touches the thing in a stable grasp should not slide on it.
# Measure it for the clean and the shaken motion: the speed of touching tips, seen from the thing.
# Is it a new constraint, or does $L_{stability}$ say it already?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-13-explore
# :class: dropdown
# ````
# `annotate` says which digits touch.
# Besides the shaken fingers we shake the wrist alone, by two degrees: the fingers then keep still, seen from the hand.

# %%
from handdiff_lib.states import annotate

touching = annotate(clean, hand, clip.thing).contact[:, :5]
wrist_error = torch.zeros(len(clean), 16, 3)
wrist_error[:, 0] = torch.tensor(2.0).deg2rad() * torch.randn(len(clean), 3, generator=generator)
wrist_shaken = replace(clean, R=clean.R @ rotation.exp(wrist_error))


def slide_mm(motion):
    tips = clip.thing.local(motion.joints(hand))[:, [4, 8, 12, 16, 20]]
    counts = touching[1:] & touching[:-1] & grasp_pairs(state)[:, None]
    return 1000 * tips.diff(dim=0).norm(dim=-1)[counts].mean()


found = {}
for name, motion in {"clean": clean, "fingers shaken": shaken, "wrist shaken": wrist_shaken}.items():
    fingers = anatomical_angles(motion.R, axes)[:, 1:].flatten(1)
    found[name] = slide_mm(motion), sta_deg2(fingers)[grasp_pairs(state)].mean()
assert found["wrist shaken"][0] > 3 * found["clean"][0]
torch.testing.assert_close(found["wrist shaken"][1], found["clean"][1], atol=1e-3, rtol=1e-2)

# %% tags=["nbval-ignore-output"]
print("                 slide (mm/frame)   STA (°²)")
for name, (slide, sta) in found.items():
    print(f"{name:16s} {slide:12.2f} {sta:13.2f}")

# %% [markdown]
# It is new: stability looks at the angles of the fingers alone, so that the hand may carry what it holds.
# A wrist that shakes drags the tips over the thing, and STA does not notice.
# To charge for it one has to know the thing's motion, which estimators of hands do not give.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - What must not happen becomes a number that is zero when it does not, and its gradient says where to go.
# - Reaching and releasing are charged for turning back, a stable grasp for every motion of the fingers.
# - Such terms say how a hand moves, not where it is: a frozen hand satisfies them all.
