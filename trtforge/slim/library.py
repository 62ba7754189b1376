"""Slimming one shared library: reading it, choosing what stays, writing the rest, and reading that again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.slim import rewrite
from trtforge.slim.elf import Elf, Source, read_elf
from trtforge.slim.errors import NothingRuns
from trtforge.slim.fatbin import Container, Entry, read_containers
from trtforge.slim.operators import operators
from trtforge.slim.references import pointers
from trtforge.slim.select import kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from trtforge.slim.elf import Section

FORMAT = 1
"""Raise it when the same library and SMs give other bytes than before; stored layers are then made anew."""


@dataclass(frozen=True)
class Slimmed:
    """What came of slimming a library.

    library: its file name.
    kept, dropped: architecture ("sm_86", "compute_80") -> bytes of its code, as it lies in the file.
    before, after: bytes of the file. They are equal where no whole page became free: then the file is as it
        was, and nothing counts as dropped.
    """

    library: str
    kept: dict[str, int]
    dropped: dict[str, int]
    before: int
    after: int

    @property
    def saved(self) -> int:
        """Bytes that the file is smaller."""
        return self.before - self.after


def slim_library(library: Path, out: Path, sm: Sequence[str]) -> Slimmed:
    """Write `library` to `out` with only the GPU code that GPUs of `sm` run.

    Each address of the library stays what it was; what stays of its code is copied as it is. The result
    depends on nothing but the library's bytes and `sm`. What is written is only good if this returns.

    Args:
        sm: compute capabilities, as "86".

    Raises:
        NotUnderstood: the layout is not known byte for byte, or there is no GPU code.
        NothingRuns: there is GPU code, and nothing of it runs on one of `sm`.
    """
    with library.open("rb") as file:
        source = Source(file, library.name)
        elf = read_elf(source)
        fatbins, containers = _fatbins(elf)
        found = pointers(elf, fatbins, containers)
        capabilities = [int(one) for one in sm]
        _check_runs(elf, fatbins, containers, capabilities)
        staying = [kept(container.entries, capabilities) for container in containers]
        starts = [fatbins.address + container.offset - fatbins.offset for container in containers]
        layout = rewrite.lay_out(elf, fatbins, staying, starts)
        with out.open("wb") as target:
            if layout is None:
                rewrite.copy(source, target)
                staying = [list(container.entries) for container in containers]
            else:
                rewrite.write(elf, fatbins, staying, found, layout, target)
        _confirm(out, library.name, staying)
    everything, stays = _sizes(c.entries for c in containers), _sizes(staying)
    dropped = {name: size - stays.get(name, 0) for name, size in everything.items()}
    return Slimmed(
        library.name,
        stays,
        {name: size for name, size in dropped.items() if size},
        source.size,
        out.stat().st_size,
    )


def _fatbins(elf: Elf) -> tuple[Section, tuple[Container, ...]]:
    section = elf.section(".nv_fatbin")
    if section is None or section.end == section.offset:
        raise elf.source.fault(0, "it has no GPU code (.nv_fatbin)")
    if elf.section("__nv_relfatbin"):
        raise elf.source.fault(
            0, "it has relocatable GPU code (__nv_relfatbin), which is linked across files"
        )
    return section, read_containers(elf.source, section)


def _check_runs(
    elf: Elf, fatbins: Section, containers: Sequence[Container], capabilities: Iterable[int]
) -> None:
    for capability in capabilities:
        if not any(kept(container.entries, [capability]) for container in containers):
            has = _sizes(container.entries for container in containers)
            raise NothingRuns(elf.source.name, fatbins.offset, str(capability), list(has), operators(elf))


def _confirm(out: Path, library: str, staying: Sequence[Sequence[Entry]]) -> None:
    """Read what was written, and see that it says what it should.

    Raises:
        NotUnderstood: it does not.
    """
    with out.open("rb") as file:
        elf = read_elf(Source(file, library))
        fatbins, containers = _fatbins(elf)
        pointers(elf, fatbins, containers)
        there = [[(one.architecture, one.size) for one in container.entries] for container in containers]
        if there != [[(one.architecture, one.size) for one in entries] for entries in staying]:
            raise elf.source.fault(fatbins.offset, "what was written is not what was to stay")


def _sizes(groups: Iterable[Sequence[Entry]]) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for entries in groups:
        for entry in entries:
            sizes[entry.architecture] += entry.size
    return dict(sorted(sizes.items(), key=lambda item: (len(item[0]), item[0])))
