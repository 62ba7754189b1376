"""trtkit serves a model: over HTTP, through the KServe protocol, and ends in order when it is told to.

The model is an ONNX file that ONNX Runtime runs on the CPU, so that this runs everywhere. With TensorRT the
rest of the service is the same.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

NEEDS = ("projects", "packages.fastapi")

RELU = base64.b64decode(
    "CAg6QAoMCgF4EgF5IgRSZWx1EgRyZWx1WhQKAXgSDwoNCAESCQoDEgFuCgIIA2IUCgF5Eg8KDQgBEgkKAxIBbgoCCANCBAoAEBE="
)
"""y = max(x, 0) of (n, 3) floats; images that only serve have no package that could write it."""


def check(expected: dict[str, Any]) -> dict[str, Any]:
    trtkit = [sys.executable, "-m", "trtkit"]
    said = subprocess.run([*trtkit, "--version"], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["trtkit", expected["projects"]["trtkit"]], f"trtkit says it is {said}"
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "relu.onnx")
        model.write_bytes(RELU)
        serving = [*trtkit, "serve", str(model), "--backend", "onnxruntime", "--port", "0", "--json"]
        with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as process:
            try:
                line = process.stdout.readline() if process.stdout else ""
                assert line, f"the service ended with {process.wait()}"
                address = json.loads(line)["address"]
                answer = _infer(address)
            finally:
                process.send_signal(signal.SIGTERM)
            ended = process.wait(60)
    assert answer == [0, 2, 0, 4, 0, 6], f"max(x, 0) came out as {answer}"
    assert ended == 0, f"told to stop, the service ended with {ended}"
    return {"trtkit": said[1]}


def _infer(address: str) -> list[float]:
    x = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [-1, 2, -3, 4, -5, 6]}
    request = urllib.request.Request(
        f"{address}/v2/models/relu/infer",
        json.dumps({"inputs": [x]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        outputs: list[dict[str, Any]] = json.load(reply)["outputs"]
    return list(outputs[0]["data"])
