"""`trtkit calibrate` as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.calibrate import networks
from trtkit.cli import main


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the working directory, beside data.npy: 60 samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    np.save("data.npy", np.random.default_rng(3).standard_normal((60, 8), np.float32))
    return networks.sensitive(Path("net.onnx"))


def trtkit(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.usefixtures("network")
class TestCommand:
    def test_it_tells_what_it_did_and_what_loses_most(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert trtkit("net.onnx", "--data", "data.npy", "--samples", "40", "--method", "minmax") == 0
        assert Path("net.int8.onnx").is_file()
        told = capsys.readouterr().out
        for text in ("minmax, 40 samples", "held-out samples", "--keep-fp16 'fragile'", "representative?"):
            assert text in told

    def test_json_is_one_document_and_nothing_else(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert trtkit("net.onnx", "--data", "data.npy", "--samples", "40", "-o", "q.onnx", "--json") == 0
        printed = capsys.readouterr()
        report = json.loads(printed.out)
        assert report["out"] == "q.onnx"
        assert report["samples"] == 40
        assert not printed.err

    def test_too_little_agreement_exits_1_after_the_report(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert trtkit("net.onnx", "--data", "data.npy", "--method", "minmax", "--min-agreement", "1") == 1
        printed = capsys.readouterr()
        assert "loses most" in printed.out
        assert "net.int8.rejected.onnx" in printed.err

    @pytest.mark.parametrize(
        "arguments",
        [
            ("missing.onnx", "--data", "data.npy"),
            ("net.onnx", "--data", "missing"),
            ("net.onnx", "--data", "data.npy", "--keep-fp16", "nothing"),
            ("net.onnx", "--data", "data.npy", "--samples", "0"),
            ("net.onnx", "--data", "data.npy", "--cache", "net.onnx"),
            ("net.onnx", "--data", "data.npy", "--cache", "."),
            ("net.onnx", "--data", "data.npy", "--preprocess", "net.onnx"),
            ("net.onnx", "--data", "data.npy", "--preprocess", "missing.json"),
            ("net.onnx", "--data", "data.npy", "--calibrator"),
            ("net.onnx",),
        ],
    )
    def test_a_wrong_request_exits_2_with_what_to_do(
        self, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert trtkit(*arguments) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("error: ")
        assert "\n  next " in printed.err
        assert "Traceback" not in printed.err
        assert not Path("net.int8.onnx").exists()
