"""Chains become staged images in a registry, whatever machine made what before; the registry is real."""

from __future__ import annotations

import shutil
import threading
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import pytest

from tests.conftest import PROJECT
from tests.docker_registry import docker_registry
from tests.lock_factory import lock_of
from tests.project_copy import copy_project
from tests.store_factory import make_layers
from trtforge.errors import BuildError, RequestError
from trtforge.layers.install_target import InstallTarget
from trtforge.layers.maker import LayerMaker
from trtforge.layers.sources import BytecodeSource, OsSource
from trtforge.production.production import Outcome, Production
from trtforge.production.staged import staging_tag
from trtforge.production.staging import SharedPlace
from trtforge.progress import Silent
from trtforge.project import Project
from trtforge.registry.namespace import Namespace
from trtforge.smoke import CheckResult, SmokeReport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.cells import Cell
    from trtforge.engine.engine import Engine
    from trtforge.layers.sources import LayerSource
    from trtforge.oci import Digest, Layer
    from trtforge.recipe import Recipe


@dataclass
class Factory:
    """A project, a namespace of its own, and what was made and tested for it.

    broken: keys of the sources whose layers cannot be made.
    """

    namespace: Namespace
    folder: Path
    made: list[str] = field(default_factory=list)
    tested: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    published: dict[str, Digest] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "project"

    def at(self, machine: str, monkeypatch: pytest.MonkeyPatch) -> Production:
        """The production on a machine with a store of its own."""
        monkeypatch.setenv("TRTFORGE_CACHE", str(self.folder / machine))
        return Production(Project(self.root), self.namespace, Silent(), published=self.published)

    def make(self, maker: LayerMaker, source: LayerSource) -> Layer:
        """In place of `LayerMaker.make`."""
        if source.key in self.broken:
            raise BuildError("broken")
        if (there := maker.store.layer(source.key)) is None:
            self.made.append(source.key)
            (there,) = make_layers([source], maker.store).values()
        return there

    def verify(self, reference: str, *_rest: object, **_options: object) -> SmokeReport:
        self.tested.append(reference)
        passed = CheckResult(name="imports", status="passed", reason="", seconds=1, detail={})
        return SmokeReport(image=reference, results=(passed,))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def factory(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Factory]:
    with Namespace.open(f"{registry}/{tmp_path.name}") as namespace:
        factory = Factory(namespace, tmp_path)
        copy_project(factory.root)
        shutil.copy(PROJECT / "matrix.yaml", factory.root)
        monkeypatch.setattr("trtforge.production.steps.fetch", lambda *_pins, **_options: {})
        monkeypatch.setattr("trtforge.production.steps.fetch_each", lambda *_pins, **_options: {})
        monkeypatch.setattr("trtforge.production.production.check_disk", lambda *_missing: None)
        monkeypatch.setattr("trtforge.production.steps.check_disk", lambda *_missing: None)
        monkeypatch.setattr(LayerMaker, "make", lambda maker, source: factory.make(maker, source))
        monkeypatch.setattr("trtforge.production.staging.verify_image", factory.verify)
        monkeypatch.setattr(SharedPlace, "engine", lambda _place: cast("Engine", None))
        yield factory


def chains_of(project: Project, *arches: str) -> list[tuple[Recipe, ...]]:
    cells: list[Cell] = []
    for arch in arches:
        (choice,) = project.cells.choose({"cuda": ("12.1",), "tensorrt": ("rtx",), "arch": (arch,)})
        cells.append(choice.cell)
    lock = lock_of(project.cells, *cells)
    return [project.recipes.chain(cell, lock) for cell in cells]


def produce(production: Production, *arches: str) -> list[Outcome]:
    """The outcomes, in the order of `arches`."""
    chains = chains_of(production.project, *arches)
    found = {outcome.chain[-1].key: outcome for outcome in production.run(chains)}
    return [found[chain[-1].key] for chain in chains]


def digests(outcome: Outcome) -> list[Digest]:
    assert outcome.error is None
    return [one.image.digest for one in outcome.staged]


def test_a_chain_lies_whole_in_the_registry_and_is_tested_by_digest(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (outcome,) = produce(factory.at("one", monkeypatch), "ampere")
    names = [one.recipe.image for one in outcome.staged]
    assert names == ["os", "pytorch-cuda", "tensorrt"]
    for one in outcome.staged:
        repository = factory.namespace.repository(one.recipe.image)
        assert repository.find_digest(staging_tag(one.image.digest)) == one.image.digest
    tested = [
        f"{factory.namespace.name(name)}@{digest}"
        for name, digest in zip(names, digests(outcome), strict=True)
    ][1:]
    assert sorted(factory.tested) == sorted(tested)
    assert [outcome.reports[one.recipe.key].image for one in outcome.staged[1:]] == tested
    layers = {layer.digest: layer.size for one in outcome.staged for layer in one.image.layers}
    assert 0 < outcome.pushed <= sum(layers.values())


def test_chains_share_what_they_have_in_common(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = produce(factory.at("one", monkeypatch), "ampere", "turing")
    assert digests(first)[:2] == digests(second)[:2]
    assert len(factory.made) == len(set(factory.made))
    assert len(factory.tested) == 3
    assert min(first.pushed, second.pushed) == 0


def test_another_machine_makes_nothing_anew_and_gets_the_same(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = produce(factory.at("one", monkeypatch), "ampere")
    factory.made.clear()
    (second,) = produce(factory.at("two", monkeypatch), "ampere")
    assert (factory.made, digests(second), second.pushed) == ([], digests(first), 0)


def test_a_staged_image_that_has_lost_a_layer_is_made_whole(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prune beside the run that was broken off takes layers that only old images had."""
    (first,) = produce(factory.at("one", monkeypatch), "ampere")
    layer, repository = first.staged[-1].image.layers[-1], factory.namespace.repository("tensorrt")
    repository.delete_blob(layer.digest)
    assert repository.blob_size(layer.digest) is None
    produce(factory.at("two", monkeypatch), "ampere")
    assert repository.blob_size(layer.digest) == layer.size


def test_what_is_published_is_neither_made_nor_tested(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = produce(factory.at("one", monkeypatch), "ampere")
    factory.published |= {one.recipe.key: one.image.digest for one in first.staged[:2]}
    factory.tested.clear()
    (second,) = produce(factory.at("two", monkeypatch), "ampere")
    assert digests(second) == digests(first)
    assert second.staged[0].image == first.staged[0].image
    assert factory.tested == [f"{factory.namespace.name('tensorrt')}@{digests(first)[-1]}"]


def test_what_is_published_and_gone_is_made_anew(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    (chain,) = chains_of(Project(factory.root), "ampere")
    factory.published[chain[0].key] = cast("Digest", "sha256:" + "0" * 64)
    (outcome,) = produce(factory.at("one", monkeypatch), "ampere")
    assert len(digests(outcome)) == 3


def test_a_chain_that_fails_stops_no_other_and_the_next_run_goes_on(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    production = factory.at("one", monkeypatch)
    good, bad = chains_of(production.project, "ampere", "turing")
    bad = (*bad[:2], replace(bad[2], sources=bad[2].sources | {"layers/more.tar.gz": _bytecode(bad)}))
    factory.broken = {_bytecode(bad).key}
    outcomes = {outcome.chain[-1].dockerfile: outcome for outcome in production.run([good, bad])}
    assert str(outcomes[bad[-1].dockerfile].error) == "broken"
    assert outcomes[good[-1].dockerfile].error is None

    factory.broken.clear()
    factory.made.clear()
    (outcome,) = production.run([bad])
    assert outcome.error is None
    assert factory.made == [_bytecode(bad).key]


def test_a_recipe_that_needs_an_engine_fails_alone(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    production = factory.at("one", monkeypatch)
    good, bad = chains_of(production.project, "ampere", "turing")
    bad = (*bad[:2], replace(bad[2], dockerfile=bad[2].dockerfile + "RUN true\n"))
    first, second = production.run([good, bad])
    assert (first.chain, type(first.error)) == (bad, RequestError)
    assert (second.chain, second.error) == (good, None)


def test_nothing_goes_on_when_nobody_wants_the_rest(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    production = factory.at("one", monkeypatch)
    with closing(production.run(chains_of(production.project, "ampere", "turing", "ada"))) as outcomes:
        next(outcomes)
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith(("layer", "image", "test_"))
    ]
    assert not list((production.project.store.root / "tmp").iterdir())


def _bytecode(chain: tuple[Recipe, ...]) -> BytecodeSource:
    """A layer that only this chain has."""
    system = next(source for source in chain[0].sources.values() if isinstance(source, OsSource))
    pins = next(iter(chain[2].sources.values())).pins
    return BytecodeSource(pins, InstallTarget("3.12"), system)
