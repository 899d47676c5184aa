"""live_hand in a JupyterLab that runs: the cell shows a hand, and the kernel moves it when a slider does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_pages import STAGE_INK, resize, wait

from handdiff_lib.hand import HandModel
from handdiff_lib.live import dialled, hand_dials
from handdiff_lib.topology import FINGERS, TIPS

pytestmark = pytest.mark.browser
STAGE = "document.querySelector('.jp-OutputArea .handstage').stage"


@pytest.fixture
def lab(tmp_path: Path):
    """The address of a notebook with one cell, in a JupyterLab of its own."""
    cell = {"id": "a", "cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    cell["source"] = "from handdiff_lib.view import live_hand\nlive_hand()"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": [cell]}
    (tmp_path / "live.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["lab", "--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=open"]
    places = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = os.environ | places | {"IPYTHONDIR": str(tmp_path / "ipython")}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", *words], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    yield f"http://127.0.0.1:{port}/lab/tree/live.ipynb?token=open"
    server.terminate()  # its kernels end with it
    server.wait(20)


def open_when_up(chromium, address: str) -> None:
    """Load the page as soon as its server answers."""
    from selenium.common.exceptions import WebDriverException

    for _ in range(60):
        try:
            return chromium.get(address)
        except WebDriverException:
            wait(chromium, "new Promise((done) => setTimeout(() => done(true), 500))")
    raise AssertionError("JupyterLab does not answer within 30 s")


def test_live_hand_follows_its_sliders_in_jupyterlab(chromium, lab, hand: HandModel):
    from selenium.webdriver.common.keys import Keys

    resize(chromium, 1100)
    open_when_up(chromium, lab)
    wait(chromium, "document.body.innerText.includes('(ipykernel) | Idle')", seconds=90)
    wait(chromium, "!!document.querySelector('.jp-Notebook .cm-content')")
    chromium.find_element("css selector", ".jp-Notebook .cm-content").send_keys(Keys.SHIFT, Keys.ENTER)
    wait(chromium, "!!document.querySelector('.jp-OutputArea .handstage')", seconds=60)
    wait(chromium, f"{STAGE} && {STAGE}.drawn")
    el = chromium.execute_script("return document.querySelector('.jp-OutputArea .handstage')")
    assert chromium.execute_script(STAGE_INK, el) > 0.05
    flat = torch.tensor(chromium.execute_script(f"return Array.from({STAGE}.actors[0].at(0).points)")).view(778, 3)
    dials = hand_dials(hand)
    torch.testing.assert_close(flat, dialled(hand, dials, [0.0] * len(dials)), atol=1e-5, rtol=0)
    handle = chromium.find_elements("css selector", ".jp-OutputArea .noUi-handle")[1]  # of the index finger
    drawn = chromium.execute_script(f"return {STAGE}.drawn")
    for _ in range(20):
        handle.send_keys(Keys.ARROW_RIGHT)
    wait(chromium, f"{STAGE}.drawn > {drawn}")
    bent = dialled(hand, dials, [20.0 if dial.name == "bend index" else 0.0 for dial in dials])
    tip = TIPS["smplx"][FINGERS.index("index")]
    apart = f"arguments[0].map((x, k) => x - {STAGE}.actors[0].at(0).points[{3 * tip} + k])"
    wait(chromium, f"Math.hypot(...{apart}) < 1e-5", bent[tip].tolist())
    assert (bent[tip] - flat[tip]).norm() > 0.02
