"""The look around, in a Python environment made for it."""

from __future__ import annotations

import os
import subprocess
import venv
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PROJECT
from trtforge.base_checks.survey import Survey, survey_image
from trtforge.engine.engine import RunResult
from trtforge.errors import BuildError

if TYPE_CHECKING:
    from pathlib import Path

PROBE = PROJECT / "trtforge" / "base_checks" / "survey_probe.py"


def write(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Survey, Path]:
    folder = tmp_path_factory.mktemp("base").resolve()
    venv.create(folder / "venv", with_pip=False)
    packages = next((folder / "venv").glob("lib/python*/site-packages"))
    write(packages / "torch" / "lib" / "libcudart-d0da41ae.so.11.0", 3)
    write(packages / "torch" / "__init__.py", 0)
    cublas = write(packages / "nvidia" / "cublas" / "lib" / "libcublas.so.12", 5)
    write(packages / "nvidia" / "cuda_runtime" / "lib" / "libcudart.so.12", 7)
    cublas.with_name("libcublas.so").symlink_to(cublas.name)
    system = folder / "venv" / "lib"
    write(system / "libcublas.so.12", 11)
    write(system / "libcublas_static.a", 13)
    write(system / "libnvinfer.so.10", 1)
    write(system / "libcuda.so.535.1", 1)
    write(folder / "other" / "libcudart.so.12", 1)
    path = f"{folder}/other:{packages}/nvidia/cublas/lib:{folder}/missing:"
    done = subprocess.run(
        [folder / "venv" / "bin" / "python", "-c", PROBE.read_text(encoding="utf-8")],
        env={**os.environ, "LD_LIBRARY_PATH": path},
        capture_output=True,
        check=True,
    )
    return Survey.model_validate_json(done.stdout), folder


def test_libraries_that_are_there_twice_are_measured(found: tuple[Survey, Path]) -> None:
    survey, folder = found
    assert survey.wheels == {"cublas": 5, "cudart": 10}
    assert survey.system["cublas"] >= 24
    assert survey.static >= 13
    assert str(folder / "venv" / "lib" / "libnvinfer.so.10") in survey.tensorrt
    assert str(folder / "venv" / "lib" / "libcuda.so.535.1") in survey.driver


def test_a_folder_that_hides_torch_s_libraries_is_named(found: tuple[Survey, Path]) -> None:
    survey, folder = found
    assert survey.shadowing == {f"{folder}/other": ("libcudart.so.12",)}
    assert survey.loaded == ()


def test_the_marker_does_not_matter_in_a_venv(found: tuple[Survey, Path]) -> None:
    assert found[0].externally_managed == ""


def test_what_torch_loads_from_elsewhere_is_seen(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    packages = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    subprocess.run(["gcc", "-shared", "-o", tmp_path / "libcudart.so.12", "-x", "c", "/dev/null"], check=True)
    write(packages / "torch" / "lib" / "libcudart.so.12", 1)
    loads = f"import ctypes; ctypes.CDLL({str(tmp_path / 'libcudart.so.12')!r})"
    (packages / "torch" / "__init__.py").write_text(loads, encoding="utf-8")
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-c", PROBE.read_text(encoding="utf-8")],
        capture_output=True,
        check=True,
    )
    assert Survey.model_validate_json(done.stdout).loaded == (str(tmp_path / "libcudart.so.12"),)


class Answering:
    """As much of an Engine as looking around needs."""

    def __init__(self, *answers: RunResult) -> None:
        self.answers = list(answers)

    def run(self, _name: str, _command: list[str], **_how: object) -> RunResult:
        return self.answers.pop(0)


def test_an_entrypoint_that_keeps_the_command_is_seen() -> None:
    engine = Answering(RunResult(0, "banner\n{}\n", ""), RunResult(0, "usage: serve\n", ""))
    assert survey_image(engine, "x") == Survey(hands_over=False)  # type: ignore[arg-type]


def test_an_image_that_does_not_answer_is_an_error_with_its_output() -> None:
    with pytest.raises(BuildError) as caught:
        survey_image(Answering(RunResult(137, "", "Killed\n")), "x")  # type: ignore[arg-type]
    assert ("output", "Killed") in caught.value.facts
