"""Raise the lock within the steps that matrix.yaml allows; what cannot be raised tonight stays as it was.

Wheels of a base and what stands on it were resolved together. So if one of them cannot be had (its index does
not answer, or the allowed versions contradict each other), the base stays, and what stands on it is raised on
that; only what fails even there stays too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from trtforge.errors import IndexUnreachable
from trtforge.index.pins import Raisable
from trtforge.index.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from trtforge.cells import Cell
    from trtforge.errors import ForgeError
    from trtforge.index.pins import Held, Pin
    from trtforge.index.resolve import Need
    from trtforge.lock import Lock, LockedCell
    from trtforge.locking import Locking, Reach
    from trtforge.policy import RefreshPolicy, Step


@dataclass(frozen=True)
class Refreshed:
    """A lock that was raised.

    kept: tag of a cell -> why it keeps, in part or wholly, what was locked before.
    """

    lock: Lock
    kept: dict[str, str]


def allowed(version: str, step: Step) -> str:
    """The versions that `step` lets `version` become, itself among them: a specifier (PEP 440).

    A local version (2.9.1+cu126) is one build among several, which the matrix chooses: it stays.
    """
    now = Version(version)
    if step == "none" or now.local:
        return f"=={version}"
    if step == "any":
        return f">={version}"
    end = [*now.release, 0][: 1 if step == "minor" else 2]
    end[-1] += 1
    epoch = f"{now.epoch}!" if now.epoch else ""
    return f">={version},<{epoch}{'.'.join(map(str, end))}"


def within(policy: RefreshPolicy) -> Reach:
    """How far `policy` lets each pin move."""
    steps = {canonicalize_name(name): step for name, step in policy.packages.items()}

    def reach(pin: Pin) -> Raisable:
        return Raisable(pin, allowed(pin.version, steps.get(canonicalize_name(pin.name), policy.default)))

    return reach


def refresh(
    old: Lock,
    wanted: Iterable[Cell],
    inputs: str,
    policy: RefreshPolicy,
    locking: Callable[..., Locking],
) -> Refreshed:
    """`old` with its pins raised, and the `wanted` cells only.

    Args:
        inputs: `lock.inputs_checksum` of what is locked now.
        locking: makes a run of locking; takes `reach`, `stay` and `unattended` (see `Locking`).
    """
    cells = list(wanted)
    stay = {} if policy.system else dict.fromkeys((*old.os, *old.packages), "")
    while True:
        run = locking(reach=within(policy), stay=stay, unattended=True)
        lock = run.lock(cells, inputs)
        if not (more := _staying(old, run.failures, stay)):
            return Refreshed(lock, _kept(lock, stay))
        stay |= more


def _staying(old: Lock, failures: Mapping[str, ForgeError], stay: Collection[str]) -> dict[str, str]:
    """What of `old` is to stay beside `stay`, and why: the base of what failed, or else that itself."""
    more: dict[str, str] = {}
    for name, error in failures.items():
        bases = {below for cell in old.cells.values() for below in _below(name, cell)}
        why = f"{error.problem} (for {name})"
        more |= dict.fromkeys(sorted(bases - set(stay)) or [name], why)
    return {
        name: why for name, why in more.items() if name in {*old.sets, *old.os, *old.packages} - set(stay)
    }


def _below(name: str, cell: LockedCell) -> list[str]:
    """What the set or the packages `name` were resolved upon, if they are those of `cell`."""
    if name == cell.packages:
        return [cell.axes["os"]]
    sets = [one for _, one in cell.sets()]
    return sets[: sets.index(name)] if name in sets else []


def _kept(lock: Lock, stay: Mapping[str, str]) -> dict[str, str]:
    kept = {}
    for tag, cell in lock.cells.items():
        names = (cell.axes["os"], cell.packages, cell.base, cell.tensorrt, cell.added, cell.toolkit)
        if cell.state == "locked" and (reasons := {why for name in names if (why := stay.get(name))}):
            kept[tag] = "; ".join(sorted(reasons))
    return kept


class RememberedWheels:
    """`resolve` that asks nothing twice: no question that was answered, and no index that was silent."""

    def __init__(self, ask: Callable[..., tuple[Pin, ...]] = resolve) -> None:
        self._ask = ask
        self._answers: dict[tuple[object, ...], tuple[Pin, ...]] = {}
        self._down: dict[str, IndexUnreachable] = {}

    def __call__(
        self, requirements: Sequence[Need], *, constraints: Sequence[Held], python: str, **how: Any
    ) -> tuple[Pin, ...]:
        for need in requirements:
            if need.index in self._down:
                raise self._down[need.index]
        question = (*requirements, *constraints, python)
        if question not in self._answers:
            try:
                answer = self._ask(requirements, constraints=constraints, python=python, **how)
            except IndexUnreachable as error:
                self._down[error.index] = error
                raise
            self._answers[question] = answer
        return self._answers[question]
