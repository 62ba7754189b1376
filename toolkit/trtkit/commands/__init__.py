"""One thin file a verb. What is heavy (torch, TensorRT, ONNX Runtime) is imported when a verb runs."""

from __future__ import annotations

from collections.abc import Callable

from trtkit.commands.bench import bench
from trtkit.commands.build import build
from trtkit.commands.calibrate import calibrate
from trtkit.commands.export import export
from trtkit.commands.inspect import inspect
from trtkit.commands.pipeline import pipeline
from trtkit.commands.serve import serve
from trtkit.commands.verify import verify

VERBS: tuple[Callable[..., None], ...] = (export, calibrate, build, verify, inspect, bench, serve, pipeline)
