"""What a night did, for people (Markdown, HTML) and machines (JSON)."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date  # noqa: TC003 (pydantic needs it at run time)
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from pydantic import BaseModel, ConfigDict, ValidationError

from trtforge.errors import RequestError
from trtforge.nightly.changes import Changes
from trtforge.terminal import megabytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.smoke import SmokeReport

Result = Literal["failed", "held", "published", "skipped", "up to date", "to publish"]
"""What became of a cell, what wants attention first; "to publish" only where nothing was to be done."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Checks(_Model):
    """What the smoke tests of an image said.

    skipped: check -> why it did not run. failed: check -> why.
    """

    passed: int
    failed: dict[str, str]
    skipped: dict[str, str]


class CellReport(_Model):
    """What became of one cell.

    why: it was built, or left alone; of a failure, what went wrong.
    facts: what else is known of the failure, label and text.
    digest, tags: of its newest image in the registry, tags with the dated one last.
    size, size_before: bytes of its compressed layers, now and in the image before; None: there is none.
    pushed: bytes that were sent for it. seconds: from the start of the work until it was done; attempts: of
        them the last was the good one, if any was.
    nights: on which it has failed in a row. kept: why it keeps, in part or wholly, what was locked before.
    """

    cell: str
    result: Result
    why: str
    facts: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    tags: tuple[str, ...] = ()
    size: int | None = None
    size_before: int | None = None
    pushed: int = 0
    checks: Checks | None = None
    seconds: float = 0
    attempts: int = 0
    nights: tuple[date, ...] = ()
    kept: str = ""


class Report(_Model):
    """What a night did.

    namespace: where images went, "" where only the lock was refreshed. pruned: what was removed there.
    """

    day: date
    namespace: str = ""
    changes: Changes = Changes()
    cells: tuple[CellReport, ...] = ()
    pruned: tuple[str, ...] = ()
    seconds: float = 0

    @property
    def ok(self) -> bool:
        """Whether nobody has to look: a held cell counts as failed, so that it is not forgotten."""
        return not any(cell.result in ("failed", "held") for cell in self.cells)

    @property
    def summary(self) -> str:
        """The night in one line."""
        count = Counter(cell.result for cell in self.cells)
        parts = [f"{count[result]} {result}" for result in get_args(Result) if count[result]]
        if not (count.keys() - {"up to date", "skipped"} or self.changes):
            return f"nothing changed: {', '.join(parts)}" if parts else "nothing changed"
        if self.changes.packages:
            number = len(self.changes.packages)
            parts.append(f"{number} package{'s' if number > 1 else ''} changed")
        return ", ".join(parts) or "the lock changed"

    def sorted_cells(self) -> list[CellReport]:
        """What wants attention first."""
        return sorted(self.cells, key=lambda cell: (get_args(Result).index(cell.result), cell.cell))


def checks_of(report: SmokeReport) -> Checks:
    """A smoke report in short."""
    return Checks(
        passed=report.count("passed"),
        failed={one.name: one.reason for one in report.results if one.status == "failed"},
        skipped={one.name: one.reason for one in report.results if one.status == "skipped"},
    )


def write_report(report: Report, folder: Path) -> None:
    """Write report.md, report.html and report.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("report.md", "report.html"):
        text = _templates().get_template(f"{name}.j2").render(report=report, results=get_args(Result))
        (folder / name).write_text(text, encoding="utf-8")
    summary = {"summary": report.summary, "ok": report.ok}
    whole = report.model_dump(mode="json") | summary
    (folder / "report.json").write_text(_json(whole), encoding="utf-8")


def read_report(file: Path) -> Report:
    """A report.json.

    Raises:
        RequestError: it is none.
    """
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return Report.model_validate({name: told[name] for name in Report.model_fields if name in told})
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise RequestError(
            f"{file} is no report of a night",
            ("because", str(error).splitlines()[0]),
            ("next", "name folders that `nightly --report` or `lock --report` wrote"),
        ) from error


def joined(reports: Sequence[Report]) -> Report:
    """One report of a night whose work was shared out: what was to be done, and what became of it.

    A cell that was to be published, and that no other report tells of, has failed.
    """
    cells: dict[str, CellReport] = {}
    for cell in (cell for report in reports for cell in report.cells):
        if cell.result == "to publish":
            lost = {"result": "failed", "facts": (("planned", cell.why),), "why": "no job reported of it"}
            cells.setdefault(cell.cell, cell.model_copy(update=lost))
        else:
            cells[cell.cell] = cell
    return Report(
        day=max(report.day for report in reports),
        namespace=next((one.namespace for one in reports if one.namespace), ""),
        changes=next((one.changes for one in reports if one.changes), Changes()),
        cells=tuple(cells.values()),
        pruned=tuple(dict.fromkeys(name for report in reports for name in report.pruned)),
        seconds=max(report.seconds for report in reports),
    )


def _json(whole: object) -> str:
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=select_autoescape(("html.j2", "html"), default=False),
    )
    environment.filters |= {"megabytes": _size, "cell": _table_cell, "duration": _duration}
    return environment


def _size(size: float | None) -> str:
    if size is None:
        return ""
    return megabytes(size) if size >= 1e6 or not size else f"{size / 1e3:,.0f} kB"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{seconds:.1f} s"


def _table_cell(text: str) -> str:
    """`text` as the content of a cell of a Markdown table (GitHub Flavored Markdown, section 4.10)."""
    escaped = "".join(f"\\{one}" if one in "\\`*_|<>[]" else one for one in text)
    return " ".join(escaped.split())
