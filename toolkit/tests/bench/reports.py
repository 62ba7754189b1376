"""Reports of benchmarks that nobody ran."""

from __future__ import annotations

import numpy as np

from trtkit.bench.drift import drift_of
from trtkit.bench.latency import noise, summarise
from trtkit.bench.machine import Machine
from trtkit.bench.options import BenchOptions
from trtkit.bench.report import BatchResult, BenchReport, Gap, Row
from trtkit.devices import Gpu

GPU = Gpu(0, "GPU-0", "Some GPU", "86", 24 << 30, "570.1")
MIB = 1 << 20


def result(
    batch: int, ms: float, *, gpu: bool = True, grows: bool = False, disagreement: str = ""
) -> BatchResult:
    """A row's at one batch: three rounds, a fifth of the runs twice as slow as the others."""
    seconds = np.where(np.arange(200) % 5, ms, 2 * ms) / 1000
    latency, medians = summarise(seconds), (ms, ms * 1.01, ms)
    memory = [700 * MIB + (40 * MIB * number if grows else 0) for number in range(3)]
    return BatchResult(
        batch=batch,
        latency=latency,
        on_device=summarise(seconds / 2) if gpu else None,
        qps=latency.throughput(batch),
        speedup=8 / ms,
        cosine=0.4 if disagreement else 0.99999,
        disagreement=disagreement,
        round_medians=medians,
        noise=noise(medians),
        warm_up_runs=20,
        gpu_utilisation=87.0 if gpu else None,
        gpu_memory=drift_of(memory, [50, 100, 150]) if gpu else None,
        host_memory=drift_of([300 * MIB] * 3, [50, 100, 150]),
    )


def report(*, gpu: bool = True, rows: tuple[Row, ...] | None = None) -> BenchReport:
    """Five rows: three that ran, one that was skipped, one that failed at its second batch."""
    if rows is None:
        rows = (
            Row(title="PyTorch FP32", status="ran", batches=(result(1, 8, gpu=gpu), result(4, 20, gpu=gpu))),
            Row(title="PyTorch FP16", status="skipped", reason="no GPU"),
            Row(
                title="ONNX Runtime CPU",
                status="ran",
                batches=(result(1, 90, gpu=False), result(4, 400, gpu=False)),
            ),
            Row(
                title="TensorRT FP16",
                status="failed",
                reason="the GPU is out of memory",
                batches=(result(1, 3, gpu=gpu, grows=True),),
                gaps=(Gap(batch=4, status="failed", reason="the GPU is out of memory"),),
            ),
            Row(
                title="TensorRT INT8",
                status="ran",
                batches=(result(1, 2, gpu=gpu, disagreement="cosine 0.4"),),
            ),
        )
    return BenchReport(
        trtkit="0.1.0",
        machine=Machine(
            cpu="Some CPU",
            cores=8,
            memory=16 << 30,
            system="Linux",
            python="3.11.7",
            gpu=GPU if gpu else None,
            packages={"torch": "2.9.1"},
            notes=("the cores were 50 % busy before the first row",),
        ),
        options=BenchOptions(model="torchvision:resnet50", batches=(1, 4)),
        inputs={1: {"input": (1, 3, 224, 224)}, 4: {"input": (4, 3, 224, 224)}},
        reference="PyTorch FP32",
        rows=rows,
    )
