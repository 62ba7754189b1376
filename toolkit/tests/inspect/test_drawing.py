"""The picture: valid XML whatever the names, every layer in it, none upon another."""

from __future__ import annotations

from itertools import combinations, pairwise
from xml.etree import ElementTree

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from trtkit.inspect.drawing import draw
from trtkit.inspect.layer import Layer, LayerTensor
from trtkit.inspect.layout import lay_out

SVG = "{http://www.w3.org/2000/svg}"


def chain(names: list[str]) -> list[Layer]:
    """A layer for each name, each fed by the one before, and by the first."""
    tensors = [LayerTensor(f"t{index}", "fp16", (-1, 8), "NHWC") for index in range(len(names) + 1)]
    return [
        Layer(
            name=name,
            type="Conv",
            precision="fp16",
            inputs=(tensors[index], *([tensors[1]] if index > 1 else [])),
            outputs=(tensors[index + 1],),
            fused=(name, f"{name}/Relu"),
            tactic=f"tactic of {name}",
        )
        for index, name in enumerate(names)
    ]


@settings(max_examples=50)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=6), st.text())
def test_any_name_is_drawn_as_valid_xml(names: list[str], title: str) -> None:
    root = ElementTree.fromstring(draw(chain(names), title).encode())
    assert root.tag == f"{SVG}svg"


def test_names_are_text_and_never_markup() -> None:
    evil = "</text><script>alert(1)</script>&\x1f\x00\ufffe"
    root = ElementTree.fromstring(draw(chain([evil]), evil).encode())
    assert not list(root.iter(f"{SVG}script"))
    assert any("<script>" in (text.text or "") for text in root.iter(f"{SVG}title"))


def test_every_layer_is_there_with_its_nodes_precision_and_shapes() -> None:
    layers = chain([f"layer{index}" for index in range(60)])
    texts = [
        text.text or "" for text in ElementTree.fromstring(draw(layers, "sixty").encode()).iter(f"{SVG}text")
    ]
    for layer in layers:
        assert layer.name in texts
        assert f"+ {layer.name}/Relu" in texts
    assert texts.count("fp16") == 60
    assert "fp16 · 60" in texts
    assert texts.count("?x8 fp16 NHWC") == 61
    assert {"t0", "t60"} <= set(texts)


def test_a_layer_of_many_nodes_names_some_and_counts_the_rest() -> None:
    layer = chain(["many"])[0]
    many = Layer(**{**vars(layer), "fused": tuple(f"node{index}" for index in range(20))})
    root = ElementTree.fromstring(draw([many], "many").encode())
    assert "+ 16 more" in [text.text for text in root.iter(f"{SVG}text")]
    assert any("node19" in (text.text or "") for text in root.iter(f"{SVG}title"))


def test_the_same_network_is_the_same_picture() -> None:
    layers = chain([f"layer{index}" for index in range(20)])
    assert draw(layers, "a") == draw(layers, "a")


@st.composite
def graphs(draw: st.DrawFn) -> nx.DiGraph:
    count = draw(st.integers(1, 14))
    graph = nx.DiGraph()
    graph.add_nodes_from(range(count))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    graph.add_edges_from((low, high) for low, high in draw(st.lists(pairs, max_size=24)) if low < high)
    return graph


@settings(deadline=None)
@given(graphs())
def test_no_node_lies_upon_another_and_every_edge_runs_down(graph: nx.DiGraph) -> None:
    widths = {node: 40.0 + 10 * (node % 5) for node in graph}
    heights = {node: 20.0 + 5 * (node % 3) for node in graph}
    layout = lay_out(graph, widths, heights)
    for one, other in combinations(graph, 2):
        a, b = layout.nodes[one], layout.nodes[other]
        apart = abs(a.x - b.x) >= (widths[one] + widths[other]) / 2 - 1e-6
        assert apart or abs(a.y - b.y) >= (heights[one] + heights[other]) / 2 - 1e-6
    for node in graph:
        assert widths[node] / 2 <= layout.nodes[node].x + 1e-6
        assert layout.nodes[node].x + widths[node] / 2 <= layout.width + 1e-6
    for points in layout.edges.values():
        assert all(below.y >= above.y for above, below in pairwise(points))
    assert set(layout.edges) == set(graph.edges)


def test_what_all_paths_go_through_stands_in_one_line() -> None:
    """A chain of blocks whose branches are of different length, as an inception network is."""
    graph = nx.DiGraph()
    for block in range(5):
        start, end = f"c{block}", f"c{block + 1}"
        nx.add_path(graph, [start, f"a{block}", end])
        nx.add_path(graph, [start, f"b{block}", f"b{block}+", end])
        nx.add_path(graph, [start, f"d{block}", f"d{block}+", end])
    layout = lay_out(graph, dict.fromkeys(graph, 100.0), dict.fromkeys(graph, 20.0))
    middles = {round(point.x, 3) for node, point in layout.nodes.items() if str(node).startswith("c")}
    assert len(middles) == 1
    assert layout.width < 500
