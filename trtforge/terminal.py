"""Where a command says things: results on standard output, progress and notes on standard error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from trtforge.progress import progress_on

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import RenderableType

    from trtforge.errors import ForgeError
    from trtforge.progress import Progress


class Terminal:
    """The terminal, or with `json` a machine that reads standard output."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self._out, self._err = _console(stderr=False), _console(stderr=True)

    def progress(self) -> AbstractContextManager[Progress]:
        """Progress for the length of a `with` block."""
        return progress_on(self._err, silent=self.json)

    def say(self, *lines: RenderableType) -> None:
        """Show a person a result; nothing with --json."""
        if not self.json:
            for line in lines:
                if isinstance(line, str):
                    self._print(line)
                else:
                    self._out.print(line)

    def answer(self, value: Any) -> None:
        """Give a machine a result; nothing without --json."""
        if self.json:
            self._print(json.dumps(value, indent=1, ensure_ascii=False))

    def _print(self, text: str) -> None:
        # Not through rich, which takes longer to look for lines to fold than it took to plan all cells.
        print(text, file=self._out.file, flush=True)

    def error(self, error: ForgeError) -> None:
        """Say what is wrong, and what to do."""
        self.answer({"error": error.problem, "facts": [list(fact) for fact in error.facts]})
        self.trouble(error)
        self._err.print(f"exit {error.exit_code}", markup=False, style="dim")

    def trouble(self, error: ForgeError, *more: tuple[str, str]) -> None:
        """Say what went wrong with a part, beside the result; `more` are facts of the place."""
        self._err.print(f"error: {error.problem}", markup=False, style="bold")
        shown = ""
        for label, text in (*more, *error.facts):
            self._err.print(f"  {'' if label == shown else label:<9} {text}", markup=False)
            shown = label

    def warn(self, text: str) -> None:
        """Say one line beside the result."""
        self._err.print(text, markup=False)


_UNFOLDED = 10_000
"""Columns of what is not a terminal: whatever reads a pipe or a log wants lines as they are."""


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = _UNFOLDED
    return console


def plain_table(*columns: str) -> Table:
    """A table without lines, whose columns copy and paste well."""
    table = Table(box=None, pad_edge=False, show_header=any(columns), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def megabytes(size: float) -> str:
    """`size` bytes, for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
