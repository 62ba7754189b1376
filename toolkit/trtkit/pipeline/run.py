"""A pipeline, step after step."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from trtkit.bench.report import BenchReport
from trtkit.calibrate.report import CalibrationReport
from trtkit.errors import EnvironmentLack, RequestError
from trtkit.export.report import ExportReport
from trtkit.pipeline.budgets import hold
from trtkit.pipeline.report import Action, PipelineReport, StepResult
from trtkit.pipeline.spec import EngineSpec, PipelineSpec
from trtkit.pipeline.state import Done, key_of, remember, remembered
from trtkit.pipeline.steps import (
    Files,
    Made,
    Step,
    bench_step,
    build_step,
    calibrate_step,
    export_step,
    verify_step,
)
from trtkit.sidecar import Sidecar, file_sha256
from trtkit.verify.report import VerifyReport

Report = TypeVar("Report", bound=BaseModel)


def run_pipeline(
    spec: PipelineSpec,
    work: Path,
    *,
    again: bool = False,
    begun: Callable[[str], None] = lambda _said: None,
    ended: Callable[[StepResult], None] = lambda _result: None,
) -> PipelineReport:
    """Do what is not done yet of `spec`, in the folder `work`, which is made if it is not there.

    A step that this machine cannot do (an engine of the full TensorRT without a GPU) is skipped, and what
    needs it goes on without. Broken off, the next run goes on from the last finished step.

    Args:
        again: do every step, whatever is there.
        begun: told what is being done. ended: told of each step.

    Raises:
        TrtkitError: a step failed; what the steps before it made stays.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RequestError(f"{work} is no folder", ("next", "give another one with --work")) from None
    try:
        with FileLock(work / ".lock", timeout=0):
            return _Run(spec, work, again, begun, ended).run()
    except Timeout:
        raise RequestError(
            f"another pipeline runs in {work}", ("next", "wait for it, or give another folder with --work")
        ) from None


class _Run:
    """One run: the steps and what came of them."""

    def __init__(
        self,
        spec: PipelineSpec,
        work: Path,
        again: bool,
        begun: Callable[[str], None],
        ended: Callable[[StepResult], None],
    ) -> None:
        self._spec, self._work, self._again = spec, work, again
        self._begun, self._ended = begun, ended
        self._files = Files(work, spec.name)
        self._results: list[StepResult] = []

    def run(self) -> PipelineReport:
        spec, files = self._spec, self._files
        exported = self._do(export_step(spec, files), ExportReport)
        calibrated = self._do(calibrate_step(spec, files), CalibrationReport) if spec.calibrate else None
        engines = tuple(files.engine(one) for one in spec.engines if self._build(one))
        verified = measured = None
        if engines or spec.calibrate:
            verified = self._do(verify_step(engines, spec, files), VerifyReport)
        if spec.bench:
            measured = self._do(bench_step(engines, spec, files), BenchReport)
        return PipelineReport(
            name=spec.name,
            steps=tuple(self._results),
            budgets=hold(spec.budgets, calibrated, measured),
            export=exported,
            calibrate=calibrated,
            verify=verified,
            bench=measured,
        )

    def _build(self, engine: EngineSpec) -> bool:
        """Build it; whether it is there then."""
        step, start = build_step(self._spec, engine, self._files), time.monotonic()
        try:
            self._do(step, Sidecar)
        except EnvironmentLack as error:
            self._tell(step, "skipped", error.problem, start)
            return False
        return True

    def _do(self, step: Step, kind: type[Report]) -> Report:
        """The report of `step`, which is done unless nothing that decides it has changed."""
        start, key = time.monotonic(), key_of(step.facts)
        done = None if self._again else remembered(self._work, step.name, key)
        if done is not None:
            with suppress(ValidationError):  # written by hand, or damaged: it is done again
                kept = kind.model_validate(done.report)
                self._tell(step, "unchanged", done.says, start)
                return kept
        self._begun(step.name)
        made: Made = step.make(lambda said: self._begun(f"{step.name}: {said}"))
        files = {path.name: file_sha256(path) for path in made.files}
        report = made.report.model_dump(mode="json")
        remember(self._work, step.name, Done(key=key, files=files, says=made.says, report=report))
        self._tell(step, "done", made.says, start)
        return kind.model_validate(report)

    def _tell(self, step: Step, action: Action, says: str, start: float) -> None:
        result = StepResult(name=step.name, action=action, says=says, seconds=time.monotonic() - start)
        self._results.append(result)
        self._ended(result)
