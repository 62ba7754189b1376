"""What is in an engine: `inspect_engine`. Needs no ONNX: where engines only run, there is none."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from trtkit.devices import NO_GPU, gpus
from trtkit.errors import TrtkitError
from trtkit.flavour import Flavour
from trtkit.inspect.engine_layers import engine_layers, origins
from trtkit.inspect.layer import Layer, counts
from trtkit.sidecar import read_sidecar
from trtkit.tensors import ShapeRange, TensorSpec


class EngineInspection(BaseModel):
    """What is in an engine.

    size: of the file; device_memory: bytes that one execution context needs, None where nobody could say.
    types, precisions, formats: how many layers or tensors there are of each.
    layers: of the first profile; onnx_nodes: from how many ONNX nodes they came. source: who told them;
        why: why there are none, or not all that there is to tell.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    size: int
    flavour: Flavour
    tensorrt_version: str
    sms: tuple[str, ...]
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[dict[str, ShapeRange], ...]
    workspace: int
    device_memory: int | None
    source: str
    why: str
    onnx_nodes: int
    types: dict[str, int]
    precisions: dict[str, int]
    formats: dict[str, int]
    layers: tuple[Layer, ...]


def inspect_engine(path: Path) -> EngineInspection:
    """Look into the engine `path`: by TensorRT's inspector where it loads here, else by its sidecar.

    Raises:
        RequestError: it has no sidecar, or the sidecar is another engine's.
    """
    sidecar = read_sidecar(path)
    told, memory, why = _ask_tensorrt(path)
    source = "TensorRT's engine inspector" if told else "its sidecar, as its builder told them"
    layers = engine_layers(told or sidecar.layers)
    if not layers:
        source = ""
        why = f"{why}; and its sidecar tells no layers" if why else "its sidecar tells no layers"
    return EngineInspection(
        file=path.name,
        size=path.stat().st_size,
        flavour=sidecar.flavour,
        tensorrt_version=sidecar.tensorrt_version,
        sms=sidecar.sms,
        precision=sidecar.precision,
        inputs=sidecar.inputs,
        outputs=sidecar.outputs,
        profiles=sidecar.profiles,
        workspace=sidecar.workspace,
        device_memory=memory,
        source=source,
        why=why,
        onnx_nodes=origins(layers),
        types=counts([layer.type for layer in layers if layer.type]),
        precisions=counts([layer.precision for layer in layers if layer.precision]),
        formats=counts([one.format for layer in layers for one in layer.outputs if one.format]),
        layers=layers,
    )


def _ask_tensorrt(path: Path) -> tuple[list[dict[str, object] | str], int | None, str]:
    """The inspector's layers, the memory of a context, and why there are none."""
    if not gpus():
        return [], None, NO_GPU
    from trtkit.runners.engine import LoadedEngine

    try:
        loaded = LoadedEngine(path)
    except TrtkitError as error:
        return [], None, error.problem
    try:
        trt = loaded.tensorrt.module
        if loaded.tensorrt.lean:
            return [], int(loaded.engine.device_memory_size_v2), f"{loaded.tensorrt} has none"
        inspector = loaded.engine.create_engine_inspector()
        told = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
        return list(told.get("Layers", ())), int(loaded.engine.device_memory_size_v2), ""
    finally:
        loaded.close()
