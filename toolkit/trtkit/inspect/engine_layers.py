"""The layers of an engine, from the JSON of TensorRT's engine inspector.

The JSON is of several forms. A layer is its name alone, unless the engine was built with detailed profiling
verbosity. TensorRT's own kernels tell a tensor's type and layout as one sentence ("Format/Datatype": "Channel
major FP16 format where channel % 8 == 0"); its compiler (Myelin, all of TensorRT-RTX) tells the type alone
there, or both under "Datatype" and "Format". The ONNX nodes that a layer came from are in "Metadata", between
control characters. Sources: TensorRT documentation, "Engine Inspector"; trt-engine-explorer's files for
ResNet on an A100; TensorRT-RTX 1.7.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trtkit.inspect.layer import Layer, LayerTensor, precision_of

DTYPES = {
    "float": "fp32", "fp32": "fp32", "half": "fp16", "fp16": "fp16", "bfloat16": "bf16", "bf16": "bf16",
    "int8": "int8", "fp8": "fp8", "fp8e4m3": "fp8", "int4": "int4", "fp4": "fp4", "double": "fp64",
    "int32": "int32", "int64": "int64", "uint8": "uint8", "bool": "bool", "int16": "int16",
}  # fmt: skip
"""TensorRT's names of types, in lower case -> ours."""

BYTES = {
    "fp64": 8,
    "int64": 8,
    "fp32": 4,
    "int32": 4,
    "fp16": 2,
    "bf16": 2,
    "int16": 2,
    "int4": 0.5,
    "fp4": 0.5,
}
"""Of one element; 1 for all others."""

WORDS = {"two": 2, "four": 4, "eight": 8, "sixteen": 16, "thirty-two": 32}

CONTROL = frozenset({"signal", "wait", "shape_call", "NoOp", "Constant"})
"""Types of layers that only order or hold what others compute."""

STUB = "__myelin_CASK_STUB"
"""What TensorRT-RTX calls a tactic before the GPU is known that will choose it."""

_NODE = re.compile(r"\[ONNX Layer: ([^\x1e\x1f]*?)\](?=$|[\x1e\x1f\[])")
_TYPE = re.compile(rf"\b({'|'.join(DTYPES)})\b", re.IGNORECASE)
_OTHER_PROFILE = re.compile(r" ?\[profile +[1-9]\d*\]")


def engine_layers(told: Sequence[Mapping[str, Any] | str]) -> tuple[Layer, ...]:
    """The layers of the first optimisation profile that compute something, in the inspector's order.

    Args:
        told: "Layers" of the inspector's JSON.
    """
    entries = [entry if isinstance(entry, Mapping) else {"Name": entry} for entry in told]
    return tuple(
        _layer(entry)
        for entry in entries
        if entry.get("LayerType") not in CONTROL and not _OTHER_PROFILE.search(str(entry.get("Name", "")))
    )


def _layer(entry: Mapping[str, Any]) -> Layer:
    inputs = tuple(map(_tensor, entry.get("Inputs") or ()))
    outputs = tuple(map(_tensor, entry.get("Outputs") or ()))
    name = str(entry.get("Name", ""))
    return Layer(
        name=name,
        type=str(entry.get("LayerType", "")),
        precision=precision_of(inputs, outputs),
        inputs=inputs,
        outputs=outputs,
        fused=tuple(dict.fromkeys(_NODE.findall(str(entry.get("Metadata") or "")))) or _named(name),
        tactic=str(entry.get("TacticName") or entry.get("TacticValue") or "").replace(STUB, ""),
        weights=_weights(entry),
    )


def _named(name: str) -> tuple[str, ...]:
    """Without metadata (before TensorRT 8.6), a fused layer's name joins those of its nodes."""
    return tuple(part.strip() for part in name.split(" + ")) if " + " in name else ()


def _tensor(entry: Mapping[str, Any]) -> LayerTensor:
    both = str(entry.get("Format/Datatype") or entry.get("Datatype") or "")
    shape = entry.get("Dimensions")
    shape = tuple(map(int, shape)) if isinstance(shape, list) else None
    found = _TYPE.search(both)
    layout = str(entry.get("Format") or (both if found and found[0] != both else ""))
    return LayerTensor(
        name=str(entry.get("Name", "")),
        dtype=DTYPES[found[0].lower()] if found else "",
        shape=shape,
        format=_layout(layout, len(shape or ())),
    )


def _layout(sentence: str, rank: int) -> str:
    """ "Channel major FP16 format where channel % 8 == 0" as "NHWC8"."""
    told = re.match(r"\((\w+)\)", sentence)
    text = sentence.lower()
    linear = "NCHW" if rank == 4 else "NCDHW" if rank == 5 else "linear"
    if told:
        return linear if told[1] == "Linear" else told[1]
    if "channel major" in text:
        pack = re.search(r"channel (?:%|==) (\d+)", text)
        return f"{'NDHWC' if '3 spatial' in text else 'NHWC'}{pack[1] if pack else ''}"
    wide = re.match(r"([\w-]+) wide channel vectorized", text)
    if wide and wide[1] in WORDS:
        return f"NC/{WORDS[wide[1]]}{'DHW' if '3 spatial' in text else 'HW'}{WORDS[wide[1]]}"
    return linear if "row major" in text else ""


def _weights(entry: Mapping[str, Any]) -> int:
    """Of its constants: each with its dimensions, or a count of them by its parameters' names."""
    total = 0.0
    for constant in entry.get("Constants") or ():
        tensor = _tensor(constant)
        total += math.prod(tensor.shape or (0,)) * BYTES.get(tensor.dtype, 1)
    for key in ("Weights", "Bias", "ConvWeights", "ConvBias"):
        held = entry.get(key)
        if isinstance(held, Mapping):
            dtype = DTYPES.get(str(held.get("Type", "")).lower(), "")
            total += int(held.get("Count", 0)) * BYTES.get(dtype, 1)
    return int(total)


def origins(layers: Iterable[Layer]) -> int:
    """From how many ONNX nodes they came."""
    return len({name for layer in layers for name in layer.fused})
