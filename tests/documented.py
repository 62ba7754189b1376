"""The commands that a page of documentation shows, to be run as they stand there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Command:
    """What follows a "$ ". exits: the code that the page says it ends with."""

    text: str
    exits: int


def commands(page: Path, where: str) -> list[Command]:
    """The commands in the console blocks of `page` under a heading that says `where`, or under one below it.

    A command may go on over lines that end in a backslash. A line "exit N" of its output is its exit code.
    """
    found: list[Command] = []
    for heading, block in _blocks(page.read_text(encoding="utf-8")):
        if where in heading:
            found += _commands(block)
    return found


def _blocks(text: str) -> list[tuple[str, str]]:
    """Each console block, with the headings that it stands under, joined."""
    headings: dict[int, str] = {}
    blocks = []
    for part in re.finditer(r"^(#+) ([^\n]*)$|^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        level, title, block = part.groups()
        if level:
            headings = {depth: one for depth, one in headings.items() if depth < len(level)}
            headings[len(level)] = title
        else:
            blocks.append((" / ".join(headings.values()), block))
    return blocks


def _commands(block: str) -> list[Command]:
    found = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        text, output = re.match(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
        code = re.search(r"^exit (\d+)$", output, re.MULTILINE)
        found.append(Command(text, int(code[1]) if code else 0))
    return found
