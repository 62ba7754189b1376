"""`python build.py publish` as a person types it, ended by kill -9 while it pushes, tests and promotes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_nightly import place  # noqa: F401 (a fixture)
from tests.onlooker import Onlooker
from trtforge.production.staged import STAGING
from trtforge.publishing.catalogue import REPOSITORY
from trtforge.publishing.dated import CLAIM

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.test_nightly import Place

pytestmark = pytest.mark.e2e

SHORT = "cu12.8-ampere-base3.11"
WORDS = "--cuda 12.8 --tensorrt rtx --os base3.11 --arch ampere"


def pushes(place: Place) -> bool:  # noqa: F811
    return any(tag.startswith(STAGING) for tag in place.namespace.repository("tensorrt").tags())


def is_testing(place: Place) -> bool:  # noqa: F811
    return bool(engines(place))


def promotes(place: Place) -> bool:  # noqa: F811
    return any(tag.startswith(CLAIM) for tag in place.namespace.repository(REPOSITORY).tags())


def engines(place: Place) -> list[bytes]:  # noqa: F811
    """The command lines of the throw-away Engines of this cache that run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"dockerd" in line and bytes(place.forge.cache / "fresh") in line:
            found.append(line)
    return found


def kill_when(moment: Callable[[Place], bool], place: Place, line: str) -> None:  # noqa: F811
    process = subprocess.Popen(
        [sys.executable, "build.py", *line.split()],
        cwd=place.forge.root,
        env=place.forge.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not moment(place):
        time.sleep(0.002)
    process.kill()
    said, _ = process.communicate()
    assert process.returncode == -9, f"{moment.__name__} never came\n{said}"


def test_killed_in_every_phase(place: Place) -> None:  # noqa: F811
    packages = f"--wheelhouse {place.house} --offline"
    publish = f"publish {WORDS} {packages} --registry {place.namespace}"
    assert place.forge.type(f"lock --all {packages}").returncode == 0
    done = place.forge.type(publish)
    assert done.returncode == 0, done.stderr
    onlooker = Onlooker(place.namespace.host, place.namespace.path)
    onlooker.look()
    for number, moment in enumerate((pushes, is_testing, promotes)):
        before = place.digest(SHORT)
        place.offer(f"1.{24 + number}.0")
        assert place.forge.type(f"lock --all --upgrade {packages}").returncode == 0
        kill_when(moment, place, publish)
        onlooker.look()
        done = place.forge.type(publish)
        assert done.returncode == 0, done.stderr
        assert onlooker.look()[f"tensorrt:{SHORT}"] == place.digest(SHORT) != before
        assert engines(place) == []
        assert [path.name for path in (place.forge.cache / "fresh").iterdir() if path.is_dir()] == []
