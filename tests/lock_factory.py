"""A small lock of one cell, without resolving anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from trtforge.index.pins import Pin
from trtforge.lock import Lock, LockedCell
from trtforge.system.os_packages import OsPackage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trtforge.cells import Cell, Cells
    from trtforge.index.resolve import Need


def pin(name: str, version: str, size: int, digit: str) -> Pin:
    """A pin whose hash is 64 times `digit`."""
    file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return Pin(name=name, version=version, filename=file, sha256=digit * 64, size=size)


BASE = (
    pin("torch", "2.9.1", 900_000_000, "1"),
    pin("nvidia-cublas-cu12", "12.8.4.1", 594_000_000, "2"),
    pin("nvidia-cudnn-cu12", "9.10.2.21", 707_000_000, "3"),
    pin("numpy", "2.4.6", 17_000_000, "4"),
    pin("torchvision", "0.24.1", 8_000_000, "d"),
    pin("pip", "26.3", 1_800_000, "5"),
)
TENSORRT = (
    pin("tensorrt-rtx-cu12-libs", "1.7.1.116", 89_000_000, "6"),
    pin("tensorrt-rtx-cu12-bindings", "1.7.1.116", 1_000_000, "7"),
    pin("tensorrt-rtx-cu12", "1.7.1.116", 60_000, "8"),
    pin("onnx", "1.23.2", 9_000_000, "9"),
)
PYTHON3 = OsPackage(
    name="python3", version="3.11.2", filename="python3_3.11.2_amd64.deb", sha256="a" * 64, size=1
)


def by_name(needs: Iterable[Need]) -> dict[str, list[str]]:
    """The requirements for each package, as a resolver sees them."""
    found: dict[str, list[str]] = {}
    for need in needs:
        found.setdefault(need.name, []).append(need.requirement)
    return found


def small_pin(name: str, requirements: Iterable[str]) -> Pin:
    """A pin, as these requirements ask for it, of a package that a test has no interest in."""
    wanted = [Requirement(text).specifier for text in requirements]
    named = [one.version.removesuffix(".*") for specifiers in wanted for one in specifiers] or ["1"]
    version = next(one for one in named if all(specifiers.contains(one) for specifiers in wanted))
    return pin(name, version, 1000, "f")


def lock_of(cells: Cells, *locked: Cell, inputs: str = "sha256:inputs") -> Lock:
    """A lock in which the `locked` cells share the pins above."""
    return Lock(
        inputs=inputs,
        os={cell.os: (PYTHON3,) for cell in locked},
        sets={"base": tuple(one.filename for one in BASE), "trt": tuple(one.filename for one in TENSORRT)},
        wheels={one.filename: one for one in (*BASE, *TENSORRT)},
        cells={
            cells.name(cell): LockedCell(
                axes=cell.axes(),
                state="locked",
                base="base" if cells.variant(cell).torch else "",
                tensorrt="trt",
                image=cells.with_tensorrt(cell),
                upon=own if (own := cells.variant(cell).image) != cells.with_tensorrt(cell) else "",
            )
            for cell in locked
        },
    )
