"""One process of bench/slim_gpu.py: runs PyTorch's own list of operators and writes a hash of each result.

    python bench/operator_sweep.py sweep PART PARTS OUT    operators x dtypes, forward and backward
    python bench/operator_sweep.py start                   what a fresh process costs until a first kernel ran
    python bench/operator_sweep.py compile                 torch.compile of a small model

It is given its PyTorch by PYTHONPATH. A result is a line of JSON: the case, and a SHA-256 of dtype, shape and
bytes of every tensor that came out, or the error's type where the operator refuses its sample inputs.
"""

# mypy: disable-error-code="import-not-found"
# PyTorch is not in trtforge's environment, and need not be.

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

DTYPES = ("float32", "float16", "bfloat16", "complex64", "int64", "bool")
SAMPLES = 10
"""Of the sample inputs of each operator and dtype, so many from the front."""

UNINITIALISED = ("empty", "new_empty")
"""What operators begin with whose result is what memory held before: torch.empty, empty_like, ..."""

LIMIT = 90
"""Seconds for one operator and dtype."""

BROKEN = 3
"""Exit code: the CUDA context is lost, the case is told; the next process goes on behind it."""


def sweep(part: int, parts: int, out: Path) -> int:
    """Run every `parts`th case from `part` on that `out` does not hold yet, and add a line for each."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    done = len(out.read_text().splitlines()) if out.exists() else 0
    cases = [
        (op, dtype)
        for op in sorted(op_db, key=lambda op: op.formatted_name)
        for dtype in (getattr(torch, name) for name in DTYPES)
        if dtype in op.supported_dtypes("cuda") and not op.name.startswith(UNINITIALISED)
    ][part::parts]
    signal.signal(signal.SIGALRM, _too_long)
    with out.open("a") as file:
        for op, dtype in cases[done:]:
            name = f"{op.formatted_name} {str(dtype).removeprefix('torch.')}"
            out.with_suffix(".now").write_text(name)
            signal.alarm(LIMIT)
            try:
                result = _case(torch, op, dtype)
            except Exception as error:  # whatever it is, both libraries must raise it
                result = {"error": type(error).__name__}
                if "CUDA error" in str(error) or "device-side assert" in str(error):
                    result["lost"] = str(error).splitlines()[0]
            signal.alarm(0)
            print(json.dumps({"case": name, **result}), file=file, flush=True)
            if "lost" in result:
                return BROKEN
    return 0


def _too_long(*_: object) -> None:
    raise TimeoutError


def _case(torch: Any, op: Any, dtype: Any) -> dict[str, Any]:
    """Hashes of the outputs and, where the operator can, of the gradients, over its sample inputs."""
    backward = dtype in op.supported_backward_dtypes("cuda") if op.supports_autograd else False
    forward, gradients, ran, derived, errors = hashlib.sha256(), hashlib.sha256(), 0, 0, []
    _seed(torch, op, dtype)
    for sample in itertools.islice(op.sample_inputs("cuda", dtype, requires_grad=backward), SAMPLES):
        _seed(torch, op, dtype)
        try:
            output = op(sample.input, *sample.args, **sample.kwargs)
            _update(torch, forward, output)
            ran += 1
            derived += _backward(torch, sample, output, gradients) if backward else 0
            torch.cuda.synchronize()
        except (RuntimeError, NotImplementedError, ValueError, TypeError, IndexError) as error:
            if "CUDA error" in str(error):
                raise
            errors.append(type(error).__name__)
    told = {"samples": ran, "forward": forward.hexdigest(), "errors": errors}
    return told | ({"backward": gradients.hexdigest(), "gradients": derived} if derived else {})


def _seed(torch: Any, op: Any, dtype: Any) -> None:
    torch.manual_seed(int(hashlib.sha256(f"{op.formatted_name} {dtype}".encode()).hexdigest()[:8], 16))


def _backward(torch: Any, sample: Any, output: Any, gradients: Any) -> int:
    from torch.utils._pytree import tree_leaves

    leaves = tree_leaves((sample.input, sample.args, sample.kwargs))
    inputs = [one for one in leaves if isinstance(one, torch.Tensor) and one.requires_grad]
    outputs = [one for one in tree_leaves(output) if isinstance(one, torch.Tensor) and one.requires_grad]
    if not inputs or not outputs:
        return 0
    found = torch.autograd.grad(outputs, inputs, [torch.ones_like(one) for one in outputs], allow_unused=True)
    _update(torch, gradients, found)
    return 1


def _update(torch: Any, hashed: Any, value: Any) -> None:
    from torch.utils._pytree import tree_leaves

    for one in tree_leaves(value):
        if isinstance(one, torch.Tensor):
            tensor = one.detach()
            tensor = tensor.to_dense() if tensor.layout is not torch.strided else tensor
            tensor = tensor.resolve_conj().resolve_neg().cpu().contiguous()
            hashed.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
        else:
            hashed.update(repr(one).encode())


def start() -> dict[str, Any]:
    """Seconds and bytes of a process that imports PyTorch, starts CUDA and runs a first kernel."""
    began = time.perf_counter()
    import torch

    imported = time.perf_counter()
    torch.cuda.init()
    torch.cuda.synchronize()
    started = time.perf_counter()
    ones = torch.full((1 << 10,), 2.0, device="cuda")
    (ones * ones + 1).sum().item()
    ran = time.perf_counter()
    free, total = torch.cuda.mem_get_info()
    status = Path("/proc/self/status").read_text()
    kib = {
        line.split(":")[0]: int(line.split()[1])
        for line in status.splitlines()
        if line.startswith(("VmRSS", "Rss"))
    }
    return {
        "import_s": imported - began,
        "cuda_init_s": started - imported,
        "first_kernel_s": ran - started,
        "rss_mib": kib["VmRSS"] / 1024,
        "rss_file_mib": kib["RssFile"] / 1024,
        "gpu_mib": (total - free) / 2**20,
    }


def compiled() -> dict[str, Any]:
    """What torch.compile of a small model answers, against eager mode."""
    import torch

    torch.manual_seed(0)
    layers = (
        torch.nn.Conv2d(3, 16, 3),
        torch.nn.BatchNorm2d(16),
        torch.nn.GELU(),
        torch.nn.AdaptiveAvgPool2d(4),
    )
    model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(256, 10)).cuda()
    images = torch.randn(8, 3, 32, 32, device="cuda")
    compiled_model = torch.compile(model)
    eager, fused = model(images), compiled_model(images)
    fused.square().sum().backward()
    return {
        "largest_difference": (eager - fused).abs().max().item(),
        "sha256": hashlib.sha256(fused.detach().cpu().numpy().tobytes()).hexdigest(),
        "gradient": model[0].weight.grad.abs().sum().item(),
    }


if __name__ == "__main__":
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if sys.argv[1] == "sweep":
        sys.exit(sweep(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
    print(json.dumps(start() if sys.argv[1] == "start" else compiled()))
