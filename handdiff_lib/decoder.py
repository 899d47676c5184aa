r"""A causal Transformer decoder over the frames of a window, all at once or one by one.

    start  token_2  token_3 ... token_t      token of a frame: what is known of the frame before it
      |       |        |           |
    causal self-attention, attention to the encoder's tokens, MLP      (each layer)
      |       |        |           |
    out_1   out_2    out_3  ...  out_t       out_t never depends on token_{t+1}

Frames already decoded leave their keys and values in a `Cache`, so that a new frame costs one row of attention.
Decoding all frames at once is one step of many frames: there is one way through the code.
Paper vs code: the released decoder normalises after each layer part and has ReLU; ours is built as our encoder is, with
the normalisation before and GELU.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoids(position: Int[Tensor, "k"], d: int) -> Float[Tensor, "k d"]:
    """Sines and cosines of a position at d/2 wavelengths from 2 pi to 20,000 pi (Vaswani et al. 2017)."""
    frequency = torch.exp(torch.arange(0, d, 2, device=position.device) * (-math.log(10_000.0) / d))
    angle = position[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


class Attention(nn.Module):
    """Attention in several heads, with its keys and values in the open so that they can be kept."""

    def __init__(self, d: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(d, d)
        self.key_value = nn.Linear(d, 2 * d)
        self.out = nn.Linear(d, d)

    def keys_values(self, x: Float[Tensor, "b s d"]) -> Float[Tensor, "2 b h s c"]:
        """What others see of these tokens."""
        return self.key_value(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def forward(
        self, x: Float[Tensor, "b k d"], kv: Float[Tensor, "2 b h s c"], seen: Bool[Tensor, "k s"]
    ) -> Float[Tensor, "b k d"]:
        """What each token gathers; `seen` is True where it may look."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        dropout = self.dropout if self.training else 0.0
        gathered = F.scaled_dot_product_attention(query, kv[0], kv[1], attn_mask=seen, dropout_p=dropout)
        return self.out(gathered.transpose(1, 2).flatten(-2))


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's tokens and an MLP, each added to what comes in."""

    def __init__(self, d: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(3))
        self.to_past = Attention(d, heads, dropout)
        self.to_memory = Attention(d, heads, dropout)
        self.mlp = nn.Sequential(nn.Linear(d, feedforward), nn.GELU(), nn.Dropout(dropout), nn.Linear(feedforward, d))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "b k d"],
        past: Float[Tensor, "2 b h p c"] | None,
        memory: Float[Tensor, "2 b h m c"],
        seen: Bool[Tensor, "k s"],
        seen_memory: Bool[Tensor, "k m"],
    ) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "2 b h s c"]]:
        """The new frames' tokens, and the keys and values of the past with theirs."""
        norm_past, norm_memory, norm_mlp = self.norms
        inside = norm_past(x)
        new = self.to_past.keys_values(inside)
        kv = new if past is None else torch.cat([past, new], dim=-2)
        x = x + self.dropout(self.to_past(inside, kv, seen))
        x = x + self.dropout(self.to_memory(norm_memory(x), memory, seen_memory))
        return x + self.dropout(self.mlp(norm_mlp(x))), kv


@dataclass(frozen=True)
class Cache:
    """What the frames still to come need of the encoder and of the frames before them."""

    done: int
    """Frames decoded so far."""
    past: tuple[Float[Tensor, "2 b h p c"] | None, ...]
    """Each layer's keys and values of decoded frames, the last `lookback` of them; None before the first."""
    memory: tuple[Float[Tensor, "2 b h m c"], ...]
    """Each layer's keys and values of the encoder's tokens."""


class Decoder(nn.Module):
    """Layers of causal attention; the first token is learned, the others are the caller's.

    `lookback` is the number of earlier frames that each layer may see (None: all). `sees_ahead` says whether a frame
    may look at encoder tokens of later frames.
    """

    def __init__(
        self,
        d: int,
        heads: int,
        layers: int,
        feedforward: int,
        dropout: float,
        lookback: int | None = None,
        sees_ahead: bool = True,
    ) -> None:
        super().__init__()
        self.lookback, self.sees_ahead = lookback, sees_ahead
        self.first = nn.Parameter(0.01 * torch.rand(d))
        self.layers = nn.ModuleList(DecoderLayer(d, heads, feedforward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(d)
        self.dropout = nn.Dropout(dropout)

    def start(self, memory: Float[Tensor, "b m d"]) -> Cache:
        """Nothing decoded yet; `memory` is a token about the window (the step) and one a frame."""
        kv = tuple(layer.to_memory.keys_values(memory) for layer in self.layers)
        return Cache(0, (None,) * len(self.layers), kv)

    def step(self, token: Float[Tensor, "b k d"], cache: Cache) -> tuple[Float[Tensor, "b k d"], Cache]:
        """The next k frames decoded, and the cache for those after them."""
        k, d = token.shape[1:]
        held = 0 if cache.past[0] is None else cache.past[0].shape[-2]
        frame = torch.arange(cache.done, cache.done + k, device=token.device)
        ago = frame[:, None] - torch.arange(cache.done - held, cache.done + k, device=token.device)
        seen = ago >= 0 if self.lookback is None else (ago >= 0) & (ago <= self.lookback)
        memory_frame = torch.arange(-1, cache.memory[0].shape[-2] - 1, device=token.device)
        seen_memory = (memory_frame <= frame[:, None]) | self.sees_ahead  # the window's own token is frame -1
        x = self.dropout(token + sinusoids(frame, d).to(token))
        kept = []
        for layer, past, memory in zip(self.layers, cache.past, cache.memory, strict=True):
            x, kv = layer(x, past, memory, seen, seen_memory)
            excess = 0 if self.lookback is None else max(0, held + k - self.lookback)
            kept.append(kv[..., excess:, :])
        return self.norm(x), Cache(cache.done + k, tuple(kept), cache.memory)

    def forward(self, before: Float[Tensor, "b t d"], memory: Float[Tensor, "b m d"]) -> Float[Tensor, "b t d"]:
        """All frames at once; `before[:, t]` is the token that frame t leaves for frame t + 1, the last is not used."""
        token = torch.cat([self.first_token(memory), before[:, :-1]], dim=1)
        return self.step(token, self.start(memory))[0]

    def first_token(self, memory: Float[Tensor, "b m d"]) -> Float[Tensor, "b 1 d"]:
        """The learned token of the first frame, which has none before it."""
        return self.first.to(memory).expand(len(memory), 1, -1)
