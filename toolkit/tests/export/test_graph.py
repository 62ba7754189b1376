"""What becomes of an exporter's ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtkit.errors import RequestError, WorkFailed
from trtkit.export.graph import finish
from trtkit.export.unsupported import UnsupportedOperator

BATCH = {"x": {0: "batch"}}


def note(node: onnx.NodeProto, **notes: str) -> onnx.NodeProto:
    """What the dynamo exporter notes on a node."""
    for key, value in notes.items():
        node.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
    return node


def model(
    *nodes: onnx.NodeProto, first: str | int = "s77", result: str | int = "s77", opset: int = 18
) -> onnx.ModelProto:
    """x -> nodes -> y, with one weight w."""
    graph = helper.make_graph(
        list(nodes), "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [first, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [result, 4])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
        doc_string="made on /home/somebody/disk",
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def finished(made: onnx.ModelProto, folder: Path, opset: int = 18) -> onnx.ModelProto:
    (folder / "raw").mkdir()
    onnx.save(made, folder / "raw" / "model.onnx")
    return finish(folder / "raw" / "model.onnx", folder / "net.onnx", BATCH, opset, "dynamo")


def layer(name: str, source: str, target: str, module: str) -> onnx.NodeProto:
    scopes = str(["", *[module.rsplit(".", n)[0] for n in range(module.count("."), -1, -1)], name])
    node = helper.make_node("MatMul", [source, "w"], [target], name=name)
    return note(
        node, name_scopes=scopes, stack_trace='File "/home/somebody/net.py", line 3, in forward\n    y'
    )


def test_nodes_are_called_after_their_modules(tmp_path: Path) -> None:
    made = model(layer("a", "x", "h", "body.0"), layer("b", "h", "i", "body.0"), layer("c", "i", "y", "head"))
    nodes = finished(made, tmp_path).graph.node
    assert [node.name for node in nodes] == ["body.0/MatMul", "body.0/MatMul_1", "head/MatMul"]


def test_dimensions_are_called_as_asked_in_expressions_too(tmp_path: Path) -> None:
    made = model(layer("a", "x", "y", "body"), result="((s77*2)//2)")
    graph = finished(made, tmp_path).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == "((batch*2)//2)"


def test_the_file_holds_no_path_of_the_machine_that_made_it(tmp_path: Path) -> None:
    finished(model(layer("a", "x", "y", "body")), tmp_path)
    assert b"somebody" in (tmp_path / "raw" / "model.onnx").read_bytes()
    assert b"somebody" not in (tmp_path / "net.onnx").read_bytes()


def test_a_dynamic_dimension_that_came_out_fixed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match="dimension 0 of the input 'x' came out fixed at 2"):
        finished(model(layer("a", "x", "y", "body"), first=2), tmp_path)


def test_another_opset_than_asked_for_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="opset 17, only in 18"):
        finished(model(layer("a", "x", "y", "body")), tmp_path, opset=17)


def test_an_operator_that_is_younger_than_the_opset_is_named_with_its_origin(tmp_path: Path) -> None:
    node = note(
        helper.make_node("Gelu", ["x"], ["y"]),
        name_scopes="['', 'body', 'body.act', 'gelu']",
        fx_node="%gelu : [num_users=1] = call_function[target=torch.ops.aten.gelu.default](args = (%x,))",
        stack_trace='File "/srv/net.py", line 9, in forward\n    return gelu(x)',
    )
    with pytest.raises(UnsupportedOperator) as caught:
        finished(model(node), tmp_path)
    error = caught.value
    assert (error.operator, error.module, error.opset) == ("aten::gelu", "body.act", 20)
    assert error.line == "/srv/net.py:9 in forward: return gelu(x)"


def test_an_operator_in_a_branch_is_found_too(tmp_path: Path) -> None:
    then = helper.make_graph(
        [helper.make_node("Gelu", ["x"], ["t"])], "then", [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["e"])], "else", [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
    )  # fmt: skip
    yes = helper.make_node(
        "Constant", [], ["yes"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True])
    )
    with pytest.raises(UnsupportedOperator, match="Gelu"):
        finished(
            model(yes, helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)), tmp_path
        )


def test_shapes_that_contradict_each_other_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match="not sound"):
        finished(
            model(helper.make_node("Flatten", ["x"], ["h"], axis=7), layer("a", "h", "y", "b")), tmp_path
        )


def test_weights_in_a_file_of_their_own_stay_in_one(tmp_path: Path) -> None:
    made = model(layer("a", "x", "y", "body"))
    made.graph.initializer.append(numpy_helper.from_array(np.zeros((300, 300), np.float32), "big"))
    (tmp_path / "raw").mkdir()
    onnx.save(made, tmp_path / "raw" / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    finish(tmp_path / "raw" / "model.onnx", tmp_path / "net.onnx", BATCH, 18, "dynamo")
    assert (tmp_path / "net.onnx").stat().st_size < 10_000
    assert (tmp_path / "net.onnx.data").stat().st_size >= 360_000
    read = onnx.load(tmp_path / "net.onnx")
    assert {it.name: it.dims[0] for it in read.graph.initializer} == {"w": 4, "big": 300}
