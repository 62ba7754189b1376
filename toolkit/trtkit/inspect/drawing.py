"""A picture of an optimised network: one SVG file, whatever graph its layers are of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import networkx as nx
from jinja2 import Environment, PackageLoader, StrictUndefined

from trtkit.inspect.layer import Layer, LayerTensor, counts
from trtkit.inspect.layout import Point, lay_out
from trtkit.tensors import shape_text

PRECISION_COLOURS = {
    "fp32": ("#dbe6f4", "#2f5d94"), "tf32": ("#dbe6f4", "#2f5d94"), "fp64": ("#d3d9e6", "#33415f"),
    "fp16": ("#dcefdc", "#2d6e3a"), "bf16": ("#d5eeea", "#1d6b62"), "int8": ("#fbe6cf", "#9a5312"),
    "fp8": ("#f8dbe6", "#93305b"), "int4": ("#f9dcd5", "#95351d"), "fp4": ("#f0daf3", "#74308a"),
    "": ("#eceae6", "#65605a"),
}  # fmt: skip
"""Precision -> fill and text. Narrower is warmer."""

FAMILY_COLOURS = {
    "convolution": "#3b6fb6", "matrix": "#7b52ab", "pooling": "#2a9d8f", "quantise": "#d9822b",
    "layout": "#9aa0a6", "pointwise": "#c8a415",
}  # fmt: skip

WIDTH = 310.0
LINE = 15.0
HEAD = 36.0
MOST_NODES = 4
"""Fused nodes that are named in the picture; the rest is counted there, and named in the tooltip."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no place for (its section 2.2), escaped or not."""


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    height: float
    layer: Layer
    lines: tuple[str, ...]
    fill: str
    ink: str
    stripe: str
    title: str
    tooltip: str


@dataclass(frozen=True)
class _Terminal:
    x: float
    y: float
    width: float
    text: str


@dataclass(frozen=True)
class _Edge:
    path: str
    tooltip: str


@dataclass(frozen=True)
class _Label:
    x: float
    y: float
    text: str


def draw(layers: Sequence[Layer], title: str, subtitle: str = "") -> str:
    """The layers as an SVG document: precision as colour, type as stripe, fused nodes in each layer, shapes
    beside the edges.

    Args:
        title: what is drawn; subtitle: a line below it.
    """
    shown = [layer for layer in layers if layer.inputs or layer.outputs]
    graph, tensors, terminals = _graph(shown)
    lines = {index: _lines(layer) for index, layer in enumerate(shown)}
    heights: dict[Hashable, float] = {index: HEAD + LINE * len(found) + 6 for index, found in lines.items()}
    heights.update(dict.fromkeys(terminals, 26.0))
    widths: dict[Hashable, float] = dict.fromkeys(lines, WIDTH)
    widths.update({one: _text_width(text) for one, text in terminals.items()})
    layout = lay_out(graph, widths, heights)
    boxes = [
        _box(layer, lines[index], layout.nodes[index], heights[index]) for index, layer in enumerate(shown)
    ]
    return (
        _environment()
        .get_template("network.svg.j2")
        .render(
            title=_clean(title),
            subtitle=_clean(subtitle),
            boxes=boxes,
            terminals=[
                _Terminal(layout.nodes[one].x, layout.nodes[one].y, widths[one], text)
                for one, text in terminals.items()
            ],
            edges=[_edge(points, tensors[edge]) for edge, points in layout.edges.items()],
            labels=_labels({source: points[0] for (source, _), points in layout.edges.items()}, tensors),
            precisions=_legend([layer.precision for layer in shown], PRECISION_COLOURS),
            families=_legend([layer.family for layer in shown], {}),
            family_colours=FAMILY_COLOURS,
            width=max(layout.width + 80, 760.0),
            margin=max((760.0 - layout.width) / 2, 40.0),
            height=layout.height,
            box_width=WIDTH,
        )
    )


def _graph(
    layers: Sequence[Layer],
) -> tuple[nx.DiGraph, dict[tuple[Hashable, Hashable], list[LayerTensor]], dict[Hashable, str]]:
    """Layers by index and the network's inputs and outputs by name; the tensors on each edge; texts of the
    inputs and outputs."""
    graph = nx.DiGraph()
    tensors: dict[tuple[Hashable, Hashable], list[LayerTensor]] = defaultdict(list)
    terminals: dict[Hashable, str] = {}
    makers: dict[str, int] = {}
    used: set[str] = set()
    for index, layer in enumerate(layers):
        graph.add_node(index)
        for tensor in layer.inputs:
            source: Hashable = makers.get(tensor.name, ("in", tensor.name))
            if tensor.name not in makers:
                terminals[source] = _clean(tensor.name)
            elif source == index:
                continue
            used.add(tensor.name)
            graph.add_edge(source, index)
            tensors[source, index].append(tensor)
        makers.update({tensor.name: index for tensor in layer.outputs})
    for index, layer in enumerate(layers):
        for tensor in layer.outputs:
            if tensor.name not in used and makers[tensor.name] == index:
                target = ("out", tensor.name)
                terminals[target] = _clean(tensor.name)
                graph.add_edge(index, target)
                tensors[index, target].append(tensor)
    return graph, tensors, terminals


def _lines(layer: Layer) -> tuple[str, ...]:
    """What stands below a layer's head: what was fused into it, and its tactic."""
    fused = (
        [name for name in layer.fused if name != layer.name] if len(layer.fused) == 1 else list(layer.fused)
    )
    names = [_short(name, 42) for name in fused[:MOST_NODES]]
    lines = [f"{'+' if index else ' '} {name}" for index, name in enumerate(names)]
    if len(fused) > MOST_NODES:
        lines.append(f"+ {len(fused) - MOST_NODES} more")
    if layer.tactic:
        lines.append(f"⚙ {_short(layer.tactic, 42)}")
    return tuple(lines)


def _box(layer: Layer, lines: tuple[str, ...], at: Point, height: float) -> _Box:
    fill, ink = PRECISION_COLOURS.get(layer.precision, PRECISION_COLOURS[""])
    told = [
        f"{layer.type} {layer.name}",
        *([f"precision {layer.precision}"] if layer.precision else []),
        *(f"in  {_tensor_text(one)}" for one in layer.inputs),
        *(f"out {_tensor_text(one)}" for one in layer.outputs),
        *([f"weights {layer.weights / 1024:.1f} KiB"] if layer.weights else []),
        *([f"tactic {layer.tactic}"] if layer.tactic else []),
        *([f"fused from {len(layer.fused)} nodes:", *layer.fused] if len(layer.fused) > 1 else []),
    ]
    return _Box(
        x=at.x - WIDTH / 2,
        y=at.y - height / 2,
        height=height,
        layer=layer,
        lines=lines,
        fill=fill,
        ink=ink,
        stripe=FAMILY_COLOURS[layer.family],
        title=_short(layer.name, 42),
        tooltip=_clean("\n".join(told)),
    )


def _edge(points: Sequence[Point], tensors: Sequence[LayerTensor]) -> _Edge:
    """A curve through the points that leaves and enters each row straight down."""
    path = [f"M{points[0].x:.1f},{points[0].y:.1f}"]
    for start, end in pairwise(points):
        if abs(start.x - end.x) < 0.5:
            path.append(f"L{end.x:.1f},{end.y:.1f}")
        else:
            half = (start.y + end.y) / 2
            path.append(f"C{start.x:.1f},{half:.1f} {end.x:.1f},{half:.1f} {end.x:.1f},{end.y:.1f}")
    return _Edge(" ".join(path), _clean("\n".join(map(_tensor_text, tensors))))


def _labels(
    points: Mapping[Hashable, Point], tensors: Mapping[tuple[Hashable, Hashable], Sequence[LayerTensor]]
) -> list[_Label]:
    """What flows out of each node, said once, below it. points: where each node's edges start."""
    flowing: dict[Hashable, dict[str, LayerTensor]] = defaultdict(dict)
    for (source, _), found in tensors.items():
        flowing[source].update({tensor.name: tensor for tensor in found})
    labels = []
    for source, by_name in flowing.items():
        tensor, *others = by_name.values()
        shape = shape_text(tensor.shape) if tensor.shape is not None else ""
        more = f" (+{len(others)})" if others else ""
        text = " ".join(one for one in (shape, tensor.dtype, tensor.format) if one) + more
        labels.append(_Label(points[source].x - 8, points[source].y + 15, _clean(text)))
    return [label for label in labels if label.text]


def _tensor_text(tensor: LayerTensor) -> str:
    shape = shape_text(tensor.shape) if tensor.shape is not None else ""
    return " ".join(one for one in (tensor.name, shape, tensor.dtype, tensor.format) if one)


def _legend(names: Sequence[str], known: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"name": name or "unknown", "count": count, "fill": known.get(name, known.get("", ("", "")))[0],
         "ink": known.get(name, known.get("", ("", "")))[1]}
        for name, count in counts(names).items()
    ]  # fmt: skip


def _short(text: str, most: int) -> str:
    """Its end is what tells names apart: /layer4/layer4.1/conv2/Conv."""
    text = _clean(text)
    return text if len(text) <= most else f"…{text[-(most - 1) :]}"


def _clean(text: str) -> str:
    return _NOT_XML.sub(" ", text)


def _text_width(text: str) -> float:
    return len(text) * 7.2 + 28


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("trtkit.inspect", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
