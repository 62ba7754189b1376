"""Where the nodes of a layered drawing go, and how its edges run.

Sugiyama's method: rows by the longest path from an input; an edge over several rows passes through a point in
each; order in a row by the mean position of neighbours, swept down and up; then places that keep edges
straight. Source: Sugiyama, Tagawa, Toda, "Methods for visual understanding of hierarchical system structures"
(1981).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx

SWEEPS = 12
"""Down and up; drawings of a hundred layers settle after fewer."""

WAYPOINT = 0.001
"""How much an edge that passes a row counts there, against a node."""


@dataclass(frozen=True)
class Point:
    """In the drawing's units, from its top left corner."""

    x: float
    y: float


@dataclass(frozen=True)
class Layout:
    """nodes: the middle of each node. edges: the points each edge runs through, both ends included: the
    middle of its source's lower side and of its target's upper side."""

    nodes: dict[Hashable, Point]
    edges: dict[tuple[Hashable, Hashable], tuple[Point, ...]]
    width: float
    height: float


def lay_out(
    graph: nx.DiGraph,
    widths: Mapping[Hashable, float],
    heights: Mapping[Hashable, float],
    *,
    gap: float = 28,
    row_gap: float = 46,
) -> Layout:
    """Places for an acyclic `graph`, whose nodes are as large as `widths` and `heights` say.

    Args:
        gap: between neighbours in a row; row_gap: between rows.
    """
    routed, paths = _with_waypoints(graph)
    rows = _rows(routed)
    width = {node: widths.get(node, 8.0) for node in routed}
    height = {node: heights.get(node, 0.0) for node in routed}
    middle = _places(routed, _ordered(routed, rows), width, set(graph), gap)
    _straighten(rows, middle)
    left = min((middle[node] - width[node] / 2 for node in routed), default=0.0)

    tops: dict[Hashable, Point] = {}
    bottoms: dict[Hashable, Point] = {}
    nodes: dict[Hashable, Point] = {}
    y = 0.0
    for row in rows:
        tallest = max(height[node] for node in row)
        for node in row:
            x = middle[node] - left
            own = height[node] or tallest  # an edge that passes goes straight through the row
            centre = y + tallest / 2
            nodes[node] = Point(x, centre)
            tops[node], bottoms[node] = Point(x, centre - own / 2), Point(x, centre + own / 2)
        y += tallest + row_gap
    edges = {
        edge: (
            bottoms[path[0]],
            *(end for way in path[1:-1] for end in (tops[way], bottoms[way])),
            tops[path[-1]],
        )
        for edge, path in paths.items()
    }
    return Layout(
        nodes={node: nodes[node] for node in graph},
        edges=edges,
        width=max((nodes[node].x + width[node] / 2 for node in routed), default=0.0),
        height=max(y - row_gap, 0.0),
    )


def _with_waypoints(
    graph: nx.DiGraph,
) -> tuple[nx.DiGraph, dict[tuple[Hashable, Hashable], list[Hashable]]]:
    """The graph with a node in each row that an edge crosses; and what each edge runs through."""
    level: dict[Hashable, int] = {}
    for node in nx.topological_sort(graph):
        level[node] = max((level[one] + 1 for one in graph.predecessors(node)), default=0)
    for node in reversed(list(nx.topological_sort(graph))):
        below = [level[one] for one in graph.successors(node)]
        if below and not graph.in_degree(node):
            level[node] = min(below) - 1  # what comes in late is drawn late
    routed = nx.DiGraph()
    for node in graph:
        routed.add_node(node, level=level[node])
    paths = {}
    for source, target in graph.edges:
        path: list[Hashable] = [source]
        for row in range(level[source] + 1, level[target]):
            path.append(("way", source, target, row))
            routed.add_node(path[-1], level=row)
        path.append(target)
        nx.add_path(routed, path)
        paths[source, target] = path
    return routed, paths


def _rows(graph: nx.DiGraph) -> list[list[Hashable]]:
    rows: dict[int, list[Hashable]] = {}
    for node, level in graph.nodes(data="level"):
        rows.setdefault(level, []).append(node)
    return [rows[level] for level in sorted(rows)]


def _ordered(graph: nx.DiGraph, rows: list[list[Hashable]]) -> list[list[Hashable]]:
    """Sort each row, in place, by where neighbours are; the order with the fewest crossings stays."""
    best, fewest = [list(row) for row in rows], _crossings(graph, rows)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for row in rows[1:] if down else reversed(rows[:-1]):
            near = graph.predecessors if down else graph.successors
            at = {node: index for other in rows for index, node in enumerate(other)}
            means = {node: [at[one] for one in near(node)] for node in row}
            key = {node: sum(found) / len(found) if found else at[node] for node, found in means.items()}
            row.sort(key=key.__getitem__)
        crossings = _crossings(graph, rows)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    rows[:] = best
    return rows


def _crossings(graph: nx.DiGraph, rows: Sequence[Sequence[Hashable]]) -> int:
    total = 0
    for upper, lower in pairwise(rows):
        at = {node: index for index, node in enumerate(lower)}
        ends = [sorted(at[one] for one in graph.successors(node) if one in at) for node in upper]
        seen: list[int] = []
        for found in ends:
            total += sum(1 for end in found for other in seen if other > end)
            seen += found
    return total


def _places(
    graph: nx.DiGraph,
    rows: Sequence[Sequence[Hashable]],
    width: Mapping[Hashable, float],
    drawn: Set[Hashable],
    gap: float,
) -> dict[Hashable, float]:
    """The middle of each node: near its neighbours', and no two overlap. drawn: the graph's own nodes."""
    x: dict[Hashable, float] = {}
    for row in rows:
        _spread(row, dict.fromkeys(row, 0.0), width, drawn, gap, x)
    for sweep in range(SWEEPS * 2):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            near = graph.predecessors if down else graph.successors
            wish = {}
            for node in row:
                # What only passes makes room for layers, so that chains are straight beside it.
                found = sorted(x[one] for one in near(node) if one in drawn)
                found = found if found and node in drawn else sorted(x[one] for one in near(node))
                wish[node] = (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2 if found else x[node]
            _spread(row, wish, width, drawn, gap, x)
    return x


def _straighten(rows: Sequence[Sequence[Hashable]], x: dict[Hashable, float]) -> None:
    """Move whole rows so that all nodes that are alone in theirs stand in one line: a network whose branches
    lean to one side would drift that way otherwise."""
    shifts = {at: -x[row[0]] for at, row in enumerate(rows) if len(row) == 1}
    for at, row in enumerate(rows):
        above = next((shifts[one] for one in range(at, -1, -1) if one in shifts), None)
        below = next((shifts[one] for one in range(at, len(rows)) if one in shifts), None)
        near = [shift for shift in (above, below) if shift is not None]
        for node in row if near else ():
            x[node] += sum(near) / len(near)


def _spread(
    row: Sequence[Hashable],
    wish: Mapping[Hashable, float],
    width: Mapping[Hashable, float],
    drawn: Set[Hashable],
    gap: float,
    x: dict[Hashable, float],
) -> None:
    """Put the nodes of a row as near to their wishes as their order and sizes let them (least squares: those
    that would overlap share the mean of what they wish, waypoints having little say)."""
    weight = {node: 1.0 if node in drawn else WAYPOINT for node in row}
    blocks: list[tuple[list[Hashable], float]] = []  # nodes, and where the first one's middle is
    offset: dict[Hashable, float] = {}
    for node in row:
        blocks.append(([node], wish[node]))
        offset[node] = 0.0
        while len(blocks) > 1:
            (left, start), (right, begin) = blocks[-2], blocks[-1]
            need = start + offset[left[-1]] + (width[left[-1]] + width[right[0]]) / 2 + gap
            if begin >= need:
                break
            shift = need - start
            for one in right:
                offset[one] += shift
            merged = left + right
            pull = sum(weight[one] * (wish[one] - offset[one]) for one in merged)
            blocks[-2:] = [(merged, pull / sum(weight[one] for one in merged))]
    for nodes, start in blocks:
        for node in nodes:
            x[node] = start + offset[node]
