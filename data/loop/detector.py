"""MediaPipe's hand tracking on a video, from its two networks alone: where palms are, then 21 landmarks in a crop.

    no hand known ----palm network--> box of the palm --+
                                                        +--> turned square crop --landmark network--> 21 landmarks
    hand known in the frame before --> its landmarks ---+

Numbers are those of MediaPipe's graphs `palm_detection_cpu`, `palm_detection_detection_to_roi`,
`hand_landmark_landmarks_to_roi` and `hand_landmark_tracking_cpu` (version 0.10.21).
Needs ai-edge-litert, and the .tflite files of the mediapipe wheel.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import affine_transform

PALM, HAND = 192, 224
"""Sides of the networks' pictures."""
LEAST_SCORE, LEAST_PRESENCE = 0.5, 0.5
SAME_PALM, SAME_PLACE = 0.3, 0.5
"""Overlap from which two palms, or two crops, are one."""
_SOLID = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18]
"""Landmarks that the next crop is laid around."""


@dataclass(frozen=True)
class Roi:
    """A turned square in the picture, pixels and radians."""

    centre: np.ndarray
    size: float
    angle: float

    @property
    def axes(self) -> np.ndarray:
        """Columns: the square's right and down."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.array([[c, -s], [s, c]])

    def overlap(self, other: "Roi") -> float:
        """Intersection over union, as if neither were turned."""
        gap = np.abs(self.centre - other.centre)
        shared = np.minimum((self.size + other.size) / 2 - gap, min(self.size, other.size)).clip(0).prod()
        return shared / (self.size**2 + other.size**2 - shared)


@dataclass(frozen=True)
class Seen:
    """A hand that was found."""

    pixels: np.ndarray
    """(21, 2)."""
    world: np.ndarray
    """(21, 3), metres around the hand's centre, in the axes of the picture: x right, y down, z away from the camera."""
    presence: float
    handedness: float
    """Near 1 for what is a left hand in a mirror: a right hand in a camera's picture."""


class Tracker:
    """Follows up to two hands through the pictures of one video."""

    def __init__(self, models: Path) -> None:
        self.palm = _Network(models / "palm_detection/palm_detection_full.tflite")
        self.hand = _Network(models / "hand_landmark/hand_landmark_full.tflite")
        self.known: list[Roi] = []

    def __call__(self, picture: np.ndarray) -> list[Seen]:
        """The hands in the next picture, (h, w, 3) in [0, 1]."""
        places = list(self.known)
        if len(places) < 2:
            for roi in self._palms(picture):
                if all(roi.overlap(other) <= SAME_PLACE for other in places):
                    places.append(roi)
        found: list[tuple[Seen, Roi]] = []
        for seen in sorted((self._landmarks(picture, roi) for roi in places[:2]), key=lambda s: -s.presence):
            after = next_roi(seen.pixels)
            if seen.presence > LEAST_PRESENCE and all(after.overlap(other) <= SAME_PLACE for _, other in found):
                found.append((seen, after))
        self.known = [roi for _, roi in found]
        return [seen for seen, _ in found]

    def _palms(self, picture: np.ndarray) -> list[Roi]:
        """Crops around the palms in a picture, the surest first."""
        h, w = picture.shape[:2]
        side = max(h, w)
        whole = Roi(np.array([w, h]) / 2, side, 0.0)
        boxes, scores = self.palm(crop(picture, whole, PALM, "constant"))
        scores = 1 / (1 + np.exp(-scores[:, 0].astype(float).clip(-100, 100)))
        likely = np.flatnonzero(scores > LEAST_SCORE)
        boxes = boxes[likely].reshape(-1, 9, 2) / PALM  # centre, size, seven points
        boxes[:, [0, *range(2, 9)]] += ANCHORS[likely, None]
        return [palm_roi(box * side - (side - np.array([w, h])) / 2, box[1] * side)
                for box in merged(boxes, scores[likely])]  # fmt: skip

    def _landmarks(self, picture: np.ndarray, roi: Roi) -> Seen:
        pixels, presence, handedness, world = self.hand(crop(picture, roi, HAND, "nearest"))
        pixels = (pixels.reshape(21, 3)[:, :2] / HAND - 0.5) * roi.size @ roi.axes.T + roi.centre
        world = world.reshape(21, 3).astype(float)
        world[:, :2] = world[:, :2] @ roi.axes.T
        return Seen(pixels, world, presence.item(), handedness.item())


class _Network:
    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter  # here, so that the geometry can be tested without it

        self.net = Interpreter(str(path), num_threads=1)
        self.net.allocate_tensors()
        self.input = self.net.get_input_details()[0]["index"]
        self.outputs = [d["index"] for d in self.net.get_output_details()]

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        self.net.set_tensor(self.input, picture[None].astype(np.float32))
        self.net.invoke()
        return [self.net.get_tensor(k)[0] for k in self.outputs]


def crop(picture: np.ndarray, roi: Roi, side: int, beyond: str) -> np.ndarray:
    """The square as (side, side, 3); `beyond` is what stands outside the picture, `constant` black or `nearest`."""
    scale = roi.size / side
    turn = roi.axes[::-1, ::-1] * scale  # rows and columns are y and x
    start = (roi.centre - roi.axes @ np.full(2, roi.size / 2))[::-1] + turn @ np.full(2, 0.5) - 0.5
    parts = [affine_transform(picture[..., k], turn, start, (side, side), order=1, mode=beyond) for k in range(3)]
    return np.stack(parts, axis=-1)


def _anchors() -> np.ndarray:
    """(2016, 2) centres, in [0, 1], that the palm network counts from: two a cell of 24 x 24, six of 12 x 12."""
    layers = []
    for cells, times in ((24, 2), (12, 6)):
        middle = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(middle, middle)
        layers.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), times, axis=0))
    return np.concatenate(layers)


ANCHORS = _anchors()


def merged(boxes: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Means, weighed by score, of the (9, 2) boxes that overlap the surest, then of the rest."""
    left, means = scores.argsort()[::-1], []
    while len(left):
        same = np.array([box_overlap(boxes[left[0]], boxes[k]) > SAME_PALM for k in left])
        group = left[same]
        means.append(np.average(boxes[group], axis=0, weights=scores[group]))
        left = left[~same]
    return means


def box_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes: centre, then width and height."""
    shared = np.minimum((a[1] + b[1]) / 2 - np.abs(a[0] - b[0]), np.minimum(a[1], b[1])).clip(0).prod()
    return shared / (a[1].prod() + b[1].prod() - shared)


def palm_roi(points: np.ndarray, size: np.ndarray) -> Roi:
    """The crop for a palm: (centre, -, wrist, -, middle knuckle, ...) in pixels, and the box's width and height."""
    angle = upright(points[2], points[4])
    return _shifted(Roi(points[0], size.max(), angle), size[1], -0.5, 2.6)


def next_roi(pixels: np.ndarray) -> Roi:
    """The crop for the next frame, around the (21, 2) landmarks of this one."""
    knuckles = 0.25 * pixels[5] + 0.5 * pixels[9] + 0.25 * pixels[13]
    angle = upright(pixels[0], knuckles)
    axes = Roi(pixels[0], 1.0, angle).axes
    inside = pixels[_SOLID] @ axes
    low, high = inside.min(0), inside.max(0)
    return _shifted(Roi((low + high) / 2 @ axes.T, (high - low).max(), angle), (high - low)[1], -0.1, 2.0)


def upright(wrist: np.ndarray, knuckle: np.ndarray) -> float:
    """How far the picture must be turned for the knuckle to stand above the wrist, radians in [-pi, pi)."""
    x, y = knuckle - wrist
    return (np.pi / 2 - np.arctan2(-y, x) + np.pi) % (2 * np.pi) - np.pi


def _shifted(roi: Roi, height: float, down: float, scale: float) -> Roi:
    """Moved along its own down by that share of the height, then made larger."""
    return Roi(roi.centre + roi.axes[:, 1] * down * height, roi.size * scale, roi.angle)
