"""An ONNX file with intermediate tensors as outputs, run by ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from trtkit.onnx_graph import outputs_of, spec_bytes, tensor_specs
from trtkit.precision import element_types
from trtkit.runners import Tensors
from trtkit.runners.onnxruntime import OnnxRuntimeRunner
from trtkit.tensors import Shape

_ONE_MESSAGE = 2**31 - 1
"""A protobuf message's most bytes; a larger model keeps its weights beside it."""


def runs_in_half(model: onnx.ModelProto) -> bool:
    """Whether it computes in FP16 somewhere."""
    return onnx.TensorProto.FLOAT16 in element_types(model)


def with_barriers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with two Identity nodes behind every node, and so every FP16 tensor rounded to FP16.

    ONNX Runtime's CPU has FP16 kernels for few operators. The others it computes in FP32, and leaves out the
    two conversions between two such nodes: what overflows on a GPU does not there. Identity is one of the
    few; a single one between two such nodes is taken for FP32 as well, the second of two is not (seen with
    ONNX Runtime 1.32, optimisation off).
    """
    guarded = onnx.ModelProto()
    guarded.CopyFrom(model)
    del guarded.graph.node[:]
    for node in model.graph.node:
        computing = guarded.graph.node.add()
        computing.CopyFrom(node)
        for index, name in enumerate(node.output):
            if name:
                computing.output[index] = f"{name}:computed"
                guarded.graph.node.add(
                    op_type="Identity", input=[f"{name}:computed"], output=[f"{name}:rounded"]
                )
                guarded.graph.node.add(op_type="Identity", input=[f"{name}:rounded"], output=[name])
    return guarded


def marked_runner(model: onnx.ModelProto, names: Sequence[str] = ()) -> OnnxRuntimeRunner:
    """Runs `model` as it is written, nothing optimised.

    Args:
        names: the tensors to give out, in place of the model's outputs; none for those.
    """
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    if names:
        del marked.graph.output[:]
        # Without a type: ONNX Runtime infers it, as it must for all tensors.
        marked.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    if _size(marked) < _ONE_MESSAGE:
        return OnnxRuntimeRunner(marked.SerializeToString(), optimise=False)
    with tempfile.TemporaryDirectory(prefix="trtkit-verify-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save_model(marked, str(path), save_as_external_data=True)
        return OnnxRuntimeRunner(path, optimise=False)


def tensors_of(model: onnx.ModelProto, feeds: Tensors, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The values of these tensors of `model` for `feeds`."""
    runner = marked_runner(model, names)
    try:
        return runner.run({spec.name: feeds[spec.name].astype(spec.dtype) for spec in runner.inputs})
    finally:
        runner.close()


def tensor_bytes(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """The size of every tensor that the nodes make, for inputs of these `shapes`; -1 where unknown."""
    made = {name for node in model.graph.node for name in outputs_of(node)}
    specs = tensor_specs(model, shapes)
    sizes = {name: spec_bytes(spec) for name, spec in specs.items() if name in made}
    return {name: -1 if size is None else size for name, size in sizes.items()}


def groups(names: Iterable[str], sizes: Mapping[str, int], budget: int) -> Iterator[list[str]]:
    """`names` in order, in groups of no more than `budget` bytes together (one name may be more alone).

    A size that is not known counts as the largest that is.
    """
    most = max(sizes.values(), default=0)
    group: list[str] = []
    left = budget
    for name in names:
        size = sizes.get(name, -1)
        size = size if size >= 0 else max(most, 0)
        if group and size > left:
            yield group
            group, left = [], budget
        group.append(name)
        left -= size
    if group:
        yield group


def _size(model: onnx.ModelProto) -> int:
    """Its bytes as one message, closely: weights are nearly all of it."""
    return sum(len(one.raw_data) + 4 * len(one.float_data) for one in model.graph.initializer) + (1 << 20)
