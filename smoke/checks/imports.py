"""What the image is for can be imported."""

from __future__ import annotations

import importlib
from typing import Any

NEEDS = ("packages",)

MODULES = ("numpy", "onnx", "torch", "torchvision", "triton")
"""Distributions whose module has their name; imported where the image has them."""


def check(expected: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in MODULES if name in expected["packages"]]
    if "tensorrt" in expected:
        names.append(expected["tensorrt"]["module"])
    versions = {name: str(getattr(importlib.import_module(name), "__version__", "")) for name in names}
    if "tensorrt" in expected:
        tensorrt = expected["tensorrt"]
        found, wanted = versions[tensorrt["module"]], tensorrt["version"]
        # "10.13.3.9.post1" is a repackaging of 10.13.3.9, which is what the library says of itself.
        assert wanted.split(".post")[0] == found.split(".post")[0], f"TensorRT is {found}, not {wanted}"
    return versions
