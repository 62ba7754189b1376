"""The full flavour, from NVIDIA's index to a tested image; a loopback index stands in for NVIDIA's.

The bindings and the frontend are the real ones, the libraries stubs (tests/tensorrt_stand_in.py): the image
imports TensorRT, and what would need the real builder is skipped, with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import CACHE, Forge, copy_of_project
from tests.loopback_index import loopback_index, sha256_of
from tests.tensorrt_stand_in import VERSION, stand_in_index
from trtforge.index.fetch import fetch
from trtforge.index.resolve import Need, Sources, resolve
from trtforge.locking import PLATFORM
from trtforge.progress import Silent
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.engine.engine import Engine

pytestmark = [pytest.mark.e2e, pytest.mark.cell]

CELL = f"--cuda 12.8 --arch ampere --tensorrt {VERSION}"
REF = f"trtforge/tensorrt:{VERSION}-pt2.9.1-cu12.8-ampere"


@pytest.fixture(scope="module")
def nvidia(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The stand-in's address, and its libs wheel."""
    folder = tmp_path_factory.mktemp("nvidia")
    needs = [Need(f"tensorrt-cu12-bindings=={VERSION}", wheel_only=True)]
    pins = resolve(needs, constraints=(), python="3.11", platform=PLATFORM, sources=Sources())
    files = fetch(pins, Store(CACHE / "store"), Sources(), Silent(), python="3.11", platform=PLATFORM)
    libs = stand_in_index(folder, next(iter(files.values())))
    with loopback_index(folder) as index:
        yield index.url, libs


@pytest.fixture(scope="module")
def full(nvidia: tuple[str, Path], address: str, tmp_path_factory: pytest.TempPathFactory) -> Forge:
    """A project whose matrix names the stand-in, and that has locked nothing yet."""
    root = copy_of_project(tmp_path_factory.mktemp("full") / "trtforge")
    matrix = root / "matrix.yaml"
    text = matrix.read_text(encoding="utf-8")
    assert "nvidia: https://pypi.nvidia.com/" in text
    matrix.write_text(
        text.replace("nvidia: https://pypi.nvidia.com/", f"nvidia: {nvidia[0]}"), encoding="utf-8"
    )
    (root / "matrix.lock").unlink()
    return Forge(root, CACHE, address)


@pytest.fixture(scope="module")
def image(full: Forge) -> dict[str, Any]:
    return full.build(CELL)[-1]


def test_the_lock_names_the_real_binary_not_the_stub(
    full: Forge, image: dict[str, Any], nvidia: tuple[str, Path]
) -> None:
    assert image["refs"][0] == REF
    lock = (full.root / "matrix.lock").read_text(encoding="utf-8")
    assert sha256_of(nvidia[1]) in lock
    assert 'index = "nvidia"' in lock
    assert nvidia[0] not in lock


def test_what_can_be_tested_without_a_gpu_was(image: dict[str, Any], engine: Engine) -> None:
    results = {result["name"]: (result["status"], result["reason"]) for result in image["smoke"]["results"]}
    for name in ("imports", "versions", "cuda_major", "loader", "torch_archs"):
        assert results[name] == ("passed", "")
    if not engine.has_gpu():
        assert results["engine_build"] == ("skipped", "no GPU: the full TensorRT builder needs one")


def test_tensorrt_is_imported_from_its_layers(image: dict[str, Any], engine: Engine) -> None:
    code = "import tensorrt; print(tensorrt.__version__, tensorrt.__file__)"
    run = engine.run(image["refs"][0], ["python", "-c", code])
    assert run.stdout.split() == [VERSION, "/opt/venv/lib/python3.11/site-packages/tensorrt/__init__.py"]
    assert engine.config(REF)["Labels"]["io.trtforge.flavour"] == "tensorrt"


def test_auto_prefers_the_full_library_where_its_index_answers(full: Forge) -> None:
    (plan,) = full.answer("plan --cuda 12.8 --arch ampere")
    assert plan["axes"]["tensorrt"] == "10.16.1.11"
