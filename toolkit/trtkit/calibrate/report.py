"""What calibration did, and what INT8 costs in accuracy."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from trtkit.calibrate.options import Method
from trtkit.errors import WorkFailed


class SkippedFile(BaseModel):
    """A file that could not be read. reason: why not."""

    model_config = ConfigDict(frozen=True)

    name: str
    reason: str


class OutputAccuracy(BaseModel):
    """How near an output is in INT8 to what it is in FP32, over all samples evaluated.

    top1_agreement: the share of rows whose largest value is in the same place, 0 to 1; None where the output
        is not of two dimensions (rows, classes).
    cosine: of the angle between both, 1 where they are alike but for scale.
    sqnr_db: signal to quantisation noise in decibels; 6 more are one bit more. 200 where nothing differs.
    max_abs: the largest difference of a value.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    top1_agreement: float | None
    cosine: float
    sqnr_db: float
    max_abs: float


class LayerLoss(BaseModel):
    """What quantising one node costs: its output from quantised inputs and weights against FP32's, when all
    before it is FP32. sqnr_db: as in `OutputAccuracy`."""

    model_config = ConfigDict(frozen=True)

    node: str
    op_type: str
    sqnr_db: float


class CalibrationReport(BaseModel):
    """What `calibrate` did.

    onnx, onnx_sha256: the FP32 network. out, out_sha256: the network with Q/DQ pairs.
    samples: how many the ranges come from. skipped: files that could not be read.
    cache: whether ranges came from the cache, were measured and written to one, or none was named.
    quantised: how many nodes are INT8. kept: those that --keep-fp16 left alone.
    evaluated: on how many samples INT8 was compared with FP32; evaluated_on: whether these were held out.
    worst_layers: those that lose most, the worst first. notes: what a person should know.
    """

    model_config = ConfigDict(frozen=True)

    onnx: str
    onnx_sha256: str
    out: str
    out_sha256: str
    method: Method
    samples: int
    skipped: tuple[SkippedFile, ...]
    cache: Literal["none", "written", "reused"]
    quantised: int
    kept: tuple[str, ...]
    evaluated: int
    evaluated_on: Literal["held-out samples", "the calibration samples"]
    outputs: tuple[OutputAccuracy, ...]
    worst_layers: tuple[LayerLoss, ...]
    notes: tuple[str, ...]

    @property
    def agreement(self) -> float | None:
        """The lowest top-1 agreement of an output; None where none has one."""
        return min(
            (one.top1_agreement for one in self.outputs if one.top1_agreement is not None), default=None
        )


class AgreementTooLow(WorkFailed):
    """INT8 changes more classes than allowed. report: of the network that was rejected, at its `out`."""

    def __init__(self, report: CalibrationReport, asked: float) -> None:
        worst = report.worst_layers[0].node if report.worst_layers else "PATTERN"
        super().__init__(
            f"top-1 agreement of INT8 with FP32 is {report.agreement or 0:.1%}, and has to be {asked:.1%}",
            ("kept", f"{report.out}, to look at"),
            ("next", f"--keep-fp16 {worst!r}, more representative samples, or another --method"),
        )
        self.report = report
