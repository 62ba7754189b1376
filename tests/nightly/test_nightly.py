from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PROJECT
from tests.docker_registry import docker_registry
from tests.lock_factory import lock_of
from tests.published_factory import changed, report_of
from tests.store_factory import finish_images
from tests.test_locking import pick
from trtforge.errors import BuildError, EnvironmentLack, OverBudget
from trtforge.nightly.failures import Failure, first_failure, read_failures, tag_of
from trtforge.nightly.nightly import Night
from trtforge.nightly.tasks import look, tasks
from trtforge.production.production import Outcome
from trtforge.production.staged import Staged, staging_tag
from trtforge.progress import Silent
from trtforge.project import Project
from trtforge.registry.namespace import Namespace
from trtforge.registry.push import push_image
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from trtforge.cells import Cell, Cells
    from trtforge.errors import ForgeError
    from trtforge.lock import Lock
    from trtforge.nightly.report import CellReport
    from trtforge.recipe import Recipe

DAY = date(2026, 11, 23)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@dataclass
class Forge:
    """Nights of two cells in a real registry; what is staged and tested is made up.

    broken: architecture -> why a build of it fails. built: the cells that were built, in order.
    """

    cells: Cells
    store: Store
    namespace: Namespace
    broken: dict[str, ForgeError] = field(default_factory=dict)
    smoke_fails: set[str] = field(default_factory=set)
    built: list[str] = field(default_factory=list)
    day: date = DAY
    project: Project = field(default_factory=lambda: Project(PROJECT))

    @property
    def wanted(self) -> list[Cell]:
        return [pick(self.cells, cuda="12.1", arch=arch, tensorrt="rtx") for arch in ("ampere", "ada")]

    @property
    def lock(self) -> Lock:
        return lock_of(self.cells, *self.wanted)

    def night(self, lock: Lock | None = None) -> dict[str, CellReport]:
        """One night; what became of each architecture's cell."""
        self.built = []
        found = tasks(self.wanted, lock or self.lock, self.project, look(self.namespace, Silent()))
        reports = Night(self.namespace, Silent(), self.produce, self.day).run(found)
        self.day += timedelta(days=1)
        return dict(zip(("ampere", "ada"), reports, strict=True))

    def produce(self, chains: Sequence[tuple[Recipe, ...]]) -> Generator[Outcome]:
        for chain in chains:
            arch = chain[-1].ref.rpartition("-")[2]
            self.built.append(arch)
            if error := self.broken.get(arch):
                yield Outcome(chain, error=error)
                continue
            staged = []
            for recipe, image in zip(chain, finish_images(chain, self.store), strict=True):
                target = self.namespace.repository(recipe.image)
                push_image(image, staging_tag(image.digest), target, self.store, Silent())
                staged.append(Staged(recipe, image))
            reports = {one.key: report_of(ok=arch not in self.smoke_fails) for one in chain[1:]}
            yield Outcome(chain, tuple(staged), reports)

    def digest(self, arch: str) -> str | None:
        return self.namespace.repository("tensorrt").find_digest(f"cu12.1-{arch}")


@pytest.fixture
def forge(registry: str, tmp_path: Path, cells: Cells) -> Iterator[Forge]:
    with Namespace.open(f"{registry}/{tmp_path.name.replace('_', '-')}") as namespace:
        yield Forge(cells, Store(tmp_path / "store"), namespace)


def results(reports: dict[str, CellReport]) -> list[str]:
    return [one.result for one in reports.values()]


def test_the_second_night_has_nothing_to_do_and_needs_no_engine(forge: Forge) -> None:
    first = forge.night()
    assert results(first) == ["published", "published"]
    assert first["ada"].why == "not published yet"
    assert first["ada"].digest == forge.digest("ada")
    assert first["ada"].checks
    assert first["ada"].checks.skipped == {"torch_gpu": "no GPU"}
    second = forge.night()
    assert (results(second), forge.built) == (["up to date", "up to date"], [])
    assert "unchanged since" in second["ada"].why


def test_a_changed_wheel_rebuilds_the_images_that_hold_it_and_says_so(forge: Forge) -> None:
    old = forge.night()
    newer = changed(forge.lock, "onnx", "f")
    pins = {
        name: pin.model_copy(
            update={"version": "1.24.0", "filename": pin.filename.replace("1.23.2", "1.24.0")}
        )
        if pin.name == "onnx"
        else pin
        for name, pin in newer.wheels.items()
    }
    sets = {
        name: tuple(file.replace("onnx-1.23.2", "onnx-1.24.0") for file in files)
        for name, files in newer.sets.items()
    }
    raised = newer.model_copy(update={"wheels": {pin.filename: pin for pin in pins.values()}, "sets": sets})
    new = forge.night(raised)
    assert results(new) == ["published", "published"]
    assert new["ampere"].why == "onnx 1.23.2 -> 1.24.0"
    assert new["ampere"].size_before == old["ampere"].size
    assert forge.digest("ampere") == new["ampere"].digest != old["ampere"].digest


def test_a_failing_cell_keeps_its_last_good_image_stops_nobody_and_is_tried_twice(forge: Forge) -> None:
    good = forge.night()
    forge.smoke_fails.add("ampere")
    bad = forge.night(changed(forge.lock, "onnx", "f"))
    assert results(bad) == ["failed", "published"]
    assert forge.built == ["ampere", "ada", "ampere"]
    assert bad["ampere"].attempts == 2
    assert bad["ampere"].checks
    assert bad["ampere"].checks.failed == {"user": "is root"}
    assert forge.digest("ampere") == good["ampere"].digest == bad["ampere"].digest
    assert forge.digest("ada") != good["ada"].digest


def test_what_fails_once_only_is_published(forge: Forge) -> None:
    forge.broken["ada"] = BuildError("a moment's trouble")
    produce = forge.produce

    def heals(chains: Sequence[tuple[Recipe, ...]]) -> Generator[Outcome]:
        yield from list(produce(chains))
        forge.broken.clear()

    forge.produce = heals  # type: ignore[method-assign]
    reports = forge.night()
    assert (results(reports), reports["ada"].attempts) == (["published", "published"], 2)
    assert read_failures(forge.namespace, Silent()) == {}


def test_an_image_over_its_budget_is_reported_every_night_and_tried_once(forge: Forge) -> None:
    grown = (("grew", "torch in pytorch-cuda: +9.0 MB compressed, +9.0 MB on disk"),)
    forge.broken["ampere"] = OverBudget(
        "tensorrt:cu12.1-ampere", {"compressed": (9_500_000, 9_000_000)}, grown
    )
    tonight = [forge.night()["ampere"] for _ in range(4)]
    assert [one.result for one in tonight] == ["failed"] * 4  # never held: a budget is no input of the cell
    assert {one.attempts for one in tonight} == {1}
    assert tonight[-1].why == "tensorrt:cu12.1-ampere is over its budget by 0.5 MB compressed"
    assert grown[0] in tonight[-1].facts
    forge.broken.clear()
    assert forge.night()["ampere"].result == "published"


def test_after_three_failing_nights_a_cell_is_held_until_its_inputs_change(forge: Forge) -> None:
    forge.broken["ampere"] = BuildError("it does not compile")
    tonight = [forge.night() for _ in range(3)]
    assert [results(one)[0] for one in tonight] == ["failed"] * 3
    assert tonight[-1]["ampere"].nights == (DAY, DAY + timedelta(days=1), DAY + timedelta(days=2))
    held = forge.night()
    assert (results(held), forge.built) == (["held", "up to date"], [])
    assert "it does not compile" in held["ampere"].why

    newer = changed(forge.lock, "onnx", "f")
    again = forge.night(newer)["ampere"]
    assert (again.result, again.nights) == ("failed", (DAY + timedelta(days=4),))
    forge.broken.clear()
    assert results(forge.night(newer)) == ["published", "up to date"]
    assert read_failures(forge.namespace, Silent()) == {}


def test_what_the_machine_lacks_is_no_night_of_the_cell(forge: Forge) -> None:
    forge.broken["ampere"] = EnvironmentLack("the index does not answer")
    for _ in range(4):
        assert results(forge.night())[0] == "failed"
    assert read_failures(forge.namespace, Silent()) == {}


def test_a_night_that_is_broken_off_goes_on(forge: Forge) -> None:
    produce = forge.produce

    def interrupted(chains: Sequence[tuple[Recipe, ...]]) -> Generator[Outcome]:
        yield next(iter(produce(chains)))
        raise KeyboardInterrupt

    forge.produce = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        forge.night()
    forge.produce = produce  # type: ignore[method-assign]
    assert results(forge.night()) == ["up to date", "published"]
    assert forge.built == ["ada"]


def test_where_the_work_breaks_off_what_was_done_before_is_told(forge: Forge) -> None:
    produce = forge.produce

    def ends(chains: Sequence[tuple[Recipe, ...]]) -> Generator[Outcome]:
        yield next(iter(produce(chains)))
        raise EnvironmentLack("the registry has gone away")

    forge.produce = ends  # type: ignore[method-assign]
    reports = forge.night()
    assert results(reports) == ["published", "failed"]
    assert reports["ada"].why == "the registry has gone away"
    assert read_failures(forge.namespace, Silent()) == {}


def test_work_that_cannot_even_begin_is_an_error(forge: Forge) -> None:
    def never(chains: Sequence[tuple[Recipe, ...]]) -> Generator[Outcome]:  # noqa: ARG001
        raise EnvironmentLack("no such scheduler")
        yield

    forge.produce = never  # type: ignore[method-assign]
    with pytest.raises(EnvironmentLack, match="no such scheduler"):
        forge.night()


def test_a_cell_that_is_not_locked_is_skipped_with_the_reason(forge: Forge) -> None:
    tag = forge.cells.tag(forge.wanted[0])
    unlocked = forge.lock.cells[tag].model_copy(update={"state": "unlocked", "reason": "nobody answers"})
    lock = forge.lock.model_copy(update={"cells": {**forge.lock.cells, tag: unlocked}})
    reports = forge.night(lock)
    assert results(reports) == ["skipped", "published"]
    assert "nobody answers" in reports["ampere"].why


def test_a_failure_that_cannot_be_read_is_counted_anew(forge: Forge) -> None:
    from trtforge.nightly.failures import KIND, PREFIX
    from trtforge.registry.artifact import put_artifact

    put_artifact(forge.namespace.repository("catalogue"), KIND, b"not JSON", tag=f"{PREFIX}x")
    assert read_failures(forge.namespace, Silent()) == {}


def test_a_registry_that_deletes_nothing_does(tmp_path: Path, cells: Cells) -> None:
    with (
        docker_registry(tmp_path, delete=False) as host,
        Namespace.open(f"{host}/team") as namespace,
    ):
        forge = Forge(cells, Store(tmp_path / "store"), namespace)
        forge.broken["ada"] = BuildError("bad")
        assert results(forge.night()) == ["published", "failed"]
        assert read_failures(namespace, Silent()).keys() == {cells.tag(forge.wanted[1])}
        forge.broken.clear()
        assert results(forge.night()) == ["up to date", "published"]
        assert read_failures(namespace, Silent()) == {}
        assert results(forge.night()) == ["up to date", "up to date"]


def test_nights_count_once_and_begin_anew_with_another_recipe() -> None:
    once = first_failure("cell", "key", DAY, "bad")
    assert once.again("key", DAY, "worse") == Failure(
        cell="cell", recipe_key="key", nights=(DAY,), reason="worse"
    )
    assert once.again("other", DAY + timedelta(days=1), "bad").nights == (DAY + timedelta(days=1),)
    assert once.holds("key", 1)
    assert not once.holds("key", 2)
    assert not once.holds("other", 1)


def test_the_tag_of_a_failure_is_never_too_long() -> None:
    assert len(tag_of("x" * 200)) == 128
