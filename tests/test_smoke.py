"""What did not run never counts as passed, however the runner ends."""

from __future__ import annotations

import io
import json
from typing import Any, cast
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from trtforge.engine.engine import Engine, RunResult
from trtforge.errors import BuildError
from trtforge.smoke import CheckResult, SmokeReport, as_json, as_junit, as_table, read_results, smoke


def line(**message: Any) -> str:
    return json.dumps({"smoke": message.pop("kind", "result"), **message}) + "\n"


def plan(*names: str) -> str:
    return line(kind="plan", checks=list(names))


def result(name: str, status: str = "passed", reason: str = "", **detail: Any) -> str:
    return line(name=name, status=status, reason=reason, seconds=0.5, detail=detail)


def report(stdout: str, code: int | None = 0, stderr: str = "") -> SmokeReport:
    return SmokeReport(image="x", results=read_results(RunResult(code, stdout, stderr), 60))


def statuses(report: SmokeReport) -> dict[str, str]:
    return {result.name: result.status for result in report.results}


def test_all_passed_or_skipped_with_a_reason_is_ok() -> None:
    good = report("welcome\n" + plan("a", "b") + result("a") + result("b", "skipped", "no GPU"))
    assert good.ok
    assert statuses(good) == {"a": "passed", "b": "skipped"}


@pytest.mark.parametrize(
    ("why", "stdout", "code"),
    [
        ("one failed", plan("a", "b") + result("a") + result("b", "failed", "x"), 1),
        ("one gave no result", plan("a", "b") + result("a"), 0),
        ("the last result is cut off", plan("a", "b") + result("a") + result("b")[:-9], 0),
        ("none ran", plan(), 0),
        ("all were skipped", plan("a") + result("a", "skipped", "no GPU"), 0),
        ("one was skipped without a reason", plan("a", "b") + result("a") + result("b", "skipped"), 0),
        ("nothing was said", "", 0),
        ("there is no plan", result("a"), 0),
        ("it crashed at the start", "Traceback ...", 1),
        ("it was killed after all results", plan("a") + result("a"), 137),
        ("its time was over", plan("a") + result("a"), None),
        ("it failed although all passed", plan("a") + result("a"), 1),
        ("a status is unknown", plan("a", "b") + result("a") + result("b", "fine"), 0),
        ("seconds are no number", plan("a") + result("a").replace("0.5", "NaN"), 0),
        ("the image has no Python", "", 127),
    ],
)
def test_anything_else_is_not(why: str, stdout: str, code: int | None) -> None:
    assert not report(stdout, code).ok, why


def test_a_killed_runner_is_reported_with_what_it_said_last() -> None:
    killed = report(plan("a", "b") + result("a") + "allocating\n", 137, "terminate called\n")
    assert statuses(killed) == {"a": "passed", "b": "failed", "runner": "failed"}
    runner = killed.results[-1]
    assert "memory" in runner.reason
    assert runner.detail["output"] == ["allocating", "terminate called"]


@given(
    st.lists(st.sampled_from(["passed", "skipped", "failed", "silent"]), max_size=6),
    st.sampled_from([0, 1, 2, 137, 139, None]),
)
def test_ok_means_that_every_planned_check_answered_and_one_passed(ends: list[str], code: int | None) -> None:
    names = [f"check{number}" for number in range(len(ends))]
    lines = [
        result(name, end, "because" * (end != "passed"))
        for name, end in zip(names, ends, strict=True)
        if end != "silent"
    ]
    good = set(ends) <= {"passed", "skipped"} and "passed" in ends and code == 0
    assert report(plan(*names) + "".join(lines), code).ok == good


@given(st.text(), st.sampled_from([0, 1, None]))
def test_no_output_whatever_is_an_error_of_ours(text: str, code: int | None) -> None:
    assert not report(text, code).ok
    assert not report('{"smoke":' + text, code).ok


class FakeEngine:
    """Answers `run` with a fixed result and remembers how it was asked."""

    def __init__(self, gpu: bool, run: RunResult | BuildError) -> None:
        self.gpu = gpu
        self.result = run
        self.asked: dict[str, Any] = {}

    def has_gpu(self) -> bool:
        return self.gpu

    def run(self, _ref: str, _command: list[str], **options: Any) -> RunResult:
        self.asked = options
        if isinstance(self.result, BuildError):
            raise self.result
        return self.result


GOOD = RunResult(0, plan("a") + result("a"), "")


@pytest.mark.parametrize(
    ("has", "wish", "given"),
    [(True, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_a_gpu_is_given_and_then_required(has: bool, wish: bool | None, given: bool) -> None:
    engine = FakeEngine(has, GOOD)
    assert smoke(cast("Engine", engine), "ref", gpu=wish).ok
    assert engine.asked["gpus"] is given
    assert engine.asked["environment"] == ({"SMOKE_WITH_GPU": "1"} if given else {})


def test_the_image_is_mounted_read_only_and_keeps_its_user_and_no_network() -> None:
    engine = FakeEngine(False, GOOD)
    smoke(cast("Engine", engine), "ref")
    assert engine.asked["read_only"]
    assert engine.asked.get("user") is None
    assert engine.asked.get("network", "none") == "none"


def test_an_image_that_cannot_be_started_has_failed() -> None:
    refusal = BuildError("could not run x", ("engine", 'exec: "python": executable file not found'))
    broken = smoke(cast("Engine", FakeEngine(False, refusal)), "ref")
    assert not broken.ok
    assert "executable file not found" in broken.results[0].detail["output"][0]


REPORT = SmokeReport(
    image="trtforge/tensorrt:1",
    results=(
        CheckResult(name="user", status="passed", reason="", seconds=0.1, detail={"uid": 1000}),
        CheckResult(name="gpu", status="skipped", reason="no GPU", seconds=0.2, detail={}),
        CheckResult(name="x", status="failed", reason="[1] < 2\x1b", seconds=0, detail={"output": ["\x00&"]}),
    ),
)


def test_the_table_shows_reasons_and_output_as_they_are() -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(as_table(REPORT))
    for text in ("user", "passed", "no GPU", "[1] < 2", "&"):
        assert text in out.getvalue()


def test_json_carries_the_verdict_and_reads_back() -> None:
    value = json.loads(as_json(REPORT))
    assert value.pop("ok") is False
    assert SmokeReport.model_validate(value) == REPORT


def test_junit_has_an_element_for_each_end() -> None:
    (suite,) = ElementTree.fromstring(as_junit([REPORT]))
    assert {key: suite.get(key) for key in ("tests", "failures", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "skipped": "1",
    }
    user, gpu, x = suite
    assert list(user) == []
    assert [(child.tag, child.get("message")) for child in gpu] == [("skipped", "no GPU")]
    assert [(child.tag, child.get("message"), child.text) for child in x] == [("failure", "[1] < 2", "&")]


@given(st.text(st.characters()))
def test_junit_is_xml_whatever_a_check_says(text: str) -> None:
    bad = CheckResult(name="x", status="failed", reason=text, seconds=0, detail={"output": [text]})
    ElementTree.fromstring(as_junit([SmokeReport(image="x", results=(bad,))]))
