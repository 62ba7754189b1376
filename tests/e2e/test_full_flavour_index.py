"""The full flavour's way: the big library from NVIDIA's index alone, by the hash of the real file.

NVIDIA's index is a loopback server here, the default index another; the bindings, the frontend and NVIDIA's
stub are the real ones, downloaded once from the default index of the network.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from tests.loopback_index import LoopbackIndex, ask_only, loopback_index, sha256_of
from tests.tensorrt_stand_in import VERSION, stand_in_index
from trtforge.errors import HashMismatch, IndexUnreachable, LockError
from trtforge.index.download import Web
from trtforge.index.fetch import fetch
from trtforge.index.offers import Question, offers
from trtforge.index.resolve import Need, Sources, index_answers, resolve
from trtforge.patience import Patience
from trtforge.progress import Silent
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.index.pins import Pin

pytestmark = pytest.mark.e2e

PYTHON = f"3.{sys.version_info.minor}"
PLATFORM = "x86_64-manylinux_2_28"
BUILD = ("pip==25.3", "setuptools==80.9.0", "wheel==0.45.1")
NEEDS = (
    Need(f"tensorrt-cu12=={VERSION}"),
    Need(f"tensorrt-cu12-libs=={VERSION}", index="nvidia", wheel_only=True),
    Need(f"tensorrt-cu12-bindings=={VERSION}", index="nvidia"),
)


@pytest.fixture(scope="module")
def network_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real bindings wheel, frontend and stub sdists, and what building the frontend needs."""
    folder = tmp_path_factory.mktemp("network")
    asked = (
        Need(f"tensorrt-cu12=={VERSION}"),
        Need(f"tensorrt-cu12-libs=={VERSION}"),
        Need(f"tensorrt-cu12-bindings=={VERSION}"),
        *map(Need, BUILD),
    )
    found = offers(Question(asked, PYTHON, PLATFORM, dependencies=False), Sources())
    with Web(Sources(), Patience()) as web:
        for offer in found:
            for file in offer.wheels or (offer.sdist,):
                assert file is not None
                assert web.save(file.url, folder / file.filename, lambda _: None) == file.sha256
    return folder


@pytest.fixture
def default(network_files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackIndex]:
    with loopback_index(network_files) as index:
        ask_only(index, monkeypatch, tmp_path)
        yield index


@pytest.fixture
def nvidia(network_files: Path, tmp_path: Path) -> Iterator[LoopbackIndex]:
    (bindings,) = network_files.glob("tensorrt_cu12_bindings-*.whl")
    stand_in_index(tmp_path / "nvidia", bindings)
    with loopback_index(tmp_path / "nvidia") as index:
        yield index


@pytest.fixture
def sources(nvidia: LoopbackIndex) -> Sources:
    return Sources(indexes={"nvidia": nvidia.url}, build=BUILD)


def lock(sources: Sources) -> dict[str, Pin]:
    found = resolve(NEEDS, constraints=(), python=PYTHON, platform=PLATFORM, sources=sources)
    return {pin.name: pin for pin in found}


def get(pins: dict[str, Pin], store: Store, sources: Sources) -> dict[str, Path]:
    haste = Patience(attempts=2, first_pause_s=0)
    return fetch(pins.values(), store, sources, Silent(), python=PYTHON, platform=PLATFORM, patience=haste)


def test_the_library_comes_from_nvidias_index_and_imports(
    default: LoopbackIndex, nvidia: LoopbackIndex, sources: Sources, tmp_path: Path
) -> None:
    pins = lock(sources)
    assert set(pins) == {"tensorrt-cu12", "tensorrt-cu12-libs", "tensorrt-cu12-bindings"}

    (libs,) = nvidia.folder.glob("tensorrt_cu12_libs-*.whl")
    assert pins["tensorrt-cu12-libs"].sha256 == sha256_of(libs), "the real file's hash, not the stub's"
    assert pins["tensorrt-cu12-libs"].sdist is None
    frontend = pins["tensorrt-cu12"]
    assert frontend.sdist
    assert frontend.sdist.build == BUILD

    store = Store(tmp_path / "store")
    wheels = get(pins, store, sources)

    assert nvidia.projects_asked == {"tensorrt-cu12-libs", "tensorrt-cu12-bindings"}
    assert default.projects_asked == {"tensorrt-cu12", "pip", "setuptools", "wheel"}
    assert not [path for path in default.asked if "tensorrt_cu12_libs" in path], "the stub is never touched"
    assert {sha256_of(path) for path in wheels.values()} == {pin.sha256 for pin in pins.values()}
    assert _import_tensorrt(tmp_path / "venv", list(wheels.values())) == [
        VERSION,
        f"tensorrt-cu12-libs {VERSION}",
    ]


def test_a_tampered_library_is_refused(
    default: LoopbackIndex,  # noqa: ARG001
    nvidia: LoopbackIndex,
    sources: Sources,
    tmp_path: Path,
) -> None:
    pins = lock(sources)
    (libs,) = nvidia.folder.glob("tensorrt_cu12_libs-*.whl")
    honest_page = nvidia.links("tensorrt-cu12-libs")
    libs.write_bytes(libs.read_bytes() + b"malware")
    store = Store(tmp_path / "store")

    with pytest.raises(LockError, match="has other files for tensorrt-cu12-libs"):
        get(pins, store, sources)
    nvidia.frozen_links["tensorrt-cu12-libs"] = honest_page
    with pytest.raises(HashMismatch) as refusal:
        get(pins, store, sources)
    assert refusal.value.name == libs.name
    assert not store.file("wheels", pins["tensorrt-cu12-libs"].sha256, libs.name).exists()


def test_nvidias_index_being_down_is_told_as_such(
    default: LoopbackIndex,  # noqa: ARG001
    sources: Sources,
    tmp_path: Path,
) -> None:
    pins = lock(sources)
    down = replace(sources, indexes={"nvidia": "http://127.0.0.1:9/"})
    for attempt in (lambda: lock(down), lambda: get(pins, Store(tmp_path / "store"), down)):
        with pytest.raises(IndexUnreachable) as failure:
            attempt()
        assert failure.value.index == "nvidia"
        assert f"tensorrt-cu12-libs=={VERSION}" in failure.value.supplies
    assert index_answers(down.indexes["nvidia"], 5, down)
    assert index_answers(sources.indexes["nvidia"] + "tensorrt-cu12-libs/", 5, sources) is None


def test_a_wheelhouse_does_without_any_index(
    default: LoopbackIndex, nvidia: LoopbackIndex, sources: Sources, tmp_path: Path
) -> None:
    house = tmp_path / "wheelhouse"
    for folder in (default.folder, nvidia.folder):  # NVIDIA's stub too: it does no harm there
        shutil.copytree(folder, house, dirs_exist_ok=True)
    online = lock(sources)
    default.asked.clear()
    nvidia.asked.clear()

    offline = replace(sources, wheelhouse=house, offline=True)
    assert lock(offline) == online, "the same lock, wherever the files came from"
    assert len(get(online, Store(tmp_path / "store"), offline)) == 3
    assert default.asked == nvidia.asked == []


def _import_tensorrt(venv: Path, wheels: list[Path]) -> list[str]:
    """What a throw-away environment with just `wheels` says of itself."""
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, venv], check=True)
    python = venv / "bin" / "python"
    install: list[str | Path] = [
        uv,
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--python",
        python,
        *wheels,
    ]
    subprocess.run(install, check=True)
    code = (
        "import tensorrt, tensorrt_libs\n"
        "from importlib.metadata import packages_distributions, version\n"
        "print(tensorrt.__version__)\n"
        "(libs,) = packages_distributions()['tensorrt_libs']\n"
        "print(libs, version(libs))\n"
        "tensorrt.Logger()\n"
    )
    answer = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return answer.stdout.split("\n")[:-1]
