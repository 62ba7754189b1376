from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import PROJECT
from tests.lock_factory import BASE, PYTHON3, TENSORRT, by_name, pin, small_pin
from trtforge.errors import EnvironmentLack, IndexUnreachable, ResolutionError
from trtforge.index.local_project import local_projects
from trtforge.index.resolve import Need
from trtforge.index.uv import Sources
from trtforge.lock import Lock
from trtforge.locking import Locking, anywhere, satisfy, unmoved
from trtforge.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trtforge.base import Base
    from trtforge.cells import Cell, Cells
    from trtforge.index.pins import Pin
    from trtforge.system.os_packages import OsPackage, OsSuite


class Indexes:
    """Stands in for uv and apt: answers from a list, remembers what it was asked, can be down."""

    def __init__(self, down: str = "") -> None:
        self.down = down
        self.asked: list[list[tuple[str, str, bool]]] = []
        self.constraints: list[set[str]] = []
        self.offers = {one.name: one for one in (*BASE, *TENSORRT)}

    def wheels(
        self, needs: Sequence[Need], *, constraints: Sequence[Pin], **_options: Any
    ) -> tuple[Pin, ...]:
        self.asked.append([(need.requirement, need.index, need.wheel_only) for need in needs])
        self.constraints.append({one.name for one in constraints})
        if any(need.index == self.down for need in needs):
            raise IndexUnreachable(self.down, ("its packages",), "timed out")
        if any(one.version == "0" for one in constraints):
            raise ResolutionError("conflict", ("numpy",), "no", "ask for another")
        return tuple(
            self.offers.get(name) or small_pin(name, texts) for name, texts in by_name(needs).items()
        )

    def packages(self, suite: OsSuite, _names: Sequence[str]) -> tuple[OsPackage, ...]:
        if suite.distribution == self.down:
            raise EnvironmentLack("its mirror does not answer")
        return (PYTHON3,)


def pick(cells: Cells, **request: str) -> Cell:
    (choice,) = cells.choose({axis: (value,) for axis, value in request.items()})
    return choice.cell


def asked_by_trtkit(cells: Cells) -> tuple[str, ...]:
    """What the image `tensorrt` holds for our own project."""
    (text,) = (one for one in cells.matrix.images.tensorrt if one.startswith("trtkit["))
    return local_projects(cells.matrix.projects, PROJECT)["trtkit"].requirements(Requirement(text).extras)


def no_base(reference: str) -> Base:
    raise AssertionError(f"nobody brought {reference}")


def run(
    cells: Cells,
    indexes: Indexes,
    *wanted: Cell,
    old: Lock | None = None,
    upgrade: bool = False,
    bring: Callable[[str], Base] = no_base,
) -> Lock:
    locking = Locking(
        cells,
        old or Lock(inputs="x"),
        Sources(),
        Silent(),
        reach=anywhere if upgrade else unmoved,
        bring=bring,
        wheels=indexes.wheels,
        packages=indexes.packages,
        projects=local_projects(cells.matrix.projects, PROJECT),
    )
    return locking.lock(wanted, "x")


def test_what_cells_share_is_resolved_once(cells: Cells) -> None:
    indexes = Indexes()
    wanted = [
        pick(cells, cuda=cuda, arch=arch, tensorrt="rtx")
        for cuda in ("12.1", "12.8")
        for arch in ("ampere", "ada")
    ]
    lock = run(cells, indexes, *wanted)
    assert len(indexes.asked) == 2  # torch, TensorRT
    assert {cell.state for cell in lock.cells.values()} == {"locked"}
    assert len(lock.cells) == 4


def test_tensorrt_is_resolved_on_top_of_what_its_base_holds(cells: Cells) -> None:
    indexes = Indexes()
    lock = run(cells, indexes, pick(cells, tensorrt="rtx"))
    assert indexes.constraints[1] >= {"torch", "numpy"}
    (locked,) = lock.cells.values()
    added = [canonicalize_name(Requirement(text).name) for text in asked_by_trtkit(cells)]
    names = {one.name for one in lock.pins(locked.tensorrt)}
    assert names == {*(one.name for one in TENSORRT), "cuda-bindings", *added} - {"numpy"}


def test_metapackages_are_never_named_and_libraries_never_built(cells: Cells) -> None:
    indexes = Indexes()
    indexes.offers |= {
        f"tensorrt-cu12{part}": pin(f"tensorrt-cu12{part}", "10.16.1.11", 5, "b")
        for part in ("", "-libs", "-bindings")
    }
    run(cells, indexes, pick(cells, cuda="12.1", tensorrt="full"))
    assert indexes.asked[1][:3] == [
        ("tensorrt-cu12-libs==10.16.1.11", "nvidia", True),
        ("tensorrt-cu12-bindings==10.16.1.11", "default", True),
        ("tensorrt-cu12==10.16.1.11", "default", False),
    ]


def test_an_index_that_is_down_leaves_only_its_cells_unlocked_and_is_asked_once(cells: Cells) -> None:
    indexes = Indexes(down="nvidia")
    full = [pick(cells, arch=arch, tensorrt="full") for arch in ("ampere", "hopper")]
    lock = run(cells, indexes, *full, pick(cells, tensorrt="rtx"))
    states = {tag: cell.state for tag, cell in lock.cells.items()}
    assert sorted(states.values()) == ["locked", "unlocked", "unlocked"]
    reasons = {cell.reason for cell in lock.cells.values() if cell.state == "unlocked"}
    assert all("nvidia" in reason for reason in reasons)
    assert sum(need[0][1] == "nvidia" for need in indexes.asked) == 1


def test_a_mirror_that_is_down_rules_out_its_os(cells: Cells) -> None:
    lock = run(cells, Indexes(down="ubuntu"), pick(cells, os="ubuntu22.04", tensorrt="rtx"))
    (locked,) = lock.cells.values()
    assert (locked.state, locked.reason) == ("unlocked", "its mirror does not answer")


def test_pins_are_kept_unless_upgrade(cells: Cells) -> None:
    cell, indexes = pick(cells, tensorrt="rtx"), Indexes()
    old = run(cells, indexes, cell)
    run(cells, indexes, cell, old=old)
    assert {"numpy", "torch"} <= indexes.constraints[2]
    run(cells, indexes, cell, old=old, upgrade=True)
    assert indexes.constraints[4] == set()


def test_pins_that_no_longer_fit_give_way(cells: Cells) -> None:
    cell, indexes = pick(cells, tensorrt="rtx"), Indexes()
    old = run(cells, indexes, cell)
    file = next(name for name in old.wheels if name.startswith("numpy"))
    stuck = pin("numpy", "0", 1, "c")
    (base,) = [name for name in old.sets if name.startswith("torch")]
    old = old.model_copy(
        update={
            "wheels": {**old.wheels, stuck.filename: stuck},
            "sets": {
                **old.sets,
                base: tuple(stuck.filename if name == file else name for name in old.sets[base]),
            },
        }
    )
    assert "2.4.6" in {one.version for one in run(cells, indexes, cell, old=old).wheels.values()}


def test_a_package_that_no_index_has_is_an_error_not_an_unlocked_cell(cells: Cells) -> None:
    class Bare(Indexes):
        def wheels(self, *_needs: Any, **_options: Any) -> tuple[Pin, ...]:
            raise ResolutionError("missing", ("torch",), "no such version", "ask for another")

    with pytest.raises(ResolutionError):
        run(cells, Bare(), pick(cells, tensorrt="rtx"))


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("onnx", True),
        ("onnx>=1.24", False),
        ("Tensor_RT.rtx-cu12", False),
        ("tomli; python_version < '3.11'", True),
        ("tomli", False),
    ],
)
def test_what_is_asked_for_only_somewhere_may_be_missing(text: str, met: bool) -> None:
    assert satisfy(TENSORRT, [Need(text)]) == met
