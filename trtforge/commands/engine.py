"""engine: find a Docker Engine, or start one of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trtforge.engine.setup import ensure_engine, stop_engine
from trtforge.project import Project
from trtforge.terminal import Terminal


def engine(
    *,
    stop: Annotated[bool, typer.Option("--stop", help="End the Engine that trtforge started.")] = False,
) -> None:
    """Print the address of an Engine; on Debian or Ubuntu, as root, install and start one if needed."""
    cache = Project(Path.cwd()).cache
    terminal = Terminal()
    if stop:
        terminal.say("stopped" if stop_engine(cache) else "there was none of ours")
    else:
        terminal.say(ensure_engine(cache))
