"""From a layer's source to the layer: each kind is made by the module that knows how, and kept."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trtforge.errors import DamagedFile, HashMismatch
from trtforge.layers.bytecode import bytecode_in_store
from trtforge.layers.compiled_wheel_layer import compiled_in_store
from trtforge.layers.image_python import interpreter_in
from trtforge.layers.loader_links import links_in_store
from trtforge.layers.sources import BytecodeSource, LayerSource, LinksSource, OsSource, WheelSource
from trtforge.layers.wheel_layer import PinnedWheel, layer_in_store
from trtforge.progress import Stoppable
from trtforge.system.os_layer import OsLayer, os_layer
from trtforge.system.os_packages import fetch_os

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from trtforge.index.pins import Pin
    from trtforge.oci import Layer
    from trtforge.progress import Progress
    from trtforge.store import Store


@dataclass(frozen=True)
class LayerMaker:
    """Makes layers.

    wheels: sha256 -> file, for every wheel of the sources.
    jobs: how many layers are made at a time.
    """

    store: Store
    progress: Progress
    wheels: Mapping[str, Path]
    jobs: int

    def make(self, sources: Iterable[LayerSource]) -> dict[str, Layer]:
        """The layers of `sources` by key; those that the store has are not made again.

        The largest come first, so that no core waits at the end for one that started late. If one fails, or
        this thread is interrupted, the others end at their next step and keep nothing.

        Raises:
            DamagedFile: a wheel or a Debian package in the store is not the locked one; it is dropped.
            BuildError: a layer cannot be made.
            EnvironmentLack: this machine lacks what making them takes.
        """
        progress = Stoppable(self.progress)
        maker = replace(self, progress=progress)
        distinct = {source.key: source for source in sources}
        try:
            with ThreadPoolExecutor(self.jobs, "layer") as pool:
                ordered = sorted(distinct.items(), key=lambda item: -_work(item[1]))
                running = {key: pool.submit(maker._make, source) for key, source in ordered}
                try:
                    for done in as_completed(running.values()):
                        done.result()
                    return {key: future.result() for key, future in running.items()}
                except BaseException:
                    progress.stop()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        except HashMismatch as error:
            # Wheels are checked when they come and again when they are read: this one has changed since.
            if error.expected not in self.wheels:
                raise
            self.wheels[error.expected].unlink(missing_ok=True)
            raise DamagedFile(error.name, error.expected, error.actual) from error

    def _make(self, source: LayerSource) -> Layer:
        if layer := self.store.layer(source.key):  # then neither its wheels nor its packages are here
            return layer
        match source:
            case OsSource():
                return self._system(source).layer
            case WheelSource(pins, target, OsSource() as system):
                return compiled_in_store(
                    self.store,
                    self._pinned(pins),
                    target,
                    system.python,
                    lambda: nullcontext(interpreter_in(self._system(system).rootfs)),
                    self.progress,
                    self.jobs,
                )
            case WheelSource(pins, target):
                return layer_in_store(self.store, self._pinned(pins), target, self.progress)
            case BytecodeSource(pins, target, system):
                return bytecode_in_store(
                    self.store,
                    self._pinned(pins),
                    target,
                    system.python,
                    lambda: nullcontext(interpreter_in(self._system(system).rootfs)),
                    self.progress,
                    self.jobs,
                )
            case LinksSource(pin, folder, target):
                return links_in_store(self._pinned([pin])[0], folder, target, self.store, self.progress)

    def _system(self, source: OsSource) -> OsLayer:
        with self.store.lock(f"system-{source.key}"):  # its bytecode's maker asks for it at the same time
            made = self.store.layer(source.key) is not None
            debs = [] if made else fetch_os(source.packages, source.suite, self.store, self.progress)
            return os_layer(source.packages, debs, source.suite, self.store, self.progress)

    def _pinned(self, pins: Sequence[Pin]) -> list[PinnedWheel]:
        return [PinnedWheel(self.wheels[pin.sha256], pin.sha256) for pin in pins]


def _work(source: LayerSource) -> float:
    """How long a source takes, and others for it, roughly, in bytes of wheel."""
    match source:
        case OsSource():
            return math.inf  # bytecode needs its interpreter
        case BytecodeSource(pins):
            return 1e9 + sum(pin.size or 0 for pin in pins)  # compiling is slow
        case WheelSource(pins):
            return sum(pin.size or 0 for pin in pins)
        case _:
            return 0
