"""`trtkit inspect`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from trtkit.inspect.engine_inspection import EngineInspection
    from trtkit.inspect.layer import Layer, LayerTensor
    from trtkit.inspect.onnx_inspection import OnnxInspection
    from trtkit.tensors import ShapeRange


MOST_NODES = 6
"""Fused nodes that a row of the table names."""

WIDE = 120
"""Columns of a terminal from which tactics are shown."""


def inspect(
    model: Annotated[Path, typer.Argument(help="An ONNX file, or an engine.", show_default=False)],
    batch: Annotated[int, typer.Option(min=1, help="Of an ONNX file: what its memory is estimated for.")] = 1,
    shapes: Annotated[
        list[str], typer.Option(metavar="INPUT:1x3x224x224", help="Of an ONNX file: in place of --batch.")
    ] = [],  # noqa: B006 typer's way
    svg: Annotated[Path | None, typer.Option(help="Draw the optimised network into this file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all there is as JSON.")] = False,
) -> None:
    """Show what is in a model: layers before and after fusion, precisions, formats, tactics, memory."""
    from trtkit.errors import RequestError
    from trtkit.tensors import parse_shapes

    if not model.is_file():
        raise RequestError(f"there is no file {model}", ("next", "name an ONNX file, or an engine"))
    if svg is not None and not svg.absolute().parent.is_dir():
        raise RequestError(f"there is no folder {svg.parent}", ("next", "make it, or give another --svg"))
    found: OnnxInspection | EngineInspection
    if model.suffix == ".onnx":
        from trtkit.inspect.onnx_inspection import inspect_onnx

        found = inspect_onnx(model, batch=batch, shapes=parse_shapes(shapes))
    else:
        from trtkit.inspect.engine_inspection import inspect_engine

        found = inspect_engine(model)
    if svg is not None:
        _draw(found, svg)
    if json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        _show(found)


def _draw(found: OnnxInspection | EngineInspection, svg: Path) -> None:
    from trtkit.errors import WorkFailed
    from trtkit.inspect.drawing import draw
    from trtkit.inspect.engine_inspection import EngineInspection

    if isinstance(found, EngineInspection):
        layers: Sequence[Layer] = found.layers
        before = f" from {found.onnx_nodes} ONNX nodes" if found.onnx_nodes else ""
        made_for = f"{found.flavour} {found.tensorrt_version}, SM {', '.join(found.sms)}"
        subtitle = f"{made_for}: {len(layers)} layers{before}"
    else:
        layers = found.layers if found.optimised is None else found.optimised
        subtitle = f"ONNX Runtime, level extended: {len(layers)} layers from {len(found.layers)}"
    if not any(layer.inputs or layer.outputs for layer in layers):
        raise WorkFailed(
            f"there is nothing to draw of {found.file}",
            ("because", found.why or "its layers are names alone: it was built without detailed verbosity"),
            ("next", "build it with `trtkit build`, or inspect it on the GPU that runs it"),
        )
    svg.write_text(draw(layers, found.file, subtitle), encoding="utf-8")


def _show(found: OnnxInspection | EngineInspection) -> None:
    from rich.console import Console

    from trtkit.inspect.engine_inspection import EngineInspection

    console = Console(highlight=False)
    facts, layers = _engine(found) if isinstance(found, EngineInspection) else _onnx(found)
    console.print(_facts(facts))
    if layers:
        console.print()
        console.print(_layers(layers, tactics=console.width >= WIDE))


def _engine(found: EngineInspection) -> tuple[list[tuple[str, str]], Sequence[Layer]]:
    from trtkit.flavour import TITLES

    name = TITLES[found.flavour]
    memory = "unknown" if found.device_memory is None else f"{_size(found.device_memory)} a context"
    facts = [
        ("engine", f"{found.file}, {_size(found.size)}"),
        ("for", f"SM {', '.join(found.sms)}; {name} {found.tensorrt_version}"),
        ("precision", found.precision.upper()),
        *(("input", f"{spec}{_span(spec.name, found.profiles)}") for spec in found.inputs),
        *(("output", str(spec)) for spec in found.outputs),
        ("memory", memory),
    ]
    if found.layers:
        before = f", from {found.onnx_nodes} ONNX nodes" if found.onnx_nodes else ""
        facts.append(("layers", f"{len(found.layers)}{before}; told by {found.source}"))
        facts += [("", _counted(one)) for one in (found.types, found.precisions, found.formats) if one]
    if found.why:
        facts.append(("skipped", f"TensorRT's engine inspector: {found.why}"))
    return facts, found.layers


def _onnx(found: OnnxInspection) -> tuple[list[tuple[str, str]], Sequence[Layer]]:
    fed = ", ".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in found.shapes.items())
    if found.peak is None or found.activations is None:
        memory = "unknown: some shapes depend on values, or were not given"
    else:
        memory = f"{_size(found.peak)} at one time, {_size(found.activations)} in all, for {fed}"
    facts = [
        ("model", f"{found.file}, {found.producer or 'unknown producer'}"),
        ("opset", ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())),
        *(("input", str(spec)) for spec in found.inputs),
        *(("output", str(spec)) for spec in found.outputs),
        ("weights", f"{found.parameters:,} parameters, {_size(found.weights)}"),
        ("tensors", memory),
        ("operators", _counted(found.operators)),
    ]
    if found.optimised is None:
        return [*facts, ("layers", f"{len(found.layers)}; {found.why}")], found.layers
    fused = [layer for layer in found.optimised if len(layer.fused) > 1]
    facts.append(
        (
            "layers",
            f"{len(found.layers)} in the file, {len(found.optimised)} as ONNX Runtime runs it "
            f"({len(fused)} of them fused)",
        )
    )
    return facts, found.optimised


def _facts(facts: Sequence[tuple[str, str]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for label, text in facts:
        table.add_row(f"[yellow]{label}[/]" if label == "skipped" else label, escape(text))
    return table


def _layers(layers: Sequence[Layer], *, tactics: bool) -> Table:
    """tactics: whether there is room for them."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("#", "type", "precision", "output", "weights", "fused from"):
        right = title in {"#", "weights"}
        table.add_column(
            title, justify="right" if right else "left", overflow="fold", no_wrap=title != "fused from"
        )
    tactics = tactics and any(layer.tactic for layer in layers)
    if tactics:
        table.add_column("tactic", overflow="ellipsis", no_wrap=True, max_width=36)
    for index, layer in enumerate(layers):
        table.add_row(
            str(index),
            escape(layer.type or "?"),
            layer.precision or "?",
            escape("\n".join(map(_tensor, layer.outputs))),
            _size(layer.weights) if layer.weights else "",
            escape(_fused(layer)),
            *([escape(layer.tactic)] if tactics else []),
        )
    return table


def _fused(layer: Layer) -> str:
    """The nodes it came from; of many, the first: `--json` has all."""
    more = len(layer.fused) - MOST_NODES
    return " + ".join([*layer.fused[:MOST_NODES], *([f"{more} more"] if more > 0 else [])]) or layer.name


def _tensor(tensor: LayerTensor) -> str:
    from trtkit.tensors import shape_text

    return f"{shape_text(tensor.shape) if tensor.shape is not None else '?'} {tensor.format}".strip()


def _span(name: str, profiles: Sequence[Mapping[str, ShapeRange]]) -> str:
    from trtkit.tensors import shape_text

    spans = [profile[name] for profile in profiles if name in profile]
    return "".join(f"  {' / '.join(map(shape_text, (one.min, one.opt, one.max)))}" for one in spans)


def _counted(names: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in names.items())


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"
