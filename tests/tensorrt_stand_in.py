"""A stand-in for NVIDIA's package index: the real bindings, and a libs wheel with nothing in its libraries.

The real libs wheel is gigabytes and comes from one place only. Here its libraries are stubs that export the
C functions the bindings link to, which is all that `import tensorrt` needs. Everything else is as in the real
one: the names, the tags, the folder, and an `__init__` that loads every library in it.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.loopback_index import tiny_wheel

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "10.13.3.9.post1"
LIBS_TAG = "py2.py3-none-manylinux_2_28_x86_64"

# What tensorrt.so of the 10.13 bindings leaves undefined (nm -D --undefined-only), by library.
FACTORIES = {
    "libnvinfer.so.10": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "libnvonnxparser.so.10": (
        "createNvOnnxParser_INTERNAL",
        "createNvOnnxParserRefitter_INTERNAL",
        "getNvOnnxParserVersion",
    ),
    "libnvinfer_plugin.so.10": ("initLibNvInferPlugins",),
}

LOADER = b"""\
import ctypes
import glob
import os

CURDIR = os.path.realpath(os.path.dirname(__file__))

for lib in sorted(glob.iglob(os.path.join(CURDIR, "*.so*"))):
    try:
        ctypes.CDLL(lib, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        pass
"""


def stand_in_index(folder: Path, bindings: Path, *, cuda: int = 12, version: str = VERSION) -> Path:
    """Fill `folder` with what NVIDIA's index would offer, to be served; the libs wheel in it.

    Args:
        folder: served by `loopback_index`.
        bindings: the real bindings wheel, tensorrt_cu12_bindings-<version>-*.whl.
        cuda: the CUDA major in the packages' names.
        version: of the libs; the import works with bindings of TensorRT 10.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(bindings, folder)
    return stand_in_libs(folder, cuda=cuda, version=version)


def stand_in_libs(folder: Path, *, cuda: int = 12, version: str = VERSION) -> Path:
    """The libs wheel with stub libraries, in `folder`; needs gcc."""
    files = {"tensorrt_libs/__init__.py": LOADER}
    for soname, functions in FACTORIES.items():
        files[f"tensorrt_libs/{soname}"] = _stub_library(folder / "stubs", soname, functions)
    shutil.rmtree(folder / "stubs")
    return tiny_wheel(folder, f"tensorrt-cu{cuda}-libs", version, tag=LIBS_TAG, files=files)


def _stub_library(folder: Path, soname: str, functions: tuple[str, ...]) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    source = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions)
    command = ["gcc", "-shared", "-fPIC", "-s", f"-Wl,-soname,{soname}", "-x", "c", "-", "-o", soname]
    subprocess.run(command, cwd=folder, input=source.encode(), check=True)
    return (folder / soname).read_bytes()
