"""What is in a model file, before and after fusion: `inspect_onnx`, `inspect_engine`, `draw`."""

from trtkit.inspect.drawing import draw
from trtkit.inspect.inspection import EngineInspection, OnnxInspection, inspect_engine, inspect_onnx
from trtkit.inspect.layer import Layer, LayerTensor

__all__ = [
    "EngineInspection",
    "Layer",
    "LayerTensor",
    "OnnxInspection",
    "draw",
    "inspect_engine",
    "inspect_onnx",
]
