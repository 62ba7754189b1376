"""The report as tables: for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from trtkit.bench.drift import Drift
from trtkit.bench.latency import Latency
from trtkit.bench.report import BatchResult, BenchReport, Row

NONE = "-"


@dataclass(frozen=True)
class Column:
    """A column of numbers. text: of one result, None where it has none; meaning: for who does not know;
    spare: left out where there is no room."""

    head: str
    text: Callable[[BatchResult], str | None]
    meaning: str
    spare: bool = False


COLUMNS = (
    Column("mean ms", lambda it: _ms(it.latency.mean), "latency of a whole inference, copies included"),
    Column("P50", lambda it: _ms(it.latency.p50), "half of all runs took no longer, in ms", spare=True),
    Column("P90", lambda it: _ms(it.latency.p90), "nine runs of ten", spare=True),
    Column("P99", lambda it: _ms(it.latency.p99), "all but one run in a hundred"),
    Column("QPS", lambda it: _rate(it.qps), "samples a second, one batch after the other"),
    Column("x FP32", lambda it: _number(it.speedup, 2), "times as fast as PyTorch FP32, by the mean"),
    Column("device ms", lambda it: _device(it.on_device), "P50 without host copies", spare=True),
    Column("GPU %", lambda it: _number(it.gpu_utilisation, 0), "of the time in which a kernel ran (NVML)"),
    Column("GPU MB", lambda it: _mb(it.gpu_memory), "on the GPU, CUDA context included"),
    Column("host MB", lambda it: _mb(it.host_memory), "resident memory of the row's process", spare=True),
    Column(
        "drift MB",
        lambda it: _drift(it),
        "last round minus first, the GPU's or the host's; ! if it goes on",
        spare=True,
    ),
    Column("cosine", lambda it: _cosine(it), "of outputs with the reference row's; ! if out of tolerance"),
    Column(
        "noise %",
        lambda it: _number(it.noise * 100, 1),
        "slowest minus fastest round, over the middle one",
        spare=True,
    ),
)


def show(report: BenchReport, console: Console) -> None:
    """The table, and in words what is not in it."""
    table = terminal_table(report, console)
    if not console.is_terminal:
        console.width = max(console.width, console.measure(table).maximum)
    console.print(table)
    for line in (*report.machine.notes, *not_run(report), *wrong(report)):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


UNBOUNDED = 1000
"""Wider than any table: what a file or a pipe has room for."""


def terminal_table(report: BenchReport, console: Console) -> Table:
    """A section for each batch size, a line for each row, to be printed without cropping.

    In a terminal that is too narrow for all columns, those without which rows can be judged are left out.
    """
    columns = shown(report)
    table = _table(report, columns)
    table.width = console.measure(table, options=console.options.update(max_width=UNBOUNDED)).maximum
    if console.is_terminal and table.width > console.width:
        return _table(report, [column for column in columns if not column.spare])
    return table


def _table(report: BenchReport, columns: Sequence[Column]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("batch", justify="right")
    table.add_column("row", no_wrap=True)
    for column in columns:
        table.add_column(column.head, justify="right", no_wrap=True)
    for size in report.options.batches:
        for number, (row, result) in enumerate(_measured(report, size)):
            table.add_row(str(size) if not number else "", row.title, *cells(result, columns))
    return table


def not_run(report: BenchReport) -> Iterator[str]:
    """A line for each row, and each batch of a row, that has no numbers, or not all of them."""
    for row in report.rows:
        if not row.batches:
            yield f"{row.title}: {row.status}: {row.reason}"
            continue
        told = {gap.reason for gap in row.gaps}
        for gap in row.gaps:
            yield f"{row.title}, batch {gap.batch}: {gap.status}: {gap.reason}"
        if row.reason and row.reason not in told:
            yield f"{row.title}: {row.status}: {row.reason}"


def wrong(report: BenchReport) -> Iterator[str]:
    """A line for each result whose outputs are not the reference's."""
    for row in report.rows:
        for result in row.batches:
            if result.disagreement:
                yield f"{row.title}, batch {result.batch}: the outputs are wrong: {result.disagreement}"


def markdown(report: BenchReport) -> str:
    """The whole report, for a file beside the JSON."""
    machine, options = report.machine, report.options
    gpu = machine.gpu
    lines = [
        "# Benchmark",
        "",
        f"{machine.cpu}, {machine.cores} cores; "
        + (f"{gpu.name}, SM{gpu.sm}, driver {gpu.driver}; " if gpu else "no GPU; ")
        + f"Python {machine.python}; "
        + ", ".join(f"{name} {version}" for name, version in machine.packages.items())
        + f"; trtkit {report.trtkit}.",
        f"{options.rounds} rounds of {options.round_seconds:g} s a row and batch, in turn; inputs at batch"
        f" {options.batches[0]}: "
        + ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in _first_inputs(report))
        + f" (seed {options.seed}).",
        *(f"Note: {note}." for note in machine.notes),
    ]
    columns = shown(report)
    for size in options.batches:
        lines += ["", f"## Batch {size}", "", _line(["", *(column.head for column in columns)])]
        lines.append(_line(["---", *["---:"] * len(columns)]))
        lines += [_line([row.title, *cells(result, columns)]) for row, result in _measured(report, size)]
    rest = [*not_run(report), *wrong(report)]
    if rest:
        lines += ["", "## Not measured, or not right", "", *(f"* {one}" for one in rest)]
    lines += ["", "## Columns", "", *(f"* {column.head}: {column.meaning}." for column in columns)]
    if report.reference:
        lines.append(f"* Outputs are compared with those of {report.reference}.")
    return "\n".join(lines) + "\n"


def shown(report: BenchReport) -> tuple[Column, ...]:
    """The columns in which some result has something to say."""
    results = [result for row in report.rows for result in row.batches]
    return tuple(column for column in COLUMNS if any(column.text(result) for result in results))


def cells(result: BatchResult, columns: Sequence[Column]) -> list[str]:
    return [column.text(result) or NONE for column in columns]


def _measured(report: BenchReport, size: int) -> Iterator[tuple[Row, BatchResult]]:
    for row in report.rows:
        if result := row.at(size):
            yield row, result


def _first_inputs(report: BenchReport) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from report.inputs[report.options.batches[0]].items()


def _line(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |"


def _ms(ms: float) -> str:
    """Three digits that count: 0.123, 1.23, 12.3, 123."""
    return f"{ms:.{3 if ms < 1 else 2 if ms < 10 else 1 if ms < 100 else 0}f}"


def _device(latency: Latency | None) -> str | None:
    return None if latency is None else _ms(latency.p50)


def _rate(qps: float) -> str:
    return f"{qps:.{0 if qps >= 100 else 1}f}"


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _mb(memory: Drift | None) -> str | None:
    return None if memory is None else f"{memory.readings[-1] / 1e6:.0f}"


def _drift(result: BatchResult) -> str:
    gpu, host = result.gpu_memory, result.host_memory
    # A leak of either must show.
    drift = gpu if gpu and (gpu.grows or not host.grows) else host
    return f"{drift.total / 1e6:+.1f}{'!' if drift.grows else ''}"


def _cosine(result: BatchResult) -> str | None:
    wrong = "!" if result.disagreement else ""
    return f"{'' if result.cosine is None else f'{result.cosine:.5f}'}{wrong}" or None
