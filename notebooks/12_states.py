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
# # States of a motion
#
# A hand comes to a thing, holds it, turns it about, and lets it go.
# Each of these has rules of its own, so a network should know which one it sees.
# Who tells it, frame by frame, for a thousand recordings?
#
# On this page
# - two signals tell the four states apart: do hand and thing touch, and how does the distance between them change,
# - a threshold needs two levels and some patience, or else a label flickers,
# - the answer is the best *path* through the states, and it reads the same backwards in time.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
clip_seed = 1  # which made-up clip
frames = 150
seed = 0

# %% [markdown]
# ## A hand and a thing
#
# The clip is made up: a program moves the open hand, and its fingers close until they touch.
# The colour of the hand is its state, read from the geometry alone.

# %%
import torch

from handdiff_lib.hand import load_hand
from handdiff_lib.states import annotate
from handdiff_lib.synth import synthesize
from handdiff_lib.topology import FREE, GRASP, MANIPULATE, REACH, RELEASE, STATES

hand = load_hand()
clip = synthesize(hand, seed=clip_seed, frames=frames)
motion, thing = clip.motion, clip.thing
found = annotate(motion, hand, thing)
print("states in this clip:", ", ".join(STATES[k] for k in range(4) if (found.state == k).any()))

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib import rotation
from handdiff_lib.scene import EYE, Grid, film, mesh
from handdiff_lib.view import frames_slider, light, show

LOOK = {REACH: "#56B4E9", GRASP: "#009E73", MANIPULATE: "#E69F00", RELEASE: "#CC79A7", FREE: "#C8C8C8"}
NAMES = dict(enumerate(STATES)) | {FREE: "free"}

to_view = rotation.mean_rotation(motion.R[:, 0], torch.ones(frames))
ours = motion.vertices(hand)
thing_points = thing.vertices @ thing.pose[:, :3, :3].mT + thing.pose[:, None, :3, 3]
middle = ours.flatten(0, 1).mean(0)
ours, its = ((points - middle) @ to_view for points in (ours, thing_points))
shown = list(range(0, min(frames, 117), 2))  # later the hand is far away
grid = Grid(torch.cat([ours, its], dim=1)[shown], torch.tensor(EYE))
parts = [mesh(hand.faces, {}), mesh(thing.faces, dict(color="#999999"))]
moving = [
    lambda k: grid.xyz(ours[k]) | dict(color=LOOK[int(found.state[k])]),
    lambda k: grid.xyz(its[k]),
]
names = [f"{k / motion.fps:.1f} s, {NAMES[int(found.state[k])]}" for k in shown]
fig = film(parts, moving, shown, names, active=12)
light(fig).update_layout(**grid.layout(), margin=dict(l=5, r=5, t=10))
show(frames_slider(fig, fig.frames, "", 67, active=12))

# %% [markdown]
# Blue comes, green holds, orange moves in contact, pink goes; grey is none of these.
# Look at where the colour changes: is it at the first touch, or before?
#
# ## What tells them apart
#
# The paper {cite:p}`dip` defines the four states by contact, and by how the distance $d(t)$ between hand and thing
# changes (its section 3.3 and figure 4):
#
# | | no contact | contact |
# |---|---|---|
# | $d$ falls | reach | |
# | $d$ and fingers still | | stable grasp |
# | fingers or thing move | | manipulate |
# | $d$ grows | release | |
#
# It gives no thresholds and does not say how $d(t)$ is measured; what follows is ours.
# The distance of the *surfaces* is zero all through the contact and says nothing there.
# So we take the mean over the 21 joints $p_k$, which lie inside the hand:
#
# $$ d(t) = \frac{1}{21} \sum_{k=1}^{21} \; \min_{q\, \in\, \text{surface}(t)} \lVert p_k(t) - q \rVert . $$
#
# Jitter would make its rate useless, so it passes through a Gaussian of a twentieth of a second.

# %%
from handdiff_lib.smoothing import smooth

joints = motion.joints(hand)
nearest = thing.distance(joints)  # (t, 21): of each joint to the surface, 0 inside
d = smooth(nearest.mean(1, keepdim=True), motion.valid, 0.05 * motion.fps)[:, 0]
torch.testing.assert_close(d, found.distance, atol=1e-5, rtol=0)

# %% [markdown]
# Is that distance the least over the *surface*?
# We scatter points over the triangles and look for the nearest.

# %%
generator = torch.Generator().manual_seed(seed)
corner = thing.vertices[thing.faces]
area = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]).norm(dim=1)
which = torch.multinomial(area, 40_000, replacement=True, generator=generator)
share = torch.rand(40_000, 3, generator=generator).log()
share = share / share.sum(1, keepdim=True)  # even over a triangle
scattered = (share[:, :, None] * corner[which]).sum(1)
outside = nearest[0] > 0
by_points = torch.cdist(thing.local(joints)[0], scattered).amin(1)
print("within a millimetre:", bool(((by_points - nearest[0])[outside].abs() < 0.001).all()))
assert ((by_points - nearest[0])[outside].abs() < 0.001).all()

# %% [markdown]
# `signals` measures this and all else that the rules need.
# Play, or click into the curves: the cursor follows.

# %%
from handdiff_lib.contact import signals

s = signals(motion, hand, thing, near=0.005, smooth_s=0.05)

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import player

one = "made up"
lines = {
    "distance d (cm)": {one: torch.from_numpy(100 * s.distance)},
    "its change (cm/s)": {one: torch.from_numpy(100 * s.approach)},
    "fingers turn (°/s)": {one: torch.from_numpy(s.turn).rad2deg()},
}
show(player({one: motion}, hand, steady=False, trails=10, lines=lines, states={one: found.state}))

# %% [markdown]
# Look at $d$ at the end of the reach: it still falls after the first touch, while the fingers close.
#
# ## Two levels and some patience
#
# When do they touch?
# If "nearer than 5 mm" were all, a finger at 5 mm would touch, and not, and touch, as the noise goes.
# So contact *begins* below 5 mm, with five points of the skin at least, and *ends* above 10 mm; in between it stays
# what it was.
# This is called hysteresis.
# Besides, a touch or a gap shorter than a tenth of a second does not count.
#
# Drag the lower level; the upper one is twice as high.

# %%
from handdiff_lib.states import StateConfig

levels_mm = (1, 2, 5, 10, 20, 40)
for_level = {
    mm: annotate(motion, hand, thing, config=StateConfig(contact_on=mm / 1000, contact_off=2 * mm / 1000)).state
    for mm in levels_mm
}

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go
from plotly.subplots import make_subplots

time = torch.arange(frames) / motion.fps
curves = {"nearest point (mm)": 1000 * s.gap, "change of d (cm/s)": 100 * s.approach}
fig = make_subplots(3, 1, shared_xaxes=True, row_heights=[0.12, 0.44, 0.44], vertical_spacing=0.05)


def labelled(mm):
    state = for_level[mm]
    for key in (*range(4), FREE):
        yield go.Bar(x=time.numpy(), y=(state == key).int().numpy())
    yield go.Scatter(x=[0, time[-1].item(), None, 0, time[-1].item()], y=[mm, mm, None, 2 * mm, 2 * mm])


for key, bar in zip((*range(4), FREE), labelled(5), strict=False):
    look = dict(marker=dict(color=LOOK[key], line_width=0), name=NAMES[key], hoverinfo="skip")
    fig.add_trace(bar.update(look), row=1, col=1)
rule = dict(mode="lines", line=dict(color="#D55E00", width=1.5, dash="dash"), name="begins, ends", showlegend=False)
fig.add_trace(list(labelled(5))[-1].update(rule), row=2, col=1)
for row, values in enumerate(curves.values(), 2):
    fig.add_scatter(x=time, y=values.round(2), line=dict(color="#222222"), showlegend=False, row=row, col=1)
fig.add_hline(y=3, row=3, line=dict(color="#D55E00", dash="dash", width=1.5))
fig.add_hline(y=-3, row=3, line=dict(color="#D55E00", dash="dash", width=1.5))
light(fig, height=600).update_layout(barmode="stack", bargap=0, legend_traceorder="normal")
fig.update_yaxes(visible=False, row=1)
fig.update_yaxes(title="nearest (mm)", range=[0, 32], row=2).update_yaxes(title="change (cm/s)", row=3)
fig.update_xaxes(title="time (s)", row=3)
films = [go.Frame(data=list(labelled(mm)), traces=list(range(6)), name=f"{mm} mm") for mm in levels_mm]
show(frames_slider(fig, films, "contact begins at", 800, active=levels_mm.index(5)))

# %% [markdown]
# Orange lines are thresholds.
# Look at the strip: a level that is too low loses touches, and what it loses becomes release or reach.
# At 1 mm there is no contact at all, and then no reach and no release either, since there is nothing to reach for.
# A level that is too high eats the ends of reach and release, and calls them manipulation.
#
# ## The best path
#
# Rules frame by frame still flicker where a signal runs along a threshold.
# So they only give scores $s_t(c)$: 0 for the state $c$ that the rules say, below 0 for others, by how clear the case
# is.
# The answer is the sequence of states with the best sum, where an unusual turn has its price:
#
# $$ c_{1:T} = \arg\max \; \sum_t s_t(c_t) - \sum_t w(c_{t-1}, c_t) . $$
#
# From a reach to a grasp costs nothing, from a release straight to a grasp costs as much as four plain frames.
# Viterbi's algorithm {cite:p}`viterbi1967` finds the best of $5^T$ paths in $25\,T$ steps.
# For five frames one can try them all.

# %%
from functools import partial
from itertools import pairwise, product

from handdiff_lib.states import USUAL, best_states

slow = StateConfig(state_s=0.1)
fps = 10  # so that a state may last one frame


def worth(path, scores):
    turns = sum(before != after and (before, after) not in USUAL for before, after in pairwise(path))
    return 30 / fps * sum(row[c] for row, c in zip(scores, path, strict=True)) - slow.unusual * turns


for _ in range(5):
    scores = -2 * torch.rand(5, 5, generator=generator).double()
    best = max(product(range(5), repeat=5), key=partial(worth, scores=scores.tolist()))
    assert best == tuple(best_states(scores.numpy(), fps, slow)[0].tolist())
print("the library's path is the best of", 5**5)

# %% [markdown]
# Scores count per second, not per frame, so that 60 frames a second do not weigh twice as much: hence the factor
# $30 / f$ for the frame rate $f$.
#
# Here are the states once more, as the paper draws them in its figure 4: each with what defines it, and the turns from
# one to the next.
# Solid arrows are turns that this clip takes, dashed ones cost nothing but do not happen here.
# Drag through the clip: the state of the moment is filled.

# %% tags=["hide-input", "nbval-ignore-output"]
PLACE = {REACH: (0.0, 1.2), GRASP: (2.2, 2.0), MANIPULATE: (2.2, 0.6), RELEASE: (4.4, 1.2), FREE: (2.2, -0.8)}
MEANS = {REACH: "no contact<br>d falls", GRASP: "contact<br>all is still", MANIPULATE: "contact<br>not still"}
MEANS |= {RELEASE: "no contact<br>d grows", FREE: "neither"}
taken = {(int(a), int(b)) for a, b in pairwise(found.state) if a != b}
usual = {tuple(FREE if k == 4 else k for k in turn) for turn in USUAL}


def nodes(k):
    now = int(found.state[k])
    fill = [LOOK[key] if key == now else "#FFFFFF" for key in PLACE]
    said = [f"<b>{NAMES[key]}</b><br>{MEANS[key]}" for key in PLACE]
    x, y = zip(*PLACE.values(), strict=True)
    line = dict(color=[LOOK[key] for key in PLACE], width=4)
    marker = dict(size=84, color=fill, line=line)
    return go.Scatter(x=x, y=y, text=said, mode="markers+text", textfont_size=10, marker=marker, hoverinfo="skip")


fig = light(go.Figure(), height=580)
for a, b in sorted(usual | taken):
    (x0, y0), (x1, y1) = PLACE[a], PLACE[b]
    way = torch.tensor([x1 - x0, y1 - y0])
    way = way / way.norm()
    aside = 0.07 * torch.stack([-way[1], way[0]])  # so that there and back stand side by side
    ends = torch.tensor([[x0, y0], [x1, y1]]) + torch.stack([0.42 * way, -0.42 * way]) + aside
    done = (a, b) in taken
    look = dict(mode="lines+markers", hoverinfo="skip", line=dict(color="#333333", dash="solid" if done else "dot"))
    head = dict(symbol="arrow", size=[0, 14], angleref="previous", color="#333333" if done else "#AAAAAA")
    look["line"] |= dict(width=2.5 if done else 1) | ({} if done else dict(color="#AAAAAA"))
    fig.add_scatter(x=ends[:, 0].tolist(), y=ends[:, 1].tolist(), marker=head, **look)
fig.add_trace(nodes(0))
fig.update_xaxes(visible=False, range=[-0.8, 5.2]).update_yaxes(visible=False, range=[-1.3, 2.5])
fig.update_layout(showlegend=False, margin=dict(l=5, r=5, t=10))
every = range(0, frames, 3)
films = [go.Frame(data=[nodes(k)], traces=[len(fig.data) - 1], name=f"{k / motion.fps:.1f} s") for k in every]
show(frames_slider(fig, films, "", 100))

# %% [markdown]
# Look at the two arrows between stable grasp and manipulate: a hand that turns a thing goes to and fro between them.
# The paper speaks of free motion, too, and has no state for it; here it stays out of the losses on states and physics.
#
# ## Backwards
#
# A film of a reach, played backwards, shows a release.
# So a rule that looked only at the past would be wrong: played backwards, it would say something else.
# Ours must not.

# %%
from dataclasses import replace

backwards = annotate(
    replace(motion, R=motion.R.flip(0), transl=motion.transl.flip(0)), hand, replace(thing, pose=thing.pose.flip(0))
).state.flip(0)
mirrored = backwards.clone()
mirrored[backwards == REACH], mirrored[backwards == RELEASE] = RELEASE, REACH
print("the same backwards:", bool((mirrored == found.state).float().mean() > 0.98))
assert (mirrored == found.state).float().mean() > 0.98

# %% [markdown]
# Training uses this: it plays half of its motions backwards, and a recording that stops before the release teaches
# releasing all the same.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} On a train
# :label: ex-12-predict
# ````
# *Predict.* The whole scene, hand and thing, is on a train that starts to move, at up to 10 m/s.
# Which labels change?
# And if the hand holds the thing still and carries it through the room?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-12-predict
# :class: dropdown
# ````
# None.
# Every signal compares the hand with the thing or with itself: distances, turning of the fingers, finger tips seen
# from the thing.
# Where the two are in the world does not enter.
# So carrying is a stable grasp, however fast the wrist moves.

# %%
ride = torch.zeros(frames, 3)
ride[:, 0] = (0.5 * 4 * (torch.arange(frames) / motion.fps) ** 2).clamp(max=20)
pose = thing.pose.clone()
pose[:, :3, 3] += ride
on_train = annotate(replace(motion, transl=motion.transl + ride), hand, replace(thing, pose=pose))
assert (on_train.state == found.state).float().mean() > 0.98
print("the same on the train:", bool((on_train.state == found.state).float().mean() > 0.98))

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} A threshold from noise
# :label: ex-12-derive
# ````
# *Derive.* In a recording the surfaces are off by a Gaussian error with standard deviation $\sigma$.
# At which level should contact begin if 97 of 100 true touches are to be found?
# How far away must a hand be so that it is taken for touching in no more than 3 of 100 frames, if contact ends at
# twice that level?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-12-derive
# :class: dropdown
# ````
# A true touch has distance 0 and is seen at $\sigma\epsilon$.
# It is missed when $\sigma\epsilon$ is above the level, and a Gaussian is above $2\sigma$ in 2.3 % of the cases: begin
# at $2\sigma$.
#
# A hand at distance $\delta$ is seen at $\delta + \sigma\epsilon$.
# It goes on touching, once it has begun, below $4\sigma$, and that happens in 2.3 % of the cases at
# $\delta = 4\sigma + 2\sigma = 6\sigma$.
# It *begins* to touch below $2\sigma$: in 2.3 % at $\delta = 4\sigma$.
# `StateConfig.for_noise` does this, and never goes below 3 mm.

# %%
noise = 0.004
chosen = StateConfig().for_noise(noise)
assert (chosen.contact_on, chosen.contact_off) == (2 * noise, 4 * noise)
error = noise * torch.randn(1_000_000, generator=generator)
print(f"touches missed {100 * (error > chosen.contact_on).float().mean():.0f} %")
print(f"begun from 4σ away {100 * (4 * noise + error < chosen.contact_on).float().mean():.0f} %")
print(f"held from 6σ away {100 * (6 * noise + error < chosen.contact_off).float().mean():.0f} %")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Label a clip
# :label: ex-12-build
# ````
# *Build.* Write `label(s)`, the rules without the path: from the signals `s` to a state a frame.
# Contact begins below 5 mm and ends above 10 mm (`s.gap`).
# In contact the hand is still while the fingers turn slower than 35° per second (`s.turn`) and the tips slide slower
# than 3 cm per second (`s.slide`).
# Out of contact, $d$ falls or grows by more than 3 cm per second (`s.approach`), or the hand is free.
# Check it with `assert (label(s) == found.state).float().mean() > 0.8`.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-12-build
# :class: dropdown
# ````


# %%
def label(s):
    labels, touching = [], False
    for gap, turn, slide, approach in zip(s.gap, s.turn, s.slide, s.approach, strict=True):
        touching = gap <= 0.010 if touching else gap < 0.005
        if touching:
            is_still = turn < torch.pi * 35 / 180 and slide < 0.03
            labels.append(GRASP if is_still else MANIPULATE)
        else:
            labels.append(REACH if approach < -0.03 else RELEASE if approach > 0.03 else FREE)
    return torch.tensor(labels)


assert (label(s) == found.state).float().mean() > 0.8


# %% tags=["nbval-ignore-output"]
def changes(state):
    return int((state.diff() != 0).sum())


print(f"the rules agree with the path in {100 * (label(s) == found.state).float().mean():.0f} % of the frames")
print(f"changes of state: rules {changes(label(s))}, path {changes(found.state)}")

# %% [markdown]
# Most of the difference is flicker, and reach and release that the rules do not end where the contact begins.
# Looking forward from the first touch, as this loop does, also breaks the symmetry in time.
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Without a distance
# :label: ex-12-explore
# ````
# *Explore.* Often contact is all that one has: a glove, a touch sensor, a guess from the picture.
# Say what the four states would be from contact and fingers alone, and compare with the labels of the library on
# other clips.
# Which of the four suffers?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-12-explore
# :class: dropdown
# ````
# Out of contact, a contact to come within a second means reach, one that has been means release, the nearer of the two
# if there are both.


# %%
def from_contact(s, fps):
    state = label(s)
    contact = ((state == GRASP) | (state == MANIPULATE)).nonzero()[:, 0]
    for t in ((state != GRASP) & (state != MANIPULATE)).nonzero()[:, 0]:
        wait = contact - t
        near = wait[wait.abs().argmin()] if len(wait) else torch.tensor(10_000)
        state[t] = FREE if near.abs() > fps else REACH if near > 0 else RELEASE
    return state


# %% tags=["nbval-ignore-output"]
right, count = torch.zeros(5), torch.zeros(5)
for other in range(20, 23):
    made = synthesize(hand, seed=other, frames=120)
    guess = from_contact(signals(made.motion, hand, made.thing, near=0.005, smooth_s=0.05), made.motion.fps)
    for row, key in enumerate((*range(4), FREE)):
        right[row] += ((made.state == key) & (guess == key)).sum()
        count[row] += (made.state == key).sum()
for row, key in enumerate((*range(4), FREE)):
    print(f"{NAMES[key]:13s} {100 * right[row] / count[row].clamp(min=1):3.0f} % of {count[row]:.0f} frames")

# %% [markdown]
# Contact alone cannot see *when* a reach begins: a hand that waits near the thing looks like one that comes.
# Free motion suffers most, and whatever takes its frames.
# For a constraint that only speaks of reaching hands this is harmful: it would forbid a waiting hand to turn back.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - Two signals tell the four states apart: do hand and thing touch, and how does the distance between them change.
# - A threshold needs two levels and some patience, or else a label flickers.
# - The answer is the best *path* through the states, and it reads the same backwards in time.
