"""TensorRT builds an engine from an ONNX file for every GPU of the cell.

TensorRT-RTX does so without a GPU. The full library builds only for the GPU that it runs on.
"""

from __future__ import annotations

from typing import Any

from smoke.gpu import gpu_sm, refused, torch_on_gpu
from smoke.sample_engine import build, tensorrt_and_log

NEEDS = ("tensorrt", "sm", "torch")
TIMEOUT = 600


def check(expected: dict[str, Any]) -> dict[str, Any]:
    trt, log = tensorrt_and_log(expected)
    precisions = ("float32", "float16")
    if expected["tensorrt"]["flavour"] == "rtx":
        return {f"SM {sm} {p}": len(build(trt, log, p, sm)) for sm in expected["sm"] for p in precisions}
    sm = gpu_sm(torch_on_gpu(otherwise="no GPU: the full TensorRT builder needs one"))
    try:
        return {f"SM {sm} {p}": len(build(trt, log, p, None)) for p in precisions}
    except AssertionError as error:
        raise refused(sm, expected, str(error)) from error
