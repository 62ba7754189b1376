"""Workers with stores of their own, a registry as the one they share; one of them is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from distributed import Client, LocalCluster

from tests.docker_registry import docker_registry
from tests.e2e.conftest import CACHE, copy_of_project, without_file_rules
from tests.tiny_stack import lock_project, make_wheels
from trtforge.layers.maker import LayerMaker
from trtforge.layers.sources import OsSource
from trtforge.locking import os_suite
from trtforge.production.production import Production
from trtforge.progress import Silent
from trtforge.project import Project
from trtforge.registry.namespace import Namespace
from trtforge.registry.shared_layers import SharedLayers
from trtforge.smoke import SmokeReport
from trtforge.store import Store
from trtforge.system.os_packages import resolve_os

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.oci import Digest
    from trtforge.recipe import Recipe

pytestmark = pytest.mark.e2e

ARCHES = ("ampere", "turing")


@contextmanager
def two_workers(folder: Path, **resources: float) -> Iterator[Any]:
    """A cluster of two processes; a client of it."""
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            local_directory=str(folder),
            resources=resources,
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        yield client


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two cells of tiny wheels."""
    folder = tmp_path_factory.mktemp("cluster")
    root = without_file_rules(copy_of_project(folder / "project"))
    matrix = Project(root).matrix
    packages = resolve_os(os_suite(matrix, "debian12"), matrix.images.os)
    lock_project(root, *make_wheels(folder / "house"), packages, ARCHES)
    return Project(root, folder / "house", offline=True)


@contextmanager
def namespace_with_system(text: str, project: Project) -> Iterator[Namespace]:
    """A namespace whose shared layers have the operating system and no other."""
    system = OsSource(os_suite(project.matrix, "debian12"), project.read_lock().os["debian12"])
    store = Store(CACHE / "store")
    layer = LayerMaker(store, Silent(), 2).make(system)
    with Namespace.open(text) as namespace:
        SharedLayers(namespace.repository("layers")).keep(system.key, layer, store, Silent())
        yield namespace


@pytest.fixture
def namespace(tmp_path: Path, project: Project) -> Iterator[Namespace]:
    """A namespace in a registry of its own."""
    with docker_registry(tmp_path) as host, namespace_with_system(f"{host}/team", project) as namespace:
        yield namespace


def chains_of(project: Project) -> list[tuple[Recipe, ...]]:
    request = {"cuda": ("12.1",), "tensorrt": ("rtx",), "arch": ARCHES}
    lock = project.read_lock()
    return [project.recipes.chain(choice.cell, lock) for choice in project.cells.choose(request)]


def produce(production: Production) -> dict[str, list[Digest]]:
    """The digests of each chain's images; all chains succeed, and their tests were run."""
    found = {}
    for outcome in production.run(chains_of(production.project)):
        assert outcome.error is None, outcome.error.facts
        assert outcome.reports.keys() == {recipe.key for recipe in outcome.chain[1:]}
        found[outcome.chain[-1].ref] = [one.image.digest for one in outcome.staged]
    return found


def shared(namespace: Namespace) -> set[str]:
    return set(namespace.repository("layers").tags())


def test_a_worker_dies_and_the_digests_are_those_of_one_machine(
    project: Project, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRTFORGE_CACHE", raising=False)
    finished: dict[str, set[Path]] = {}

    def makers(key: str) -> set[Path]:
        """The stores of workers in which this layer is."""
        found = tmp_path.glob(f"scratch/*/*/trtforge/store/layers/{key}.json")
        return {file.parents[1] for file in found}

    def kill_one(pids: dict[str, int]) -> None:
        """kill -9 a worker that makes a layer, once some layers are shared."""
        while True:
            busy = [file.parents[4] for file in tmp_path.glob("scratch/*/*/trtforge/store/tmp/*/layer")]
            keys = shared(namespace)
            if busy and len(keys) > 3:
                finished.update({key: makers(key) for key in keys})
                os.kill(pids[str(busy[0])], signal.SIGKILL)
                return
            time.sleep(0.005)

    with two_workers(tmp_path / "scratch", ENGINE=1) as client:
        told = client.run(lambda dask_worker: (dask_worker.local_directory, os.getpid()))
        killer = threading.Thread(target=kill_one, args=(dict(told.values()),), daemon=True)
        killer.start()
        production = Production(project, namespace, Silent(), scheduler=client.scheduler.address)
        theirs = produce(production)
        system = next(iter(chains_of(project)[0][0].sources.values())).key
        again = {key for key, stores in finished.items() if key != system and makers(key) - stores}
    assert finished, "no worker was killed"
    assert not again, "what was finished was made once more"

    monkeypatch.setenv("TRTFORGE_CACHE", str(tmp_path / "cache"))
    tested = SmokeReport(image="", results=())
    monkeypatch.setattr("trtforge.production.staging.verify_image", lambda *_arguments, **_options: tested)
    with namespace_with_system(f"{namespace.host}/other", project) as other:
        ours = produce(Production(Project(project.root, project.wheelhouse, offline=True), other, Silent()))
    assert ours == theirs
