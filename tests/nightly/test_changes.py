from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lock_factory import BASE, PYTHON3, lock_of, pin
from tests.test_locking import pick
from trtforge.nightly.changes import changelog, differences

if TYPE_CHECKING:
    from trtforge.cells import Cells
    from trtforge.index.pins import Pin
    from trtforge.lock import Lock


def with_pin(lock: Lock, old: Pin, *new: Pin) -> Lock:
    wheels = {name: one for name, one in lock.wheels.items() if one != old}
    names = {
        key: tuple(
            name
            for file in files
            for name in ([one.filename for one in new] if file == old.filename else [file])
        )
        for key, files in lock.sets.items()
    }
    return lock.model_copy(update={"sets": names, "wheels": wheels | {one.filename: one for one in new}})


NUMPY = next(one for one in BASE if one.name == "numpy")


def test_a_changed_package_names_its_images_its_cells_and_its_release_notes(cells: Cells) -> None:
    both = [pick(cells, arch=arch, tensorrt="rtx") for arch in ("ampere", "ada")]
    old = lock_of(cells, *both)
    new = with_pin(old, NUMPY, pin("numpy", "2.5.0", 17_000_000, "c"))
    (change,) = differences(old, new, {"numpy": "https://numpy.example/{version}"}).packages
    assert (change.kind, change.before, change.after, change.images) == (
        "wheel",
        "2.4.6",
        "2.5.0",
        ("pytorch-cuda",),
    )
    assert change.cells == tuple(sorted(map(cells.tag, both)))
    assert change.notes == "https://numpy.example/2.5.0"
    (line,) = changelog(differences(old, new))
    assert line == "numpy  2.4.6 -> 2.5.0   pytorch-cuda of 2 cells"


def test_packages_that_come_and_go_and_other_files_of_the_same_version(cells: Cells) -> None:
    cell = pick(cells, tensorrt="rtx")
    old = lock_of(cells, cell)
    swapped = with_pin(old, NUMPY, pin("scipy", "1.0", 1, "c"))
    assert [change.says() for change in differences(old, swapped).packages] == [
        "numpy  2.4.6 -> gone",
        "scipy  new -> 1.0",
    ]
    rebuilt = with_pin(old, NUMPY, NUMPY.model_copy(update={"sha256": "c" * 64}))
    assert [change.says() for change in differences(old, rebuilt).packages] == ["numpy  2.4.6, another file"]


def test_debian_packages_and_bases(cells: Cells) -> None:
    cell = pick(cells, tensorrt="rtx")
    old = lock_of(cells, cell)
    newer = PYTHON3.model_copy(update={"version": "3.11.3"})
    new = old.model_copy(update={"os": {cell.os: (newer,)}})
    changes = differences(old, new, bases={cell.os: ("sha256:aa", "sha256:bb")})
    assert [(change.kind, change.says()) for change in changes.packages] == [
        ("base", "debian12  sha256:aa -> sha256:bb"),
        ("system", "debian12: python3  3.11.2 -> 3.11.3"),
    ]


def test_a_new_cell_is_one_line_not_all_its_packages(cells: Cells) -> None:
    one, other = (pick(cells, arch=arch, tensorrt="rtx") for arch in ("ampere", "ada"))
    changes = differences(lock_of(cells, one), lock_of(cells, other))
    assert changelog(changes) == [f"new cell {cells.tag(other)}", f"gone cell {cells.tag(one)}"]
    assert not differences(lock_of(cells, one), lock_of(cells, one))
    assert changes.of(cells.tag(one)) == ()
