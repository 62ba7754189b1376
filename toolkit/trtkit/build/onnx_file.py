"""An ONNX file that can be read: whole, with all its weights, and with inputs and outputs we can name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from trtkit.errors import RequestError
from trtkit.tensors import TensorSpec


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file in memory.

    dimensions: of every input, what the file calls each dimension ("batch"; "" where it has a size or none).
    """

    path: Path
    model: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dimensions: dict[str, tuple[str, ...]]


def read_onnx(path: Path) -> OnnxFile:
    """Read `path` and the weights that it keeps in other files.

    Raises:
        RequestError: there is no such file, it is not an ONNX model, or weights of it are missing.
    """
    if not path.is_file():
        raise RequestError(f"there is no ONNX file {path}", ("next", "name one, or make one: trtkit export"))
    again = ("next", "export it again (trtkit export), or copy the whole file")
    try:
        model = onnx.load(str(path), "protobuf", load_external_data=False)
    except DecodeError as error:
        raise RequestError(
            f"{path.name} is not an ONNX file, or a damaged one", ("because", str(error)), again
        ) from error
    if not model.graph.node or not model.graph.output:
        raise RequestError(f"{path.name} holds no network", ("because", "it has no nodes or outputs"), again)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise RequestError(
            f"weights that {path.name} keeps in other files cannot be read",
            ("because", str(error).splitlines()[0]),
            ("next", "put the file it was exported with beside it, under the same name"),
        ) from error
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    return OnnxFile(
        path,
        model,
        inputs=_specs(inputs, path),
        outputs=_specs(model.graph.output, None),
        dimensions={
            value.name: tuple(dim.dim_param for dim in value.type.tensor_type.shape.dim) for value in inputs
        },
    )


def _specs(values: Iterable[Any], ranked: Path | None) -> tuple[TensorSpec, ...]:
    """`ranked`: the file whose values must have a shape."""
    specs = []
    for value in values:
        tensor = value.type.tensor_type
        if ranked and not tensor.HasField("shape"):
            raise RequestError(
                f"input {value.name!r} of {ranked.name} has no shape, not even a number of dimensions",
                ("next", "export it with a shape; dimensions may be dynamic"),
            )
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
        specs.append(TensorSpec(value.name, _dtype(tensor.elem_type), shape))
    return tuple(specs)


def _dtype(element: int) -> str:
    """numpy's (or ml_dtypes') name of an ONNX type."""
    if element == onnx.TensorProto.UNDEFINED:
        return "float32"  # a sequence or an unknown: TensorRT says what is wrong with it
    return str(onnx.helper.tensor_dtype_to_np_dtype(element).name)
