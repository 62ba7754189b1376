"""`trtkit bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trtkit.errors import EnvironmentLack, RequestError, WorkFailed


def bench(
    model: Annotated[str | None, typer.Option(help="The PyTorch model, as `trtkit export` takes it.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A state dict for it.")] = None,
    onnx: Annotated[Path | None, typer.Option(help="The same network as ONNX file.")] = None,
    engine: Annotated[list[Path] | None, typer.Option(help="An engine of it; may be repeated.")] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes, as 1,4,8.")] = "1",
    shapes: Annotated[
        list[str] | None, typer.Option(help="Of open dimensions, as input:1x3x224x224; the batch aside.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often all rows take their turn.")] = 5,
    seconds: Annotated[float, typer.Option(help="Of a row's turn.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of inputs and random weights.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds after which a row has failed.")] = 300.0,
    json: Annotated[Path | None, typer.Option(help="Write the report here; - for stdout.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write it as Markdown, too.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it as SVG.")] = None,
) -> None:
    """Measure every way to run a model, side by side on the same inputs.

    PyTorch FP32 and FP16, torch.compile, ONNX Runtime on CPU and GPU, and TensorRT engines take turns; what
    cannot run here says why. A latency is that of a whole inference: host tensors in, host tensors out.
    """
    from pydantic import ValidationError
    from rich.console import Console

    from trtkit.bench import BenchOptions, run_bench
    from trtkit.bench.table import markdown as as_markdown
    from trtkit.bench.table import show
    from trtkit.tensors import parse_shapes

    try:
        options = BenchOptions(
            model=model,
            weights=weights,
            onnx=onnx,
            engines=tuple(engine or ()),
            batches=_batches(batch),
            shapes=parse_shapes(shapes or []),
            rounds=rounds,
            round_seconds=seconds,
            seed=seed,
            timeout_seconds=timeout,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}", ("next", "trtkit bench --help")
        ) from error
    to_stdout = json == Path("-")
    console = Console(stderr=to_stdout)
    with Console(stderr=True).status("") as status:
        report = run_bench(options, lambda said: status.update(said))
    show(report, console)
    if to_stdout:
        print(report.model_dump_json(indent=1))
    elif json:
        json.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if markdown:
        markdown.write_text(as_markdown(report), encoding="utf-8")
    if plot:
        from trtkit.bench.plot import write_plot

        write_plot(report, plot)
    failed = [row.title for row in report.rows if row.status == "failed"]
    if failed:
        raise WorkFailed(f"failed: {', '.join(failed)}", ("next", "see their reasons above"))
    if not any(row.batches for row in report.rows):
        raise EnvironmentLack("no row could run here", ("next", "see their reasons above"))


def _batches(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise RequestError(
            f"{text!r} is not a list of batch sizes", ("next", "write --batch 1,4,8")
        ) from None
