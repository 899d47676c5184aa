"""The picture that a link to the book shows: one frame of the first page's player, 1200 by 630.

python book/card.py PICTURE.png             needs Pillow
"""

import sys
from pathlib import Path

from film import GROUND, INK
from opening import opening
from PIL import Image, ImageDraw, ImageFont

from handdiff_lib.stage import Stage

SIZE, HEAD, FOOT, EDGE = (1200, 630), 140, 60, 30
FRAME = 142
TITLE, SUBTITLE = "handdiff", "From a per-frame estimate to coherent hand motion"


def write_card(stage: Stage, path: Path) -> None:
    """Write the picture; few colours keep it light."""
    draw(stage).quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)


def draw(stage: Stage) -> Image.Image:
    """Title over the hands of one frame, each with its name, from twice the size so that edges are smooth."""
    page = Image.new("RGB", SIZE, GROUND)
    pen = ImageDraw.Draw(page)
    pen.text((2 * EDGE, 44), TITLE, INK, ImageFont.load_default(64), anchor="lm")
    pen.text((2 * EDGE, 108), SUBTITLE, INK, ImageFont.load_default(34), anchor="lm")
    wide = SIZE[0] - 2 * EDGE
    hands = Image.fromarray(stage.still(2 * wide, FRAME).rgb(GROUND))
    hands = hands.resize((wide, round(hands.height * wide / hands.width)), Image.Resampling.LANCZOS)
    page.paste(hands, (EDGE, (SIZE[1] + HEAD - FOOT - hands.height) // 2))
    for column, name in enumerate(stage.columns):
        middle, low = EDGE + (column + 0.5) * wide / len(stage.columns), SIZE[1] - FOOT / 2
        pen.text((middle, low), name, INK, ImageFont.load_default(30), anchor="mm")
        half = pen.textlength(name, ImageFont.load_default(30)) / 2
        pen.ellipse([middle - half - 32, low - 9, middle - half - 14, low + 9], fill=stage.cast.actors[column].color)
    return page


if __name__ == "__main__":
    write_card(opening(), Path(sys.argv[1]))
