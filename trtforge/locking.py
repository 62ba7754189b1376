"""From cells to a lock: what each image of a cell needs is resolved, once for all cells that share it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from trtforge.axes import BroughtBase, Os
from trtforge.base import Base, verify_base
from trtforge.cell_cuts import back_cuts, base_cuts, globs, own_cuts
from trtforge.errors import EnvironmentLack, ForgeError, IndexUnreachable, ResolutionError
from trtforge.index.local_project import needed
from trtforge.index.resolve import Need, resolve
from trtforge.lock import Lock, LockedCell
from trtforge.system.apt import FlatRepository
from trtforge.system.os_packages import OsSuite, resolve_alone, resolve_os
from trtforge.toolkit import DebianSuite, Repository

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from trtforge.cells import Cell, Cells
    from trtforge.index.local_project import LocalProject
    from trtforge.index.pins import Held, Pin
    from trtforge.index.uv import Sources
    from trtforge.matrix import Matrix
    from trtforge.progress import Progress
    from trtforge.system.os_packages import OsPackage

PLATFORM = "x86_64-manylinux_2_28"
"""What wheels are resolved for: the newest manylinux that every OS of the matrix satisfies."""


def os_suite(matrix: Matrix, name: str) -> OsSuite:
    """The suite that the OS `name` of the matrix, a distribution, is installed from."""
    system: Os = matrix.axes.os[name]  # type: ignore[assignment]
    components = ("main", "universe") if system.distribution == "ubuntu" else ("main",)
    mirror = matrix.mirrors.get(system.distribution)
    return OsSuite(system.distribution, system.codename, components=components, mirror=mirror)


def toolkit_origin(matrix: Matrix, cuda: str) -> OsSuite | FlatRepository | None:
    """Where the Debian packages of the toolkit of CUDA `cuda` come from, if it has any."""
    toolkit = matrix.toolkits[cuda]
    match toolkit.of:
        case DebianSuite():
            mirror, components = matrix.mirrors.get("debian"), tuple(toolkit.of.components)
            return OsSuite("debian", toolkit.of.codename, components=components, mirror=mirror)
        case Repository():
            return FlatRepository(toolkit.of.address, toolkit.of.keyring)
        case None:
            return None


Reach = Callable[["Pin"], "Held | None"]
"""How far a locked pin may move: not at all (the pin itself), within a range, or (None) anywhere."""


def unmoved(pin: Pin) -> Pin:
    """A `Reach`: pins hold."""
    return pin


def anywhere(_pin: Pin) -> None:
    """A `Reach`: nothing that was locked counts."""


class Locking:
    """One run of locking; what it has resolved for one cell it does not ask again for the next.

    Args:
        old: the lock to go on from.
        bring: fetches and examines the base with this reference.
        reach: how far its pins may move; by default they are kept where they still satisfy.
        stay: the sets, operating systems and packages upon these that are not asked for anew, where they are
            still what is wanted.
        unattended: nobody can correct what does not resolve, so it leaves its cells unlocked, and no pin goes
            where `reach` does not let it.
        projects: Python projects of this repository, by name; what they need is locked, not they.
        wheels, packages, alone: where Python and Debian packages are resolved, the latter with and without
            what they depend on; tests put their own here.

    Attributes:
        failures: the sets and operating systems that could not be had, and why.
    """

    def __init__(
        self,
        cells: Cells,
        old: Lock,
        sources: Sources,
        progress: Progress,
        *,
        bring: Callable[[str], Base],
        reach: Reach = unmoved,
        stay: Collection[str] = (),
        unattended: bool = False,
        projects: Mapping[str, LocalProject] | None = None,
        wheels: Callable[..., tuple[Pin, ...]] = resolve,
        packages: Callable[..., tuple[OsPackage, ...]] = resolve_os,
        alone: Callable[..., tuple[OsPackage, ...]] = resolve_alone,
    ) -> None:
        self._cells, self._old, self._sources, self._progress = cells, old, sources, progress
        self._reach, self._stay, self._unattended = reach, stay, unattended
        self._projects = projects or {}
        self._bring, self._wheels, self._packages, self._alone = bring, wheels, packages, alone
        self._sets: dict[str, tuple[Pin, ...]] = {}
        self._systems: dict[str, tuple[OsPackage, ...]] = {}
        self._added_packages: dict[str, tuple[OsPackage, ...]] = {}
        self._bases: dict[str, Base] = {}
        self._down: dict[str, ForgeError] = {}
        self.failures: dict[str, ForgeError] = {}

    def lock(self, wanted: Iterable[Cell], inputs: str) -> Lock:
        """The old lock's cells with every `wanted` one resolved; what cannot be had is "unlocked", and why.

        Args:
            inputs: `lock.inputs_checksum` of what is locked now.

        Raises:
            ResolutionError: an index answers, and has not what the matrix asks for; not if `unattended`.
        """
        locked = {self._cells.name(cell): self._lock_cell(cell) for cell in wanted}
        return Lock(
            inputs=inputs,
            os={**self._old.os, **self._systems},
            packages={**self._old.packages, **self._added_packages},
            bases={**self._old.bases, **self._bases},
            sets={
                **self._old.sets,
                **{name: tuple(pin.filename for pin in pins) for name, pins in self._sets.items()},
            },
            wheels={
                **self._old.wheels,
                **{pin.filename: pin for pins in self._sets.values() for pin in pins},
            },
            cells={**self._old.cells, **locked},
        ).pruned()

    def _lock_cell(self, cell: Cell) -> LockedCell:
        try:
            packages = added = base = toolkit = ""
            if isinstance(brought := self._cells.matrix.axes.os[cell.os], BroughtBase):
                tensorrt = self._lock_on_brought(cell, brought)
            else:
                self._lock_os(cell.os)
                packages = self._lock_packages(cell)
                base = self._lock_base(cell) if self._cells.variant(cell).torch else ""
                tensorrt = self._lock_tensorrt(cell, base, self._sets[base] if base else ())
                added = self._lock_added(cell, base, tensorrt)
                toolkit = self._lock_toolkit(cell)
        except ForgeError as error:
            if not (self._unattended or isinstance(error, EnvironmentLack)):
                raise
            return LockedCell(axes=cell.axes(), state="unlocked", reason=error.problem)
        image, own = self._cells.with_tensorrt(cell), self._cells.variant(cell).image
        return LockedCell(
            axes=cell.axes(),
            state="locked",
            base=base,
            tensorrt=tensorrt,
            image=image,
            added=added,
            packages=packages,
            toolkit=toolkit,
            upon=own if own != image else "",
            left_out=self._left_out(cell, base, tensorrt, added),
        )

    def _left_out(self, cell: Cell, base: str, tensorrt: str, added: str) -> dict[str, tuple[str, ...]]:
        """What the cell's own image lacks of its wheels, which are in these sets."""
        lower, upper, own = (self._sets[name] if name else () for name in (base, tensorrt, added))
        cuts = base_cuts(self._cells, cell, lower) | own_cuts(self._cells, cell, [*upper, *own])
        return globs(cuts | back_cuts(self._cells, cell, lower, upper))

    def _lock_os(self, name: str) -> None:
        system = self._cells.matrix.axes.os[name]
        if isinstance(system, Os) and system.image:  # its digest says it all
            return
        if name in self._stay and name in self._old.os:
            self._systems[name] = self._old.os[name]
        if name not in self._systems:
            with self._told(name), self._once(f"os {name}"), self._progress.task(f"resolve {name}"):
                suite = os_suite(self._cells.matrix, name)
                self._systems[name] = self._packages(suite, self._cells.matrix.images.os)

    def _lock_packages(self, cell: Cell) -> str:
        """Resolve the Debian packages that the cell's own image adds to its OS, which stays as locked."""
        wanted = self._cells.added(cell).packages
        if not wanted:
            return ""
        name = self._cells.packages_name(cell)
        if name in self._stay and name in self._old.packages:
            self._added_packages[name] = self._old.packages[name]
        if name not in self._added_packages:
            with self._told(name), self._once(f"os {cell.os}"), self._progress.task(f"resolve {name}"):
                system = self._systems[cell.os]
                there = {package.name for package in system}
                found = self._packages(os_suite(self._cells.matrix, cell.os), wanted, system)
                self._added_packages[name] = tuple(one for one in found if one.name not in there)
        return name

    def _lock_toolkit(self, cell: Cell) -> str:
        """Resolve what the CUDA toolkit of the cell's own image is put together from."""
        toolkit = self._cells.toolkit(cell)
        if toolkit is None:
            return ""
        name, origin = f"toolkit-{cell.cuda}", toolkit_origin(self._cells.matrix, cell.cuda)
        if origin and name not in self._added_packages:
            if name in self._stay and name in self._old.packages:
                self._added_packages[name] = self._old.packages[name]
            else:
                with self._told(name), self._once(origin.title), self._progress.task(f"resolve {name}"):
                    self._added_packages[name] = self._alone(origin, toolkit.packages)
        if toolkit.wheels:
            self._lock_set(name, [Need(one, wheel_only=True) for one in toolkit.wheels], (), cell)
        return name

    def _lock_on_brought(self, cell: Cell, stated: BroughtBase) -> str:
        """Resolve TensorRT for a base that has all else: what is installed there stays as it is."""
        base = self._base(cell.os, stated)
        for note in verify_base(base, self._cells, cell):
            self._progress.note(note)
        try:
            return self._lock_tensorrt(cell, cell.os, base.installed)
        except ResolutionError as error:
            if error.kind != "conflict":
                raise
            advice = (
                f"{cell.os} keeps what is installed in it: name another base, or ask for another TensorRT"
            )
            raise ResolutionError(error.kind, error.packages, error.explanation, advice) from error

    def _base(self, name: str, stated: BroughtBase) -> Base:
        """What is in the base: as it was found before, which its digest makes certain, or looked at now."""
        if name not in self._bases:
            known = self._old.bases.get(name)
            if known and (known.image != stated.base or known.entrypoint is None):
                known = None
            with self._once(f"os {name}"):
                self._bases[name] = known or self._bring(stated.base)
        return self._bases[name]

    def _lock_base(self, cell: Cell) -> str:
        build = self._cells.build(cell)
        needs = [
            Need(f"torch=={build.torch}", build.index),
            Need(f"torchvision=={build.torchvision}", build.index),
            *map(Need, self._cells.matrix.images.pytorch_cuda),
        ]
        name = f"torch-{cell.torch}-{build.name}-py{cell.python}"
        return self._lock_set(name, needs, (), cell)

    def _lock_tensorrt(self, cell: Cell, base: str, held: Sequence[Held]) -> str:
        library, facts = self._cells.library(cell), self._cells.facts(cell)
        index = self._cells.matrix.flavours[self._cells.flavour(cell)].libs_index
        needs = [
            Need(f"{library.libs.format_map(facts)}=={cell.tensorrt}", index, wheel_only=True),
            Need(f"{library.bindings.format_map(facts)}=={cell.tensorrt}", wheel_only=True),
            Need(f"{library.frontend.format_map(facts)}=={cell.tensorrt}"),
            *map(Need, needed(self._cells.wheels(cell), self._projects)),
        ]
        libs = library.libs.format_map(facts).removesuffix("-libs")
        below = f"on-{base}" if base else f"for-{self._cells.variant(cell).image}-py{cell.python}"
        return self._lock_set(f"{libs}-{cell.tensorrt}-{below}", needs, held, cell)

    def _lock_added(self, cell: Cell, base: str, tensorrt: str) -> str:
        """Resolve the wheels that the cell's own image adds to the one with TensorRT."""
        wheels = list(needed(self._cells.added(cell).wheels, self._projects))
        if not wheels:
            return ""
        held = [*self._sets[base], *self._sets[tensorrt]]
        name = f"{self._cells.variant(cell).image}-on-{tensorrt}"
        return self._lock_set(name, [*map(Need, wheels)], held, cell)

    def _lock_set(self, name: str, needs: Sequence[Need], base: Sequence[Held], cell: Cell) -> str:
        """Resolve the wheels that an image adds to those of its `base`, which hold."""
        old = self._old.pins(name) if name in self._old.sets else ()
        if name in self._stay and satisfy([*base, *old], needs):
            self._sets[name] = old
        if name not in self._sets:
            indexes = {need.index for need in needs}
            with self._told(name), self._once(*indexes), self._progress.task(f"resolve {name}"):
                held = {pin.name for pin in base}
                kept = [reached for pin in old if pin.name not in held and (reached := self._reach(pin))]
                try:
                    pins = self._resolve(needs, [*base, *kept], cell)
                except ResolutionError:
                    if not kept or (self._unattended and satisfy([*base, *old], needs)):
                        raise
                    pins = self._resolve(needs, base, cell)
                self._sets[name] = tuple(pin for pin in pins if pin.name not in held)
        return name

    def _resolve(self, needs: Sequence[Need], constraints: Sequence[Held], cell: Cell) -> tuple[Pin, ...]:
        return self._wheels(
            needs, constraints=constraints, python=cell.python, platform=PLATFORM, sources=self._sources
        )

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Remember why `name` could not be had; another cell that needs it is told the same."""
        if name in self.failures:
            raise self.failures[name]
        try:
            yield
        except ForgeError as error:
            self.failures[name] = error
            raise

    @contextmanager
    def _once(self, *places: str) -> Iterator[None]:
        """Do not ask again, for another cell, a place that has not answered."""
        for place in places:
            if place in self._down:
                raise self._down[place]
        try:
            yield
        except IndexUnreachable as error:
            self._down[error.index] = error
            raise
        except EnvironmentLack as error:
            self._down[places[0]] = error
            raise


def satisfy(pins: Iterable[Held], needs: Iterable[Need]) -> bool:
    """Whether `pins` are what `needs` ask for; if not, people have changed what is asked.

    What is asked for only somewhere (`; python_version < "3.11"`) may be missing.
    """
    versions = {pin.name: pin.version for pin in pins}

    def met(wanted: Requirement) -> bool:
        version = versions.get(canonicalize_name(wanted.name))
        if version is None:
            return wanted.marker is not None
        return wanted.specifier.contains(version, prereleases=True)

    return all(met(Requirement(need.requirement)) for need in needs)
