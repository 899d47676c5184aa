"""Make book/_static/before_after.gif, the moving picture of the README: the demo clip, before, after and truth.

    python book/film.py             needs Pillow

The frames are the stills of the first page's player, so that no browser is needed.
"""

from pathlib import Path

from opening import opening
from PIL import Image, ImageDraw, ImageFont

from handdiff_lib.stage import Stage

OUT = Path(__file__).resolve().parent / "_static" / "before_after.gif"
FIRST, LAST, STEP = 15, 135, 3
WIDTH, HEAD = 720, 30
GROUND, INK = (255, 255, 255), (51, 51, 51)


def main() -> None:
    """Draw the frames and write the film."""
    stage = opening()
    pictures = [draw(stage, frame) for frame in range(FIRST, LAST, STEP)]
    small = [picture.quantize(64, dither=Image.Dither.NONE) for picture in pictures]
    pause = round(1000 * STEP / stage.fps)
    small[0].save(OUT, save_all=True, append_images=small[1:], duration=pause, loop=0, optimize=True)
    print(f"{OUT.name}: {len(small)} frames, {OUT.stat().st_size / 1e6:.2f} MB")


def draw(stage: Stage, frame: int) -> Image.Image:
    """One frame with the names over the hands, from twice the size so that edges are smooth."""
    hands = Image.fromarray(stage.still(2 * WIDTH, frame).rgb(GROUND))
    hands = hands.resize((WIDTH, round(hands.height * WIDTH / hands.width)), Image.Resampling.LANCZOS)
    page = Image.new("RGB", (WIDTH, hands.height + HEAD), GROUND)
    page.paste(hands, (0, HEAD))
    pen, part = ImageDraw.Draw(page), WIDTH / len(stage.columns)
    for column, name in enumerate(stage.columns):
        color = stage.cast.actors[column].color
        middle = (column + 0.5) * part
        pen.ellipse([middle - 40, HEAD / 2 - 5, middle - 30, HEAD / 2 + 5], fill=color)
        pen.text((middle - 22, HEAD / 2), name, INK, ImageFont.load_default(16), anchor="lm")
    return page


if __name__ == "__main__":
    main()
