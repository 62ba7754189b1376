"""From a layer's source to the layer: each kind is made by the module that knows how, and kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.errors import DamagedFile, HashMismatch
from trtforge.layers.bytecode import bytecode_in_store
from trtforge.layers.compiled_wheel_layer import compiled_in_store
from trtforge.layers.cut import WHOLE, Cut
from trtforge.layers.image_python import ImagePython, interpreter_in
from trtforge.layers.loader_links import links_in_store
from trtforge.layers.sources import (
    BytecodeSource,
    LayerSource,
    LinksSource,
    OsSource,
    PackagesSource,
    ToolkitSource,
    WheelSource,
)
from trtforge.layers.toolkit_layer import toolkit_layer
from trtforge.layers.wheel_layer import PinnedWheel, layer_in_store
from trtforge.system.os_layer import OsLayer, os_layer
from trtforge.system.os_packages import fetch_os
from trtforge.system.package_layer import package_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.index.pins import Pin
    from trtforge.oci import Layer
    from trtforge.progress import Progress
    from trtforge.store import Store
    from trtforge.system.os_packages import OsPackage


@dataclass(frozen=True)
class LayerMaker:
    """Makes layers of what the store has: the wheels must be there, Debian packages are fetched.

    jobs: how many processes one layer may keep busy.
    """

    store: Store
    progress: Progress
    jobs: int

    def make(self, source: LayerSource) -> Layer:
        """The layer of `source`, made if the store does not have it; once, whoever else asks for it now.

        Interrupted, or ended by its progress, it keeps nothing.

        Raises:
            DamagedFile: a wheel or a Debian package in the store is not the locked one; it is dropped.
            BuildError: the layer cannot be made.
            EnvironmentLack: this machine lacks what making it takes.
        """
        if layer := self.store.layer(source.key):  # then neither its wheels nor its packages are here
            return layer
        match source:
            case OsSource():
                return self._system(source).layer
            case PackagesSource(system, packages):
                return self._packages(source.key, system, packages)
        cuts = source.cuts or [WHOLE] * len(source.pins)
        wheels = [self._pinned(pin, cut) for pin, cut in zip(source.pins, cuts, strict=True)]
        try:
            return self._of_wheels(source, wheels)
        except HashMismatch as error:
            # Wheels are checked when they come and again when they are read: this one has changed since.
            changed = [wheel for wheel in wheels if wheel.sha256 == error.expected]
            if not changed:
                raise
            changed[0].path.unlink(missing_ok=True)
            raise DamagedFile(error.name, error.expected, error.actual) from error

    def _of_wheels(
        self,
        source: ToolkitSource | WheelSource | BytecodeSource | LinksSource,
        wheels: Sequence[PinnedWheel],
    ) -> Layer:
        match source:
            case WheelSource(_, target, OsSource() as system):
                python = self._python(system)
                return compiled_in_store(self.store, wheels, target, python, self.progress, self.jobs)
            case WheelSource(_, target):
                return layer_in_store(self.store, wheels, target, self.progress)
            case BytecodeSource(_, target, system):
                python = self._python(system)
                return bytecode_in_store(self.store, wheels, target, python, self.progress, self.jobs)
            case LinksSource(_, folder, target):
                return links_in_store(wheels[0], folder, target, self.store, self.progress)
            case ToolkitSource(parts, packages, origin):
                debs = fetch_os(packages, origin, self.store, self.progress) if origin else []
                return toolkit_layer(source.key, parts, debs, wheels, self.store, self.progress)

    def _python(self, system: OsSource) -> ImagePython:
        return ImagePython(system.python, lambda: interpreter_in(self._system(system).rootfs))

    def _system(self, source: OsSource) -> OsLayer:
        with self.store.lock(f"system-{source.key}"):  # its bytecode's maker asks for it at the same time
            made = self.store.layer(source.key) is not None
            debs = [] if made else fetch_os(source.packages, source.suite, self.store, self.progress)
            return os_layer(source.packages, debs, source.suite, self.store, self.progress)

    def _packages(self, key: str, system: OsSource, added: tuple[OsPackage, ...]) -> Layer:
        below = self._system(system).layer
        debs = fetch_os([*system.packages, *added], system.suite, self.store, self.progress)
        return package_layer(
            key, system.packages, added, debs, system.suite, below, self.store, self.progress
        )

    def _pinned(self, pin: Pin, cut: Cut) -> PinnedWheel:
        return PinnedWheel(self.store.file("wheels", pin.sha256, pin.filename), pin.sha256, cut)


def system_of(source: LayerSource) -> OsSource | None:
    """The system that making the layer of `source` takes: its Python compiles, or packages come to it."""
    match source:
        case PackagesSource(system):
            return system
        case WheelSource() | BytecodeSource():
            return source.interpreter
        case _:
            return None


def work_of(source: LayerSource) -> float:
    """How long a source takes, and others for it, roughly, in bytes of wheel."""
    match source:
        case OsSource():
            return math.inf  # bytecode needs its interpreter
        case PackagesSource():
            return 2e9  # installs the operating system once more
        case BytecodeSource(pins):
            return 1e9 + sum(pin.size or 0 for pin in pins)  # compiling is slow
        case WheelSource(pins):
            return sum(pin.size or 0 for pin in pins)
        case _:
            return 0
