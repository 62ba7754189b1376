"""The cache of TensorRT 10's calibrators, which holds scales by tensor and its algorithm, but no network.

So a JSON file beside it says which network it was measured on.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from trtkit.errors import RequestError
from trtkit.sidecar import file_sha256

CLASSES = {
    "EntropyCalibration2": "IInt8EntropyCalibrator2",
    "MinMaxCalibration": "IInt8MinMaxCalibrator",
}
"""The algorithm, as a cache's first line has it ("TRT-101601-EntropyCalibration2") -> the class in
TensorRT's module that reads it. Another class would ask for samples, which a cache alone has none of."""


class CacheSidecar(BaseModel):
    """onnx_sha256: of the ONNX file that was calibrated. cache_sha256: of the cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    onnx_sha256: str
    cache_sha256: str


def calibrator_class(cache: Path) -> str:
    """The name of the class in TensorRT's module that reads `cache`.

    Raises:
        RequestError: it is not TensorRT's, or of an algorithm that needs more than a cache.
    """
    with cache.open("rb") as file:
        first = file.readline(200).decode("ascii", "replace").strip()
    match = re.fullmatch(r"TRT-\d+-(\w+)", first)
    if match is None or match[1] not in CLASSES:
        raise RequestError(
            f"{cache.name} is no calibration cache that can be used",
            ("because", f"its first line is {first!r}, not TRT-VERSION-ALGORITHM"),
            ("known", ", ".join(CLASSES)),
            ("next", "write one: trtkit calibrate --calibrator --cache FILE"),
        )
    return CLASSES[match[1]]


def tie(cache: Path, onnx: Path) -> None:
    """Write down beside `cache` that it is of `onnx`."""
    said = CacheSidecar(onnx_sha256=file_sha256(onnx), cache_sha256=file_sha256(cache))
    _beside(cache).write_text(said.model_dump_json(indent=1) + "\n", encoding="utf-8")


def check_tied(cache: Path, onnx: Path) -> str:
    """ "", or what is not known of `cache`, in a sentence.

    Raises:
        RequestError: it is of another network: its scales would go to tensors of the same names.
    """
    try:
        said = CacheSidecar.model_validate_json(_beside(cache).read_bytes())
    except FileNotFoundError:
        return f"nothing says which network {cache.name} was measured on: {_beside(cache).name} is missing"
    except ValidationError as error:
        raise RequestError(
            f"{_beside(cache).name} cannot be read",
            ("because", error.errors()[0]["msg"]),
            ("next", "calibrate again: trtkit calibrate --calibrator"),
        ) from error
    if said.onnx_sha256 != file_sha256(onnx) or said.cache_sha256 != file_sha256(cache):
        what = "network" if said.onnx_sha256 != file_sha256(onnx) else "cache"
        raise RequestError(
            f"{cache.name} was not measured on {onnx.name}",
            ("because", f"{_beside(cache).name} speaks of another {what}, by its SHA-256"),
            ("next", "calibrate again: trtkit calibrate --calibrator"),
        )
    return ""


def _beside(cache: Path) -> Path:
    return cache.with_name(cache.name + ".json")
