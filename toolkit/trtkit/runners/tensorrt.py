"""An engine, run by TensorRT or TensorRT-RTX on the GPU.

Written for TensorRT 10.x, 11.x and RTX: named tensors and `execute_async_v3`. Sources: the Python API
references of TensorRT (IExecutionContext, ICudaEngine, IOutputAllocator) and TensorRT-RTX (IRuntimeConfig).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trtkit.cuda import DeviceBuffer, HostBuffer, Stream
from trtkit.errors import RequestError, TrtkitError, WorkFailed
from trtkit.flavour import TITLES
from trtkit.runners import Tensors
from trtkit.runners.engine import LoadedEngine
from trtkit.tensors import Profile, Shape, ShapeRange, TensorSpec
from trtkit.trt_api import DTYPES

NO_ARRAY = {"FP8", "INT4", "FP4"}
"""Members of trt.DataType that no array of numpy's holds as TensorRT has them in memory."""


class TensorRTRunner:
    """A `Runner` of an engine: one execution context with a stream, pinned and device buffers of its own.

    The buffers are as large as the profile's maximum needs, and stay where they are.

    Args:
        engine: the file, loaded for this runner alone, or a loaded one that several runners share.
        profile_index: the optimisation profile.

    Raises:
        RequestError: what LoadedEngine says, or the engine has a tensor that cannot be fed or read from here.
        EnvironmentLack: there is no GPU or no TensorRT.
        WorkFailed: TensorRT refuses the engine, or the GPU's memory does not suffice.
    """

    def __init__(self, engine: Path | LoadedEngine, *, profile_index: int = 0) -> None:
        self._loaded = engine if isinstance(engine, LoadedEngine) else LoadedEngine(engine)
        self._owns = self._loaded is not engine
        self._kept: list[Stream | HostBuffer | DeviceBuffer] = []
        self._context: Any = None
        try:
            self._prepare(profile_index)
        except BaseException:
            self.close()
            raise

    def _prepare(self, profile_index: int) -> None:
        trt, engine = self._loaded.tensorrt.module, self._loaded.engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        fed = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.inputs = tuple(tensor_spec(trt, engine, name) for name in fed)
        self.outputs = tuple(tensor_spec(trt, engine, name) for name in names if name not in fed)
        self.profile = profile_of(engine, self.inputs, profile_index)
        self.name = f"{TITLES[self._loaded.tensorrt.flavour]} {self._loaded.sidecar.precision.upper()}"

        self._stream = Stream()
        self._kept.append(self._stream)
        self._context = self._loaded.new_context()
        self._must(self._context.set_optimization_profile_async(profile_index, self._stream.handle))
        self._stream.synchronise()
        for spec in self.inputs:
            largest = self.profile[spec.name].max if spec.name in self.profile else spec.shape
            self._must(self._context.set_input_shape(spec.name, largest))
        self._infer_shapes()
        self._buffers = {spec.name: self._buffer(spec) for spec in (*self.inputs, *self.outputs)}
        # Shapes that only the computation tells (NonZero, NMS) are told to an allocator.
        self._told: dict[str, Shape] = {}
        late = [spec.name for spec in self.outputs if -1 in self._shape(spec.name)]
        self._allocator = _allocator(trt, {name: self._buffers[name][1] for name in late}, self._told)
        for name in late:
            self._must(self._context.set_output_allocator(name, self._allocator))

    def _buffer(self, spec: TensorSpec) -> tuple[HostBuffer, DeviceBuffer]:
        """Room for the largest `spec`, and the context knows where it is."""
        shape = self._shape(spec.name)
        size = math.prod(shape) * np.dtype(spec.dtype).itemsize if -1 not in shape else -1
        if spec in self.outputs:
            # The largest inputs need not give the largest output.
            size = max(size, self._context.get_max_output_size(spec.name))
        if size < 0:
            raise RequestError(
                f"nothing bounds the size of the output {spec}",
                ("next", "give the network outputs whose size is bounded: a top-k, or padding"),
            )
        self._kept.append(host := HostBuffer(size))
        self._kept.append(device := DeviceBuffer(size))
        self._must(self._context.set_tensor_address(spec.name, device.address))
        return host, device

    def run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        """As `Runner.run`; DeviceLost says that nothing will run here any more."""
        self._upload(feeds)
        self._must(self._context.execute_async_v3(self._stream.handle))
        if self._allocator:
            self._stream.synchronise()
        results = {}
        for spec in self.outputs:
            host, device = self._buffers[spec.name]
            shape = self._told[spec.name] if spec.name in self._told else self._shape(spec.name)
            results[spec.name] = host.view(spec.dtype, shape)
            self._stream.download(host, device, results[spec.name].nbytes)
        self._stream.synchronise()
        return {name: pinned.copy() for name, pinned in results.items()}

    def resident(self, feeds: Tensors) -> Callable[[], None]:
        """A run that starts and ends on the device, waited for; the runner runs nothing else meanwhile."""
        self._upload(feeds)
        self._stream.synchronise()

        def run() -> None:
            self._must(self._context.execute_async_v3(self._stream.handle))
            self._stream.synchronise()

        return run

    def close(self) -> None:
        """Free the context and its buffers, and the engine if it was loaded for this runner alone."""
        self._context = None
        while self._kept:
            with suppress(TrtkitError):  # with a lost GPU all of it has gone already
                self._kept.pop().close()
        if self._owns:
            self._loaded.close()

    def _upload(self, feeds: Tensors) -> None:
        for spec in self.inputs:
            array, (host, device) = feeds[spec.name], self._buffers[spec.name]
            host.view(spec.dtype, array.shape)[...] = array
            self._stream.upload(device, host, array.nbytes)
            self._must(self._context.set_input_shape(spec.name, array.shape))
        self._infer_shapes()

    def _shape(self, name: str) -> Shape:
        return tuple(self._context.get_tensor_shape(name))

    def _infer_shapes(self) -> None:
        if missing := self._context.infer_shapes():
            raise WorkFailed("TensorRT cannot tell the shapes", ("missing", ", ".join(missing)))

    def _must(self, done: bool) -> None:
        if not done:
            self._stream.synchronise()  # if the GPU is lost, this says so
            raise WorkFailed("TensorRT could not run the engine", *self._loaded.reasons())


def tensor_spec(trt: ModuleType, engine: Any, name: str) -> TensorSpec:
    """The tensor `name` of `engine`.

    Raises:
        RequestError: its type is not one of numpy's, its memory layout is not linear, or it lies on the host
            (an input that is a shape).
    """
    kind = engine.get_tensor_dtype(name).name
    spec = TensorSpec(name, DTYPES.get(kind, kind), tuple(engine.get_tensor_shape(name)))
    if kind not in DTYPES or kind in NO_ARRAY:
        wrong = f"its type is {kind}"
    elif engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
        wrong = "its values are shapes, which TensorRT reads on the host"
    elif layout := _other_layout(trt, engine, name):
        wrong = f"its layout is {layout}, not linear"
    else:
        if kind == "BF16":
            import ml_dtypes  # noqa: F401  numpy knows the name "bfloat16" from here on
        return spec
    raise RequestError(
        f"the tensor {spec} of this engine can be neither fed nor read here",
        ("because", wrong),
        ("next", "export the network with plain inputs and outputs: float32, float16, bfloat16, bool or int"),
    )


def _other_layout(trt: ModuleType, engine: Any, name: str) -> str:
    """What the memory layout of the tensor is called; "" where it is linear.

    The lean runtime has no trt.TensorFormat, so there the description tells ("Row major linear FP32 format";
    NvInferRuntime.h, ICudaEngine::getTensorFormatDesc).
    """
    if not hasattr(trt, "TensorFormat"):
        told = str(engine.get_tensor_format_desc(name))
        return "" if "linear" in told.lower() else told
    layout = engine.get_tensor_format(name)
    return "" if layout == trt.TensorFormat.LINEAR else str(layout.name)


def profile_of(engine: Any, inputs: tuple[TensorSpec, ...], index: int) -> Profile:
    """The optimisation profile `index`: the range of every dynamic input."""
    if not 0 <= index < engine.num_optimization_profiles:
        raise RequestError(
            f"the engine has no optimisation profile {index}",
            ("has", f"{engine.num_optimization_profiles}, counted from 0"),
            ("next", "take one of those, or build the engine with more"),
        )
    ranges = {spec.name: engine.get_tensor_profile_shape(spec.name, index) for spec in inputs if spec.dynamic}
    return {name: ShapeRange(*(tuple(shape) for shape in shapes)) for name, shapes in ranges.items()}


def _allocator(trt: ModuleType, buffers: dict[str, DeviceBuffer], told: dict[str, Shape]) -> Any:
    """A trt.IOutputAllocator that hands out `buffers` and notes the shapes it is told; None for none.

    It has to live as long as the context that uses it.
    """
    if not buffers:
        return None

    class Allocator(trt.IOutputAllocator):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)

        def reallocate_output(self, name: str, _memory: int, size: int, _alignment: int) -> int:
            return buffers[name].address if size <= buffers[name].size else 0

        def reallocate_output_async(self, name: str, _m: int, size: int, _a: int, _stream: int) -> int:
            return self.reallocate_output(name, _m, size, _a)

        def notify_shape(self, name: str, shape: Any) -> None:
            told[name] = tuple(shape)

    return Allocator()
