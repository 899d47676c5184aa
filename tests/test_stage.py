"""A stage says what the motion is: packed numbers come back, cameras see all, and a licensed hand stays at home."""

import base64
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.actors import Actor, Cast
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.live import dialled, hand_dials, live_hand, posable
from handdiff_lib.packed import hand_arrays, points_text, turns_text
from handdiff_lib.scene import div, show
from handdiff_lib.stage import Scale, Stage, page_hand, page_parts, page_script
from handdiff_lib.topology import CHAIN


def numbers(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def data_of(html: str) -> dict:
    """What the script of a stage reads."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.S).group(1))


def actor(t: int = 6, bend: float = 1.0, **changes: object) -> Actor:
    """A hand that closes."""
    rotvec = torch.zeros(t, 16, 3)
    rotvec[:, 1:13, 2] = torch.linspace(0, bend, t)[:, None]
    seen = torch.ones(t, dtype=torch.bool)
    return replace(Actor("#D55E00", rotation.exp(rotvec), torch.zeros(10), torch.zeros(t, 3), seen), **changes)


def stage(hand: HandModel, *actors: Actor, **changes: object) -> Stage:
    actors = actors or (actor(),)
    columns = tuple(f"column {k}" for k in range(1 + max(a.column for a in actors)))
    return replace(Stage(Cast(actors, hand), columns, fps=30.0), **changes)


def test_turns_come_back_to_a_hundredth_of_a_degree(generator):
    rotvec = torch.randn(5, 16, 3, generator=generator)
    back = torch.tensor(numbers(turns_text(rotation.exp(rotvec)), "<i2") * (np.pi / 32767)).float().view(5, 16, 3)
    assert rotation.angle_between(rotation.exp(back), rotation.exp(rotvec)).rad2deg().max() < 0.01


def test_points_come_back_to_half_a_unit(generator):
    points = 0.4 * torch.randn(20, 3, generator=generator)
    text, unit = points_text(points)
    assert unit > 1e-5  # larger than 16 bits of hundredths of a millimetre
    back = torch.tensor(numbers(text, "<i2").astype(np.float32)).view(20, 3) * unit
    torch.testing.assert_close(back, points, atol=0.51 * unit, rtol=0)


def test_packed_hand_skins_like_the_hand(hand: HandModel, generator):
    """The slow twin of static/hand.js: within 0.2 mm of the hand model for strong bends and unusual shapes."""
    packed = hand_arrays(hand)
    template = numbers(packed["template"], "<i2").reshape(778, 3) * packed["unit"]
    shapedirs = numbers(packed["shapedirs"], "<i1").reshape(10, 778, 3) * np.array(packed["shape_units"])[:, None, None]
    weights = np.zeros((778, 16))
    near = numbers(packed["near"], "u1").reshape(778, 4)
    np.put_along_axis(weights, near, numbers(packed["weights"], "u1").reshape(778, 4) / 255, 1)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    posedirs = np.zeros((778, 15, 3, 9))
    pairs = numbers(packed["bend_vertex"], "<u2"), numbers(packed["bend_joint"], "u1") - 1
    posedirs[pairs] = numbers(packed["bend"], "<i1").reshape(-1, 3, 9) * packed["bend_unit"]
    again = replace(
        hand,
        v_template=torch.tensor(template).float(),
        shapedirs=torch.tensor(shapedirs.transpose(1, 2, 0)).float(),
        posedirs=torch.tensor(posedirs.transpose(0, 2, 1, 3).reshape(778, 3, 135)).float(),
        weights=torch.tensor(weights).float(),
    )
    R = rotation.exp(0.6 * torch.randn(4, 16, 3, generator=generator))
    betas = 1.5 * torch.randn(10, generator=generator)
    rest = hand.shape(betas).rest_joints  # joints travel as floats
    skins = [replace(model.shape(betas), rest_joints=rest).pose(R).skin() for model in (hand, again)]
    assert (skins[0] - skins[1]).norm(dim=-1).max() < 4e-4
    assert (skins[0] - skins[1]).norm(dim=-1).mean() < 1e-4


def test_camera_sees_every_actor_whole(hand: HandModel):
    far = actor(place=torch.tensor([0.0, 0.0, 0.4]) * torch.linspace(-1, 1, 6)[:, None], column=1)
    cast = Cast((actor(), far), hand)
    camera = cast.camera()
    torch.testing.assert_close(camera.axes @ camera.axes.mT, torch.eye(3), atol=1e-6, rtol=0)
    assert torch.linalg.det(camera.axes) > 0
    for one in cast.actors:
        seen = (cast.points(one, range(6)) - camera.middles[one.column]) @ camera.axes.mT
        assert seen[..., 0].abs().max() < camera.wide / 2
        assert seen[..., 1].abs().max() < camera.high / 2
    assert camera.wide > 0.3  # the far one moves by 0.8 m along z, part of it across


def test_left_hands_are_mirrored_and_their_normals_point_out(hand: HandModel):
    right, left = (Cast((actor(),), hand, is_left) for is_left in (False, True))
    mirror = torch.tensor([1.0, 1.0, -1.0])
    torch.testing.assert_close(left.points(left.actors[0], [3]), right.points(right.actors[0], [3]) * mirror)
    volumes = []
    for cast in (right, left):
        a, b, c = cast.points(cast.actors[0], [0])[0][torch.tensor(cast.faces.copy())].unbind(1)
        volumes.append((a * torch.linalg.cross(b, c)).sum())
    torch.testing.assert_close(volumes[0], volumes[1])
    assert volumes[0] > 0


def test_a_player_of_three_hands_and_128_frames_is_light(hand: HandModel):
    """300 kB with all that a page needs; each further player adds less than 80 kB."""
    three = stage(hand, *(actor(128, column=k) for k in range(3)))
    assert len(three.html()) < 80_000
    assert len(three.html(script=True)) < 300_000


def test_a_hand_that_is_not_open_gives_the_page_vertices_and_nothing_else(hand: HandModel):
    licensed = replace(hand, name="mano")
    data = data_of(stage(licensed).html())
    assert set(data["actors"][0]) == {
        "color", "column", "opacity", "missing", "points", "unit", "faces", "tips", "mirrored",
    }  # fmt: skip
    points = numbers(data["actors"][0]["points"], "<i2").reshape(6, 778, 3) * data["actors"][0]["unit"]
    expected = Cast((actor(),), hand).points(actor(), range(6))
    np.testing.assert_allclose(points, expected.numpy(), atol=1e-5)
    assert "addHand" not in stage(licensed).html()


def test_heat_travels_as_a_share_of_the_scale(hand: HandModel):
    heat = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, torch.nan])[:, None].expand(6, 16)
    data = data_of(stage(hand, actor(heat=heat), scale=Scale("σ (°)", 1.0, 3.0)).html())
    shares = numbers(data["actors"][0]["heat"], "u1").reshape(6, 16)[:, 0].tolist()
    assert shares == [0, 0, 128, 255, 255, 0]  # half of 255 is rounded to even


def test_distance_from_the_truth_colours_the_still(hand: HandModel):
    """The hand that equals the truth has the first colour of the scale only; one that is far off has others too."""
    truth, same, off = actor(column=0), actor(column=1), actor(bend=-1.0, column=2)
    pixels = stage(hand, truth, same, off, truth=0, scale=Scale("mm", 0.0, 20.0)).still(300, 5).pixels
    levels = [set(((part[part > 0].astype(int) - 1) // 15).tolist()) for part in np.split(pixels, 3, axis=1)]
    assert levels[1] == {0}
    assert len(levels[2] & set(range(8))) > 4
    assert not levels[0] & set(range(8))


def test_frames_without_an_estimate_are_grey_in_the_still(hand: HandModel):
    seen = torch.tensor([True, False, True, True, True, True])
    one = stage(hand, actor(is_seen=seen))
    colour = [np.ptp(one.still(200, frame).rgb((0, 0, 0)).astype(int), axis=2).max() for frame in (0, 1)]
    assert colour[0] > 80
    assert colour[1] == 0


def test_words_on_a_stage_cannot_break_the_page(hand: HandModel):
    html = stage(hand, columns=("</script><b>",), title='"<i>').html()
    assert "<b>" not in html
    assert "<i>" not in html
    assert data_of(html)["columns"] == ["</script><b>"]


def test_a_stage_can_be_operated_and_read(hand: HandModel):
    html = stage(hand, names=tuple("abcdef"), label="n =", active=2).html()
    assert 'role="group" aria-label="column 0"' in html
    assert re.search(r'<canvas[^>]*tabindex="0"[^>]*aria-label="column 0: in 3D, 6 frames', html)
    assert re.search(r'<input type="range"[^>]*value="2" aria-label="n =" aria-valuetext="n = c"', html)
    assert '<button type="button" class="hs-play">Play</button>' in html
    assert "hs-bar" not in stage(hand, actor(1)).html()  # one frame needs no slider


def test_a_stage_says_in_a_word_what_it_is(hand: HandModel):
    assert repr(stage(hand)) == "Stage(column 0: 6 frames)"


def test_show_and_div_take_a_stage(hand: HandModel, monkeypatch):
    one = stage(hand)
    monkeypatch.delenv("HANDDIFF_BOOK", raising=False)
    assert show(one) is one
    assert page_parts() in one._repr_html_()  # in a notebook each output stands alone
    monkeypatch.setenv("HANDDIFF_BOOK", "1")
    assert show(one).data == div(one)
    assert "addHand" not in div(one)


def test_page_parts_ask_nothing_of_the_network():
    assert not re.search(r"https?:|fetch\(|import\(|XMLHttp", page_script() + page_hand())
    assert "</script" not in page_script() + page_hand()


def test_a_dial_bends_one_finger(hand: HandModel):
    """The bend of the index moves the index; no vertex that its joints do not pull moves by more than 1 mm."""
    dials = hand_dials(hand)
    values = [45.0 if dial.name == "bend index" else 0.0 for dial in dials]
    moved = (dialled(hand, dials, values) - dialled(hand, dials, [0.0] * len(dials))).norm(dim=-1)
    pulled = hand.weights[:, list(CHAIN["index"])].sum(1)
    assert moved[pulled > 0.99].max() > 0.05
    assert moved[pulled < 1e-3].max() < 1e-3


def test_bending_dials_bring_the_tips_to_the_palm_side(hand: HandModel):
    """Closing is towards -y, out of the palm, for all five fingers."""
    dials = hand_dials(hand)
    flat = dialled(hand, dials, [0.0] * len(dials))
    for finger, tip in zip(CHAIN, (744, 320, 443, 554, 671), strict=True):
        bent = dialled(hand, dials, [30.0 if dial.name == f"bend {finger}" else 0.0 for dial in dials])
        assert bent[tip, 1] < flat[tip, 1] - 0.005, finger


def test_posable_writes_its_dials_and_refuses_a_licensed_hand(hand: HandModel):
    data = data_of(posable(hand).html())
    assert len(data["dials"]) == len(hand_dials(hand))
    assert len(data["dials"][1]["turns"]) >= 3  # three joints of the index
    with pytest.raises(InputError, match="only hold the open hand"):
        posable(replace(hand, name="mano"))


def test_live_hand_sends_the_vertices_that_its_sliders_say(hand: HandModel):
    pytest.importorskip("anywidget")
    view, grid = live_hand(hand).children
    slider = next(slider for slider in grid.children if slider.description == "bend middle")
    slider.value = 60.0
    sent = torch.frombuffer(bytearray(view.vertices), dtype=torch.float32).view(778, 3)
    values = [one.value for one in grid.children]
    torch.testing.assert_close(sent, dialled(hand, hand_dials(hand), values))
    assert sum(values) == 60.0


def test_live_hand_says_what_is_missing(hand: HandModel, monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(InputError, match="pip install ipywidgets anywidget"):
        live_hand(hand)
