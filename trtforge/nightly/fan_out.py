"""A night's cells as the jobs of a CI system: one job for those that differ in their architecture alone.

They share every large layer, so one job makes and pushes each of them once, and each further cell is cheap.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trtforge.cells import Cell


def github_matrix(cells: Iterable[Cell]) -> dict[str, list[dict[str, str]]]:
    """The jobs as GitHub's `strategy.matrix` takes them; each value is that of a selector of `nightly`.

    Source: GitHub Actions, workflow syntax: jobs.<job_id>.strategy.matrix.include.
    """
    groups: dict[Cell, list[str]] = {}
    for cell in cells:
        groups.setdefault(replace(cell, arch=""), []).append(cell.arch)
    jobs = []
    for cell, archs in groups.items():
        axes = cell.axes()
        torch = f"{axes.pop('torch')}+{axes.pop('build')}"
        jobs.append(axes | {"arch": ",".join(archs), "torch": torch})
    return {"include": jobs}
