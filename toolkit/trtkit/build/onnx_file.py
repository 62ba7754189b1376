"""An ONNX file that can be read: whole, with all its weights, and with inputs and outputs we can name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from trtkit.errors import RequestError
from trtkit.onnx_graph import load_onnx, value_spec
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
    model = load_onnx(path)
    if not model.graph.node or not model.graph.output:
        raise RequestError(
            f"{path.name} holds no network",
            ("because", "it has no nodes or outputs"),
            ("next", "export it again: trtkit export"),
        )
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
    for value in inputs:
        if not value.type.tensor_type.HasField("shape"):
            raise RequestError(
                f"input {value.name!r} of {path.name} has no shape, not even a number of dimensions",
                ("next", "export it with a shape; dimensions may be dynamic"),
            )
    return OnnxFile(
        path,
        model,
        inputs=tuple(map(value_spec, inputs)),
        outputs=tuple(map(value_spec, model.graph.output)),
        dimensions={
            value.name: tuple(dim.dim_param for dim in value.type.tensor_type.shape.dim) for value in inputs
        },
    )
