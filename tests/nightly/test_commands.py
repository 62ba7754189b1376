from __future__ import annotations

from typing import TYPE_CHECKING

from tests.nightly.test_report import NIGHT
from tests.test_cli import root, type_  # noqa: F401 (fixtures)
from trtforge.nightly.report import read_report, write_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.test_cli import Said


def test_reports_are_joined_and_end_as_one_night_would(
    type_: Callable[[str], Said],  # noqa: F811
    tmp_path: Path,
) -> None:
    for number, cell in enumerate(NIGHT.cells):
        write_report(NIGHT.model_copy(update={"cells": (cell,)}), tmp_path / "parts" / str(number))
    said = type_(f"report {tmp_path}/parts --output {tmp_path}/whole")
    assert (said.code, said.err) == (1, "")
    assert NIGHT.summary in said.out
    assert read_report(tmp_path / "whole" / "report.json") == NIGHT
    good = NIGHT.model_copy(update={"cells": NIGHT.cells[:1]})
    write_report(good, tmp_path / "parts" / "1")
    assert type_(f"report {tmp_path}/parts/1 --output {tmp_path}/whole --json").answer["seconds"] == 0


def test_a_folder_without_reports_is_refused(type_: Callable[[str], Said], tmp_path: Path) -> None:  # noqa: F811
    said = type_(f"report {tmp_path}")
    assert said.code == 2
    assert "no report.json" in said.err


def test_a_refresh_is_of_the_whole_lock(type_: Callable[[str], Said]) -> None:  # noqa: F811
    for words in ("--upgrade", "--cuda 12.1 --arch ampere"):
        said = type_(f"lock --refresh {words}")
        assert said.code == 2
        assert "by the matrix's policy" in said.err


def test_the_published_cells_as_jobs(type_: Callable[[str], Said]) -> None:  # noqa: F811
    said = type_("plan --github-matrix --cuda 12.1")
    found = [(job["cuda"], job["arch"], job["variant"], job["code"]) for job in said.answer["include"]]
    assert found == [
        ("12.1", "ampere,turing,ada", "runtime", "all"),
        ("12.1", "ampere,turing,ada", "serve", "all"),
        ("12.1", "ampere,ada", "runtime", "slim"),
        ("12.1", "ampere", "jupyter", "all"),
        ("12.1", "ampere", "ssh", "all"),
        ("12.1", "ampere", "deploy", "all"),
    ]
    assert len(said.out.splitlines()) == 1  # one line, for $GITHUB_OUTPUT
