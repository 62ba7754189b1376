"""All of it: from the name of an image to the checks, the cells and the lines for matrix.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.base import examine_base
from trtforge.base_checks.candidate import find_candidate
from trtforge.base_checks.carried import NAME, Carried, carried
from trtforge.base_checks.content_checks import cells_check, content_checks, python_absent
from trtforge.base_checks.image_checks import image_checks
from trtforge.base_checks.survey import python3_of, survey_image
from trtforge.errors import UnfitBase

if TYPE_CHECKING:
    from trtforge.base import Base
    from trtforge.base_checks.candidate import Candidate
    from trtforge.base_checks.check import Check
    from trtforge.engine.engine import Engine
    from trtforge.matrix import Matrix
    from trtforge.progress import Progress
    from trtforge.store import Store


@dataclass(frozen=True)
class BaseReport:
    """What is to be known of a possible base.

    base: what was found in it, None if its Python does not start. lines: to paste below `axes: os:`.
    """

    candidate: Candidate
    base: Base | None
    checks: tuple[Check, ...]
    carried: Carried
    lines: str

    @property
    def fit(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "failed" for check in self.checks)


def report_base(asked: str, matrix: Matrix, engine: Engine, store: Store, progress: Progress) -> BaseReport:
    """Find the image called `asked`, look into it in containers without network, and judge it.

    Raises:
        RequestError: there is no such image, or not for our platform.
        BuildError: it is not what its digests say, or Python in it starts and does not answer.
        EnvironmentLack: its registry or the Engine does not answer.
    """
    candidate = find_candidate(asked, engine, store, progress)
    outside = tuple(image_checks(candidate))
    with progress.task(f"examine {asked}"):
        try:
            base = examine_base(engine, candidate.name, asked, candidate.image)
        except UnfitBase as unfit:
            absent = python_absent(unfit.misfits["base-python"], python3_of(engine, candidate.name))
            return BaseReport(candidate, None, (*outside, absent), Carried(()), "")
        survey = survey_image(engine, candidate.name)
    cells = carried(base, matrix)
    inside = tuple(content_checks(candidate, base, survey, matrix))
    return BaseReport(
        candidate, base, (*inside, *outside, cells_check(cells)), cells, _lines(candidate, base)
    )


def _lines(candidate: Candidate, base: Base) -> str:
    pinned = candidate.pinned or "registry/name@sha256:... (after a push)"
    return f'{NAME}: {{base: "{pinned}", python: "{base.target.python}", glibc: "{base.glibc}"}}'
