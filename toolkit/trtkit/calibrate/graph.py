"""An ONNX network made ready to be quantised: weights as constants, every node with a name, types known."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from trtkit.build.onnx_file import read_onnx
from trtkit.errors import RequestError, WorkFailed
from trtkit.onnx_graph import load_onnx
from trtkit.sidecar import file_sha256
from trtkit.tensors import TensorSpec

MIN_OPSET = 13
"""The first with per-channel scales: QuantizeLinear's attribute `axis` (ONNX operator changelog)."""

TWO_GIB = 1 << 31
"""A protobuf message cannot be larger; beyond, weights go into a file beside it."""


@dataclass(frozen=True)
class Graph:
    """A network ready to be quantised.

    constants: its weights by name. types: the ONNX element type of every tensor that it is known of.
    """

    model: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    constants: dict[str, TensorProto]
    types: dict[str, int]

    def is_float(self, tensor: str) -> bool:
        return self.types.get(tensor) == TensorProto.FLOAT


def read_graph(path: Path) -> Graph:
    """Read and prepare `path`.

    Raises:
        RequestError: it cannot be read, is quantised already, is not FP32, or is older than opset 13.
        WorkFailed: ONNX Runtime could not prepare it.
    """
    file = read_onnx(path)
    model = file.model
    _check(path, model)
    large = model.ByteSize() >= TWO_GIB
    if large or _needs_folding(model):
        model = _folded(model, path.name, large)
    else:
        model = onnx.shape_inference.infer_shapes(model)
    used = {node.domain for node in model.graph.node} | {""}
    opsets = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    _name_nodes(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    types = {name: tensor.data_type for name, tensor in constants.items()}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    return Graph(model, file.inputs, file.outputs, constants, types)


def network_sha256(path: Path) -> str:
    """Of the file, and of those beside it that hold its weights, if any do."""
    outside = {
        entry.value
        for tensor in load_onnx(path).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    hashes = [file_sha256(one) for one in (path, *(path.parent / name for name in sorted(outside)))]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write it; what is too large for one file has its weights in `path` + ".data"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    large = model.ByteSize() >= TWO_GIB
    location = path.name + ".data" if large else None
    # The format is named: onnx.save would write a file called .json as text.
    onnx.save(model, str(path), "protobuf", save_as_external_data=large, location=location)


def _check(path: Path, model: onnx.ModelProto) -> None:
    kinds = {node.op_type for node in model.graph.node}
    if kinds & {"QuantizeLinear", "DequantizeLinear"}:
        raise RequestError(
            f"{path.name} is quantised already",
            ("because", "it has QuantizeLinear or DequantizeLinear nodes"),
            ("next", "build it as it is (trtkit build --precision int8), or calibrate the FP32 network"),
        )
    low = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    if any(tensor.data_type in low for tensor in model.graph.initializer):
        raise RequestError(
            f"{path.name} has FP16 or BF16 weights",
            ("because", "ranges are measured in FP32; the build makes FP16 of what stays unquantised"),
            ("next", "export the network in FP32, and calibrate that"),
        )
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset < MIN_OPSET:
        raise RequestError(
            f"{path.name} is of opset {opset}",
            ("because", f"weights are quantised per channel, which ONNX has from opset {MIN_OPSET}"),
            ("next", "export it with a newer opset: trtkit export --opset 17"),
        )


def _needs_folding(model: onnx.ModelProto) -> bool:
    """Whether weights stand behind nodes (Constant, Identity), or batch norms could go into convolutions."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return any(
        node.op_type in ("Constant", "BatchNormalization")
        or (node.input and constants.issuperset(node.input))
        for node in model.graph.node
    )


def _folded(model: onnx.ModelProto, name: str, large: bool) -> onnx.ModelProto:
    """`model`, which is used up, with all constants as initializers. name: of its file."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logger = logging.getLogger("onnxruntime.quantization.shape_inference")
    logger.addFilter(_unheard)
    try:
        with tempfile.TemporaryDirectory(prefix="trtkit-") as folder:
            out = Path(folder, "folded.onnx")
            quant_pre_process(model, out, skip_symbolic_shape=True, save_as_external_data=large)
            return onnx.load(str(out))
    except Exception as error:  # ONNX Runtime's exception types are not public
        raise WorkFailed(
            f"ONNX Runtime cannot prepare {name} for quantisation",
            ("because", str(error).splitlines()[0]),
            ("next", "see whether it runs at all (trtkit verify), or export it again"),
        ) from error
    finally:
        logger.removeFilter(_unheard)


def _unheard(_: logging.LogRecord) -> bool:
    """It logs a traceback where it cannot optimise, and goes on without: nothing for a person to act on."""
    return False


def _name_nodes(model: onnx.ModelProto) -> None:
    """Give names to nodes that have none, and new ones to those that share theirs; always the same ones."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}" if not node.name else f"{node.name}_{index}"
        taken.add(node.name)
