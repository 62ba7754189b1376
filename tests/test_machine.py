"""GPUs and driver: nvidia-ml-py over a stub of the driver's library, and what nvidia-smi prints."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PROJECT
from tests.stub_nvml import NOT_LOADED, stub_nvml
from trtforge.machine import QUERY, Gpu, Machine, read_query

if TYPE_CHECKING:
    from pathlib import Path

A10, V100, RTX = Gpu(0, "NVIDIA A10", "86"), Gpu(1, "Tesla V100-SXM2-16GB", "70"), Gpu(0, "RTX 5090", "120")

SCRIPT = """
from trtforge.errors import EnvironmentLack
from trtforge.machine import read_machine
try:
    print(read_machine())
except EnvironmentLack as error:
    print(error.problem, dict(error.facts))
"""


def seen(environment: dict[str, str]) -> str:
    """What a new process, which alone can find another library, makes of its machine."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def smi(folder: Path, output: str, code: int = 0) -> dict[str, str]:
    """An environment with an nvidia-smi that prints `output` if it is asked as we ask."""
    folder.mkdir(exist_ok=True)
    (folder / "output").write_text(output)
    program = folder / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\n[ "$*" = "{" ".join(QUERY)}" ] || exit 2\ncat {folder}/output\nexit {code}\n'
    )
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("gpus", [(A10,), (A10, V100), (RTX,)])
def test_nvml_is_asked(gpus: tuple[Gpu, ...], tmp_path: Path) -> None:
    assert seen(stub_nvml(tmp_path, "535.104.05", gpus)) == str(Machine("535.104.05", gpus))


def test_without_nvml_nvidia_smi_is_asked(tmp_path: Path) -> None:
    answer = smi(tmp_path, "535.104.05, 8.6, NVIDIA A10\n")
    assert seen(answer) == str(Machine("535.104.05", (A10,)))
    broken = stub_nvml(tmp_path / "nvml", "535.104.05", [], init=NOT_LOADED)
    assert seen({**answer, **broken}) == str(Machine("535.104.05", (A10,)))


FAILED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
    "NVIDIA driver is installed and running.\n"
)


@pytest.mark.parametrize(
    ("output", "code"), [(FAILED, 9), ("No devices were found\n", 6), ("No devices were found\n", 0), ("", 0)]
)
def test_without_a_gpu_both_reasons_are_told(output: str, code: int, tmp_path: Path) -> None:
    said = seen({**smi(tmp_path, output, code), **stub_nvml(tmp_path / "nvml", "535.104.05", [])})
    assert said.startswith("no NVIDIA GPU can be seen on this machine")
    assert "driver 535.104.05, no GPU" in said
    assert (output.strip() or "it lists no GPU") in said.replace('"', "")
    assert "--cuda 12.1 --arch ampere" in said


@pytest.mark.parametrize(
    ("output", "machine"),
    [
        ("535.104.05, 8.6, NVIDIA A10\n", Machine("535.104.05", (A10,))),
        (
            "550.54.15, 9.0, NVIDIA H100 80GB HBM3\n550.54.15, 9.0, NVIDIA H100 80GB HBM3\n",
            Machine("550.54.15", tuple(Gpu(index, "NVIDIA H100 80GB HBM3", "90") for index in range(2))),
        ),
        (
            "572.16, 12.0, NVIDIA GeForce RTX 5090\n",
            Machine("572.16", (Gpu(0, "NVIDIA GeForce RTX 5090", "120"),)),
        ),
        ("470.82.01, 7.5, A, B\n", Machine("470.82.01", (Gpu(0, "A, B", "75"),))),
    ],
)
def test_what_nvidia_smi_prints_is_read(output: str, machine: Machine) -> None:
    assert read_query(output) == machine


@pytest.mark.parametrize(
    "output",
    [
        "",
        "No devices were found\n",
        "535.104.05, [N/A], NVIDIA A10\n",
        'Field "compute_cap" is not a valid field',
    ],
)
def test_what_is_no_answer_is_refused(output: str) -> None:
    with pytest.raises(ValueError, match=r"unexpected answer|lists no GPU"):
        read_query(output)


def test_a_gpu_is_named_as_nvidia_does() -> None:
    assert str(RTX) == "GPU 0, RTX 5090 (compute capability 12.0)"
