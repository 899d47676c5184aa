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
# # Train a small one
#
# Before its first step a network that ends in zeros does nothing: it hands the estimate back.
# A few hundred steps later it takes out most of the shaking.
# What did it see in between, and what was it told?
#
# On this page
# - one step of training: draw a motion, spoil it, walk some way to what is spoiled, and ask for the way back,
# - the loss has many terms, and they do not fall together: shaking goes first, what looks like motion goes last,
# - a network that has seen one motion knows that motion; what it knows of others must be measured on others.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
steps = 500
jitter_deg = 6.0
motions = 4  # in the larger of the two corpora
seed = 0

# %% [markdown]
# ## What there is to learn from
#
# Clean motion comes from a program; `draw_batch` turns it about, plays it backwards or faster, and spoils it.
# Real estimators err in many ways (page 4).
# Here they only shake, so that a small network gets somewhere while you wait.

# %%
import torch

from handdiff_lib import rotation
from handdiff_lib.corpus import Labelled, make_corpus
from handdiff_lib.data import DrawConfig, draw_batch
from handdiff_lib.hand import load_hand
from handdiff_lib.perturb import NoiseConfig
from handdiff_lib.synth import synthesize

hand = load_hand()
window, windows = 16, 8  # frames in a window as in the paper, windows in a batch
jitter, none = (jitter_deg, jitter_deg), (0.01, 0.01)
shaking = NoiseConfig(
    jitter_deg=jitter,
    root_jitter_deg=jitter,
    jitter_memory=none,
    tails=none,
    drift_deg=none,
    root_drift_deg=none,
    bias_deg=none,
    root_bias_deg=none,
    **dict.fromkeys(("one_sided", "bursts", "outlier", "missing", "shape", "shift", "wobble"), 0.0),
)
draw = DrawConfig(noise=shaking, clip=64, clean=0.0, widen=0.0)


def made_up(seeds):
    clips = [synthesize(hand, k, frames=160) for k in seeds]
    return make_corpus([Labelled(clip.motion, clip.state) for clip in clips])


def batches(corpus, count, seed):
    generator = torch.Generator().manual_seed(seed)
    return [draw_batch([corpus], [1.0], hand, draw, windows, window, generator) for _ in range(count)]


one, many, unseen = (
    batches(made_up([1]), 16, 1),
    batches(made_up(range(10, 10 + motions)), 48, 2),
    batches(made_up([100]), 4, 3),
)
print(f"a batch is {windows} windows of {window} frames: y.R {tuple(one[0].y.R.shape)}")

# %% [markdown]
# ## A small denoiser
#
# No mesh here, two layers, 64 numbers a token; else it is built as page 10 has it.
# It is told the estimate $y$, the noisy motion $x_n$, and how $y$ differs from its own means over time.
# For each joint it answers with a turn away from $y$: six numbers, to which the identity is added.
# The last layer starts at zero, so at first the answer is $y$.

# %%
from torch import nn

from handdiff_lib.denoiser import Prediction
from handdiff_lib.frames import SIGMAS

LEAVE = torch.tensor([1.0, 0, 0, 0, 1, 0])  # the identity in six numbers


class Small(nn.Module):
    def __init__(self, d=64, N=4):
        super().__init__()
        self.look = nn.Linear(16 * (6 + 6 + 3 * len(SIGMAS)), d)
        self.place, self.step = nn.Embedding(window, d), nn.Embedding(N + 1, d)
        layer = nn.TransformerEncoderLayer(d, 4, 2 * d, 0.0, "gelu", batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.turn, self.state = nn.Linear(d, 16 * 6), nn.Linear(d, 4)
        nn.init.zeros_(self.turn.weight)
        nn.init.zeros_(self.turn.bias)

    def forward(self, R_n, y, n, hand):
        seen = [rotation.matrix_to_sixd(y.R), rotation.matrix_to_sixd(R_n), 5 * y.turns.flatten(-2)]
        x = self.look(torch.cat(seen, -1).flatten(-2)) + self.place.weight + self.step(n)[:, None]
        x = self.transformer(x)
        R = y.R @ rotation.sixd_to_matrix(self.turn(x).unflatten(-1, (16, 6)) + LEAVE)
        quiet = torch.zeros(R.shape[:3])  # it has no opinion on its own error
        return Prediction(R, y.betas, self.state(x), log_sigma=quiet, noisy=quiet[..., 0])


def fresh():
    torch.manual_seed(seed)
    return Small()


print(f"{sum(p.numel() for p in fresh().parameters()):,} numbers to learn")

# %% [markdown]
# ## Algorithm 1
#
# This is how the paper trains {cite:p}`dip`.
# On the right, the lines of the code below that do it, each with the same number.
#
# | | Algorithm 1, Model Training | here |
# |---|---|---|
# | | **Require:** $\eta_{1:N}$: diffusion noise scheduling | `shift.eta` |
# | | $\kappa$: noise variance level | `shift.kappa` |
# | | $q(x_{1:T}, y_{1:T})$: data distribution | `pool` |
# | 1: | **repeat** | `for step in range(steps)` |
# | 2: | sample $(x_{1:T}, y_{1:T})$ from $q(x_{1:T}, y_{1:T})$ | `batch.target`, `batch.y` |
# | 3: | compute diffused data at step $n$ (equation 1) | `diffuse(x, y, generator)` |
# | | $\quad\epsilon \sim \mathcal N(0, I)$ | `epsilon = torch.randn(...)` |
# | | $\quad e_{1:T} = y_{1:T} - x_{1:T}$ | `e = y - x` |
# | | $\quad x^n_{1:T} = x_{1:T} + \eta_n e_{1:T} + \kappa\sqrt{\eta_n}\,\epsilon$ | `x + eta * e + ...` |
# | 4: | take a gradient step on $\nabla_W L_{total}$ (equation 8) | `loss.backward()`, `optimiser.step()` |
# | 5: | **until** converged | after `steps` |
#
# The algorithm does not say how $n$ is drawn; equation 4 does, evenly from 1 to $N$.
# Motions are seen from the estimate (page 7), so `y` is zero, and `x` is the turn from the estimate to the truth.
#
# Paper vs code: the paper has neither a batch size nor a number of steps, and no word on cutting large gradients; these
# are ours.

# %%
from handdiff_lib.diffusion import decode, encode, residual_shift
from handdiff_lib.losses import LossWeights, loss_terms, weighted

shift, weights = residual_shift(), LossWeights()


def diffuse(x, y, generator):
    """Line 3: a step n of its own for each window, and x at that step."""
    n = torch.randint(1, shift.N + 1, (len(x),), generator=generator)
    eta, kappa = shift.eta[n].to(x)[:, None, None, None], shift.kappa
    epsilon = torch.randn(x.shape, generator=generator)
    e = y - x
    return n, x + eta * e + kappa * eta.sqrt() * epsilon


def learn(model, pool, steps, lr=3e-3):
    """Algorithm 1; yields the terms of the loss after every step."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):  # 1
        batch = pool[step % len(pool)]  # 2
        x = encode(batch.target.R, batch.y.R)
        n, xn = diffuse(x, torch.zeros_like(x), generator)  # 3
        pred = model(decode(xn, batch.y.R), batch.y, n, hand)
        terms = loss_terms(pred, batch.target, hand)
        loss = weighted(terms, weights)
        optimiser.zero_grad()
        loss.backward()  # 4
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        yield {name: term.item() for name, term in terms.items()} | {"loss": loss.item()}


# %% [markdown]
# The library's trainer does the same, with more around it: a rising and falling learning rate, a moving average of
# the weights, saving and resuming, several devices.
# Given the same network, batch and chance, it must say the same loss.

# %%
from handdiff_lib.train import TrainConfig, Trainer

trainer = Trainer(fresh(), TrainConfig.tiny(), hand)
library = trainer.terms(one[0], progress=0.0, generator=torch.Generator().manual_seed(seed))
ours = next(learn(fresh(), one, 1))
torch.testing.assert_close(torch.tensor(ours["loss"]), weighted(library, weights).detach(), atol=1e-5, rtol=1e-5)

# %% [markdown]
# ## The loss
#
# What is $\lVert x - \hat x \rVert^2$ between two hands?
# The data term (equation 4 of the paper) is taken on rotation matrices, mean over joints, frames and windows:
#
# $$ L_{data} = E_n \big\lVert x_0 - f_W(x_n, y, n) \big\rVert^2 , \qquad
#    \lVert \hat R - R \rVert^2 = 4\,(1 - \cos\omega) \approx 2\,\omega^2 , $$
#
# with $\omega$ the angle between the two.
# Equation 8 of the paper adds what pages 12 and 13 are about, the states (equation 5) and two pieces of intuitive
# physics (equations 6 and 7):
#
# $$ L_{total} = L_{data} + \lambda_1 L_{state} + \lambda_2 L_{kinetics} + \lambda_3 L_{stability} . $$
#
# The paper also takes the geometric losses of MDM {cite:p}`mdm`, on joints in space and their speed, and does not give
# their weights.
# So do we, and we add acceleration.
# Each term has its weight in the sum, `LossWeights`.
#
# Paper vs code: the paper has $\lambda = 50, 500, 1000$ beside a data term of unknown scale.
# With these ratios beside our data term the physics outweighs the data, so ours are smaller.

# %%
R, Q = one[0].y.R, one[0].target.R
omega = rotation.angle_between(R, Q)
by_hand = (4 * (1 - omega.cos())).mean()
torch.testing.assert_close(by_hand, library["rotation"].detach(), atol=1e-5, rtol=1e-3)

total = sum(getattr(weights, name) * value for name, value in ours.items() if name != "loss")
assert abs(total - ours["loss"]) < 1e-5

# %% [markdown]
# Now train: once on one motion alone, once on several.
# On the way we keep what the network answers to a window that it has never seen.


# %%
@torch.no_grad()
def answer(model, batch):
    """The first guess of the walk: x_n is the estimate itself."""
    return model(batch.y.R, batch.y, torch.full((windows,), shift.N), hand).R


def run(pool, keep=(0, 10, 50, 100, 200, 500)):
    model, told, kept = fresh(), [], {}
    for step, terms in enumerate(learn(model, pool, steps)):
        told.append(terms)
        if step + 1 in keep:
            kept[step + 1] = answer(model, unseen[0])
    kept[0] = answer(fresh(), unseen[0])
    return model, told, dict(sorted(kept.items()))


model_one, told_one, kept_one = run(one)
model_many, told_many, kept_many = run(many)

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go

from handdiff_lib.view import frames_slider, light, show

names = ["loss", "rotation", "joints", "fingers", "velocity", "acceleration", "state"]


def smoothed(told, name):
    values = torch.tensor([row[name] for row in told])[: len(told) // 20 * 20]
    return values.unflatten(0, (-1, 20)).mean(1).numpy().round(5)


def term(name):
    for told in (told_one, told_many):
        values = smoothed(told, name)
        yield go.Scatter(x=[10 + 20 * k for k in range(len(values))], y=values)


fig = light(go.Figure(), height=430)
for trace, word, color in zip(term("acceleration"), ("one motion", "several"), ("#D55E00", "#0072B2"), strict=True):
    fig.add_trace(trace.update(name=word, line=dict(color=color, width=2)))
fig.update_layout(xaxis_title="step", yaxis=dict(title="mean of 20 steps", rangemode="tozero"))
films = [go.Frame(data=list(term(name)), name=name, layout=dict(yaxis=dict(autorange=True))) for name in names]
show(frames_slider(fig, films, "term:", 900, active=names.index("acceleration")))

# %% [markdown]
# Look at acceleration first, then drag to rotation.
# Acceleration falls at once and far: a network need not know hands to average over frames.
# The rotation term falls more slowly, and the joints wobble, since they are mostly the wrist.
#
# ## What it says at steps 0, 50 and 500
#
# One joint in a window that neither network has trained on, the one that is off most.
# Drag back through the training.

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.scene import COLORS
from handdiff_lib.topology import JOINTS

off_by = rotation.angle_between(unseen[0].y.R, unseen[0].target.R).mean(1)
where, joint = divmod(int(off_by[:, 1:13].argmax()), 12)
joint += 1


def degrees(R):
    return rotation.log(R[where, :, joint])[:, 2].rad2deg().numpy().round(1)


fig = light(go.Figure(), height=430)
fig.add_scatter(y=degrees(unseen[0].target.R), name="truth", line=dict(color=COLORS["truth"], width=4))
fig.add_scatter(y=degrees(unseen[0].y.R), name="estimate", line=dict(color=COLORS["before"], width=1))
last = max(kept_many)
fig.add_scatter(y=degrees(kept_one[last]), name="learned from one", line=dict(color="#E69F00", width=2, dash="dash"))
fig.add_scatter(y=degrees(kept_many[last]), name="from several", line=dict(color=COLORS["after"], width=3))
fig.update_layout(xaxis_title="frame", yaxis_title=f"bend of {JOINTS[joint]} (°)")
films = [
    go.Frame(data=[go.Scatter(y=degrees(kept[step])) for kept in (kept_one, kept_many)], traces=[2, 3], name=str(step))
    for step in kept_many
]
fig.update_traces(mode="lines")
show(frames_slider(fig, films, "step", 900, active=list(kept_many).index(last)))


# %% [markdown]
# Look at step 0: both networks lie on the estimate, since a network that ends in zeros returns it.
# At step 50 the spikes are half as high, at 200 they are gone.
# What is left then is a line that bends too little or too late: no longer shaking, but not the motion either.
#
# One window is one window, so count over all of them.


# %%
def error_deg(model, pool):
    pairs = [(answer(model, batch) if model else batch.y.R, batch.target.R) for batch in pool]
    return torch.stack([rotation.angle_between(R, Q).rad2deg().mean() for R, Q in pairs]).mean()


def shake_deg(model, pool):
    pairs = [(answer(model, batch) if model else batch.y.R, batch.target.R) for batch in pool]
    bends = [(rotation.log(R.mT @ Q)).diff(n=2, dim=1).rad2deg().norm(dim=-1).mean() for R, Q in pairs]
    return torch.stack(bends).mean()


assert error_deg(model_many, unseen) < 0.75 * error_deg(None, unseen)
assert shake_deg(model_many, unseen) < 0.5 * shake_deg(None, unseen)
print("on a motion that it has not seen, shaking fell below half: yes")

# %% tags=["nbval-ignore-output"]
print("degrees off the truth      its own motions   unseen     (estimate: own, unseen)")
for name, model, own in (("learned from one", model_one, one), ("from several", model_many, many[:16])):
    row = [error_deg(model, own), error_deg(model, unseen), error_deg(None, own), error_deg(None, unseen)]
    print("{:22s} {:15.2f} {:12.2f}   {:8.2f}, {:.2f}".format(name, *row))

# %% [markdown]
# Compare the columns row by row, as shares of what the estimate is off.
# Shaking is the same on all motions, so much of what one motion teaches carries over.
# What does not is what a hand does *next*; that takes many motions, and the weights that ship have seen hours.
#
# The same on the hand: the estimate, the answers at steps 50 and 500, and the truth.

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.motion import HandMotion
from handdiff_lib.view import player


def motion(R):
    still = dict(betas=torch.zeros(10), transl=torch.zeros(window, 3), valid=torch.ones(window, dtype=torch.bool))
    return HandMotion(R[where], **still, fps=10.0, hand=hand.name)


tracks = {"before": unseen[0].y.R, "step 50": kept_many[50], f"step {last}": kept_many[last]}
show(player({name: motion(R) for name, R in (tracks | {"truth": unseen[0].target.R}).items()}, hand, trails=4))

# %% [markdown]
# Look at the trails of the finger tips: knots in the estimate, looser ones at step 50, nearly lines at the end.
#
# To train a real one there is a command:
#
# ```
# handdiff train --config tiny
# ```
#
# The page *Train your own* says what it does, and the card beside the weights `free` how long it took.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} Doing nothing
# :label: ex-11-predict
# ````
# *Predict.* What does the untrained network answer, and what is the rotation loss of that, in degrees?
# Does it depend on $n$?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-11-predict
# :class: dropdown
# ````
# The last layer is zero, so the turn is the identity and the answer is $y$, whatever $x_n$ and $n$ are.
# The loss is the squared error of the estimate, $2\,\omega^2$ on average.
# Any network that is worse than this should not be used.

# %%
batch = unseen[0]
for n in range(1, shift.N + 1):
    noisy = decode(torch.randn(batch.y.R.shape[:-1]), batch.y.R)
    pred = fresh()(noisy, batch.y, torch.full((windows,), n), hand)
    torch.testing.assert_close(pred.R, batch.y.R, atol=1e-6, rtol=0)
nothing = loss_terms(pred, batch.target, hand)["rotation"]
rms = rotation.angle_between(batch.y.R, batch.target.R).square().mean().sqrt()
assert abs((nothing / 2).sqrt() / rms - 1) < 0.02
print("the square root of half the loss is the RMS angle of the estimate: yes")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} The weight of a step
# :label: ex-11-derive
# ````
# *Derive.* All steps $n$ count alike in equation 4.
# The likelihood would weigh them.
# Its term for step $n$ is the divergence between the true step back, and the one that uses $\hat x_0$ in the place of
# $x_0$ (page 8).
# Both are Gaussians with the same variance, so it is the squared distance of their means over twice the variance.
# What factor stands before $\lVert x_0 - \hat x_0 \rVert^2$, and how large is it for the schedule of the paper's demo?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-11-derive
# :class: dropdown
# ````
# The means are $\frac{\eta_{n-1}}{\eta_n} x_n + \frac{\alpha_n}{\eta_n} x_0$, so they differ by
# $\frac{\alpha_n}{\eta_n}(x_0 - \hat x_0)$.
# The variance is $\kappa^2 \frac{\eta_{n-1}\alpha_n}{\eta_n}$.
# Hence
#
# $$ w_n = \frac{(\alpha_n/\eta_n)^2}{2\,\kappa^2\,\eta_{n-1}\alpha_n/\eta_n}
#        = \frac{\alpha_n}{2\,\kappa^2\,\eta_n\,\eta_{n-1}} . $$

# %%
eta = shift.eta
for n in range(2, shift.N + 1):
    w = (eta[n] - eta[n - 1]) / (2 * shift.kappa**2 * eta[n] * eta[n - 1])
    x0, guess, xn, zero = torch.tensor([[0.3], [0.1], [0.2], [0.0]]).double()
    at = torch.tensor([n])
    apart = shift.reverse_step(xn, x0, at, zero) - shift.reverse_step(xn, guess, at, zero)
    spread = shift.reverse_step(xn, x0, at, zero + 1) - shift.reverse_step(xn, x0, at, zero)
    torch.testing.assert_close((apart / spread).square() / 2, w * (x0 - guess).square())
    print(f"n = {n}: weight {w:7.1f}")

# %% [markdown]
# The last steps of the walk would count a thousand times as much as the first: there $x_n$ is nearly the truth, and a
# small error is unlikely.
# But what one wants is a good guess from far away.
# So, as in most work of this kind, all steps count alike.
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} A new head
# :label: ex-11-build
# ````
# *Build.* Let the network also say how far the hand is closed: the mean bend of the twelve finger joints 1 to 12,
# coordinate 2 of `rotation.log`.
# Write `tokens(model, batch)`, the tokens behind its heads at $n = N$, and fit a linear head to them by least squares,
# on the batches `many`.
# On `unseen` its error must be well below that of always saying the mean: `assert off < 0.7 * off_mean`.
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-11-build
# :class: dropdown
# ````
# What the heads read, a hook on one of them can read too.


# %%
@torch.no_grad()
def tokens(model, batch):
    heard = []
    hook = model.state.register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    answer(model, batch)
    hook.remove()
    return heard[0].flatten(0, 1)


def closed(batch):
    return rotation.log(batch.target.R)[:, :, 1:13, 2].mean(-1).flatten()[:, None]


def with_one(x):
    return torch.cat([x, torch.ones(len(x), 1)], dim=1)


X, Y = (torch.cat([f(b) for b in many]) for f in (lambda b: tokens(model_many, b), closed))
head = torch.linalg.lstsq(with_one(X), Y).solution
X, truth = (torch.cat([f(b) for b in unseen]) for f in (lambda b: tokens(model_many, b), closed))
off, off_mean = (with_one(X) @ head - truth).abs().mean(), (Y.mean() - truth).abs().mean()
assert off < 0.7 * off_mean

# %% tags=["nbval-ignore-output"]
print(f"off by {off.rad2deg():.1f}°; always the mean: {off_mean.rad2deg():.1f}°")

# %% [markdown]
# No one asked for this in training.
# It can be read off linearly, since whoever turns fingers has to know where they are.
# Finer things cannot: try the distance of thumb and index finger.
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} How little data is enough?
# :label: ex-11-explore
# ````
# *Explore.* Train on 1, 2, 4 and all batches of the corpus, for the same number of steps, and test on unseen motion.
# How would you find out what a hundred times as much would bring, without having it?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-11-explore
# :class: dropdown
# ````

# %% tags=["nbval-ignore-output"]
print("batches   own (°)   unseen (°)")
for count in (1, 4, 48):
    model = fresh()
    for _ in learn(model, many[:count], 100):
        pass
    print(f"{count:7d} {error_deg(model, many[:count]):9.2f} {error_deg(model, unseen):12.2f}")

# %% [markdown]
# With one batch the network learns it by heart: its own error falls, the unseen one does not.
# With more, the two come together, and where they meet, more of the *same* data cannot help; then it takes a larger
# network, more steps, or other motion.
# The gap between the two columns is what more data can still bring.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - One step of training: draw a motion, spoil it, walk some way to what is spoiled, and ask for the way back.
# - The loss has many terms, and they do not fall together: shaking goes first, what looks like motion goes last.
# - A network that has seen one motion knows that motion; what it knows of others must be measured on others.
