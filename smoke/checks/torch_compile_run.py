"""On a GPU, a compiled model gives what the model itself gives, forward and backward."""

from __future__ import annotations

from typing import Any

from smoke.compiled import caches, require_compiler
from smoke.gpu import torch_on_gpu

NEEDS = ("torch", "sm", "packages.triton")
TIMEOUT = 300


def check(expected: dict[str, Any]) -> dict[str, Any]:
    require_compiler(expected)
    caches()
    torch = torch_on_gpu()
    torch.manual_seed(0)
    layers = torch.nn.Linear(64, 128), torch.nn.GELU(), torch.nn.LayerNorm(128), torch.nn.Linear(128, 8)
    model = torch.nn.Sequential(*layers).cuda()
    x = torch.randn(32, 64, device="cuda")
    compiled = torch.compile(model)
    found = [_outcome(torch, one, model, x) for one in (model, compiled)]
    differences = [float((a - b).abs().max()) for a, b in zip(*found)]  # noqa: B905 (Python 3.8)
    # TF32 and another order of sums: both are far below this.
    assert max(differences) < 1e-2, f"compiled and eager differ by {max(differences)}"
    return {"largest difference": max(differences)}


def _outcome(torch: Any, call: Any, model: Any, x: Any) -> list[Any]:
    model.zero_grad(set_to_none=True)
    out = call(x)
    out.square().sum().backward()
    torch.cuda.synchronize()
    return [out.detach(), *(parameter.grad.clone() for parameter in model.parameters())]
