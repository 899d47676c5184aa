r"""The denoiser: from a noisy motion, its estimate and the step to the clean motion, $\hat x = f_W(x_n, y, n)$.

    y   --hand--> mesh --MeshEncoder--\
                                       + --> one token a frame --\
    x_n --hand--> mesh --MeshEncoder--/                           Transformer --> rotations, shape, state
    n   --sinusoids--> MLP ------------------------ step token --/

Meshes have their wrist at the origin and are seen from a frame that follows the wrist's smoothed orientation
(`steady_frame`), so that the network never has to learn what a turned camera looks like.

Paper vs code: the paper encodes $[y, x_n]$ as one six-channel mesh. Two encoders whose outputs are added let y be
encoded once per frame of a clip instead of once per window and step.
Paper vs code: the paper's heads give absolute rotations. Ours give the turn from y to x, whose zero is "leave it", and
may lean on Gaussian means of y, so that the network starts from what a filter can do and learns when not to.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.meshconv import MeshEncoder
from handdiff_lib.motion import HandMotion
from handdiff_lib.pyramid import Pyramid, build_pyramid
from handdiff_lib.smoothing import smooth_rotations

DECIMETRE = 10.0
"""Vertices reach the network in decimetres, so that a hand is about one unit."""
STEADY = 8.0
"""Sigma of the steady frame, in frames."""
SIGMAS = (1.0, 2.5, 6.0)
"""Sigmas, in frames, of the Gaussian means of y that the network may lean on."""


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

    @classmethod
    def tiny(cls) -> "DenoiserConfig":
        """Trains on two CPU cores; the weights that ship."""
        return cls(channels=(8, 16, 16, 32), d=128, heads=4, feedforward=256)

    @classmethod
    def base(cls) -> "DenoiserConfig":
        """The paper's mesh encoder with a narrower Transformer."""
        return cls(d=256, feedforward=512)

    @classmethod
    def paper(cls) -> "DenoiserConfig":
        """The paper's sizes (DIP section 4.1)."""
        return cls()


@dataclass(frozen=True)
class Frames:
    """What the denoiser is told about the estimate y, frame by frame, in the steady frame."""

    R: Float[Tensor, "b t 16 3 3"]
    betas: Float[Tensor, "b 10"]
    """One shape a clip."""
    valid: Bool[Tensor, "b t"]
    confidence: Float[Tensor, "b t 16"]
    """In [0, 1]; negative where the estimator does not say."""
    turns: Float[Tensor, "b t 16 k 3"]
    """From y to its Gaussian means (`smoother_turns`)."""

    def __getitem__(self, index: tuple[slice, slice]) -> "Frames":
        """A part along batch and time."""
        return Frames(self.R[index], self.betas[index[0]], self.valid[index], self.confidence[index], self.turns[index])

    def windows(self, index: Int[Tensor, "w t"]) -> "Frames":
        """Windows of a batch of one clip, given the frames in each."""
        per_frame = (x[0][index] for x in (self.R, self.valid, self.confidence, self.turns))
        R, valid, confidence, turns = per_frame
        return Frames(R, self.betas.expand(len(index), -1), valid, confidence, turns)


@dataclass(frozen=True)
class Prediction:
    """What the denoiser says of the clean motion."""

    R: Float[Tensor, "b t 16 3 3"]
    betas: Float[Tensor, "b 10"]
    state: Float[Tensor, "b t 4"]
    """Logits of the motion states, in the order of `topology.STATES`."""


class Denoiser(nn.Module):
    """MeshEncoder and Transformer over a window of frames."""

    def __init__(self, cfg: DenoiserConfig, pyramid: Pyramid) -> None:
        super().__init__()
        self.cfg = cfg
        self.mesh_y = MeshEncoder(pyramid, cfg.channels, cfg.d)
        self.mesh_x = MeshEncoder(pyramid, cfg.channels, cfg.d)
        self.pose_y = nn.Linear(16 * 6 + 16 * 3 * len(SIGMAS) + 16 + 2, cfg.d)
        self.pose_x = nn.Linear(16 * 6, cfg.d)
        self.step = nn.Sequential(nn.Linear(cfg.d, cfg.d), nn.GELU(), nn.Linear(cfg.d, cfg.d))
        layer = nn.TransformerEncoderLayer(
            cfg.d, cfg.heads, cfg.feedforward, cfg.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, cfg.layers, nn.LayerNorm(cfg.d), enable_nested_tensor=False)
        self.pose_head = nn.Sequential(
            nn.Linear(cfg.d, 2 * cfg.d), nn.GELU(), nn.Linear(2 * cfg.d, 16 * (6 + len(SIGMAS)))
        )
        self.shape_head = nn.Sequential(nn.Linear(cfg.d, cfg.d), nn.GELU(), nn.Linear(cfg.d, 10))
        self.state_head = nn.Sequential(nn.Linear(cfg.d, cfg.d), nn.GELU(), nn.Linear(cfg.d, 4))
        for head in (self.pose_head, self.shape_head):  # start by leaving y as it is
            nn.init.zeros_(head[-1].weight)
            nn.init.zeros_(head[-1].bias)

    def encode_estimate(self, y: Frames, hand: HandModel) -> Float[Tensor, "b t d"]:
        """Features of every frame of y; they depend on neither window, step nor sample."""
        known = (y.confidence[..., :1] >= 0).to(y.R.dtype)
        missing = (~y.valid).to(y.R.dtype)[..., None]
        told = torch.cat([y.confidence.clamp(min=0), known, missing], -1)
        pose = torch.cat([rotation.matrix_to_sixd(y.R).flatten(-2), 5 * y.turns.flatten(-3), told], -1)
        return self.pose_y(pose) + self._mesh(self.mesh_y, y.R, y.betas, hand)

    def encode_noisy(
        self, R_n: Float[Tensor, "b t 16 3 3"], betas: Float[Tensor, "b 10"], hand: HandModel
    ) -> Float[Tensor, "b t d"]:
        """Features of every frame of x_n, in the same steady frame as y."""
        return self.pose_x(rotation.matrix_to_sixd(R_n).flatten(-2)) + self._mesh(self.mesh_x, R_n, betas, hand)

    def _mesh(self, encoder: MeshEncoder, R: Tensor, betas: Tensor, hand: HandModel) -> Float[Tensor, "b t d"]:
        with torch.no_grad():  # nothing behind the mesh is trained
            posed = hand.shape(betas[:, None]).pose(R)
            vertices = (posed.skin() - posed.joints[..., :1, :]) * DECIMETRE
        return encoder(vertices.flatten(0, 1)).unflatten(0, R.shape[:2])

    def predict(
        self,
        features: Float[Tensor, "b t d"],
        n: Int[Tensor, "b"],
        y: Frames,
    ) -> Prediction:
        r"""The clean motion of windows whose frame features (y's plus x_n's) are given; n is the step, 1..N.

        $\hat R = R_y \exp(\sum_k g_k c_k)\,\Delta$: a step towards y's own Gaussian means, whose length the network
        chooses for every joint and frame, and a turn of its own.
        """
        t, d = features.shape[1:]
        place = sinusoids(torch.arange(t, device=features.device), d).to(features)
        step = self.step(sinusoids(n, d).to(features))[:, None]
        token = self.transformer(torch.cat([step, features + place], dim=1))[:, 1:]
        sixd, gates = self.pose_head(token).unflatten(-1, (16, -1)).split([6, len(SIGMAS)], dim=-1)
        own = rotation.sixd_to_matrix(sixd + features.new_tensor([1.0, 0, 0, 0, 1, 0]))
        leaning = rotation.exp((gates[..., None] * y.turns).sum(-2))
        return Prediction(y.R @ leaning @ own, y.betas + self.shape_head(token).mean(1), self.state_head(token))

    def forward(self, R_n: Float[Tensor, "b t 16 3 3"], y: Frames, n: Int[Tensor, "b"], hand: HandModel) -> Prediction:
        r"""$\hat x = f_W(x_n, y, n)$ for whole windows (DIP Eq. 4)."""
        features = self.encode_estimate(y, hand) + self.encode_noisy(R_n, y.betas, hand)
        return self.predict(features, n, y)


def make_denoiser(cfg: DenoiserConfig, hand: HandModel) -> Denoiser:
    """An untrained denoiser for a hand; its mesh pyramid takes about a second to compute."""
    return Denoiser(cfg, build_pyramid(hand.v_template, hand.faces, len(cfg.channels)))


def sinusoids(position: Int[Tensor, "k"], d: int) -> Float[Tensor, "k d"]:
    """Sines and cosines of a position at d/2 wavelengths from 2 pi to 20,000 pi (Vaswani et al. 2017)."""
    frequency = torch.exp(torch.arange(0, d, 2, device=position.device) * (-math.log(10_000.0) / d))
    angle = position[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def steady_frame(R_root: Float[Tensor, "*b t 3 3"], valid: Bool[Tensor, "*b t"]) -> Float[Tensor, "*b t 3 3"]:
    """A slowly turning frame that follows the wrist: its Gaussian chordal mean over time.

    Turning the whole motion turns this frame with it, so what is seen from it stays.
    """
    return smooth_rotations(R_root[..., None, :, :], valid, STEADY)[..., 0, :, :]


def smoother_turns(R: Float[Tensor, "*b t 16 3 3"], valid: Bool[Tensor, "*b t"]) -> Float[Tensor, "*b t 16 k 3"]:
    r"""From each rotation to its Gaussian means, $c_k = \log(R^\top \bar R_{\sigma_k})$ for the sigmas in SIGMAS."""
    means = torch.stack([smooth_rotations(R, valid, sigma) for sigma in SIGMAS], dim=-3)
    return rotation.log(R[..., None, :, :].mT @ means)


def to_steady(R: Float[Tensor, "*b t 16 3 3"], frame: Float[Tensor, "*b t 3 3"]) -> Float[Tensor, "*b t 16 3 3"]:
    """The motion with its global orientation seen from `frame`."""
    return torch.cat([(frame.mT @ R[..., 0, :, :])[..., None, :, :], R[..., 1:, :, :]], dim=-3)


def from_steady(R: Float[Tensor, "*b t 16 3 3"], frame: Float[Tensor, "*b t 3 3"]) -> Float[Tensor, "*b t 16 3 3"]:
    """The way back from `to_steady`."""
    return to_steady(R, frame.mT)


def estimate_frames(motion: HandMotion) -> tuple[Frames, Float[Tensor, "1 t 3 3"]]:
    """What the denoiser is told about a filled track with one shape (a batch of one), and its steady frame."""
    frame = steady_frame(motion.R[:, 0], motion.valid)[None]
    unknown = torch.full_like(motion.R[..., 0, 0], -1.0)
    said = unknown if motion.confidence is None else motion.confidence
    confidence = torch.where(motion.valid[:, None], said, unknown)  # as in training: a missing frame says nothing
    turns = smoother_turns(motion.R, motion.valid)[None]
    y = Frames(to_steady(motion.R[None], frame), motion.betas[None], motion.valid[None], confidence[None], turns)
    return y, frame
