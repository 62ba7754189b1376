"""Which code of a container some GPUs would run; the same rule as in smoke/arch.py, for many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trtforge.slim.fatbin import Entry


def kept(entries: Sequence[Entry], capabilities: Iterable[int]) -> list[Entry]:
    """What of `entries` GPUs of `capabilities` may run, in order.

    A driver takes machine code before PTX, and the closest capability at or below the GPU's own. Between
    variants of one capability ("90", "90a") it is left to the driver: all that the GPU can run stay.
    """
    wanted = {id(entry) for capability in capabilities for entry in _run(entries, capability)}
    return [entry for entry in entries if id(entry) in wanted]


def _run(entries: Sequence[Entry], capability: int) -> list[Entry]:
    able = [entry for entry in entries if entry.runs_on(capability)]
    able = [entry for entry in able if entry.kind == "sm"] or able
    closest = max((entry.capability for entry in able if not entry.suffix), default=0)
    return [entry for entry in able if entry.capability >= closest]
