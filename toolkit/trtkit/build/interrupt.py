"""Ctrl-C while TensorRT builds: no exception may pass through its code, so it is asked to stop instead."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass
class Interrupt:
    """requested: Ctrl-C was pressed while `held`."""

    requested: bool = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Ctrl-C is noted, and raised as KeyboardInterrupt at the end; pressed again, it ends the process."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        before = signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            if self.requested:
                raise KeyboardInterrupt

    def _note(self, *_: Any) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def monitor(self, trt: ModuleType) -> Any:
        """A trt.IProgressMonitor that stops the build at its next step once it is requested."""
        interrupt = self

        class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, name: str, parent: str, steps: int) -> None: ...

            def phase_finish(self, name: str) -> None: ...

            def step_complete(self, _name: str, _step: int) -> bool:
                return not interrupt.requested

        return Monitor()
