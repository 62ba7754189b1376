"""FP16 and BF16, written into the ONNX file: what strongly typed networks need (TensorRT 11, RTX)."""

from trtkit.precision.convert import ConversionFailed, Half, convert
from trtkit.precision.held import element_types, held_precision
from trtkit.precision.overflow import Overflow, overflowing_nodes

__all__ = [
    "ConversionFailed",
    "Half",
    "Overflow",
    "convert",
    "element_types",
    "held_precision",
    "overflowing_nodes",
]
