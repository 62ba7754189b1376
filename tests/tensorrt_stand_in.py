"""A stand-in for NVIDIA's package index: the real bindings, and a libs wheel with nothing in its libraries.

The real libs wheel is gigabytes and comes from one place only. Here its libraries are stubs that export the
C functions the bindings link to, which is all that `import tensorrt` needs. Everything else is as in the real
one: the names, the tags, the folder, and an `__init__` that loads every library in it.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from packaging.version import Version

from tests.linked_libraries import shared_library
from tests.loopback_index import tiny_wheel

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "10.13.3.9.post1"
LIBS_TAG = "py2.py3-none-manylinux_2_28_x86_64"
SMS = ("75", "80", "86", "89", "90", "100", "120")

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
    """The libs wheel with stub libraries, which need one another as the real ones do, in `folder`."""
    stubs = folder / "stubs"
    nvinfer = shared_library(stubs / "libnvinfer.so.10", functions=FACTORIES["libnvinfer.so.10"])
    for soname, functions in FACTORIES.items():
        if soname != nvinfer.name:
            shared_library(stubs / soname, functions=functions, needs=[nvinfer], runpath="$ORIGIN")
    files = {f"tensorrt_libs/{path.name}": path.read_bytes() for path in stubs.iterdir()}
    resource = shared_library(stubs / "resource", soname="").read_bytes()
    files |= {f"tensorrt_libs/{name}": resource for name in builder_resources(version)}
    files["tensorrt_libs/__init__.py"] = LOADER
    shutil.rmtree(stubs)
    return tiny_wheel(
        folder, f"tensorrt-cu{cuda}-libs", version, tag=LIBS_TAG, files=dict(sorted(files.items()))
    )


def builder_resources(version: str) -> list[str]:
    """What the builder loads, in the real wheel of this version: one file up to 10.14, one for each SM since
    10.16, and the same for engines that run on Windows."""
    number = ".".join(version.split(".")[:3])
    split = Version(version) >= Version("10.16")
    parts = [*(f"_sm{sm}" for sm in SMS), "_ptx"] if split else [""]
    return [f"libnvinfer_builder_resource{win}{part}.so.{number}" for win in ("", "_win") for part in parts]
