"""The NVIDIA GPUs and the driver of this machine: NVML is asked, and where it cannot be, `nvidia-smi`.

Sources: NVML API reference (System Queries, Device Queries); `nvidia-smi --help-query-gpu`.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

import pynvml  # type: ignore[import-untyped]

from trtforge.errors import EnvironmentLack

QUERY = ("--query-gpu=driver_version,compute_cap,name", "--format=csv,noheader")
"""The name stands last: it may hold anything. `compute_cap` is known from driver 470 on."""

_SMI_PATH = "/usr/bin:/usr/local/nvidia/bin:/usr/lib/wsl/lib"
"""Where nvidia-smi lies that PATH does not name: on cloud nodes, inside WSL."""


@dataclass(frozen=True)
class Gpu:
    """A GPU: its index as `nvidia-smi` counts, its name, its compute capability without the point ("86")."""

    index: int
    name: str
    sm: str

    def __str__(self) -> str:
        return f"GPU {self.index}, {self.name} (compute capability {capability(self.sm)})"


@dataclass(frozen=True)
class Machine:
    """driver: its version, "535.104.05". gpus: at least one."""

    driver: str
    gpus: tuple[Gpu, ...]


def capability(sm: str) -> str:
    """A compute capability as NVIDIA writes it: "8.6"."""
    return f"{sm[:-1]}.{sm[-1]}"


def read_machine() -> Machine:
    """What this machine has.

    Raises:
        EnvironmentLack: no GPU can be seen; with what NVML and nvidia-smi say.
    """
    try:
        machine = _by_nvml()
    except (pynvml.NVMLError, OSError, UnicodeDecodeError) as error:
        nvml = str(error)
    else:
        if machine.gpus:
            return machine
        nvml = f"driver {machine.driver}, no GPU"
    try:
        return _by_smi()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise EnvironmentLack(
            "no NVIDIA GPU can be seen on this machine",
            ("NVML", nvml),
            ("nvidia-smi", str(error)),
            ("next", "say what the image is for: --cuda 12.1 --arch ampere"),
        ) from error


def _by_nvml() -> Machine:
    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        gpus = []
        for index, handle in enumerate(handles):
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
            gpus.append(Gpu(index, pynvml.nvmlDeviceGetName(handle), f"{major}{minor}"))
        return Machine(pynvml.nvmlSystemGetDriverVersion(), tuple(gpus))
    finally:
        pynvml.nvmlShutdown()


def _by_smi() -> Machine:
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=_SMI_PATH)
    if program is None:
        raise FileNotFoundError("not installed")
    done = subprocess.run([program, *QUERY], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ValueError((done.stdout + done.stderr).strip() or f"exit {done.returncode}")
    return read_query(done.stdout)


def read_query(output: str) -> Machine:
    """What `nvidia-smi` answers to QUERY.

    Raises:
        ValueError: it names no GPU, or not what was asked.
    """
    lines = [line.split(", ", 2) for line in output.strip().splitlines()]
    gpus = []
    for index, fields in enumerate(lines):
        if len(fields) != 3 or not fields[1].replace(".", "").isdecimal() or fields[1].count(".") != 1:
            raise ValueError(f"unexpected answer: {', '.join(fields)}")
        gpus.append(Gpu(index, fields[2], fields[1].replace(".", "")))
    if not gpus:
        raise ValueError("it lists no GPU")
    return Machine(lines[0][0], tuple(gpus))
