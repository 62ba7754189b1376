"""The command line: verbs, and errors as text with an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from trtkit import __version__
from trtkit.commands import VERBS
from trtkit.errors import EnvironmentLack, RequestError, TrtkitError

EXTRAS = {
    "torch": "torch", "torchvision": "torch", "onnxscript": "export", "matplotlib": "plot",
    "filelock": "build", "google": "build", "jinja2": "build", "ml_dtypes": "build", "networkx": "build",
    "onnx": "build", "onnxruntime": "build", "PIL": "build", "polygraphy": "build",
    "cuda": "serve", "fastapi": "serve", "httptools": "serve", "prometheus_client": "serve",
    "python_multipart": "serve", "starlette": "serve", "uvicorn": "serve", "uvloop": "serve",
    "numpy": "", "packaging": "", "pydantic": "", "pynvml": "", "rich": "", "ruamel": "", "typer": "",
}  # fmt: skip
"""A module that may be absent -> the extra of trtkit that brings it, "" for trtkit itself."""

SERVED = {"ml_dtypes", "onnxruntime", "PIL"}
"""Modules that the extra `serve` brings as well: whoever serves needs no more than that one."""


INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it. typer makes it of a verb's KeyboardInterrupt, silently."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `arguments` (default: the command line's) and exit with the codes that errors.py tells."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_run(typed))
    except TrtkitError as error:
        print(f"{error.text()}\nexit {error.exit_code}", file=sys.stderr)
        sys.exit(error.exit_code)


def _run(typed: list[str]) -> int:
    """Run the verb; its exit code. Whatever a person can act on comes out as a TrtkitError."""
    try:
        # Not standalone: click would tell wrong options and Ctrl-C in its own way.
        code = _app()(typed, prog_name="trtkit", standalone_mode=False) or 0
        return _interrupted() if code == INTERRUPTED else code
    except TyperException as error:
        verb = typed[0] if typed and typed[0] in {verb.__name__ for verb in VERBS} else ""
        known = ("next", " ".join(f"trtkit {verb} --help".split()))
        raise RequestError(error.format_message().rstrip("."), known) from error
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        if name not in EXTRAS:
            raise
        extra = "serve" if typed[0] == "serve" and name in SERVED else EXTRAS[name]
        package = f"'trtkit[{extra}]'" if extra else "trtkit"
        raise EnvironmentLack(
            f"`trtkit {typed[0]}` needs {name}, which is not installed here",
            ("next", f"pip install {package}, or use the trtforge/tensorrt image"),
        ) from error
    except BrokenPipeError:
        # Who read our output has seen enough; what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        raise EnvironmentLack(
            f"this machine says: {error.strerror or error}",
            *([("at", str(error.filename))] if error.filename else []),
            ("next", "correct that, and run the same command again"),
        ) from error
    except KeyboardInterrupt:
        return _interrupted()


def _interrupted() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # pressed twice, it must not break off the end
    print(f"error: interrupted\nexit {INTERRUPTED}", file=sys.stderr)
    return INTERRUPTED


def _app() -> typer.Typer:
    app = typer.Typer(
        help="From a PyTorch model to a served TensorRT engine.",
        epilog="Exit codes: 0 done, 1 the work failed, 2 wrong request, 3 this machine lacks something.",
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        rich_markup_mode="rich",
    )

    @app.callback(invoke_without_command=True)
    def _root(version: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
        if version:
            typer.echo(f"trtkit {__version__}")
            raise typer.Exit

    for verb in VERBS:
        app.command()(verb)
    return app
