"""engine: find a Docker Engine, or start one of our own."""

from __future__ import annotations

from typing import Annotated

import typer

from trtforge.engine.setup import ensure_engine, stop_engine
from trtforge.project import Project, find_root
from trtforge.terminal import Terminal


def engine(
    *,
    own: Annotated[bool, typer.Option("--own", help="No other Engine than one below the cache.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the Engine that trtforge started.")] = False,
) -> None:
    """Print the address of an Engine; on Debian or Ubuntu, as root, install and start one if needed."""
    cache = Project(find_root()).cache
    terminal = Terminal()
    if stop:
        terminal.say("stopped" if stop_engine(cache) else "there was none of ours")
    else:
        terminal.say(ensure_engine(cache, own=own))
