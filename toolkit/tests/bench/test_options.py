"""What is asked, and the inputs that follow from it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from pydantic import ValidationError

from trtkit.bench.options import BenchOptions, Signature, signature_of
from trtkit.errors import RequestError
from trtkit.tensors import TensorSpec


def network(path: Path, shape: list[int | str]) -> Path:
    """An ONNX file with one input of this shape, and a weight that is listed as input too."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1], [2.0])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["input", "weight"], ["output"])],
        "doubles",
        [
            helper.make_tensor_value_info("input", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("weight", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_inputs_are_those_of_the_onnx_file_without_its_weights(tmp_path: Path) -> None:
    options = BenchOptions(onnx=network(tmp_path / "x.onnx", ["batch", 3, 8, 8]))
    signature = signature_of(options)
    assert signature == Signature(
        (TensorSpec("input", "float32", (-1, 3, 8, 8)),), (TensorSpec("output", "float32", (-1, 3, 8, 8)),)
    )
    assert signature.shapes(4, {}) == {"input": (4, 3, 8, 8)}


def test_open_dimensions_need_a_shape_and_the_batch_is_ours(tmp_path: Path) -> None:
    signature = signature_of(BenchOptions(onnx=network(tmp_path / "x.onnx", ["batch", 3, "height", "width"])))
    assert signature.shapes(4, {"input": (1, 3, 16, 16)}) == {"input": (4, 3, 16, 16)}
    with pytest.raises(RequestError, match="which shape shall it have") as error:
        signature.shapes(4, {})
    assert "--shapes input:4x3x1x1" in (error.value.fact("next") or "")
    with pytest.raises(RequestError, match="not 1x4x16x16"):
        signature.shapes(4, {"input": (1, 4, 16, 16)})


def test_a_network_with_a_fixed_batch_has_no_other(tmp_path: Path) -> None:
    signature = signature_of(BenchOptions(onnx=network(tmp_path / "x.onnx", [2, 3])))
    assert signature.shapes(2, {}) == {"input": (2, 3)}
    with pytest.raises(RequestError, match="no batch of 4") as error:
        signature.shapes(4, {})
    assert "--batch 2" in (error.value.fact("next") or "")


def test_nothing_given_is_nothing_to_measure() -> None:
    with pytest.raises(RequestError, match="nothing to measure"):
        signature_of(BenchOptions())


def test_a_file_that_is_not_there_or_no_onnx_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no ONNX file"):
        signature_of(BenchOptions(onnx=tmp_path / "absent.onnx"))
    (tmp_path / "x.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(RequestError, match=r"x\.onnx is not an ONNX file"):
        signature_of(BenchOptions(onnx=tmp_path / "x.onnx"))


@pytest.mark.parametrize("batches", [(), (0,), (1, 1)])
def test_batches_are_positive_and_distinct(batches: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        BenchOptions(batches=batches)
