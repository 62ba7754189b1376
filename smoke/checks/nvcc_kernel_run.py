"""The kernel that the image's nvcc compiles computes what it should."""

from __future__ import annotations

from typing import Any

from smoke import nvcc
from smoke.gpu import gpu_sm, refused, torch_on_gpu

NEEDS = ("toolkit", "sm", "torch")


def check(expected: dict[str, Any]) -> dict[str, Any]:
    sm = gpu_sm(torch_on_gpu())
    if sm not in expected["sm"]:
        raise refused(sm, expected, "the kernel holds no code for it")
    return {"sm": sm, "said": nvcc.run(str(nvcc.program(expected["sm"]))).strip()}
