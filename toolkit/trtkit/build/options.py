"""What an engine is built to be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trtkit.errors import RequestError
from trtkit.sidecar import HardwareCompatibility, Precision, Preprocess
from trtkit.tensors import Shape

GIBIBYTE = 1 << 30

IoTypes = Literal["keep", "convert"]
"""What a conversion to FP16 or BF16 does with float32 inputs and outputs: they stay, or are converted too."""


@dataclass(frozen=True)
class BuildOptions:
    """How to build an engine.

    precision: what its layers may compute in. fp32 leaves TF32 off; int8 computes the rest in FP16.
    workspace: bytes that a layer may use for scratch.
    min_shapes, opt_shapes, max_shapes: the optimisation profile, by input. Left out: batches of 1, 4 and 8
        where the batch alone is dynamic. With `opt` alone, all three are that.
    must_cover: shapes that will be asked of the engine; the sidecar tells those that the profile leaves out.
    timing_cache: a file that makes a second build faster, read and written; TensorRT-RTX has none.
    version_compatible: later TensorRT versions of the same major run it. hardware_compatibility: so do other
        GPUs. Both are full TensorRT's; TensorRT-RTX names GPUs instead.
    sms: the compute capabilities to build for ("80", "86"); none for that of the GPU here. Full TensorRT
        builds for the GPU here only.
    optimisation_level: 0 (fast to build) to 5 (fast to run); None for TensorRT's own, 3.
    calibrator: TensorRT 10's INT8 of a network without Q/DQ nodes: polygraphy's `Calibrator`, or another
        trt.IInt8Calibrator. calibration_cache: a file that such a calibrator wrote, in its place.
    io_types: see `IoTypes`.
    keep_fp32: patterns of names of nodes that stay in FP32 ("*/head/*"). keep_fp16: of nodes that a
        calibrator's INT8 leaves out; where Q/DQ nodes say that, `trtkit calibrate` has this option.
    preprocess, labels: for the sidecar: how images become the input, what the classes are called.
    """

    precision: Precision = "fp16"
    workspace: int = 2 * GIBIBYTE
    min_shapes: Mapping[str, Shape] = field(default_factory=dict)
    opt_shapes: Mapping[str, Shape] = field(default_factory=dict)
    max_shapes: Mapping[str, Shape] = field(default_factory=dict)
    must_cover: Mapping[str, Shape] = field(default_factory=dict)
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatibility: HardwareCompatibility = "none"
    sms: tuple[str, ...] = ()
    optimisation_level: int | None = None
    calibrator: Any = None
    calibration_cache: Path | None = None
    io_types: IoTypes = "keep"
    keep_fp32: tuple[str, ...] = ()
    keep_fp16: tuple[str, ...] = ()
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()


def read_labels(path: Path) -> tuple[str, ...]:
    """The names of the classes: the lines of `path`.

    Raises:
        RequestError: there is no such file, or it is not text.
    """
    if not path.is_file():
        raise RequestError(f"there is no file of labels {path}", ("next", "name one with a class a line"))
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path.name} is not text in UTF-8", ("because", str(error)), ("next", "write a class a line")
        ) from error


UNITS = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
    "K": 1 << 10, "M": 1 << 20, "G": 1 << 30,
}  # fmt: skip
"""Units of bytes: as SI has them, as IEC has them, and trtexec's one letter (which is 1024)."""


def parse_bytes(text: str) -> int:
    """ "2GiB", "512MB" or "2147483648" as bytes.

    Raises:
        RequestError: it is not of that form, or less than one byte.
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", text)
    unit = match and UNITS.get(match[2].upper())
    size = int(float(match[1]) * unit) if match and unit else 0
    if size < 1:
        raise RequestError(f"{text!r} is not a number of bytes", ("next", "write 2GiB, 512MB or 2147483648"))
    return size


def parse_sms(text: str) -> tuple[str, ...]:
    """ "80,8.6,sm_89" as ("80", "86", "89"): in order, each once.

    Raises:
        RequestError: a part is not a compute capability.
    """
    names = [part.strip().lower().removeprefix("sm").removeprefix("_") for part in text.split(",")]
    for part in names:
        if not re.fullmatch(r"\d{1,2}\.?\d", part):
            raise RequestError(
                f"{part!r} is not a compute capability",
                ("next", "write --sm 80,86: major and minor together"),
            )
    return tuple(sorted({part.replace(".", "") for part in names}, key=int))
