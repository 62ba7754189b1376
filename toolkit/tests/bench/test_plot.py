"""The picture: an SVG that is the same for the same numbers."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench.reports import report, result
from trtkit.bench.plot import write_plot
from trtkit.bench.report import BenchReport, Row

SVG = "{http://www.w3.org/2000/svg}"


def drawn(found: BenchReport, path: Path) -> str:
    write_plot(found, path)
    return path.read_text("utf-8")


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    assert drawn(report(), tmp_path / "a.svg") == drawn(report(), tmp_path / "b.svg")


def test_another_number_gives_another_picture(tmp_path: Path) -> None:
    changed = report(rows=(Row(title="PyTorch FP32", status="ran", batches=(result(1, 7), result(4, 20))),))
    assert drawn(report(), tmp_path / "a.svg") != drawn(changed, tmp_path / "b.svg")


@pytest.mark.parametrize(
    "found",
    [
        report(),
        report(gpu=False),
        report(rows=(Row(title="x", status="ran", batches=(result(1, 1),)),)),
        report(rows=(Row(title="x", status="skipped", reason="no GPU"),)),
    ],
    ids=["all", "cpu", "one row", "none"],
)
def test_it_is_valid_svg_without_a_date(found: BenchReport, tmp_path: Path) -> None:
    text = drawn(found, tmp_path / "plot.svg")
    assert ElementTree.fromstring(text).tag == f"{SVG}svg"
    assert "dc:date" not in text


def test_a_row_is_drawn_for_each_that_ran(tmp_path: Path) -> None:
    root = ElementTree.fromstring(drawn(report(), tmp_path / "plot.svg"))
    drawn_lines = [one for one in root.iter(f"{SVG}g") if (one.get("id") or "").startswith("LineCollection")]
    assert len(drawn_lines) == 2 * 4  # thin and thick, for four rows of five
