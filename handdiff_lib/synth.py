r"""Motions made from nothing but the open hand and made-up things: reach, grasp, carry, manipulate, release, again.

    story.py    hand and thing 30 times a second, fingers as if the thing were soft
    grasp.py    fingers close only until they touch; no joint is pushed faster than FASTEST
    here        smoothed, with a small tremor, sampled at the wanted rate, and labelled

States are not those of the script: they are read from the geometry (`states.annotate`). This is the data set that
ships: no licence, any amount, the same for the same seed.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.contact import RigidObject
from handdiff_lib.grasp import Grasper
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, Side, mirror
from handdiff_lib.shapes import MadeObject, Shape, draw_shape
from handdiff_lib.states import annotate
from handdiff_lib.story import RATE, Scene, keep_off, write_script

FASTEST = np.radians(600) / RATE
"""How far a thing turns a finger joint in one frame of the script at most."""
SMOOTH = 1.0
"""Sigma, in frames of the script, of the fingers' smoothing."""
SPARE = 6
"""Frames of the script after the clip's end, so that it ends as if it went on."""


@dataclass(frozen=True)
class SynthClip:
    """A made-up motion, its labels, and the thing in it."""

    motion: HandMotion
    state: Int[Tensor, "t"]
    """Index into `topology.STATES`, or FREE; from the geometry."""
    thing: RigidObject
    """In the motion's own frame."""


@dataclass(frozen=True)
class Take:
    """What a seed stands for, before it is sampled."""

    grasper: Grasper
    shape: Shape
    scene: Scene
    """The script with fingers that keep out of the thing."""


def synthesize(hand: HandModel, seed: int, frames: int = 128, fps: float = 30.0, side: Side = "right") -> SynthClip:
    """A random person's hand with a random thing, and its states.

    Another frame rate samples the same motion; above 30 fps states are read some 30 times a second and repeated. A
    left hand's clip is the right one's in the mirror.
    """
    take = play(hand, seed, int(np.ceil(frames / fps * RATE)))
    at, scene = np.arange(frames) / fps * RATE, take.scene
    pose = torch.eye(4).repeat(frames, 1, 1)
    pose[:, :3, :3] = _sample_turns(scene.thing.as_matrix(), at)
    pose[:, :3, 3] = _sample(scene.thing_place, at)
    R = take.grasper.rotations(_sample(scene.fingers, at))
    R[:, 0] = _sample_turns(scene.wrist.as_matrix(), at)
    motion = HandMotion(
        R=R,
        betas=take.grasper.betas,
        transl=_sample(scene.place, at) - take.grasper.wrist,
        valid=torch.ones(frames, dtype=torch.bool),
        fps=fps,
        hand=hand.name,
        frame="world",
    )
    mesh, stride = take.shape.mesh, max(1, int(fps / RATE))
    vertices, faces = torch.from_numpy(mesh.vertices).float(), torch.from_numpy(np.array(mesh.faces))
    seen = annotate(
        replace(motion[::stride], fps=fps / stride), hand, MadeObject(vertices, faces, pose[::stride], take.shape)
    )
    state, thing = seen.state.repeat_interleave(stride)[:frames], RigidObject(vertices, faces, pose)
    return SynthClip(motion, state, thing) if side == "right" else SynthClip(mirror(motion), state, _mirrored(thing))


def play(hand: HandModel, seed: int, frames: int) -> Take:
    """A seed's motion, RATE frames a second, `frames` and SPARE of them."""
    rng = np.random.default_rng(seed)
    shape = draw_shape(rng)
    grasper = Grasper(hand, torch.from_numpy(rng.normal(0, 1, 10)).float())
    scene = write_script(grasper, shape, rng, frames + SPARE)
    fingers = _held_off(grasper, shape, scene)
    tremor = _tremor(np.random.default_rng([seed, 1]), fingers.shape)
    return Take(grasper, shape, replace(scene, fingers=fingers + tremor))


def _held_off(grasper: Grasper, shape: Shape, scene: Scene) -> Float[np.ndarray, "t 15 3"]:
    """The scene's finger angles, kept off the thing, no faster than it can push them, smoothed."""
    made = keep_off(grasper, shape, scene).double().numpy()
    flexion = np.minimum(made[..., 2], scene.fingers[..., 2])
    for frame in range(1, len(flexion)):  # fingers open early and close late rather than go in
        flexion[frame] = np.minimum(flexion[frame], flexion[frame - 1] + FASTEST)
    for frame in range(len(flexion) - 2, -1, -1):
        flexion[frame] = np.minimum(flexion[frame], flexion[frame + 1] + FASTEST)
    made[..., 2] = flexion
    return gaussian_filter1d(made, SMOOTH, axis=0, mode="nearest")


def _tremor(rng: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "t 15 3"]:
    """Slow, small unrest (about half a degree, below 3 Hz) of all angles: a cubic B-spline of noise."""
    at = np.arange(shape[0]) * 6 / RATE + 1
    coarse = np.radians(rng.normal(0, 0.5, (int(at[-1]) + 3, *shape[1:])))
    k, u = at.astype(int), (at % 1)[:, None, None]
    a, b, c, d = (coarse[k + i] for i in (-1, 0, 1, 2))
    return ((1 - u) ** 3 * a + (3 * u**3 - 6 * u**2 + 4) * b + (-3 * u**3 + 3 * u**2 + 3 * u + 1) * c + u**3 * d) / 6


def _sample(values: np.ndarray, at: Float[np.ndarray, "n"]) -> Tensor:
    """Values between the frames of the script, by a cubic spline; the frames themselves as they are."""
    is_frame = np.array_equal(at, at.round())
    found = values[at.astype(int)] if is_frame else make_interp_spline(np.arange(len(values)), values, k=3)(at)
    return torch.from_numpy(found).float()


def _sample_turns(R: Float[np.ndarray, "t 3 3"], at: Float[np.ndarray, "n"]) -> Tensor:
    """Likewise for rotations."""
    return rotation.polar(_sample(R, at))


def _mirrored(thing: RigidObject) -> RigidObject:
    """The thing in the mirror at x = 0."""
    flip = torch.tensor([-1.0, 1.0, 1.0])
    across = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    return RigidObject(thing.vertices * flip, thing.faces.flip(1), across @ thing.pose @ across)
