"""The report as a picture: how latencies are distributed, and what batching brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtkit.bench.report import BatchResult, BenchReport, Row

COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#8bc34a", "#e69f00", "#d55e00", "#cc79a7", "#7b3294", "#444444")
"""A row's, by its place: Okabe and Ito's, told apart by the colour-blind, and some between."""

MARKERS = "osD^vPX*h"

STYLE = {
    "svg.hashsalt": "trtkit",  # ids in the SVG; otherwise random
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # what matplotlib brings along
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}


def write_plot(report: BenchReport, path: Path) -> None:
    """Write an SVG that is the same for the same report."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = [(place, row) for place, row in enumerate(report.rows) if row.batches]
    sizes = [size for size in report.options.batches if any(row.at(size) for _, row in rows)]
    with matplotlib.rc_context(STYLE):
        height = 1.9 + 0.36 * max(len(rows), 4)
        figure = Figure(figsize=(11, height), layout="constrained")
        figure.suptitle(_title(report), fontsize=9, color="#555555", x=0.01, ha="left")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        if rows:
            _latencies(left, rows, sizes[0])
            _throughput(right, rows, sizes)
        else:
            for axes in (left, right):
                axes.set_axis_off()
            left.text(0, 0.5, "no row was measured", transform=left.transAxes)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _title(report: BenchReport) -> str:
    machine = report.machine
    where = (
        f"{machine.gpu.name}, driver {machine.gpu.driver}"
        if machine.gpu
        else f"{machine.cpu}, {machine.cores} cores"
    )
    options = report.options
    files = [file.name for file in (options.onnx, *options.engines) if file]
    what = Path(options.model).name if options.model else next(iter(files), "")
    return f"{what}  on  {where}"


def _latencies(axes: Any, rows: list[tuple[int, Row]], size: int) -> None:
    """A bar from P1 to P99 for each row, thick from P10 to P90, with a tick at P50."""
    results = [(place, row, result) for place, row in rows if (result := row.at(size))]
    for line, (place, _, result) in enumerate(results):
        colour, spread = _colour(place), result.latency.distribution
        axes.hlines(line, spread[1], spread[99], color=colour, linewidth=2, alpha=0.6)
        axes.hlines(line, spread[10], spread[90], color=colour, linewidth=9, alpha=0.45)
        axes.plot(spread[50], line, "|", color=colour, markersize=15, markeredgewidth=2.5)
        axes.annotate(
            _numbers(result),
            (spread[99], line),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(results)), [row.title for _, row, _ in results])
    axes.set_ylim(len(results) - 0.4, -0.6)
    low = min(result.latency.distribution[1] for *_, result in results)
    high = max(result.latency.distribution[99] for *_, result in results)
    if high > 5 * low:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.3, high * (high / low) ** 0.55)
    else:
        axes.set_xlim(0, high * 1.6)
    _plain_numbers(axes.xaxis)
    axes.grid(axis="x", which="major", color="#dddddd")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("ms   (| P50, thick P10 to P90, thin P1 to P99)")
    axes.set_title(f"Latency of an inference, batch {size}")


def _throughput(axes: Any, rows: list[tuple[int, Row]], sizes: list[int]) -> None:
    for place, row in rows:
        points = [(result.batch, result.qps) for result in row.batches]
        axes.plot(
            *zip(*points, strict=True),
            MARKERS[place % len(MARKERS)] + "-",
            color=_colour(place),
            label=row.title,
        )
    best = [result.qps for _, row in rows for result in row.batches]
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    if max(best) > 8 * min(best):
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, max(best) * 1.08)
    _plain_numbers(axes.yaxis)
    axes.grid(color="#dddddd")
    axes.set_axisbelow(True)
    axes.set_xlabel("batch")
    axes.set_title("Throughput, samples a second")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _plain_numbers(axis: Any) -> None:
    """1, 2, 5, 10 at a logarithmic axis, or powers of ten alone at a long one; never 10^1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if axis.get_scale() == "log":
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1500 * low else (1.0,)))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _numbers(result: BatchResult) -> str:
    latency = result.latency
    return f"P50 {latency.p50:.3g} ms, P99 {latency.p99:.3g} ms"


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]
