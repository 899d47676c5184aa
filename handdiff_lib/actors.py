"""Who stands on a stage and from where they are seen: hands over time, in columns, before one camera.

Viewing axes: the back of the hand faces the reader, the fingers of the rest pose point up (-x).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from handdiff_lib.hand import HandModel
from handdiff_lib.scene import EYE, across

_FRAMES = 40
"""Frames that decide how much room a hand needs."""
_ROOM = 0.008
"""Metres kept free on each side."""


@dataclass(frozen=True)
class Actor:
    """One hand over time, its wrist at `place`."""

    color: str
    """As `#RRGGBB`."""
    R: Float[Tensor, "t 16 3 3"]
    betas: Float[Tensor, "*t 10"]
    place: Float[Tensor, "t 3"]
    is_seen: Bool[Tensor, "t"]
    """Grey where False."""
    column: int = 0
    opacity: float = 1.0
    heat: Float[Tensor, "t 16"] | None = None
    """A number a joint, shown on the colour scale and spread over the skin by the skinning weights."""


@dataclass(frozen=True)
class Cast:
    """The actors of one hand model, all right hands or all left ones, in step."""

    actors: tuple[Actor, ...]
    hand: HandModel
    is_left: bool = False

    def __len__(self) -> int:
        return len(self.actors[0].R)

    def points(self, actor: Actor, frames: Sequence[int]) -> Float[Tensor, "k v 3"]:
        """Vertices of an actor at some frames, metres; left hands mirrored."""
        rows = list(frames)
        posed = self.hand.shape(actor.betas if actor.betas.ndim == 1 else actor.betas[rows]).pose(actor.R[rows])
        skin = posed.skin() - posed.joints[:, :1] + actor.place[rows, None]
        return skin * skin.new_tensor([1.0, 1.0, -1.0 if self.is_left else 1.0])

    @property
    def faces(self) -> Int[np.ndarray, "f 3"]:
        """Turned round for left hands, so that normals still point out of the skin."""
        return (self.hand.faces.flip(-1) if self.is_left else self.hand.faces).numpy()

    def camera(self) -> "Camera":
        """From where all of them are seen whole: above the back of the hand, from the thumb's side."""
        eye = torch.tensor(EYE) * torch.tensor([1.0, 1.0, -1.0 if self.is_left else 1.0])
        toward, right = torch.nn.functional.normalize(eye, dim=0), across(eye)
        axes = torch.stack([right, torch.linalg.cross(toward, right), toward])
        few = torch.linspace(0, len(self) - 1, min(len(self), _FRAMES)).round().long().tolist()
        ends: dict[int, list[Tensor]] = {}
        for actor in self.actors:
            seen = self.points(actor, few).flatten(0, 1) @ axes.mT
            ends.setdefault(actor.column, []).append(torch.stack([seen.amin(0), seen.amax(0)]))
        low = {k: torch.stack([pair[0] for pair in pairs]).amin(0) for k, pairs in ends.items()}
        high = {k: torch.stack([pair[1] for pair in pairs]).amax(0) for k, pairs in ends.items()}
        span = torch.stack([high[k] - low[k] for k in ends]).amax(0) + 2 * _ROOM
        middles = {k: (low[k] + high[k]) / 2 @ axes for k in ends}
        return Camera(axes, middles, float(span[0]), float(span[1]))


@dataclass(frozen=True)
class Camera:
    """An orthographic view; every column has its own middle and the same span."""

    axes: Float[Tensor, "3 3"]
    """Rows: right, up and toward the eye, in viewing axes."""
    middles: dict[int, Float[Tensor, "3"]]
    wide: float
    """Metres that a column shows across and from top to bottom."""
    high: float
