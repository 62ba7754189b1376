"""What a pipeline did, and whether its budgets hold."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from trtkit.bench.report import BenchReport
from trtkit.calibrate.report import CalibrationReport
from trtkit.export.report import ExportReport
from trtkit.verify.report import VerifyReport

Action = Literal["done", "unchanged", "skipped"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class StepResult(_Model):
    """A step. action: "unchanged" where what it would make was there. says: what came of it, or why not."""

    name: str
    action: Action
    says: str
    seconds: float


class BudgetResult(_Model):
    """A budget. status: "skipped" where it could not be measured here. reason: why, or how far it is off."""

    name: str
    limit: float
    value: float | None
    status: Literal["held", "broken", "skipped"]
    reason: str = ""


class PipelineReport(_Model):
    """The whole of it. export, ... are those steps' own reports, None where a step did not come to one."""

    name: str
    steps: tuple[StepResult, ...]
    budgets: tuple[BudgetResult, ...]
    export: ExportReport
    calibrate: CalibrationReport | None = None
    verify: VerifyReport | None = None
    bench: BenchReport | None = None

    @property
    def ok(self) -> bool:
        """Nothing is wrong. What was skipped is neither right nor wrong."""
        failed_rows = self.bench is not None and any(row.status == "failed" for row in self.bench.rows)
        return (
            all(budget.status != "broken" for budget in self.budgets)
            and (self.verify is None or self.verify.status != "failed")
            and not failed_rows
        )

    @property
    def skipped(self) -> tuple[str, ...]:
        """What could not be done here, each with its reason."""
        steps = [f"{step.name}: {step.says}" for step in self.steps if step.action == "skipped"]
        subjects = [
            f"verify {one.file}: {one.reason}"
            for one in (self.verify.subjects if self.verify else ())
            if one.status == "skipped"
        ]
        budgets = [f"budget {one.name}: {one.reason}" for one in self.budgets if one.status == "skipped"]
        return (*steps, *subjects, *budgets)
