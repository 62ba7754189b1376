"""A project whose locked wheels are tiny: everything of a real build, in seconds, without an index."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.wheel_factory import ZipMember, make_wheel
from trtforge.index.download import sha256_of
from trtforge.index.pins import Pin
from trtforge.lock import Lock, LockedCell
from trtforge.project import Project

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtforge.system.os_packages import OsPackage

CELL = "--cuda 12.1 --arch ampere --tensorrt rtx"

HOLLOW = 192 << 20
"""Bytes of zeros in the torch of this stack: a small file whose layer takes a moment to make."""


def make_wheels(house: Path) -> tuple[list[Pin], list[Pin]]:
    """Write the wheels of the stack to `house`; the pins of the base image and of the TensorRT image."""
    house.mkdir()
    modules = [ZipMember(f"torch/m{number}.py", _module(number)) for number in range(900)]
    base = [
        _pin(make_wheel(house, [*modules, ZipMember("torch/zeros", bytes(HOLLOW))], "torch")),
        *(_pin(make_wheel(house, [ZipMember(f"{name}.py", b"x = 1\n")], name)) for name in _SMALL),
    ]
    library = ZipMember("tensorrt_rtx_libs/libtensorrt_rtx.so.1", random.Random(1).randbytes(1 << 20))
    image = [
        _pin(make_wheel(house, [library], "tensorrt_rtx_cu12_libs")),
        _pin(make_wheel(house, [ZipMember("tensorrt_rtx/__init__.py", b"")], "tensorrt_rtx_cu12_bindings")),
        _pin(make_wheel(house, [], "tensorrt_rtx_cu12")),
        _pin(make_wheel(house, [ZipMember("onnx.py", b"y = 2\n")], "onnx")),
    ]
    return base, image


def lock_project(
    root: Path,
    base: Sequence[Pin],
    image: Sequence[Pin],
    packages: Sequence[OsPackage],
    arches: Sequence[str] = ("ampere",),
) -> None:
    """Make the cell `CELL` of the project at `root`, for each of `arches`, consist of these wheels and Debian
    packages."""
    project = Project(root)
    words = CELL.split()
    request = {axis.removeprefix("--"): (value,) for axis, value in zip(words[::2], words[1::2], strict=True)}
    choices = project.cells.choose({**request, "arch": tuple(arches)})
    cells = {
        project.cells.name(one.cell): LockedCell(
            axes=one.cell.axes(), state="locked", base="base", tensorrt="image"
        )
        for one in choices
    }
    project.write_lock(
        Lock(
            inputs=project.inputs,
            os={one.cell.os: tuple(packages) for one in choices},
            sets={
                "base": tuple(pin.filename for pin in base),
                "image": tuple(pin.filename for pin in image),
            },
            wheels={pin.filename: pin for pin in (*base, *image)},
            cells=cells,
        )
    )


_SMALL = ("torchvision", "numpy", "pip")


def _module(number: int) -> bytes:
    """Some thousand bytes of Python that take a while to compile."""
    return "".join(f"def f{i}(a, b={number}):\n    return [a + b * {i}]\n" for i in range(60)).encode()


def _pin(wheel: Path) -> Pin:
    name = wheel.name.partition("-")[0].replace("_", "-")
    return Pin(
        name=name,
        version="1.0",
        filename=wheel.name,
        sha256=sha256_of(wheel),
        size=wheel.stat().st_size,
    )
