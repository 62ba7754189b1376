"""What a lock may and may not say about a package."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trtforge.index.pins import Pin, Sdist

A_HASH = "ab" * 32
FRONTEND = {
    "name": "tensorrt-cu12",
    "version": "10.13.3.9.post1",
    "filename": "tensorrt_cu12-10.13.3.9.post1-py2.py3-none-any.whl",
    "sha256": A_HASH,
    "size": 51223,
    "index": "default",
    "sdist": {
        "filename": "tensorrt_cu12-10.13.3.9.post1.tar.gz",
        "sha256": A_HASH,
        "build": ["setuptools==80.9.0"],
    },
}


def test_a_pin_survives_being_written_and_read() -> None:
    pin = Pin.model_validate(FRONTEND)
    assert Pin.model_validate_json(pin.model_dump_json()) == pin
    assert pin.sdist == Sdist(
        filename="tensorrt_cu12-10.13.3.9.post1.tar.gz", sha256=A_HASH, build=("setuptools==80.9.0",)
    )


def test_pins_are_values() -> None:
    pin = Pin.model_validate(FRONTEND)
    assert len({pin, Pin.model_validate(FRONTEND)}) == 1
    with pytest.raises(ValidationError):
        pin.version = "11"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "TensorRT_cu12"}, "canonical form"),
        ({"version": "10.13.3.9"}, "is not a wheel of tensorrt-cu12 10.13.3.9"),
        ({"filename": "torch-2.9.1-py3-none-any.whl"}, "is not a wheel of tensorrt-cu12"),
        ({"filename": "tensorrt_cu12-10.13.3.9.post1.tar.gz"}, "Invalid wheel filename"),
        ({"sha256": A_HASH.upper()}, "pattern"),
        ({"sha256": "sha256:" + A_HASH}, "pattern"),
        ({"size": -1}, "greater than or equal to 0"),
        ({"url": "http://127.0.0.1/x.whl"}, "Extra inputs are not permitted"),
        ({"sdist": FRONTEND["sdist"] | {"build": ["setuptools>=80"]}}, "is not exact"),  # type: ignore[operator]
        ({"sdist": FRONTEND["sdist"] | {"filename": "x.exe"}}, "Invalid sdist filename"),  # type: ignore[operator]
    ],
)
def test_a_pin_that_contradicts_itself_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Pin.model_validate(FRONTEND | change)


def test_a_local_version_is_part_of_the_pin() -> None:
    pin = Pin(
        name="torch",
        version="2.9.1+cu126",
        filename="torch-2.9.1+cu126-cp311-cp311-manylinux_2_28_x86_64.whl",
        sha256=A_HASH,
        index="pytorch-cu126",
    )
    assert (pin.version, pin.size, pin.sdist) == ("2.9.1+cu126", None, None)
