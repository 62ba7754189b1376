"""The calibration cache: measured ranges in a file, so that the same network need not be calibrated twice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from trtkit import __version__
from trtkit.calibrate.options import CalibrateOptions, Method
from trtkit.calibrate.ranges import Range
from trtkit.errors import RequestError


class CalibrationCache(BaseModel):
    """Ranges of a network's activations by tensor, and what they were measured with.

    onnx_sha256: of the ONNX file. data_sha256: of the samples' files, None where they come from a loader.
    samples: how many these were. ranges: float32 numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["trtkit calibration 1"] = "trtkit calibration 1"
    trtkit: str = __version__
    onnx_sha256: str
    method: Method
    percentile: float | None = None
    data_sha256: str | None
    samples: int
    ranges: dict[str, Range]

    @field_validator("ranges")
    @classmethod
    def _ranges(cls, ranges: dict[str, Range]) -> dict[str, Range]:
        for tensor, (low, high) in ranges.items():
            if low > high or float(np.float32(low)) != low or float(np.float32(high)) != high:
                raise ValueError(f"{tensor}: {low} to {high} is not a range of float32 values")
        return dict(sorted(ranges.items()))

    def misfit(
        self, onnx_sha256: str, data_sha256: str | None, options: CalibrateOptions, tensors: Iterable[str]
    ) -> str | None:
        """Why these ranges are not those that `options` ask of the network; None where they are."""
        if self.onnx_sha256 != onnx_sha256:
            return "it is of another ONNX file"
        if self.method != options.method or (
            self.method == "percentile" and self.percentile != options.percentile
        ):
            return f"it was measured with the method {self.method}"
        if self.data_sha256 != data_sha256:
            return "it was measured on other samples, or they were prepared in another way"
        if set(tensors) - self.ranges.keys():
            return f"trtkit {self.trtkit} measured other tensors"
        return None


def read_cache(path: Path) -> CalibrationCache | None:
    """The cache at `path`; None where there is no file.

    Raises:
        RequestError: the file there is not a cache, and would be lost if one were written.
    """
    try:
        return CalibrationCache.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise RequestError(f"{path} is a folder", ("next", "name a file in it")) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(
            f"{path} is not a calibration cache of this trtkit",
            ("because", ": ".join([*map(str, first["loc"]), first["msg"]])),
            ("next", "name another file, or remove this one; a new cache is written then"),
        ) from error


def write_cache(cache: CalibrationCache, path: Path) -> None:
    """Write it; it is there whole or not at all. The same cache gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(cache.model_dump_json(indent=1) + "\n", encoding="utf-8")
    new.replace(path)
