"""The model run by PyTorch itself: what the ONNX file has to equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trtkit.errors import RequestError, WorkFailed
from trtkit.export.call import Call, Feeds
from trtkit.tensors import Shape, shape_text


class Reference:
    """A loaded model that takes and gives named arrays.

    Args:
        model: as `trtkit.export.sources.Loaded` has it.
        device: where its weights are.
        output_names: for the outputs in the model's order; empty for what the model calls them.
    """

    def __init__(self, model: Any, call: Call, device: str, output_names: tuple[str, ...]) -> None:
        self._run = model.module() if isinstance(model, torch.export.ExportedProgram) else model
        self._call = call
        self._device = device
        self._names = output_names

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """The outputs, by name.

        Raises:
            RequestError: PyTorch refuses these inputs, or an output is no tensor that ONNX can hold.
            WorkFailed: an output holds NaN.
        """
        args, kwargs = self._call.arguments(feeds, self._device)
        try:
            # Full FP32, also in convolutions on a GPU, where TF32 is the default: the other side has no TF32.
            with (
                torch.no_grad(),
                torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            ):
                result = self._run(*args, **kwargs)
        except (
            Exception
        ) as error:  # RuntimeError, TypeError, IndexError, AssertionError, ...: the model's code
            raise RequestError(
                f"PyTorch cannot run the model on {shapes_text({n: f.shape for n, f in feeds.items()})}",
                ("because", f"{type(error).__name__}: {_telling_line(error)}"),
                ("next", "give inputs that it takes: --input NAME:1x3x224x224, with :int64 for other types"),
                *([("or", "--device cpu, if it insists on the CPU")] if self._device != "cpu" else []),
            ) from error
        outputs = dict(self._named(list(_leaves(result))))
        for name, output in outputs.items():
            if np.issubdtype(output.dtype, np.floating) and np.isnan(output).any():
                raise WorkFailed(
                    f"PyTorch's own output {name!r} holds NaN",
                    ("at", shapes_text({n: f.shape for n, f in feeds.items()})),
                    ("next", "check the weights, and whether the model takes values like these"),
                )
        return outputs

    def _named(self, leaves: list[tuple[str, Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
        if self._names and len(self._names) != len(leaves):
            raise RequestError(
                f"the model has {len(leaves)} outputs, not {len(self._names)}",
                ("outputs", ", ".join(name for name, _ in leaves)),
                ("next", "give one --output-name for each, in this order"),
            )
        for (own, leaf), name in zip(leaves, self._names or [name for name, _ in leaves], strict=True):
            if not isinstance(leaf, torch.Tensor):
                raise RequestError(
                    f"the model's output {own!r} is a {type(leaf).__name__}, not a tensor",
                    ("next", "wrap the model in an nn.Module that returns tensors only"),
                )
            if leaf.is_complex() or leaf.dtype == torch.bfloat16:
                raise RequestError(
                    f"the model's output {own!r} is {str(leaf.dtype).removeprefix('torch.')},"
                    " which cannot be compared",
                    ("next", "return float32; `trtkit build --precision` lowers the precision"),
                )
            yield name, leaf.detach().cpu().numpy()


def shapes_text(shapes: Mapping[str, Shape]) -> str:
    """ "input 4x3x224x224, mask 4x7"."""
    return ", ".join(f"{name} {shape_text(shape)}" for name, shape in shapes.items())


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors in what a model returned, and what they are called: as keys and fields are, or output_0."""
    if value is None:
        return
    if isinstance(value, Mapping):
        parts = list(value.items())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, (tuple, list)):
        parts = list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    else:
        yield path or "output", value
        return
    for key, part in parts:
        start = path or ("output" if isinstance(key, int) else "")
        yield from _leaves(part, f"{start}_{key}" if start else str(key))


def _telling_line(error: Exception) -> str:
    """TorchScript puts its trace first and what is wrong last; everything else starts with that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return "no message"
    return lines[-1] if "TorchScript interpreter" in str(error) else lines[0]
