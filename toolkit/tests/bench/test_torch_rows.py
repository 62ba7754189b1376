"""PyTorch beside ONNX Runtime: an exported model gives the same answers in both."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtkit.bench import BenchOptions, run_bench

pytestmark = pytest.mark.torch

NETWORK = """
import torch

def net():
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    return torch.nn.Sequential(*layers), torch.zeros(1, 3, 8, 8)
"""


def test_rows_agree_on_the_outputs_of_an_exported_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")  # compiling takes a minute, and is tested with its runner
    from trtkit.export import ExportOptions, export_onnx

    source = tmp_path / "net.py"
    source.write_text(NETWORK)
    model, onnx = f"{source}:net", tmp_path / "net.onnx"
    export_onnx(model, onnx, ExportOptions.model_validate({"batches": (1,)}))
    options = BenchOptions(
        model=model, onnx=onnx, batches=(1, 2), rounds=2, round_seconds=0.05, warm_up_seconds=0.1
    )
    report = run_bench(options)
    assert report.reference == "PyTorch FP32"
    for title in ("PyTorch FP32", "ONNX Runtime CPU"):
        assert report.row(title).status == "ran", report.row(title).reason
        for result in report.row(title).batches:
            assert result.cosine == pytest.approx(1, abs=1e-5)
            assert not result.disagreement
    compiled = report.row("torch.compile FP32")
    if report.machine.gpu is None:
        assert (compiled.status, compiled.reason) == (
            "skipped",
            "torch.compile needs a C++ compiler: no-such-compiler is not here",
        )
