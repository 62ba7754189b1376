"""What torch.compile needs beside torch: triton, and a C compiler for what launches triton's kernels.

Source: triton, runtime/build.py and backends/nvidia/driver.py.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from smoke.outcome import Skip

LIBRARY = "libcuda.so.1"
DRIVER_CALL = re.compile(r"\bcu[A-Z]\w+")

KERNEL = """
import triton
import triton.language as tl


@triton.jit
def weighted_sum(x, y, out, weight, count, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    total = tl.load(x + place, mask=inside) + weight * tl.load(y + place, mask=inside)
    tl.store(out + place, total, mask=inside)
"""
"""Of the kind that torch.compile generates."""

TYPES = {"x": "*fp32", "y": "*fp32", "out": "*fp32", "weight": "fp32", "count": "i32", "BLOCK": "constexpr"}


def require_compiler(expected: dict[str, Any]) -> None:
    """Skip where a base that is not ours has no C compiler; our own images must have one."""
    if os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"):
        return
    if "interpreter" in expected:
        raise Skip("the base has no C compiler, so torch.compile cannot launch what it makes for GPUs")
    raise AssertionError("no C compiler: triton cannot compile what launches its kernels")


def caches() -> Path:
    """A new folder for what is compiled: what was compiled before proves nothing."""
    folder = Path(tempfile.mkdtemp(prefix="smoke-compiled-"))
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    return folder


def kernel(folder: Path) -> Any:
    """The kernel as triton has it, who reads its source in a file."""
    file = folder / "smoke_kernel.py"
    file.write_text(KERNEL, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.weighted_sum


def with_driver(folder: Path) -> str:
    """Have a libcuda.so.1 for linker and loader, and say which: the driver's, or a stub made in `folder`."""
    try:
        ctypes.CDLL(LIBRARY, ctypes.RTLD_GLOBAL)
        return "the driver's libcuda"
    except OSError:
        pass
    backend = Path(importlib.import_module("triton.backends.nvidia").__path__[0])
    texts = [(backend / name).read_text(encoding="utf-8") for name in ("driver.c", "driver.py")]
    names = sorted({name for text in texts for name in DRIVER_CALL.findall(text)})
    source, stub = folder / "stub.c", folder / LIBRARY
    # 100 is CUDA_ERROR_NO_DEVICE.
    source.write_text("\n".join(f"int {name}(void) {{ return 100; }}" for name in names), encoding="utf-8")
    command = [os.environ.get("CC") or "cc", "-shared", "-fPIC", "-Wl,-soname=" + LIBRARY]
    subprocess.run([*command, "-o", str(stub), str(source)], check=True)
    (folder / "libcuda.so").symlink_to(LIBRARY)
    ctypes.CDLL(str(stub), ctypes.RTLD_GLOBAL)
    os.environ["TRITON_LIBCUDA_PATH"] = str(folder)
    return "a stub of libcuda"
