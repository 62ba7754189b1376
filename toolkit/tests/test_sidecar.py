"""Sidecars: written whole, read back, and refused where they are not the engine's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from trtkit.errors import RequestError
from trtkit.sidecar import Preprocess, Sidecar, file_sha256, read_sidecar, sidecar_path, write_sidecar
from trtkit.tensors import ShapeRange, TensorSpec


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine's file with its sidecar."""
    path = tmp_path / "net.fp16.engine"
    path.write_bytes(b"an engine")
    write_sidecar(sidecar(path), path)
    return path


def sidecar(engine: Path) -> Sidecar:
    return Sidecar(
        engine_sha256=file_sha256(engine), onnx_sha256="0" * 64, flavour="tensorrt-rtx",
        tensorrt_version="1.7.1.116", sms=("80",), precision="fp16",
        inputs=(TensorSpec("x", "float32", (-1, 3)),), outputs=(TensorSpec("y", "float32", (-1, 2)),),
        profiles=({"x": ShapeRange((1, 3), (2, 3), (4, 3))},), workspace=1 << 30, trtkit="0.1.0",
    )  # fmt: skip


def test_what_is_written_is_read_back(engine: Path) -> None:
    read = read_sidecar(engine)
    assert read == sidecar(engine)
    assert read.profile["x"].max == (4, 3)
    assert [path.name for path in sorted(engine.parent.iterdir())] == [engine.name, engine.name + ".json"]


def test_the_same_sidecar_gives_the_same_bytes(engine: Path) -> None:
    before = sidecar_path(engine).read_bytes()
    write_sidecar(read_sidecar(engine), engine)
    assert sidecar_path(engine).read_bytes() == before


def test_an_engine_without_one_is_refused(engine: Path) -> None:
    sidecar_path(engine).unlink()
    with pytest.raises(RequestError, match="has no sidecar") as told:
        read_sidecar(engine)
    assert "trtkit build" in str(told.value.fact("next"))


def test_a_sidecar_without_its_engine_is_refused(engine: Path) -> None:
    engine.unlink()
    with pytest.raises(RequestError, match="there is no engine"):
        read_sidecar(engine)


def test_of_another_engine_it_is_refused(engine: Path) -> None:
    engine.write_bytes(b"An engine")
    with pytest.raises(RequestError, match="is not the engine that"):
        read_sidecar(engine)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff", b"[]"])
def test_a_damaged_one_is_refused(content: bytes, engine: Path) -> None:
    sidecar_path(engine).write_bytes(content)
    with pytest.raises(RequestError, match="cannot be read"):
        read_sidecar(engine)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": 1', '"format": 2'),
        ('"fp16"', '"fp8"'),
        ('"workspace"', '"work"'),
        ('"tensorrt-rtx"', '"x"'),
    ],
)
def test_one_of_another_form_is_refused(old: str, new: str, engine: Path) -> None:
    path = sidecar_path(engine)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RequestError, match="cannot be read"):
        read_sidecar(engine)


def test_a_hash_is_that_of_all_bytes(tmp_path: Path) -> None:
    content = b"0123456789" * 300_000
    (tmp_path / "large").write_bytes(content)
    assert file_sha256(tmp_path / "large") == hashlib.sha256(content).hexdigest()


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ValidationError, match="crop 300 is larger"):
        Preprocess(resize=256, crop=300)
