"""CUDA and TensorRT, stood in for on a machine without a GPU: as much of them as a runner uses.

Device memory is the host's, and nothing that is queued on a stream happens before the stream is waited for:
whoever reads too early reads zeros. The engine computes, for `x` of rows x 3 up to 4 rows,
`twice` = 2 x and `positive`, the values above 0, whose number only the computation tells.
"""

# ruff: noqa: N802, N815  the names are those of CUDA and TensorRT

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import Enum, IntEnum
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 4

Status = Enum("Status", ["cudaSuccess", "cudaErrorMemoryAllocation", "cudaErrorIllegalAddress"])


class Cuda(ModuleType):
    """cuda.bindings.runtime. alive: addresses and streams that were not freed. lost: the GPU is gone."""

    cudaError_t = Status
    cudaStreamNonBlocking, cudaHostAllocDefault = 1, 0
    cudaMemcpyKind = Enum("cudaMemcpyKind", ["cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"])

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.alive: dict[int, Any] = {}
        self.queued: list[Callable[[], object]] = []
        self.lost = False

    def cudaGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return Status.cudaSuccess, status.name.encode()

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, int]:
        assert flags == 1
        stream = len(self.alive) + 1
        self.alive[stream] = "stream"
        return Status.cudaSuccess, stream

    def cudaStreamSynchronize(self, stream: int) -> tuple[Status]:
        assert self.alive[stream] == "stream"
        if self.lost:
            return (Status.cudaErrorIllegalAddress,)
        while self.queued:
            self.queued.pop(0)()
        return (Status.cudaSuccess,)

    def cudaMalloc(self, size: int) -> tuple[Status, int]:
        memory = (ctypes.c_uint8 * size)()
        self.alive[ctypes.addressof(memory)] = memory
        return Status.cudaSuccess, ctypes.addressof(memory)

    def cudaHostAlloc(self, size: int, _flags: int) -> tuple[Status, int]:
        return self.cudaMalloc(size)

    def cudaMemcpyAsync(self, to: int, of: int, size: int, _: object, stream: int) -> tuple[Status]:
        assert self.alive[stream] == "stream"
        assert size <= min(len(self.alive[to]), len(self.alive[of]))
        self.queued.append(lambda: ctypes.memmove(to, of, size))
        return (Status.cudaSuccess,)

    def _free(self, handle: int) -> tuple[Status]:
        del self.alive[handle]
        return (Status.cudaErrorIllegalAddress if self.lost else Status.cudaSuccess,)

    cudaFree = cudaFreeHost = cudaStreamDestroy = _free

    def array(self, address: int, dtype: str, *shape: int) -> NDArray[Any]:
        """The memory at `address`, which has room for this."""
        assert prod(shape) * np.dtype(dtype).itemsize <= len(self.alive[address])
        return np.frombuffer(self.alive[address], dtype, prod(shape)).reshape(shape)


LAYOUTS = Enum("LAYOUTS", ["LINEAR", "CHW2"])


class TensorRT(ModuleType):
    """tensorrt, over that CUDA. failing: what it says while the next executions fail."""

    __version__ = "10.13.3.9"
    TensorIOMode = Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
    TensorLocation = Enum("TensorLocation", ["DEVICE", "HOST"])
    TensorFormat = LAYOUTS
    DataType = IntEnum("DataType", ["FLOAT", "FP8"])
    ILogger = type("ILogger", (), {"__init__": lambda _: None})
    IOutputAllocator = type("IOutputAllocator", (), {"__init__": lambda _: None})
    Severity = Enum("Severity", ["ERROR", "INFO"])

    def __init__(self, cuda: Cuda) -> None:
        super().__init__("tensorrt")
        self.cuda, self.failing, self.contexts = cuda, "", 0
        self.plugins = False

    def init_libnvinfer_plugins(self, _logger: object, namespace: str) -> bool:
        assert namespace == ""
        self.plugins = True
        return True

    def Runtime(self, logger: Any) -> Any:
        return Runtime(self, logger)


class Runtime:
    def __init__(self, trt: TensorRT, logger: Any) -> None:
        self._trt, self._logger = trt, logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        if content != b"an engine":
            self._logger.log(TensorRT.Severity.INFO, "hello")
            self._logger.log(TensorRT.Severity.ERROR, "the magic tag does not match")
            return None
        return Engine(self._trt, self._logger)


class Engine:
    """The trt.ICudaEngine. kind, location, layout: of its input. described: its layout in words, which the
    lean runtime has alone."""

    described = "Row major linear FP32 format"
    num_io_tensors, num_optimization_profiles = 3, 1

    def __init__(self, trt: TensorRT, logger: Any) -> None:
        self.shapes = {"x": (-1, 3), "twice": (-1, 3), "positive": (-1,)}
        self.trt, self.logger = trt, logger
        self.kind = trt.DataType.FLOAT
        self.location, self.layout = trt.TensorLocation.DEVICE, LAYOUTS.LINEAR

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name == "x" else self.trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, _: str) -> Any:
        return self.kind

    def get_tensor_location(self, _: str) -> Any:
        return self.location

    def get_tensor_format(self, _: str) -> Any:
        return self.layout

    def get_tensor_format_desc(self, _: str) -> str:
        return self.described

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert (name, index) == ("x", 0)
        return [(1, 3), (2, 3), (ROWS, 3)]

    def create_execution_context(self) -> Context:
        self.trt.contexts += 1
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._cuda = engine, engine.trt.cuda
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}
        self._allocator: Any = None

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        return index == 0 and self._cuda.alive[stream] == "stream"

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "x"
        self._shape = shape
        return 1 <= shape[0] <= ROWS

    def infer_shapes(self) -> list[str]:
        return [] if self._shape else ["x"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shape if name in ("x", "twice") else (-1,)

    def get_max_output_size(self, name: str) -> int:
        return -1 if name == "x" else ROWS * 3 * 4

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return address in self._cuda.alive

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        self._allocator = allocator
        return name == "positive"

    def execute_async_v3(self, stream: int) -> bool:
        if self._engine.trt.failing:
            self._engine.logger.log(TensorRT.Severity.ERROR, self._engine.trt.failing)
            return False
        assert self._cuda.alive[stream] == "stream"
        self._cuda.queued.append(self._compute)
        return True

    def _compute(self) -> None:
        values = self._cuda.array(self._addresses["x"], "float32", *self._shape)
        self._cuda.array(self._addresses["twice"], "float32", *self._shape)[...] = 2 * values
        positive = values[values > 0]
        there = self._allocator.reallocate_output_async("positive", 0, positive.nbytes, 256, 7)
        self._cuda.array(there, "float32", positive.size)[...] = positive
        self._allocator.notify_shape("positive", (positive.size,))
