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
# # How sure is it?
#
# A refined hand looks the same whether the network knew or guessed.
# A robot that is to hold this hand's tool would like to be told.
# How does one ask a network for its doubt, and should one believe the answer?
#
# On this page
# - `sigma` says how far off each joint is expected to be, and ghost hands show what that means,
# - a claim about errors can be checked: coverage asks for its size, sparsification for its order,
# - forty walks in four steps end close together, since the walk returns means, and a mean has no doubt.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
samples = 40
ghosts = 6
seed = 0

# %% [markdown]
# ## Ghost hands
#
# `refine` gives a number with each rotation, `sigma`: the standard deviation that the network expects of its error,
# in radians, about each of three axes.
# A hand that could have been is the answer with an error of that size, joint by joint:
#
# $$ R' = R \exp(\sigma\,\epsilon), \qquad \epsilon \sim \mathcal N(0, I_3). $$

# %%
import torch

from handdiff_lib import rotation
from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.hand import DATA, load_hand
from handdiff_lib.presets import config_for
from handdiff_lib.refine import refine
from handdiff_lib.storage import load_motion

clip, hand = load_motion(DATA / "clips" / "demo.npz"), load_hand()
model, card = load_denoiser()
cfg = config_for(card)
truths = {side: clip[f"{side}.truth"] for side in ("right", "left")}
answers = {side: refine(clip[side], model, hand, cfg) for side in truths}

answer, truth = answers["right"], truths["right"]
generator = torch.Generator().manual_seed(seed)
epsilon = torch.randn(ghosts, 1, 16, 3, generator=generator)  # one for the whole clip, so that ghosts do not shake
ghost_R = answer.R @ rotation.exp(answer.sigma[..., None] * epsilon)

# %% [markdown]
# Six such hands, and in black the bones of the true one, with all wrists on one point.
# Drag the slider through the clip.

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import hand_figure, show

frames = torch.linspace(0, len(answer) - 1, 14).round().long()
R_view = rotation.mean_rotation(truth.R[:, 0], torch.ones(len(truth))).mT
shaped = hand.shape(answer.betas)
wrist = shaped.rest_joints[0]
skins = torch.cat([(shaped.pose(R[frames]).skin() - wrist) @ R_view.mT for R in ghost_R], dim=1)
true_joints = truth[frames].joints(hand)
bones = (true_joints - true_joints[:, :1]) @ R_view.mT
faces = torch.cat([hand.faces + k * len(hand.v_template) for k in range(ghosts)])
times = [f"{frame / answer.fps:.2f} s" for frame in frames.tolist()]
fig = hand_figure(skins, faces, fps=3, joints=bones, labels=times, colors="#0072B2")
fig.data[0].update(opacity=0.2)
show(fig)

# %% [markdown]
# Look at the wrist: a small angle there moves the whole hand, and much of the blur comes from it alone.
# Look for bones that leave the blue cloud.
# There should be some, but few.
# Each joint of a ghost errs on its own, while real errors go together, so a ghost looks more broken than any answer.
#
# ## The claim, and its size
#
# What is claimed is this: the error $e = \log(R^\top R_{true})$, the turn from the answer to the truth, has a normal
# distribution in three dimensions, $e \sim \mathcal N(0, \sigma^2 I)$.
# Then $\lVert e \rVert / \sigma$ is the length of a vector of three standard normal numbers.
# The density of that length is $\sqrt{2/\pi}\, r^2 e^{-r^2/2}$; integrate it by parts, and the share of errors within
# $r$ sigmas must be
#
# $$ F(r) = \operatorname{erf}\!\Big(\frac{r}{\sqrt 2}\Big) - \sqrt{\frac 2\pi}\; r\, e^{-r^2/2} . $$


# %%
def share_within(r):
    return torch.erf(r / 2**0.5) - (2 / torch.pi) ** 0.5 * r * torch.exp(-(r**2) / 2)


from handdiff_lib.calibration import LEVELS

for percent, radius in LEVELS.items():
    torch.testing.assert_close(share_within(torch.tensor(radius)), torch.tensor(percent / 100), atol=1e-4, rtol=0)
print("of errors in three dimensions lie within one, two, three sigmas:", end=" ")
print(", ".join(f"{100 * share_within(torch.tensor(r)):.0f} %" for r in (1.0, 2.0, 3.0)))

# %% [markdown]
# Not 68, 95 and 99.7: that is one dimension.
# Now count.

# %% tags=["nbval-ignore-output"]
from handdiff_lib.calibration import calibration, doubted

found = doubted(list(answers.values()), list(truths.values()))
parts = {"wrist": slice(0, 1), "fingers": slice(1, 16)}
print("          sigma   error     within 50 %   90 %   95 %")
for name, part in parts.items():
    c = calibration(found.error[:, part], found.sigma[:, part])
    shares = "".join(f"{100 * c.coverage[percent]:7.0f}" for percent in LEVELS)
    print(f"{name:8s} {c.sigma_deg:5.1f}°  {c.error_deg:5.1f}°     {shares}")

# %% [markdown]
# A sigma that is right has 50, 90 and 95 in its row.
# Higher numbers mean that the network is too modest, lower ones that it is too sure.
#
# Below are all levels at once.
# Drag the slider to make every sigma smaller or larger.

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go

from handdiff_lib.view import frames_slider, light

look = {"wrist": "#D55E00", "fingers": "#0072B2"}
radii = torch.linspace(0, 4, 60)
claimed = (100 * share_within(radii)).numpy().round(1)
scales = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7, 2.0]


def observed(scale):
    for name, part in parts.items():
        z = (found.error[:, part].norm(dim=-1) / found.sigma[:, part]).flatten() / scale
        share = (100 * (z[:, None] <= radii).float().mean(0)).numpy().round(1)
        yield go.Scatter(x=claimed, y=share, name=name, line=dict(color=look[name], width=3))


fig = light(go.Figure(list(observed(1.0))), height=480)
fig.add_scatter(x=[0, 100], y=[0, 100], name="right", mode="lines", line=dict(color="#999999", dash="dash"))
fig.update_layout(xaxis_title="errors that should lie within (%)", yaxis_title="errors that do (%)")
each = [go.Frame(data=list(observed(scale)), traces=[0, 1], name=f"{scale:g}") for scale in scales]
show(frames_slider(fig, each, "sigma times", 500, scales.index(1.0)))

# %% [markdown]
# A curve above the dashed line is modest, one below it boastful.
# Can one number bring both onto the line?
# `calibration.fit_scale` finds the number that makes the errors most likely, and the card beside the weights may hold
# it, as `sigma_scale`.
# It belongs to one kind of estimator: with another, count anew.

# %% [markdown]
# ## The order
#
# A sigma of twice the right size still says *which* joints to mistrust.
# To test that, drop answers one after the other, the most doubtful first, and look at the mean error of those that
# are left.
# No order can do better than to drop the largest errors first, and one that says nothing leaves the mean where it is.
# The mean height between the curve of sigma and the best one, in units of the mean error, is called the **AUSE**, the
# area under the sparsification error {cite:p}`ilg2018`.


# %%
def left_after(angle, doubt):
    """Mean angle of the k least doubtful answers, for k = 1, ..., all of them."""
    kept = angle[doubt.argsort(stable=True)].double()
    return kept.cumsum(0) / torch.arange(1, len(kept) + 1)


def ause_by_hand(error, sigma):
    angle = error.norm(dim=-1).flatten()
    return (left_after(angle, sigma.flatten()) - left_after(angle, angle)).mean() / angle.mean()


from handdiff_lib.calibration import ause, ause_chance

for part in parts.values():
    library = ause(found.error[:, part], found.sigma[:, part])
    torch.testing.assert_close(
        ause_by_hand(found.error[:, part], found.sigma[:, part]).item(), library, atol=1e-6, rtol=0
    )

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.topology import CHAIN

groups = {"all joints": list(range(16)), "wrist": [0], "fingers": list(range(1, 16))} | {
    finger: list(chain) for finger, chain in CHAIN.items()
}
dropped = torch.linspace(0, 98, 50)


def sparsification(joints):
    angle, sigma = found.error[:, joints].norm(dim=-1).flatten().rad2deg(), found.sigma[:, joints].flatten()
    keep = ((1 - dropped / 100) * len(angle)).long().clamp(min=1) - 1
    words = {"chance": ("#999999", torch.full((50,), angle.mean().item()))}
    words |= {"by sigma": ("#0072B2", left_after(angle, sigma)[keep])}
    words |= {"best order": ("#009E73", left_after(angle, angle)[keep])}
    for name, (color, values) in words.items():
        yield go.Scatter(x=dropped.numpy(), y=values.numpy().round(2), name=name, line=dict(color=color, width=3))


fig = light(go.Figure(list(sparsification(groups["all joints"]))), height=460)
fig.update_layout(
    xaxis_title="most doubtful answers dropped (%)", yaxis=dict(title="mean error (°)", rangemode="tozero")
)
each = [go.Frame(data=list(sparsification(joints)), name=name) for name, joints in groups.items()]
show(frames_slider(fig, each, "", 900))

# %% tags=["nbval-ignore-output"]
print("             AUSE   by chance")
for name, joints in groups.items():
    error, sigma = found.error[:, joints], found.sigma[:, joints]
    print(f"{name:11s} {ause(error, sigma):5.2f} {ause_chance(error):9.2f}")

# %% [markdown]
# Where the first number is not below the second, sigma does not know which answer is the bad one.
# For all joints together it is easily below: the wrist errs more than a finger, and everyone knows.
# Within one kind of joint it is hard.
# Much of the error of this clip is constant, a wrist turned the wrong way for seconds, and nothing in the estimate
# gives that away.

# %% [markdown]
# ## Forty walks
#
# Diffusion has a doubt of its own, or so it is said: walk back from different noise, and the answers differ where the
# estimate leaves a choice.
# We try it, with the paper's posterior and the schedule of its demo, four steps; the paper gives none.

# %% tags=["nbval-ignore-output"]
from dataclasses import replace

piece = slice(48, 80)
walks = [refine(clip["right"][piece], model, hand, replace(cfg, rule="posterior", seed=k)).R for k in range(samples)]
R = torch.stack(walks, dim=-3)  # (t, 16, samples, 3, 3)
mean = rotation.mean_rotation(R, torch.ones(samples))
spread = rotation.log(mean[..., None, :, :].mT @ R).square().mean((-1, -2)).sqrt().rad2deg()
error = rotation.log(mean.mT @ truth.R[piece]).square().mean(-1).sqrt().rad2deg()
for name, part in parts.items():
    rms = [x[:, part].square().mean().sqrt() for x in (spread, error)]
    print(f"{name:8s} forty answers differ by {rms[0]:.3f}°, their mean is {rms[1]:.1f}° off")
assert spread.mean() < 0.2 * error.mean()

# %% [markdown]
# They differ by a tenth of their error, or less.
# One would take this network for nearly certain, and it is some degrees wrong.
#
# ## Why they agree
#
# The walk ends with what the denoiser says at $n = 1$, and a denoiser that has been trained to the least squared error
# says the mean of all truths that fit, $\mathrm E(x_0 \mid x_1, y)$.
# The doubt about the truth has two parts,
#
# $$ \mathrm{Var}(x_0 \mid y) =
#   \underbrace{\mathrm E\,\mathrm{Var}(x_0 \mid x_1, y)}_{\text{what } x_1 \text{ leaves open}}
#   + \underbrace{\mathrm{Var}\,\mathrm E(x_0 \mid x_1, y)}_{\text{how answers differ}} , $$
#
# and the answers show the second alone, if the walk is right at all.
# For the second to be large, $x_1$ must have made up its mind.
#
# How much of that can happen in four steps?
# Take one angle of which, given the estimate, one knows the mean and the variance $v$.
# Let $d_n$ be how far the walk is from the middle of its cloud.
# Two normal distributions multiply, as on page 8, and the ideal denoiser answers $g_n d_n$ from the mean, with
#
# $$ g_n = \frac{v\,(1 - \eta_n)}{v\,(1 - \eta_n)^2 + \kappa^2 \eta_n} . $$
#
# A posterior step takes the share $k = \eta_{n-1} / \eta_n$ of $d_n$, the share $1 - k$ of the answer, and fresh noise.
# So the variances follow each other:
#
# $$ \mathrm{Var}(d_{n-1}) = \big(k + (1 - k)\, g_n\big)^2\, \mathrm{Var}(d_n) + \kappa^2 k\, \alpha_n , $$
#
# from $\kappa^2 \eta_N$ at the start to the spread of the answers, $g_1$ times the standard deviation of $d_1$.

# %%
from math import radians

from handdiff_lib.diffusion import residual_shift, sample, seeded_noise

doubt = radians(3)


def gain(shift, n, v=doubt**2):
    eta = shift.eta[n]
    return v * (1 - eta) / (v * (1 - eta) ** 2 + shift.kappa**2 * eta)


def spread_of_answers(shift):
    variance = shift.kappa**2 * shift.eta[-1]
    for n in range(shift.N, 1, -1):
        k, alpha = shift.eta[n - 1] / shift.eta[n], shift.eta[n] - shift.eta[n - 1]
        variance = (k + (1 - k) * gain(shift, n)) ** 2 * variance + shift.kappa**2 * k * alpha
    return gain(shift, 1) * variance.sqrt()


def ideal_walks(shift, count):
    """Walks of the library about a best guess of 0, with the estimate at 4 degrees."""
    y = torch.full((count, 1), radians(4))

    def denoise(xn, y, n):
        return gain(shift, n).to(xn)[:, None] * (xn - shift.eta[n].to(xn)[:, None] * y)

    return list(sample(denoise, y, shift, "posterior", seeded_noise(generator)))


for N, power in [(4, 0.1), (4, 0.3), (15, 0.3)]:
    shift = residual_shift(N, power=power)
    walked = ideal_walks(shift, 20_000)[-1].x0.std()
    torch.testing.assert_close(walked.item(), spread_of_answers(shift).item(), rtol=0.03, atol=0)

print("  N    spread of ideal answers, p = 0.1   p = 0.3   (should be 3.0°)")
for N in (1, 4, 15, 60, 250):
    row = [spread_of_answers(residual_shift(N, power=power)).rad2deg() for power in (0.1, 0.3)]
    print("{:3d} {:28.1f}° {:16.1f}°".format(N, *row))

# %% [markdown]
# The schedule of the demo is the first column at $N = 4$.
# Even an ideal denoiser would spread its answers by a fifth of what it should, where the doubt is three degrees.
# Below are forty such walks, and their ends once more, larger; the band is where two thirds of them should lie.
# Drag the slider for more steps.

# %% tags=["hide-input", "nbval-ignore-output"]
from plotly.subplots import make_subplots


def paths(N):
    steps = ideal_walks(residual_shift(N, power=0.1), 40)
    x = torch.linspace(1, 0, N + 1)
    height = torch.stack([step.xn[:, 0] for step in steps] + [steps[-1].x0[:, 0]]).rad2deg()
    y = torch.cat([height, torch.full((1, 40), torch.nan)]).mT.flatten().numpy().round(1)
    x = torch.cat([x, x[-1:]]).repeat(40).numpy().round(3)
    blue = "#0072B2"
    return [
        go.Scatter(x=x, y=y, mode="lines", line=dict(width=1, color=blue)),
        go.Scatter(x=list(range(40)), y=height[-1].numpy().round(2), mode="markers", marker=dict(size=6, color=blue)),
    ]


counts = (1, 2, 4, 8, 15, 60)
fig = make_subplots(1, 2, column_widths=[0.62, 0.38], subplot_titles=["the walks", "where they end"])
for col, trace in enumerate(paths(4), 1):
    fig.add_trace(trace, row=1, col=col)
    fig.add_hrect(y0=-3, y1=3, fillcolor="#009E73", opacity=0.25, line_width=0, layer="below", row=1, col=col)
fig.update_xaxes(title="n / N", range=[1.02, -0.02], row=1, col=1).update_xaxes(showticklabels=False, row=1, col=2)
fig.update_yaxes(title="from the best guess (°)", range=[-40, 40], row=1, col=1)
fig.update_yaxes(range=[-9, 9], row=1, col=2)
light(fig, height=450).update_layout(showlegend=False)
each = [go.Frame(data=paths(N), name=str(N)) for N in counts]
show(frames_slider(fig, each, "N =", 900, counts.index(4)))

# %% [markdown]
# Look at the step from $n = 2$ to $n = 1$.
# At $n = 2$ the walk is still far outside the band; then it steps onto a mean, and little is left of where it came
# from.
# With sixty steps it is drawn in slowly, and the answers begin to fill the band.
#
# The forty walks of the network differ by far less than even this.
# So there is a second reason: does the network read $x_n$ at all?
# We hand it a secret.
# In training $x_n$ is made from the truth, so we make it from the truth here, and see how much of the way from the
# estimate to the truth the answer moves along.
# The ideal share would be $(1 - \eta_n)\,g_n$: all but nothing at $n = 4$, all but everything at $n = 1$.

# %% tags=["nbval-ignore-output"]
from handdiff_lib.diffusion import decode, encode
from handdiff_lib.frames import estimate_frames, to_steady
from handdiff_lib.motion import fill_missing
from handdiff_lib.refine import predict_clip

y, frame = estimate_frames(fill_missing(clip["right"]).with_one_shape())
secret = encode(to_steady(truth.R[None], frame), y.R)  # the truth, as seen from the estimate
shift, nothing = residual_shift(cfg.N), torch.zeros_like(secret)


@torch.no_grad()
def answer_to(x0, n, noise):
    rn = shift.forward_marginal(x0, nothing, torch.tensor([n]), noise)
    features = model.encode_estimate(y, hand) + model.encode_noisy(decode(rn, y.R), y.betas, hand)
    return encode(predict_clip(model, features[0], torch.tensor([n]), y, hand).R, y.R)


shares = {}
for n in range(cfg.N, 0, -1):
    noise = torch.randn(secret.shape, generator=generator)
    moved = answer_to(secret, n, noise) - answer_to(nothing, n, noise)
    shares[n] = ((moved * secret).sum() / secret.square().sum()).item()

print(" n   share that an ideal denoiser would take   the network")
for n, share in shares.items():
    ideal = (1 - shift.eta[n]) * gain(shift, n)
    print(f"{n:2d} {ideal:26.3f} {share:25.3f}")
assert shares[1] < 0.5

# %% [markdown]
# If the last line of the right column were near 1, the network would have learned to trust $x_1$.
# It has not: it answers from the estimate, at every step, and what the walk adds it takes for noise.
# Its answers are good ones all the same, as good as one look gives.
# But their spread says nothing, and so `handdiff` asks the network for sigma in so many words.
#
# Paper vs code: the paper lets the diffusion capture what is uncertain, and prints no measure of doubt.
# Here a head of the network says sigma, and is trained to make the error likely, with
# $3 \log\sigma + \lVert e \rVert^2 / 2\sigma^2$; what is behind the head learns nothing from it.
# `RefineConfig(doubt="spread", samples=8)` has the spread of walks instead, for weights that were trained otherwise.
#
# There are other ways to ask.
# PAD-Hand {cite:p}`padhand`, the follow-up of the paper, takes the weights of the last layer for uncertain, and carries
# the variance that follows from it through the walk; it gives a variance for each joint and frame.
# We have not built that, and nothing on this page speaks against it.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} Where is it unsure?
# :label: ex-17-predict
# ````
# *Predict.* Sort these by their sigma: the wrist, the knuckles, the outer joints of the fingers, and the fingers in
# those frames in which the estimator saw nothing.
# Which order do the true errors have?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-17-predict
# :class: dropdown
# ````

# %% tags=["nbval-ignore-output"]
seen = torch.cat([clip[side].valid for side in truths])
both = torch.cat([answers[side].valid & truths[side].valid for side in truths])
unseen = ~seen[both]
knuckles, tips = [chain[0] for chain in CHAIN.values()], [chain[2] for chain in CHAIN.values()]
places = {"wrist": ([0], ~unseen), "knuckles": (knuckles, ~unseen), "outer joints": (tips, ~unseen)}
places |= {"fingers, nothing seen": (list(range(1, 16)), unseen)}
print("                        sigma   error")
for name, (joints, rows) in places.items():
    rms = [x[rows][:, joints].square().mean().sqrt().rad2deg() for x in (found.sigma, found.error)]
    print(f"{name:22s} {rms[0]:5.1f}°  {rms[1]:5.1f}°")

# %% [markdown]
# The wrist is the hardest, and the network knows it.
# The last line rests on a handful of frames, since few of this clip have no estimate.
# If its sigma is no larger than those above it, the network does not know that it is guessing.
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} The most likely sigma
# :label: ex-17-derive
# ````
# *Derive.* Of many errors $e$ in three dimensions one wants a single sigma.
# Where does the mean of $3 \log\sigma + \lVert e \rVert^2 / 2\sigma^2$ have its minimum?
# What changes where every error has a sigma of its own, and one looks for a common factor $s$?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-17-derive
# :class: dropdown
# ````
# The derivative by $\sigma$ is $3/\sigma - \mathrm{mean}\lVert e \rVert^2 / \sigma^3$, zero at
# $\sigma^2 = \mathrm{mean}\lVert e \rVert^2 / 3$: the mean square of a coordinate.
# With $s\sigma$ in the place of $\sigma$ the same happens to $e / \sigma$:
# $s^2 = \mathrm{mean}\,\lVert e \rVert^2 / 3\sigma^2$.

# %%
from handdiff_lib.calibration import fit_scale

s = (found.error.square().sum(-1) / (3 * found.sigma.square())).mean().sqrt()
torch.testing.assert_close(s.item(), fit_scale(found), atol=1e-5, rtol=0)

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} The calibration curve
# :label: ex-17-build
# ````
# *Build.* Write `curve(error, sigma, bins)`: sort the answers by sigma, cut them into bins of equal size, and return
# for each the root mean square of sigma and of the coordinates of the errors.
# Check it against `calibration.reliability`:
#
# ```python
# library = reliability(found.error, found.sigma, 8)
# torch.testing.assert_close(curve(found.error, found.sigma, 8), (library.claimed, library.observed))
# ```
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-17-build
# :class: dropdown
# ````
# Root mean squares, since variances add up and standard deviations do not.


# %%
def curve(error, sigma, bins):
    order = sigma.flatten().argsort()
    claims = sigma.flatten()[order].square().tensor_split(bins)
    errors = error.square().mean(-1).flatten()[order].tensor_split(bins)
    return tuple(torch.stack([part.mean() for part in cut]).sqrt() for cut in (claims, errors))


from handdiff_lib.calibration import reliability

library = reliability(found.error, found.sigma, 8)
torch.testing.assert_close(curve(found.error, found.sigma, 8), (library.claimed, library.observed))

# %% tags=["nbval-ignore-output"]
print("claimed " + " ".join(f"{x:5.1f}°" for x in library.claimed.rad2deg()))
print("found   " + " ".join(f"{x:5.1f}°" for x in library.observed.rad2deg()))

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Wait or act
# :label: ex-17-explore
# ````
# *Explore.* A robot copies the hand, and may hold still whenever the doubt is too large.
# Let it skip the most doubtful part of the frames.
# How much error does that save, and how much would have been saved by one who knows the errors?
# Which sigma should it look at, and what else than skipping could it do?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-17-explore
# :class: dropdown
# ````
# We take the doubt of a frame to be the root mean square of sigma over its joints, and its error to be the MJE.

# %% tags=["nbval-ignore-output"]
from handdiff_lib.metrics import mje_mm

mm = torch.cat([mje_mm(answers[k].joints(hand), truths[k].joints(hand)) for k in truths])[both]
doubts = {"wrist": found.sigma[:, 0], "all joints": found.sigma.square().mean(1).sqrt(), "known errors": mm}
print("skipped         0 %    25 %    50 %   (mm)")
for name, value in doubts.items():
    kept = left_after(mm, value)
    row = [kept[int((1 - share) * len(mm)) - 1] for share in (0, 0.25, 0.5)]
    print(f"{name:13s}" + "".join(f"{x:7.1f}" for x in row))

# %% [markdown]
# If the first two rows hardly fall, skipping buys nothing but delay.
# A robot has better choices than to stop.
# It can move more slowly where the doubt is large, grip wider than the ghosts are apart, or weigh this hand against
# another sensor, with weights of $1/\sigma^2$.
# For each of these the size of sigma counts as well as its order.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - `sigma` says how far off each joint is expected to be; draw ghosts from it in the tangent space.
# - Check a claim before you use it: coverage for its size, sparsification for its order.
# - Walks in four steps return means, and means agree; here the network has not even learned to read $x_n$.
