"""The benchmark: all rows take turns on the same inputs, and a report says what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trtkit import __version__
from trtkit.bench.contender import BASELINE, ORDER, Contender, contenders
from trtkit.bench.lane import Batch, Lane
from trtkit.bench.machine import look
from trtkit.bench.options import BenchOptions, Signature, signature_of
from trtkit.bench.report import BatchResult, BenchReport
from trtkit.bench.row import WarmUp
from trtkit.tensors import Shape

Progress = Callable[[str], None]
"""Told what is being done now, in a few words."""


def run_bench(options: BenchOptions, progress: Progress = lambda _: None) -> BenchReport:
    """Measure every row that this machine can run; the others say why they were not.

    Raises:
        RequestError: the files do not say what the inputs are, or an engine has no sidecar.
    """
    signature = signature_of(options)
    return measure(contenders(options, signature), options, signature, progress)


def measure(
    rows: Sequence[Contender], options: BenchOptions, signature: Signature, progress: Progress
) -> BenchReport:
    """Measure `rows` in their order, batch by batch, round by round.

    Raises:
        RequestError: a batch does not fit the signature.
    """
    shapes = {batch: signature.shapes(batch, options.shapes) for batch in options.batches}
    machine = look()
    with ExitStack() as stack:
        logs = Path(stack.enter_context(TemporaryDirectory(prefix="trtkit-bench-")))
        lanes = []
        for number, contender in enumerate(rows):
            progress(f"loading {contender.title}")
            lanes.append(Lane(contender, options, machine.gpu, logs / f"{number}.log"))
            stack.callback(lanes[-1].end)
        reference = _reference(lanes)
        for size in options.batches:
            _measure_batch(lanes, size, shapes[size], options, signature, reference, progress)
        return BenchReport(
            trtkit=__version__,
            machine=machine,
            options=options,
            inputs=shapes,
            reference=reference.title if reference else None,
            rows=tuple(lane.row() for lane in lanes),
        )


def _reference(lanes: Sequence[Lane]) -> Lane | None:
    """Whose outputs the others' are compared with: the first in full precision that could be opened."""
    return next((lane for lane in lanes if lane.running and lane.precision in ("fp32", "tf32")), None)


def _measure_batch(
    lanes: Sequence[Lane],
    size: int,
    shapes: dict[str, Shape],
    options: BenchOptions,
    signature: Signature,
    reference: Lane | None,
    progress: Progress,
) -> None:
    request = WarmUp(signature.inputs, shapes, options.seed, options.warm_up_seconds)
    batches: dict[Lane, Batch] = {}
    for lane in lanes:
        if lane.running:
            progress(f"batch {size}: warming up {lane.title}")
            if batch := lane.warm_up(size, request):
                batches[lane] = batch
    for number in range(options.rounds):
        for lane, batch in list(batches.items()):
            progress(f"batch {size}, round {number + 1} of {options.rounds}: {lane.title}")
            if not lane.measure_round(batch):
                del batches[lane]
    results = {lane: batch.result() for lane, batch in batches.items()}
    baseline = next((result for lane, result in results.items() if lane.title == BASELINE), None)
    for lane, result in results.items():
        agreement = _agreement(lane, reference) if reference and reference.outputs else {}
        lane.keep(result.model_copy(update={**agreement, **_speedup(result, baseline)}))


def _speedup(result: BatchResult, baseline: BatchResult | None) -> dict[str, Any]:
    return {"speedup": baseline.latency.mean / result.latency.mean} if baseline else {}


def _agreement(lane: Lane, reference: Lane) -> dict[str, Any]:
    """How the row's outputs compare with the reference's: by name, or one by one where names differ."""
    # Not at the top: rows' processes import this too, and have no use for it.
    from trtkit.verify.comparison import compare
    from trtkit.verify.tolerance import TOLERANCES

    if len(lane.outputs) != len(reference.outputs):
        return {"disagreement": f"{len(lane.outputs)} outputs, the reference has {len(reference.outputs)}"}
    same_names = lane.outputs.keys() == reference.outputs.keys()
    mine = [lane.outputs[name] for name in reference.outputs] if same_names else list(lane.outputs.values())
    # A row in FP32 is as far from a reference in TF32 as that is from FP32.
    coarser = max(lane.precision, reference.precision, key=ORDER.index)
    compared = [
        compare(one, other, TOLERANCES[coarser])
        for one, other in zip(mine, reference.outputs.values(), strict=True)
    ]
    cosines = [one.cosine for one in compared if one.cosine is not None]
    return {
        "cosine": min(cosines, default=None),
        "disagreement": next((one.why for one in compared if one.why), ""),
    }
