"""Why a request has no valid cell: the rules against it, and the nearest requests that have one."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from trtforge.errors import CompatibilityError
from trtforge.rules import explanation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trtforge.cells import Cell, Cells, Request

MOST = 3
"""How many of the nearest requests people are told of."""


def refusal(cells: Cells, asked: Mapping[str, str], request: Request) -> CompatibilityError:
    """Why no candidate of `request` is valid: the rules that stand against the one that breaks fewest.

    Args:
        asked: what was typed, axis -> value.
    """
    verdicts = [cells.verdict(cell) for cell in cells.candidates(request)]
    best = min(verdicts, key=lambda verdict: len(verdict.broken))
    everywhere = [rule for rule in best.broken if all(rule in verdict.broken for verdict in verdicts)]
    rules = everywhere or list(best.broken)
    facts = cells.facts(best.cell)
    typed = " ".join(f"--{axis} {value}" for axis, value in asked.items())
    return CompatibilityError(
        f"{typed} cannot be: {explanation(rules[0], facts)}",
        rules[0].id,
        *(("rule", f"{rule.id}: {explanation(rule, facts)} ({rule.source})") for rule in rules),
        *(("nearest", hint) for hint in nearest(cells, request)),
        ("more", f"docs/rules.md#{rules[0].id}"),
    )


def nearest(cells: Cells, request: Request) -> list[str]:
    """The fewest changes to `request` that make it valid, each as what to type and what it gives."""
    for count in range(1, len(request) + 1):
        hints = []
        for dropped in combinations(request, count):
            kept = {axis: values for axis, values in request.items() if axis not in dropped}
            valid = [cell for cell in cells.candidates(kept) if not cells.verdict(cell).broken]
            if valid:
                cell = min(valid, key=lambda cell: _distance(cells, cell, request, dropped))
                typed = " ".join(f"--{axis} {_typed(cells, cell, axis)}" for axis in dropped)
                hints.append(f"{typed}  ({cells.described(cell)})")
        if hints:
            return hints[:MOST]
    return []


def _typed(cells: Cells, cell: Cell, axis: str) -> str:
    return (
        cells.matrix.flavours[cells.flavour(cell)].short if axis == "tensorrt" else str(getattr(cell, axis))
    )


def _distance(cells: Cells, cell: Cell, request: Request, dropped: Iterable[str]) -> int:
    """How far `cell` is from what was asked: steps along each of the `dropped` axes, in its order."""
    steps = 0
    for axis in dropped:
        values = _in_order(cells.matrix.axes.values(axis))
        if len(request[axis]) > 1:  # "rtx": any of them was as good
            continue
        wanted = request[axis][0].partition("+")[0]
        steps += abs(values.index(getattr(cell, axis)) - values.index(wanted))
    return steps


def _in_order(values: list[str]) -> list[str]:
    """Versions from old to new; names as they are listed."""
    try:
        return sorted(values, key=Version)
    except InvalidVersion:
        return values
