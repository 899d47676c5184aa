"""The stage's script in headless Chromium: it skins as the hand model does, and answers keys, fingers and dials."""

import math
import re
import time

import pytest
import torch
from test_pages import resize, wait

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.live import dialled, hand_dials, posable
from handdiff_lib.motion import HandMotion
from handdiff_lib.stage import page_parts
from handdiff_lib.topology import CHAIN, FINGERS, JOINTS, TIPS
from handdiff_lib.view import player

pytestmark = pytest.mark.browser

POINTS = """
const [place, actor, frame] = arguments, stage = document.querySelectorAll(".handstage")[place].stage;
return Array.from(stage.actors[actor].at(frame).points);
"""
KEY = """
const el = document.querySelectorAll(".handstage")[0], [where, key, shiftKey] = arguments;
el.querySelector(where).dispatchEvent(new KeyboardEvent("keydown", {key, shiftKey, bubbles: true}));
"""
POINTER = """
const canvas = document.querySelector(".hs-canvas"), [kind, x, y, pointerId] = arguments;
const box = canvas.getBoundingClientRect();
canvas.setPointerCapture = () => {};
canvas.dispatchEvent(new PointerEvent(kind, {clientX: box.left + x, clientY: box.top + y, pointerId, bubbles: true}));
"""


def shaking(side: str, generator: torch.Generator) -> HandMotion:
    """Forty frames of a hand in poses of its own, one shape a frame."""
    R = rotation.exp(0.5 * torch.randn(40, 16, 3, generator=generator))
    betas, transl = torch.randn(40, 10, generator=generator), 0.05 * torch.randn(40, 3, generator=generator)
    return HandMotion(R, betas, transl, torch.arange(40) > 2, 30.0, side, "open")


@pytest.fixture(scope="module")
def scenes(hand: HandModel) -> list:
    """A player of two left hands that move, a posable hand, and a plain player."""
    generator = torch.Generator().manual_seed(0)
    tracks = {"before": shaking("left", generator), "truth": shaking("left", generator)}
    values = {"value": {"before": torch.rand(40, generator=generator)}}
    first = player(tracks, hand, steady=False, trails=5, error_to="truth", lines=values)
    return [first, posable(hand), player({"truth": tracks["truth"]}, hand)]


@pytest.fixture(scope="module")
def address(serve, scenes, tmp_path_factory) -> str:
    """Where the scenes can be read, all on one page."""
    folder = tmp_path_factory.mktemp("stage")
    body = page_parts() + "".join(scene.html() for scene in scenes[:3]) + 15 * scenes[2].html()
    start = "<script>handstage.start()</script>"
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
    (folder / "index.html").write_text(f"{head}</head><body>{body}{start}</body></html>", encoding="utf-8")
    return f"{serve(folder)}/index.html"


@pytest.fixture
def page(chromium, address):
    """The scenes, open in the browser."""
    resize(chromium, 1000)
    chromium.get(address)
    wait(chromium, "document.querySelector('.handstage').stage.drawn")
    return chromium


def test_the_page_skins_as_the_hand_model_does(page, scenes):
    """Left hands, shapes and places that change each frame: within 0.5 mm everywhere, 0.15 mm on average."""
    for k, actor in enumerate(scenes[0].cast.actors):
        for frame in (0, 39):
            found = torch.tensor(page.execute_script(POINTS, 0, k, frame)).view(778, 3)
            apart = (found - scenes[0].cast.points(actor, [frame])[0]).norm(dim=-1)
            assert apart.max() < 5e-4
            assert apart.mean() < 1.5e-4


def test_dials_pose_the_hand_as_the_hand_model_does(page, hand):
    dials = hand_dials(hand)
    values = [dial.high / 2 if dial.betas.any() or dial.name in ("bend index", "turn wrist") else 0.0 for dial in dials]
    page.execute_script(
        """const el = document.querySelectorAll(".handstage")[1];
        el.querySelectorAll(".hs-dial").forEach((dial, k) => { dial.step = "any"; dial.value = arguments[0][k]; });
        el.querySelector(".hs-dial").dispatchEvent(new Event("input"));""",
        values,
    )
    change = "document.querySelectorAll('.handstage')[1].stage"
    found = page.execute_script(f"const s = {change}; return Array.from(s.actors[0].at(0, s.change).points)")
    apart = (torch.tensor(found).view(778, 3) - dialled(hand, dials, values)).norm(dim=-1)
    assert apart.max() < 5e-4


def test_keys_step_play_turn_and_zoom(page):
    stage = "document.querySelector('.handstage').stage"
    frame = page.execute_script(f"return {stage}.frame")
    page.execute_script(KEY, ".hs-canvas", "ArrowRight", False)
    assert page.execute_script(f"return {stage}.frame") == frame + 1
    assert page.execute_script("return document.querySelector('.hs-slider').value") == str(frame + 1)
    page.execute_script(KEY, ".hs-canvas", "ArrowRight", True)
    page.execute_script(KEY, ".hs-canvas", "+", False)
    assert page.execute_script(f"return [{stage}.yaw > 0, {stage}.zoom > 1]") == [True, True]
    page.execute_script(KEY, ".hs-canvas", "0", False)
    assert page.execute_script(f"return [{stage}.yaw, {stage}.zoom]") == [0, 1]
    page.execute_script(KEY, ".hs-slider", " ", False)
    wait(page, f"{stage}.isPlaying && {stage}.frame !== {frame + 1}")
    assert page.execute_script("return document.querySelector('.hs-play').textContent") == "Pause"
    page.execute_script(KEY, ".hs-canvas", " ", False)
    assert not page.execute_script(f"return {stage}.isPlaying")


def test_one_finger_turns_and_two_fingers_zoom(page):
    stage = "document.querySelector('.handstage').stage"
    for kind, x in (("pointerdown", 100), ("pointermove", 150)):
        page.execute_script(POINTER, kind, x, 80, 1)
    assert page.execute_script(f"return {stage}.yaw") == pytest.approx(0.55)  # 50 pixels
    page.execute_script(POINTER, "pointerdown", 250, 80, 2)
    page.execute_script(POINTER, "pointermove", 350, 80, 2)
    assert page.execute_script(f"return {stage}.zoom") == pytest.approx(2.0)  # from 100 pixels apart to 200
    for finger in (1, 2):
        page.execute_script(POINTER, "pointerup", 350, 80, finger)


def test_a_click_in_a_curve_goes_to_its_frame(page):
    page.execute_script(
        """const lane = document.querySelector(".hs-lane svg"), box = lane.getBoundingClientRect();
        const at = {clientX: box.left + 0.5 * box.width, clientY: box.top + 5, bubbles: true};
        lane.dispatchEvent(new PointerEvent("pointerdown", at));"""
    )
    assert page.execute_script("return document.querySelector('.handstage').stage.frame") == 20  # half of 39, rounded


def click(page, x: float, y: float) -> None:
    """Click the first stage's canvas there, pixels from its upper left corner, without moving the mouse."""
    for kind in ("pointerdown", "pointerup"):
        page.execute_script(POINTER, kind, x, y, 1)
    page.execute_script(
        """const canvas = document.querySelector(".hs-canvas"), box = canvas.getBoundingClientRect();
        const at = {clientX: box.left + arguments[0], clientY: box.top + arguments[1], bubbles: true};
        canvas.dispatchEvent(new MouseEvent("click", at));""",
        x,
        y,
    )


def test_a_click_names_the_joint_and_the_vertex_under_it(page):
    """A click on the place where a vertex of the middle finger's tip is drawn names it, or one beside it."""
    stage, told = "document.querySelector('.handstage').stage", "document.querySelector('.hs-pick').textContent"
    x, y, _ = page.execute_script(
        f"""const s = {stage}; s.play(false); s.show(10);
        return s.pick.seen(s.camera(), 0, s.actors[0].at(10).points.slice(3 * 443, 3 * 444))[0];"""
    )
    click(page, x, y)
    words = str(wait(page, told))
    assert words.startswith("before, ")
    vertex = int(re.search(r"vertex (\d+)", words).group(1))
    place = page.execute_script(
        f"const s = {stage}; return s.pick.seen(s.camera(), 0, s.actors[0].at(10).points.slice({3 * vertex}))[0]"
    )
    assert math.dist((x, y), place[:2]) < 12
    off = page.execute_script(
        f"""const [a, b] = {stage}.actors.map((one) => one.at(10).points), v = 3 * {vertex};
        return 1000 * Math.hypot(a[v] - b[v], a[v + 1] - b[v + 1], a[v + 2] - b[v + 2]);"""
    )
    assert words.endswith(f", {off:.1f} mm off")
    page.execute_script(KEY, ".hs-canvas", "ArrowRight", False)
    wait(page, f"!{told}.endsWith('{off:.1f} mm off') && {told}.includes('vertex {vertex},')")  # the same vertex, later
    click(page, 3, 3)
    wait(page, f"!{told}")


def test_names_of_joints_are_the_library_s(page, hand):
    """The tips are their own; what the first joint of the index alone moves is nearest to a joint of the index."""
    names = page.execute_script(
        "const { hand } = document.querySelector('.handstage').stage.actors[0];"
        "return Array.from({ length: 778 }, (_, v) => hand.nameOf(v));"
    )
    assert [names[v] for v in TIPS["smplx"]] == [f"{finger} tip" for finger in FINGERS]
    assert set(names) <= {*JOINTS, *(f"{finger} tip" for finger in FINGERS)}
    for finger, joints in CHAIN.items():
        moved = (hand.weights[:, joints[1]] > 0.7).nonzero()[:, 0].tolist()
        assert moved
        assert all(names[v].startswith(finger) for v in moved)


def test_a_drag_names_nothing(page):
    for kind, x in (("pointerdown", 160), ("pointermove", 200), ("pointerup", 200)):
        page.execute_script(POINTER, kind, x, 150, 1)
    page.execute_script("document.querySelector('.hs-canvas').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert not page.execute_script("return document.querySelector('.handstage').stage.pick.actor")


def test_many_players_share_one_context_and_draw_when_seen(page):
    """Browsers give a page about sixteen WebGL contexts; eighteen players draw all the same, each when it is near."""
    last = "[...document.querySelectorAll('.handstage')].at(-1)"
    assert page.execute_script("return document.querySelectorAll('.handstage').length") == 18
    assert page.execute_script(f"return {last}.stage.drawn") == 0
    page.execute_script(f"{last}.scrollIntoView()")
    wait(page, f"{last}.stage.drawn")
    assert not [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def test_a_still_is_there_before_any_script(page):
    assert page.execute_script("return document.querySelector('.hs-still').naturalWidth") > 400


def test_autoplay_waits_for_readers_who_want_little_motion(page):
    wish = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
    page.execute_script("document.querySelectorAll('.handstage')[2].stage.data.autoplay = true;")
    page.execute_script("document.querySelectorAll('.handstage')[2].scrollIntoView()")
    wait(page, "document.querySelectorAll('.handstage')[2].stage.drawn")
    assert not page.execute_script("return document.querySelectorAll('.handstage')[2].stage.isPlaying")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    page.execute_script("document.querySelectorAll('.handstage')[3].stage.data.autoplay = true;")
    for there in ("[0]", "[document.querySelectorAll('.handstage').length - 1]", "[3]"):
        page.execute_script(f"document.querySelectorAll('.handstage'){there}.scrollIntoView()")
        time.sleep(0.5)  # the page sees what comes and goes once a frame
    wait(page, "document.querySelectorAll('.handstage')[3].stage.isPlaying")
