"""Which TensorRT is here, and what it is like: the full one, 10.x or 11.x, or TensorRT-RTX.

What differs between them is said here once, as `TensorRT`'s properties; nobody else compares versions.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from packaging.version import Version

from trtkit.errors import EnvironmentLack

Flavour = Literal["tensorrt", "tensorrt-rtx"]

TITLES: dict[Flavour, str] = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
"""What NVIDIA calls a flavour."""

MODULES: dict[Flavour, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""A flavour's Python module; the first that imports is taken."""

LEAN = "tensorrt_lean"
"""The module of the full one's lean runtime, which has the part of its API that runs engines."""


@dataclass(frozen=True)
class TensorRT:
    """The TensorRT of this environment. module: its Python module, the same API under any name.

    lean: it is the lean runtime: no builder, no parser, no plug-ins of its own, and no engines but
        version-compatible ones. Source: TensorRT documentation, "Version Compatibility".
    """

    flavour: Flavour
    version: Version
    module: ModuleType
    lean: bool = False

    @property
    def strongly_typed(self) -> bool:
        """Precision is what the ONNX file says. Otherwise builder flags give it.

        Source: TensorRT 10.x to 11.x migration guide (BuilderFlag.FP16, INT8, BF16 are gone in 11);
        TensorRT-RTX 1.x ("strongly typed is enabled by default").
        """
        return self.flavour == "tensorrt-rtx" or self.version.major >= 11

    @property
    def calibrates(self) -> bool:
        """It has calibrators (IInt8EntropyCalibrator2); otherwise INT8 is explicit Q/DQ in the ONNX file."""
        return not self.strongly_typed

    @property
    def builds_without_gpu(self) -> bool:
        """It builds for compute capabilities that are named, on any machine."""
        return self.flavour == "tensorrt-rtx"

    def __str__(self) -> str:
        return f"{TITLES[self.flavour]} {self.version}{' (lean runtime)' if self.lean else ''}"


def find_tensorrt() -> TensorRT:
    """The TensorRT that can be imported here; polygraphy is told which one it is.

    Raises:
        EnvironmentLack: there is none, or it does not import.
    """
    found: dict[str, ModuleType | str] = {}
    for flavour, name in (*MODULES.items(), ("tensorrt", LEAN)):
        found[name] = module = _imported(name)
        if isinstance(module, ModuleType):
            if flavour == "tensorrt-rtx":
                # polygraphy reads this when it is first imported; it has no other way to be told.
                os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"
            return TensorRT(flavour, Version(module.__version__), module, lean=name == LEAN)
    raise EnvironmentLack(
        "there is no TensorRT here",
        *((name, str(reason)) for name, reason in found.items()),
        ("next", "run this in a trtforge/tensorrt image, or pip install tensorrt-rtx-cu12"),
    )


def find_builder() -> TensorRT:
    """The TensorRT here, which can build engines.

    Raises:
        EnvironmentLack: there is none, or the lean runtime alone.
    """
    found = find_tensorrt()
    if found.lean:
        raise EnvironmentLack(
            f"{found} builds no engines",
            ("because", "it has neither builder nor parser"),
            ("next", "build where the whole library is, as in a trtforge/tensorrt image"),
        )
    return found


def _imported(name: str) -> ModuleType | str:
    """The module, or why it cannot be had."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        return f"no module {error.name}"
    except (ImportError, OSError) as error:
        return str(error)
