"""`trtkit bench`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.test_options import network
from trtkit.bench import BenchReport
from trtkit.cli import main

BRIEF = ("--rounds", "2", "--seconds", "0.02")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    return int(ended.value.code or 0)


def test_the_table_and_every_file_that_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = str(network(tmp_path / "x.onnx", ["batch", 4]))
    files = {kind: tmp_path / f"bench.{kind}" for kind in ("json", "markdown", "plot")}
    asked = [word for kind, file in files.items() for word in (f"--{kind}", str(file))]
    assert run("--onnx", onnx, "--batch", "1,2", *BRIEF, *asked) == 0
    out = capsys.readouterr().out
    assert "ONNX Runtime CPU" in out
    assert "PyTorch FP32: skipped: no PyTorch model was given" in out
    report = BenchReport.model_validate_json(files["json"].read_bytes())
    assert [result.batch for result in report.row("ONNX Runtime CPU").batches] == [1, 2]
    assert files["markdown"].read_text("utf-8").startswith("# Benchmark")
    assert "<svg" in files["plot"].read_text("utf-8")


def test_json_on_stdout_is_all_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--onnx", str(network(tmp_path / "x.onnx", ["batch", 4])), *BRIEF, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["reference"] == "ONNX Runtime CPU"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "there is nothing to measure"),
        (["--onnx", "x.onnx", "--batch", "1,x"], "not a list of batch sizes"),
        (["--onnx", "x.onnx", "--batch", "0"], "batch sizes are 1 or more"),
        (["--onnx", "absent.onnx"], "there is no ONNX file absent.onnx"),
        (["--engine", "absent.engine"], "has no sidecar"),
    ],
)
def test_a_wrong_request_is_told(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert says in capsys.readouterr().err


def test_where_nothing_could_run_that_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # An ONNX file that names an operator which nobody has: its rows fail.
    path = network(tmp_path / "x.onnx", ["batch", 4])
    path.write_bytes(path.read_bytes().replace(b"Mul", b"Mux"))
    assert run("--onnx", str(path), *BRIEF) == 1
    captured = capsys.readouterr()
    assert "ONNX Runtime CPU: failed: ONNX Runtime cannot load x.onnx" in captured.out
    assert "error: failed: ONNX Runtime CPU" in captured.err
