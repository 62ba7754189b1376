"""A PyTorch model as it is served without TensorRT: eager or compiled, FP32 or FP16."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from trtkit.devices import NO_GPU
from trtkit.errors import EnvironmentLack, WorkFailed
from trtkit.runners import Tensors
from trtkit.tensors import Profile, TensorSpec

TorchMode = Literal["fp32", "fp16", "compile-fp32", "compile-fp16"]

TITLES: dict[TorchMode, str] = {
    "fp32": "PyTorch FP32",
    "fp16": "PyTorch FP16",
    "compile-fp32": "torch.compile FP32",
    "compile-fp16": "torch.compile FP16",
}


SHAPES = 64
"""So many shapes torch.compile makes a program for; its own limit of 8 ends in eager mode."""


class TorchRunner:
    """A `Runner` of a PyTorch model, on the GPU if there is one.

    Every mode takes and gives the model's own types; FP16 happens on the device. Settings are those that
    people who care for speed use: inference mode, channels-last FP16 and cuDNN's autotuning on a GPU,
    `torch.compile(mode="reduce-overhead")` (CUDA graphs) there and its default mode on a CPU. FP32 is as
    PyTorch has it, which is TF32 in convolutions from Ampere on.

    Args:
        source: a model as `trtkit export` takes it.
        mode: FP16 needs a GPU: no CPU is meant to run it.
        inputs: by the names that it was exported with; empty where the source brings its own.
        outputs: what it gives, in order, nested ones flattened; without them they are output_0, output_1, ...
        weights: a state dict for it. seed: of random weights. Both as `trtkit export` was given them.

    Raises:
        RequestError: there is no such model, or it does not take such inputs.
        EnvironmentLack: FP16 without a GPU; torch.compile without what it needs.
    """

    def __init__(
        self,
        source: str,
        mode: TorchMode = "fp32",
        *,
        inputs: tuple[TensorSpec, ...] = (),
        outputs: tuple[TensorSpec, ...] = (),
        weights: Path | None = None,
        seed: int = 0,
    ) -> None:
        import torch

        from trtkit.export.call import arrange
        from trtkit.export.options import ExportOptions
        from trtkit.export.sources import load

        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._half = mode.endswith("fp16")
        if self._half and self._device.type == "cpu":
            raise EnvironmentLack(NO_GPU)
        torch.manual_seed(seed)
        loaded = load(source, weights, str(self._device))
        self._call = arrange(loaded, ExportOptions.model_validate({"inputs": inputs}))
        self.name = TITLES[mode]
        self.inputs = tuple(_with_open_axes(spec, self._call.axes) for spec in self._call.examples)
        self.outputs = outputs
        self.profile: Profile = {}
        self._staging: dict[tuple[str, tuple[int, ...]], Any] = {}
        self._model = self._prepared(loaded.model, compiled=mode.startswith("compile"))

    def run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        results = list(_leaves(self._computed(self._upload(feeds))))
        names = [spec.name for spec in self.outputs] or [f"output_{n}" for n in range(len(results))]
        if len(names) != len(results):
            raise WorkFailed(
                f"the model gives {len(results)} outputs, not the {len(names)} that were told",
                ("told", ", ".join(names)),
            )
        # .cpu() waits for the device.
        return {name: self._widened(one).cpu().numpy() for name, one in zip(names, results, strict=True)}

    def resident(self, feeds: Tensors) -> Callable[[], None] | None:
        """A run that starts and ends on the device, waited for: no copies. None on a CPU."""
        if self._device.type == "cpu":
            return None
        there = self._upload(feeds)

        def run() -> None:
            self._computed(there)
            self._torch.cuda.synchronize(self._device)

        return run

    def close(self) -> None:
        del self._model
        self._staging.clear()

    def _prepared(self, module: Any, compiled: bool) -> Any:
        torch, gpu = self._torch, self._device.type == "cuda"
        if isinstance(module, torch.export.ExportedProgram):
            module = module.module().to(self._device)
        if self._half:
            module = module.half()
        if gpu:
            torch.backends.cudnn.benchmark = True
            if self._half:
                module = module.to(memory_format=torch.channels_last)
        if not compiled:
            return module
        if isinstance(module, torch.jit.ScriptModule):
            raise EnvironmentLack("torch.compile takes Python code, not TorchScript")
        _check_compilers(gpu)
        # A program for each shape, as TensorRT has it for the profile's opt; and never eager unseen.
        torch._dynamo.config.recompile_limit = SHAPES
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        return torch.compile(module, mode="reduce-overhead" if gpu else "default", dynamic=False)

    def _computed(self, there: Mapping[str, Any]) -> Any:
        positional = [there[name] for name in self._call.positional]
        keywords = {argument: there[name] for argument, name in self._call.keywords.items()}
        try:
            with self._torch.inference_mode():
                return self._model(*positional, **keywords)
        except Exception as error:  # whatever the model and the compiler raise
            raise WorkFailed(
                f"{self.name} could not run the model",
                ("because", f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"),
            ) from error

    def _upload(self, feeds: Tensors) -> dict[str, Any]:
        """The inputs on the device, in the type and layout that it computes in."""
        there = {}
        for name, feed in feeds.items():
            tensor = self._torch.from_numpy(feed)
            if self._device.type == "cuda":
                tensor = self._pinned(name, tensor).to(self._device, non_blocking=True)
            if self._half and tensor.is_floating_point():
                tensor = tensor.half()
                if tensor.dim() == 4:
                    tensor = tensor.contiguous(memory_format=self._torch.channels_last)
            there[name] = tensor
        return there

    def _pinned(self, name: str, tensor: Any) -> Any:
        """A copy in page-locked memory, from where the GPU fetches it by itself; made once per shape."""
        key = (name, tuple(tensor.shape))
        if key not in self._staging:
            self._staging[key] = self._torch.empty_like(tensor, pin_memory=True)
        return self._staging[key].copy_(tensor)

    def _widened(self, output: Any) -> Any:
        return output.float() if self._half and output.is_floating_point() else output


def _with_open_axes(spec: TensorSpec, axes: Mapping[str, Mapping[int, str]]) -> TensorSpec:
    dynamic = axes.get(spec.name, {})
    shape = tuple(-1 if axis in dynamic else size for axis, size in enumerate(spec.shape))
    return replace(spec, shape=shape)


def _leaves(result: Any) -> Iterator[Any]:
    """The tensors of a model's result, as torch.onnx numbers them: depth first, mappings by insertion."""
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, list | tuple):
        for one in result:
            yield from _leaves(one)
    elif result is not None:
        yield result


def _check_compilers(gpu: bool) -> None:
    """torch.compile writes C++ for a CPU; for a GPU, Triton links its kernels by a C module of Python's."""
    language, variable, known = ("C", "CC", ("gcc", "clang")) if gpu else ("C++", "CXX", ("g++",))
    wanted = [os.environ[variable]] if os.environ.get(variable) else list(known)
    if not any(shutil.which(compiler) for compiler in wanted):
        raise EnvironmentLack(f"torch.compile needs a {language} compiler: {' or '.join(wanted)} is not here")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        raise EnvironmentLack("torch.compile needs Python's headers: Python.h is not here")
    # torch.utils.cpp_extension imports it for C++; but PyTorch requires it from Python 3.12 on only.
    if not gpu and not importlib.util.find_spec("setuptools"):
        raise EnvironmentLack("torch.compile needs setuptools, which is not installed here")
