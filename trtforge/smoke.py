"""Run an image's smoke tests (`smoke/`, in the image at /opt/smoke) and read what they say.

Three results: passed, failed, skipped with a reason. What did not run never counts as passed: an image that
says nothing, or whose runner is killed half-way, has failed.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.markup import escape
from rich.table import Table

from trtforge.engine.engine import RunResult
from trtforge.errors import BuildError
from trtforge.progress import ignore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trtforge.engine.engine import Engine
    from trtforge.progress import Advance

FOLDER = "/opt/smoke"
TAIL = 15
"""Lines of the image's output that a report of a broken runner shows."""

RUNNER = "runner"
"""The name of the result that speaks of the runner itself."""


class CheckResult(BaseModel):
    """What one check said.

    reason: why it failed or was skipped; "" if it passed.
    seconds: its run time. detail: what it saw (versions, sizes), or the last lines of its output.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    name: str
    status: Literal["passed", "failed", "skipped"]
    reason: str
    seconds: float
    detail: dict[str, Any]


class SmokeReport(BaseModel):
    """What all checks of an image said, in the order they ran."""

    model_config = ConfigDict(frozen=True)

    image: str
    results: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """No check failed, and at least one passed: where nothing could run, nothing is known."""
        return self.count("failed") == 0 and self.count("passed") > 0

    def count(self, status: Literal["passed", "failed", "skipped"]) -> int:
        """How many checks ended so."""
        return sum(result.status == status for result in self.results)


def smoke(
    engine: Engine,
    ref: str,
    gpu: bool | None = None,
    timeout_s: float = 1800,
    advance: Advance = ignore,
) -> SmokeReport:
    """Run the smoke tests of the image `ref`: as its own user, without network, mounted read-only.

    Args:
        gpu: give it a GPU (and then finding none inside is a failure)? None: if the Engine has one.
        timeout_s: seconds for all checks together.
        advance: called about once a second; if it raises, the tests are ended.

    Returns:
        The report; an image that cannot even be started (no Python in it, say) has a failed one.

    Raises:
        EnvironmentLack: the Engine went away, or `gpu` is True and it has none.
    """
    with_gpu = engine.has_gpu() if gpu is None else gpu
    try:
        run = engine.run(
            ref,
            [],
            entrypoint=["python", FOLDER],
            gpus=with_gpu,
            environment={"SMOKE_WITH_GPU": "1"} if with_gpu else {},
            read_only=True,
            tmpfs={"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # what a check compiles is run
            timeout_s=timeout_s,
            advance=advance,
        )
    except BuildError as error:
        run = RunResult(127, "", error.fact("engine") or error.problem)
    return SmokeReport(image=ref, results=read_results(run, timeout_s))


def read_results(run: RunResult, timeout_s: float) -> tuple[CheckResult, ...]:
    """The results in a runner's output (format: smoke/runner.py); each planned check has one.

    A check without an answer has failed, and so has a runner that did not end as it should.
    """
    planned: list[str] = []
    results: dict[str, CheckResult] = {}
    for line in run.stdout.splitlines():
        message = _message(line)
        if message.get("smoke") == "plan":
            planned = [str(name) for name in message.get("checks", [])]
        elif message.get("smoke") == "result":
            result = _result(message)
            results[result.name] = result
    for name in planned:
        results.setdefault(name, _failed(name, "gave no result", run))
    answered = any(result.status == "failed" for result in results.values())
    if trouble := _trouble(run, timeout_s, bool(planned), answered):
        results[RUNNER] = _failed(RUNNER, trouble, run)
    return tuple(results.values())


def _trouble(run: RunResult, timeout_s: float, planned: bool, failures: bool) -> str | None:
    """What is wrong with how the runner itself ended; it exits with 1 if a check failed, else with 0."""
    if run.exit_code is None:
        return f"ended after {timeout_s:g} s: the checks were not done"
    if run.exit_code == 137:
        return "killed (exit code 137), most often because memory ran out"
    if run.exit_code not in (0, 1) or (run.exit_code == 1) != failures:
        return f"the smoke tests ended with exit code {run.exit_code}"
    return None if planned else "no check ran"


def _message(line: str) -> dict[str, Any]:
    if not line.startswith('{"smoke":'):
        return {}
    try:
        return dict(json.loads(line))
    except ValueError:  # cut off when the container was killed
        return {}


def _result(message: dict[str, Any]) -> CheckResult:
    try:
        result = CheckResult.model_validate(message)
    except ValidationError as error:
        name = str(message.get("name", "unnamed"))
        return CheckResult(name=name, status="failed", reason=f"unreadable: {error}", seconds=0, detail={})
    if result.status == "skipped" and not result.reason:
        return result.model_copy(update={"status": "failed", "reason": "skipped without a reason"})
    return result


def _failed(name: str, reason: str, run: RunResult) -> CheckResult:
    output = [line for line in (run.stdout + run.stderr).splitlines() if not _message(line)]
    return CheckResult(
        name=name, status="failed", reason=reason, seconds=0, detail={"output": output[-TAIL:]}
    )


def as_table(report: SmokeReport) -> Table:
    """The report for a terminal; the output of what failed stands below its reason."""
    table = Table(title=report.image, title_justify="left", box=None, pad_edge=False)
    for column in ("check", "result", "time", ""):
        table.add_column(column, justify="right" if column == "time" else "left")
    colours = {"passed": "green", "failed": "red", "skipped": "yellow"}
    for result in report.results:
        output = result.detail.get("output", []) if result.status == "failed" else []
        text = "\n".join([result.reason, *(f"  {line}" for line in output)])
        status = f"[{colours[result.status]}]{result.status}[/]"
        table.add_row(result.name, status, f"{result.seconds:.1f} s", escape(text))
    return table


def as_json(report: SmokeReport) -> str:
    """The report as JSON, with the verdict."""
    return json.dumps({**report.model_dump(), "ok": report.ok}, indent=2)


def as_junit(reports: Iterable[SmokeReport]) -> str:
    """The reports as JUnit XML, as CI systems read it: one suite an image, one case a check."""
    suites = ElementTree.Element("testsuites")
    suites.extend(map(_suite, reports))
    return str(ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True), "utf-8")


def _suite(report: SmokeReport) -> ElementTree.Element:
    suite = ElementTree.Element(
        "testsuite",
        name=report.image,
        tests=str(len(report.results)),
        failures=str(report.count("failed")),
        skipped=str(report.count("skipped")),
        time=f"{math.fsum(result.seconds for result in report.results):.3f}",
    )
    for result in report.results:
        case = ElementTree.SubElement(
            suite, "testcase", classname="smoke", name=result.name, time=f"{result.seconds:.3f}"
        )
        if result.status != "passed":
            kind = "failure" if result.status == "failed" else "skipped"
            verdict = ElementTree.SubElement(case, kind, message=_xml_safe(result.reason))
            verdict.text = _xml_safe("\n".join(map(str, result.detail.get("output", []))))
    return suite


def _xml_safe(text: str) -> str:
    """`text` without the characters that XML 1.0 cannot hold (terminal colours, for one)."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)
