"""An engine in the GPU's memory, loaded once for however many runners share it."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from trtkit.cuda import current_gpu
from trtkit.errors import WorkFailed
from trtkit.fit import check_fit
from trtkit.flavour import TensorRT, find_tensorrt
from trtkit.sidecar import Sidecar, read_sidecar
from trtkit.trt_api import ERRORS, make_logger

KEPT = 4
"""Error messages of TensorRT that an error of ours repeats."""


class LoadedEngine:
    """An engine that fits this GPU and this TensorRT, deserialised.

    Args:
        path: the engine; its sidecar is beside it.
        sidecar: what `read_sidecar` gave for it, if it was read already: to read it is to hash the engine.

    sidecar: what it is. tensorrt: what loaded it. engine: the trt.ICudaEngine.

    Raises:
        RequestError: it has no sidecar, is damaged, or (EngineDoesNotFit) is for another GPU or TensorRT.
        EnvironmentLack: there is no GPU or no TensorRT here.
        WorkFailed: TensorRT refuses it.
    """

    def __init__(self, path: Path, sidecar: Sidecar | None = None) -> None:
        self.sidecar: Sidecar = sidecar or read_sidecar(path)
        self.tensorrt: TensorRT = find_tensorrt()
        check_fit(self.sidecar, self.tensorrt, current_gpu())
        trt = self.tensorrt.module
        self._errors: deque[str] = deque(maxlen=KEPT)
        self._logger = make_logger(trt, self._note)
        if self.tensorrt.flavour == "tensorrt" and not self.tensorrt.lean:
            trt.init_libnvinfer_plugins(self._logger, "")
        self._runtime = trt.Runtime(self._logger)
        if self.sidecar.version_compatible:
            # Such an engine brings code of its own; that it is the sidecar's engine is checked above.
            self._runtime.engine_host_code_allowed = True
        self.engine: Any = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self.engine is None:
            raise WorkFailed(
                f"{self.tensorrt} cannot load {path.name}",
                *self.reasons(),
                ("next", "build it again on this machine: trtkit build"),
            )
        self._jit = _JitCache(self.engine, path) if self.tensorrt.flavour == "tensorrt-rtx" else None

    def _note(self, severity: str, message: str) -> None:
        if severity in ERRORS:
            self._errors.append(message)

    def new_context(self) -> Any:
        """A new trt.IExecutionContext, with the memory that its activations need.

        Raises:
            WorkFailed: there is not enough memory, or TensorRT says what else.
        """
        arguments = (self._jit.config,) if self._jit else ()
        context = self.engine.create_execution_context(*arguments)
        if context is None:
            raise WorkFailed(
                "TensorRT gives no execution context",
                *self.reasons(),
                ("next", "use fewer contexts, or free memory of the GPU"),
            )
        return context

    def reasons(self) -> list[tuple[str, str]]:
        """TensorRT's last error messages as facts of an error; each is told once."""
        # A copy first: other threads' contexts write into it.
        told = [("because", message) for message in list(self._errors)]
        self._errors.clear()
        return told

    def save(self) -> None:
        """Keep the kernels that TensorRT-RTX has compiled, for the next start; `close` does it too."""
        if self._jit:
            self._jit.save()

    def close(self) -> None:
        """Free it, once no runner uses it."""
        self.save()
        self._jit = self.engine = self._runtime = None


class _JitCache:
    """The kernels that TensorRT-RTX compiles on the GPU it finds, kept beside the engine for the next start.

    Without it the first run after every start waits for the compiler. A cache that does not fit (another GPU,
    driver or RTX) is refused by RTX itself, and written anew.
    """

    def __init__(self, engine: Any, path: Path) -> None:
        self._path = path.with_name(path.name + ".jit")
        self.config = engine.create_runtime_config()
        self._cache = self.config.create_runtime_cache()
        with suppress(OSError):
            self._cache.deserialize(self._path.read_bytes())
        self.config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write it, whole or not at all; a model folder that is read-only goes without."""
        content = self._cache.serialize()
        if content is None:
            return
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")  # others may share the folder
        with suppress(OSError):
            new.write_bytes(bytes(content))
            new.replace(self._path)
