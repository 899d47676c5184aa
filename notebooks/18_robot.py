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
# # From hand to robot
#
# A gripper copies what a camera says of your thumb and your index finger.
# On a screen shaking is ugly; in a motor it is current, heat and noise.
# What does a motor want of a motion?
#
# On this page
# - two finger tips become four joint angles, by the law of cosines, and near a stretched or folded finger small errors
#   become large,
# - jerk is the third difference times the cube of the frame rate, so a little shaking makes a great deal of it,
# - a servo swallows what is fast and passes on what stays, so the error that lasts is the one to fear.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
apart_mm = 52.0  # between the two bases of the gripper, like thumb and index knuckle of this hand
link_mm = 46.0  # both links of both fingers
seed = 0

# %% [markdown]
# ## What the robot is told
#
# The gripper sits on an arm, and the arm follows the wrist, so only what the fingers do as seen from the wrist matters
# here.
# It lives in a plane: across from the base of the thumb to the knuckle of the index finger, and up to where the two
# tips are on average.
# All of it is made up, the motion and the noise, and there is no robot: we ask what the motors would be told to do.

# %%
import torch
from torch.nn.functional import normalize

from handdiff_lib import rotation
from handdiff_lib.baselines import best_gaussian, gaussian
from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.hand import DATA, load_hand
from handdiff_lib.motion import fill_missing
from handdiff_lib.presets import config_for
from handdiff_lib.refine import refine
from handdiff_lib.storage import load_motion

clip, hand = load_motion(DATA / "clips" / "demo.npz"), load_hand()
model, card = load_denoiser()
before, truth = clip["right"], clip["right.truth"]
fps = truth.fps
tracks = {"before": fill_missing(before), "after": refine(before, model, hand, config_for(card)), "truth": truth}


def from_wrist_mm(motion):
    joints = motion.joints(hand)
    return 1000 * (joints - joints[:, :1]) @ motion.R[:, 0]


BASES, TIPS = [1, 5], [4, 8]  # thumb and index, in the order of 21 joints
points = from_wrist_mm(tracks["before"])
u = normalize((points[:, 5] - points[:, 1]).mean(0), dim=0)
up = (points[:, TIPS] - points[:, BASES]).mean((0, 1))
plane = torch.stack([u, normalize(up - (up @ u) * u, dim=0)])


def tips_in_plane(motion):
    """Where the two tips are, (t, 2, 2) in mm from the base of the thumb."""
    points = from_wrist_mm(motion)
    return (points[:, TIPS] - points[:, 1:2]) @ plane.mT


told = {name: tips_in_plane(motion) for name, motion in tracks.items()}

# %% [markdown]
# ## Two links
#
# A finger of the gripper has two links of length $\ell$ and two angles, $q_1$ at its base and $q_2$ at its elbow.
# Which angles bring its tip to the point $(x, y)$, seen from the base?
# The links and the way $r = \sqrt{x^2 + y^2}$ form a triangle.
# The law of cosines gives the elbow, and two more angles the base:
#
# $$ \cos q_2 = \frac{r^2 - 2\ell^2}{2\ell^2}, \qquad
#    q_1 = \operatorname{atan2}(y, x) - \operatorname{atan2}\big(\ell \sin q_2,\; \ell + \ell \cos q_2\big). $$
#
# There are two answers, one for each side on which the elbow may be.
# The thumb takes the left one and the other finger the right one.

# %%
SIDE = torch.tensor([1.0, -1.0])  # 1: elbow on the left, so that q2 turns to the right
BASE = torch.tensor([[0.0, 0.0], [apart_mm, 0.0]])


def angles_to(tips):
    """Angles (t, finger, 2) that bring the gripper's tips to points in the plane, or as near as it reaches."""
    x, y = (tips - BASE).unbind(-1)
    cosine = (x**2 + y**2 - 2 * link_mm**2) / (2 * link_mm**2)
    q2 = -SIDE * torch.acos(cosine.clamp(-1, 1))
    q1 = torch.atan2(y, x) - torch.atan2(link_mm * torch.sin(q2), link_mm + link_mm * torch.cos(q2))
    return torch.stack([q1, q2], dim=-1)


def gripper(q):
    """Base, elbow and tip of each finger, (t, finger, 3, 2) in mm."""
    turned = q.cumsum(-1)
    links = link_mm * torch.stack([turned.cos(), turned.sin()], dim=-1)
    return torch.cat([BASE.expand(len(q), 2, 2)[:, :, None], BASE[:, None] + links.cumsum(-2)], dim=2)


q = {name: angles_to(tips) for name, tips in told.items()}
torch.testing.assert_close(gripper(q["truth"])[:, :, 2], told["truth"], atol=1e-3, rtol=0)

# %% [markdown]
# Is this the walk along a finger from page 1?
# There each joint turns about an axis and carries what is beyond; here all axes are $z$.

# %%
about_z = torch.zeros(len(truth), 2, 2, 3)
about_z[..., 2] = q["truth"]
R1, R2 = rotation.exp(about_z).unbind(2)
link = torch.tensor([link_mm, 0.0, 0.0])
walked = R1 @ link + R1 @ R2 @ link
torch.testing.assert_close(walked[..., :2] + BASE, told["truth"], atol=1e-3, rtol=0)

# %% [markdown]
# The gripper, told by the raw estimate on the left and by the refined one on the right; in green what the true hand
# would tell it.
# Below, the jerk that the four motors are told to make, on a scale on which a step up is a factor of ten.
# Press Play.

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from handdiff_lib.view import frames_slider, light, show

look = {"before": "#D55E00", "after": "#0072B2", "truth": "#009E73"}
drawn = {name: gripper(angles) for name, angles in q.items()}
jerk_of = {name: (angles.diff(n=3, dim=0) * fps**3).flatten(1).norm(dim=1).rad2deg() for name, angles in q.items()}


def fingers(name, frame, width):
    gap = torch.full((2, 1, 2), torch.nan)
    x, y = torch.cat([drawn[name][frame], gap], dim=1).flatten(0, 1).mT.numpy().round(1)
    return go.Scatter(x=x, y=y, mode="lines+markers", line=dict(color=look[name], width=width), marker_size=width + 3)


def trail(name, frame):
    path = told[name][max(0, frame - 12) : frame + 1]
    gap = torch.full((1, 2, 2), torch.nan)
    x, y = torch.cat([path, gap]).transpose(0, 1).flatten(0, 1).mT.numpy().round(1)
    return go.Scatter(x=x, y=y, mode="lines", line=dict(color=look[name], width=1.5))


def scene(frame):
    for name in ("before", "after"):
        yield from (fingers("truth", frame, 3), fingers(name, frame, 5), trail(name, frame))
    yield go.Scatter(x=[frame, frame], y=[1e2, 1e7], mode="lines", line=dict(color="#333333", width=1))


shown = 60
specs = [[{}, {}], [{"colspan": 2}, None]]
fig = make_subplots(
    2, 2, specs=specs, subplot_titles=["before", "after", "jerk (°/s³)"], row_heights=[0.6, 0.4], vertical_spacing=0.09
)
for k, trace in enumerate(scene(shown)):
    fig.add_trace(trace, row=1 if k < 6 else 2, col=k // 3 + 1 if k < 6 else 1)
for name, values in jerk_of.items():
    fig.add_scatter(x0=1, y=values.numpy().round(), line=dict(color=look[name], width=1.5), row=2, col=1)
low, high = torch.cat([points.flatten(0, 2) for points in drawn.values()]).quantile(torch.tensor([0.01, 0.99]), dim=0)
for col in (1, 2):
    fig.update_xaxes(visible=False, range=[low[0].item() - 4, high[0].item() + 4], row=1, col=col)
    fig.update_yaxes(visible=False, range=[low[1].item() - 4, high[1].item() + 4], row=1, col=col)
    fig.update_yaxes(scaleanchor=f"x{'' if col == 1 else col}", row=1, col=col)
fig.update_yaxes(type="log", range=[2.5, 6.5], dtick=1, row=2, col=1)
light(fig, height=680).update_layout(showlegend=False, margin=dict(l=55, r=10, t=30))
every = list(range(0, len(truth), 3))
moments = [go.Frame(data=list(scene(k)), traces=list(range(7)), name=str(k)) for k in every]
show(frames_slider(fig, moments, "frame", 100, every.index(shown)))

# %% [markdown]
# Look at the thin lines behind the tips: those on the left are scribbles, those on the right paths.
# Where the orange curve falls out of the picture nothing was seen, and an even turn across the gap has no jerk.
#
# ## Jerk
#
# A motor makes torque, torque makes acceleration, and a drive that is to change torque at once cannot.
# So one limits **jerk**, the change of acceleration.
# From angles at $f$ frames a second it is the third difference times $f^3$:
#
# $$ \dddot q_t \approx f^3 \,\big( q_{t+2} - 3\, q_{t+1} + 3\, q_t - q_{t-1} \big). $$
#
# It is also what people keep small {cite:p}`flash1985`: the minimum-jerk curve of page 3 has its name from it.


# %%
def jerk(q):
    return fps**3 * (q[3:] - 3 * q[2:-1] + 3 * q[1:-2] - q[:-3])


def rms(x):
    return x.square().mean().sqrt().item()


from handdiff_lib.metrics import jitter_mm

line = told["before"].new_zeros(len(truth), 2, 3)  # two points: the wrist at rest, and one that moves
line[:, 1, :2] = told["before"][:, 0] / 1000
torch.testing.assert_close(jerk(told["before"][:, 0]).norm(dim=-1) / fps**3, 2 * jitter_mm(line), atol=1e-2, rtol=0)

# %% [markdown]
# `jitter_mm` is the same third difference, per frame, averaged over joints; here half of the joints stand still.
#
# Which is the better command?
# We add the Gaussian filter with the width that is best on this very clip, which a robot would not know, and a filter
# that a robot could run: each new angle is a weighted mean of the last one and what is said now, so that nothing of the
# future is needed.

# %% tags=["nbval-ignore-output"]


def causal(q, keep):
    """Exponential smoothing: `keep` of the last angle, the rest from the new one."""
    answer = [q[0]]
    for now in q[1:]:
        answer.append(keep * answer[-1] + (1 - keep) * now)
    return torch.stack(answer)


sigma = best_gaussian([(before, truth)], (0.5, 1, 2, 3, 4, 6), hand)
commands = {
    "before": q["before"],
    "causal, keep 0.8": causal(q["before"], 0.8),
    f"Gaussian, σ = {sigma:g}": angles_to(tips_in_plane(gaussian(before, sigma))),
    "after": q["after"],
    "truth": q["truth"],
}
print("                    jerk (°/s³)   tips off (mm)")
for name, angles in commands.items():
    off = (gripper(angles)[:, :, 2] - told["truth"]).norm(dim=-1).mean()
    print(f"{name:18s} {rms(jerk(angles).rad2deg()):12,.0f} {off:15.1f}")
assert rms(jerk(q["after"])) < 0.3 * rms(jerk(q["before"]))

# %% [markdown]
# Compare the first column with its last row, which is what the hand itself would ask for.
# Then compare the second column of the two filters: why is the causal one worse?
# It answers with the past.
# The next figure has its delay.
# Drag the slider to smooth more, and look at where the curve turns.

# %% tags=["hide-input", "nbval-ignore-output"]
keeps = [0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95]
time = (torch.arange(len(truth)) / fps).numpy().round(3)
smoothed = {keep: causal(q["before"], keep) for keep in keeps}


def error_and_jerk(angles):
    off = (gripper(angles)[:, :, 2] - told["truth"]).norm(dim=-1).mean().item()
    return [round(off, 2)], [round(rms(jerk(angles).rad2deg()))]


def compared(keep):
    x, y = error_and_jerk(smoothed[keep])
    elbow = smoothed[keep][:, 1, 1].rad2deg().numpy().round(1)
    return [go.Scatter(x=time, y=elbow), go.Scatter(x=x, y=y)]


fig = make_subplots(2, 1, row_heights=[0.5, 0.5], vertical_spacing=0.16)
fig.add_trace(compared(0.8)[0].update(name="causal filter", line=dict(color="#E69F00", width=3)), row=1, col=1)
fig.add_trace(compared(0.8)[1].update(mode="markers", showlegend=False), row=2, col=1)
fig.data[1].update(marker=dict(size=15, color="#E69F00"))
for name in ("after", "truth"):
    elbow = q[name][:, 1, 1].rad2deg().numpy().round(1)
    fig.add_scatter(x=time, y=elbow, name=name, line=dict(color=look[name], width=1.5), row=1, col=1)
settings = [error_and_jerk(smoothed[keep]) for keep in keeps]
x, y = ([pair[k][0] for pair in settings] for k in (0, 1))
fig.add_scatter(x=x, y=y, mode="lines+markers", line_color="#999999", name="its settings", row=2, col=1)
x, y = error_and_jerk(q["after"])
fig.add_scatter(x=x, y=y, mode="markers+text", text=["after"], textposition="middle right", row=2, col=1)
fig.data[-1].update(marker=dict(size=13, color=look["after"]), showlegend=False)
fig.add_hline(y=rms(jerk(q["truth"]).rad2deg()), line=dict(color=look["truth"], dash="dash"), row=2, col=1)
fig.update_xaxes(title="time (s)", row=1, col=1).update_xaxes(title="tips off (mm)", row=2, col=1)
fig.update_yaxes(title="elbow of the finger (°)", row=1, col=1)
ticks = [1e4, 3e4, 1e5, 3e5, 1e6]
fig.update_yaxes(title="jerk (°/s³)", type="log", tickvals=ticks, row=2, col=1)
assert x[0] < min(pair[0][0] for pair in settings)
light(fig, height=720)
each = [go.Frame(data=compared(keep), traces=[0, 1], name=f"{keep:g}") for keep in keeps]
show(frames_slider(fig, each, "keep", 700, keeps.index(0.8)))

# %% [markdown]
# A filter without a future buys calm with delay: down the grey curve, then to the right.
# Refining stands off that curve, and has its price too: it reads some frames that come later, so live it would have to
# wait for them (page 15, exercise *Online*).
# The green line is the jerk of the true motion.
# A command below it is calmer than the hand was, which is no virtue: something fast has been lost.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} A faster camera
# :label: ex-18-predict
# ````
# *Predict.* An estimator errs by half a degree in each frame, each time anew.
# How much jerk is that at 30 frames a second?
# And at 60, with the same errors?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-18-predict
# :class: dropdown
# ````
# The four factors are 1, 3, 3, 1, the sum of their squares is 20: $\sqrt{20}\,\sigma f^3$.
# Twice the frame rate makes eight times the jerk.

# %%
white = torch.randn(100_000, generator=torch.Generator().manual_seed(seed))
for rate in (30, 60):
    expected, measured = 0.5 * 20**0.5 * rate**3, 0.5 * white.diff(n=3).std() * rate**3
    assert abs(measured / expected - 1) < 0.02
    print(f"{rate} frames a second: {expected:,.0f} °/s³")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} A stretched finger
# :label: ex-18-derive
# ````
# *Derive.* The tip is told to move by a millimetre along the line from the base.
# By how much does the elbow turn?
# Where is that worst, and what does it say about the length of the links?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-18-derive
# :class: dropdown
# ````
# From $r^2 = 2\ell^2 (1 + \cos q_2)$ follows $2r\,dr = -2\ell^2 \sin q_2\, dq_2$, so
#
# $$ \frac{dq_2}{dr} = -\frac{r}{\ell^2 \sin q_2} , $$
#
# which grows without end towards a straight finger, $q_2 = 0$.
# A folded one, $q_2 = \pi$, is different: there $r$ vanishes too, and $r = 2\ell\cos(q_2/2)$ keeps the slope at
# $1/\ell$; but then $q_1$ follows the direction of a point next to the base, and that turns at once.
# Links should be long enough that no command is near their full length, and the bases where the tips do not come.

# %%
print("reach used   ° per mm at the elbow")
for share in (0.2, 0.5, 0.9, 0.99):
    r = torch.tensor(2 * share * link_mm, dtype=torch.float64, requires_grad=True)
    elbow = torch.acos((r**2 - 2 * link_mm**2) / (2 * link_mm**2))
    (slope,) = torch.autograd.grad(elbow, r)
    torch.testing.assert_close(slope, -r.detach() / (link_mm**2 * elbow.sin().detach()))
    print(f"{100 * share:6.0f} % {-slope.rad2deg():15.1f}")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} A servo
# :label: ex-18-build
# ````
# *Build.* Write `servo(command, fps, stiffness, strongest)`, what a motor makes of a command (t, ...) in radians.
# It is pulled to the command as by a spring without overshoot, $\ddot q = s^2 (c - q) - 2 s\, \dot q$, and
# $\ddot q$ is cut to ±`strongest`.
# Use twenty small steps a frame: first the speed, then the angle.
# A command that stands still must be reached, and nothing may be faster than the motor:
#
# ```python
# still = torch.full((60, 1), 0.5)
# still[0] = 0.0
# reached = servo(still, 30.0, 20.0, 40.0)
# torch.testing.assert_close(reached[-1], still[-1], atol=1e-3, rtol=0)
# assert (reached.diff(n=2, dim=0) * 30.0**2).abs().max() <= 40.0 + 1e-3
# ```
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-18-build
# :class: dropdown
# ````


# %%
def servo(command, fps, stiffness, strongest):
    q, speed, answer = command[0], torch.zeros_like(command[0]), [command[0]]
    dt = 1 / (20 * fps)
    for target in command[1:]:
        for _ in range(20):
            push = stiffness**2 * (target - q) - 2 * stiffness * speed
            speed = speed + dt * push.clamp(-strongest, strongest)
            q = q + dt * speed
        answer.append(q)
    return torch.stack(answer)


still = torch.full((60, 1), 0.5)
still[0] = 0.0
reached = servo(still, 30.0, 20.0, 40.0)
torch.testing.assert_close(reached[-1], still[-1], atol=1e-3, rtol=0)
assert (reached.diff(n=2, dim=0) * 30.0**2).abs().max() <= 40.0 + 1e-3

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Which error matters?
# :label: ex-18-explore
# ````
# *Explore.* Spoil the true command in three ways, each by three degrees on average: by errors that are new in each
# frame, by errors that wander, and by one that stays.
# Send them through the servo.
# How far is the motor off, and how hard does it work?
# Then send it `before` and `after`.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-18-explore
# :class: dropdown
# ````
# A wandering error is a running mean of white noise over half a second.
# The work is the root mean square of what the servo asks for as acceleration; the clean command has some as well.

# %%
generator = torch.Generator().manual_seed(seed)
clean = q["truth"]
white = torch.randn(len(clean) + 14, 2, 2, generator=generator)
slow = white.unfold(0, 15, 1).mean(-1)
spoiled = {"none": 0 * clean, "each frame": white[: len(clean)], "wandering": slow, "constant": torch.ones_like(clean)}


def off_and_work(command):
    made = servo(command, fps, 20.0, 1e9)
    ideal = servo(clean, fps, 20.0, 1e9)
    return rms((made - ideal).rad2deg()), rms((made.diff(n=2, dim=0) * fps**2).rad2deg())


print("error        command off   motor off   work (°/s²)")
for name, error in spoiled.items():
    by = error * torch.tensor(3.0).deg2rad() / max(rms(error), 1e-9)
    off, work = off_and_work(clean + by)
    print(f"{name:11s} {rms(by.rad2deg()):9.1f}° {off:11.1f}° {round(work, -1):11.0f}")

# %% tags=["nbval-ignore-output"]
for name in ("before", "after"):
    off, work = off_and_work(q[name])
    print(f"{name:11s} {rms((q[name] - clean).rad2deg()):9.1f}° {off:11.1f}° {round(work, -1):11.0f}")

# %% [markdown]
# Shaking costs work and little else: the motor is too slow to follow it.
# What stays goes through unchanged, and the motor does it gladly, with no more work than the truth.
# So a controller feels ACCL, and the task feels MJE.
# A refiner that only calms a command has helped the gears; to help the grasp it has to take away what lasts.
# The last two lines say how much of that it did.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - Two tips become four angles by the law of cosines; keep away from stretched and folded fingers.
# - Jerk is the third difference times the cube of the frame rate, so jitter and fast cameras make it huge.
# - A servo swallows what is fast and passes on what stays.
