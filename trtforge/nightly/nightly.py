"""A night's cells: those whose recipe changed are published, a failure stops no other, and is remembered."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from trtforge.errors import EnvironmentLack, ForgeError, OverBudget
from trtforge.nightly.failures import first_failure, forget_failure, keep_failure
from trtforge.nightly.report import CellReport, checks_of
from trtforge.production.production import Outcome
from trtforge.publishing.publish import promote

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from datetime import date

    from trtforge.nightly.failures import Failure
    from trtforge.nightly.report import Result
    from trtforge.nightly.tasks import Action, Task
    from trtforge.progress import Progress
    from trtforge.publishing.entry import Entry
    from trtforge.publishing.facts import Facts
    from trtforge.recipe import Recipe
    from trtforge.registry.namespace import Namespace

    Produce = Callable[[Sequence[tuple[Recipe, ...]]], Generator[Outcome]]

ATTEMPTS = 2
"""How often a cell is tried in one night: what fails is tried once more when all others are done."""

_RESULTS: Mapping[Action, Result] = {
    "publish": "to publish",
    "up to date": "up to date",
    "held": "held",
    "skip": "skipped",
}


@dataclass(frozen=True)
class Night:
    """How a night's work is done.

    produce: stages and tests chains of recipes, an outcome for each as it is done.
    day: by the registry's clock. require_gpu: whether a GPU check that was skipped is a failure.
    """

    namespace: Namespace
    progress: Progress
    produce: Produce
    day: date
    require_gpu: bool = False

    def run(self, tasks: Sequence[Task]) -> list[CellReport]:
        """Do what is to be done; what became of each cell, in the order of the tasks.

        Raises:
            ForgeError: the work could not even begin; nothing is remembered of the cells then.
        """
        left = {task.recipe.key: task for task in tasks if task.action == "publish"}
        reports: dict[str, CellReport] = {}
        start = time.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with closing(self._attempt(dict(left), attempt, start)) as ended:
                    for task, done in ended:
                        reports[task.name] = done_report(task, done)
                        if not _worth_another_try(done.error):
                            del left[task.recipe.key]
            except ForgeError as error:
                if not reports:
                    raise
                for task in left.values():  # what was done before is still told
                    done = Done(
                        Outcome(task.chain), (), error, time.monotonic() - start, attempt, task.failure
                    )
                    reports.setdefault(task.name, done_report(task, done))
                break
        return [reports.get(task.name) or untouched_report(task) for task in tasks]

    def _attempt(self, tasks: Mapping[str, Task], attempt: int, start: float) -> Generator[tuple[Task, Done]]:
        """Try these, by the key of their recipe, each once."""
        if not tasks:
            return
        facts = {key: one for task in tasks.values() for key, one in (task.facts or {}).items()}
        with closing(self.produce([task.chain for task in tasks.values()])) as outcomes:
            for outcome in outcomes:
                task = tasks[outcome.chain[-1].key]
                entries, error = self._promote(outcome, facts)
                failure = None
                if _worth_another_try(error) and attempt < ATTEMPTS:
                    self.progress.note(f"{task.name}: {error.problem}; to be tried once more")
                else:
                    failure = self._remember(task, error)
                yield task, Done(outcome, entries, error, time.monotonic() - start, attempt, failure)

    def _promote(
        self, outcome: Outcome, facts: Mapping[str, Facts]
    ) -> tuple[tuple[Entry, ...], ForgeError | None]:
        if outcome.error:
            return (), outcome.error
        try:
            entries = promote(
                outcome.staged,
                outcome.reports,
                facts,
                self.namespace,
                self.progress,
                require_gpu=self.require_gpu,
            )
        except ForgeError as error:
            return (), error
        return tuple(entries), None

    def _remember(self, task: Task, error: ForgeError | None) -> Failure | None:
        """Keep or forget the failure of a cell in the registry.

        What this machine or an index lacked tonight is no fault of the cell, and counts as no night: the cell
        would be held for it when all is well again, until its inputs change. So is a budget, which is none of
        its inputs.
        """
        before = task.failure
        try:
            if error is None:
                if before:
                    forget_failure(before, self.namespace)
                return None
            if isinstance(error, EnvironmentLack | OverBudget):
                return before
            key, why = task.recipe.key, error.problem
            failure = (
                before.again(key, self.day, why) if before else first_failure(task.name, key, self.day, why)
            )
            keep_failure(failure, self.namespace)
        except ForgeError as refusal:
            self.progress.note(f"{task.name}: its failing nights cannot be written down: {refusal.problem}")
            return before
        return failure


@dataclass(frozen=True)
class Done:
    """What came of an attempt at a cell.

    entries: of its chain, if it was published. seconds: since the night's work began.
    failure: what is remembered of it.
    """

    outcome: Outcome
    entries: tuple[Entry, ...]
    error: ForgeError | None
    seconds: float
    attempt: int
    failure: Failure | None


def _worth_another_try(error: ForgeError | None) -> TypeGuard[ForgeError]:
    """Whether the same work may end better tonight."""
    return error is not None and not isinstance(error, OverBudget)


def done_report(task: Task, done: Done) -> CellReport:
    """What became of a cell that was worked on."""
    smoke = done.outcome.reports.get(task.recipe.key)
    error = done.error
    report = CellReport(
        cell=task.name,
        result="failed" if error else "published",
        why=error.problem if error else task.why,
        facts=tuple(error.facts) if error else (),
        checks=checks_of(smoke) if smoke else None,
        seconds=done.seconds,
        attempts=done.attempt,
        nights=done.failure.nights if done.failure else (),
        size_before=task.before.size if task.before else None,
        pushed=done.outcome.pushed,
    )
    return _with_image(report, done.entries[-1] if done.entries else task.before)


def untouched_report(task: Task) -> CellReport:
    """What a cell is that was not worked on."""
    report = CellReport(
        cell=task.name,
        result=_RESULTS[task.action],
        why=task.why,
        nights=task.failure.nights if task.failure and task.action == "held" else (),
    )
    return _with_image(report, task.before)


def _with_image(report: CellReport, entry: Entry | None) -> CellReport:
    """`report`, saying which image the cell's tags lead to."""
    if entry is None:
        return report
    tags = (*entry.tags, entry.dated)
    return report.model_copy(update={"digest": entry.digest, "tags": tags, "size": entry.size})
