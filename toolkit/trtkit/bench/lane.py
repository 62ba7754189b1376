"""One row while the rows take turns: its process, and what was measured of it so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trtkit.bench.contender import Contender
from trtkit.bench.drift import drift_of
from trtkit.bench.latency import noise, summarise
from trtkit.bench.options import BenchOptions
from trtkit.bench.process import RowProcess
from trtkit.bench.report import BatchResult, Gap, Row
from trtkit.bench.row import Answer, Measure, Measured, Ready, Refused, Warm, WarmUp
from trtkit.bench.usage import memory_in_use, resident_bytes, utilisation
from trtkit.devices import Gpu

NOTHING = 16 << 20
"""Bytes on the GPU that a row without a CUDA context may seem to hold; a context takes far more."""


@dataclass
class Batch:
    """What was measured at one batch size: a member of each list is a round."""

    size: int
    warm_up_runs: int = 0
    seconds: list[NDArray[np.float64]] = field(default_factory=list)
    on_device: list[NDArray[np.float64]] = field(default_factory=list)
    utilisation: list[int] = field(default_factory=list)
    gpu_memory: list[int] = field(default_factory=list)
    host_memory: list[int] = field(default_factory=list)

    def result(self) -> BatchResult:
        """All rounds together."""
        latency = summarise(np.concatenate(self.seconds))
        on_device = np.concatenate(self.on_device) if self.on_device else np.empty(0)
        medians = tuple(float(np.median(round_)) * 1000 for round_ in self.seconds)
        runs = [int(done) for done in np.cumsum([len(round_) for round_ in self.seconds])]
        return BatchResult(
            batch=self.size,
            latency=latency,
            on_device=summarise(on_device) if on_device.size else None,
            qps=latency.throughput(self.size),
            round_medians=medians,
            noise=noise(medians),
            warm_up_runs=self.warm_up_runs,
            gpu_utilisation=float(np.mean(self.utilisation)) if self.utilisation else None,
            gpu_memory=drift_of(self.gpu_memory, runs) if self.gpu_memory else None,
            host_memory=drift_of(self.host_memory, runs),
        )


class Lane:
    """A row that is being measured.

    Nobody else runs while it does; so what the GPU's memory grows by in that time is this row's.
    """

    def __init__(self, contender: Contender, options: BenchOptions, gpu: Gpu | None, log: Path) -> None:
        self.title = contender.title
        self.precision = contender.precision
        self.outputs: dict[str, NDArray[Any]] = {}
        """Of the batch that it is warm for."""
        self._options, self._gpu = options, gpu
        self._held = 0
        self._results: list[BatchResult] = []
        self._gaps: list[Gap] = []
        self._load_seconds: float | None = None
        self._refusal: Refused | None = None
        with self._accounted():
            self._process = RowProcess(contender, log, options.timeout_seconds)
            answer = self._process.next_answer()
        if isinstance(answer, Ready):
            self._load_seconds = answer.seconds
        elif isinstance(answer, Refused):
            self._refusal = answer

    @property
    def running(self) -> bool:
        """Whether it can be asked for more."""
        return self._refusal is None

    def warm_up(self, size: int, request: WarmUp) -> Batch | None:
        """Ready for rounds at this batch size; None, and a gap, if it is not."""
        self.outputs = {}
        answer = self._ask(request, size)
        if not isinstance(answer, Warm):
            return None
        self.outputs = answer.outputs
        return Batch(size, warm_up_runs=answer.runs)

    def measure_round(self, batch: Batch) -> bool:
        """One round more for `batch`; False if it broke off."""
        seconds = self._options.round_seconds
        with utilisation(self._gpu) as seen:
            answer = self._ask(Measure(seconds), batch.size)
        if not isinstance(answer, Measured):
            return False
        batch.seconds.append(answer.seconds)
        if self._held > NOTHING:
            batch.utilisation.extend(seen)
            batch.gpu_memory.append(self._held)
        if self._gpu is not None:
            on_device = self._ask(Measure(seconds / 2, on_device=True), batch.size)
            if not isinstance(on_device, Measured):
                return False
            batch.on_device.append(on_device.seconds)
        batch.host_memory.append(resident_bytes(self._process.pid))
        return True

    def keep(self, result: BatchResult) -> None:
        """A batch size is done."""
        self._results.append(result)

    def row(self) -> Row:
        """What came of it."""
        refusals: list[Refused | Gap] = [*([self._refusal] if self._refusal else []), *self._gaps]
        failed = next((one for one in refusals if one.status == "failed"), None)
        lacks = None if self._results else next(iter(refusals), None)
        telling = failed or lacks
        return Row(
            title=self.title,
            status=telling.status if telling else "ran",
            reason=telling.reason if telling else "",
            load_seconds=self._load_seconds,
            batches=tuple(self._results),
            gaps=tuple(self._gaps),
        )

    def end(self) -> None:
        """End its process, whatever it does."""
        self._process.end()

    def _ask(self, request: WarmUp | Measure, size: int) -> Answer:
        with self._accounted():
            answer = self._process.ask(request)
        if isinstance(answer, Refused):
            self._gaps.append(Gap(batch=size, status=answer.status, reason=answer.reason))
            if answer.gone:
                self._refusal = answer
        return answer

    @contextmanager
    def _accounted(self) -> Iterator[None]:
        """What the GPU's memory grows by in the `with` block is ours."""
        before = memory_in_use(self._gpu)
        yield
        after = memory_in_use(self._gpu)
        if before is not None and after is not None:
            self._held += after - before
