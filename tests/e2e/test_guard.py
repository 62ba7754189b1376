"""The guard in the image of the main job: without a GPU, and on machines that a stub of NVML describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stub_nvml import stub_nvml
from trtforge.engine.engine import RunResult
from trtforge.machine import Gpu

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Forge
    from trtforge.engine.engine import Engine

pytestmark = [pytest.mark.e2e, pytest.mark.cell]

REF = "trtforge/tensorrt:cu12.1-ampere"
HOPPER = "pull trtforge/tensorrt:cu12.1-hopper"


@pytest.fixture(scope="module", autouse=True)
def image(forge: Forge) -> None:
    forge.build("--cuda 12.1 --arch ampere --tensorrt rtx")


def start(engine: Engine, command: list[str], machine: Path | None = None, **environment: str) -> str:
    """`docker run REF COMMAND`, with the NVML of `machine` where the NVIDIA Container Toolkit puts it."""
    library = "libnvidia-ml.so.1"
    binds = [f"{machine}/{library}:/usr/lib/x86_64-linux-gnu/{library}:ro"] if machine else []
    host_config = engine.api.create_host_config(binds=binds, network_mode="none")
    made = engine.api.create_container(REF, command, environment=environment, host_config=host_config)
    engine.api.start(made["Id"])
    return str(made["Id"])


def end(engine: Engine, container: str) -> RunResult:
    try:
        code = engine.api.wait(container, timeout=60)["StatusCode"]
        out, err = (engine.api.logs(container, stdout=one, stderr=not one).decode() for one in (True, False))
        return RunResult(code, out, err)
    finally:
        engine.api.remove_container(container, force=True)


def docker_run(
    engine: Engine, command: list[str], machine: Path | None = None, **environment: str
) -> RunResult:
    return end(engine, start(engine, command, machine, **environment))


def test_without_a_gpu_one_line_tells_so(engine: Engine) -> None:
    notice = "trtforge: no GPU is visible here (docker run --gpus all gives one)\n"
    command = ["python", "-c", "print('ran'); raise SystemExit(7)"]
    assert docker_run(engine, command) == RunResult(7, "ran\n", notice)
    assert docker_run(engine, command, TRTFORGE_GUARD="off") == RunResult(7, "ran\n", "")
    assert docker_run(engine, ["no-such"], TRTFORGE_GUARD="off").exit_code == 127


def test_a_gpu_of_another_architecture_is_told_what_to_pull(engine: Engine, tmp_path: Path) -> None:
    stub_nvml(tmp_path, "535.104.05", [Gpu(0, "NVIDIA H100 80GB HBM3", "90")])
    refused = docker_run(engine, ["echo", "ran"], tmp_path)
    assert (refused.exit_code, refused.stdout) == (64, "")
    gpu = "GPU 0 (NVIDIA H100 80GB HBM3) is SM 90"
    assert refused.stderr.splitlines()[0] == f"trtforge: this image holds SM 80, 86; {gpu}: {HOPPER}"
    warned = docker_run(engine, ["echo", "ran"], tmp_path, TRTFORGE_GUARD="warn")
    assert (warned.exit_code, warned.stdout, HOPPER in warned.stderr) == (0, "ran\n", True)


def test_a_gpu_that_fits_is_not_spoken_of(engine: Engine, tmp_path: Path) -> None:
    stub_nvml(tmp_path, "535.104.05", [Gpu(0, "NVIDIA A10", "86")])
    assert docker_run(engine, ["echo", "ran"], tmp_path) == RunResult(0, "ran\n", "")


def test_a_driver_that_is_too_old_is_told_what_would_do(engine: Engine, tmp_path: Path) -> None:
    stub_nvml(tmp_path, "470.82.01", [Gpu(0, "NVIDIA A10", "86")])
    refused = docker_run(engine, ["echo", "ran"], tmp_path)
    assert (refused.exit_code, refused.stdout) == (64, "")
    assert "or pull trtforge/tensorrt:cu11.8-ampere" in refused.stderr


def test_docker_stop_reaches_the_command(engine: Engine) -> None:
    waits = "import signal; print('up', flush=True); signal.pause()"
    container = start(engine, ["python", "-c", waits])
    for line in engine.api.logs(container, stream=True, stdout=True, stderr=False):
        assert line == b"up\n"
        break
    engine.api.stop(container, timeout=30)
    assert end(engine, container).exit_code == 143  # 128 + SIGTERM; 137 would be Docker's patience
