"""Make book/_static/before_after.gif, the moving picture of the README: the demo clip, before, after and truth.

    python book/film.py             needs chromium, chromedriver and Pillow

The figure is the book's own player, drawn frame by frame in headless Chromium.
"""

import base64
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver

from handdiff_lib.checkpoint import load_denoiser
from handdiff_lib.hand import DATA, load_hand
from handdiff_lib.presets import config_for
from handdiff_lib.refine import refine
from handdiff_lib.scene import div
from handdiff_lib.storage import load_motion
from handdiff_lib.view import player

OUT = Path(__file__).resolve().parent / "_static" / "before_after.gif"
START, SECONDS, FRAMES, FPS = 0.5, 4.0, 60, 10
WIDTH, HEIGHT = 720, 235

DRAW = """
const done = arguments[arguments.length - 1], gd = document.querySelector(".js-plotly-plot"), frame = arguments[0];
Plotly.animate(gd, [frame], {mode: "immediate", frame: {duration: 0, redraw: true}, transition: {duration: 0}})
  .then(() => Plotly.toImage(gd, {format: "png", width: arguments[1], height: arguments[2]})).then(done);
"""


def main() -> None:
    """Draw the frames and write the film."""
    hand, (model, card) = load_hand(), load_denoiser()
    clip = load_motion(DATA / "clips" / "demo.npz")
    after = refine(clip["right"], model, hand, config_for(card))
    tracks = {"before": clip["right"], "after": after, "truth": clip["right.truth"]}
    fig = player(tracks, hand, seconds=SECONDS, start=START, max_frames=FRAMES)
    fig.layout.sliders, fig.layout.updatemenus, fig.layout.margin = (), (), dict(l=0, r=0, t=0, b=0)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(f"<!doctype html><body style='width:{WIDTH}px'>{div(fig, plotlyjs=True)}</body>")
        pictures = draw(page, [frame.name for frame in fig.frames])
    small = [picture.convert("RGB").quantize(48, dither=Image.Dither.NONE) for picture in pictures]
    small[0].save(OUT, save_all=True, append_images=small[1:], duration=1000 // FPS, loop=0, optimize=True)
    print(f"{OUT.name}: {len(small)} frames, {OUT.stat().st_size / 1e6:.1f} MB")


def draw(page: Path, names: list[str]) -> list[Image.Image]:
    """A picture of every frame."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in ("--headless=new", "--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(120)
    try:
        driver.get(page.as_uri())
        urls = [driver.execute_async_script(DRAW, name, WIDTH, HEIGHT) for name in names]
    finally:
        driver.quit()
    return [Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))) for url in urls]


if __name__ == "__main__":
    main()
