"""torch builds an extension with a CUDA kernel and loads it."""

from __future__ import annotations

import importlib
from typing import Any

from smoke import nvcc

NEEDS = ("toolkit", "torch")
TIMEOUT = 900


def check(_expected: dict[str, Any]) -> dict[str, Any]:
    torch = importlib.import_module("torch")
    built = nvcc.extension()
    assert built.doubled(torch.arange(3.0)).tolist() == [0.0, 2.0, 4.0], "the extension computes nonsense"
    return {"file": built.__file__}
