"""Sphinx extension: pages that need no network.

plotly.js and MathJax come from the installed packages, the script of the stages with its hand from the library.
"""

import shutil
import sysconfig
from pathlib import Path

import plotly
from sphinx.application import Sphinx

from handdiff_lib.stage import page_hand, page_script, page_style

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
MATHJAX = Path(sysconfig.get_paths()["purelib"]) / "sphinx-mathjax-offline" / "static" / "mathjax" / "tex-svg.js"


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.connect("html-page-context", _point_launch_buttons_at_the_twins, priority=990)
    app.connect("html-page-context", _load_scripts_where_needed)
    app.connect("build-finished", _copy_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _load_scripts_where_needed(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """plotly.js (4.7 MB) only on pages with a figure, the stages' script (0.2 MB) only with a stage; none twice.

    Sphinx 7.4 lists inline scripts twice, once with file name None and once with an empty one; the second
    `const` of sphinx-thebe is then an error on every page.
    """
    body = context.get("body") or ""
    app.add_js_file("page.js", priority=900)
    if "Plotly.newPlot" in body:
        app.add_js_file("plotly.min.js", priority=100)
    if 'class="handstage"' in body:
        app.add_css_file("handstage.css")
        app.add_js_file("handstage.js", priority=900, loading_method="defer")
    seen = {}
    for script in context.get("script_files", []):
        attributes = getattr(script, "attributes", {})
        seen.setdefault((str(getattr(script, "filename", script) or ""), str(attributes.get("body", ""))), script)
    context["script_files"][:] = seen.values()


def _point_launch_buttons_at_the_twins(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """book/nb/X.ipynb is built and not in the repository; notebooks/X.ipynb is."""
    if "header_buttons" in context:
        context["header_buttons"] = _renamed(context["header_buttons"])


def _renamed(value: object) -> object:
    if isinstance(value, dict):
        return {key: _renamed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    is_link = isinstance(value, str) and value.startswith("http")
    return value.replace("book/nb/", "notebooks/").replace("book%2Fnb%2F", "notebooks%2F") if is_link else value


def _copy_scripts(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        static = Path(app.outdir) / "_static"
        (static / "mathjax").mkdir(exist_ok=True)
        shutil.copyfile(PLOTLY, static / "plotly.min.js")
        shutil.copyfile(MATHJAX, static / "mathjax" / "tex-svg.js")
        (static / "handstage.css").write_text(page_style(), encoding="utf-8")
        script = f"{page_script()}{page_hand()}handstage.start();\n"
        (static / "handstage.js").write_text(script, encoding="utf-8")
