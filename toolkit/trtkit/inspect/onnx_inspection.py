"""What is in an ONNX file: `inspect_onnx`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from pydantic import BaseModel, ConfigDict

from trtkit.build.onnx_file import read_onnx
from trtkit.errors import RequestError
from trtkit.inspect.layer import Layer, counts
from trtkit.inspect.onnx_layers import Specs, fused_layers, onnx_layers, optimised
from trtkit.onnx_graph import spec_bytes, tensor_specs, weight_bytes
from trtkit.tensors import Shape, TensorSpec, shape_text


class OnnxInspection(BaseModel):
    """What is in an ONNX file.

    opsets: by domain ("" is ONNX's own). operators: how many of each. parameters: elements of all weights;
        weights: their bytes. shapes: the inputs' that activations were estimated for.
    activations: bytes of all tensors between layers; peak: the most that are needed at one time, if each is
        freed after its last use. Both None where a shape is not known.
    layers: as they are in the file. optimised: as ONNX Runtime fuses them; None where it cannot load the
        model, and then `why` says so.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    ir_version: int
    opsets: dict[str, int]
    producer: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    parameters: int
    weights: int
    shapes: dict[str, Shape]
    activations: int | None
    peak: int | None
    layers: tuple[Layer, ...]
    optimised: tuple[Layer, ...] | None
    why: str = ""


def inspect_onnx(path: Path, *, batch: int = 1, shapes: Mapping[str, Shape] | None = None) -> OnnxInspection:
    """Look into the ONNX file `path`.

    Args:
        batch: what a dynamic first dimension is taken for. shapes: of inputs, in place of that.

    Raises:
        RequestError: it cannot be read, or a shape does not fit an input.
    """
    file = read_onnx(path)
    model = file.model
    fed = _fed_shapes(file.inputs, batch, shapes or {})
    specs = tensor_specs(model, fed)
    before = onnx_layers(model, specs)
    after, why = None, ""
    try:
        after = fused_layers(model, optimised(path), specs)
    except RuntimeError as error:
        why = f"ONNX Runtime cannot load it: {error}"
    total, peak = _activations(model, before, specs)
    return OnnxInspection(
        file=path.name,
        ir_version=model.ir_version,
        opsets={one.domain or "ai.onnx": one.version for one in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=file.inputs,
        outputs=file.outputs,
        operators=counts([layer.type for layer in before]),
        parameters=sum(math.prod(one.dims) for one in model.graph.initializer),
        weights=sum(map(weight_bytes, model.graph.initializer)),
        shapes=fed,
        activations=total,
        peak=peak,
        layers=before,
        optimised=after,
        why=why,
    )


def _fed_shapes(inputs: Sequence[TensorSpec], batch: int, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Of every input; a dynamic dimension that nobody tells stays -1, and that input is left out."""
    known = {spec.name: spec for spec in inputs}
    for name, shape in shapes.items():
        if name not in known or not known[name].admits(shape):
            raise RequestError(
                f"{name}:{shape_text(shape)} fits no input",
                *(("input", str(spec)) for spec in inputs),
                ("next", "give each dimension that is dynamic a size"),
            )
    fed = {
        spec.name: shapes.get(spec.name)
        or tuple(batch if size < 0 and axis == 0 else size for axis, size in enumerate(spec.shape))
        for spec in inputs
    }
    return {name: shape for name, shape in fed.items() if -1 not in shape}


def _activations(
    model: onnx.ModelProto, layers: Sequence[Layer], specs: Specs
) -> tuple[int | None, int | None]:
    """Bytes of all tensors, and of those alive at one time, in the order of `layers`."""
    last_use = {tensor.name: index for index, layer in enumerate(layers) for tensor in layer.inputs}
    last_use.update({one.name: len(layers) for one in model.graph.output})
    sizes: dict[str, int] = {}
    for name in {tensor.name for layer in layers for tensor in (*layer.inputs, *layer.outputs)}:
        size = spec_bytes(specs.get(name))
        if size is None:
            return None, None
        sizes[name] = size
    alive = sum(sizes.get(one.name, 0) for one in model.graph.input)
    peak = alive
    for index, layer in enumerate(layers):
        alive += sum(sizes[tensor.name] for tensor in layer.outputs)
        peak = max(peak, alive)
        done = {one.name for one in (*layer.inputs, *layer.outputs) if last_use.get(one.name, index) == index}
        alive -= sum(sizes[name] for name in done)
    return sum(sizes.values()), peak
