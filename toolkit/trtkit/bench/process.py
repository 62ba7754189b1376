"""The parent's side of a row: its process, what it is asked, and what became of it."""

from __future__ import annotations

import signal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from trtkit.bench.contender import Contender
from trtkit.bench.row import Answer, Refused, serve_row

SPAWN = get_context("spawn")
"""A fresh interpreter each: CUDA does not survive a fork."""


class RowProcess:
    """A contender in a process of its own, which is ended with the `with` block, whatever it does.

    timeout: seconds until an answer counts as never.
    """

    def __init__(self, contender: Contender, log: Path, timeout: float) -> None:
        self._connection, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=serve_row, args=(contender, theirs, log), daemon=True)
        self._log, self._timeout = log, timeout
        self._process.start()
        theirs.close()  # or we would not see that it died

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def ask(self, request: Any) -> Answer:
        """Its answer to `request`; `Refused` too if it died, or says nothing in time."""
        try:
            self._connection.send(request)
        except OSError:
            return self._death()
        return self.next_answer()

    def next_answer(self) -> Answer:
        """What it says next; the first answer comes unasked, when its runner is open or cannot be."""
        try:
            if not self._connection.poll(self._timeout):
                self.end()
                return Refused("failed", f"no answer within {self._timeout:g} s", gone=True)
            answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            return self._death()
        return answer

    def end(self) -> None:
        """Let it go, or make it go."""
        self._connection.close()  # it reads the end of the pipe, and returns
        self._process.join(1)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def _death(self) -> Refused:
        self._process.join(1)
        code = self._process.exitcode
        how = f"code {code}" if code is None or code >= 0 else signal.Signals(-code).name
        said = self._log.read_text("utf-8", "replace").strip().splitlines() if self._log.exists() else []
        return Refused("failed", ": ".join([f"its process ended with {how}", *said[-1:]]), gone=True)
