"""Subjects against a reference, case by case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trtkit.build.onnx_file import read_onnx
from trtkit.errors import RequestError, TrtkitError, WorkFailed
from trtkit.runners import Runner, Tensors
from trtkit.runners.onnxruntime import OnnxRuntimeRunner
from trtkit.sidecar import file_sha256
from trtkit.tensors import Profile, TensorSpec
from trtkit.verify.bisect import Bisection, bisect
from trtkit.verify.cases import Case, cases
from trtkit.verify.comparison import Comparison, compare
from trtkit.verify.options import VerifyOptions
from trtkit.verify.pathology import MEANING, pathologies
from trtkit.verify.report import Check, Row, SubjectReport, VerifyReport, worst
from trtkit.verify.subject import Subject, open_subject
from trtkit.verify.tolerance import TOLERANCES, Tolerance


def verify(subjects: Sequence[Path], options: VerifyOptions) -> VerifyReport:
    """Compare engines (by their sidecars) and ONNX files with the reference.

    The shapes are those of the first engine's profile, and `options.shapes`. An engine is skipped where there
    is no GPU, and all that can be looked at without one is: its sidecar, its bytes, what it was built from,
    whether its profile covers the shapes. With `options.torch` the reference's ONNX file is a subject too.

    Raises:
        RequestError: a file cannot be read, inputs or outputs are not the reference's, shapes do not fit.
        WorkFailed: the reference cannot be run.
    """
    if options.reference is None and options.torch is None:
        raise RequestError(
            "there is nothing to compare with", ("next", "--reference FILE.onnx, the FP32 model")
        )
    if options.reference is not None and not options.reference.is_file():
        raise RequestError(
            f"there is no file {options.reference}", ("next", "name the FP32 model: --reference FILE.onnx")
        )
    if options.bisect and options.reference is None:
        raise RequestError("--bisect needs an ONNX file to compare with", ("next", "--reference FILE.onnx"))
    paths = [*([options.reference] if options.torch and options.reference else []), *subjects]
    if not paths:
        raise RequestError("there is nothing to verify", ("next", "name an engine or an ONNX file"))
    opened: list[Subject] = []
    try:
        opened.extend(open_subject(path, options.reference) for path in paths)
        reference = _reference(options, opened[0])
        try:
            return _compare_all(opened, reference, options)
        finally:
            reference.close()
    finally:
        for one in opened:
            if one.runner is not None:
                one.runner.close()


def _reference(options: VerifyOptions, first: Subject) -> Runner:
    if options.torch is None:
        assert options.reference is not None
        return OnnxRuntimeRunner(options.reference)
    from trtkit.runners.torch import TorchRunner

    return TorchRunner(options.torch, "fp32", inputs=first.inputs, outputs=first.outputs)


@dataclass
class _Progress:
    """What is known of a subject so far. failed: the case to bisect, its first that fails."""

    subject: Subject
    tolerance: Tolerance
    rows: list[Row] = field(default_factory=list)
    error: str = ""
    failed: Case | None = None


def _compare_all(subjects: Sequence[Subject], reference: Runner, options: VerifyOptions) -> VerifyReport:
    for subject in subjects:
        _check_same_tensors(subject, reference)
    profile: Profile = next((one.profile for one in subjects if one.profile), {})
    progress = [_Progress(one, _tolerance(one, options)) for one in subjects]
    notes: list[Check] = []
    for case in cases(reference.inputs, profile, options):
        expected = _run(reference, case)
        notes += _remarkable(case, expected)
        for one in progress:
            if one.subject.runner is not None and not one.error:
                _compare_case(one, case, expected, options)
    reports = [_report(one, options, subjects) for one in progress]
    name = options.torch or (options.reference.name if options.reference else "")
    return VerifyReport(reference=name, runner=reference.name, notes=tuple(notes), subjects=tuple(reports))


def _compare_case(one: _Progress, case: Case, expected: Tensors, options: VerifyOptions) -> None:
    assert one.subject.runner is not None
    try:
        computed = _run(one.subject.runner, case)
    except WorkFailed as error:
        because = error.fact("because")
        one.error = f"{case.name}: {error.problem}{f': {because}' if because else ''}"
        return
    for name, theirs in expected.items():
        comparison = compare(computed[name], theirs, one.tolerance, batched=_batched(case, theirs))
        row = Row(case=case.name, shapes=case.shapes, output=name, comparison=_judged(comparison, options))
        one.rows.append(row)
        if not row.comparison.within and one.failed is None:
            one.failed = case


def _judged(comparison: Comparison, options: VerifyOptions) -> Comparison:
    if comparison.within and options.top1 is not None and (comparison.top1 or 0.0) < options.top1:
        told = "none to compare" if comparison.top1 is None else f"{comparison.top1:.2%}"
        return replace(comparison, why=f"top-1 agreement {told}, asked for {options.top1:.2%}")
    return comparison


def _report(one: _Progress, options: VerifyOptions, subjects: Sequence[Subject]) -> SubjectReport:
    subject = one.subject
    bad = next((row for row in one.rows if not row.comparison.within), None)
    numbers = "failed" if one.error or bad else "passed" if one.rows else "skipped"
    status = worst([numbers, *(check.status for check in subject.checks)])
    reason = one.error
    if not reason and bad is not None:
        reason = f"{bad.output} at {bad.case}: {bad.comparison.why}"
    if not reason and status != "passed":
        reason = next((check.text for check in subject.checks if check.status == status), "")
    bisection, checks = None, subject.checks
    if options.bisect and one.failed is not None:
        try:
            bisection = _bisect(one, one.failed, options, subjects)
        except TrtkitError as error:  # what is known of the subject stays worth telling
            because = error.fact("because") or error.fact("next")
            text = f"not bisected: {error.problem}{f': {because}' if because else ''}"
            checks = (*checks, Check(name="bisect", status="note", text=text))
    return SubjectReport(
        file=subject.path.name,
        runner=subject.runner.name if subject.runner is not None else "",
        precision=subject.precision,
        tolerance=one.tolerance,
        status=status,
        reason=reason,
        checks=checks,
        rows=tuple(one.rows),
        bisected=one.failed.name if bisection and one.failed else None,
        bisection=bisection,
    )


def _bisect(one: _Progress, case: Case, options: VerifyOptions, subjects: Sequence[Subject]) -> Bisection:
    assert options.reference is not None
    # One batch of a file of samples is enough to see where it goes wrong.
    feeds = {name: value[: case.batch] if case.batch else value for name, value in case.feeds.items()}
    reference = read_onnx(options.reference).model
    if one.subject.model is not None:
        return bisect(one.subject.model, reference, feeds, one.tolerance)
    sidecar = one.subject.sidecar
    assert sidecar is not None
    candidates = [options.reference, *(other.path for other in subjects if other.model is not None)]
    built_from = next((path for path in candidates if file_sha256(path) == sidecar.onnx_sha256), None)
    if built_from is None:
        raise RequestError(
            f"--bisect of {one.subject.path.name} needs the ONNX file that it was built from",
            ("sha256", sidecar.onnx_sha256),
            ("next", "name that file too: trtkit verify ENGINE FILE.onnx --reference ... --bisect"),
        )
    from trtkit.verify.engine_tensors import engine_values

    model = read_onnx(built_from).model
    return bisect(model, reference, feeds, one.tolerance, values=engine_values(model, sidecar, feeds))


def _tolerance(subject: Subject, options: VerifyOptions) -> Tolerance:
    tolerance = TOLERANCES[subject.precision]
    return tolerance if options.cosine is None else replace(tolerance, cosine=options.cosine)


def _run(runner: Runner, case: Case) -> dict[str, NDArray[Any]]:
    """The outputs for all of a case's samples, in batches where it says so."""
    feeds = {spec.name: np.ascontiguousarray(case.feeds[spec.name], spec.dtype) for spec in runner.inputs}
    if case.batch is None:
        return runner.run(feeds)
    parts = [runner.run(part) for part in _batches(feeds, case.batch)]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}


def _batches(feeds: Tensors, batch: int) -> Iterator[dict[str, NDArray[Any]]]:
    rows = max(len(value) for value in feeds.values())
    for start in range(0, rows, batch):
        yield {name: value[start : start + batch] for name, value in feeds.items()}


def _batched(case: Case, output: NDArray[Any]) -> bool:
    """Whether `output` has a row for each sample, and the samples differ."""
    fed = [value for value in case.feeds.values() if value.ndim and len(value) == len(np.atleast_1d(output))]
    return output.ndim > 1 and any((value != value[:1]).any() for value in fed)


def _remarkable(case: Case, expected: Tensors) -> list[Check]:
    """What is wrong with the reference's own outputs on their face."""
    return [
        Check(
            name=one,
            status="note",
            text=f"the reference's own {name} at {case.name}: agreeing says little. {MEANING[one][0]}",
        )
        for name, value in expected.items()
        for one in pathologies(value, batched=_batched(case, value))
    ]


def _check_same_tensors(subject: Subject, reference: Runner) -> None:
    """Raises RequestError where inputs or outputs are not the reference's in name, kind or shape."""
    for what, ours, theirs in (
        ("inputs", subject.inputs, reference.inputs),
        ("outputs", subject.outputs, reference.outputs),
    ):
        known = {spec.name: spec for spec in theirs}
        if {spec.name for spec in ours} == set(known) and all(_alike(one, known[one.name]) for one in ours):
            continue
        raise RequestError(
            f"the {what} of {subject.path.name} are not the reference's",
            (subject.path.suffix.lstrip(".") or "subject", ", ".join(map(str, ours))),
            ("reference", ", ".join(map(str, theirs))),
            ("next", "give the ONNX file that it was made from as --reference"),
        )


def _alike(ours: TensorSpec, theirs: TensorSpec) -> bool:
    floats = {"float16", "float32", "float64", "bfloat16"}
    kinds = ours.dtype == theirs.dtype or {ours.dtype, theirs.dtype} <= floats
    sizes = len(ours.shape) == len(theirs.shape) and all(
        -1 in (one, other) or one == other for one, other in zip(ours.shape, theirs.shape, strict=True)
    )
    return kinds and sizes
