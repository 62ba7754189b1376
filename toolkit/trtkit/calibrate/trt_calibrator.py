"""TensorRT 10's own way to INT8: a calibrator that the builder asks for samples, on the GPU.

Source: TensorRT 10 Python API, "Int8" (deprecated since 10.1, gone in 11).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trtkit.build import BuildOptions, build_engine
from trtkit.build.calibration_cache import tie
from trtkit.build.onnx_file import read_onnx
from trtkit.calibrate.options import CalibrateOptions, Method
from trtkit.calibrate.samples import Feeds
from trtkit.calibrate.sources import open_source
from trtkit.calibrate.split import Split
from trtkit.errors import RequestError
from trtkit.flavour import TensorRT, find_builder
from trtkit.trt_api import quiet_polygraphy

CLASSES: dict[Method, str] = {"entropy": "IInt8EntropyCalibrator2", "minmax": "IInt8MinMaxCalibrator"}


def trt_calibrator(samples: Iterable[Feeds], cache: Path | None, method: Method, tensorrt: TensorRT) -> Any:
    """A calibrator for `BuildOptions.calibrator`: polygraphy's, over the class that `method` names.

    Args:
        samples: feeds as numpy arrays, all of one shape: that of the profile's `opt`. It is iterated anew
            each time the calibrator is reset: no generator.
        cache: a file that TensorRT writes scales to and reads them from, whatever network they are of.
        method: "entropy" or "minmax".

    Raises:
        RequestError: this TensorRT has no calibrators, or none of that method.
    """
    _check(method, tensorrt)
    from polygraphy.backend.trt import Calibrator

    quiet_polygraphy()
    base = getattr(tensorrt.module, CLASSES[method])
    return Calibrator(samples, cache=str(cache) if cache else None, BaseClass=base)


def calibrate_in_tensorrt(onnx: Path, options: CalibrateOptions) -> Path:
    """Let TensorRT calibrate `onnx` on the GPU; the cache it wrote, which `trtkit build` takes.

    The engine that is built for that has the samples' shape alone, and is thrown away. The cache is always
    written anew: TensorRT would use an old one of another network without asking. So that `trtkit build` does
    not, a JSON file beside it says of which network it is.

    Raises:
        RequestError: this TensorRT has no calibrators, no cache is named, or the samples are not right.
        EnvironmentLack: there is no TensorRT, or no GPU.
        WorkFailed: TensorRT could not build the network.
    """
    tensorrt = find_builder()
    _check(options.method, tensorrt)
    if options.cache is None:
        raise RequestError("--calibrator writes a cache and nothing else", ("next", "name it: --cache FILE"))
    inputs = read_onnx(onnx).inputs
    split = Split(open_source(options.data, inputs, options.preprocess, options.seed), inputs, options)
    first, _ = next(split.calibration())
    shapes = {name: array.shape for name, array in first.items()}
    options.cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trtkit-", dir=options.cache.parent) as folder:
        cache = Path(folder, "cache")
        calibrator = trt_calibrator(_Again(split), cache, options.method, tensorrt)
        dynamic = {spec.name: shapes[spec.name] for spec in inputs if spec.dynamic}
        build_engine(
            onnx,
            Path(folder, "engine"),
            BuildOptions(precision="int8", opt_shapes=dynamic, calibrator=calibrator),
        )
        cache.replace(options.cache)
    tie(options.cache, onnx)
    return options.cache


class _Again:
    """The calibration samples' feeds, from the first on whenever it is iterated."""

    def __init__(self, split: Split) -> None:
        self._split = split

    def __iter__(self) -> Iterator[Feeds]:
        return (feeds for feeds, _ in self._split.calibration())


def _check(method: Method, tensorrt: TensorRT) -> None:
    if not tensorrt.calibrates:
        raise RequestError(
            f"{tensorrt} has no calibrators",
            (
                "because",
                "TensorRT 11 removed them, TensorRT-RTX never had them: INT8 is what the ONNX file says",
            ),
            (
                "next",
                "write Q/DQ pairs into the file with `trtkit calibrate`, and build that; 10.x takes it too",
            ),
        )
    if method not in CLASSES:
        raise RequestError(
            f"TensorRT's calibrators have no method {method!r}",
            ("next", f"use {' or '.join(CLASSES)}, or `trtkit calibrate` without a calibrator"),
        )
