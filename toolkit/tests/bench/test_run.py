"""Rows that take turns, each in a process of its own; what one does harms no other."""

from __future__ import annotations

import math
from functools import partial

import pytest

from tests.bench import contestants as act
from tests.bench.contestants import INPUT, OUTPUT, contestant, up_to
from trtkit.bench.contender import BASELINE, Contender
from trtkit.bench.options import BenchOptions, Signature
from trtkit.bench.report import BenchReport
from trtkit.bench.run import measure

SIGNATURE = Signature((INPUT,), (OUTPUT,))


def bench(*rows: Contender, said: list[str] | None = None, **options: object) -> BenchReport:
    """The report of `rows`, measured as briefly as can be."""
    brief = {"rounds": 2, "round_seconds": 0.01, "warm_up_seconds": 0.02, **options}
    heard = said if said is not None else []
    return measure(rows, BenchOptions.model_validate(brief), SIGNATURE, heard.append)


def test_rows_take_turns_in_their_order_round_by_round() -> None:
    said: list[str] = []
    report = bench(contestant("a", act.doubles), contestant("b", act.doubles), said=said, batches=(1, 2))
    assert [row.title for row in report.rows] == ["a", "b"]
    assert said == ["loading a", "loading b"] + [
        line
        for batch in (1, 2)
        for line in (
            f"batch {batch}: warming up a",
            f"batch {batch}: warming up b",
            f"batch {batch}, round 1 of 2: a",
            f"batch {batch}, round 1 of 2: b",
            f"batch {batch}, round 2 of 2: a",
            f"batch {batch}, round 2 of 2: b",
        )
    ]


def test_a_slow_row_is_told_apart_from_a_fast_one() -> None:
    slow, slower = partial(act.doubles_after, 0.004), partial(act.doubles_after, 0.012)
    report = bench(contestant(BASELINE, slower), contestant("slow", slow), batches=(1, 8), round_seconds=0.1)
    for batch in (1, 8):
        result, baseline = report.row("slow").at(batch), report.row(BASELINE).at(batch)
        assert result
        assert baseline
        assert baseline.speedup == 1
        assert result.latency.distribution[0] >= 4  # a sleep may take longer, but not less
        assert result.latency.p50 >= 4
        assert result.speedup == pytest.approx(baseline.latency.mean / result.latency.mean)
        assert result.qps == pytest.approx(batch * 1000 / result.latency.mean)
        assert len(result.round_medians) == 2
        assert result.host_memory.readings[0] > 1 << 20


def test_a_fast_wrong_row_shows() -> None:
    report = bench(
        contestant(BASELINE, act.doubles), contestant("wrong", act.squares), contestant("nan", act.gives_nan)
    )
    assert report.reference == BASELINE
    right, wrong, nan = (report.row(title).batches[0] for title in (BASELINE, "wrong", "nan"))
    assert right.cosine == pytest.approx(1)
    assert not right.disagreement
    assert wrong.cosine is not None
    assert wrong.cosine < 0.99
    assert wrong.disagreement
    assert "nan" in nan.disagreement


def test_a_row_in_fp32_may_be_as_far_from_a_reference_in_tf32_as_that_is_from_fp32() -> None:
    """PyTorch's FP32 on a GPU is TF32, ONNX Runtime's on the CPU is not."""
    exact = contestant("exact", act.doubles)
    report = bench(contestant(BASELINE, act.doubles_roughly, "tf32"), exact)
    assert not report.row("exact").batches[0].disagreement
    strict = bench(contestant(BASELINE, act.doubles), contestant("exact", act.doubles_roughly))
    assert strict.row("exact").batches[0].disagreement


def test_without_a_row_in_full_precision_nothing_is_compared() -> None:
    report = bench(contestant("half", act.doubles, "fp16"))
    result = report.row("half").at(1)
    assert report.reference is None
    assert result is not None
    assert (result.cosine, result.speedup) == (None, None)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (partial(act.lacks, "no GPU"), "no GPU"),
        (act.needs_a_module, "no_such_module is not installed here"),
    ],
)
def test_what_a_row_lacks_is_its_reason_to_be_skipped(make: partial[act.ActingRunner], reason: str) -> None:
    report = bench(Contender("x", "fp32", make), contestant("y", act.doubles))
    assert (report.row("x").status, report.row("x").reason) == ("skipped", reason)
    assert report.row("y").status == "ran"
    assert report.reference == "y"


def test_a_row_whose_process_is_killed_fails_and_the_others_go_on() -> None:
    # Warming up takes no more than 0.02 s: its 2000th run is in a round.
    report = bench(
        contestant("doomed", partial(act.dies_at, 2000)),
        contestant("sound", act.doubles),
        batches=(1, 2),
        rounds=3,
        round_seconds=0.1,
    )
    doomed = report.row("doomed")
    assert doomed.status == "failed"
    assert doomed.reason == "its process ended with SIGKILL: the driver says farewell"
    assert doomed.at(2) is None
    assert [result.batch for result in report.row("sound").batches] == [1, 2]


def test_a_row_that_dies_while_loading_fails() -> None:
    report = bench(Contender("x", "fp32", partial(act.exits, 7)), contestant("y", act.doubles))
    assert (report.row("x").status, report.row("x").reason) == ("failed", "its process ended with code 7")
    assert report.row("y").status == "ran"


def test_a_run_that_fails_costs_its_batch_and_not_the_others() -> None:
    report = bench(contestant("x", partial(act.fails_at, 0)), batches=(1, 2))
    row = report.row("x")
    assert row.status == "failed"
    assert row.reason == "the GPU is out of memory: 1 GiB was asked for"
    assert [(gap.batch, gap.status) for gap in row.gaps] == [(1, "failed")]
    assert [result.batch for result in row.batches] == [2]


def test_a_row_that_hangs_is_ended() -> None:
    report = bench(contestant("x", act.hangs), contestant("y", act.doubles), timeout_seconds=8)
    assert (report.row("x").status, report.row("x").reason) == ("failed", "no answer within 8 s")
    assert report.row("y").status == "ran"


def test_a_batch_outside_the_profile_is_skipped_and_said() -> None:
    report = bench(contestant("x", act.doubles, profile=up_to(2)), batches=(1, 4))
    row = report.row("x")
    assert row.status == "ran"
    assert [result.batch for result in row.batches] == [1]
    assert [(gap.batch, gap.status, gap.reason) for gap in row.gaps] == [
        (4, "skipped", "its profile covers input from 1x4 to 2x4")
    ]


def test_what_libraries_print_does_not_reach_our_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    assert bench(contestant("x", act.prints)).row("x").status == "ran"
    assert capfd.readouterr() == ("", "")


def test_a_report_survives_json() -> None:
    report = bench(
        contestant(BASELINE, act.doubles),
        contestant("x", act.squares),
        Contender("y", "int8", act.needs_a_module),
    )
    again = BenchReport.model_validate_json(report.model_dump_json())
    assert again == report
    result = again.rows[0].batches[0]
    assert math.isfinite(result.latency.p99)
