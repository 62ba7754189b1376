"""verify-base: can this image be the base of ours, and what is to be put right in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trtforge.base_checks.report import report_base
from trtforge.project import Project, find_root
from trtforge.terminal import Terminal, plain_table

if TYPE_CHECKING:
    from trtforge.base_checks.report import BaseReport
    from trtforge.cells import Cells


def verify_base(
    image: Annotated[str, typer.Argument(help="registry/name@sha256:..., a tag, or what the Engine has.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")] = False,
) -> None:
    """Examine an image that is to be a base: what fits, what does not, and the lines for matrix.yaml.

    Exit 0: it fits; 1: it does not.
    """
    terminal, project = Terminal(json=json), Project(find_root())
    matrix, engine = project.matrix, project.engine()
    with terminal.progress() as progress:
        report = report_base(image, matrix, engine, project.store, progress)
    terminal.answer(_answer(report))
    _show(terminal, report, project.cells)
    if not report.fit:
        raise typer.Exit(1)


def _show(terminal: Terminal, report: BaseReport, cells: Cells) -> None:
    table = plain_table("check", "", "rule", "found")
    for check in report.checks:
        table.add_row(check.name, check.status, check.rule, check.found)
        if check.remedy:
            table.add_row("", "", "", f"-> {check.remedy}")
    terminal.say(table)
    if report.carried.cells:
        terminal.say("", "cells it could carry:")
        carries = plain_table("", "", "")
        for arch, (cudas, flavours) in _by_arch(report, cells).items():
            carries.add_row(f"  {arch}", f"CUDA {', '.join(cudas)}", f"TensorRT {', '.join(flavours)}")
        terminal.say(carries)
    if report.carried.against:
        terminal.say("", "rules against the others:")
        against = plain_table("", "", "")
        for rule, count in report.carried.against.items():
            against.add_row(f"  {count}", rule, report.carried.because[rule])
        terminal.say(against)
    if report.fit:
        terminal.say("", "for matrix.yaml, below axes: os:", f"    {report.lines}")
    terminal.say("", f"{report.candidate.asked} {'fits' if report.fit else 'does not fit'} (docs/base.md)")


def _by_arch(report: BaseReport, cells: Cells) -> dict[str, tuple[list[str], list[str]]]:
    """Architecture -> the CUDA versions, and the short names of the flavours, of its cells."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for cell in report.carried.cells:
        short = cells.matrix.flavours[cells.flavour(cell)].short
        for known, value in zip(found.setdefault(cell.arch, ([], [])), (cell.cuda, short), strict=True):
            if value not in known:
                known.append(value)
    return found


def _answer(report: BaseReport) -> dict[str, Any]:
    against = report.carried.against.items()
    return {
        "image": report.candidate.asked,
        "pinned": report.candidate.pinned,
        "fit": report.fit,
        "checks": [asdict(check) for check in report.checks],
        "cells": [cell.axes() for cell in report.carried.cells],
        "against": [
            {"rule": rule, "cells": count, "because": report.carried.because[rule]} for rule, count in against
        ],
        "matrix": report.lines if report.fit else "",
        "found": report.base.model_dump(mode="json") if report.base else None,
    }
