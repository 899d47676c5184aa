"""What stands before the cameras: hands with skin and arms, a thing on a table, lamps, and where the cameras are."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from handdiff_lib.contact import RigidObject
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion
from handdiff_lib.raster import Camera, Light, Painted, look_at, render, vertex_normals

UP = np.array([0.0, 1.0, 0.0])
"""In ManipNet's world."""
WIDTH, HEIGHT, FOCAL = 640, 480, 500.0
PLACES = {"head": (0.0, 0.55, -0.45), "front": (0.15, 0.35, 0.7), "side": (0.65, 0.3, 0.25)}
"""Cameras at the head, across the table, and to the right: metres to the right, up and forward of the hands' middle."""
NEAREST = 0.15
"""Metres from a camera that is drawn to the nearest joint, at least."""

ARM = 0.25
"""Length of what is drawn of an arm, metres."""
RINGS = 8
GRID = 25
"""Lines each way that a table is drawn with."""


@dataclass(frozen=True)
class Look:
    """Colours and light of one recording."""

    skin: tuple[float, float, float]
    cloth: tuple[float, float, float]
    thing: tuple[float, float, float]
    wood: tuple[float, float, float]
    wall: tuple[float, float, float]
    lamp: tuple[float, float, float]
    """Direction towards the lamp."""
    bare: bool
    """Whether the arm is bare or in a sleeve."""

    @property
    def light(self) -> Light:
        """A lamp of middling strength."""
        direction = np.array(self.lamp)
        return Light(direction / np.linalg.norm(direction), UP, 0.65, 0.5)


SKINS = (
    (0.94, 0.76, 0.66), (0.87, 0.67, 0.54), (0.78, 0.57, 0.43), (0.66, 0.46, 0.33), (0.50, 0.34, 0.25),
    (0.91, 0.71, 0.57),
)  # fmt: skip


def look(seed: int) -> Look:
    """Colours and a lamp drawn with this seed; the skin goes through SKINS in turn."""
    rng = np.random.default_rng(seed)

    def colour(low: float, high: float) -> tuple[float, float, float]:
        return tuple(rng.uniform(low, high) * rng.uniform(0.8, 1.2, 3).clip(0, 1))

    lamp = (rng.uniform(-0.8, 0.8), rng.uniform(0.7, 1.2), rng.uniform(-0.6, 0.8))
    return Look(
        SKINS[seed % len(SKINS)], colour(0.1, 0.7), colour(0.25, 0.9), colour(0.3, 0.6), colour(0.4, 0.8), lamp,
        bare=bool(seed % 2),
    )  # fmt: skip


def cameras(left: np.ndarray, right: np.ndarray) -> dict[str, Camera]:
    """The cameras of PLACES around (t, 21, 3) joints of both hands; where the hands are says where the person looks."""
    middle = np.concatenate([left, right]).mean((0, 1))
    rightwards = (right.mean((0, 1)) - left.mean((0, 1))) * (1 - UP)
    rightwards /= np.linalg.norm(rightwards)
    axes = np.stack([rightwards, UP, np.cross(UP, rightwards)])
    return {
        name: look_at(middle + np.array(place) @ axes, middle, UP, FOCAL, WIDTH, HEIGHT)
        for name, place in PLACES.items()
    }


def random_camera(joints: np.ndarray, seed: int) -> Camera:
    """A camera anywhere around (t, n, 3) joints, drawn with this seed until all of them stay in its picture."""
    rng = np.random.default_rng(seed)
    middle = joints.mean((0, 1))
    while True:
        azimuth, elevation, roll = np.radians(rng.uniform((0, 5, -20), (360, 70, 20)))
        distance, focal = rng.uniform((0.45, 400), (1.0, 900))
        out = np.array([np.cos(elevation) * np.cos(azimuth), np.sin(elevation), np.cos(elevation) * np.sin(azimuth)])
        up = np.cos(roll) * UP + np.sin(roll) * np.cross(out, UP)
        aim = middle + rng.normal(0, 0.03, 3)
        camera = look_at(aim + distance * out, aim, up, focal, WIDTH, HEIGHT)
        points = camera.project(joints)
        if camera.see(joints)[..., 2].min() > NEAREST and ((points >= 0) & (points < (WIDTH, HEIGHT))).all():
            return camera


def background(seen_by: Camera, look: Look, table: np.ndarray, seed: int) -> np.ndarray:
    """A wall that darkens downwards and a table around the point `table`, both with soft blotches."""
    h, w = seen_by.height, seen_by.width
    blotches = gaussian_filter(np.random.default_rng(seed).normal(size=(h, w)), 25)
    blotches = 1 + 0.06 * blotches / blotches.std()
    wall = np.linspace(1.05, 0.75, h)[:, None] * blotches
    # cut into squares: a triangle with a corner behind the camera would not be drawn at all
    u, v = np.meshgrid(np.linspace(-0.7, 0.7, GRID), np.linspace(-0.5, 0.5, GRID), indexing="ij")
    grid = table + np.stack([u.ravel(), np.zeros(GRID**2), v.ravel()], axis=1)
    k = np.arange(GRID**2).reshape(GRID, GRID)
    a, b, c, d = (part.ravel() for part in (k[:-1, :-1], k[1:, :-1], k[1:, 1:], k[:-1, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    wood = np.array(look.wood) * np.random.default_rng(seed).normal(1, 0.03, (len(grid), 1))
    top = Painted(grid, faces, wood.clip(0, 1), is_closed=False)
    picture = render([top], seen_by, look.light, (wall[..., None] * np.array(look.wall)).clip(0, 1))
    return (picture.rgb * np.where(picture.surface >= 0, blotches, 1)[..., None]).clip(0, 1)


@dataclass(frozen=True)
class Dressed:
    """A hand's mesh made ready for painting, for all frames of a track."""

    vertices: np.ndarray
    """(t, 778, 3), world."""
    arm: np.ndarray
    """(t, RINGS * 16, 3)."""
    faces: np.ndarray
    arm_faces: np.ndarray
    colour: np.ndarray
    arm_colour: np.ndarray
    gloss: float

    def paint(self, frame: int) -> tuple[Painted, Painted]:
        """The hand and its arm in one frame."""
        arm = Painted(self.arm[frame], self.arm_faces, self.arm_colour, 0.03, is_closed=False)
        return Painted(self.vertices[frame], self.faces, self.colour, self.gloss), arm


def dress(motion: HandMotion, hand: HandModel, look: Look) -> Dressed:
    """The hand of a track with skin and a piece of arm."""
    vertices = motion.vertices(hand).double().numpy()
    faces = hand.faces.numpy()
    ring = wrist_ring(faces)
    axis = torch.tensor([1.0, 0.0, 0.0])
    along = motion.R[:, 0] @ axis
    along = (along if motion.side == "right" else along * torch.tensor([-1.0, 1, 1])).double().numpy()
    edge = vertices[:, ring]  # (t, 16, 3)
    centre = edge.mean(1, keepdims=True)
    far = np.linspace(0, 1, RINGS)
    start = 1.0 if look.bare else 1.12
    wide = np.where(far == 0, 1.0, start + 0.45 * far)[None, :, None, None]
    arm = centre[:, None] + wide * (edge - centre)[:, None] + (ARM * far[:, None] * along[:, None])[:, :, None]
    k = np.arange(RINGS * len(ring)).reshape(RINGS, len(ring))
    a, b = k[:-1], k[1:]
    quads = [(a, b, np.roll(b, -1, 1)), (a, np.roll(b, -1, 1), np.roll(a, -1, 1))]
    arm_faces = np.concatenate([np.stack(q, -1).reshape(-1, 3) for q in quads])
    arm_colour = np.tile(look.skin if look.bare else look.cloth, (RINGS * len(ring), 1))
    if motion.side == "left":
        faces = faces[:, ::-1]
    return Dressed(vertices, arm.reshape(len(arm), -1, 3), faces, arm_faces, skin_colour(hand, look), arm_colour, 0.08)


def wrist_ring(faces: np.ndarray) -> list[int]:
    """The vertices of the open end at the wrist, in order."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {(a, b) for a, b in edges.tolist()}
    following = {a: b for a, b in known if (b, a) not in known}
    ring = [min(following)]
    while following[ring[-1]] != ring[0]:
        ring.append(following[ring[-1]])
    return ring


def skin_colour(hand: HandModel, look: Look) -> np.ndarray:
    """A colour a vertex: palms are lighter, finger tips redder, nails lighter still."""
    rest = hand.v_template.double().numpy()
    normal = vertex_normals(rest, hand.faces.numpy())
    upwards = normal[:, 1] / np.linalg.norm(normal, axis=1)
    tone = np.array(look.skin)
    colour = np.tile(tone, (len(rest), 1))
    palm = (1 / (1 + np.exp(6 * upwards)))[:, None]
    colour = (1 - palm) * colour + palm * (0.75 * colour + 0.25 * np.array([0.95, 0.75, 0.68]))
    tips = hand.mean_shape().pose(torch.eye(3).expand(16, 3, 3)).tips().double().numpy()
    near = np.exp(-((np.linalg.norm(rest[:, None] - tips, axis=-1).min(1) / 0.012) ** 2))[:, None]
    colour = (1 - 0.3 * near) * colour + 0.3 * near * np.array([0.85, 0.5, 0.45])
    nail = (near[:, 0] > 0.5) & (upwards > 0.55)
    colour[nail] = 0.4 * colour[nail] + 0.6 * np.array([0.92, 0.75, 0.7])
    shade = np.random.default_rng(0).normal(1, 0.025, (len(rest), 1))
    return (colour * shade).clip(0, 1)


def paint_thing(thing: RigidObject, frame: int, look: Look, is_closed: bool) -> Painted:
    """The thing in one frame."""
    pose = thing.pose[frame].double().numpy()
    vertices = thing.vertices.double().numpy() @ pose[:3, :3].T + pose[:3, 3]
    return Painted(vertices, thing.faces.numpy(), np.tile(look.thing, (len(vertices), 1)), 0.15, is_closed)
