"""The little of CUDA that running an engine needs: streams, pinned and device buffers, copies, typed errors.

It is NVIDIA's own binding of the runtime API (cuda-bindings); nothing of it is imported before it is used, so
this module imports anywhere. The device is the first that CUDA shows: CUDA_VISIBLE_DEVICES chooses another.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from trtkit.devices import NO_GPU, Gpu, gpus
from trtkit.errors import EnvironmentLack, WorkFailed

STICKY = frozenset({
    "cudaErrorAssert", "cudaErrorContained", "cudaErrorContextIsDestroyed", "cudaErrorECCUncorrectable",
    "cudaErrorExternalDevice", "cudaErrorHardwareStackError", "cudaErrorIllegalAddress",
    "cudaErrorIllegalInstruction", "cudaErrorInvalidAddressSpace", "cudaErrorInvalidPc",
    "cudaErrorLaunchFailure", "cudaErrorLaunchTimeout", "cudaErrorMisalignedAddress",
    "cudaErrorMpsClientTerminated", "cudaErrorNvlinkUncorrectable", "cudaErrorTensorMemoryLeak",
    "cudaErrorUnknown",
})  # fmt: skip
"""Errors that every later call of the process returns as well: only a new process can use the GPU again.

Source: CUDA Runtime API, cudaError_t ("the process must be terminated and relaunched"); cudaErrorUnknown is
what a GPU that has fallen off the bus gives.
"""

ABSENT = frozenset({
    "cudaErrorCompatNotSupportedOnDevice", "cudaErrorDevicesUnavailable", "cudaErrorInitializationError",
    "cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorStubLibrary",
    "cudaErrorSystemDriverMismatch",
})  # fmt: skip
"""Errors that mean that there is no GPU, or none that this process may use."""


class CudaError(WorkFailed):
    """A CUDA call failed. call: what was called; name, meaning: CUDA's own ("cudaErrorMemoryAllocation")."""

    def __init__(self, call: str, name: str, meaning: str, *facts: tuple[str, str]) -> None:
        super().__init__(f"{call} failed: {meaning}", ("cuda", name), *facts)
        self.call, self.name, self.meaning = call, name, meaning


class DeviceLost(CudaError):
    """The GPU, or this process's hold on it, is gone: nothing will run here any more."""

    def __init__(self, call: str, name: str, meaning: str) -> None:
        super().__init__(
            call, name, meaning, ("next", "restart the process; look at dmesg for the GPU's Xid")
        )


@dataclass(frozen=True)
class Memory:
    """Of the device, in bytes."""

    free: int
    total: int


def memory_info() -> Memory:
    """How much memory the device has, and how much of it nobody uses.

    Raises:
        EnvironmentLack: there is no GPU.
        CudaError: CUDA does not tell.
    """
    free, total = _call("cudaMemGetInfo")
    return Memory(free, total)


def current_gpu() -> Gpu:
    """The GPU that this process uses.

    Raises:
        EnvironmentLack: there is none.
        CudaError: CUDA does not tell.
    """
    properties = _call("cudaGetDeviceProperties", 0)
    uuid = gpu_uuid(bytes(properties.uuid.bytes))
    # NVML numbers GPUs its own way; where it does not know this one (a MIG slice), CUDA's word is enough.
    known = next((gpu for gpu in gpus() if gpu.uuid == uuid), None)
    return known or Gpu(
        index=0,
        uuid=uuid,
        name=properties.name.decode(errors="replace"),
        sm=f"{properties.major}{properties.minor}",
        memory=properties.totalGlobalMem,
        driver=f"CUDA {_call('cudaDriverGetVersion') / 1000:.2f}",
    )


def check_device() -> None:
    """Wait for all that this process has queued on the device, whoever queued it.

    Raises:
        DeviceLost: nothing runs there any more; every library of the process that uses the GPU has lost it.
        CudaError: something that was queued failed.
        EnvironmentLack: there is no GPU.
    """
    _call("cudaDeviceSynchronize")


def gpu_uuid(raw: bytes) -> str:
    """The 16 bytes of cudaDeviceProp.uuid as NVML writes them: "GPU-8f6c...-...-...-...-..."."""
    digits = raw.hex()
    return "GPU-" + "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class Stream:
    """A stream of its own, that does not wait for the default stream. handle: cudaStream_t as a number."""

    def __init__(self) -> None:
        self._stream = _call("cudaStreamCreateWithFlags", _runtime().cudaStreamNonBlocking)
        self.handle = int(self._stream)

    def upload(self, target: DeviceBuffer, source: HostBuffer, size: int) -> None:
        """Queue the copy of the first `size` bytes to the device."""
        kind = _runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        _call("cudaMemcpyAsync", target.address, source.address, size, kind, self._stream)

    def download(self, target: HostBuffer, source: DeviceBuffer, size: int) -> None:
        """Queue the copy of the first `size` bytes to the host."""
        kind = _runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call("cudaMemcpyAsync", target.address, source.address, size, kind, self._stream)

    def synchronise(self) -> None:
        """Wait until all that was queued is done.

        Raises:
            DeviceLost, CudaError: it failed; errors of what was queued show up here.
        """
        _call("cudaStreamSynchronize", self._stream)

    def close(self) -> None:
        _call("cudaStreamDestroy", self._stream)


class DeviceBuffer:
    """Memory of the device. size: bytes; at least 1, for TensorRT takes no null address, even of nothing."""

    def __init__(self, size: int) -> None:
        self.size = max(size, 1)
        self.address: int = _call("cudaMalloc", self.size)

    def close(self) -> None:
        _call("cudaFree", self.address)


class HostBuffer:
    """Page-locked memory of the host: only from such memory are copies asynchronous."""

    def __init__(self, size: int) -> None:
        self.size = max(size, 1)
        self.address: int = _call("cudaHostAlloc", self.size, _runtime().cudaHostAllocDefault)
        self._bytes = np.ctypeslib.as_array((ctypes.c_uint8 * self.size).from_address(self.address))

    def view(self, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """The first bytes as a tensor. It is not used after `close`."""
        kind: np.dtype[Any] = np.dtype(dtype)
        tensor: NDArray[Any] = self._bytes[: math.prod(shape) * kind.itemsize].view(kind)
        return tensor.reshape(shape)

    def close(self) -> None:
        _call("cudaFreeHost", self.address)


def _runtime() -> ModuleType:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EnvironmentLack(
            "CUDA's Python binding is not here",
            ("because", str(error)),
            ("next", "pip install 'trtkit[serve]' cuda-bindings, of your driver's CUDA major"),
        ) from error
    return runtime  # type: ignore[no-any-return]


def _call(name: str, *arguments: Any) -> Any:
    """What `name` returns beside its status: nothing, one value or a tuple."""
    runtime = _runtime()
    status, *values = getattr(runtime, name)(*arguments)
    if status != runtime.cudaError_t.cudaSuccess:
        _, meaning = runtime.cudaGetErrorString(status)
        raise cuda_error(name, status.name, meaning.decode())
    return values[0] if len(values) == 1 else tuple(values)


def cuda_error(call: str, name: str, meaning: str) -> CudaError | EnvironmentLack:
    """The error that says best what CUDA's error `name` is for its reader."""
    if name in ABSENT:
        because = ("because", f"{call}: {meaning} ({name})")
        if not (here := gpus()):
            next_step = ("next", "run this on the machine with the GPU (docker run --gpus all ...)")
            return EnvironmentLack(NO_GPU, because, next_step)
        return EnvironmentLack(
            "CUDA cannot use the GPU that is here",
            because,
            *(("gpu", f"{gpu.name}, driver {gpu.driver}") for gpu in here),
            (
                "next",
                "install the cuda-bindings of the CUDA major that this driver serves, or a newer driver",
            ),
        )
    return DeviceLost(call, name, meaning) if name in STICKY else CudaError(call, name, meaning)
