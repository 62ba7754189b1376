"""What differs between two locks, package by package, as data and as a changelog."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trtforge.lock import Lock

Kind = Literal["base", "system", "wheel"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Change(_Model):
    """One package that came, went or became another.

    kind: "wheel", "system" (a Debian package) or "base" (an image that cells stand on).
    before, after: its versions (a base's digests), "" where it was or is not there. They are equal if it is
        the same version in another file.
    images: the images of the chain that hold it; cells: tags of the cells.
    notes: address of its release notes, "" if unknown.
    """

    package: str
    kind: Kind
    before: str
    after: str
    images: tuple[str, ...]
    cells: tuple[str, ...]
    notes: str = ""

    def says(self) -> str:
        """The change in one line."""
        if self.before == self.after:
            return f"{self.package}  {self.after}, another file"
        return f"{self.package}  {self.before or 'new'} -> {self.after or 'gone'}"


class Changes(_Model):
    """All that differs: packages of the cells that both locks have; and cells that only one has."""

    packages: tuple[Change, ...] = ()
    new_cells: tuple[str, ...] = ()
    gone_cells: tuple[str, ...] = ()

    def of(self, cell: str) -> tuple[Change, ...]:
        """What changed for the cell with this tag."""
        return tuple(change for change in self.packages if cell in change.cells)

    def __bool__(self) -> bool:
        return bool(self.packages or self.new_cells or self.gone_cells)


class _Held(NamedTuple):
    """A package of a cell: its version and its file's hash; the image that has it."""

    version: str
    file: str
    kind: Kind
    image: str


def differences(
    old: Lock,
    new: Lock,
    notes: Mapping[str, str] | None = None,
    bases: Mapping[str, tuple[str, str]] | None = None,
) -> Changes:
    """What differs between two locks.

    Args:
        notes: package -> address of its release notes, with {version}.
        bases: operating system -> the digests that its image had and has, where it was moved.
    """
    before, after = _locked(old), _locked(new)
    found: dict[tuple[Kind, str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for cell in before & after:
        was, now = _packages(old, cell), _packages(new, cell)
        for name in was.keys() | now.keys():
            one, other = was.get(name), now.get(name)
            held = other or one
            if held and (one is None or other is None or one[:2] != other[:2]):
                versions = (one.version if one else "", other.version if other else "")
                found[held.kind, name, *versions].append((held.image, cell))
        system = new.cells[cell].axes["os"]
        if bases and system in bases:
            found["base", system, *bases[system]].append(("os", cell))
    return Changes(
        packages=tuple(_change(*key, found[key], notes or {}) for key in sorted(found)),
        new_cells=tuple(sorted(after - before)),
        gone_cells=tuple(sorted(before - after)),
    )


def _locked(lock: Lock) -> set[str]:
    return {tag for tag, cell in lock.cells.items() if cell.state == "locked"}


def _packages(lock: Lock, tag: str) -> dict[str, _Held]:
    cell = lock.cells[tag]
    held: dict[str, _Held] = {}
    for one in lock.os.get(cell.axes["os"], ()):
        held[f"{cell.axes['os']}: {one.name}"] = _Held(one.version, one.sha256, "system", "os")
    for one in lock.packages.get(cell.packages, ()):
        held[f"{cell.axes['os']}: {one.name}"] = _Held(
            one.version, one.sha256, "system", cell.upon or cell.image
        )
    toolkit = cell.toolkit
    for one in lock.packages.get(toolkit, ()):
        held[f"{toolkit}: {one.name}"] = _Held(one.version, one.sha256, "system", cell.upon)
    for pin in lock.pins(toolkit) if toolkit in lock.sets else ():
        held[f"{toolkit}: {pin.name}"] = _Held(pin.version, pin.sha256, "wheel", cell.upon)
    for image, name in cell.sets():
        for pin in lock.pins(name):
            held[pin.name] = _Held(pin.version, pin.sha256, "wheel", image)
    return held


def _change(
    kind: Kind, name: str, before: str, after: str, held: Sequence[tuple[str, str]], notes: Mapping[str, str]
) -> Change:
    link = notes.get(name, "") if after else ""
    return Change(
        package=name,
        kind=kind,
        before=before,
        after=after,
        images=tuple(sorted({image for image, _ in held})),
        cells=tuple(sorted({cell for _, cell in held})),
        notes=link.replace("{version}", after),
    )


def changelog(changes: Changes) -> list[str]:
    """The changes as lines for a terminal, one a package."""
    return list(_lines(changes))


def _lines(changes: Changes) -> Iterator[str]:
    for change in changes.packages:
        yield f"{change.says()}   {_where(change)}{f'   {change.notes}' if change.notes else ''}"
    for word, cells in (("new", changes.new_cells), ("gone", changes.gone_cells)):
        yield from (f"{word} cell {tag}" for tag in cells)


def _where(change: Change) -> str:
    return f"{', '.join(change.images)} of {_counted(change.cells)}"


def _counted(cells: Iterable[str]) -> str:
    tags = list(cells)
    return tags[0] if len(tags) == 1 else f"{len(tags)} cells"
