"""ONNX in, engine and sidecar out."""

from trtkit.build.engine import BuildFailed, build_engine
from trtkit.build.network import UnsupportedByTensorRT, UnsupportedNode
from trtkit.build.options import BuildOptions, parse_bytes, parse_sms, read_labels

__all__ = [
    "BuildFailed",
    "BuildOptions",
    "UnsupportedByTensorRT",
    "UnsupportedNode",
    "build_engine",
    "parse_bytes",
    "parse_sms",
    "read_labels",
]
