r"""The denoiser: from a noisy motion, its estimate and the step to the clean motion, $\hat x = f_W(x_n, y, n)$.

    y   --hand--> mesh --MeshEncoder--\
                                       + --> one token a frame --\
    x_n --hand--> mesh --MeshEncoder--/                           Transformer --heads--> draft
    n   --sinusoids--> MLP ------------------------ step token --/      |                  |
                              the clean frame before, its state --> causal decoder --heads--> rotations, shape,
                                                                                              state, doubt
Without a decoder the draft is the answer. With `draft` the clean frame before is the draft's, and all frames are
decoded at once; with `loop` it is the decoder's own answer, frame after frame. Their weights are alike.

Meshes have their wrist at the origin and are seen from a frame that follows the wrist's smoothed orientation
(`steady_frame`), so that the network never has to learn what a turned camera looks like.

Paper vs code: the paper encodes $[y, x_n]$ as one six-channel mesh. Two encoders whose outputs are added let y be
encoded once per frame of a clip instead of once per window and step.
Paper vs code: the paper's heads give absolute rotations. Ours give the turn from y to x, whose zero is "leave it", and
may lean on Gaussian means of y, so that the network starts from what a filter can do and learns when not to.
Paper vs code: the paper predicts frame by frame, the released code decodes its draft in one pass. Here are both.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from handdiff_lib import rotation
from handdiff_lib.decoder import Decoder, sinusoids
from handdiff_lib.frames import AROUND, SIGMAS, Frames
from handdiff_lib.hand import HandModel
from handdiff_lib.meshconv import MeshEncoder
from handdiff_lib.pyramid import Pyramid, build_pyramid
from handdiff_lib.topology import STATES

DECIMETRE = 10.0
"""Vertices reach the network in decimetres, so that a hand is about one unit."""
TEMPERATURE = 0.1
"""Of the Gumbel-Softmax that draws states in training (the released code's)."""


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of the network."""

    window: int = 16
    """Frames the Transformer sees at once (DIP section 4.1)."""
    channels: tuple[int, ...] = (32, 64, 64, 64)
    """Features after each of the four mesh convolutions (DIP section 4.1)."""
    d: int = 512
    layers: int = 4
    heads: int = 8
    feedforward: int = 512
    dropout: float = 0.1
    decoder: Literal["none", "draft", "loop"] = "none"
    """What follows the encoder's draft: nothing, one pass over the draft, or frame by frame over its own answers."""
    decoder_layers: int = 4
    decoder_feedforward: int = 2048
    states_in: bool = True
    """Whether the decoder is told the motion state of the frame before."""
    lookahead: int | None = None
    """Frames of the future that an answer's rotations may depend on, within the window; None: all. For streaming."""
    lookback: int | None = None
    """Earlier frames that each layer of the decoder may see; None: all of the window."""

    @classmethod
    def tiny(cls) -> "DenoiserConfig":
        """Trains on two CPU cores while one has lunch."""
        return cls(channels=(8, 16, 16, 32), d=128, heads=4, feedforward=256)

    @classmethod
    def base(cls) -> "DenoiserConfig":
        """The paper's mesh encoder, a narrower Transformer, and windows of four seconds; the weights that ship."""
        return cls(window=128, d=256, feedforward=512)

    @classmethod
    def paper(cls) -> "DenoiserConfig":
        """The paper's sizes (DIP section 4.1)."""
        return cls(decoder="draft")


@dataclass(frozen=True)
class Prediction:
    """What the denoiser says of the clean motion."""

    R: Float[Tensor, "b t 16 3 3"]
    betas: Float[Tensor, "b 10"]
    state: Float[Tensor, "b t 4"]
    """Logits of the motion states, in the order of `topology.STATES`."""
    log_sigma: Float[Tensor, "b t 16"]
    """Log of the standard deviation expected of R's error, in radians along each axis of the tangent space."""
    noisy: Float[Tensor, "b t"]
    """Logit of whether the estimate has any error to undo, rather than being clean motion."""
    draft: "Prediction | None" = None
    """What the encoder said before the decoder; None where there is no decoder."""


class Denoiser(nn.Module):
    """MeshEncoder and Transformer over a window of frames."""

    def __init__(self, cfg: DenoiserConfig, pyramid: Pyramid) -> None:
        super().__init__()
        self.cfg = cfg
        self.mesh_y = MeshEncoder(pyramid, cfg.channels, cfg.d)
        self.mesh_x = MeshEncoder(pyramid, cfg.channels, cfg.d)
        self.pose_y = nn.Linear(16 * (6 + 6 * len(SIGMAS) + len(AROUND) + 1) + 5, cfg.d)
        self.pose_x = nn.Linear(16 * 6, cfg.d)
        self.step = _mlp(cfg.d, cfg.d, cfg.d)
        layer = nn.TransformerEncoderLayer(
            cfg.d, cfg.heads, cfg.feedforward, cfg.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, cfg.layers, nn.LayerNorm(cfg.d), enable_nested_tensor=False)
        self.pose_head = _mlp(cfg.d, 2 * cfg.d, 16 * (6 + len(SIGMAS)))
        self.shape_head = _mlp(cfg.d, cfg.d, 10)
        self.state_head = _mlp(cfg.d, cfg.d, len(STATES))
        self.doubt_head = _mlp(cfg.d, cfg.d // 2, 16)
        if cfg.decoder != "none":
            self.before = nn.Linear(2 * cfg.d + len(STATES) * cfg.states_in, cfg.d)
            sizes = (cfg.d, cfg.heads, cfg.decoder_layers, cfg.decoder_feedforward, cfg.dropout)
            self.decoder = Decoder(*sizes, cfg.lookback, sees_ahead=cfg.lookahead is None)
        self.noise_head = _mlp(cfg.d, cfg.d // 2, 1)
        starts = {self.pose_head: 0.0, self.shape_head: 0.0}  # leaving y as it is
        starts |= {self.doubt_head: math.log(math.radians(5)), self.noise_head: 5.0}  # taking it for noisy
        for head, start in starts.items():
            nn.init.zeros_(head[-1].weight)
            nn.init.constant_(head[-1].bias, start)

    def encode_estimate(self, y: Frames, hand: HandModel) -> Float[Tensor, "b t d"]:
        """Features of every frame of y; they depend on neither window, step nor sample."""
        known = (y.confidence[..., :1] >= 0).to(y.R.dtype)
        missing = (~y.valid).to(y.R.dtype)[..., None]
        told = torch.cat([y.confidence.clamp(min=0), known, missing, y.sight], -1)
        seen = (rotation.matrix_to_sixd(y.R), 5 * y.turns.flatten(-2), y.shake, 20 * y.rates.flatten(-2))
        pose = torch.cat([*(x.flatten(-2) for x in seen), told], -1)
        return _precise(self.pose_y, pose) + self._mesh(self.mesh_y, y.R, y.betas, hand)

    def encode_noisy(
        self, R_n: Float[Tensor, "b t 16 3 3"], betas: Float[Tensor, "b 10"], hand: HandModel
    ) -> Float[Tensor, "b t d"]:
        """Features of every frame of x_n, in the same steady frame as y; n may be 0, which is a clean motion."""
        return _precise(self.pose_x, rotation.matrix_to_sixd(R_n).flatten(-2)) + self._mesh(
            self.mesh_x, R_n, betas, hand
        )

    def _mesh(self, encoder: MeshEncoder, R: Tensor, betas: Tensor, hand: HandModel) -> Float[Tensor, "b t d"]:
        with torch.no_grad(), torch.autocast(R.device.type, enabled=False):  # nothing behind the mesh is trained
            posed = hand.shape(betas[:, None]).pose(R)
            vertices = (posed.skin() - posed.joints[..., :1, :]) * DECIMETRE
        return encoder(vertices.flatten(0, 1)).unflatten(0, R.shape[:2]).to(R.dtype)

    def predict(
        self,
        features: Float[Tensor, "b t d"],
        n: Int[Tensor, "b"],
        y: Frames,
        hand: HandModel,
        truth: Float[Tensor, "b t 16 3 3"] | None = None,
        own: float = 0.0,
    ) -> Prediction:
        """The clean motion of windows whose frame features (y's plus x_n's) are given; n is the step, 1..N.

        The decoder's token of a frame says what is known of the frame before: its features, the clean pose, and the
        state that the encoder sees there (hard samples in training, the likeliest in use). Clean poses have y's shape,
        so that their features differ from x_n's by the pose alone.

        `truth`, seen from y's steady frame, is for training `loop`: the clean poses are then the true ones, each
        exchanged with probability `own` for the decoder's own answer to the draft, so that all frames are decoded at
        once (scheduled sampling, Bengio et al. 2015). Without it `loop` runs over its own answers. Chance is torch's
        own, as for dropout.
        """
        memory = self._encode(features, n)
        draft = self._read(memory[:, 1:], y)
        if self.cfg.decoder == "none":
            return draft
        state = self._state(draft.state)

        def token(R: Tensor, part: slice = slice(None)) -> Float[Tensor, "b k d"]:
            clean = self.encode_noisy(R.detach(), y.betas, hand)
            return self.before(torch.cat([features[:, part], clean, state[:, part]], dim=-1))

        def at_once(R: Tensor) -> Prediction:
            return self._read(self.decoder(token(R), memory), y)

        if self.cfg.decoder == "draft":
            return replace(at_once(draft.R), draft=draft)
        if truth is None:
            return replace(self._loop(token, memory, y), draft=draft)
        if own > 0:
            said = at_once(draft.R).R.detach()  # no_grad would stay in autocast's kept weights (torch 2.10)
            take = torch.rand(y.valid.shape, device=y.R.device) < own
            truth = torch.where(take[..., None, None, None], said, truth)
        return replace(at_once(truth), draft=draft)

    def _encode(self, features: Float[Tensor, "b t d"], n: Int[Tensor, "b"]) -> Float[Tensor, "b t+1 d"]:
        """The step's token and one for every frame.

        With a limited lookahead only the first layer sees later frames, so that layers do not add up to a longer one.
        """
        t, d = features.shape[1:]
        frame = torch.arange(-1, t, device=features.device)  # the step stands before frame 0
        step = self.step(sinusoids(n, d).to(features))[:, None]
        x = torch.cat([step, features + sinusoids(frame[1:], d).to(features)], dim=1)
        if self.cfg.lookahead is None:
            return self.transformer(x)
        ahead = frame - frame[:, None]
        for k, layer in enumerate(self.transformer.layers):
            reach = self.cfg.lookahead if k == 0 else 0
            x = layer(x, src_mask=ahead > reach)
        return self.transformer.norm(x)

    def _read(self, token: Float[Tensor, "b t d"], y: Frames) -> Prediction:
        r"""What the heads, which draft and answer share, say of the frames of y.

        $\hat R = R_y \exp(\sum_k g_k c_k)\,\Delta$: a step towards y's own Gaussian means, whose length the network
        chooses for every joint and frame, and a turn of its own. What is said of the errors, left and given, reads the
        token but does not train what is behind it: saying how far off the answer is must not cost the answer anything.
        """
        heads = (self.pose_head, self.shape_head, self.state_head)
        pose, shape, state = (head(token).to(y.R.dtype) for head in heads)
        log_sigma, noisy = (head(token.detach()).to(y.R.dtype) for head in (self.doubt_head, self.noise_head))
        with torch.autocast(y.R.device.type, enabled=False):
            sixd, gates = pose.unflatten(-1, (16, -1)).split([6, len(SIGMAS)], dim=-1)
            own = rotation.sixd_to_matrix(sixd + pose.new_tensor([1.0, 0, 0, 0, 1, 0]))
            leaning = rotation.exp((gates[..., None] * y.turns).sum(-2))
            return Prediction(y.R @ leaning @ own, y.betas + shape.mean(1), state, log_sigma, noisy[..., 0])

    def _state(self, logits: Float[Tensor, "b t 4"]) -> Float[Tensor, "b t s"]:
        """One-hot states for the decoder, of width 0 where it is not told; sampled in training, with a gradient."""
        if not self.cfg.states_in:
            return logits[..., :0]
        if self.training:
            return F.gumbel_softmax(logits, tau=TEMPERATURE, hard=True)
        return F.one_hot(logits.argmax(-1), len(STATES)).to(logits)

    def _loop(self, token: Callable[[Tensor, slice], Tensor], memory: Tensor, y: Frames) -> Prediction:
        """Frame by frame: the token of a frame is made from the answer of the frame before."""
        cache, following, out = self.decoder.start(memory), self.decoder.first_token(memory), []
        for k in range(y.R.shape[1]):
            part = slice(k, k + 1)
            decoded, cache = self.decoder.step(following, cache)
            out.append(decoded)
            following = token(self._read(decoded, y[:, part]).R, part)
        return self._read(torch.cat(out, dim=1), y)

    def forward(
        self, R_n: Float[Tensor, "b t 16 3 3"], y: Frames, n: Int[Tensor, "b"], hand: HandModel, **teaching
    ) -> Prediction:
        r"""$\hat x = f_W(x_n, y, n)$ for whole windows (DIP Eq. 4); `truth` and `own` as in `predict`."""
        features = self.encode_estimate(y, hand) + self.encode_noisy(R_n, y.betas, hand)
        return self.predict(features, n, y, hand, **teaching)


def _precise(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer in x's own precision, also under autocast: in bfloat16 a pose is known to a third of a degree."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


def make_denoiser(cfg: DenoiserConfig, hand: HandModel) -> Denoiser:
    """An untrained denoiser for a hand; its mesh pyramid takes about a second to compute."""
    return Denoiser(cfg, build_pyramid(hand.v_template, hand.faces, len(cfg.channels)))
