from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.precision.networks import NETWORKS, attention, branches, large, layer_norm, outputs_inside
from tests.tiny_network import convolutional, feeds, network, quantised
from trtkit.precision import ConversionFailed, convert, overflowing_nodes
from trtkit.precision.convert import Half
from trtkit.runners.onnxruntime import OnnxRuntimeRunner

FP16_ERROR, BF16_ERROR = 2e-3, 2e-2
"""Of the largest output: four units in the last place of either type (2^-11, 2^-8)."""


@pytest.mark.parametrize("keep_io", [True, False], ids=["float32 ends", "float16 ends"])
@pytest.mark.parametrize("name", NETWORKS)
def test_fp16_stays_close_to_fp32(name: str, keep_io: bool) -> None:
    model = NETWORKS[name]()
    fed = feeds(model)
    overflow = overflowing_nodes(model, shapes(fed))
    assert not overflow.unseen
    converted = convert(model, "fp16", keep_io=keep_io, blocked=overflow.nodes)

    assert_valid(converted)
    wanted = run(model, fed)
    had = run(converted, fed if keep_io else {name: half(value) for name, value in fed.items()})
    for output, value in wanted.items():
        floats = value.dtype == np.float32
        assert had[output].dtype == (np.float16 if floats and not keep_io else value.dtype)
        assert_close(had[output], value, FP16_ERROR)


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_runs_the_fp16_file_as_well(name: str) -> None:
    model = NETWORKS[name]()
    fed = feeds(model)
    blocked = overflowing_nodes(model, shapes(fed)).nodes
    had = OnnxRuntimeRunner(convert(model, "fp16", blocked=blocked).SerializeToString()).run(fed)
    for output, wanted in run(model, fed).items():
        assert_close(had[output], wanted, FP16_ERROR)


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_stays_close_to_fp32(name: str) -> None:
    model = NETWORKS[name]()
    fed = feeds(model)
    converted = convert(model, "bf16")

    assert_valid(converted)
    assert TensorProto.BFLOAT16 in types(converted)
    assert TensorProto.FLOAT16 not in types(converted)
    had = run(converted, fed)
    for output, wanted in run(model, fed).items():
        assert had[output].dtype == wanted.dtype
        assert_close(had[output], wanted, BF16_ERROR)


@pytest.mark.parametrize("to", ["fp16", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_is_made_every_time_and_the_model_stays_as_it_is(name: str, to: Half) -> None:
    model = NETWORKS[name]()
    before = model.SerializeToString(deterministic=True)
    first, second = convert(model, to), convert(model, to)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert model.SerializeToString(deterministic=True) == before


def test_weights_are_half_as_large() -> None:
    model = convolutional()
    assert weight_bytes(convert(model, "fp16")) * 2 == weight_bytes(model)
    assert weight_bytes(convert(model, "bf16")) * 2 == weight_bytes(model)


def test_without_looking_for_overflow_large_values_are_lost() -> None:
    """What the search for them is good for: `test_fp16_stays_close_to_fp32` has the same network right."""
    model = large()
    blind = run(convert(model, "fp16"), feeds(model))["y"]
    assert not np.isfinite(blind).all()


def test_a_layer_norm_that_is_written_out_survives_values_that_were_never_seen() -> None:
    """Seen at 1, run at 5000: squares reach 1e8."""
    seen, run_with = layer_norm(1), layer_norm(5000)
    assert not overflowing_nodes(seen, {"x": (2, 16)}).nodes
    fed = feeds(run_with)
    assert_close(run(convert(run_with, "fp16"), fed)["y"], run(run_with, fed)["y"], FP16_ERROR)


def test_between_nodes_that_stay_in_fp32_there_are_no_casts() -> None:
    converted = convert(layer_norm(), "fp16")
    stays = {"square", "variance", "guarded", "root"}
    makers = {name: node for node in converted.graph.node for name in node.output}
    for node in converted.graph.node:
        if node.name in stays - {"square"}:
            assert makers[node.input[0]].name in stays, node.name


def test_a_mask_is_no_overflow() -> None:
    assert not overflowing_nodes(attention(), {"x": (1, 5, 8)}).nodes


@pytest.mark.parametrize("to", ["fp16", "bf16"])
def test_nodes_that_are_named_stay_in_fp32(to: Half) -> None:
    converted = convert(convolutional(), to, keep_fp32=["gemm*"])
    weights = {tensor.name: tensor.data_type for tensor in converted.graph.initializer}
    assert (weights["w2"], weights["b2"]) == (TensorProto.FLOAT, TensorProto.FLOAT)
    assert weights["w0"] != TensorProto.FLOAT


def test_bf16_weights_are_rounded_from_fp32_and_stay_finite() -> None:
    """Through FP16 the first would become 65504, the second 5.96e-8, and the third be rounded twice."""
    values = np.array([[1e20, 1e-20], [1.00390625 + 2**-11, np.finfo(np.float32).max]], np.float32)
    model = network("n (float[batch,2] x) => (float[batch,2] y) { y = MatMul(x, w) }", weights={"w": values})
    (weight,) = convert(model, "bf16").graph.initializer
    had = numpy_helper.to_array(weight).astype(np.float32)
    largest = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)  # type: ignore[no-untyped-call]
    wanted = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    wanted[1, 1] = largest
    np.testing.assert_array_equal(had, wanted)


@pytest.mark.parametrize("to", ["fp16", "bf16"])
def test_a_constant_is_converted_however_it_is_written(to: Half) -> None:
    for spelling in ("value_float=2.0", "value_floats=[2.0]", "value=float[1] {2.0}"):
        model = network(
            f"n (float[batch,4] x) => (float[batch,4] y) {{ two = Constant<{spelling}>() y = Mul(x, two) }}"
        )
        converted = convert(model, to)
        assert_valid(converted)
        had = run(converted, feeds(model))["y"]
        assert_close(had, 2 * feeds(model)["x"], BF16_ERROR)


def test_what_holds_fp16_or_bf16_is_left_as_it_is() -> None:
    for to in ("fp16", "bf16"):
        converted = convert(convolutional(), to)
        assert convert(converted, "fp16") is converted
        assert convert(converted, "bf16") is converted


def test_nodes_come_after_what_they_take() -> None:
    for make in (branches, outputs_inside, layer_norm):
        graph = convert(make(), "fp16").graph
        known = {value.name for value in (*graph.input, *graph.initializer)} | {""}
        for node in graph.node:
            assert known.issuperset(node.input), node.name
            known.update(node.output)


class TestQuantised:
    def test_q_dq_nodes_stay_beside_the_layer_with_fp16_scales(self) -> None:
        converted = convert(quantised(), "fp16")
        assert_valid(converted)
        makers = {name: node.op_type for node in converted.graph.node for name in node.output}
        (conv,) = (node for node in converted.graph.node if node.op_type == "Conv")
        assert [makers.get(name) for name in conv.input[:2]] == ["DequantizeLinear", "DequantizeLinear"]
        kinds = {tensor.name: tensor.data_type for tensor in converted.graph.initializer}
        assert [kinds[name] for name in ("s_image", "s_w", "w", "b")] == [
            TensorProto.FLOAT16, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.FLOAT16,
        ]  # fmt: skip

    def test_it_computes_the_same_within_a_step_of_int8(self) -> None:
        model = quantised()
        fed = feeds(model)
        had = run(convert(model, "fp16"), fed)["y"]
        wanted = OnnxRuntimeRunner(model.SerializeToString()).run(fed)["y"]
        assert np.abs(had - wanted).max() <= 0.05 + 128 * 0.05 * 2**-11
        assert np.abs(had - wanted).mean() < 0.05 / 20

    def test_scales_that_fp16_would_spoil_stay_in_fp32(self) -> None:
        model = quantised()
        scale = next(tensor for tensor in model.graph.initializer if tensor.name == "s_w")
        scale.CopyFrom(numpy_helper.from_array(np.full(32, 1.3e-7, np.float32), "s_w"))
        kinds = {tensor.name: tensor.data_type for tensor in convert(model, "fp16").graph.initializer}
        assert kinds["s_w"] == TensorProto.FLOAT
        assert kinds["s_image"] == TensorProto.FLOAT  # the same layer's
        assert kinds["s_y"] == TensorProto.FLOAT16


def test_what_cannot_be_converted_is_an_error_and_no_broken_file() -> None:
    """A Range stays in FP32, and the casts around it would be outside the branch that it is in."""
    model = network(
        """n (float[4] x, bool c) => (float[4] y) {
          y = If (c) <
            then_branch = yes () => (float[4] t) { r = Range(zero, four, one) t = Add(r, x) },
            else_branch = no () => (float[4] e) { e = Neg(x) }
          >
        }""",
        weights={"zero": np.float32(0), "four": np.float32(4), "one": np.float32(1)},
    )
    onnx.checker.check_model(model)
    with pytest.raises(ConversionFailed) as caught:
        convert(model, "fp16")
    assert caught.value.to == "fp16"
    assert caught.value.reason
    assert caught.value.exit_code == 1


def test_operators_of_plug_ins_are_no_reason_not_to_convert() -> None:
    model = network("n (float[batch,4] x) => (float[batch,4] y) { h = my.ops.Odd(x) y = Relu(h) }")
    converted = convert(model, "fp16")
    assert TensorProto.FLOAT16 in types(converted)


def run(model: onnx.ModelProto, fed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """By ONNX's reference: ONNX Runtime's CPU has no BF16, and computes in FP32 what is written as FP16."""
    names = [value.name for value in model.graph.output]
    with np.errstate(over="ignore", invalid="ignore"):
        return dict(zip(names, ReferenceEvaluator(model).run(None, dict(fed)), strict=True))


def assert_valid(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)


def assert_close(had: NDArray[Any], wanted: NDArray[Any], error: float) -> None:
    assert had.shape == wanted.shape
    difference = np.abs(had.astype(np.float64) - wanted.astype(np.float64))
    assert difference.max() <= error * np.abs(wanted.astype(np.float64)).max()


def half(value: NDArray[Any]) -> NDArray[Any]:
    return value.astype(np.float16) if value.dtype == np.float32 else value


def shapes(fed: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in fed.items()}


def types(model: onnx.ModelProto) -> set[int]:
    return {tensor.data_type for tensor in model.graph.initializer} | {
        value.type.tensor_type.elem_type for value in model.graph.value_info
    }


def weight_bytes(model: onnx.ModelProto) -> int:
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
