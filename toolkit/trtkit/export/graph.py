"""An exporter's ONNX file becomes one that is checked, the same in every run, and says what came from where.

Nodes are named after the module they are in ("layer1.0.conv1/Conv"): TensorRT names layers after them, so
that `--keep-fp16` patterns, the inspector and error messages speak of the model as its author wrote it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx

from trtkit.errors import RequestError, WorkFailed
from trtkit.export.options import Exporter
from trtkit.export.unsupported import UnsupportedOperator, source_line
from trtkit.onnx_graph import graphs, load_onnx

SCOPES, TRACE, FX_NODE = (f"pkg.torch.onnx.{key}" for key in ("name_scopes", "stack_trace", "fx_node"))
"""What the dynamo exporter notes on each node: paths of its modules, the trace, the PyTorch operator."""

Axes = Mapping[str, Mapping[int, str]]
"""Names of dynamic dimensions, by input and axis."""


def finish(raw: Path, to: Path, axes: Axes, opset: int, exporter: Exporter) -> onnx.ModelProto:
    """Write the finished form of the file `raw` to `to`; weights of 2 GB and more go to `to`.data.

    Returns:
        the model, without the weights that lie in a file of their own.

    Raises:
        UnsupportedOperator: an operator is younger than the opset.
        RequestError: the exporter could not write this opset.
        WorkFailed: the checker refuses it, shapes contradict each other, or a dynamic one came out fixed.
    """
    model = onnx.load(str(raw))
    external = any(raw.parent.glob(f"{raw.name}.*")) or model.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF
    written = {it.domain: it.version for it in model.opset_import}[""]
    if written != opset:
        raise RequestError(
            f"PyTorch's exporter cannot write this model in opset {opset}, only in {written}",
            ("next", f"--opset {written}, or --exporter torchscript"),
        )
    _all_in_opset(model.graph, opset)
    _name_dimensions(model.graph, axes, keep_shapes=exporter == "dynamo")
    _name_nodes(model)
    _forget_origins(model)
    if external:
        location = f"{to.name}.data"
        onnx.save(
            model, str(to), "protobuf", save_as_external_data=True, location=location, size_threshold=1024
        )
    else:
        onnx.save(model, str(to), "protobuf")  # a file called .json would be written as text
    return _checked(to)


def _checked(path: Path) -> onnx.ModelProto:
    """The file's model, with inferred shapes, which are written into the file."""
    try:
        # By path: what is passed as an object may not be 2 GB.
        onnx.shape_inference.infer_shapes_path(str(path), check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        first = next((text for text in str(error).splitlines() if text.strip()), "it does not say why")
        raise WorkFailed(
            "the exported ONNX file is not sound",
            ("because", first[:400]),
            (
                "next",
                "another --opset or --exporter; this is a fault of PyTorch's exporter or of a translation",
            ),
        ) from error
    return load_onnx(path)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for each in graphs(graph):
        yield from each.node


def _all_in_opset(graph: onnx.GraphProto, opset: int) -> None:
    """The exporter may write an operator that its opset does not have yet."""
    first: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            first[schema.name] = min(schema.since_version, first.get(schema.name, schema.since_version))
    for node in _nodes(graph):
        since = first.get(node.op_type)
        if node.domain or (since is not None and since <= opset):
            continue
        notes = _notes(node)
        target = re.search(r"target=torch\.ops\.(\w+)\.(\w+)", notes.get(FX_NODE, ""))
        operator = f"{target[1]}::{target[2]}" if target else node.op_type
        raise UnsupportedOperator(operator, _module(node), source_line(notes.get(TRACE, "")), opset, since)


def _notes(node: onnx.NodeProto) -> dict[str, str]:
    return {note.key: note.value for note in node.metadata_props}


def _module(node: onnx.NodeProto) -> str:
    """The path of the module that a node is in; "" where it is not noted."""
    if node.op_type in ("Conv", "ConvTranspose") and node.input[1].endswith(".weight"):
        # A batch norm that was folded into it leaves its own note; the weight is still the convolution's.
        return str(node.input[1]).removesuffix(".weight")
    # ['', 'layer1', 'layer1.0', 'conv2d_3']: the last is the operator itself.
    scopes = ast.literal_eval(_notes(node).get(SCOPES, "[]"))
    return str(scopes[-2]) if len(scopes) > 1 else ""


def _name_nodes(model: onnx.ModelProto) -> None:
    """The TorchScript exporter names nodes after their modules by itself, and notes none."""
    seen: Counter[str] = Counter()
    for node in _nodes(model.graph):
        if node.name and SCOPES not in _notes(node):
            continue
        module = _module(node)
        name = f"{module}/{node.op_type}" if module else node.op_type
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name] - 1}"


def _forget_origins(model: onnx.ModelProto) -> None:
    """Drop notes of source lines: they hold this machine's paths, and the file must not differ by them."""
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    for graph in graphs(model.graph):
        tensors = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
        for holder in [graph, *graph.node, *tensors]:
            holder.ClearField("doc_string")
            holder.ClearField("metadata_props")


def _name_dimensions(graph: onnx.GraphProto, axes: Axes, *, keep_shapes: bool) -> None:
    """Dynamic dimensions get the names that were asked for, in place of the exporter's ("s77")."""
    inputs = {it.name: it.type.tensor_type.shape.dim for it in graph.input}
    names: dict[str, str] = {}
    for name, dynamic in axes.items():
        for axis, asked in dynamic.items():
            if name not in inputs:
                continue  # the TorchScript exporter drops inputs that nothing uses
            if not (dimension := inputs[name][axis]).dim_param:
                raise WorkFailed(
                    f"dimension {axis} of the input {name!r} came out fixed at {dimension.dim_value}",
                    ("next", "--static, or change the model where it uses this size as a number"),
                )
            names.setdefault(dimension.dim_param, asked)
    if not keep_shapes:
        # The TorchScript exporter makes names up ("Gemmoutput_dim_0"); shape inference knows better.
        graph.ClearField("value_info")
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                told = _renamed(dimension.dim_param, names)
                if told is None and not keep_shapes:
                    dimension.Clear()
                else:
                    dimension.dim_param = told or dimension.dim_param


def _renamed(expression: str, names: Mapping[str, str]) -> str | None:
    """ "((s77*4)//2)" -> "((batch*4)//2)"; None where it speaks of no dimension of an input."""
    told = re.sub(r"[A-Za-z_]\w*", lambda word: names.get(word[0], word[0]), expression)
    return told if any(word in names for word in re.findall(r"[A-Za-z_]\w*", expression)) else None
