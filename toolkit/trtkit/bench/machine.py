"""The machine that is measured: what must be told with a number, or it says nothing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from trtkit.devices import Gpu, gpus, usage

PACKAGES = (
    "torch", "torchvision", "triton", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu",
    "tensorrt-cu11", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13",
    "nvidia-cudnn-cu12", "nvidia-cudnn-cu13",
)  # fmt: skip

BUSY = 10
"""Percent of the GPU, or of the cores, that others may use before it is worth a note."""


class Machine(BaseModel):
    """cores: that this process may use. memory: bytes. packages: versions of those that matter.
    notes: what others were doing on it before the first row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str
    cores: int
    memory: int
    system: str
    python: str
    gpu: Gpu | None
    packages: dict[str, str]
    notes: tuple[str, ...] = ()


def look() -> Machine:
    """This machine, now."""
    gpu = benchmarked_gpu()
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        gpu=gpu,
        packages={name: found for name in PACKAGES if (found := _version(name))},
        notes=_notes(gpu),
    )


def benchmarked_gpu() -> Gpu | None:
    """The GPU that runners take: the first that CUDA shows (CUDA_VISIBLE_DEVICES by index or UUID)."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return next(iter(gpus()), None)
    first = visible.split(",")[0].strip()
    return next(
        (gpu for gpu in gpus() if first == str(gpu.index) or (first and gpu.uuid.startswith(first))), None
    )


def _notes(gpu: Gpu | None) -> tuple[str, ...]:
    notes = []
    load = os.getloadavg()[0] / len(os.sched_getaffinity(0)) * 100
    if load > BUSY:
        notes.append(f"the cores were {min(load, 100):.0f} % busy before the first row")
    now = usage(gpu) if gpu else None
    if now and now.utilisation > BUSY:
        notes.append(f"the GPU was {now.utilisation} % busy before the first row: others use it")
    return tuple(notes)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
