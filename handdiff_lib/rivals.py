r"""Learned baselines: networks from the coordinates of a window's noisy poses to those of the clean ones.

    name                    what goes in and out                    network
    smoothnet               6D rotations                            MLP over time, each coordinate by itself
    posebert_angles         6D rotations                            Transformer that starts from the mean pose
    posebert_positions      21 joints, seen from the wrist, dm      the same; `ik` makes it a hand again
    transformer             6D rotations and shape                  Transformer that starts from the estimate
    constant_acceleration   as transformer                          as transformer; its loss differs (`rival_runs`)

All see what our denoiser sees of the estimate's pose, from the same steady frame, and which frames are valid.
SmoothNet: Zeng et al. 2022. PoseBERT: Baradel et al. 2022. Both are built from their papers' description, in our words.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from handdiff_lib import rotation
from handdiff_lib.decoder import sinusoids
from handdiff_lib.denoiser import DECIMETRE
from handdiff_lib.hand import HandModel, InputError

Name = Literal["smoothnet", "posebert_angles", "posebert_positions", "transformer", "constant_acceleration"]
NAMES: tuple[Name, ...] = get_args(Name)

ROTATIONS, SHAPE, POSITIONS = 16 * 6, 10, 21 * 3
HIDDEN = 0.125
"""Share of the frames that PoseBERT hides from itself in training: two in sixteen."""


@dataclass(frozen=True)
class RivalConfig:
    """A rival and its sizes."""

    name: Name
    window: int = 32
    """Frames the network sees at once."""
    d: int = 256
    layers: int = 4
    """Blocks; for SmoothNet residual ones."""
    heads: int = 8
    """Of the attention; SmoothNet has none."""
    feedforward: int = 512
    dropout: float = 0.1

    @classmethod
    def usual(cls, name: str, window: int = 32) -> "RivalConfig":
        """Its authors' sizes where they are known, those of our `base` otherwise. Raises InputError for other names."""
        if name not in NAMES:
            raise InputError(f"rival {name!r} is unknown; there are {', '.join(NAMES)}")
        match name:
            case "smoothnet":
                return cls(name, window, d=512, layers=3, feedforward=256, dropout=0.5)
            case "posebert_angles" | "posebert_positions":
                return cls(name, window, d=512)
        return cls(name, window)

    @property
    def width(self) -> int:
        """Coordinates of a frame."""
        match self.name:
            case "posebert_positions":
                return POSITIONS
            case "transformer" | "constant_acceleration":
                return ROTATIONS + SHAPE
        return ROTATIONS


def coordinates(
    name: Name, R: Float[Tensor, "b t 16 3 3"], betas: Float[Tensor, "b 10"], hand: HandModel
) -> Float[Tensor, "b t c"]:
    """What a rival sees of a window of poses."""
    if name == "posebert_positions":
        joints = hand.shape(betas[:, None]).pose(R).joints21()
        return ((joints - joints[..., :1, :]) * DECIMETRE).flatten(-2)
    sixd = rotation.matrix_to_sixd(R).flatten(-2)
    if name in ("transformer", "constant_acceleration"):
        return torch.cat([sixd, betas[:, None].expand(-1, sixd.shape[1], -1)], dim=-1)
    return sixd


def to_rotations(x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t 16 3 3"]:
    """The rotations in coordinates that hold them first."""
    return rotation.sixd_to_matrix(x[..., :ROTATIONS].unflatten(-1, (16, 6)))


def to_joints(x: Float[Tensor, "b t 63"]) -> Float[Tensor, "b t 21 3"]:
    """The joints seen from the wrist, dm, of `posebert_positions`."""
    joints = x.unflatten(-1, (21, 3))
    return joints - joints[..., :1, :]


class SmoothNet(nn.Module):
    """An MLP from the values of one coordinate over a window to the clean ones, the same for all coordinates."""

    def __init__(self, cfg: RivalConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.start = nn.Sequential(nn.Linear(cfg.window, cfg.d), nn.LeakyReLU(0.1))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(cfg.d, cfg.feedforward), nn.Dropout(cfg.dropout), nn.LeakyReLU(0.2),
                nn.Linear(cfg.feedforward, cfg.d), nn.Dropout(cfg.dropout), nn.LeakyReLU(0.2),
            )
            for _ in range(cfg.layers)
        )  # fmt: skip
        self.end = nn.Linear(cfg.d, cfg.window)

    def forward(self, x: Float[Tensor, "b t c"], valid: Bool[Tensor, "b t"]) -> list[Float[Tensor, "b t c"]]:
        """One guess. It is not told which frames are missing; they come bridged."""
        h = self.start(x.mT)
        for block in self.blocks:
            h = h + block(h)
        return [self.end(h).mT]


def _layers(cfg: RivalConfig) -> list[nn.TransformerEncoderLayer]:
    sizes = (cfg.d, cfg.heads, cfg.feedforward, cfg.dropout, "gelu")
    return [nn.TransformerEncoderLayer(*sizes, batch_first=True, norm_first=True) for _ in range(cfg.layers)]


class PoseBERT(nn.Module):
    """A masked Transformer; after each block one and the same MLP improves the guess, which starts as the mean pose.

    A frame that is missing, or hidden in training, has a learned token, and no other frame looks at it.
    """

    def __init__(self, cfg: RivalConfig, mean_pose: Float[Tensor, "c"]) -> None:
        super().__init__()
        self.cfg = cfg
        self.register_buffer("mean_pose", mean_pose)
        self.embed = nn.Linear(cfg.width, cfg.d)
        self.missing = nn.Parameter(0.02 * torch.randn(cfg.d))
        self.place = nn.Parameter(0.02 * torch.randn(cfg.window, cfg.d))
        self.blocks = nn.ModuleList(_layers(cfg))
        self.regress = nn.Sequential(
            nn.Linear(cfg.d + cfg.width, cfg.feedforward), nn.GELU(), nn.Linear(cfg.feedforward, cfg.width)
        )
        nn.init.xavier_uniform_(self.regress[-1].weight, gain=0.01)
        nn.init.zeros_(self.regress[-1].bias)

    def forward(self, x: Float[Tensor, "b t c"], valid: Bool[Tensor, "b t"]) -> list[Float[Tensor, "b t c"]]:
        """The guess after each block."""
        seen = valid & (torch.rand(valid.shape, device=x.device) >= HIDDEN) if self.training else valid
        token = torch.where(seen[..., None], self.embed(x), self.missing) + self.place
        unseen = ~seen & seen.any(1, keepdim=True)  # a window without any frame looks at all its tokens
        guess, guesses = self.mean_pose.expand_as(x), []
        for block in self.blocks:
            token = block(token, src_key_padding_mask=unseen)
            guess = guess + self.regress(torch.cat([token, guess], dim=-1))
            guesses.append(guess)
        return guesses


class JointTransformer(nn.Module):
    """A Transformer over the frames of a window that answers with a change of the estimate, zero to begin with."""

    def __init__(self, cfg: RivalConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Linear(cfg.width + 1, cfg.d)
        self.blocks = nn.ModuleList(_layers(cfg))
        self.norm = nn.LayerNorm(cfg.d)
        self.head = nn.Sequential(nn.Linear(cfg.d, 2 * cfg.d), nn.GELU(), nn.Linear(2 * cfg.d, cfg.width))
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)

    def forward(self, x: Float[Tensor, "b t c"], valid: Bool[Tensor, "b t"]) -> list[Float[Tensor, "b t c"]]:
        """One guess; its shape is one for the window."""
        token = self.embed(torch.cat([x, valid[..., None].to(x)], dim=-1))
        token = token + sinusoids(torch.arange(x.shape[1], device=x.device), self.cfg.d).to(x)
        for block in self.blocks:
            token = block(token)
        pose, shape = self.head(self.norm(token)).split([ROTATIONS, SHAPE], dim=-1)
        return [x + torch.cat([pose, shape.mean(1, keepdim=True).expand_as(shape)], dim=-1)]


Rival = SmoothNet | PoseBERT | JointTransformer


def make_rival(cfg: RivalConfig, hand: HandModel) -> Rival:
    """An untrained rival; its chance is torch's own."""
    match cfg.name:
        case "smoothnet":
            return SmoothNet(cfg)
        case "posebert_angles" | "posebert_positions":
            R = torch.cat([torch.eye(3)[None], rotation.exp(hand.hands_mean.view(15, 3))])[None, None]
            return PoseBERT(cfg, coordinates(cfg.name, R, torch.zeros(1, 10), hand)[0, 0])
    return JointTransformer(cfg)
