"""`trtkit build`, as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_network import convolutional, network, save
from trtkit.cli import main
from trtkit.sidecar import Sidecar, read_sidecar


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save(convolutional(), tmp_path / "conv.onnx")
    return tmp_path


def build(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["build", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_it_builds_beside_the_file_and_shows_what_was_built(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("conv.onnx", "--sm", "80,86", "--must-cover", "image:16x4x16x16") == 0
    assert read_sidecar(folder / "conv.fp16.engine").sms == ("80", "86")
    shown = capsys.readouterr()
    for told in (
        "conv.fp16.engine",
        "FP16",
        "SM 80, 86",
        "1x4x16x16 / 4x4x16x16 / 8x4x16x16",
        "16x4x16x16 is outside",
    ):
        assert told in shown.out
    assert shown.err == ""


def test_every_option_reaches_the_engine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "labels.txt").write_text("cat\ndog\n")
    (folder / "images.json").write_text('{"resize": 16, "crop": 16}')
    options = """
        --out made/net.engine --precision fp32 --workspace 512MB --sm 89 --optimisation-level 1
        --min-shapes image:1x4x16x16 --opt-shapes image:2x4x16x16 --max-shapes image:3x4x16x16
        --labels labels.txt --preprocess images.json --io-types keep --json
    """
    assert build("conv.onnx", *options.split()) == 0
    shown = capsys.readouterr()
    sidecar = Sidecar.model_validate_json(shown.out)
    assert sidecar == read_sidecar(folder / "made" / "net.engine")
    assert (sidecar.precision, sidecar.workspace, sidecar.labels) == ("fp32", 512_000_000, ("cat", "dog"))
    assert sidecar.profile["image"].max == (3, 4, 16, 16)
    assert sidecar.preprocess
    assert sidecar.preprocess.crop == 16
    assert json.loads(shown.out)["sms"] == ["89"]


def test_verbose_shows_tensorrts_messages_apart_from_the_result(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("conv.onnx", "--sm", "86", "--verbose", "--json") == 0
    shown = capsys.readouterr()
    assert "verbose: " in shown.err
    assert Sidecar.model_validate_json(shown.out) == read_sidecar(folder / "conv.fp16.engine")


def test_an_unsupported_operator_is_named_with_its_node(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(network("n (float[2,3,3] x) => (float[2] y) { [area] y = Det(x) }"), folder / "det.onnx")
    assert build("det.onnx", "--sm", "86", "--precision", "fp32") == 1
    said = capsys.readouterr().err
    assert "Det 'area'" in said
    assert "exit 1" in said
    assert not (folder / "det.fp32.engine").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("conv.onnx", "--sm"),
        ("conv.onnx --sm 90", "SM 90"),
        ("conv.onnx --sm ampere", "'ampere'"),
        ("conv.onnx --sm 86 --workspace much", "'much'"),
        ("conv.onnx --sm 86 --opt-shapes image=1x4x16x16", "image=1x4x16x16"),
        ("conv.onnx --sm 86 --opt-shapes x:1x4x16x16", "no input 'x'"),
        ("conv.onnx --sm 86 --opt-shapes image:1x4x16x17", "does not fit"),
        ("conv.onnx --sm 86 --precision int8", "trtkit calibrate"),
        ("conv.onnx --sm 86 --precision int4", "int4"),
        ("conv.onnx --sm 86 --version-compatible", "version-compatible"),
        ("conv.onnx --sm 86 --hardware-compatibility ampere-plus", "hardware compatibility"),
        ("conv.onnx --sm 86 --preprocess bad.json", "bad.json"),
        ("conv.onnx --sm 86 --preprocess none.json", "none.json"),
        ("conv.onnx --sm 86 --labels none.txt", "none.txt"),
        ("conv.onnx --sm 86 --labels conv.onnx", "conv.onnx"),
        ("none.onnx --sm 86", "none.onnx"),
        ("bad.json --sm 86", "bad.json"),
        ("--sm 86", "onnx"),
    ],
)
def test_a_wrong_request_is_told_in_one_error(
    arguments: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.json").write_text('{"crop": "large"}')
    assert build(*arguments.split()) == 2
    shown = capsys.readouterr()
    assert said in shown.err.lower() or said in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.endswith("exit 2\n")
    assert shown.out == ""
    assert sorted(path.name for path in folder.iterdir()) == ["bad.json", "conv.onnx"]


def test_a_network_may_be_called_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "net.json").write_bytes((folder / "conv.onnx").read_bytes())
    assert build("net.json", "--sm", "86", "--json") == 0
    assert Sidecar.model_validate_json(capsys.readouterr().out).precision == "fp16"


def test_warnings_of_libraries_stay_out_of_what_is_printed(folder: Path) -> None:
    """Warnings shown that Python hides by default, and with a note that polygraphy prints."""
    code = (
        "import sys; from trtkit.cli import main; from trtkit.trt_api import quiet_polygraphy\n"
        "from trtkit.flavour import find_tensorrt; find_tensorrt(); quiet_polygraphy()\n"
        "from polygraphy.logger import G_LOGGER; G_LOGGER.warning('a note')\n"
        "main(sys.argv[1:])"
    )
    command = [sys.executable, "-W", "default", "-c", code]
    done = subprocess.run(
        [*command, "build", str(folder / "conv.onnx"), "--sm", "86", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["sms"] == ["86"]
    assert "polygraphy" not in done.stderr


def test_a_file_that_names_its_precision_gives_an_engine_that_names_it_once(folder: Path) -> None:
    (folder / "conv.onnx").rename(folder / "conv.fp16.onnx")
    assert build("conv.fp16.onnx", "--sm", "86") == 0
    assert (folder / "conv.fp16.engine").exists()
