from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.conftest import PROJECT
from tests.lock_factory import BASE, PYTHON3, TENSORRT, by_name, pin, small_pin
from tests.test_locking import no_base, pick
from trtforge.errors import EnvironmentLack, IndexUnreachable, ResolutionError
from trtforge.index.local_project import local_projects
from trtforge.index.pins import Raisable, specifier
from trtforge.index.uv import Sources
from trtforge.lock import Lock
from trtforge.locking import Locking
from trtforge.nightly.refresh import RememberedWheels, allowed, refresh, within
from trtforge.policy import RefreshPolicy
from trtforge.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trtforge.cells import Cell, Cells
    from trtforge.index.pins import Held, Pin
    from trtforge.index.resolve import Need
    from trtforge.nightly.refresh import Refreshed
    from trtforge.policy import Step
    from trtforge.system.os_packages import OsPackage, OsSuite


class Indexes:
    """Stands in for uv and apt: the newest version that needs and constraints leave, of what it offers.

    requires: (package, version) -> a requirement of it on a package of another set.
    """

    def __init__(self) -> None:
        self.offers = {one.name: [one.version] for one in (*BASE, *TENSORRT)}
        self.requires: dict[tuple[str, str], str] = {}
        self.down: set[str] = set()
        self.silent: set[str] = set()
        self.debian = PYTHON3
        self.asked = 0

    def wheels(
        self, needs: Sequence[Need], *, constraints: Sequence[Held], **_options: Any
    ) -> tuple[Pin, ...]:
        self.asked += 1
        for need in needs:
            if need.index in self.down or need.name in self.silent:
                raise IndexUnreachable(need.index, (need.name,), "timed out")
        return tuple(self._best(*named, constraints) for named in by_name(needs).items())

    def _best(self, name: str, requirements: Sequence[str], constraints: Sequence[Held]) -> Pin:
        wanted = SpecifierSet()
        for text in requirements:
            wanted &= Requirement(text).specifier
        for one in constraints:
            if one.name == name:
                wanted &= SpecifierSet(specifier(one))
        offers = self.offers.get(name) or [small_pin(name, requirements).version]
        for version in sorted(offers, key=Version, reverse=True):
            other = self.requires.get((name, version))
            if wanted.contains(version) and (not other or self._holds(Requirement(other), constraints)):
                return pin(name, version, 5, "b")
        raise ResolutionError("conflict", tuple(requirements), "uv's account", "loosen one of them")

    def _holds(self, wanted: Requirement, constraints: Sequence[Held]) -> bool:
        return all(wanted.specifier.contains(one.version) for one in constraints if one.name == wanted.name)

    def packages(self, _suite: OsSuite, _names: Sequence[str]) -> tuple[OsPackage, ...]:
        if "debian" in self.down:
            raise EnvironmentLack("the mirror does not answer")
        return (self.debian,)


def run(
    cells: Cells,
    indexes: Indexes,
    wanted: Iterable[Cell],
    old: Lock | None = None,
    policy: RefreshPolicy | None = None,
) -> Refreshed:
    start = old or Lock(inputs="x")
    wheels = RememberedWheels(indexes.wheels)

    def locking(**how: Any) -> Locking:
        return Locking(
            cells,
            start.model_copy(update={"cells": {}}),
            Sources(),
            Silent(),
            bring=no_base,
            wheels=wheels,
            packages=indexes.packages,
            projects=local_projects(cells.matrix.projects, PROJECT),
            **how,
        )

    return refresh(start, wanted, "x", policy or RefreshPolicy(), locking)


def versions(lock: Lock) -> dict[str, str]:
    return {one.name: one.version for one in lock.wheels.values()}


@pytest.fixture
def rtx(cells: Cells) -> Cell:
    return pick(cells, tensorrt="rtx")


@pytest.mark.parametrize(
    ("version", "step", "expected"),
    [
        ("2.3.4", "none", "==2.3.4"),
        ("2.3.4", "patch", ">=2.3.4,<2.4"),
        ("2.3.4", "minor", ">=2.3.4,<3"),
        ("2.3.4", "any", ">=2.3.4"),
        ("25.3", "patch", ">=25.3,<25.4"),
        ("7", "patch", ">=7,<7.1"),
        ("1!2.3", "minor", ">=1!2.3,<1!3"),
        ("2.9.1+cu126", "any", "==2.9.1+cu126"),
    ],
)
def test_a_step_as_a_specifier(version: str, step: Step, expected: str) -> None:
    assert allowed(version, step) == expected


def test_packages_have_their_own_steps_under_any_spelling() -> None:
    reach = within(RefreshPolicy(default="minor", packages={"Typing_Extensions": "patch"}))
    found = [reach(pin(name, "4.1.0", 1, "a")) for name in ("typing-extensions", "numpy")]
    assert [specifier(one) for one in found if isinstance(one, Raisable)] == [">=4.1.0,<4.2", ">=4.1.0,<5"]


numbers = st.integers(0, 3)
texts = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "1!"]),
    st.lists(numbers, min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts))),
    st.sampled_from(["", "", "rc1", "a0"]),
    st.sampled_from(["", "", ".post1"]),
)


@given(texts, st.sampled_from(["none", "patch", "minor", "any"]), st.lists(texts))
def test_whatever_is_offered_a_pin_stays_in_its_step_and_never_gets_older(
    locked: str, step: Step, offered: list[str]
) -> None:
    fits = SpecifierSet(allowed(locked, step))
    assert fits.contains(locked, prereleases=True)
    fixed = {"none": 9, "patch": 2, "minor": 1, "any": 0}[step]
    for text in fits.filter(offered, prereleases=True):
        now, then = Version(locked), Version(text)
        assert then >= now
        if fixed:
            padded = [(*one.release, *[0] * 9)[:fixed] for one in (now, then)]
            assert padded[0] == padded[1]
            assert now.epoch == then.epoch


@settings(max_examples=20)
@given(offered=st.lists(st.builds("{}.{}.{}".format, numbers, numbers, numbers), min_size=1))
def test_a_lock_is_raised_to_the_newest_allowed(cells: Cells, offered: list[str]) -> None:
    indexes, cell = Indexes(), pick(cells, tensorrt="rtx")
    indexes.offers["pip"] = ["1.1.1"]
    old = run(cells, indexes, [cell]).lock
    indexes.offers["pip"] = offered
    found = Version(versions(run(cells, indexes, [cell], old).lock)["pip"])
    fitting = [one for one in map(Version, offered) if Version("1.1.1") <= one < Version("2")]
    assert found == max(fitting, default=Version("1.1.1"))


def test_a_night_raises_wheels_and_debian_packages_and_says_nothing_was_kept(cells: Cells, rtx: Cell) -> None:
    indexes = Indexes()
    old = run(cells, indexes, [rtx]).lock
    indexes.offers["numpy"] += ["2.5.0", "3.0.0"]
    indexes.offers["onnx"] += ["1.24.0"]
    indexes.debian = PYTHON3.model_copy(update={"version": "3.11.3"})
    done = run(cells, indexes, [rtx], old)
    assert (versions(done.lock)["numpy"], versions(done.lock)["onnx"]) == ("2.5.0", "1.24.0")
    assert done.lock.os["debian12"][0].version == "3.11.3"
    assert done.kept == {}
    still = run(cells, indexes, [rtx], old, RefreshPolicy(default="none", system=False))
    assert (versions(still.lock), still.lock.os) == (versions(old), old.os)


@pytest.mark.parametrize("what", ["default", "debian"])
def test_an_outage_keeps_what_was_locked_and_says_why(cells: Cells, rtx: Cell, what: str) -> None:
    indexes = Indexes()
    old = run(cells, indexes, [rtx]).lock
    indexes.down.add(what)
    done = run(cells, indexes, [rtx], old)
    assert done.lock == old
    assert "does not answer" in done.kept[cells.tag(rtx)]


def test_an_outage_of_one_index_keeps_the_base_and_raises_the_rest(cells: Cells, rtx: Cell) -> None:
    """The base was resolved together with what stands on it, so it cannot move under what must stay."""
    indexes, full = Indexes(), pick(cells, tensorrt="full")
    for part in ("", "-libs", "-bindings"):
        indexes.offers[f"tensorrt-cu12{part}"] = [full.tensorrt]
    old = run(cells, indexes, [rtx, full]).lock
    indexes.offers["numpy"] += ["2.5.0"]
    indexes.offers["onnx"] += ["1.24.0"]
    indexes.down.add("nvidia")
    done = run(cells, indexes, [rtx, full], old)
    assert {cell.state for cell in done.lock.cells.values()} == {"locked"}
    assert {one.version for one in done.lock.wheels.values() if one.name == "numpy"} == {"2.4.6"}
    onnx = [
        {one.version for one in done.lock.pins(done.lock.cells[cells.tag(cell)].tensorrt)}
        for cell in (rtx, full)
    ]
    assert ("1.24.0" in onnx[0], "1.24.0" in onnx[1]) == (True, False)
    assert all("nvidia" in done.kept[cells.tag(cell)] for cell in (rtx, full))


def test_a_base_that_its_images_cannot_follow_stays(cells: Cells, rtx: Cell) -> None:
    indexes = Indexes()
    old = run(cells, indexes, [rtx]).lock
    indexes.offers["numpy"] += ["2.5.0"]
    indexes.requires["onnx", "1.23.2"] = "numpy<2.5"
    done = run(cells, indexes, [rtx], old)
    assert done.lock == old
    assert "contradict" in done.kept[cells.tag(rtx)]


def test_a_new_cell_that_cannot_be_had_is_unlocked_and_holds_nobody_back(cells: Cells, rtx: Cell) -> None:
    indexes, full = Indexes(), pick(cells, tensorrt="full")
    old = run(cells, indexes, [rtx]).lock
    indexes.offers["numpy"] += ["2.5.0"]
    indexes.down.add("nvidia")
    done = run(cells, indexes, [rtx, full], old)
    states = {tag: cell.state for tag, cell in done.lock.cells.items()}
    assert states == {cells.tag(rtx): "locked", cells.tag(full): "unlocked"}
    assert versions(done.lock)["numpy"] == "2.5.0"
    assert done.kept == {}


def test_what_people_ask_for_outweighs_the_steps(cells: Cells, rtx: Cell) -> None:
    """A requirement that the matrix now has, and that the locked version does not meet, is a decision."""
    indexes = Indexes()
    old = run(cells, indexes, [rtx]).lock
    indexes.offers["numpy"] += ["3.0.0"]
    images = cells.matrix.images.model_copy(update={"pytorch_cuda": ["numpy>=3", "pip"]})
    asked = type(cells)(cells.matrix.model_copy(update={"images": images}))
    assert versions(run(asked, indexes, [rtx], old).lock)["numpy"] == "3.0.0"


def test_what_was_answered_or_silent_is_not_asked_again(cells: Cells) -> None:
    indexes = Indexes()
    rtx, full = pick(cells, tensorrt="rtx"), pick(cells, tensorrt="full")
    for part in ("", "-libs", "-bindings"):
        indexes.offers[f"tensorrt-cu12{part}"] = [full.tensorrt]
    old = run(cells, indexes, [rtx, full]).lock
    indexes.offers["numpy"] += ["2.5.0"]
    indexes.down.add("nvidia")
    indexes.asked = 0
    run(cells, indexes, [rtx, full], old)
    ours = 1 + 2  # the base; RTX's image on the base as raised and as it was
    assert indexes.asked == ours + 1  # and NVIDIA's index once


def test_every_order_of_cells_gives_the_same_lock(cells: Cells) -> None:
    indexes = Indexes()
    both = [pick(cells, arch=arch, tensorrt="rtx") for arch in ("ampere", "ada")]
    locks = {run(cells, indexes, order).lock.model_dump_json() for order in product(both, repeat=2)}
    assert len(locks) == 3  # both, and each alone
