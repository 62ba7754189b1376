"""An ONNX graph: read by its content, ordered by all that its nodes take, and told as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.tiny_network import convolutional, network
from trtkit.errors import RequestError
from trtkit.onnx_graph import (
    in_order,
    inputs_of,
    load_onnx,
    names_in,
    tensor_specs,
    value_spec,
    with_value_types,
)
from trtkit.tensors import TensorSpec

CAPTURING = """n (float[batch,4] x, bool c) => (float[batch,4] y) {
  y = If (c) <
    then_branch = yes () => (float[batch,4] t) { t = Add(x, late) },
    else_branch = no () => (float[batch,4] e) {
      e = If (c) <
        then_branch = yes2 () => (float[batch,4] t2) { own = Neg(x) t2 = Relu(own) },
        else_branch = no2 () => (float[batch,4] later) { unused = Neg(x) }
      >
    }
  >
}"""


def capturing() -> onnx.ModelProto:
    """An If that takes `late` in a branch and `later` as the output of a branch's branch; their makers stand
    after it."""
    model = network(CAPTURING)
    model.graph.node.extend(
        [
            onnx.helper.make_node("Relu", ["x"], ["later"], name="makes later"),
            onnx.helper.make_node("Abs", ["later"], ["late"], name="makes late"),
        ]
    )
    return model


def test_a_node_comes_after_what_its_subgraphs_capture() -> None:
    names = [node.name for node in in_order(capturing().graph)]
    assert names == ["makes later", "makes late", "if0"]


def test_what_subgraphs_make_themselves_is_not_taken_from_around_them() -> None:
    (node,) = (node for node in capturing().graph.node if node.op_type == "If")
    assert inputs_of(node) == {"c", "x", "late", "later"}


def test_nodes_that_are_in_order_stay_as_written() -> None:
    model = convolutional()
    assert [node.name for node in in_order(model.graph)] == [node.name for node in model.graph.node]


def test_a_network_that_feeds_itself_is_refused() -> None:
    model = network("n (float[4] x) => (float[4] y) { y = Relu(x) }")
    model.graph.node.extend(
        [
            onnx.helper.make_node("Add", ["x", "b"], ["a"], name="one"),
            onnx.helper.make_node("Neg", ["a"], ["b"], name="two"),
        ]
    )
    with pytest.raises(RequestError, match="feeds itself") as told:
        in_order(model.graph)
    assert "one" in str(told.value.fact("because"))
    assert "two" in str(told.value.fact("because"))


def test_names_are_those_of_subgraphs_too() -> None:
    assert {"x", "c", "y", "t", "own", "unused", "late", "if0"} <= names_in(capturing().graph)


@pytest.mark.parametrize("name", ["model", "model.json", "model.txt", "model.textproto", "model.onnxtxt"])
def test_a_file_is_read_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(convolutional().SerializeToString())
    assert load_onnx(tmp_path / name) == convolutional()


@pytest.mark.parametrize("content", [None, b"{}", b"\xff\xff\xff"])
def test_what_is_no_onnx_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError):
        load_onnx(path)


@pytest.mark.parametrize(
    ("element", "dtype"),
    [
        (onnx.TensorProto.FLOAT, "float32"),
        (onnx.TensorProto.BFLOAT16, "bfloat16"),
        (onnx.TensorProto.BOOL, "bool"),
        (onnx.TensorProto.UNDEFINED, "float32"),
    ],
)
def test_a_value_is_told_with_its_open_dimensions(element: int, dtype: str) -> None:
    value = onnx.helper.make_tensor_value_info("x", element, ["batch", 3, None])
    assert value_spec(value) == TensorSpec("x", dtype, (-1, 3, -1))
    assert value_spec(onnx.helper.make_empty_tensor_value_info("y")).shape == ()


def test_types_are_inferred_without_the_values_of_large_weights_and_they_stay() -> None:
    model = network(
        "n (float[batch,64] x) => (float[batch,4,16] y) { h = MatMul(x, w) y = Reshape(h, to) }",
        weights={"w": (64, 64), "to": np.array([0, 4, 16])},
    )
    typed = with_value_types(model)
    assert [value.name for value in typed.graph.value_info] == ["h"]
    assert typed.graph.initializer == model.graph.initializer
    specs = tensor_specs(model, {"x": (2, 64)})
    assert specs["h"] == TensorSpec("h", "float32", (2, 64))
    assert specs["y"] == TensorSpec("y", "float32", (2, 4, 16))  # what Reshape is told is kept
