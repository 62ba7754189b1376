from __future__ import annotations

import json
from datetime import date
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from trtforge.errors import RequestError
from trtforge.nightly.changes import Change, Changes
from trtforge.nightly.report import CellReport, Checks, Report, checks_of, joined, read_report, write_report
from trtforge.smoke import CheckResult, SmokeReport

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.nightly.report import Result

NUMPY = Change(
    package="numpy",
    kind="wheel",
    before="2.3.4",
    after="2.3.5",
    images=("pytorch-cuda",),
    cells=("a", "b"),
    notes="https://numpy.example/v2.3.5",
)
NO_GPU = Checks(passed=5, failed={}, skipped={"engine": "no GPU"})


def cell(name: str, result: Result, **more: object) -> CellReport:
    return CellReport(cell=name, result=result, why="numpy 2.3.4 -> 2.3.5", **more)  # type: ignore[arg-type]


NIGHT = Report(
    day=date(2026, 11, 23),
    namespace="registry.example/team",
    changes=Changes(packages=(NUMPY,), new_cells=("c",)),
    cells=(
        cell("a", "published", digest="sha256:1", tags=("a", "a-20261123"), size=99, size_before=88,
             pushed=2_000_000, checks=NO_GPU, seconds=130, attempts=1),
        cell("b", "failed", facts=(("wheel", "x|y <script>alert(1)</script>"),), attempts=2,
             nights=(date(2026, 11, 22), date(2026, 11, 23))),
    ),
    pruned=("tensorrt:a-20260101",),
)  # fmt: skip


def written(report: Report, folder: Path) -> tuple[str, str]:
    write_report(report, folder)
    return tuple((folder / f"report.{kind}").read_text() for kind in ("md", "html"))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("results", "ok", "summary"),
    [
        (["up to date", "up to date"], True, "nothing changed: 2 up to date"),
        (["up to date", "skipped"], True, "nothing changed: 1 skipped, 1 up to date"),
        (["published", "up to date"], True, "1 published, 1 up to date"),
        (["published", "failed"], False, "1 failed, 1 published"),
        (["held", "up to date"], False, "1 held, 1 up to date"),
        ([], True, "nothing changed"),
    ],
)
def test_a_held_cell_is_not_forgotten_and_a_skipped_one_no_failure(
    results: list[Result], ok: bool, summary: str
) -> None:
    report = Report(day=date(2026, 1, 1), cells=tuple(cell(str(i), one) for i, one in enumerate(results)))
    assert (report.ok, report.summary) == (ok, summary)


def test_people_read_what_changed_and_what_became_of_each_cell(tmp_path: Path) -> None:
    text, page = written(NIGHT, tmp_path)
    for one in (text, page):
        for said in (
            "1 failed, 1 published, 1 package changed",
            "numpy",
            "https://numpy.example/v2.3.5",
            "2.3.5",
            "a-20261123",
            "2 MB",
            "no GPU",
            "2026-11-22",
            "tensorrt:a-20260101",
        ):
            assert said in one, said
    assert "| numpy | 2.3.4 | [2.3.5](<https://numpy.example/v2.3.5>) | wheel | pytorch-cuda | 2 |" in text
    assert text.index("`b` | failed") < text.index("`a` | published")


def test_what_a_failure_says_cannot_break_the_page_or_the_table(tmp_path: Path) -> None:
    hostile = "</td><script>alert(1)</script> | x\n# y"
    night = NIGHT.model_copy(update={"cells": (cell("b", "failed").model_copy(update={"why": hostile}),)})
    text, page = written(night, tmp_path)
    assert "<script>" not in page + text
    (row,) = [line for line in text.splitlines() if line.startswith("| `b`")]
    assert row.replace("\\|", "").count("|") == 8


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    _, page = written(NIGHT, tmp_path)
    seen, opened = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            seen.append(tag)
            assert not {"src", "srcset"} & dict(attributes).keys()
            if tag not in ("meta", "br", "link"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Reader().feed(page)
    assert opened == []
    assert "link" not in seen
    assert "prefers-color-scheme: dark" in page


def test_machines_read_it_back_and_reports_of_parts_join(tmp_path: Path) -> None:
    written(NIGHT, tmp_path)
    assert read_report(tmp_path / "report.json") == NIGHT
    told = json.loads((tmp_path / "report.json").read_text())
    assert (told["ok"], told["summary"]) == (False, NIGHT.summary)
    lock = NIGHT.model_copy(update={"cells": (), "namespace": "", "pruned": ()})
    parts = [NIGHT.model_copy(update={"cells": (one,), "changes": Changes()}) for one in NIGHT.cells]
    assert joined([lock, *parts]) == NIGHT


@pytest.mark.parametrize("order", [1, -1])
def test_a_cell_of_which_no_job_reports_has_failed(order: int) -> None:
    plan = Report(day=NIGHT.day, cells=(cell("a", "to publish"), cell("b", "to publish"), cell("c", "held")))
    done = Report(day=NIGHT.day, cells=(cell("a", "published"),))
    whole = {one.cell: one for one in joined([plan, done][::order]).cells}
    assert {name: one.result for name, one in whole.items()} == {"a": "published", "b": "failed", "c": "held"}
    assert whole["b"].why == "no job reported of it"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"day": 7}'])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(RequestError, match="no report of a night"):
        read_report(tmp_path / "report.json")


def test_smoke_results_in_short() -> None:
    results = tuple(
        CheckResult(name=name, status=status, reason=reason, seconds=1, detail={})  # type: ignore[arg-type]
        for name, status, reason in [("a", "passed", ""), ("b", "skipped", "no GPU"), ("c", "failed", "bad")]
    )
    found = checks_of(SmokeReport(image="x", results=results))
    assert found == Checks(passed=1, failed={"c": "bad"}, skipped={"b": "no GPU"})
