"""What torch.compile generates can be compiled: kernels for every GPU of the cell, and what launches them.

No GPU is needed: triton brings its own ptxas. Without a driver, launchers are linked with a stub of it.
"""

from __future__ import annotations

import importlib
from typing import Any

from smoke.compiled import TYPES, caches, kernel, require_compiler, with_driver

NEEDS = ("torch", "sm", "packages.triton")
TIMEOUT = 120


def check(expected: dict[str, Any]) -> dict[str, Any]:
    require_compiler(expected)
    folder = caches()
    compiler = importlib.import_module("triton.compiler")
    target = importlib.import_module("triton.backends.compiler").GPUTarget
    source = compiler.ASTSource(kernel(folder), TYPES, constexprs={"BLOCK": 128})
    made: Any = None
    sizes = {}
    for sm in expected["sm"]:
        made = compiler.compile(source, target("cuda", int(sm), 32))
        cubin = made.asm["cubin"]
        assert cubin[:4] == b"\x7fELF", f"what triton made for SM {sm} is no ELF file"
        sizes["SM " + sm] = len(cubin)
    linked = with_driver(folder)
    driver = importlib.import_module("triton.backends.nvidia.driver")
    assert callable(driver.CudaUtils().load_binary)
    assert callable(driver.CudaLauncher(made.src, made.metadata).launch)
    return dict(sizes, linked=linked)
