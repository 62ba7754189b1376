"""Budgets against measurements: held, broken, and skipped where nothing was measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.reports import report
from trtkit.calibrate import CalibrationReport, OutputAccuracy
from trtkit.pipeline.budgets import hold
from trtkit.pipeline.report import BudgetResult
from trtkit.pipeline.spec import Budgets, LatencyBudget

Numbers = st.floats(0.001, 1e6)


def calibration(*outputs: OutputAccuracy) -> CalibrationReport:
    return CalibrationReport(
        onnx="net.onnx", onnx_sha256="0", out="net.int8.onnx", out_sha256="1", method="entropy", samples=500,
        skipped=(), cache="none", quantised=3, kept=(), evaluated=100, evaluated_on="held-out samples",
        outputs=outputs, worst_layers=(), notes=(),
    )  # fmt: skip


def accuracy(cosine: float = 0.99, sqnr_db: float = 30, agreement: float | None = 0.95) -> OutputAccuracy:
    return OutputAccuracy(name="y", top1_agreement=agreement, cosine=cosine, sqnr_db=sqnr_db, max_abs=0.1)


def latency(row: str = "PyTorch FP32", batch: int = 1, **asked: float) -> Budgets:
    return Budgets(latency=(LatencyBudget(row=row, batch=batch, **asked),))


def one(budgets: Budgets, calibrated: CalibrationReport | None = None) -> BudgetResult:
    (result,) = hold(budgets, calibrated, report())
    return result


@given(limit=Numbers)
def test_a_latency_holds_up_to_its_limit_and_not_beyond(limit: float) -> None:
    result = one(latency(p99=limit))
    assert result.value is not None
    assert result.limit == limit
    assert result.status == ("held" if result.value <= limit else "broken")
    assert bool(result.reason) == (result.status == "broken")


@given(limit=Numbers)
def test_a_throughput_holds_from_its_limit_on(limit: float) -> None:
    result = one(latency(qps=limit))
    assert result.value is not None
    assert result.status == ("held" if result.value >= limit else "broken")


@given(limit=st.floats(-1, 1), measured=st.floats(-1, 1))
def test_accuracy_holds_from_its_limit_on(limit: float, measured: float) -> None:
    (result,) = hold(Budgets(cosine=limit), calibration(accuracy(cosine=measured)), None)
    assert result.status == ("held" if measured >= limit else "broken")


def test_of_several_outputs_the_worst_counts() -> None:
    calibrated = calibration(accuracy(0.999, 40), accuracy(0.9, 10))
    results = hold(Budgets(cosine=0.95, sqnr_db=10), calibrated, None)
    assert [(one.value, one.status) for one in results] == [(0.9, "broken"), (10, "held")]


@pytest.mark.parametrize("budgets", [Budgets(cosine=-1), Budgets(sqnr_db=-1000)])
def test_nan_holds_no_budget(budgets: Budgets) -> None:
    (result,) = hold(budgets, calibration(accuracy(math.nan, math.nan)), None)
    assert result.status == "broken"


def test_agreement_without_classes_is_skipped_with_the_reason() -> None:
    (result,) = hold(Budgets(agreement=0.5), calibration(accuracy(agreement=None)), None)
    assert (result.status, result.value) == ("skipped", None)
    assert "no output has classes" in result.reason


@pytest.mark.parametrize(
    ("budgets", "reason"),
    [
        (latency("PyTorch FP16", p50=1), "no GPU"),
        (latency("TensorRT FP16", 4, p50=1), "the GPU is out of memory"),
        (latency("PyTorch FP32", 16, p50=1), "batch 16 was not measured"),
        (latency("TensorRT FP8", p50=1), "no row of that name"),
    ],
)
def test_what_was_not_measured_is_skipped_with_the_reason(budgets: Budgets, reason: str) -> None:
    result = one(budgets)
    assert (result.status, result.value) == ("skipped", None)
    assert reason in result.reason


def test_every_limit_is_a_result_of_its_own_and_nothing_else_is() -> None:
    budgets = Budgets(
        agreement=0.9, latency=(LatencyBudget(row="PyTorch FP32", batch=4, p50=1000, p99=1000, qps=1),)
    )
    names = [one.name for one in hold(budgets, calibration(accuracy()), report())]
    assert names == [
        "INT8 top-1 agreement", "PyTorch FP32, batch 4: P50 ms", "PyTorch FP32, batch 4: P99 ms",
        "PyTorch FP32, batch 4: QPS",
    ]  # fmt: skip
    assert hold(Budgets(), calibration(accuracy()), report()) == ()
