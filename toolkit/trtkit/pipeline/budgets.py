"""The budgets, held against what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from trtkit.bench.report import BenchReport, Row
from trtkit.calibrate.report import CalibrationReport
from trtkit.pipeline.report import BudgetResult
from trtkit.pipeline.spec import Budgets, LatencyBudget


def hold(
    budgets: Budgets, calibration: CalibrationReport | None, bench: BenchReport | None
) -> tuple[BudgetResult, ...]:
    """Each budget that was asked for, with what was measured."""
    return (*_accuracy(budgets, calibration), *_speed(budgets, bench))


def _accuracy(budgets: Budgets, calibration: CalibrationReport | None) -> Iterator[BudgetResult]:
    if calibration is None:
        return
    outputs = calibration.outputs
    measured = (
        ("INT8 top-1 agreement", budgets.agreement, calibration.agreement),
        ("INT8 cosine", budgets.cosine, min((one.cosine for one in outputs), default=None)),
        ("INT8 SQNR dB", budgets.sqnr_db, min((one.sqnr_db for one in outputs), default=None)),
    )
    for name, least, value in measured:
        if least is not None:
            yield _at_least(name, least, value, "no output has classes (rows, classes)")


def _speed(budgets: Budgets, bench: BenchReport | None) -> Iterator[BudgetResult]:
    for budget in budgets.latency:
        row = next((row for row in bench.rows if row.title == budget.row), None) if bench else None
        result = row.at(budget.batch) if row else None
        latency, absent = result.latency if result else None, _absent(budget, row, bench)
        name = f"{budget.row}, batch {budget.batch}"
        if budget.p50 is not None:
            yield _at_most(f"{name}: P50 ms", budget.p50, latency.p50 if latency else None, absent)
        if budget.p99 is not None:
            yield _at_most(f"{name}: P99 ms", budget.p99, latency.p99 if latency else None, absent)
        if budget.qps is not None:
            yield _at_least(f"{name}: QPS", budget.qps, result.qps if result else None, absent)


def _absent(budget: LatencyBudget, row: Row | None, bench: BenchReport | None) -> str:
    """Why a row has no numbers, if it has none."""
    if row is None:
        titles = ", ".join(row.title for row in bench.rows) if bench else "nothing"
        return f"the benchmark has no row of that name, but {titles}"
    gap = next((gap for gap in row.gaps if gap.batch == budget.batch), None)
    return gap.reason if gap else row.reason or f"batch {budget.batch} was not measured"


def _at_least(name: str, limit: float, value: float | None, absent: str) -> BudgetResult:
    return _held(name, limit, value, None if value is None else limit - value, "too little", absent)


def _at_most(name: str, limit: float, value: float | None, absent: str) -> BudgetResult:
    return _held(name, limit, value, None if value is None else value - limit, "too much", absent)


def _held(
    name: str, limit: float, value: float | None, over: float | None, word: str, absent: str
) -> BudgetResult:
    """over: by how much `value` is on the wrong side of `limit`; 0 or less where it is not."""
    if over is None:
        return BudgetResult(name=name, limit=limit, value=None, status="skipped", reason=absent)
    broken = not over <= 0  # NaN holds no budget
    reason = f"{over:.3g} {word}" if broken else ""
    status: Literal["held", "broken"] = "broken" if broken else "held"
    return BudgetResult(name=name, limit=limit, value=value, status=status, reason=reason)
