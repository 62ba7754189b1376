"""An ONNX file, run by ONNX Runtime: on the CPU, or on the GPU through its CUDA provider."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from trtkit.cuda import check_device
from trtkit.errors import EnvironmentLack, RequestError, WorkFailed
from trtkit.runners import Tensors
from trtkit.tensors import Profile, TensorSpec

Provider = Literal["cpu", "cuda"]

PROVIDERS: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

TYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64",
    "tensor(bfloat16)": "bfloat16", "tensor(bool)": "bool", "tensor(string)": "object",
    "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
}  # fmt: skip
"""ONNX Runtime's names of types -> numpy's."""


class OnnxRuntimeRunner:
    """A `Runner` of an ONNX file.

    Args:
        onnx: the file, or its bytes.
        provider: "cpu" or "cuda".
        threads: of one run, None for ONNX Runtime's choice (one a core).
        optimise: whether the graph is optimised; not to see intermediate tensors as they are written.

    Raises:
        RequestError: the file cannot be read as a model.
        EnvironmentLack: this ONNX Runtime has no such provider.
    """

    def __init__(
        self,
        onnx: Path | bytes,
        *,
        provider: Provider = "cpu",
        threads: int | None = None,
        optimise: bool = True,
    ) -> None:
        import onnxruntime as ort

        if PROVIDERS[provider] not in ort.get_available_providers():
            raise EnvironmentLack(
                f"ONNX Runtime {ort.__version__} has no {PROVIDERS[provider]} here",
                ("has", ", ".join(ort.get_available_providers())),
                ("next", "pip install onnxruntime-gpu, or use the CPU"),
            )
        if provider == "cuda":
            ort.preload_dlls()  # CUDA's libraries lie in wheels, where the loader does not look
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        source = onnx if isinstance(onnx, bytes) else str(onnx)
        try:
            self._session = ort.InferenceSession(source, options, providers=[PROVIDERS[provider]])
        except Exception as error:  # its exception types are not public
            what = onnx.name if isinstance(onnx, Path) else "the model"
            raise RequestError(
                f"ONNX Runtime cannot load {what}",
                ("because", str(error).splitlines()[0]),
                ("next", "check the file: trtkit inspect FILE.onnx"),
            ) from error
        if PROVIDERS[provider] not in self._session.get_providers():
            # It falls back to the CPU and says so only in its log.
            raise EnvironmentLack(
                f"ONNX Runtime {ort.__version__} cannot start its {PROVIDERS[provider]} here",
                ("next", "see that there is a GPU, and CUDA and cuDNN of the version it was built for"),
            )
        self.name = f"ONNX Runtime {provider.upper()}"
        self._device = provider
        self.inputs = tuple(map(_spec, self._session.get_inputs()))
        self.outputs = tuple(map(_spec, self._session.get_outputs()))
        self.profile: Profile = {}
        self._names = [spec.name for spec in self.outputs]

    def run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        try:
            results = self._session.run(self._names, dict(feeds))
        except Exception as error:  # its exception types are not public
            if self._device == "cuda":
                with suppress(EnvironmentLack):  # the binding of CUDA may be absent
                    check_device()  # a lost GPU is told as that
            raise WorkFailed(
                "ONNX Runtime could not run the model", ("because", str(error).splitlines()[0])
            ) from error
        return dict(zip(self._names, results, strict=True))

    def resident(self, feeds: Tensors) -> Callable[[], None] | None:
        """A run that starts and ends on the device, waited for: no copies. None on a CPU."""
        if self._device == "cpu":
            return None
        import onnxruntime as ort

        binding = self._session.io_binding()
        for name, tensor in feeds.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(tensor, self._device))
        for name in self._names:
            binding.bind_output(name, self._device)

        def run() -> None:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run

    def close(self) -> None:
        del self._session


def _spec(argument: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in argument.shape)
    return TensorSpec(argument.name, TYPES.get(argument.type, argument.type), shape)
