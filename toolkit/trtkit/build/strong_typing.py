"""The ONNX file that TensorRT is given: as it is, or with the precision written into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from trtkit.build.onnx_file import OnnxFile
from trtkit.build.options import BuildOptions
from trtkit.errors import RequestError
from trtkit.flavour import TensorRT
from trtkit.precision import Half, convert, held_precision, overflowing_nodes
from trtkit.sidecar import Caveat, Precision
from trtkit.tensors import Profile

ALLOWED: dict[Precision, tuple[Precision, ...]] = {
    "fp32": ("fp32",),
    "tf32": ("fp32",),
    "fp16": ("fp32", "fp16"),
    "bf16": ("fp32", "bf16"),
    "int8": ("fp32", "fp16", "int8"),
}
"""The precision of an engine -> what its ONNX file may hold. Less than a file holds cannot be had of it."""


@dataclass(frozen=True)
class TypedOnnx:
    """path: the file for TensorRT's parser. caveats: what could not be looked at when it was converted."""

    path: Path
    caveats: tuple[Caveat, ...] = ()


def typed_onnx(
    source: OnnxFile, profile: Profile, options: BuildOptions, tensorrt: TensorRT, scratch: Path
) -> TypedOnnx:
    """`source` as `tensorrt` needs it for the precision of `options`.

    TensorRT 10 takes the file as it is: there, builder flags give precision. What is converted goes to the
    folder `scratch`.

    Raises:
        RequestError: the file holds another precision; or INT8 was asked for, and nothing says the scales.
        ConversionFailed: it could not be converted.
    """
    held = held_precision(source.model)
    asked = options.precision
    if held not in ALLOWED[asked]:
        raise RequestError(
            f"{source.path.name} holds {held.upper()}, so it cannot be an {asked.upper()} engine",
            ("next", f"build it with --precision {held}, or export it again as FP32"),
        )
    if asked == "int8" and held != "int8":
        _check_calibrated(source, options, tensorrt)
    if options.keep_fp16 and tensorrt.strongly_typed:
        raise RequestError(
            f"{tensorrt} takes precision from the ONNX file alone, so nothing can be kept in FP16 here",
            ("next", "give --keep-fp16 to `trtkit calibrate`, which then writes no Q/DQ nodes there"),
        )
    if not tensorrt.strongly_typed or asked in ("fp32", "tf32"):
        return TypedOnnx(source.path)
    return _converted(source, profile, options, scratch)


def _converted(source: OnnxFile, profile: Profile, options: BuildOptions, scratch: Path) -> TypedOnnx:
    to: Half = "bf16" if options.precision == "bf16" else "fp16"
    caveats: tuple[Caveat, ...] = ()
    overflowing: frozenset[str] = frozenset()
    if to == "fp16":
        overflow = overflowing_nodes(source.model, _smallest(source, profile))
        overflowing = overflow.nodes
        if overflow.unseen:
            text = f"whether values leave the range of FP16 could not be tried: {overflow.unseen}"
            caveats = (Caveat(kind="precision", text=text),)
    model = convert(
        source.model, to, keep_io=options.io_types == "keep", keep_fp32=options.keep_fp32, blocked=overflowing
    )
    if model is source.model:
        return TypedOnnx(source.path)
    path = scratch / "converted.onnx"
    # Weights in a second file: the first would fail at 2 GiB.
    onnx.save(model, str(path), save_as_external_data=True, location="weights", size_threshold=1 << 20)
    return TypedOnnx(path, caveats)


def _smallest(source: OnnxFile, profile: Profile) -> dict[str, tuple[int, ...]]:
    return {spec.name: profile[spec.name].min if spec.dynamic else spec.shape for spec in source.inputs}


def _check_calibrated(source: OnnxFile, options: BuildOptions, tensorrt: TensorRT) -> None:
    if not tensorrt.calibrates:
        raise RequestError(
            f"{source.path.name} has no Q/DQ nodes, and {tensorrt} takes INT8 from nothing else",
            ("next", "make them: trtkit calibrate FILE.onnx --data FOLDER, and build what it writes"),
        )
    if options.calibrator is None and options.calibration_cache is None:
        raise RequestError(
            f"{source.path.name} has no Q/DQ nodes, and there is no calibration for INT8",
            ("next", "run `trtkit calibrate`, then build what it writes, or give --calibration-cache FILE"),
        )
    if options.calibrator is None and options.calibration_cache and not options.calibration_cache.is_file():
        raise RequestError(
            f"there is no calibration cache {options.calibration_cache}", ("next", "run `trtkit calibrate`")
        )
