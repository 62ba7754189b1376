"""torch is the build that was locked, for the right CUDA."""

from __future__ import annotations

import importlib
from typing import Any

NEEDS = ("torch",)


def check(expected: dict[str, Any]) -> dict[str, Any]:
    torch = importlib.import_module("torch")
    found = {"version": str(torch.__version__), "cuda": torch.version.cuda}
    for what, value in found.items():
        wanted = expected["torch"][what]
        assert value == wanted, f"torch's {what} is {value}, not {wanted}"
    return found
