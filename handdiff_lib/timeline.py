r"""Motion states in an order that makes sense: what a denoiser says frame by frame, made one story.

A hand reaches before it grasps or manipulates, and releases before it reaches again (DIP section 3.3):

    reach --> stable grasp <--> manipulate --> release --> reach
                   \______________________________/

A hidden Markov model with these steps, run forwards and backwards, answers with the probabilities of each frame given
all frames (Rabiner 1989, "A tutorial on hidden Markov models"). What neighbouring frames say is nearly the same
thing said again, so that it counts only in part.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib.topology import GRASP, MANIPULATE, REACH, RELEASE

NEXT = {REACH: (GRASP, MANIPULATE), GRASP: (MANIPULATE, RELEASE), MANIPULATE: (GRASP, RELEASE), RELEASE: (REACH,)}
"""What may follow each state."""
STAY = 0.9
"""Probability that a state goes on for another frame."""
RARE = 0.01
"""Weight of a step out of order beside one in order."""
PART = 0.2
"""How much of each frame's log-probability counts. All three were chosen on the validation take, mug3."""


def in_order(prob: Float[Tensor, "t 4"]) -> Float[Tensor, "t 4"]:
    r"""Probabilities of each frame's state given all frames, from those that each frame has by itself.

    $p(s_t \mid o_{1..T}) \propto \alpha_t \beta_t$ with $\alpha_{t+1} = (\alpha_t A) \odot o_{t+1}$,
    $\beta_t = A (o_{t+1} \odot \beta_{t+1})$ and $o_t = p_t^{1/5}$.
    """
    said = PART * prob.clamp(min=1e-5).log()
    step = steps().to(prob).log()
    forward, backward = [said[0]], [torch.zeros_like(said[0])]
    for now in said[1:]:
        forward.append((forward[-1][:, None] + step).logsumexp(0) + now)
    for later in said[1:].flip(0):
        backward.append((step + later + backward[-1]).logsumexp(1))
    return (torch.stack(forward) + torch.stack(backward[::-1])).softmax(-1)


def steps() -> Float[Tensor, "4 4"]:
    """Probability of every state (column) in the frame after every state (row)."""
    odds = torch.full((4, 4), RARE)
    for state, following in NEXT.items():
        odds[state, list(following)] = 1.0
    odds.fill_diagonal_(0)
    return (1 - STAY) * odds / odds.sum(1, keepdim=True) + STAY * torch.eye(4)
