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
# # A hand in motion
#
# Two recordings show a hand in the same places, to within a few millimetres.
# One looks alive, the other looks ill.
# Where is the difference?
#
# On this page
# - a motion is a `HandMotion`: rotations, shape, translation, what was seen, and the frame rate,
# - differences over time make jitter large: errors of size $\sigma$ become $\sqrt 6\,\sigma$ in the second difference,
# - in seconds, acceleration from jitter grows with the square of the frame rate.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
fps = 30.0
jitter_deg = 1.0  # standard deviation of the error about each axis of each joint
seed = 0

# %% [markdown]
# ## Make a motion
#
# People move from pose to pose along a curve whose third derivative, the jerk, is as small as it can be
# {cite:p}`flash1985`.
# This *minimum-jerk* curve is $s(u) = 10u^3 - 15u^4 + 6u^5$, the share of the way after a share $u$ of the time.
# Five pieces make a short story: wait, close the hand, hold it, turn the wrist, open again.

# %%
import torch

from handdiff_lib import rotation
from handdiff_lib.hand import load_hand
from handdiff_lib.motion import HandMotion

hand = load_hand()
open_hand, grasp = torch.zeros(16, 3), torch.zeros(16, 3)
grasp[1:13, 2] = torch.tensor([50.0, 60.0, 35.0]).repeat(4).deg2rad()  # +z bends
grasp[13:, 1] = torch.tensor([-35.0, -15.0, -20.0]).deg2rad()  # the thumb comes across
turned = grasp.clone()
turned[0] = torch.tensor([70.0, 0.0, 15.0]).deg2rad()
story = [(open_hand, 0.4), (grasp, 0.9), (grasp, 0.3), (turned, 0.8), (open_hand, 0.8)]


# %%
def min_jerk(u):
    return 10 * u**3 - 15 * u**4 + 6 * u**5


pieces, pose = [], open_hand
for target, seconds in story:
    share = min_jerk(torch.arange(round(seconds * fps)) / round(seconds * fps))
    pieces.append(pose + share[:, None, None] * (target - pose))
    pose = target
angles = torch.cat(pieces)
count = len(angles)

# %% [markdown]
# A `HandMotion` holds what one knows of one hand over time.

# %%
clean = HandMotion(
    R=rotation.exp(angles),
    betas=torch.zeros(10),
    transl=torch.zeros(count, 3),
    valid=torch.ones(count, dtype=torch.bool),
    fps=fps,
    hand=hand.name,
)
print(f"{len(clean)} frames at {clean.fps:.0f} a second, a {clean.side} hand, R {tuple(clean.R.shape)}")

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import player, show

show(player({"a motion": clean}, hand, trails=12))

# %% [markdown]
# Press Play.
# The lines behind the finger tips are the last twelve frames.
#
# ## Speed and acceleration
#
# Let $x_t$ be where the tip of the index finger is in frame $t$.
# With $f$ frames a second they are $\Delta = 1/f$ apart, and
#
# $$ v_t = \frac{x_{t+1} - x_t}{\Delta}, \qquad a_t = \frac{x_{t+1} - 2x_t + x_{t-1}}{\Delta^2}. $$

# %%
tip = clean.joints(hand)[:, 8]
velocity = tip.diff(dim=0) * fps
acceleration = tip.diff(n=2, dim=0) * fps**2
print(f"top speed {velocity.norm(dim=-1).max():.2f} m/s, top acceleration {acceleration.norm(dim=-1).max():.1f} m/s²")

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from handdiff_lib.view import frames_slider, light, show

time = torch.arange(count) / fps
moments = time[1:-1:2].tolist()
start = len(moments) // 4
curves_of = {"speed (m/s)": velocity.norm(dim=-1), "acceleration (m/s²)": acceleration.norm(dim=-1)}
fig = make_subplots(2, 1, shared_xaxes=True, subplot_titles=list(curves_of), vertical_spacing=0.12)
for row, values in enumerate(curves_of.values(), 1):
    fig.add_scatter(x=time[1:], y=values, line=dict(color="#0072B2"), row=row, col=1)
    here = dict(line=dict(color="#333333"), mode="lines", row=row, col=1)
    fig.add_scatter(x=2 * [moments[start]], y=[0, values.max()], **here)
each = [go.Frame(name=f"{now:.2f} s", traces=[1, 3], data=2 * [go.Scatter(x=[now, now])]) for now in moments]
light(fig, height=500).update_layout(showlegend=False).update_xaxes(title="time (s)", row=2)
show(frames_slider(fig, each, "time", 60, start))

# %% [markdown]
# Look at the first movement, where the bar stands: speed is one bell.
# Acceleration is a broad hill: it starts the finger, bends its path around the knuckle, and stops it.
# A hand that knows where it goes looks like this.
#
# ## Now it shakes
#
# Turn every joint of every frame by an error of its own, one degree about each axis.
# No joint is off by more than a few degrees, and on average the hand is where it was.

# %%
from dataclasses import replace

generator = torch.Generator().manual_seed(seed)
error = torch.tensor(jitter_deg).deg2rad() * torch.randn(angles.shape, generator=generator)
shaking = replace(clean, R=clean.R @ rotation.exp(error))

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import player, show

show(player({"clean": clean, "shaking": shaking}, hand, trails=12))

# %% [markdown]
# The shaking hand does the same things at the same times, and one sees at once that something is wrong.
# What one sees is the second difference.
# Rotations cannot be subtracted, so take the turn from each frame to the next, $\omega_t = \log(R_t^\top R_{t+1})$, and
# its change, $\omega_{t+1} - \omega_t$.
# The curves show how long that is, in degrees per frame squared, as a mean over the fifteen finger joints.

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import curves, show

show(curves({"clean": clean, "shaking": shaking}))

# %% [markdown]
# The clean hand stays below half a degree.
# The shaking one is at about four all the time, whether the hand moves or rests.
#
# ## Why six
#
# Let $x_t$ be the truth and $\epsilon_t$ independent errors with variance $\sigma^2$.
# The second difference of the error is $\epsilon_{t+1} - 2\epsilon_t + \epsilon_{t-1}$.
# Independent errors add their variances, each with the square of its factor:
#
# $$ \mathrm{Var} = (1^2 + 2^2 + 1^2)\,\sigma^2 = 6\,\sigma^2. $$
#
# The truth is smooth: its second difference is almost nothing, so the error is all one sees.

# %%
many = torch.randn(100_000, generator=generator)
print(f"variance of the second difference of white noise: {many.diff(n=2).var():.1f}")

# %% [markdown]
# A joint's error has three axes.
# The length of a three-dimensional Gaussian vector with standard deviation $s$ is $s\sqrt{8/\pi}$ on average.
# So we expect $\sqrt 6 \cdot \sqrt{8/\pi} \cdot \sigma = 3.9\,\sigma$ degrees per frame squared.

# %%
from handdiff_lib.metrics import mje_mm, second_difference_deg

expected = jitter_deg * (6 * 8 / torch.pi) ** 0.5
measured = {name: second_difference_deg(m.R[:, 1:]).mean() for name, m in dict(clean=clean, shaking=shaking).items()}
print(f"clean {measured['clean']:.1f}, shaking {measured['shaking']:.1f}, expected {expected:.1f} °/frame²")
print(f"joints are off by {mje_mm(shaking.joints(hand), clean.joints(hand)).mean():.0f} mm on average")
assert abs(measured["shaking"] / expected - 1) < 0.1

# %% [markdown]
# A few millimetres hide in a mean joint error.
# The same error is many times the acceleration of the true motion.
# This is why one measures both.
#
# ## Another frame rate
#
# `resample` moves rotations along the shortest way between two frames and everything else along a line.

# %%
from handdiff_lib.motion import resample

print(" fps  frames  clean  shaking   (°/frame²)")
for rate in (60.0, 30.0, 15.0, 10.0):
    row = [second_difference_deg(resample(motion, rate).R[:, 1:]).mean() for motion in (clean, shaking)]
    print(f"{rate:4.0f} {len(resample(clean, rate)):7d} {row[0]:6.1f} {row[1]:8.1f}")

# %% [markdown]
# Fewer frames a second: the shaking stays as it is, frame by frame, and the true motion has more to do between frames.
# At 60 frames a second nothing new is known:
# half of the frames are in the middle of two others, and the shaking is spread over them.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} Twice the jitter
# :label: ex-03-predict
# ````
# *Predict.* Double the jitter to two degrees.
# What happens to the mean joint error, and what to the mean second difference?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-03-predict
# :class: dropdown
# ````
# Both double: they are linear in small errors.
# Their *ratio* is what tells shaking from a constant error, which moves joints and leaves differences alone.

# %%
twice = replace(clean, R=clean.R @ rotation.exp(2 * error))
for name, motion in {"one degree": shaking, "two degrees": twice}.items():
    off = mje_mm(motion.joints(hand), clean.joints(hand)).mean()
    print(f"{name:11s} {off:4.1f} mm {second_difference_deg(motion.R[:, 1:]).mean():5.1f} °/frame²")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Faster cameras
# :label: ex-03-derive
# ````
# *Derive.* An estimator makes the same independent errors at 30 and at 120 frames a second.
# How do speed and acceleration from these errors, in m/s and m/s², compare?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-03-derive
# :class: dropdown
# ````
# The first difference has variance $2\sigma^2$ and is divided by $\Delta$,
# the second has $6\sigma^2$ and is divided by $\Delta^2$.
# So the standard deviations are $\sqrt 2\,\sigma f$ and $\sqrt 6\,\sigma f^2$:
# four times the speed, sixteen times the acceleration.
# A faster camera makes jitter worse, in units of seconds, unless one smooths.

# %%
for f in (30, 120):
    position = 0.001 * torch.randn(100_000, generator=generator)  # a millimetre of error
    speed, acceleration = (position.diff() * f).std(), (position.diff(n=2) * f**2).std()
    print(f"{f:3d} fps: speed {speed:.2f} m/s, acceleration {acceleration:.1f} m/s²")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Resample
# :label: ex-03-build
# ````
# *Build.* Write `at_times(R, fps, times)`: the rotations `R` (t, 16, 3, 3) at times in seconds.
# Use `rotation.slerp(A, B, share)`.
# With `times = torch.arange(40) / 12.5`, check it with
# `torch.testing.assert_close(at_times(clean.R, fps, times), resample(clean, 12.5).R, atol=1e-5, rtol=0)`.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-03-build
# :class: dropdown
# ````
# The frame before, the frame after, and the share of the way between them.


# %%
def at_times(R, fps, times):
    place = times.double() * fps
    before = place.floor().long().clamp(max=len(R) - 2)
    share = (place - before).to(R)
    return rotation.slerp(R[before], R[before + 1], share[:, None].expand(-1, 16))


times = torch.arange(40) / 12.5
torch.testing.assert_close(at_times(clean.R, fps, times), resample(clean, 12.5).R, atol=1e-5, rtol=0)

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} How fast is a hand?
# :label: ex-03-explore
# ````
# *Explore.* At which frequencies does a hand move, and at which does it shake?
# Could one cut at a frequency and be done?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-03-explore
# :class: dropdown
# ````
# Take the bend of the index knuckle, and its second difference.
# How much of the power of each lies above 4 Hz?


# %%
def share_above(x, hertz=4):
    power = torch.fft.rfft((x - x.mean()) * torch.hann_window(len(x))).abs().square()
    return 100 * power[torch.fft.rfftfreq(len(x), 1 / fps) > hertz].sum() / power.sum()


for name, motion in dict(clean=clean, shaking=shaking).items():
    bend = rotation.log(motion.R)[:, 1, 2]
    print(f"{name:8s} bend {share_above(bend):4.1f} %   second difference {share_above(bend.diff(n=2)):3.0f} %")

# %% [markdown]
# Voluntary movement lies below a few hertz, white jitter is spread over all frequencies up to half the frame rate.
# In the bend it is next to nothing; in the second difference it is nearly all there is.
# A cut removes most of it.
# What it cannot remove is the slow part, errors that last as long as a movement.
# And it rounds off what is really fast: a tap, a release.
# For these one has to know how hands move.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - A motion is a `HandMotion`: rotations, shape, translation, what was seen, and the frame rate.
# - Differences over time make jitter large: errors of size $\sigma$ become $\sqrt 6\,\sigma$ in the second difference.
# - In seconds, acceleration from jitter grows with the square of the frame rate.
