"""How work tells a person that it goes on: bars on a terminal, plain lines elsewhere, nothing with --json."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from rich.console import Console
    from rich.progress import Task

    Advance = Callable[[int], None]


def ignore(_done: int) -> None:
    """An `Advance` that tells nobody."""


class Progress(Protocol):
    """What the working modules know of the terminal."""

    def task(self, label: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show a task of `total` bytes (None: unknown) while the block runs; its value takes bytes done."""
        ...

    def note(self, text: str) -> None:
        """Say one line."""
        ...

    def overall(self, text: str, done: int, total: int) -> None:
        """Show how far all of the work is: `done` of `total` pieces, of which `text` says more."""
        ...


class Silent:
    """Says nothing."""

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:  # noqa: ARG002
        yield ignore

    def note(self, text: str) -> None:
        pass

    def overall(self, text: str, done: int, total: int) -> None:
        pass


class Lines:
    """One plain line when a task ends, for logs. Tasks under half a second say nothing.

    every_s: seconds between two lines about all of the work.
    """

    def __init__(self, console: Console, every_s: float = 10) -> None:
        self._console = console
        self._every_s = every_s
        self._told = time.monotonic()

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:
        start = time.monotonic()
        yield ignore
        seconds = time.monotonic() - start
        if seconds >= 0.5:
            size = f"{total / 1e6:,.0f} MB, " if total else ""
            self.note(f"{label}  {size}{seconds:.1f} s")

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def overall(self, text: str, done: int, total: int) -> None:  # noqa: ARG002
        now = time.monotonic()
        if now - self._told >= self._every_s:
            self._told = now
            self.note(text)


class TerminalBars:
    """A bar for all of the work, and one for each running task; a finished one leaves the screen."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._all = bars.add_task("", visible=False, counted=True)

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:
        bar = self._bars.add_task(label, total=total)
        try:
            yield lambda done: self._bars.update(bar, advance=done)
        finally:
            self._bars.remove_task(bar)

    def note(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def overall(self, text: str, done: int, total: int) -> None:
        self._bars.update(self._all, description=text, completed=done, total=total, visible=done < total)


class _Bytes(DownloadColumn):
    """How many bytes of a task are done; nothing for what is not counted in bytes."""

    def render(self, task: Task) -> Text:
        return Text() if task.fields.get("counted") else super().render(task)


class Stopped(Exception):
    """Work was told to stop; whoever told it knows why."""


class Stoppable:
    """A progress through which work in threads can be ended: once `stop` was called, its next step raises.

    Nothing else reaches a thread; and every long piece of work tells its progress of each step.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stop = threading.Event()

    def stop(self) -> None:
        """End every task at its next step."""
        self._stop.set()

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:
        """A task of the other progress.

        Raises:
            Stopped: `stop` was called; from the task's `Advance` too.
        """
        self._go_on()
        with self._progress.task(label, total) as advance:

            def step(done: int) -> None:
                self._go_on()
                advance(done)

            yield step

    def note(self, text: str) -> None:
        self._progress.note(text)

    def overall(self, text: str, done: int, total: int) -> None:
        self._progress.overall(text, done, total)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped


@contextmanager
def progress_on(console: Console, silent: bool) -> Iterator[Progress]:
    """The progress that suits `console`: none when `silent`, bars on a terminal, lines otherwise."""
    if silent:
        yield Silent()
    elif not console.is_terminal:
        yield Lines(console)
    else:
        columns = TextColumn("{task.description}"), BarColumn(), _Bytes(), TimeRemainingColumn()
        with Bars(*columns, console=console, transient=True) as bars:
            yield TerminalBars(bars)
