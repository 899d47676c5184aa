"""Build the book: run the notebooks that _toc.yml names, two at a time, then make the site in _build/html.

The executed copies and the figure of the first page go to book/nb, which is not in the repository.

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

from opening import write_opening

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
    write_opening(BUILT / "opening.html")
    print("book: making the site", flush=True)
    tool = Path(sys.executable).with_name("jupyter-book")
    site = [str(tool), "build", ".", "-W", "--keep-going", "--quiet"]
    code = subprocess.run(site, cwd=ROOT, env=ENVIRONMENT).returncode
    print("book: open _build/html/index.html" if code == 0 else "book: the site has warnings, see above")
    return code


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
