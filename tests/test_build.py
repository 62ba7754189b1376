from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.conftest import PROJECT
from tests.lock_factory import lock_of
from tests.store_factory import make_layers
from trtforge.build import Build, Built, CellBuilt
from trtforge.engine.engine import RECIPE_LABEL, Engine
from trtforge.errors import BuildError, EnvironmentLack, ForgeError, LockError
from trtforge.image import find_image
from trtforge.layers.maker import LayerMaker
from trtforge.layers.sources import LinksSource
from trtforge.progress import Silent
from trtforge.project import Project
from trtforge.record import find_record, keep_record
from trtforge.smoke import CheckResult, SmokeReport

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.cells import Cell
    from trtforge.engine.docker_archive import LoadableImage
    from trtforge.layers.sources import LayerSource
    from trtforge.oci import Layer
    from trtforge.recipe import Recipe
    from trtforge.store import Store


@dataclass
class EngineStandIn:
    """Takes images in, and remembers in which order."""

    images: dict[str, LoadableImage] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    gpu: bool = False

    def load(self, image: LoadableImage, _store: Store, _progress: object) -> str:
        self.loaded.append(image.name)
        self.images |= dict.fromkeys(image.tags, image)
        return image.id

    def has(self, ref: str) -> bool:
        return ref in self.images

    def config(self, ref: str) -> dict[str, Any]:
        return dict(json.loads(self.images[ref].config)["config"])

    def has_gpu(self) -> bool:
        return self.gpu


@dataclass
class World:
    """A project with a store of its own, an Engine and smoke tests that say what they are told to.

    broken: keys of the sources whose layers cannot be made. gone: wheels that cannot be had.
    """

    project: Project
    engine: EngineStandIn = field(default_factory=EngineStandIn)
    made: list[str] = field(default_factory=list)
    smoked: list[str] = field(default_factory=list)
    results: tuple[CheckResult, ...] = ()
    broken: set[str] = field(default_factory=set)
    gone: dict[str, ForgeError] = field(default_factory=dict)

    def cell(self, **request: str) -> Cell:
        wanted = {"cuda": "12.1", "tensorrt": "rtx", **request}
        (choice,) = self.project.cells.choose({axis: (value,) for axis, value in wanted.items()})
        return choice.cell

    def run(self, *cells: Cell, engine: bool = True, run_smoke: bool = True) -> list[CellBuilt]:
        connect = (lambda: cast("Engine", self.engine)) if engine else None
        build = Build(self.project, Silent(), engine=connect, run_smoke=run_smoke)
        return build.run(cells, lock_of(self.project.cells, *cells))

    def build(self, *cells: Cell, engine: bool = True, run_smoke: bool = True) -> list[list[Built]]:
        """The chains of cells that must not fail."""
        built = self.run(*cells, engine=engine, run_smoke=run_smoke)
        assert [cell.error for cell in built] == [None] * len(cells)
        return [list(cell.chain) for cell in built]

    def chain(self, cell: Cell) -> tuple[Recipe, ...]:
        return self.project.recipes.chain(cell, lock_of(self.project.cells, cell))


def result(status: Any, name: str = "imports") -> CheckResult:
    return CheckResult(
        name=name, status=status, reason="" if status == "passed" else "why", seconds=1, detail={}
    )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("TRTFORGE_CACHE", str(tmp_path / "cache"))
    world = World(Project(PROJECT), results=(result("passed"),))

    def make(maker: LayerMaker, source: LayerSource) -> Layer:
        if source.key in world.broken:
            raise BuildError("broken")
        world.made.append(type(source).__name__)
        return make_layers([source], maker.store)[source.key]

    def smoke(_engine: object, ref: str, **_options: object) -> SmokeReport:
        world.smoked.append(ref)
        return SmokeReport(image=ref, results=world.results)

    monkeypatch.setattr("trtforge.production.steps.fetch", lambda *_pins, **_options: {})
    monkeypatch.setattr("trtforge.production.steps.fetch_each", lambda *_pins, **_options: world.gone)
    monkeypatch.setattr(LayerMaker, "make", make)
    monkeypatch.setattr("trtforge.production.loading.smoke", smoke)
    for module in ("build", "production.steps"):
        monkeypatch.setattr(f"trtforge.{module}.check_disk", lambda *_missing: None)
    return world


def actions(chain: list[Built]) -> list[tuple[str, str, int]]:
    return [(one.recipe.image, one.action, one.made) for one in chain]


def test_images_are_made_parent_first_and_get_all_their_names(world: World) -> None:
    (chain,) = world.build(world.cell(arch="ampere"))
    assert actions(chain) == [("os", "build", 1), ("pytorch-cuda", "build", 8), ("tensorrt", "build", 9)]
    assert world.engine.loaded == [one.recipe.ref for one in chain]
    assert world.engine.has("trtforge/tensorrt:cu12.1-ampere")
    assert {one.record.digest for one in chain} == {entry["digest"] for entry in _index(world.project.store)}


def test_the_chain_stands_on_itself(world: World) -> None:
    (chain,) = world.build(world.cell(), engine=False)
    stacks = [one.record.layers for one in chain]
    assert stacks == [1, 9, 18]
    assert stacks[-1] == sum(one.made for one in chain)


def test_a_second_cell_reuses_what_it_shares(world: World) -> None:
    world.build(world.cell(arch="ampere"))
    world.made.clear()
    (chain,) = world.build(world.cell(arch="turing"))
    assert actions(chain) == [("os", "reuse", 0), ("pytorch-cuda", "reuse", 0), ("tensorrt", "build", 1)]
    assert world.made == []
    assert world.engine.loaded[3:] == [chain[-1].recipe.ref]


def test_cells_built_together_share_one_base(world: World) -> None:
    ampere, turing = world.build(world.cell(arch="ampere"), world.cell(arch="turing"))
    assert ampere[:2] == turing[:2]
    assert len(world.engine.loaded) == 4
    assert sorted(world.smoked) == [ampere[-1].recipe.ref, turing[-1].recipe.ref]


def test_the_same_again_does_nothing(world: World) -> None:
    cell = world.cell()
    (first,) = world.build(cell)
    loaded, smoked = list(world.engine.loaded), list(world.smoked)
    (again,) = world.build(cell)
    assert [one.action for one in again] == ["reuse"] * 3
    assert [one.record for one in again] == [one.record for one in first]
    assert (world.engine.loaded, world.smoked) == (loaded, smoked)


def test_an_image_the_engine_has_lost_is_loaded_again_and_not_made(world: World) -> None:
    cell = world.cell()
    world.build(cell)
    world.engine.loaded.clear()
    del world.engine.images["trtforge/tensorrt:cu12.1-ampere"]
    world.made.clear()
    (chain,) = world.build(cell)
    assert world.engine.loaded == [chain[-1].recipe.ref]
    assert world.made == []


def test_a_name_that_leads_to_somebody_else_s_image_is_loaded_again(world: World) -> None:
    cell = world.cell()
    (chain,) = world.build(cell)
    world.engine.images[chain[-1].recipe.ref] = world.engine.images[chain[0].recipe.ref]
    world.build(cell)
    labels = world.engine.config(chain[-1].recipe.ref)["Labels"]
    assert labels[RECIPE_LABEL] == chain[-1].recipe.key


def test_records_keep_smoke_results(world: World) -> None:
    cell = world.cell()
    (chain,) = world.build(cell)
    record = find_record(chain[-1].recipe.key, world.project.store)
    assert record == chain[-1].record
    assert record
    assert record.smoke
    assert record.smoke.ok
    (later,) = world.build(cell, engine=False)
    assert later[-1].record.smoke == record.smoke


def test_results_of_another_image_are_not_taken_over(world: World) -> None:
    cell = world.cell()
    (chain,) = world.build(cell)
    store = world.project.store
    record = chain[-1].record.model_copy(update={"image_id": "sha256:other"})
    keep_record(record, store)
    world.build(cell)
    assert len(world.smoked) == 2


@pytest.mark.parametrize(
    ("results", "gpu", "again"),
    [
        ([result("passed")], False, False),
        ([result("passed")], True, False),
        ([result("passed"), result("skipped", "engine_run")], False, False),
        ([result("passed"), result("skipped", "engine_run")], True, True),
        ([result("failed")], False, True),
        ([result("skipped")], False, True),
    ],
    ids=["good", "good, GPU", "no GPU", "a GPU has come", "failed", "nothing ran"],
)
def test_smoke_tests_run_again_if_they_were_bad_or_more_can_run(
    world: World, results: list[CheckResult], gpu: bool, again: bool
) -> None:
    cell = world.cell()
    world.results = tuple(results)
    world.build(cell)
    world.engine.gpu = gpu
    world.results = (result("passed"), result("passed", "engine_run"))
    (chain,) = world.build(cell)
    assert len(world.smoked) == 1 + again
    smoke = chain[-1].record.smoke
    assert smoke
    assert smoke.results == (world.results if again else tuple(results))


def test_smoke_tests_can_be_left_out(world: World) -> None:
    (chain,) = world.build(world.cell(), run_smoke=False)
    assert world.smoked == []
    assert chain[-1].record.smoke is None


def test_a_missing_engine_is_noticed_before_the_long_work(world: World) -> None:
    def connect() -> Engine:
        raise EnvironmentLack("no Engine")

    build = replace(Build(world.project, Silent()), engine=connect)
    cell = world.cell()
    with pytest.raises(EnvironmentLack):
        build.run([cell], lock_of(world.project.cells, cell))
    assert world.made == []


def test_what_was_finished_before_a_failure_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = world.cell()

    def refuse(*_arguments: object) -> str:
        raise BuildError("no")

    monkeypatch.setattr(world.engine, "load", refuse)
    (built,) = world.run(cell)
    assert isinstance(built.error, BuildError)
    assert built.chain == ()
    assert _index(world.project.store)


def test_a_cell_that_fails_stops_no_other_and_finished_images_are_reused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [world.cell(arch=arch) for arch in ("ampere", "turing", "ada")]
    load = world.engine.load

    def refuse(image: LoadableImage, *rest: Any) -> str:
        if "turing" in image.name:
            raise BuildError("refused")
        return load(image, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(world.engine, "load", refuse)
        built = world.run(*cells)
    assert [str(cell.error) for cell in built] == ["None", "refused", "None"]
    assert [len(cell.chain) for cell in built] == [3, 0, 3]
    world.made.clear()
    world.engine.loaded.clear()
    assert [chain[-1].action for chain in world.build(*cells)] == ["reuse"] * 3
    assert (world.made, world.engine.loaded) == ([], [world.chain(cells[1])[-1].ref])


def test_a_layer_that_cannot_be_made_fails_what_stands_on_it(world: World) -> None:
    cell = world.cell()
    base = world.chain(cell)[1]
    world.broken = {next(iter(base.sources.values())).key}
    (built,) = world.run(cell)
    assert str(built.error) == "broken"
    assert not find_image(base.ref, base.key, world.project.store)
    world.broken.clear()
    (chain,) = world.build(cell)
    assert [one.action for one in chain[1:]] == ["build", "build"]


def test_a_wheel_that_cannot_be_had_fails_the_layers_made_of_it(world: World) -> None:
    cell = world.cell()
    pin = next(iter(world.chain(cell)[2].sources.values())).pins[0]
    world.gone = {pin.sha256: LockError("gone")}
    (built,) = world.run(cell)
    assert str(built.error) == "gone"
    world.gone.clear()
    (chain,) = world.build(cell)
    assert chain[-1].action == "build"


def test_a_cell_that_is_not_locked_stops_no_other(world: World) -> None:
    ampere, turing = world.cell(arch="ampere"), world.cell(arch="turing")
    build = Build(world.project, Silent())
    good, bad = build.run([ampere, turing], lock_of(world.project.cells, ampere))
    assert good.error is None
    assert isinstance(bad.error, LockError)


def test_what_is_no_error_of_ours_is_told_as_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> str:
        raise KeyError("x")

    monkeypatch.setattr(world.engine, "load", fail)
    (built,) = world.run(world.cell())
    assert isinstance(built.error, BuildError)
    assert built.error.problem == "trtforge itself failed: KeyError: 'x'"
    assert "test_build.py" in (built.error.fact("at") or "")


def test_other_layers_are_made_while_the_engine_loads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first image's loading waits for a layer of an image two further up the chain."""
    later = threading.Event()
    load, make = world.engine.load, LayerMaker.make

    def slow(*arguments: Any) -> str:
        assert later.wait(10)
        return load(*arguments)

    def told(maker: LayerMaker, source: LayerSource) -> Layer:
        layer = make(maker, source)
        if isinstance(source, LinksSource):
            later.set()
        return layer

    monkeypatch.setattr(world.engine, "load", slow)
    monkeypatch.setattr(LayerMaker, "make", told)
    world.build(world.cell())


def _index(store: Store) -> list[dict[str, Any]]:
    return list(json.loads((store.oci / "index.json").read_text())["manifests"])
