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
# # Does it help?
#
# The method has parts: the walk, the motion states, two pieces of physics.
# Each costs code, training time and a page of this book.
# How would we know that a part is worth it?
#
# On this page
# - a part is worth what is lost without it, so the method is built up part by part and each stage is trained anew,
# - the same training from another seed ends elsewhere, and a difference counts once it stands out from that,
# - with few seeds only large differences can be seen, and this page says how large.

# %% tags=["hide-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("handdiff_lib") is None:  # on Colab
    source = "git+https://github.com/handdiff/handdiff"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
level = 0.95  # of every interval on this page
seed = 0

# %% [markdown]
# ## Five rows
#
# | row | what it has |
# |---|---|
# | deterministic | one look at the estimate, one answer |
# | diffusion | the walk: residual shifting, learnt and walked back |
# | state | it also learns the motion states, and uses the last one for the next frame |
# | kinetics | it is also charged for turning back while it reaches or releases |
# | stability | it is also charged for moving the fingers in a stable grasp |
#
# Each row has all of the rows above it.
# The network, the data, the number of steps and the noise are the same in all.
# The networks are small and trained briefly, so that each row can be trained several times.
# They are measured on takes that none of them has seen, with simulated noise like that of a weak estimator.
# Each answers with the weights of its last step, and nothing is left as it is for being clean (page 15).
# After so few steps it is chance what a network takes for clean, and that would decide more than the rows do.

# %%
import json
from itertools import pairwise

import numpy as np

from handdiff_lib.charts import mean_interval
from handdiff_lib.hand import DATA

told = json.loads((DATA / "results" / "table3.json").read_text())
rows = told["rows"]
names, seeds = list(rows), len(rows["deterministic"])
print(f"{told['command']}: {len(names)} rows, {seeds} seeds each, {told['steps']} steps of {told['batch']} windows")

metrics = {
    "MJE": ("mje_mm", "MJE (mm), less is better"),
    "P-MJE": ("p_mje_mm", "P-MJE (mm), less is better"),
    "ACCL": ("accl_mm", "ACCL (mm/frame²), less is better"),
    "KIN": ("kin_deg", "KIN (°), less is calmer"),
    "STA": ("sta_deg2", "STA (°²), less is calmer"),
    "F1": ("macro_f1", "F1 of the states, more is better"),
}
missing = [name for name, (key, _) in metrics.items() if key not in rows["deterministic"][0]]
metrics = {name: metric for name, metric in metrics.items() if name not in missing}
print("not measured, since the takes have no such frames:", ", ".join(missing) or "nothing")


def runs(row, metric):
    return [one[metrics[metric][0]] for one in rows[row]]


# %% [markdown]
# Each dot is one training, the bar is their mean, and the thin line is the interval that the next sections are about.
# Press the buttons.

# %% tags=["hide-input", "nbval-ignore-output"]
import plotly.graph_objects as go

from handdiff_lib.view import bars, light, show


def switch(pictures, height=None):
    """One figure out of several with one pair of axes each, and a button for each."""
    first, owners = next(iter(pictures)), [name for name, fig in pictures.items() for _ in fig.data]
    fig = go.Figure([t for picture in pictures.values() for t in picture.data], pictures[first].layout)
    buttons = []
    for name, picture in pictures.items():
        shown = dict(visible=[owner == name for owner in owners])
        fit = {"xaxis": picture.layout.xaxis, "annotations": picture.layout.annotations}
        buttons.append(dict(label=name, method="update", args=[shown, fit]))
    fig.for_each_trace(lambda t: t.update(visible=owners[fig.data.index(t)] == first))
    place = dict(x=1, xanchor="right", y=1, yanchor="bottom", pad=dict(b=8, r=0), font_size=12)
    fig.update_layout(updatemenus=[dict(type="buttons", direction="right", buttons=buttons, **place)], margin_t=60)
    return fig.update_layout(height=height) if height else fig


show(switch({name: bars({row: runs(row, name) for row in names}, unit) for name, (_, unit) in metrics.items()}, 380))

# %% [markdown]
# Look at the dots of one row: that far apart are trainings that differ in nothing but chance.
# Then look at two neighbouring bars: are they further apart than the dots?
# The same as a table, mean and standard deviation over seeds:

# %%
print("ours           " + "".join(f"{metric:>16s}" for metric in metrics))
for row in names:
    pairs = [(mean_interval(runs(row, metric))[0], float(np.std(runs(row, metric), ddof=1))) for metric in metrics]
    print(f"{row:15s}" + "".join(f"{mean:8.2f} ± {scatter:5.2f}" for mean, scatter in pairs))

# %% [markdown]
# MJE, P-MJE and ACCL compare with the truth.
# KIN and STA do not: they say how much a motion breaks the two rules of the page before.
# F1 says how often the state is named rightly; rows that never learnt the states name them by accident.

# %% [markdown]
# ## How large is large?
#
# Let $x_1, \dots, x_n$ be the scores of $n$ seeds, $\bar x$ their mean and $s$ their standard deviation.
# Another $n$ seeds would give another mean.
# It scatters $\sqrt n$ times less than one seed does, by $s / \sqrt n$, the **standard error**.
# But $s$ is itself a guess from $n$ numbers, and from few numbers it is often much too small.
# Student {cite:p}`student1908` worked out how far one has to reach to make up for that:
#
# $$ \bar x \;\pm\; t_{n-1}\,\frac{s}{\sqrt n}, \qquad s^2 = \frac{1}{n - 1} \sum_{k=1}^n (x_k - \bar x)^2 . $$
#
# If the scores are normal, 95 % of such intervals hold the mean of all possible seeds.

# %%
import torch
from scipy import stats


def interval_by_hand(x, level):
    n = len(x)
    mean = x.sum() / n
    s = ((x - mean).square().sum() / (n - 1)).sqrt()
    reach = stats.t.ppf((1 + level) / 2, n - 1) * s / n**0.5
    return torch.stack([mean, mean - reach, mean + reach])


for metric in metrics:
    for row in names:
        x = torch.tensor(runs(row, metric), dtype=torch.float64)
        library = torch.tensor(mean_interval(x.tolist(), level), dtype=torch.float64)
        torch.testing.assert_close(interval_by_hand(x, level), library)

print("  n   t     reach, in standard deviations of one seed")
for n in (2, 3, 5, 10, 30):
    t = stats.t.ppf((1 + level) / 2, n - 1)
    print(f"{n:3d} {t:5.1f} {t / n**0.5:9.2f}")

# %% [markdown]
# From two seeds one may conclude next to nothing.
# From three the line already reaches far beyond the dots, and this is no fault of the line.
#
# ## A hundred experiments
#
# Is it true that 95 % of them hold the mean?
# We make a world where we know: a row has a true mean of 0, and its seeds scatter by 1.
# A hundred people each train $n$ seeds and draw their interval.
# Drag the slider to give them more seeds.

# %%
generator = torch.Generator().manual_seed(seed)
chance = torch.randn(100, 30, generator=generator, dtype=torch.float64)
drawn = {n: torch.stack([interval_by_hand(x[:n], level) for x in chance]) for n in (2, 3, 4, 5, 8, 12, 20, 30)}

# %% tags=["hide-input", "nbval-ignore-output"]
from handdiff_lib.view import frames_slider


def experiments(n):
    mean, low, high = drawn[n].mT
    misses = (low > 0) | (high < 0)
    said = f"miss the truth: {int(misses.sum())} of {len(misses)}"
    for keep, colour, name in ((~misses, "#56B4E9", "hold the truth"), (misses, "#D55E00", said)):
        number = torch.arange(len(mean))[keep].double()
        reach = dict(array=(high - mean)[keep].numpy().round(3), thickness=1.5, width=0, color=colour)
        look = dict(mode="markers", marker=dict(size=4, color=colour), name=name)
        yield go.Scatter(x=number.numpy(), y=mean[keep].numpy().round(3), error_y=reach, **look)


fig = light(go.Figure(list(experiments(3))), height=470)
fig.update_layout(xaxis_title="experiment", yaxis=dict(title="score (true mean: 0)", range=[-4, 4]))
frames_slider(fig, [go.Frame(data=list(experiments(n)), name=str(n)) for n in drawn], "seeds =", 900, active=1)
show(fig)

# %% [markdown]
# The share of orange lines hardly depends on $n$: that is what $t$ is for.
# What more seeds buy is short lines.
# And whoever looks at twenty differences that are all nothing should expect to find one.

# %% [markdown]
# ## Row against row
#
# What we want to know is a difference: this row minus the one above it.
# Seed $k$ draws the same clips with the same noise in every row.
# A lucky draw is then lucky for both, and leaves the difference.
# So we subtract seed by seed, $d_k = b_k - a_k$, and ask for the interval of $\bar d$.
# A part has been *seen* to matter if its interval leaves out zero.

# %%
steps = [f"+ {below}" for below in names[1:]]


def minus(b, a, metric):
    return [y - x for x, y in zip(runs(a, metric), runs(b, metric), strict=True)]


def differences(metric):
    return {f"+ {b}": minus(b, a, metric) for a, b in pairwise(names)}


seen = 0
print("change by     " + "".join(f"{metric:>22s}" for metric in metrics))
for step in steps:
    line = f"{step:14s}"
    for metric in metrics:
        mean, low, high = mean_interval(differences(metric)[step], level)
        outside = low > 0 or high < 0
        seen += outside
        line += f"{mean:+8.2f} ({low:+.2f}, {high:+.2f}){'*' if outside else ' '}".rjust(24)
    print(line)
count = len(steps) * len(metrics)
print(f"* leaves out zero: {seen} of {count}; {(1 - level) * count:.1f} would by chance if no part did anything")

# %% tags=["hide-input", "nbval-ignore-output"]


def forest(change, unit):
    """Means of differences with their intervals about a line at zero, one below the other."""
    told = {step: mean_interval(values, level) for step, values in change.items()}
    fig, most = light(go.Figure()), max(max(-low, high) for _, low, high in told.values())
    for step, (mean, low, high) in told.items():
        colour = "#0072B2" if low > 0 or high < 0 else "#888888"
        look = dict(mode="markers", hoverinfo="x", showlegend=False)
        reach = dict(array=[high - mean], thickness=3, color=colour)
        fig.add_scatter(x=[mean], y=[step], marker=dict(color=colour, size=11, symbol="diamond"), error_x=reach, **look)
        ring = dict(color="white", size=7, line=dict(color=colour, width=1.5))
        fig.add_scatter(x=change[step], y=[step] * len(change[step]), marker=ring, **look)
    fig.add_vline(x=0, line=dict(color="#333333", width=1))
    fig.update_yaxes(categoryorder="array", categoryarray=list(change)[::-1], automargin=True)
    return fig.update_xaxes(title="change of " + unit.split(",")[0], range=[-1.1 * most, 1.1 * most])


show(switch({name: forest(differences(name), unit) for name, (_, unit) in metrics.items()}, 350))

# %% [markdown]
# Blue leaves out zero, grey does not.
# Grey does not mean that the part does nothing.
# It means that these trainings cannot tell what it does, and the length of the line says what they could have told:

# %%
print(f"a change that {seeds} seeds can just show, and that as a share of the first row's score")
for metric in metrics:
    change = differences(metric).values()
    reach = sum(mean_interval(d, level)[2] - mean_interval(d, level)[0] for d in change) / len(change)
    first = mean_interval(runs(names[0], metric))[0]
    print(f"{metric:6s} {reach:6.2f}   {reach / first:5.0%}")

# %% [markdown]
# ## The paper's table
#
# Here is Table 3 of the paper {cite:p}`dip`, in a figure of its own.
# It has one number a row, so there is no line and no dot.

# %% tags=["hide-input", "nbval-ignore-output"]
from textwrap import wrap

from handdiff_lib.published import TABLE3

printed = {}
for k, column in enumerate(TABLE3.columns):
    row_of = {"<br>".join(wrap(row, 15)): (numbers[k],) * 3 for row, numbers in TABLE3.rows.items()}
    printed[column.split()[0]] = bars(row_of, f"{column}, published", runs=False).update_traces(error_x=None)
show(switch(printed, 560))

# %% [markdown]
# Look at KIN and STA first: every refiner is near zero there, and so are the two crude ones, a filter and a law of
# constant acceleration.
# Then look at MJE: there the bars differ by a few parts in a hundred.
#
# These numbers and ours must not be put side by side.
# - Theirs are of real estimates of DexYCB's videos; ours are of motion capture with simulated noise.
# - Their networks are larger than these, and learnt from DexYCB; how long they were trained is not said.
# - Their deterministic model is a Transformer without a walk, and no more is said of it.
#   Ours is the very network of the other rows, asked once.
# - They also have a row with stability and without kinetics; we have none.
# - What exactly they count as KIN and STA the paper does not say; page 19 has our reading.
#
# What may be shared is the question.
# The list has the published steps; which of them stand out cannot be said without a spread over seeds.

# %%
ladder = ("deterministic", "+ diffusion", "+ state", "+ kinetics", "+ kinetics + stability")
print("published change of MJE (mm), row by row")
for above, below in pairwise(ladder):
    print(f"   from {above:14s} to {below:24s} {TABLE3.rows[below][0] - TABLE3.rows[above][0]:+5.1f}")

# %% [markdown]
# ## What our table cannot say
#
# - It is about small networks after a short training.
#   A part may help only once the network is good enough, or only while it is not.
# - States take longer to learn than poses.
#   After these few steps the rows that learn them still call every frame the same state, so their F1 is one number;
#   the weights that ship tell the states apart (page 12).
# - The factors of the three added losses are those of one configuration; a part with another factor is another part.
# - Every row, the first one too, is told the Gaussian means of the estimate (page 10), so much of the shaking is gone
#   before any part of the method has a say.
#   What a part does for a network without them was not asked.
# - The noise is simulated, and all takes are of the same laboratory.
# - Its interval is over seeds alone.
#   Other takes would move all rows, and page 20 asks how far.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ````{exercise-start} The order of the bars
# :label: ex-14-predict
# ````
# *Predict.* Before you press a button: which row should be lowest in KIN and which in STA, by what it is charged for?
# Which order do you expect in MJE?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-14-predict
# :class: dropdown
# ````
# KIN is what `kinetics` is charged for, so the rows from there on should be low.
# STA is what `stability` is charged for.
# The physics says nothing about where the hand is, so there is no reason for it to lower MJE.
# The list says which order came out, best first, and how many of the neighbours in it stand apart.

# %%
for metric in metrics:
    sign = -1 if metric == "F1" else 1
    order = sorted(names, key=lambda row: sign * mean_interval(runs(row, metric))[0])
    apart = 0
    for a, b in pairwise(order):
        _, low, high = mean_interval(minus(b, a, metric), level)
        apart += low > 0 or high < 0
    print(f"{metric:6s} {', '.join(order)}   ({apart} of {len(order) - 1} apart)")

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} When do pairs help?
# :label: ex-14-derive
# ````
# *Derive.* Let the scores of two rows have standard deviations $s_a$ and $s_b$ over seeds, and correlation $\rho$.
# What is the variance of the difference $d_k = b_k - a_k$?
# For which $\rho$ is the paired interval shorter than that of two separate means, if $n$ is large?
# Why may it be longer all the same when $n$ is small?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-14-derive
# :class: dropdown
# ````
# $\mathrm{var}(b - a) = s_a^2 + s_b^2 - 2\rho\, s_a s_b$.
# Separate means have $s_a^2 + s_b^2$, so pairs help for every $\rho > 0$.
# With small $n$ there is a price: $n$ differences give $n - 1$ degrees of freedom, two separate rows up to $2(n - 1)$,
# and $t$ is larger for fewer.
#
# The gain pays for the price when $t_{n-1}\sqrt{1 - \rho}$ is below $t_{2(n-1)}$, for $s_a = s_b$:

# %%
for n in (2, 3, 5, 10):
    few, many = (stats.t.ppf((1 + level) / 2, free) for free in (n - 1, 2 * (n - 1)))
    print(f"{n:2d} seeds: pairs are worth it from a correlation of {1 - (many / few) ** 2:.2f} on")
a, b = torch.randn(2, 100_000, generator=generator)
a, b = 2 * a, 0.6 * 3 * a + 0.8 * 3 * b  # deviations of 2 and 3, correlation of 0.6
assert abs((b - a).var() - (4 + 9 - 2 * 0.6 * 2 * 3)) < 0.1

# %% [markdown]
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} A test without the normal law
# :label: ex-14-build
# ````
# *Build.* If a part does nothing, the sign of each difference $d_k$ is a coin toss.
# Write `sign_flip_p(d)`: flip the signs in all $2^n$ ways, and return the share of ways whose mean is at least as far
# from zero as the true one.
# Check it with
#
# ```python
# theirs = stats.permutation_test(
#     (d,), np.mean, permutation_type="samples", alternative="two-sided", n_resamples=10_000
# )
# assert abs(sign_flip_p(d) - theirs.pvalue) < 1e-12
# ```
#
# for `d = np.array([0.3, -0.1, 0.4, 0.25, 0.6, -0.2, 0.5])`.
# What is the smallest answer that the seeds of this page can give?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-14-build
# :class: dropdown
# ````

# %%
from itertools import product


def sign_flip_p(d):
    signs = np.array(list(product((1, -1), repeat=len(d))))
    means = np.abs((signs * d).mean(1))
    return float((means >= np.abs(np.mean(d)) * (1 - 1e-12)).mean())  # rounding must not lose the true one


for d in (np.array([0.3, -0.1, 0.4, 0.25, 0.6, -0.2, 0.5]), np.array([1.0, 2.0, 3.0])):
    theirs = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", alternative="two-sided", n_resamples=10_000
    )
    assert abs(sign_flip_p(d) - theirs.pvalue) < 1e-12

for step in steps:
    found = "  ".join(f"{metric} {sign_flip_p(differences(metric)[step]):.2f}" for metric in metrics)
    print(f"{step:13s} {found}")
print(f"smallest possible with {seeds} seeds: {2 / 2**seeds:.2f}; seeds for one below 0.05: 6 ({2 / 2**6:.3f})")

# %% [markdown]
# Two of the $2^n$ ways always count, the true one and its mirror image, so no answer is below $2 / 2^n$.
# The interval of $t$ can be surer from the same numbers because it assumes more: that scores are normal.
# ````{solution-end}
# ````

# %% [markdown]
# ````{exercise-start} Where does physics hurt?
# :label: ex-14-explore
# ````
# *Explore.* A frozen hand has a KIN and a STA of zero.
# So the best KIN is not the smallest, but the one that people have.
# How much do real hands turn back, in the takes that this page measures on, and which rows are below that?
# Does a row that breaks the rules less than people do pay for it in MJE or ACCL?
# ````{exercise-end}
# ````

# %% [markdown]
# ````{solution-start} ex-14-explore
# :class: dropdown
# ````
# The benchmark also scores the truth of its takes; `table1.json` has it.

# %%
bench = json.loads((DATA / "results" / "table1.json").read_text())
take = next(found for name, found in bench.items() if name.endswith(", khand-like") and "rows" in found)
truth = {key: take["rows"]["input"]["scores"][f"truth_{key}"]["mean"] for key in ("kin_deg", "sta_deg2")}
print("                 KIN (°)   STA (°²)   MJE (mm)   ACCL (mm/frame²)")
told_truth = ["not measured" if value is None else f"{value:.2f}" for value in truth.values()]
print(f"the truth     {told_truth[0]:>10s} {told_truth[1]:>10s}")
for row in names:
    means = {metric: f"{mean_interval(runs(row, metric))[0]:.2f}" for metric in metrics}
    kin, sta, mje, accl = (means.get(metric, "–") for metric in ("KIN", "STA", "MJE", "ACCL"))
    print(f"{row:14s} {kin:>9s} {sta:>10s} {mje:>10s} {accl:>14s}")

# %% [markdown]
# People do turn back: real fingers correct themselves while they reach, and motion capture has noise of its own.
# A row below the truth has been made calmer than people are.
# Whether that costs anything is in the last two columns.
# Means over whole takes may still hide it: look for the frames in which the true hand corrects itself, and compare rows
# there alone.
# ````{solution-end}
# ````

# %% [markdown]
# ## What to keep
#
# - Build the method up part by part, train every stage from several seeds, and look at the differences.
# - An interval $\bar d \pm t_{n-1}\, s / \sqrt n$ that leaves out zero is a difference seen; one that does not proves
#   nothing.
# - A rule that is broken less is not yet a hand that is nearer to the truth.
