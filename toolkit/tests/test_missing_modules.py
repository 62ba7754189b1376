"""What the command line says where a package is missing: the extra that brings it, for that verb."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import trtkit
from tests.serve.networks import doubling
from trtkit.cli import EXTRAS, SERVED
from trtkit.sidecar import Sidecar, file_sha256, write_sidecar
from trtkit.tensors import TensorSpec

TENSORRT = {"tensorrt", "tensorrt_rtx"}
"""flavour.py says what to do where none is here."""


def run(verb: str, missing: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`trtkit verb ...` where the module `missing` is not installed."""
    code = f"import sys; sys.modules[{missing!r}] = None; from trtkit.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, verb, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("verb", "missing", "package"),
    [
        ("serve", "onnxruntime", "'trtkit[serve]'"),
        ("serve", "PIL", "'trtkit[serve]'"),
        ("serve", "ml_dtypes", "'trtkit[serve]'"),
        ("serve", "uvloop", "'trtkit[serve]'"),
        ("serve", "httptools", "'trtkit[serve]'"),
        ("serve", "python_multipart", "'trtkit[serve]'"),
        ("pipeline", "filelock", "'trtkit[build]'"),
        ("build", "ml_dtypes", "'trtkit[build]'"),
        ("verify", "onnxruntime", "'trtkit[build]'"),
        ("calibrate", "PIL", "'trtkit[build]'"),
        ("pipeline", "ruamel", "trtkit"),
    ],
)
def test_what_is_missing_is_named_with_the_extra_that_brings_it_for_this_verb(
    tmp_path: Path, verb: str, missing: str, package: str
) -> None:
    model = doubling(tmp_path / "m.onnx")
    (tmp_path / "images").mkdir()
    (tmp_path / "p.yaml").write_text("model: torchvision:resnet18\n")
    arguments = {
        "serve": [str(model), "--port", "0"],
        "build": [str(model)],
        "calibrate": [str(model), "--data", str(tmp_path / "images")],
        "verify": [str(model), "--reference", str(model)],
        "pipeline": [str(tmp_path / "p.yaml")],
    }
    ended = run(verb, missing, *arguments[verb])
    assert ended.returncode == 3, ended.stderr
    assert f"`trtkit {verb}` needs {missing}" in ended.stderr
    assert f"pip install {package}," in ended.stderr
    assert "Traceback" not in ended.stderr


RUN = {"cuda", "ml_dtypes", *(name for name, extra in EXTRAS.items() if extra == "")}
"""What the extra `run` brings, with what trtkit always needs."""


def test_an_engine_is_looked_into_and_measured_with_what_running_one_needs(tmp_path: Path) -> None:
    """The others are not there, as in an image that only runs engines."""
    engine = tmp_path / "m.engine"
    engine.write_bytes(b"an engine")
    spec = TensorSpec("x", "float32", (1, 3))
    sidecar = Sidecar(
        engine_sha256=file_sha256(engine), onnx_sha256="0" * 64, flavour="tensorrt-rtx",
        tensorrt_version="1.7.1.116", sms=("86",), precision="fp16", inputs=(spec,), outputs=(spec,),
        workspace=1, trtkit="0",
    )  # fmt: skip
    write_sidecar(sidecar, engine)
    absent = [name for name in EXTRAS if name not in RUN]
    code = "import sys; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(','))); "
    command = [
        sys.executable,
        "-c",
        code + "from trtkit.cli import main; main(sys.argv[1:])",
        ",".join(absent),
    ]
    for arguments in (["inspect", str(engine), "--json"], ["bench", "--engine", str(engine)]):
        ended = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
        assert "Traceback" not in ended.stderr + ended.stdout
        assert "which is not installed" not in ended.stderr, ended.stderr
        assert "no GPU" in ended.stdout  # and so it came as far as can be here
    refused = subprocess.run([*command, "build", "m.onnx"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 3
    assert "trtkit[build]" in refused.stderr


def modules() -> set[str]:
    """Every module of others that trtkit imports."""
    names: set[str] = set()
    for file in Path(trtkit.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"trtkit"}


def test_every_module_that_is_imported_may_be_missing() -> None:
    assert modules() - TENSORRT <= EXTRAS.keys()


def test_the_extras_bring_what_is_said_of_them() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    brought = {
        extra: {canonicalize_name(Requirement(one).name) for one in needs} for extra, needs in lists.items()
    }
    distributions = packages_distributions()
    indirect = {"google": "onnx", "starlette": "fastapi"}  # which need protobuf, and starlette
    for module, extra in [*EXTRAS.items(), *((module, "serve") for module in SERVED)]:
        candidates = {canonicalize_name(name) for name in distributions.get(module, [module])}
        if module in indirect:
            candidates.add(canonicalize_name(indirect[module]))
        assert candidates & brought[extra], f"the extra {extra!r} does not bring {module}"
