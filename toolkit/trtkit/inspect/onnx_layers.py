"""The layers of an ONNX graph, and which of them ONNX Runtime made one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from trtkit.inspect.layer import Layer, LayerTensor, precision_of
from trtkit.onnx_graph import in_order, outputs_of, weight_bytes
from trtkit.tensors import TensorSpec

SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}
"""numpy's names of types -> those that TensorRT's users know. Others stay."""


Specs = Mapping[str, TensorSpec | None]
"""What `trtkit.onnx_graph.tensor_specs` tells of a model's tensors."""


def onnx_layers(model: onnx.ModelProto, specs: Specs) -> tuple[Layer, ...]:
    """A layer for each node, but for constants: they are weights."""
    weights = {one.name: weight_bytes(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            weights[node.output[0]] = sum(
                weight_bytes(one.t) for one in node.attribute if one.name == "value"
            )
    return tuple(_layer(node, specs, weights) for node in in_order(model.graph) if node.op_type != "Constant")


def _layer(node: onnx.NodeProto, specs: Specs, weights: Mapping[str, int]) -> Layer:
    inputs = tuple(_tensor(name, specs) for name in node.input if name and name not in weights)
    outputs = tuple(_tensor(name, specs) for name in outputs_of(node))
    return Layer(
        name=label(node),
        type=node.op_type,
        precision=precision_of(inputs, outputs),
        inputs=inputs,
        outputs=outputs,
        fused=(label(node),),
        weights=sum(weights[name] for name in dict.fromkeys(node.input) if name in weights),
    )


def label(node: onnx.NodeProto) -> str:
    """Its name; or, without one, what it makes."""
    return node.name or f"{node.op_type} of {next(outputs_of(node), '')}"


def _tensor(name: str, specs: Specs) -> LayerTensor:
    spec = specs.get(name)
    if spec is None:
        return LayerTensor(name, "", None)
    return LayerTensor(name, SHORT.get(spec.dtype, spec.dtype), spec.shape)


def optimised(path: Path) -> onnx.ModelProto:
    """The model as ONNX Runtime runs it on a CPU, constants folded and operators fused (level "extended").

    Raises:
        RuntimeError: ONNX Runtime cannot load it. Its own exceptions' types are not public.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory(prefix="trtkit-inspect-") as folder:
        target = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(target)
        # Weights beside the file: above 2 GiB they do not fit in it.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", str(1 << 20)
        )
        try:
            ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise RuntimeError(str(error).splitlines()[0]) from error
        return onnx.load(str(target))


def fused_layers(original: onnx.ModelProto, result: onnx.ModelProto, specs: Specs) -> tuple[Layer, ...]:
    """The layers of `result`, each with the nodes of `original` that it stands for.

    Those are the nodes on the way from its inputs to its outputs: optimisation keeps the names of tensors
    that stay. What is computed of weights alone is folded, and no part of a layer.

    Args:
        specs: of the original's tensors; inference stops at operators that are ONNX Runtime's own.
    """
    ordered = in_order(original.graph)
    makers = {name: node for node in ordered for name in outputs_of(node)}
    order = {label(node): index for index, node in enumerate(ordered)}
    folded = _folded(original.graph, ordered)
    stay = {name for node in result.graph.node for name in outputs_of(node)}
    stay.update(one.name for one in result.graph.input)
    layers = []
    for layer in onnx_layers(result, specs):
        own = {tensor.name for tensor in layer.outputs}
        found: set[str] = set()
        waiting = [name for name in own if name in makers]
        while waiting:
            node = makers[waiting.pop()]
            if label(node) in found:
                continue
            found.add(label(node))
            waiting += [
                name
                for name in node.input
                if name in makers and name not in folded and (name not in stay or name in own)
            ]
        if not found and layer.name in order:
            found.add(layer.name)  # its output has a new name, and it has its own
        layers.append(replace(layer, fused=tuple(sorted(found, key=order.__getitem__))))
    return tuple(layers)


def _folded(graph: onnx.GraphProto, ordered: Sequence[onnx.NodeProto]) -> set[str]:
    """Tensors that depend on weights alone."""
    known = {one.name for one in graph.initializer}
    for node in ordered:
        if all(name in known for name in node.input if name):
            known.update(outputs_of(node))
    return known
