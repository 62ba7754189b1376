"""The GPUs of this machine, as NVML tells them: no CUDA context is made, nothing heavy is imported.

Source: NVML API reference; nvidia-ml-py is its official binding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """A GPU. sm: its compute capability as "86"; memory: bytes in all; driver: the driver's version."""

    index: int
    uuid: str
    name: str
    sm: str
    memory: int
    driver: str


@dataclass(frozen=True)
class Usage:
    """What a GPU is doing. utilisation: percent of the last sample period in which a kernel ran; memory:
    bytes in use by everybody."""

    utilisation: int
    memory: int


NO_GPU = "no GPU"
"""Why something did not run where there is none, in the words every report uses."""


def gpus() -> tuple[Gpu, ...]:
    """All GPUs that NVML shows; none where there is no driver."""
    with _nvml() as nvml:
        if nvml is None:
            return ()
        driver = nvml.nvmlSystemGetDriverVersion()
        return tuple(_gpu(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount()))


def usage(gpu: Gpu) -> Usage | None:
    """What `gpu` is doing now; None where its driver does not say."""
    with _nvml() as nvml:
        if nvml is None:
            return None
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            rates = nvml.nvmlDeviceGetUtilizationRates(handle)
            return Usage(rates.gpu, nvml.nvmlDeviceGetMemoryInfo(handle).used)
        except nvml.NVMLError:
            return None


def _gpu(nvml: Any, index: int, driver: str) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        index=index,
        uuid=nvml.nvmlDeviceGetUUID(handle),
        name=nvml.nvmlDeviceGetName(handle),
        sm=f"{major}{minor}",
        memory=nvml.nvmlDeviceGetMemoryInfo(handle).total,
        driver=driver,
    )


@contextmanager
def _nvml() -> Iterator[Any]:
    """The module pynvml, initialised; None where NVML is not to be had."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()
