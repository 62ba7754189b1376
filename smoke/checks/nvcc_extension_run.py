"""The kernel in an extension of torch computes what it should."""

from __future__ import annotations

from typing import Any

from smoke import nvcc
from smoke.gpu import gpu_sm, refused, torch_on_gpu

NEEDS = ("toolkit", "torch", "sm")
TIMEOUT = 900


def check(expected: dict[str, Any]) -> dict[str, Any]:
    torch = torch_on_gpu()
    sm = gpu_sm(torch)
    if sm not in expected["sm"]:
        raise refused(sm, expected, "the extension holds no code for it")
    values = torch.randn(1000, device="cuda")
    assert torch.equal(nvcc.extension().doubled(values), 2 * values), "the extension computes nonsense"
    return {"sm": sm}
