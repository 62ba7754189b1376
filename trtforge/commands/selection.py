"""The selectors that most verbs share (--cuda 12.1 --arch ampere ...), and the session they make."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from trtforge.axes import AXES
from trtforge.cells import Choice
from trtforge.errors import RequestError
from trtforge.production.jobs import Jobs, default_jobs
from trtforge.project import Project, find_root
from trtforge.terminal import Terminal

_HELP = {
    "cuda": "CUDA version: 12.1, or several: 12.1,12.8.",
    "arch": "GPU architecture: ampere, or several: ampere,ada.",
    "torch": "PyTorch release, or one build of it: 2.9.1+cu126.",
    "tensorrt": "auto, rtx, full, or a version.",
    "os": "Operating system: debian12.",
    "python": "Python of the image: 3.11.",
    "variant": "Variant of the image: runtime, devel, jupyter, ssh; serve or deploy (no torch).",
    "code": "GPU code in torch's libraries: all that its wheel has, or slim: what the cell's GPUs run.",
}
_SELECTORS = "Selectors"

JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Layers, and downloads, at a time. Default: as many as there are CPUs, and as free memory and "
        "disk allow; `plan` says which.",
    ),
]

SchedulerOption = Annotated[
    str, typer.Option("--scheduler", help="A Dask scheduler whose workers do the work: tcp://host:8786.")
]


@dataclass(frozen=True)
class Session:
    """What a verb works with: the project, what was asked of it, and where to say things.

    all_cells: --all, every published cell (or, for verbs that only report, every cell there is).
    """

    project: Project
    request: dict[str, tuple[str, ...]]
    all_cells: bool
    terminal: Terminal

    def published(self) -> list[Choice]:
        """The cells of the matrix's publish rows."""
        return self.project.cells.published()

    def jobs(self, asked: int | None) -> Jobs:
        """How many layers to make at a time."""
        return Jobs(asked, "asked for") if asked else default_jobs(self.project.cache)

    def choose(self) -> list[Choice]:
        """The cells that were asked for; with --all, the published ones."""
        if self.all_cells:
            return self.published()
        lock = self.project.read_lock()
        return self.project.cells.choose(self.request, self.project.availability(lock))


def with_session(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(session, ...)` the selectors, --wheelhouse, --offline and --json as options."""

    @functools.wraps(command)
    def wrapped(**options: Any) -> None:
        request = {axis: tuple(value.split(",")) for axis in AXES if (value := options.pop(axis)) is not None}
        if options.pop("slim"):
            request["code"] = _slim(request)
        project = Project(find_root(), options.pop("wheelhouse"), options.pop("offline"))
        terminal = Terminal(json=options.pop("json"))
        command(Session(project, request, options.pop("all_cells"), terminal), **options)

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    parameters = [*_selectors(), *own]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del wrapped.__wrapped__
    return wrapped


def _selectors() -> list[inspect.Parameter]:
    texts = {
        axis: Annotated[str | None, typer.Option(f"--{axis}", help=_HELP[axis], rich_help_panel=_SELECTORS)]
        for axis in AXES
    }
    selectors = [_option(axis, kind, None) for axis, kind in texts.items()]
    everything = typer.Option("--all", help="All cells of the matrix.", rich_help_panel=_SELECTORS)
    house = typer.Option(
        "--wheelhouse", help="A folder of wheels to look in first.", file_okay=False, exists=True
    )
    offline = typer.Option("--offline", help="Ask no index: the wheelhouse and the store are all there is.")
    as_json = typer.Option("--json", help="Answer in JSON, for machines.")
    slim = typer.Option("--slim", help="Short for --code slim.", rich_help_panel=_SELECTORS)
    return [
        *selectors,
        _option("slim", Annotated[bool, slim], False),
        _option("all_cells", Annotated[bool, everything], False),
        _option("wheelhouse", Annotated[Path | None, house], None),
        _option("offline", Annotated[bool, offline], False),
        _option("json", Annotated[bool, as_json], False),
    ]


def _slim(request: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What --slim asks of the axis `code`.

    Raises:
        RequestError: --code says something else.
    """
    if request.get("code", ("slim",)) != ("slim",):
        raise RequestError(
            f"--slim and --code {','.join(request['code'])} exclude each other",
            ("next", "leave one of them out; --slim is short for --code slim"),
        )
    return ("slim",)


def _option(name: str, kind: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
