"""The dynamic loader finds TensorRT's libraries by name (through ld.so.cache), without LD_LIBRARY_PATH.

From TensorRT 10.14 on the libraries load others by bare name, and C++ programs in the image need it too.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

NEEDS = ("tensorrt", "sm")

SONAMES = {
    "tensorrt_rtx": ("libtensorrt_rtx.so.%s", "libtensorrt_onnxparser_rtx.so.%s"),
    "tensorrt": ("libnvinfer.so.%s", "libnvonnxparser.so.%s"),
    "tensorrt_lean": ("libnvinfer_lean.so.%s",),
}
"""By the Python module that loads them."""


def check(expected: dict[str, Any]) -> dict[str, Any]:
    tensorrt = expected["tensorrt"]
    names = [name % tensorrt["version"].split(".")[0] for name in SONAMES[tensorrt["module"]]]
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    for name in names:
        # A fresh process: nothing of TensorRT is loaded yet that could help.
        command = [sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", name]
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        last = done.stdout.strip().splitlines()[-1:]
        assert done.returncode == 0, "the loader does not find {}: {}".format(name, "".join(last))
    missing = missing_resources(library_folders(), expected["sm"], tensorrt.get("family", {}))
    assert not missing, "no builder resource for SM " + ", ".join(missing)
    return {"loaded": names}


def library_folders() -> list[Path]:
    """Where the distribution with the full TensorRT's libraries is; none with the RTX flavour."""
    spec = importlib.util.find_spec("tensorrt_libs")
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def missing_resources(folders: list[Path], sms: list[str], family: dict[str, str]) -> list[str]:
    """The SMs that the builder cannot build for: it has a resource file for each SM, but none for these.

    family: SMs without a file of their own -> whose they use.
    """
    files = [file.name for folder in folders for file in folder.glob("libnvinfer_builder_resource_sm*.so*")]
    matches = [re.match(r"libnvinfer_builder_resource_sm(\d+)\.so", name) for name in files]
    have = {match.group(1) for match in matches if match}
    return [sm for sm in sms if have and sm not in have and family.get(sm) not in have]
