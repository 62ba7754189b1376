"""The ONNX file against PyTorch: the same inputs through both, at several batch sizes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trtkit.errors import RequestError, WorkFailed
from trtkit.export.call import Call
from trtkit.export.options import ExportOptions
from trtkit.export.reference import Reference, shapes_text
from trtkit.export.report import Compared
from trtkit.runners.onnxruntime import OnnxRuntimeRunner
from trtkit.tensors import Shape
from trtkit.verify.comparison import compare as compare_tensors
from trtkit.verify.tolerance import TOLERANCES, Tolerance


class ComparisonFailed(WorkFailed):
    """The ONNX file computes something else than PyTorch. comparisons: all that were made."""

    def __init__(self, comparisons: tuple[Compared, ...]) -> None:
        self.comparisons = comparisons
        wrong = next(one for one in comparisons if not one.within)
        right = [shapes_text(one.shapes) for one in comparisons if one.within]
        super().__init__(
            "the ONNX file computes something else than PyTorch",
            ("at", shapes_text(wrong.shapes)),
            *((name, output.why) for name, output in wrong.outputs.items() if not output.within),
            *([("equal", "at " + "; ".join(right))] if right else []),
            ("next", "another --opset or --exporter; --tolerance, if this is near enough for the model"),
        )


def allowed(outputs: Iterable[NDArray[Any]], asked: float | None) -> Tolerance:
    """What the outputs may differ by: as `asked`, or as two implementations in their type do."""
    if asked is not None:
        return Tolerance(asked, asked, 1 - asked, 1.0, "asked for")
    return TOLERANCES["fp16" if any(output.dtype == np.float16 for output in outputs) else "fp32"]


def cases(call: Call, options: ExportOptions) -> list[dict[str, Shape]]:
    """The shapes to compare at: each batch size, and what was asked for besides."""
    sized = [call.sized(dict.fromkeys(call.batches(), batch)) for batch in options.batches]
    shapes = sized if call.batches() else [call.shapes]
    for further in options.compare:
        if unknown := set(further) - set(call.shapes):
            raise RequestError(f"there is no input {unknown.pop()!r}", ("inputs", ", ".join(call.shapes)))
        shapes.append({**call.shapes, **further})
    return shapes


def compare(
    onnx: Path, reference: Reference, call: Call, options: ExportOptions, tolerance: Tolerance
) -> tuple[Compared, ...]:
    """Compare at all `cases`, with ONNX Runtime on the CPU.

    Raises:
        ComparisonFailed: an output differs by more than it may.
        WorkFailed: ONNX Runtime cannot run the file at one of the shapes.
        RequestError: PyTorch cannot.
    """
    runner = OnnxRuntimeRunner(onnx)
    taken = {spec.name for spec in runner.inputs}
    made = []
    for shapes in cases(call, options):
        feeds = call.feeds(shapes)
        want = reference.run(feeds)
        try:
            have = runner.run({name: feed for name, feed in feeds.items() if name in taken})
        except WorkFailed as error:
            raise WorkFailed(
                f"the ONNX file does not run at {shapes_text(shapes)}, where PyTorch does",
                *error.facts,
                ("next", "it takes a size for a fixed number: use x.shape[0] or -1 there, or --static"),
            ) from error
        compared = {name: compare_tensors(have[name], want[name], tolerance) for name in want}
        made.append(Compared(shapes=shapes, outputs=compared))
    runner.close()
    if not all(one.within for one in made):
        raise ComparisonFailed(tuple(made))
    return tuple(made)
