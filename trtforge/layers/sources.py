"""What layers are made from. A source knows its key, so a layer is known before it is made; and its name, for
people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from trtforge.layers import bytecode, compiled_wheel_layer, loader_links, toolkit_layer, wheel_layer
from trtforge.layers.cut import WHOLE, Cut
from trtforge.oci import canonical_json, digest_of
from trtforge.system import os_layer, package_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.index.pins import Pin
    from trtforge.layers.install_target import InstallTarget
    from trtforge.layers.toolkit_layer import ToolkitParts
    from trtforge.system.apt import FlatRepository
    from trtforge.system.os_packages import OsPackage, OsSuite


_INTERPRETER = re.compile(r"(lib)?python3(\.\d+)?(-minimal|-stdlib)?")
"""Debian's and Ubuntu's packages of CPython."""


@dataclass(frozen=True)
class OsSource:
    """The operating system: its Debian packages, bootstrapped."""

    pins: ClassVar[tuple[Pin, ...]] = ()
    suite: OsSuite
    packages: tuple[OsPackage, ...]

    @property
    def key(self) -> str:
        return os_layer.layer_key(self.packages, self.suite)

    @property
    def python(self) -> str:
        """What decides how its Python compiles: the packages that make the interpreter, and no others, so
        that an update of the rest leaves bytecode as it is."""
        made_of = {one.name: one.sha256 for one in self.packages if _INTERPRETER.fullmatch(one.name)}
        return digest_of(canonical_json(made_of)) if made_of else self.key

    @property
    def name(self) -> str:
        return f"{self.suite.distribution} {self.suite.codename}"

    def says(self) -> list[str]:
        return [f"{self.name}, {len(self.packages)} packages"]


@dataclass(frozen=True)
class PackagesSource:
    """Debian packages upon an operating system: what they change in its tree."""

    pins: ClassVar[tuple[Pin, ...]] = ()
    system: OsSource
    packages: tuple[OsPackage, ...]

    @property
    def key(self) -> str:
        return package_layer.layer_key(self.system.key, self.packages)

    @property
    def name(self) -> str:
        return f"{len(self.packages)} packages upon {self.system.name}"

    def says(self) -> list[str]:
        return _wrapped([f"{package.name} {package.version}" for package in self.packages])


@dataclass(frozen=True)
class ToolkitSource:
    """A CUDA toolkit: files of Debian packages, which are `of` one place, and of wheels.

    target: of the image's wheels; its Python decides what these are looked for with.
    """

    cuts: ClassVar[tuple[Cut, ...]] = ()
    parts: ToolkitParts
    packages: tuple[OsPackage, ...]
    of: OsSuite | FlatRepository | None
    pins: tuple[Pin, ...]
    target: InstallTarget

    @property
    def key(self) -> str:
        files = [*(package.sha256 for package in self.packages), *(pin.sha256 for pin in self.pins)]
        return toolkit_layer.layer_key(self.parts, files)

    @property
    def name(self) -> str:
        return f"CUDA toolkit {self.parts.home}"

    def says(self) -> list[str]:
        packages = [f"{package.name} {package.version}" for package in self.packages]
        return _wrapped([*packages, *(f"{pin.name} {pin.version}" for pin in self.pins)])


@dataclass(frozen=True)
class WheelSource:
    """One wheel, or several in a bundle, as an installer would lay them out.

    interpreter: compiles their modules, whose bytecode is in the same layer then.
    cuts: what of each the layer holds; empty: all of all.
    """

    pins: tuple[Pin, ...]
    target: InstallTarget
    interpreter: OsSource | None = None
    cuts: tuple[Cut, ...] = ()

    @property
    def key(self) -> str:
        wheels = _named(self.pins, self.cuts)
        if self.interpreter:
            return compiled_wheel_layer.compiled_key(wheels, self.target, self.interpreter.python)
        return wheel_layer.layer_key(wheels, self.target)

    @property
    def name(self) -> str:
        return _counted(self.pins)

    def says(self) -> list[str]:
        if len(self.pins) == 1:
            (pin,) = self.pins
            size = (pin.size or 0) / 1e6
            wheel = f"{pin.name} {pin.version}, {size:.{0 if size > 10 else 1}f} MB, sha256:{pin.sha256[:12]}"
            return [wheel, *self._says_cut()]
        return [*_wrapped([f"{pin.name} {pin.version}" for pin in self.pins]), *self._says_cut()]

    def _says_cut(self) -> list[str]:
        """What of the wheels is not in the layer, or alone in it, or not as it was."""
        left_out = [rule for cut in self.cuts for rule in cut.left_out]
        back = [rule for cut in self.cuts for rule in cut.gives_back]
        sms = sorted({sm for cut in self.cuts for sm in cut.sm}, key=int)
        if back:
            return _listed("only", [glob for rule in back for glob in rule.drop])
        return [
            *_listed("without", [glob for rule in left_out for glob in rule.drop]),
            *_listed("but with", [glob for rule in left_out for glob in rule.keep]),
            *_listed("GPU code of its own libraries: SM", sms),
        ]


@dataclass(frozen=True)
class BytecodeSource:
    """The compiled form of the modules that some wheels install, made by the image's own interpreter."""

    pins: tuple[Pin, ...]
    target: InstallTarget
    interpreter: OsSource
    cuts: tuple[Cut, ...] = ()

    @property
    def key(self) -> str:
        return bytecode.bytecode_key(_named(self.pins, self.cuts), self.target, self.interpreter.python)

    @property
    def name(self) -> str:
        return f"bytecode of {_counted(self.pins)}"

    def says(self) -> list[str]:
        return ["bytecode of the large wheels above"]


@dataclass(frozen=True)
class LinksSource:
    """Links in the loader's default folder to the libraries of a wheel."""

    pin: Pin
    folder: str
    target: InstallTarget
    cut: Cut = WHOLE

    @property
    def cuts(self) -> tuple[Cut, ...]:
        return (self.cut,)

    @property
    def pins(self) -> tuple[Pin, ...]:
        return (self.pin,)

    @property
    def key(self) -> str:
        (wheel,) = _named(self.pins, self.cuts)
        return loader_links.layer_key(wheel, self.folder, self.target)

    @property
    def name(self) -> str:
        return f"links to {_counted(self.pins)}"

    def says(self) -> list[str]:
        return [f"where the loader finds the libraries of {self.pin.name}"]


LayerSource = OsSource | PackagesSource | ToolkitSource | WheelSource | BytecodeSource | LinksSource


def _named(pins: Sequence[Pin], cuts: Sequence[Cut]) -> list[wheel_layer.PinnedWheel]:
    return [
        wheel_layer.PinnedWheel(Path(pin.filename), pin.sha256, cut)
        for pin, cut in zip(pins, cuts or [WHOLE] * len(pins), strict=True)
    ]


def _counted(pins: Sequence[Pin]) -> str:
    """What people call these wheels, in a few words."""
    return f"{pins[0].name} {pins[0].version}" if len(pins) == 1 else f"{len(pins)} wheels"


def _listed(what: str, items: list[str]) -> list[str]:
    """`what` and then `items`, in lines; nothing where there are none."""
    return _wrapped([f"{what} {items[0]}", *items[1:]]) if items else []


def _wrapped(items: list[str], width: int = 100) -> list[str]:
    """`items` joined with commas, broken into lines."""
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) + 2 > width:
            lines[-1] += ","
            lines.append(item)
        else:
            lines[-1] += f", {item}" if lines[-1] else item
    return lines
