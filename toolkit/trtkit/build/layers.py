"""The layers of an optimised network: from the engine inspector, or from what the builder said."""

from __future__ import annotations

import json
import re
from typing import Any

from trtkit.build.log import LAYERS
from trtkit.flavour import TensorRT

Layers = tuple[dict[str, Any], ...]


def inspect_layers(plan: Any, logger: Any, tensorrt: TensorRT, version_compatible: bool) -> Layers:
    """Those of the engine `plan`, as trt.EngineInspector tells them; none where it does not load here."""
    trt = tensorrt.module
    runtime = trt.Runtime(logger)
    if version_compatible:
        runtime.engine_host_code_allowed = True  # it carries code of its own, and we made it
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return ()
    inspector = engine.create_engine_inspector()
    told = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return tuple(layer if isinstance(layer, dict) else {"Name": layer} for layer in told.get("Layers", ()))


def logged_layers(message: str) -> Layers:
    """Those of the builder's verbose message, with the inspector's keys; none where it is of another form.

    One line is a layer: `Name: conv, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [1,3], ... }],
    ..., StreamId: 0, Metadata: ...`, as TensorRT-RTX 1.7 and TensorRT 10 print it.
    """
    if not message.startswith(LAYERS):
        return ()
    lines = message.removeprefix(LAYERS).split("\n\n", 1)[0].splitlines()
    return tuple(_fields(line) for line in lines if line.startswith("Name: "))


_KEY = re.compile(r"(?:^|, )([A-Z][A-Za-z]*): ")


def _fields(text: str) -> dict[str, Any]:
    """`A: 1, B: [ { Name: x }, { Name: y }], C: z` as a mapping; what is in brackets is read by `_value`."""
    outside = _masked(text)
    keys = list(_KEY.finditer(outside))
    ends = [key.start() for key in keys[1:]] + [len(text)]
    return {key[1]: _value(text[key.end() : end].strip()) for key, end in zip(keys, ends, strict=True)}


def _value(text: str) -> Any:
    if re.fullmatch(r"\[[-\d,\s]*\]", text):
        return json.loads(text)
    if text.startswith("[ {"):
        return [_fields(one) for one in _tensors(text)]
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _tensors(text: str) -> list[str]:
    """The contents of the outermost braces of `text`."""
    return [one.strip() for one in re.findall(r"\{([^{}]*)\}", text)]


def _masked(text: str) -> str:
    """`text` with all that is in brackets blanked, so that keys are found outside them only."""
    depth = 0
    shown = []
    for char in text:
        depth -= char in "]}"
        shown.append(char if depth == 0 else " ")
        depth += char in "[{"
    return "".join(shown)
