"""trtkit builds an engine for every GPU of the cell, with the sidecar that says so.

TensorRT-RTX does so without a GPU. The full library builds only for the GPU that it runs on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from smoke.gpu import gpu_sm, torch_on_gpu
from smoke.sample_engine import onnx_model

NEEDS = ("projects", "tensorrt", "sm", "torch")
TIMEOUT = 600


def check(expected: dict[str, Any]) -> dict[str, Any]:
    sms = expected["sm"]
    if expected["tensorrt"]["flavour"] != "rtx":
        sms = [gpu_sm(torch_on_gpu(otherwise="no GPU: the full TensorRT builder needs one"))]
    with tempfile.TemporaryDirectory() as folder:
        onnx, engine = Path(folder, "sample.onnx"), Path(folder, "sample.engine")
        onnx.write_bytes(onnx_model("float32"))
        command = [sys.executable, "-m", "trtkit", "build", str(onnx), "--out", str(engine)]
        command += ["--precision", "fp16", "--sm", ",".join(sms)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"trtkit build ended with {done.returncode}: {done.stdout}"
        sidecar = json.loads(Path(folder, "sample.engine.json").read_text(encoding="utf-8"))
        assert sidecar["sms"] == sms, "built for SM {}, not {}".format(sidecar["sms"], sms)
        return {"SM": ", ".join(sms), "bytes": engine.stat().st_size}
