"""Build the book: run the notebooks that _toc.yml names, two at a time, then make the site in _build/html.

The executed copies go to book/nb, which is not in the repository, and so do the figure of the first page and the
picture for links to the book.

python book/build.py            everything
python book/build.py 01 03      run only these notebooks again, then make the site
"""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from card import write_card
from opening import opening

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "book" / "nb"
ENVIRONMENT = os.environ | {"HANDDIFF_BOOK": "1", "OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def main(only: list[str]) -> int:
    """0 when every notebook ran and the site was made without a warning."""
    names = re.findall(r"book/nb/(\w+)", (ROOT / "_toc.yml").read_text())
    chosen = [name for name in names if not only or name.split("_")[0] in only]
    BUILT.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=2) as pool:
        failed = [name for name, done in zip(chosen, pool.map(run, chosen), strict=True) if not done]
    if failed:
        print(f"book: {', '.join(failed)} failed; its last lines are above", file=sys.stderr)
        return 1
    stage = opening()
    (BUILT / "opening.html").write_text(stage.html(), encoding="utf-8")
    write_card(stage, BUILT / "card.png")
    print("book: making the site", flush=True)
    tool = Path(sys.executable).with_name("jupyter-book")
    site = [str(tool), "build", ".", "-W", "--keep-going", "--quiet"]
    code = subprocess.run(site, cwd=ROOT, env=ENVIRONMENT).returncode
    open_front_door(ROOT / "_build" / "html")
    print("book: open _build/html/index.html" if code == 0 else "book: the site has warnings, see above")
    return code


def open_front_door(site: Path) -> None:
    """Write the index.html that leads to the first page; people share its address, so it says what that page says."""
    first = (site / "book" / "intro.html").read_text(encoding="utf-8")
    tags = re.findall(r'<title>.*?</title>|<meta (?:name="(?:description|twitter)|property="og:)[^>]*>', first)
    lead = '<meta http-equiv="refresh" content="0; url=book/intro.html"></head><body><main><h1>handdiff</h1>'
    page = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{"".join(tags)}{lead}'
    link = '<p><a href="book/intro.html">To the first page</a></p></main></body></html>\n'
    (site / "index.html").write_text(page + link, encoding="utf-8")


def run(name: str) -> bool:
    """Execute one notebook into book/nb and say how long it took; False when a cell raised."""
    start, target = time.monotonic(), BUILT / f"{name}.ipynb"
    words = [sys.executable, "-m", "papermill", f"notebooks/{name}.ipynb", str(target), "-k", "python3"]
    done = subprocess.run(
        [*words, "--no-progress-bar", "--cwd", str(ROOT)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    print(f"book: {name} {'ran' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - start:.0f} s", flush=True)
    if done.returncode:
        target.unlink(missing_ok=True)
        print("\n".join(done.stderr.splitlines()[-25:]), file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
