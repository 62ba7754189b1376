"""A PyTorch model becomes an ONNX file that was compared with it.

`export_onnx` takes the steps: a source is loaded (`sources`), run once on example inputs (`model`), converted
(`dynamo` or `torchscript`), made fit for TensorRT and for reading (`graph`), and compared with PyTorch at
several batch sizes (`compare`). An operator that ONNX does not have is told in full (`unsupported`).
"""

from __future__ import annotations

from trtkit.export.options import ExportOptions
from trtkit.export.run import export_onnx
from trtkit.export.unsupported import UnsupportedOperator

__all__ = ["ExportOptions", "UnsupportedOperator", "export_onnx"]
