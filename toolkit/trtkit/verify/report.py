"""What a verification found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

from trtkit.verify.bisect import Bisection
from trtkit.verify.comparison import Comparison
from trtkit.verify.tolerance import Tolerance

Status = Literal["passed", "failed", "skipped"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Check(_Frozen):
    """Something looked at besides numbers. status "note": worth knowing, neither right nor wrong."""

    name: str
    status: Status | Literal["note"]
    text: str


class Row(_Frozen):
    """One output for one case. case: "min", "opt", "max", "fixed", "batch N", "shapes N", or a file's name;
    shapes: of the inputs, "input:1x3x224x224"."""

    case: str
    shapes: str
    output: str
    comparison: Comparison


class SubjectReport(_Frozen):
    """One subject. runner: who ran it, "" where nobody could; reason: why it failed or was skipped;
    bisected: the case that was bisected, and what came out."""

    file: str
    runner: str
    precision: str
    tolerance: Tolerance
    status: Status
    reason: str = ""
    checks: tuple[Check, ...] = ()
    rows: tuple[Row, ...] = ()
    bisected: str | None = None
    bisection: Bisection | None = None


class VerifyReport(_Frozen):
    """All subjects against one reference. notes: what is remarkable about the reference itself."""

    reference: str
    runner: str
    notes: tuple[Check, ...]
    subjects: tuple[SubjectReport, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def status(self) -> Status:
        """failed where one subject failed; else skipped where one could not be run; else passed."""
        return worst(one.status for one in self.subjects)


def worst(statuses: Iterable[str]) -> Status:
    """failed before skipped before passed; a note is none of them."""
    seen = set(statuses)
    return "failed" if "failed" in seen else "skipped" if "skipped" in seen else "passed"
