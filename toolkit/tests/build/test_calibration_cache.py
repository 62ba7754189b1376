"""TensorRT 10's calibration caches: which class reads one, and which network it is of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_network import convolutional, network, save
from trtkit.build.calibration_cache import calibrator_class, check_tied, tie
from trtkit.errors import RequestError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "scales.cache"
    path.write_text("TRT-101601-EntropyCalibration2\nimage: 3c010a14\n")
    return path


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ("TRT-101601-EntropyCalibration2", "IInt8EntropyCalibrator2"),
        ("TRT-8601-MinMaxCalibration", "IInt8MinMaxCalibrator"),
    ],
)
def test_its_first_line_names_the_class(first: str, name: str, cache: Path) -> None:
    cache.write_text(f"{first}\nimage: 3c010a14\n")
    assert calibrator_class(cache) == name


@pytest.mark.parametrize(
    "content", [b"", b"TRT-8601-LegacyCalibration\n", b"\xff\x00" * 400, b'{"format": 1}\n']
)
def test_another_file_is_refused(content: bytes, cache: Path) -> None:
    cache.write_bytes(content)
    with pytest.raises(RequestError, match=r"scales\.cache") as told:
        calibrator_class(cache)
    assert told.value.fact("known") == "EntropyCalibration2, MinMaxCalibration"


def test_it_is_taken_for_the_network_it_is_of(cache: Path, tmp_path: Path) -> None:
    onnx = save(convolutional(), tmp_path / "net.onnx")
    tie(cache, onnx)
    assert check_tied(cache, onnx) == ""


def test_of_another_network_it_is_refused(cache: Path, tmp_path: Path) -> None:
    tie(cache, save(convolutional(), tmp_path / "net.onnx"))
    other = save(network("n (float[4] image) => (float[4] y) { y = Relu(image) }"), tmp_path / "other.onnx")
    with pytest.raises(RequestError, match=r"not measured on other\.onnx") as told:
        check_tied(cache, other)
    assert "another network" in str(told.value.fact("because"))


def test_replaced_without_its_json_file_it_is_refused(cache: Path, tmp_path: Path) -> None:
    onnx = save(convolutional(), tmp_path / "net.onnx")
    tie(cache, onnx)
    cache.write_text("TRT-101601-EntropyCalibration2\nimage: 3d010a14\n")
    with pytest.raises(RequestError) as told:
        check_tied(cache, onnx)
    assert "another cache" in str(told.value.fact("because"))


def test_without_that_file_it_is_told_that_nothing_is_known(cache: Path, tmp_path: Path) -> None:
    onnx = save(convolutional(), tmp_path / "net.onnx")
    assert "scales.cache.json is missing" in check_tied(cache, onnx)
    (tmp_path / "scales.cache.json").write_text("{")
    with pytest.raises(RequestError, match=r"scales\.cache\.json"):
        check_tied(cache, onnx)
