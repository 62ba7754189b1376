"""TensorRT's real Python bindings, of many versions, beside stub libraries with nothing in them.

The bindings are small wheels on the package index; the libraries they link to are gigabytes and, the most of
them, not there. To be imported, the bindings ask nothing of the libraries but that a handful of C functions
exist. So the whole Python API can be looked at, and classes without a native half be made; a Builder cannot.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.version import Version

from tests.index_packages import requirements, unpack
from trtkit.flavour import LEAN, MODULES, Flavour, TensorRT

LISTED = Path(__file__).with_name("bindings.txt")
TOOLKIT = Path(__file__).parents[2]

FACTORIES = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion",
    "getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
"""What the bindings of 10.3 to 11.4 and of TensorRT-RTX leave undefined (nm -D --undefined-only)."""

LIBRARIES = (
    *(
        f"lib{name}.so.{major}"
        for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin", "nvinfer_lean")
        for major in (10, 11)
    ),
    "libtensorrt_rtx.so.1",
    "libtensorrt_onnxparser_rtx.so.1",
)
"""What they need (readelf -d). All are the same stub here: the linker looks in all of them."""

FRONTEND = "from {module}_bindings import *\nfrom {module}_bindings import __version__\n"
"""The whole of the package that people import, tensorrt/__init__.py."""


@dataclass(frozen=True)
class Bindings:
    """Bindings that can be imported, in processes of their own.

    folder: holds the bindings and the package in front of them. stubs: holds the libraries. lean: they are
        those of the lean runtime.
    """

    flavour: Flavour
    version: str
    folder: Path
    stubs: Path
    lean: bool = False

    @property
    def module(self) -> str:
        return LEAN if self.lean else MODULES[self.flavour]

    @property
    def tensorrt(self) -> TensorRT:
        """As `find_tensorrt` tells them, without the module: to ask what differs between versions."""
        return TensorRT(self.flavour, Version(self.version), ModuleType(self.module), self.lean)

    def run(self, *arguments: str) -> Any:
        """Run Python with `arguments` and these bindings; what it prints, which is JSON.

        Raises:
            AssertionError: it failed; the message is its traceback.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POLYGRAPHY")}
        environment["PYTHONPATH"] = os.pathsep.join([str(self.folder), str(TOOLKIT)])
        environment["LD_LIBRARY_PATH"] = str(self.stubs)
        result = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{self}\n{result.stderr}"
        return json.loads(result.stdout)

    def __str__(self) -> str:
        return f"{self.flavour} {self.version}{' lean' if self.lean else ''}"


def listed(*, lean: bool = False) -> list[tuple[Flavour, str]]:
    """Flavours and versions of bindings.txt that have wheels for this Python: of the lean runtime, or of what
    it is the smaller part of."""
    found: list[tuple[Flavour, str]] = []
    for requirement in requirements(LISTED.read_text(encoding="utf-8")):
        name, version = requirement.split("==")
        if ("lean" in name) != lean:
            continue
        # TensorRT's first wheels for Python 3.13 are those of 10.9.
        if sys.version_info < (3, 13) or "rtx" in name or Version(version) >= Version("10.9"):
            found.append(("tensorrt-rtx" if "rtx" in name else "tensorrt", version))
    return found


def install(flavour: Flavour, version: str, folder: Path, stubs: Path, *, lean: bool = False) -> Bindings:
    """Unpack the bindings into `folder`, with the package in front of them."""
    bindings = Bindings(flavour, version, folder, stubs, lean)
    module, text = bindings.module, LISTED.read_text(encoding="utf-8")
    unpack(requirements(text)[f"{module.replace('_', '-')}-cu12-bindings=={version}"], folder)
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text(FRONTEND.format(module=module), encoding="utf-8")
    return bindings


def make_stubs(folder: Path) -> Path:
    """The stub libraries, in `folder`; needs gcc."""
    folder.mkdir()
    source = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in FACTORIES)
    first, *others = LIBRARIES
    command = ["gcc", "-shared", "-fPIC", "-s", "-x", "c", "-", "-o", first]
    subprocess.run(command, cwd=folder, input=source.encode(), check=True)
    for name in others:
        (folder / name).symlink_to(first)
    return folder
