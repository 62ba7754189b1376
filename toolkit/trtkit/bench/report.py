"""What a benchmark found."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from trtkit.bench.drift import Drift
from trtkit.bench.latency import Latency
from trtkit.bench.machine import Machine
from trtkit.bench.options import BenchOptions

Status = Literal["ran", "skipped", "failed"]


class BatchResult(BaseModel):
    """A row at one batch size.

    latency: of a whole inference: host tensors in, host tensors out, synchronised.
    on_device: the same without the copies; None for a CPU.
    qps: samples a second. speedup: how many times as fast as the row PyTorch FP32, by mean latency.
    cosine: similarity of the outputs with those of the reference row, the least of all outputs.
    disagreement: what about them is out of the tolerance of the row's precision; empty if nothing is.
    round_medians: milliseconds, a round each. noise: how far they are apart.
    warm_up_runs: before anything was timed.
    gpu_utilisation: percent, mean over the rounds. gpu_memory: bytes that the row holds on the GPU, its CUDA
    context included. host_memory: resident bytes of its process.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int
    latency: Latency
    on_device: Latency | None = None
    qps: float
    speedup: float | None = None
    cosine: float | None = None
    disagreement: str = ""
    round_medians: tuple[float, ...]
    noise: float
    warm_up_runs: int
    gpu_utilisation: float | None = None
    gpu_memory: Drift | None = None
    host_memory: Drift


class Gap(BaseModel):
    """A batch size at which a row was not measured to its end, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int
    status: Literal["skipped", "failed"]
    reason: str


class Row(BaseModel):
    """A row of the table. reason: why it was skipped or failed, empty for one that ran.

    load_seconds: from its process's start until it could be run; compiling on first use is not in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    status: Status
    reason: str = ""
    load_seconds: float | None = None
    batches: tuple[BatchResult, ...] = ()
    gaps: tuple[Gap, ...] = ()

    def at(self, batch: int) -> BatchResult | None:
        """What was measured at `batch`."""
        return next((result for result in self.batches if result.batch == batch), None)


class BenchReport(BaseModel):
    """All rows, in their locked order. reference: the row that outputs were compared with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    trtkit: str
    machine: Machine
    options: BenchOptions
    inputs: dict[int, dict[str, tuple[int, ...]]]
    reference: str | None
    rows: tuple[Row, ...]

    def row(self, title: str) -> Row:
        """The row of that title.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.title == title:
                return row
        raise KeyError(title)
