"""cells: every combination of the matrix, valid or rejected, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from trtforge.commands.selection import Session, with_session
from trtforge.refusal import nearest
from trtforge.rules import explanation
from trtforge.terminal import plain_table

if TYPE_CHECKING:
    from trtforge.cells import Cells, Verdict


@with_session
def cells(session: Session) -> None:
    """List the combinations of the matrix: a summary, or with selectors or --json each of them."""
    project = session.project
    asked = {
        axis: tuple(dict.fromkeys(name for value in values for name in project.cells.meaning(axis, value)))
        for axis, values in session.request.items()
    }
    verdicts = [project.cells.verdict(cell) for cell in project.cells.candidates(asked)]
    if session.terminal.json:
        session.terminal.answer([_answer(project.cells, verdict) for verdict in verdicts])
    valid = [verdict for verdict in verdicts if not verdict.broken]
    if asked:
        for verdict in valid:
            session.terminal.say(project.cells.name(verdict.cell))
    else:
        _show_grid(session, valid)
    rejected = Counter(rule.id for verdict in verdicts for rule in verdict.broken[:1])
    session.terminal.say("", f"{len(valid)} valid, {len(verdicts) - len(valid)} rejected:")
    table = plain_table("", "", "")
    because = {rule.id: rule.because for rule in project.matrix.rules}
    for rule, count in rejected.most_common():
        # What is said of many cells names no one's values: {cuda} becomes <cuda>.
        table.add_row(f"  {count}", rule, because[rule].replace("{", "<").replace("}", ">"))
    session.terminal.say(table)
    if asked and not valid:
        session.terminal.say("", "nearest:", *(f"  {hint}" for hint in nearest(project.cells, asked)))


def _show_grid(session: Session, valid: Iterable[Verdict]) -> None:
    """CUDA by architecture: the TensorRT flavours of the `valid` cells."""
    cells, axes = session.project.cells, session.project.matrix.axes
    found = {(one.cell.cuda, one.cell.arch, cells.flavour(one.cell)) for one in valid}
    table = plain_table("cuda", *axes.arch)
    flavours = session.project.matrix.flavours.items()
    for cuda in axes.cuda:
        possible = [
            [flavour.short for name, flavour in flavours if (cuda, arch, name) in found] for arch in axes.arch
        ]
        table.add_row(cuda, *(" ".join(shorts) or "-" for shorts in possible))
    session.terminal.say(table)


def _answer(cells: Cells, verdict: Verdict) -> dict[str, object]:
    facts = cells.facts(verdict.cell)
    return {
        "cell": cells.name(verdict.cell),
        "axes": verdict.cell.axes(),
        "valid": not verdict.broken,
        "rules": [{"rule": rule.id, "because": explanation(rule, facts)} for rule in verdict.broken],
    }
