"""The command line: verbs, and errors as text with an exit code."""

from __future__ import annotations

import functools
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.exceptions import TyperException

from trtforge import __version__
from trtforge.commands.build import build
from trtforge.commands.catalogue import catalogue
from trtforge.commands.cells import cells
from trtforge.commands.doctor import doctor
from trtforge.commands.engine import engine
from trtforge.commands.gc import gc
from trtforge.commands.layer import layer
from trtforge.commands.lock import lock
from trtforge.commands.nightly import nightly
from trtforge.commands.plan import plan
from trtforge.commands.publish import publish
from trtforge.commands.pull import pull
from trtforge.commands.push import push
from trtforge.commands.render import render
from trtforge.commands.report import report
from trtforge.commands.rollback import rollback
from trtforge.commands.sbom import sbom
from trtforge.commands.schema import schema
from trtforge.commands.size import size
from trtforge.commands.smoke import smoke
from trtforge.commands.verify_base import verify_base
from trtforge.errors import ForgeError, Interrupted, RequestError, as_forge_error
from trtforge.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERBS = (
    build, plan, cells, lock, render, push, publish, catalogue, pull, rollback, nightly, report,
    smoke, size, sbom, layer, engine, doctor, verify_base, gc, schema,
)  # fmt: skip
VERB_NAMES = tuple(verb.__name__.replace("_", "-") for verb in VERBS)
"""What people type."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `arguments` (default: the command line's) and exit with design.md's codes."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    terminal = Terminal(json="--json" in typed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: CI ends jobs so
    try:
        sys.exit(_run(_with_verb(typed)))
    except ForgeError as error:
        terminal.error(error)
        sys.exit(error.exit_code)


def _run(typed: list[str]) -> int:
    """Run the verb; its exit code. Whatever a person can act on comes out as a ForgeError."""
    try:
        # Not standalone: click would tell wrong options and Ctrl-C in its own way.
        return _app()(typed, prog_name="python build.py", standalone_mode=False) or 0
    except TyperException as error:
        verb = typed[0] if typed[0] in VERB_NAMES else ""
        known = ("next", " ".join(f"python build.py {verb} --help".split()))
        raise RequestError(error.format_message().rstrip("."), known) from error
    except BrokenPipeError:
        # Who read our output has seen enough; what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        raise as_forge_error(error) from error


def _with_verb(typed: list[str]) -> list[str]:
    """`python build.py --cuda 12.1` is `python build.py build --cuda 12.1`."""
    if typed and (not typed[0].startswith("-") or typed[0] in ("--help", "--version")):
        return typed
    return ["build", *typed]


def _app() -> typer.Typer:
    app = typer.Typer(
        help="Tested, locked, small Docker images with TensorRT on a PyTorch-CUDA base, from a matrix.",
        epilog="Without a verb: build. Exit codes: 0 done, 1 a build or a test failed, 2 wrong request, "
        "3 this machine lacks something.",
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        rich_markup_mode="rich",
    )

    @app.callback(invoke_without_command=True)
    def _root(version: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
        if version:
            typer.echo(f"trtforge {__version__}")
            raise typer.Exit

    for verb in VERBS:
        app.command()(_interruptible(verb))
    return app


def _interruptible(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb`, with Ctrl-C told as our errors are, which click would call "Aborted" and exit with 1."""

    @functools.wraps(verb)
    def wrapped(**options: Any) -> None:
        try:
            verb(**options)
        except KeyboardInterrupt as error:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # pressed twice, it must not break off the end
            raise Interrupted from error

    return wrapped
