"""The command: exit codes, and what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.verify.networks import in_fp16, overflowing, save
from trtkit.cli import main
from trtkit.devices import gpus
from trtkit.verify import VerifyReport


def trtkit(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trtkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(bool(gpus()), reason="tells what happens without a GPU")
def test_the_exit_code_is_0_for_what_is_skipped_and_3_if_a_gpu_is_required(built: Path) -> None:
    arguments = ("verify", built / "model.engine", "--reference", built / "model.onnx")
    done = trtkit(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "skipped: no GPU" in done.stdout
    required = trtkit(*arguments, "--require-gpu")
    assert required.returncode == 3
    assert "model.engine: no GPU" in required.stderr


def test_the_exit_code_is_1_for_what_fails_and_the_layer_is_printed(tmp_path: Path) -> None:
    reference = save(overflowing(), tmp_path / "model.onnx")
    subject = save(in_fp16(overflowing()), tmp_path / "model.fp16.onnx")
    done = trtkit("verify", subject, "--reference", reference, "--bisect")
    assert (done.returncode, done.stderr) == (1, "")
    assert "first to go wrong: Mul_big (Mul)" in done.stdout
    assert "overflow in FP16" in done.stdout


def test_json_is_one_document_and_nothing_else(reference: Path) -> None:
    done = trtkit("verify", reference, "--reference", reference, "--json")
    told = json.loads(done.stdout)
    assert told["status"] == "passed"
    assert VerifyReport.model_validate(told).status == "passed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("model.engine -r missing.onnx", "missing.onnx"),
        ("missing.engine -r model.onnx", "missing.engine"),
        ("model.onnx -r model.onnx --data missing.npz", "missing.npz"),
        ("model.onnx", "nothing to compare with"),
        (". -r model.onnx", "there is no file ."),
        ("model.onnx -r .", "there is no file ."),
    ],
)
def test_what_is_missing_is_a_wrong_request(
    arguments: str,
    said: str,
    built: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(built)
    with pytest.raises(SystemExit) as ended:
        main(["verify", *arguments.split()])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_picture_into_a_missing_folder_is_a_wrong_request(
    reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(reference), "--svg", "missing/net.svg"])
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert "there is no folder missing" in shown.err
    assert shown.out == ""
