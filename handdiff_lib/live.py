"""A hand to pose: dials for fingers, thumb, wrist and shape, in a page without a kernel or in Jupyter with one.

`posable` lets the page's own script turn the hand. `live_hand` lets the hand model itself do it, so that any hand
works, MANO too; it needs ipywidgets and anywidget.
"""

import importlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.actors import Actor, Cast
from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.hand import HandModel, InputError, load_hand
from handdiff_lib.scene import SKIN
from handdiff_lib.stage import Dial, Stage, page_hand, page_script, page_style
from handdiff_lib.topology import CHAIN, FINGERS

_FLEXION, _ABDUCTION = 2, 1
_SHAPES = 3
"""Shape numbers that have a dial."""


def hand_dials(hand: HandModel) -> tuple[Dial, ...]:
    """A dial for the bend of each finger (all three joints), their spread, the wrist, and the first shape numbers."""
    axes, still = anatomical_axes(hand), torch.zeros(10)
    dials = []
    for finger in FINGERS:
        turns = torch.zeros(16, 3)
        for joint in CHAIN[finger]:
            turns[joint] = axes[joint, _FLEXION]
        high = 45.0 if finger == "thumb" else 85.0
        dials.append(Dial(f"bend {finger}", -10.0, high, turns * torch.pi / 180, still))
    spread, wrist = torch.zeros(16, 3), torch.zeros(16, 3)
    for finger, share in {"index": 1.0, "ring": -0.5, "little": -1.0}.items():
        spread[CHAIN[finger][0]] = share * axes[CHAIN[finger][0], _ABDUCTION]
    wrist[0, 0] = 1.0
    dials += [Dial("spread", -10.0, 20.0, spread * torch.pi / 180, still)]
    dials += [Dial("turn wrist", -90.0, 90.0, wrist * torch.pi / 180, still)]
    nothing = torch.zeros(16, 3)
    dials += [Dial(f"shape {k + 1}", -3.0, 3.0, nothing, torch.eye(10)[k], "", 0.1) for k in range(_SHAPES)]
    return tuple(dials)


def posable(
    hand: HandModel,
    dials: Sequence[Dial] | None = None,
    R: Float[Tensor, "16 3 3"] | None = None,
    title: str | None = None,
) -> Stage:
    """A still hand with dials under it, which the page itself poses; `R` is the pose that the dials start from.

    Only the open hand: another one's arrays do not go into a page (InputError).
    """
    if hand.name != "open":
        raise InputError(f"a page may only hold the open hand, not {hand.name!r}; use live_hand in Jupyter")
    return _alone(hand, torch.eye(3).expand(16, 3, 3) if R is None else R, title, tuple(dials or hand_dials(hand)))


def live_hand(hand: HandModel | None = None, dials: Sequence[Dial] | None = None):
    """A Jupyter widget: the hand, and a slider for each dial that poses it through the hand model."""
    ipywidgets, anywidget, traitlets = (_import(name) for name in ("ipywidgets", "anywidget", "traitlets"))
    hand = hand or load_hand()
    dials = tuple(dials or hand_dials(hand))
    middle = _alone(hand, torch.eye(3).expand(16, 3, 3), None, ())

    class _View(anywidget.AnyWidget):
        _esm = f"{page_script()}{page_hand()}export default window.handstage;"
        html = traitlets.Unicode().tag(sync=True)
        vertices = traitlets.Bytes().tag(sync=True)

    view = _View(html=f"<style>{page_style()}</style>{middle.html()}")
    sliders = [
        ipywidgets.FloatSlider(
            0,
            min=dial.low,
            max=dial.high,
            step=dial.step,
            description=dial.name,
            readout_format=f".{0 if dial.step >= 1 else 1}f",
            style={"description_width": "7rem"},
        )
        for dial in dials
    ]

    def pose(_change: object = None) -> None:
        view.vertices = dialled(hand, dials, [slider.value for slider in sliders]).numpy().astype("<f4").tobytes()

    for slider in sliders:
        slider.observe(pose, "value")
    pose()
    columns = ipywidgets.Layout(grid_template_columns="repeat(auto-fit, minmax(19rem, 1fr))", max_width="900px")
    return ipywidgets.VBox([view, ipywidgets.GridBox(sliders, layout=columns)])


def dialled(hand: HandModel, dials: Sequence[Dial], values: Sequence[float]) -> Float[Tensor, "v 3"]:
    """Vertices of the hand with its dials at these values, wrist joint at the origin, metres.

    Rotation vectors of dials that turn one joint are added.
    """
    turns, betas = torch.zeros(16, 3), torch.zeros(10)
    for dial, value in zip(dials, values, strict=True):
        turns, betas = turns + value * dial.turns, betas + value * dial.betas
    posed = hand.shape(betas).pose(rotation.exp(turns))
    return posed.skin() - posed.joints[:1]


def _alone(hand: HandModel, R: Float[Tensor, "16 3 3"], title: str | None, dials: tuple[Dial, ...]) -> Stage:
    """One hand, one frame."""
    seen = torch.ones(1, dtype=torch.bool)
    actor = Actor(SKIN, R[None].float().contiguous(), torch.zeros(10), torch.zeros(1, 3), seen)
    return Stage(Cast((actor,), hand), ("",), fps=1.0, title=title, dials=dials)


def _import(name: str):
    """The module, or InputError with the cure."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(f"a live hand needs {name}: pip install ipywidgets anywidget") from None
