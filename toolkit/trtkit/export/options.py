"""What an export is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from trtkit.errors import RequestError
from trtkit.tensors import Shape, TensorSpec, parse_shapes

Exporter = Literal["dynamo", "torchscript"]
Device = Literal["auto", "cpu", "cuda"]

OPSET = 18
"""What PyTorch's exporter writes without converting: older ones it reaches through a converter that often
fails, newer ones bring nothing that TensorRT is faster with. Source: TORCHLIB_OPSET in PyTorch's
torch/onnx/_internal/exporter/_constants.py; TensorRT's parser takes 9 and newer."""

DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
"""Types an input may have: those that numpy, PyTorch and ONNX Runtime share."""


def parse_input(text: str) -> TensorSpec:
    """An example input: "input:1x3x224x224", or with its type "tokens:1x16:int64".

    Raises:
        RequestError: the text is not of that form, or the type is unknown.
    """
    start, _, last = text.rpartition(":")
    spelt, dtype = (start, last) if ":" in start and not re.match(r"\d|scalar$", last) else (text, "float32")
    if dtype not in DTYPES:
        raise RequestError(
            f"{dtype!r} is not a type that an input can have", ("asked", text), ("next", ", ".join(DTYPES))
        )
    shapes = parse_shapes([spelt])
    if len(shapes) != 1:
        raise RequestError(f"{text!r} is not one input", ("next", "write input:1x3x224x224"))
    ((name, shape),) = shapes.items()
    return TensorSpec(name, dtype, shape)


def parse_dynamic(texts: Iterable[str]) -> dict[str, dict[int, str]]:
    """Dynamic dimensions by input: ["input:0=batch,2=height"] -> {"input": {0: "batch", 2: "height"}}.

    Raises:
        RequestError: a text is not of that form, or names an input or a dimension twice.
    """
    dynamic: dict[str, dict[int, str]] = {}
    for text in texts:
        name, _, axes = text.rpartition(":")
        pairs = [re.fullmatch(r"\s*(\d+)=([A-Za-z_]\w*)\s*", axis) for axis in axes.split(",")]
        if not name or not all(pairs):
            raise RequestError(
                f"{text!r} does not name dynamic dimensions", ("next", "write input:0=batch,2=height")
            )
        found = [(int(pair[1]), pair[2]) for pair in pairs if pair]
        if name in dynamic or len(dict(found)) < len(found):
            raise RequestError(f"{text!r} names an input or a dimension twice", ("next", "name it once"))
        dynamic[name] = dict(found)
    return dynamic


def _inputs(value: Any) -> Any:
    return [parse_input(one) if isinstance(one, str) else one for one in value]


def _dynamic(value: Any) -> Any:
    return parse_dynamic(value) if isinstance(value, (list, tuple)) else value


def _compare(value: Any) -> Any:
    return [parse_shapes([one]) if isinstance(one, str) else one for one in value]


class ExportOptions(BaseModel):
    """What an export is asked for; every default is the usual case.

    inputs: example inputs by name, in the order of the model's arguments, or as its arguments are called;
        empty where the source brings its own. Text in `parse_input`'s form will do.
    dynamic: names of dynamic dimensions by input and axis, or text in `parse_dynamic`'s form. None: dimension
        0 of every input, called "batch". Empty: every dimension is fixed.
    batches: sizes of the dynamic dimension 0 at which the ONNX file is compared with PyTorch.
    compare: further shapes to compare at, each for some or all of the inputs: {"tokens": (2, 32)}.
    output_names: in the model's order; empty: what the model calls them, else "output" or "output_0", ...
    weights: a state dict, read with torch.load(weights_only=True).
    translations: "module:name" or "file.py:name" of a dict, PyTorch operator -> onnxscript function, for
        operators that the exporter does not know.
    tolerance: the largest difference of an output, over its largest magnitude; None: what two FP32 (for FP16
        outputs: FP16) implementations may differ by (`trtkit.verify.tolerance`).
    seed: of random weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: Annotated[tuple[TensorSpec, ...], BeforeValidator(_inputs)] = ()
    dynamic: Annotated[Mapping[str, Mapping[int, str]] | None, BeforeValidator(_dynamic)] = None
    batches: tuple[Annotated[int, Field(ge=1)], ...] = (1, 4, 8)
    compare: Annotated[tuple[dict[str, Shape], ...], BeforeValidator(_compare)] = ()
    output_names: tuple[str, ...] = ()
    opset: Annotated[int, Field(ge=7)] = OPSET
    exporter: Exporter | None = None
    """None: "torchscript" for a TorchScript file, which is all it can be; otherwise "dynamo"."""
    weights: Path | None = None
    translations: str | None = None
    device: Device = "auto"
    tolerance: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: int = 0
