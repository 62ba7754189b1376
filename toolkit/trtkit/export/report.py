"""What an export made, and how far it is from PyTorch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from trtkit.export.options import Exporter
from trtkit.tensors import Shape, TensorSpec
from trtkit.verify.comparison import Comparison
from trtkit.verify.tolerance import Tolerance


class Compared(BaseModel):
    """One run of both, on inputs of these shapes, and how each output of ONNX Runtime compares."""

    model_config = ConfigDict(frozen=True)

    shapes: dict[str, Shape]
    outputs: dict[str, Comparison]

    @property
    def within(self) -> bool:
        return all(output.within for output in self.outputs.values())


class ExportReport(BaseModel):
    """What an export made.

    path, sha256: of the ONNX file. external_data: the file beside it that holds the weights, where they are
    2 GB or more; the SHA-256 of that is `external_sha256`. size: bytes of both.
    nodes: of the graph, by operator, most frequent first. device: where PyTorch ran.
    comparisons: each within `tolerance`.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    path: str
    sha256: str
    size: int
    external_data: str | None = None
    external_sha256: str | None = None
    opset: int
    exporter: Exporter
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes: dict[str, int]
    tolerance: Tolerance
    comparisons: tuple[Compared, ...]
    torch: str
    device: str
