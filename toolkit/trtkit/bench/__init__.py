"""All ways to run a model, side by side on the same inputs.

`run_bench` plans the rows (`contender`), gives each a process of its own (`row`, `process`), lets them take
turns (`run`, `lane`) and tells what came of it (`report`, as `table` and `plot`).

A latency is that of a whole inference, for every row alike: tensors on the host in, tensors on the host out,
synchronised. Where there is a GPU, the time without the copies is told beside it.
"""

from __future__ import annotations

from trtkit.bench.options import BenchOptions
from trtkit.bench.report import BatchResult, BenchReport, Row
from trtkit.bench.run import run_bench

__all__ = ["BatchResult", "BenchOptions", "BenchReport", "Row", "run_bench"]
