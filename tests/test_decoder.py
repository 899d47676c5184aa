"""The decoder: the same frame by frame as all at once, and blind to what comes later; and its place in the denoiser."""

import math
from dataclasses import replace

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.decoder import Attention, Decoder, sinusoids
from handdiff_lib.denoiser import Denoiser, DenoiserConfig
from handdiff_lib.frames import Frames, estimate_frames_batch
from handdiff_lib.pyramid import SPIRAL, Pyramid

B, T, D, HEADS = 2, 7, 16, 4
SIZES = DenoiserConfig(
    channels=(4, 4), d=32, layers=2, heads=2, feedforward=32, dropout=0.0, decoder_layers=2, decoder_feedforward=32
)


def seeded(lookback: int | None = None, sees_ahead: bool = True) -> Decoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Decoder(D, HEADS, 3, 24, 0.1, lookback, sees_ahead).eval()


@pytest.fixture
def before(generator):
    return torch.randn(B, T, D, generator=generator)


@pytest.fixture
def memory(generator):
    return torch.randn(B, 1 + T, D, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("sees_ahead", [True, False])
@pytest.mark.parametrize("lookback", [None, 0, 2])
def test_frame_by_frame_is_all_at_once(before, memory, lookback, sees_ahead):
    """The cache keeps `lookback` frames and no more, and that is enough."""
    decoder = seeded(lookback, sees_ahead)
    cache, token, out = decoder.start(memory), decoder.first_token(memory), []
    for t in range(T):
        decoded, cache = decoder.step(token, cache)
        out.append(decoded)
        token = before[:, t : t + 1]
        held = t + 1 if lookback is None else min(t + 1, lookback)
        assert {kv.shape[-2] for kv in cache.past} == {held}
    assert cache.done == T
    torch.testing.assert_close(torch.cat(out, dim=1), decoder(before, memory), atol=1e-5, rtol=0)


@torch.no_grad()
def test_frames_may_come_in_any_portions(before, memory):
    decoder = seeded(lookback=3)
    first, cache = decoder.step(before[:, :2], decoder.start(memory))
    second, cache = decoder.step(before[:, 2:6], cache)
    third, _ = decoder.step(before[:, 6:], cache)
    whole, _ = decoder.step(before, decoder.start(memory))
    torch.testing.assert_close(torch.cat([first, second, third], dim=1), whole, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("k", [0, 3, T - 2])
def test_a_frame_knows_the_tokens_before_it_and_no_later_ones(before, memory, k):
    """The token that frame k leaves changes frames k + 1 and later."""
    decoder, other = seeded(), before.clone()
    other[:, k] *= -1
    change = (decoder(other, memory) - decoder(before, memory)).abs().amax((0, 2))
    assert (change[: k + 1] == 0).all()
    assert (change[k + 1 :] > 1e-3).all()


@torch.no_grad()
def test_the_encoder_is_seen_ahead_only_where_allowed(before, memory):
    other = memory.clone()
    other[:, 1 + 4] *= -1  # the encoder's token of frame 4
    free, bound = (seeded(sees_ahead=s) for s in (True, False))
    assert ((free(before, other) - free(before, memory)).abs().amax((0, 2)) > 1e-4).all()
    change = (bound(before, other) - bound(before, memory)).abs().amax((0, 2))
    assert (change[:4] == 0).all()
    assert (change[4:] > 1e-4).all()
    other = memory.clone()
    other[:, 0] *= -1  # its token about the whole window
    assert ((bound(before, other) - bound(before, memory)).abs().amax((0, 2)) > 1e-4).all()


@torch.no_grad()
def test_the_past_fades_out_of_sight(before, memory):
    """Three layers that look one frame back reach three frames back: token 0 (frame 0's) is frame 1's, seen until 4."""
    decoder, other = seeded(lookback=1), before.clone()
    other[:, 0] *= -1
    change = (decoder(other, memory) - decoder(before, memory)).abs().amax((0, 2))
    assert (change[1:5] > 1e-6).all()
    assert (change[[0, 5, 6]] == 0).all()


@torch.no_grad()
def test_attention_by_hand(generator):
    """Slow twin: softmax of scaled products over what is seen, one head and one token at a time."""
    attention = Attention(D, HEADS, 0.0).eval()
    x, other = torch.randn(1, 3, D, generator=generator), torch.randn(1, 5, D, generator=generator)
    seen = torch.arange(5) <= torch.arange(1, 4)[:, None]
    kv = attention.keys_values(other)
    k, v = attention.key_value(other)[0].split(D, dim=-1)
    q, want = attention.query(x)[0], torch.zeros(3, D)
    for h in range(HEADS):
        part = slice(h * D // HEADS, (h + 1) * D // HEADS)
        for i in range(3):
            weight = (k[seen[i], part] @ q[i, part] / (D // HEADS) ** 0.5).softmax(0)
            want[i, part] = weight @ v[seen[i], part]
    torch.testing.assert_close(attention(x, kv, seen)[0], attention.out(want), atol=1e-5, rtol=0)


def test_every_weight_learns_and_dropout_is_for_training(before, memory):
    decoder = seeded().train()
    torch.manual_seed(0)
    one = decoder(before, memory)
    assert (one - decoder(before, memory)).abs().max() > 0.01
    one.square().mul(torch.arange(D)).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in decoder.parameters())


def test_sinusoids_by_hand():
    """Pairs of sine and cosine: position 1 at frequency 1 and at 10,000^(-1/2) = 1/100."""
    got = sinusoids(torch.tensor([0, 1]), 4)
    torch.testing.assert_close(got[0], torch.tensor([0.0, 1, 0, 1]))
    torch.testing.assert_close(got[1], torch.tensor([math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]))
    assert len({tuple(row) for row in sinusoids(torch.arange(100), 32).tolist()}) == 100


# In the denoiser


@pytest.fixture(scope="module")
def build():
    """Denoisers with the same seeded weights, whose last layers are random too, and which see 40 vertices only."""
    spirals = [torch.arange(0, 720, 2).view(40, SPIRAL), torch.arange(27).view(3, SPIRAL)]
    pyramid = Pyramid(spirals, [s[:, 0] for s in spirals])

    def make(**changes) -> Denoiser:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Denoiser(replace(SIZES, **changes), pyramid).eval()
            for head in (model.pose_head, model.shape_head, model.doubt_head, model.noise_head):
                torch.nn.init.normal_(head[-1].weight, std=0.2)
        return model

    return make


def wander(generator: torch.Generator, size: float = 0.2) -> torch.Tensor:
    return rotation.exp(size * torch.randn(B, T, 16, 3, generator=generator))


@pytest.fixture
def y(generator) -> Frames:
    valid, confidence = torch.ones(B, T, dtype=torch.bool), torch.full((B, T, 16), 0.5)
    told = (torch.zeros(B, 10), valid, confidence, torch.zeros(B, 3))
    return estimate_frames_batch(wander(generator), *told)[0]


@pytest.fixture
def x(y, generator) -> torch.Tensor:
    return y.R @ wander(generator)


N = torch.tensor([1, 3])
OUTPUTS = ("R", "betas", "state", "log_sigma", "noisy")


@torch.no_grad()
def test_the_draft_is_what_the_denoiser_without_a_decoder_says(build, x, y, hand):
    """The weights have the same names, so that one may go on from the other."""
    plain, drafting = build(), build(decoder="draft")
    extra = drafting.load_state_dict(plain.state_dict(), strict=False)
    assert not extra.unexpected_keys
    assert {k.split(".")[0] for k in extra.missing_keys} == {"before", "decoder"}
    alone, both = plain(x, y, N, hand), drafting(x, y, N, hand)
    assert alone.draft is None
    for name in ("R", "betas", "state", "log_sigma"):
        torch.testing.assert_close(getattr(both.draft, name), getattr(alone, name), atol=1e-5, rtol=0)
        assert (getattr(both, name) - getattr(alone, name)).abs().max() > 1e-3, f"the decoder has no say in {name}"


@torch.no_grad()
def test_loop_taught_with_its_own_answers_is_loop(build, x, y, hand):
    """A fixed point: frame by frame over its answers, then all at once over the same answers."""
    model = build(decoder="loop")
    looped = model(x, y, N, hand)
    taught = model(x, y, N, hand, truth=looped.R)
    torch.testing.assert_close(taught.R, looped.R, atol=1e-5, rtol=0)
    torch.testing.assert_close(taught.betas, looped.betas, atol=1e-5, rtol=0)
    torch.testing.assert_close(taught.state, looped.state, atol=1e-4, rtol=0)
    other = model(x, y, N, hand, truth=looped.draft.R)
    assert (other.R - looped.R).abs().max() > 1e-3, "the frame before makes no difference"
    assert torch.equal(other.R[:, 0], taught.R[:, 0])


@torch.no_grad()
def test_teaching_exchanges_truth_for_own_answers(build, x, y, hand, generator):
    """Own 0 is the truth alone, own 1 the answer to the draft alone; between them, frames of both."""
    loop, draft = build(decoder="loop"), build(decoder="draft")
    truth, other = y.R @ wander(generator), y.R @ wander(generator)
    assert (loop(x, y, N, hand, truth=truth).R - loop(x, y, N, hand, truth=other).R).abs().max() > 1e-3
    torch.manual_seed(0)
    alone = loop(x, y, N, hand, truth=truth, own=1.0).R
    assert torch.equal(alone, loop(x, y, N, hand, truth=other, own=1.0).R)
    assert torch.equal(alone, loop(x, y, N, hand, truth=draft(x, y, N, hand).R).R)
    mixed = loop(x, y, N, hand, truth=truth, own=0.5).R
    assert (mixed - alone).abs().max() > 1e-4
    assert (mixed - loop(x, y, N, hand, truth=truth).R).abs().max() > 1e-4


@pytest.mark.parametrize("decoder", ["draft", "loop"])
def test_states_are_told_and_only_sampled_in_training(build, x, y, hand, decoder):
    """With the deciding logit moved, eval follows; training draws anew, and the draw has a gradient."""
    model = build(decoder=decoder)
    teach = {"truth": y.R} if decoder == "loop" else {}

    def answer() -> torch.Tensor:
        return model(x, y, N, hand, **teach).R

    def says(state: int) -> None:
        model.state_head[-1].bias.data = 100.0 * torch.eye(4)[state]

    with torch.no_grad():
        assert torch.equal(answer(), answer())
        says(0)
        reach = answer()
        says(3)
        assert (answer() - reach).abs().max() > 1e-3
        model.state_head[-1].bias.data.zero_()
    model.train()
    torch.manual_seed(0)
    drawn = answer()
    assert (answer() - drawn).abs().max() > 1e-4
    drawn.sum().backward()
    assert model.state_head[-1].weight.grad.abs().max() > 0


@torch.no_grad()
def test_states_can_be_kept_from_the_decoder(build, x, y, hand):
    model = build(decoder="draft", states_in=False)
    before = model(x, y, N, hand).R
    model.state_head[-1].bias.data = torch.tensor([0.0, 0, 0, 100])
    assert torch.equal(model(x, y, N, hand).R, before)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("decoder", ["draft", "loop"])
def test_everything_learns_from_draft_and_answer(build, x, y, hand, decoder, bf16):
    """Encoder and decoder alike; but the answer's loss does not bend the poses that the draft is judged by."""
    model = build(decoder=decoder).train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        pred = model(x, y, N, hand, truth=x, own=0.5) if decoder == "loop" else model(x, y, N, hand)
    parts = [getattr(p, name) for p in (pred, pred.draft) for name in OUTPUTS]
    sum((part * torch.randn(part.shape)).sum() for part in parts).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert not idle
    pred = model(x, y, N, hand)
    assert torch.autograd.grad(pred.R.sum(), pred.draft.R, allow_unused=True) == (None,)
