"""The report, as people read it."""

from __future__ import annotations

import io

from rich.console import Console

from tests.bench.reports import report
from trtkit.bench.report import BenchReport
from trtkit.bench.table import markdown, not_run, terminal_table, wrong


def printed(found: BenchReport, width: int | None = None) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=width is not None, width=width or 80, color_system=None)
    console.print(terminal_table(found, console), crop=False)
    return file.getvalue()


def test_the_table_has_a_line_for_each_row_and_batch_in_locked_order() -> None:
    lines = printed(report()).splitlines()[1:]
    titles = [line[7:].split("  ")[0] for line in lines]
    first = ["PyTorch FP32", "ONNX Runtime CPU", "TensorRT FP16", "TensorRT INT8"]
    assert titles == [*first, "PyTorch FP32", "ONNX Runtime CPU"]


def test_numbers_stand_under_their_heads_and_nothing_is_cut_off() -> None:
    head, line, *_ = printed(report()).splitlines()
    assert " ".join(line.split()) == (
        "1 PyTorch FP32 9.60 8.00 16.0 16.0 104 1.00 4.00 87 734 315 +0.0 0.99999 1.0"
    )
    # Right-aligned: a number ends where its head does.
    for name, number in (("mean ms", "9.60"), ("QPS", "104"), ("GPU MB", "734"), ("noise %", "1.0")):
        end = head.index(name) + len(name)
        assert line[:end].endswith(number)
    assert "…" not in printed(report())


def test_a_narrow_terminal_keeps_the_columns_that_rows_are_judged_by() -> None:
    text = printed(report(), 90)
    assert all(len(line) <= 90 for line in text.splitlines())
    for head in ("mean ms", "P99", "QPS", "x FP32", "GPU %", "GPU MB", "cosine"):
        assert head in text
    assert "noise" not in text


def test_columns_that_nobody_fills_are_not_there() -> None:
    text = printed(report(gpu=False))
    assert "GPU" not in text
    assert "device" not in text
    assert "host MB" in text


def test_a_leak_and_wrong_outputs_are_marked() -> None:
    text = printed(report())
    assert "+83.9!" in text
    assert "0.40000!" in text
    assert list(wrong(report())) == ["TensorRT INT8, batch 1: the outputs are wrong: cosine 0.4"]


def test_every_row_without_all_its_numbers_says_why() -> None:
    assert list(not_run(report())) == [
        "PyTorch FP16: skipped: no GPU",
        "TensorRT FP16, batch 4: failed: the GPU is out of memory",
    ]


def test_markdown_tells_the_machine_the_numbers_and_what_is_missing() -> None:
    text = markdown(report())
    assert "Some GPU, SM86, driver 570.1" in text
    assert "torch 2.9.1" in text
    assert "Note: the cores were 50 % busy before the first row." in text
    assert "| TensorRT INT8 | 2.40 |" in text
    assert "* PyTorch FP16: skipped: no GPU" in text
    assert markdown(report()) == text
