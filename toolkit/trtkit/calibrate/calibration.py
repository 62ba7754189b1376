"""Calibration from end to end: samples, ranges, Q/DQ pairs, and what they cost."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Literal

from trtkit.calibrate.accuracy import compare_outputs, layer_losses
from trtkit.calibrate.cache import CalibrationCache, read_cache, write_cache
from trtkit.calibrate.graph import Graph, network_sha256, read_graph, save_model
from trtkit.calibrate.options import ADVISED_SAMPLES, FEW_SAMPLES, CalibrateOptions
from trtkit.calibrate.placement import Placement, keep, place
from trtkit.calibrate.qdq import quantised
from trtkit.calibrate.ranges import measure_ranges
from trtkit.calibrate.report import AgreementTooLow, CalibrationReport, OutputAccuracy
from trtkit.calibrate.sources import open_source
from trtkit.calibrate.split import Split
from trtkit.errors import RequestError
from trtkit.sidecar import file_sha256

MIN_HELD_OUT = 10
"""With fewer samples left over, INT8 is compared on those it was calibrated with, and the report says so."""

LAYER_SAMPLES = 16
"""Samples that a layer's loss is measured on: it has thousands of values in each."""


_UNSEEN = (
    "{cache} holds ranges of {held.samples} samples; that the loader still gives the same ones is not known"
)


def calibrate(onnx: Path, out: Path, options: CalibrateOptions) -> CalibrationReport:
    """Write the network `onnx` to `out` with Q/DQ pairs for INT8, and tell what that costs.

    Of the samples, in an order that follows from the seed, the first `options.samples` are calibrated with,
    and the next `options.evaluate` are those that INT8 is compared with FP32 on.

    Raises:
        RequestError: the network, the samples or an option is not right.
        WorkFailed: the network cannot be run, or gives NaN.
        AgreementTooLow: fewer samples than `options.min_agreement` keep their class. `out` is not touched
            then: what was made lies beside it, its name ending in ".rejected.onnx".
    """
    graph = read_graph(onnx)
    everything = place(graph)
    placement = keep(everything, graph, options.keep_fp16)
    _check_request(onnx, graph, placement, options)
    split = Split(
        open_source(options.data, graph.inputs, options.preprocess, options.seed), graph.inputs, options
    )
    cache, origin, notes = _ranges(onnx, graph, everything, split, options)
    int8 = quantised(graph, placement, cache.ranges)
    outputs, evaluated = compare_outputs(graph, int8, split.held_out())
    held_out = evaluated >= MIN_HELD_OUT
    if not held_out:
        outputs, evaluated = compare_outputs(graph, int8, split.seen())
    part = split.held_out() if held_out else split.seen()
    losses = layer_losses(graph, int8, placement, islice(part, LAYER_SAMPLES))
    accepted = _accepted(outputs, options)
    written = out if accepted else out.with_suffix(".rejected.onnx")
    save_model(int8, written)
    report = CalibrationReport(
        onnx=str(onnx),
        onnx_sha256=cache.onnx_sha256,
        out=str(written),
        out_sha256=file_sha256(written),
        method=options.method,
        samples=cache.samples,
        skipped=tuple(split.skipped.values()),
        cache=origin,
        quantised=len(placement.nodes),
        kept=placement.kept,
        evaluated=evaluated,
        evaluated_on="held-out samples" if held_out else "the calibration samples",
        outputs=outputs,
        worst_layers=losses,
        notes=(*notes, *_advice(graph, cache, outputs)),
    )
    if not accepted:
        raise AgreementTooLow(report, options.min_agreement or 0)
    return report


def _check_request(onnx: Path, graph: Graph, placement: Placement, options: CalibrateOptions) -> None:
    if not placement.edges:
        nothing = "it has no convolutions, matrix products or pooling in FP32 with constant weights"
        raise RequestError(
            f"nothing of {onnx.name} would be quantised",
            ("because", "--keep-fp16 keeps all that could be" if placement.kept else nothing),
            ("next", "build it in FP16 instead: trtkit build --precision fp16"),
        )
    if options.min_agreement is not None and all(len(spec.shape) != 2 for spec in graph.outputs):
        raise RequestError(
            "--min-agreement needs an output of two dimensions: rows and classes",
            ("because", f"the outputs are: {', '.join(map(str, graph.outputs))}"),
            ("next", "leave it out, and look at the SQNR in the report"),
        )


def _ranges(
    onnx: Path, graph: Graph, placement: Placement, split: Split, options: CalibrateOptions
) -> tuple[CalibrationCache, Literal["none", "written", "reused"], tuple[str, ...]]:
    """The ranges of all that could be quantised, from the cache if it fits; where from; notes on that.

    Also of nodes that --keep-fp16 keeps, so that the cache serves whatever the patterns are.
    """
    sha256, data_sha256 = network_sha256(onnx), split.calibration_sha256() if options.cache else None
    notes: tuple[str, ...] = ()
    held = read_cache(options.cache) if options.cache else None
    if held:
        misfit = held.misfit(sha256, data_sha256, options, placement.activations)
        if not misfit:
            return held, "reused", () if data_sha256 else (_UNSEEN.format(cache=options.cache, held=held),)
        notes = (f"{options.cache} was not used and is written anew: {misfit}",)
    ranges, samples = measure_ranges(
        graph, placement.activations, split.calibration(), options.method, options.percentile
    )
    cache = CalibrationCache(
        onnx_sha256=sha256,
        method=options.method,
        percentile=options.percentile if options.method == "percentile" else None,
        data_sha256=data_sha256,
        samples=samples,
        ranges=ranges,
    )
    if options.cache:
        write_cache(cache, options.cache)
    return cache, "written" if options.cache else "none", notes


def _accepted(outputs: tuple[OutputAccuracy, ...], options: CalibrateOptions) -> bool:
    agreements = [one.top1_agreement for one in outputs if one.top1_agreement is not None]
    return options.min_agreement is None or min(agreements, default=0) >= options.min_agreement


def _advice(graph: Graph, cache: CalibrationCache, outputs: tuple[OutputAccuracy, ...]) -> list[str]:
    notes = []
    if cache.samples < FEW_SAMPLES:
        notes.append(
            f"{cache.samples} samples: are they representative? "
            f"{ADVISED_SAMPLES} to {2 * ADVISED_SAMPLES} are usual"
        )
    compared = {one.name for one in outputs}
    notes += [
        f"the output {spec.name!r} was not compared: its shape in INT8 is another"
        for spec in graph.outputs
        if spec.name not in compared
    ]
    return notes
