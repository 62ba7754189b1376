from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.built_os import Built, build
from tests.conftest import PROJECT
from trtforge.engine.engine import Engine
from trtforge.engine.setup import ensure_engine
from trtforge.errors import LockError
from trtforge.locking import os_suite
from trtforge.progress import Silent
from trtforge.project import Project
from trtforge.store import Store
from trtforge.system.os_packages import fetch_os

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = Path(os.environ.get("TRTFORGE_CACHE") or PROJECT / ".cache").absolute()


@dataclass(frozen=True)
class Forge:
    """A copy of the project in which `python build.py` is typed, as a person would.

    root: the copy. cache: its TRTFORGE_CACHE. address: of the Engine.
    """

    root: Path
    cache: Path
    address: str

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "TRTFORGE_CACHE": str(self.cache), "DOCKER_HOST": self.address}

    def type(self, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `python build.py` with the words of `line`."""
        return subprocess.run(
            [sys.executable, "build.py", *line.split()],
            cwd=self.root,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,
        )

    def answer(self, line: str) -> Any:
        """What `python build.py LINE --json` answers; it must succeed."""
        done = self.type(f"{line} --json")
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def build(self, line: str) -> list[dict[str, Any]]:
        """The images of the one cell that is built, parent first."""
        (chain,) = self.answer(line)
        return list(chain)

    def layers(self, digest: str) -> list[str]:
        """The layers' digests of an image in the store."""
        blob = self.cache / "store" / "oci" / "blobs" / "sha256" / digest.removeprefix("sha256:")
        return [layer["digest"] for layer in json.loads(blob.read_bytes())["layers"]]

    def with_empty_store(self, cache: Path) -> Forge:
        """The same project with another cache, which has the downloads (as links) and nothing else."""
        for kind in ("wheels", "debs"):
            source, target = self.cache / "store" / kind, cache / "store" / kind
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target, copy_function=os.link)
        return Forge(self.root, cache, self.address)


@pytest.fixture(scope="session")
def address() -> str:
    """An Engine's address: the one DOCKER_HOST names, or one that runs, or one that is started now."""
    return ensure_engine(CACHE)


@pytest.fixture(scope="session")
def engine(address: str) -> Engine:
    return Engine.connect(address)


@pytest.fixture(scope="session")
def forge(address: str, tmp_path_factory: pytest.TempPathFactory) -> Forge:
    forge = Forge(copy_of_project(tmp_path_factory.mktemp("project") / "trtforge"), CACHE, address)
    with_packages_that_exist(forge)
    return forge


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder beside the cache: on its disk, so that links work, and gone after the test."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="scratch-") as folder:
        yield Path(folder)


def with_packages_that_exist(forge: Forge) -> None:
    """Lock anew, and say so, if the mirror has replaced a locked Debian package since the lock was committed.

    A mirror carries only the current version; what is tested then is today's lock, not the committed one.
    """
    project = Project(forge.root)
    try:
        fetch_os(
            project.read_lock().os["debian12"],
            os_suite(project.matrix, "debian12"),
            Store(forge.cache / "store"),
            Silent(),
        )
    except LockError as error:
        gone = ", ".join(text for label, text in error.facts if label == "gone")
        warnings.warn(f"locked anew for this run, the mirror has newer packages: {gone}", stacklevel=1)
        forge.answer("lock")


def copy_of_project(target: Path) -> Path:
    """What a clone would hold, as it lies here, and the environment that is installed already."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target / name)
    (target / ".venv").symlink_to(Path(sys.prefix).resolve())
    return target


def without_file_rules(root: Path) -> Path:
    """The project at `root`, whose cells are of made wheels: these have none of the files that rules name,
    and a rule that matches nothing is refused."""
    matrix = root / "matrix.yaml"
    rules = re.compile(r"\nfiles: .*?\n(?=\nslim:)", re.DOTALL)
    text, found = rules.subn("\nfiles: []\n", matrix.read_text())
    assert found == 1
    matrix.write_text(text)
    return root


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("built"))
