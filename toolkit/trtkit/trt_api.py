"""What building and running have in common of TensorRT's Python API: its types' names, and its logger.

`trt` is the module `tensorrt` or `tensorrt_rtx` everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "BOOL": "bool", "UINT8": "uint8",
    "INT8": "int8", "INT32": "int32", "INT64": "int64", "FP8": "float8_e4m3fn", "INT4": "int4",
    "FP4": "float4_e2m1fn",
}  # fmt: skip
"""trt.DataType -> numpy's or ml_dtypes' name."""

ERRORS = ("ERROR", "INTERNAL_ERROR")
"""Severities of what went wrong."""


def make_logger(trt: ModuleType, take: Callable[[str, str], None]) -> Any:
    """A trt.ILogger that gives `take` every message: its severity, as trt.ILogger.Severity calls it, and its
    text. It has to live as long as what is made with it."""

    class Logger(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            take(severity.name, message)

    return Logger()


def quiet_polygraphy() -> None:
    """Keep polygraphy's notes off stdout, which it prints them to: there, `--json` is one document."""
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL  # those go to stderr
    G_LOGGER.colors = False  # for colours it wants another package, and prints that it is missing
