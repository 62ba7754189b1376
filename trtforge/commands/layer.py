"""layer: one wheel's layer, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trtforge.layers.install_target import InstallTarget
from trtforge.layers.wheel_layer import wheel_layer
from trtforge.terminal import Terminal, megabytes


def layer(
    wheel: Annotated[Path, typer.Argument(help="A wheel file.", exists=True, dir_okay=False)],
    *,
    python: Annotated[str, typer.Option(help="Python of the image.")] = "3.11",
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the tar.gz goes.")],
    prefix: Annotated[str, typer.Option(help="The environment's folder in the image.")] = "/opt/venv",
    json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")] = False,
) -> None:
    """Write the layer of one wheel to a file, as a build would make it."""
    terminal = Terminal(json=json)
    unfinished = output.with_name(output.name + ".part")
    try:
        with (
            terminal.progress() as progress,
            progress.task(wheel.name, wheel.stat().st_size) as advance,
            unfinished.open("wb") as out,
        ):
            made = wheel_layer([wheel], InstallTarget(python, prefix), out, advance)
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
    terminal.say(
        f"digest   {made.digest}",
        f"diff ID  {made.diff_id}",
        f"size     {megabytes(made.size)}, {megabytes(made.unpacked)} unpacked",
    )
    terminal.answer(
        {"digest": made.digest, "diff_id": made.diff_id, "size": made.size, "unpacked": made.unpacked}
    )
