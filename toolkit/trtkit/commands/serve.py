"""`trtkit serve`."""

from __future__ import annotations

import json
import logging
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Backend(str, Enum):
    """What runs the model."""

    auto = "auto"
    tensorrt = "tensorrt"
    onnxruntime = "onnxruntime"


def serve(
    model: Annotated[Path, typer.Argument(help="A model folder, an .engine or an .onnx file.")],
    backend: Annotated[
        Backend, typer.Option(help="auto: TensorRT where an engine fits, else ONNX Runtime.")
    ] = Backend.auto,
    engine: Annotated[str | None, typer.Option(help="Which of the folder's engines.")] = None,
    name: Annotated[
        str | None, typer.Option(help="What clients call the model.", show_default="its folder or file")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Rows of a run; the profile may allow fewer. 1: no batching.")
    ] = 32,
    max_delay_ms: Annotated[
        float, typer.Option(min=0, help="How long a request may wait for others while the model is idle.")
    ] = 0,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more get 503.")] = 256,
    contexts: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time.", show_default="TensorRT 2, ONNX Runtime 1")
    ] = None,
    max_request_bytes: Annotated[int, typer.Option(min=1, help="Of a request's body.")] = 32 << 20,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of ONNX Runtime on the CPU.", show_default="one a core")
    ] = None,
    allow_nan: Annotated[bool, typer.Option("--allow-nan", help="Take inputs with NaN or infinity.")] = False,
    drain: Annotated[float, typer.Option(min=0, help="Seconds for finishing, once told to stop.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Say what is served as JSON.")] = False,
) -> None:
    """Serve a model over HTTP: POST /infer, the KServe v2 protocol, /health, /ready, /metrics, /docs."""
    from rich.console import Console

    from trtkit.serve.folder import Choice, open_model
    from trtkit.serve.server import Options, serve
    from trtkit.serve.service import Limits

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    choice = Choice(backend.value, engine, name, max_batch, contexts, threads)
    opened = open_model(model, choice)

    def started(address: str) -> None:
        served, runner = opened.model, opened.runners[0].name
        if as_json:
            facts = {"address": address, "model": served.name, "file": str(opened.file), "runner": runner}
            print(json.dumps({**facts, "because": opened.because, "max_batch": served.max_batch}), flush=True)
            return
        console = Console(highlight=False, soft_wrap=True)
        console.print(f"[bold]{served.name}[/] at {address}  (/docs, /v2/models/{served.name})")
        console.print(f"  runs    {opened.file.name} by {runner}: {opened.because}")
        console.print(f"  takes   {'; '.join(map(str, served.inputs))}")
        console.print(f"  gives   {'; '.join(map(str, served.outputs))}")
        console.print(f"  batch   {f'up to {served.max_batch} rows' if served.joins else 'none'}")

    limits = Limits(max_request_bytes, not allow_nan)
    serve(opened, Options(host, port, queue, max_delay_ms / 1000, drain, limits), started)
