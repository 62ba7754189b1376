"""publish as a person types it, and killed at random moments."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.docker_registry import docker_registry
from tests.e2e.test_nightly import OURS, Place, place  # noqa: F401 (a fixture)
from tests.published_factory import Publisher, changed, require_whole
from trtforge.catalogue import read_catalogue
from trtforge.entry import is_dated
from trtforge.oci import Digest
from trtforge.progress import Silent
from trtforge.registry.namespace import Namespace
from trtforge.staged import staging_tag
from trtforge.store import Store

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from trtforge.cells import Cells

pytestmark = pytest.mark.e2e

CELLS = "--cuda 12.8 --tensorrt rtx --os base3.11"
SHORT = "cu12.8-ampere-base3.11"


def test_from_the_matrix_to_a_tag_and_back(place: Place) -> None:  # noqa: F811
    def type_in(line: str) -> subprocess.CompletedProcess[str]:
        return place.forge.type(f"{line} --registry {place.namespace}")

    packages = f"--wheelhouse {place.house} --offline"
    assert place.forge.type("lock --all " + packages).returncode == 0
    refused = type_in(f"publish {CELLS} --arch ampere {packages} --require-gpu")
    assert refused.returncode == 1
    assert "gpu: no GPU" in refused.stderr
    assert place.digest(SHORT) is None

    first = type_in(f"publish {CELLS} --arch ampere,ada {packages}")
    assert first.returncode == 0, first.stderr
    assert f"docker pull {place.namespace}/tensorrt:{SHORT}" in first.stdout
    assert "1 passed, 1 skipped (gpu: no GPU)" in first.stdout
    good = place.digest(SHORT)
    assert good == place.digest(f"{OURS}-ampere-base3.11")

    again = type_in(f"publish {CELLS} --arch ampere {packages}")
    assert again.returncode == 0, again.stderr
    assert "all of it was there" in again.stdout

    place.offer("1.24.0", "py3-none-any")
    assert place.forge.type(f"lock --all --upgrade {packages}").returncode == 0
    pushed = type_in(f"push {CELLS} --arch ampere {packages}")
    assert pushed.returncode == 0, pushed.stderr
    assert "tensorrt:staging-" in pushed.stdout
    assert place.digest(SHORT) == good
    second = type_in(f"publish {CELLS} --arch ampere {packages}")
    assert second.returncode == 0, second.stderr
    assert place.digest(SHORT) != good

    back = type_in(f"rollback {CELLS} --arch ampere")
    assert back.returncode == 0, back.stderr
    assert place.digest(SHORT) == good
    listed = type_in("catalogue --arch ampere")
    assert "rolled back to" in listed.stdout
    unknown = type_in(f"rollback {CELLS} --arch ampere --to 20200101")
    assert unknown.returncode == 2
    assert "published" in unknown.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_killed_at_fifty_moments_nothing_half_done_is_seen(tmp_path: Path, cells: Cells) -> None:
    """Each time a process pushes and promotes another image, until kill -9; the registry is a real one."""
    (tmp_path / "registry").mkdir()
    chance, killed, seen = random.Random(3), 0, dict[str, Digest]()
    fork = multiprocessing.get_context("fork")
    with docker_registry(tmp_path / "registry") as host, Namespace.open(f"{host}/team") as namespace:
        publisher = Publisher(cells, Store(tmp_path / "store"), namespace)
        last = publisher.publish()[-1]
        while killed < 50:
            package = ("onnx", "torch")[killed % 2]
            lock = changed(publisher.lock, package, f"{killed:04x}"[-4:])
            process = fork.Process(target=publish_alone, args=(publisher, lock))
            process.start()
            time.sleep(chance.uniform(0, 0.5))
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            killed += process.exitcode == -signal.SIGKILL
            require_whole(namespace, seen)
            if killed % 10 == 0:  # the next run finishes what was begun
                last = publisher.publish(lock)[-1]
                assert publisher.leads_to("cu12.1-ampere") == last.digest
                assert publisher.leads_to(staging_tag(last.digest)) is None
                require_whole(namespace, seen)
                found = read_catalogue(namespace, Silent())
                dated = set(filter(is_dated, namespace.repository("tensorrt").tags()))
                assert {entry.dated for entry in found.entries if entry.image == "tensorrt"} == dated


def publish_alone(publisher: Publisher, lock: object) -> None:
    """In a process of its own, with connections of its own."""
    with Namespace.open(str(publisher.namespace)) as namespace:
        Publisher(publisher.cells, publisher.store, namespace).publish(lock)  # type: ignore[arg-type]
