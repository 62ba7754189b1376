"""The image's nvcc is that of the cell's CUDA, and compiles a kernel for each GPU of the cell."""

from __future__ import annotations

import os
import re
from typing import Any

from smoke import nvcc

NEEDS = ("toolkit", "sm")


def check(expected: dict[str, Any]) -> dict[str, Any]:
    toolkit = expected["toolkit"]
    assert os.environ["CUDA_HOME"] == toolkit["home"], "CUDA_HOME is {}".format(os.environ["CUDA_HOME"])
    release = re.search(r"release ([0-9.]+), V([0-9.]+)", nvcc.run("nvcc", "--version"))
    assert release, "nvcc does not say its release"
    assert release.group(1) == toolkit["cuda"], f"nvcc is of CUDA {release.group(1)}"
    for sm in expected["sm"]:
        found = nvcc.cubin_sm(sm)
        assert found == sm, f"nvcc -arch=sm_{sm} made code for sm_{found}"
    size = nvcc.program(expected["sm"]).stat().st_size
    return {"nvcc": release.group(2), "sm": expected["sm"], "program": size}
