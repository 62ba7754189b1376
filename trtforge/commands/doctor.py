"""doctor: is this machine ready to build, and if not, what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from trtforge.doctor import examine
from trtforge.project import Project, find_root
from trtforge.terminal import Terminal


def doctor(
    *, json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")] = False
) -> None:
    """Check Engine, disk, tools, indexes, GPU and lock, and give the remedy for each lack."""
    terminal, project = Terminal(json=json), Project(find_root())
    findings = []
    for finding in examine(project, project.engine):
        findings.append(finding)
        terminal.say(f"{finding.status:<8} {finding.name:<18} {finding.found}")
        if finding.remedy:
            terminal.say(f"{'':<27} -> {finding.remedy}")
    terminal.answer([asdict(finding) for finding in findings])
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(3)
