"""A still picture of shaded meshes, drawn without a graphics card: what a page shows before, or without, its script.

The picture has few colours, each in a few shades, so that its PNG stays small; its ground is clear.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

LAMP = (-0.62, 0.62, 0.48)
"""Where the light comes from, in camera axes: upper left, from the eye's side."""
LIGHT = (0.48, 0.4, 0.2)
"""Shares of a colour that come from everywhere, from the lamp and from the eye."""
SHADES = 15
COLORS = 16
"""Colours that a picture has room for: 16 x 15 shades and the clear ground are 241 of 256."""


@dataclass(frozen=True)
class Picture:
    """Pixels as numbers of colours; 0 is the clear ground."""

    pixels: UInt8[np.ndarray, "h w"]
    palette: UInt8[np.ndarray, "c 3"]

    def png(self) -> bytes:
        """The picture as a PNG with a palette."""
        height, width = self.pixels.shape
        rows = np.concatenate([np.zeros((height, 1), np.uint8), self.pixels], axis=1).tobytes()
        head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
        parts = [
            (b"IHDR", head),
            (b"PLTE", self.palette.tobytes()),
            (b"tRNS", b"\0"),
            (b"IDAT", zlib.compress(rows, 9)),
        ]
        body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
        return b"\x89PNG\r\n\x1a\n" + body

    def rgb(self, ground: tuple[int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
        """The picture on a ground of one colour."""
        return np.concatenate([np.array([ground], np.uint8), self.palette[1:]])[self.pixels]


class Easel:
    """Takes meshes one after the other; nearer ones hide what is behind them."""

    def __init__(self, width: int, height: int, colors: list[tuple[int, int, int]]):
        if len(colors) > COLORS:
            raise ValueError(f"a still has at most {COLORS} colours, {len(colors)} asked for")
        self.depth = np.full((height, width), -np.inf)
        self.pixels = np.zeros((height, width), np.uint8)
        shade = np.linspace(LIGHT[0], sum(LIGHT), SHADES)[:, None]
        body = [np.minimum(shade * np.array(color), 255) for color in colors]
        self.palette = np.concatenate([np.zeros((1, 3)), *body]).round().astype(np.uint8)

    def mesh(
        self,
        points: Float[np.ndarray, "v 3"],
        normals: Float[np.ndarray, "v 3"],
        faces: Int[np.ndarray, "f 3"],
        color: Int[np.ndarray, "v"] | int,
        left: int = 0,
        right: int | None = None,
    ) -> None:
        """Draw a surface: x and y in pixels from the upper left corner, z towards the eye, normals in camera axes.

        `color` is the number of its colour, or of each vertex's. Only columns `left` to `right` are drawn on.
        """
        height, width = self.pixels.shape
        right = width if right is None else right
        colors = np.broadcast_to(np.asarray(color), len(points))
        facing = normals * np.where(normals[:, 2:] < 0, -1, 1)
        light = LIGHT[0] + LIGHT[1] * np.maximum(facing @ np.array(LAMP), 0) + LIGHT[2] * facing[:, 2]
        shade = (light - LIGHT[0]) / (sum(LIGHT) - LIGHT[0]) * (SHADES - 1)
        corners = points[faces]
        sides = corners[:, 1:, :2] - corners[:, :1, :2]
        double_area = sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]
        low = np.ceil(corners[..., :2].min(1)).astype(int)
        high = np.floor(corners[..., :2].max(1)).astype(int)
        for face in np.flatnonzero(np.abs(double_area) > 1e-9):
            x0, x1 = max(low[face, 0], left), min(high[face, 0], right - 1)
            y0, y1 = max(low[face, 1], 0), min(high[face, 1], height - 1)
            if x0 > x1 or y0 > y1:
                continue
            a, b, c = corners[face]
            x, y = np.meshgrid(np.arange(x0, x1 + 1), np.arange(y0, y1 + 1))
            beta = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / double_area[face]
            gamma = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / double_area[face]
            share = np.stack([1 - beta - gamma, beta, gamma])
            z = np.tensordot(np.array([a[2], b[2], c[2]]), share, 1)
            area = np.s_[y0 : y1 + 1, x0 : x1 + 1]
            is_front = (share.min(0) >= -1e-9) & (z > self.depth[area])
            tone = np.tensordot(shade[faces[face]], share, 1).round().clip(0, SHADES - 1)
            value = 1 + colors[faces[face, 0]] * SHADES + tone.astype(int)
            self.depth[area] = np.where(is_front, z, self.depth[area])
            self.pixels[area] = np.where(is_front, value, self.pixels[area])

    def picture(self) -> Picture:
        """What has been drawn so far."""
        return Picture(self.pixels.copy(), self.palette)


def normals_of(points: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v 3"]:
    """Unit normals of the vertices, each face weighing as much as it is large."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    of_faces = np.cross(b - a, c - a)
    total = np.zeros_like(points)
    for k in range(3):
        np.add.at(total, faces[:, k], of_faces)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20)
