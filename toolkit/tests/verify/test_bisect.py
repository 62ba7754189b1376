"""Networks broken on purpose: the first bad layer is known, and found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.verify.networks import copy, healthy, in_fp16, matrix, network, node, overflowing, with_weight
from trtkit.runners.onnxruntime import OnnxRuntimeRunner
from trtkit.verify.bisect import Bisection, bisect
from trtkit.verify.marked import groups, marked_runner, tensor_bytes, tensors_of, with_barriers
from trtkit.verify.tolerance import TOLERANCES

FP32, FP16 = TOLERANCES["fp32"], TOLERANCES["fp16"]


def feeds(batch: int = 3, width: int = 8) -> dict[str, NDArray[np.float32]]:
    return {"x": np.random.default_rng(7).standard_normal((batch, width), np.float32)}


def first(found: Bisection) -> Any:
    assert found.first is not None
    return found.first


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    found = bisect(in_fp16(healthy()), healthy(), feeds(), FP16)
    assert found.first is None
    assert found.compared == found.layers


def test_an_overflow_in_fp16_is_found_where_it_happens() -> None:
    bad = first(bisect(in_fp16(overflowing()), overflowing(), feeds(), FP16))
    assert (bad.node, bad.op, bad.tensor) == ("Mul_big", "Mul", "big")
    assert bad.output.subject.inf > 0
    assert bad.output.reference.high > 65504
    assert all(one.subject.finite for one in bad.inputs)
    assert "overflow in FP16" in bad.hint
    assert bad.unseen == ()


def test_an_overflow_reaches_the_output_as_it_does_on_a_gpu() -> None:
    model = in_fp16(
        network([node("Mul", "x large", "big"), node("Mul", "big small", "y")], {
            "large": np.float32(60000), "small": np.float32(1 / 60000)
        })
    )  # fmt: skip
    fed = {"x": np.full((1, 8), 2.0, np.float32)}
    assert np.isfinite(OnnxRuntimeRunner(model.SerializeToString()).run(fed)["y"]).all()  # why it is needed
    assert np.isinf(marked_runner(with_barriers(model)).run(fed)["y"]).all()


def test_a_cast_that_overflows_is_the_first_layer() -> None:
    large = {"x": feeds()["x"] * np.float32(1e5)}
    bad = first(bisect(in_fp16(healthy()), healthy(), large, FP16))
    assert bad.op == "Cast"
    assert "overflow in FP16" in bad.hint


def test_underflow_in_fp16_is_told_as_such() -> None:
    model = network(
        [node("Mul", "x tiny", "small"), node("Mul", "small huge", "y")],
        {"tiny": np.float32(1e-7), "huge": np.float32(1e4)},
    )
    bad = first(bisect(in_fp16(model), model, feeds(), FP16))
    assert bad.node == "Mul_small"
    assert "underflow" in bad.hint


def test_a_wrong_weight_is_named() -> None:
    wrong = with_weight(healthy(), "w2", matrix(3))
    bad = first(bisect(wrong, healthy(), feeds(), FP32))
    assert bad.node == "MatMul_h3"
    assert "its weight w2 is not the reference's" in bad.hint
    assert [one.tensor for one in bad.inputs if one.why] == ["w2"]


def test_the_logarithm_of_a_negative_number_is_the_models_own_fault() -> None:
    model = network(
        [node("MatMul", "x w1", "h1"), node("Log", "h1", "h2"), node("Relu", "h2", "y")], {"w1": matrix(1)}
    )
    bad = first(bisect(copy(model), model, feeds(), FP32))
    assert bad.node == "Log_h2"
    assert "the logarithm of a negative number" in bad.hint
    assert "the reference does so too" in bad.hint


@pytest.mark.parametrize(
    ("factor", "bias", "kind"), [(0.0, 0.0, "all zero"), (0.0, 2.0, "one number everywhere")]
)
def test_an_output_that_is_constant_in_both_is_traced_to_where_it_became_so(
    factor: float, bias: float, kind: str
) -> None:
    model = network(
        [
            node("MatMul", "x w1", "h1"),
            node("Gemm", "h1 dead bias", "h2"),
            node("Relu", "h2", "h3"),
            node("Identity", "h3", "y"),
        ],
        {"w1": matrix(1), "dead": matrix(2) * np.float32(factor), "bias": np.full(8, bias, np.float32)},
    )
    bad = first(bisect(copy(model), model, feeds(), FP32))
    assert bad.node == "Gemm_h2"
    assert kind in bad.hint
    assert "dead is all zero" in bad.hint
    assert "the reference does so too" in bad.hint


def test_a_constant_inside_a_healthy_network_is_no_finding() -> None:
    model = network(
        [node("Shape", "x", "s"), node("ConstantOfShape", "s", "zeros"), node("Add", "x zeros", "y")], {}
    )
    assert bisect(copy(model), model, feeds(), FP32).first is None


def test_a_layer_without_a_name_is_called_by_its_output() -> None:
    model = overflowing()
    subject = in_fp16(model)
    for one in [*model.graph.node, *subject.graph.node]:
        one.name = ""
    assert first(bisect(subject, model, feeds(), FP16)).node == "Mul of big"


def test_renamed_tensors_are_matched_by_what_feeds_them() -> None:
    subject = in_fp16(overflowing())
    for index, one in enumerate(subject.graph.node):
        one.name = f"node_{index}"
        for names in (one.input, one.output):
            for at, name in enumerate(names):
                if name in {"h1", "big", "h2"}:
                    names[at] = f"renamed_{name}"
    bad = first(bisect(subject, overflowing(), feeds(), FP16))
    assert bad.tensor == "renamed_big"


def test_a_layer_behind_one_that_cannot_be_compared_tells_of_it() -> None:
    reference = healthy()
    subject = with_weight(healthy(), "w1", matrix(5))
    subject.graph.node[0].output[0] = subject.graph.node[1].input[0] = "another"
    subject.graph.node[0].name = "new"
    subject.graph.node[0].op_type = "Gemm"  # no such node in the reference: it has no partner
    bad = first(bisect(subject, reference, feeds(), FP32))
    assert bad.node == "Relu_h2"
    assert bad.unseen == ("new",)


def test_whoever_computes_the_subjects_tensors_may_leave_some_out() -> None:
    """As an engine does, that knows nothing of a tensor by its ONNX name."""
    wrong = with_weight(healthy(), "w1", matrix(5))

    def values(names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        return tensors_of(wrong, feeds(), [name for name in names if name != "h1"])

    bad = first(bisect(wrong, healthy(), feeds(), FP32, values=values))
    assert bad.node == "Relu_h2"
    assert bad.unseen == ("MatMul_h1",)


def quantised(model: onnx.ModelProto, tensor: str, scale: float) -> onnx.ModelProto:
    """A copy in which `tensor` goes through Q/DQ with this scale before it is used."""
    subject = copy(model)
    for one in subject.graph.node:
        for at, name in enumerate(one.input):
            if name == tensor:
                one.input[at] = f"{tensor}_DequantizeLinear_Output"
    subject.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(scale, np.float32), "scale"),
            numpy_helper.from_array(np.array(0, np.int8), "zero"),
        ]
    )
    subject.graph.node.extend(
        [
            node("QuantizeLinear", f"{tensor} scale zero", f"{tensor}_QuantizeLinear_Output"),
            node(
                "DequantizeLinear",
                f"{tensor}_QuantizeLinear_Output scale zero",
                f"{tensor}_DequantizeLinear_Output",
            ),
        ]
    )
    return subject


@pytest.mark.parametrize(("scale", "verdict"), [(0.002, "range too narrow"), (5.0, "too coarse")])
def test_a_wrong_quantisation_range_is_told(scale: float, verdict: str) -> None:
    bad = first(bisect(quantised(healthy(), "h2", scale), healthy(), feeds(), TOLERANCES["int8"]))
    assert bad.op == "DequantizeLinear"
    assert verdict in bad.hint


def test_a_right_quantisation_range_is_within_tolerance() -> None:
    subject = quantised(healthy(), "h2", 3.0 / 127)
    assert bisect(subject, healthy(), feeds(), TOLERANCES["int8"]).first is None


def test_little_memory_means_more_runs_with_the_same_answer() -> None:
    roomy = bisect(in_fp16(overflowing()), overflowing(), feeds(), FP16)
    assert bisect(in_fp16(overflowing()), overflowing(), feeds(), FP16, memory=1) == roomy


@given(
    st.lists(st.tuples(st.text("abc", min_size=1), st.integers(-1, 50)), unique_by=lambda one: one[0]),
    st.integers(1, 100),
)
def test_groups_keep_the_order_and_the_budget(sized: list[tuple[str, int]], budget: int) -> None:
    sizes = dict(sized)
    made = list(groups(sizes, sizes, budget))
    assert [name for group in made for name in group] == list(sizes)
    most = max(sizes.values(), default=0)
    for group in made:
        total = sum(sizes[name] if sizes[name] >= 0 else max(most, 0) for name in group)
        assert total <= budget or len(group) == 1


def test_sizes_are_those_of_the_shapes_fed() -> None:
    sizes = tensor_bytes(healthy(), {"x": (5, 8)})
    assert sizes == dict.fromkeys(["h1", "h2", "h3", "y"], 5 * 8 * 4)


@st.composite
def broken_networks(draw: st.DrawFn) -> tuple[onnx.ModelProto, onnx.ModelProto, str]:
    """A random network of chains and diamonds, the same with one layer's weight changed, and its name."""
    count = draw(st.integers(1, 8))
    nodes: list[onnx.NodeProto] = []
    weights = {}
    last = "x"
    for index in range(count):
        weights[f"w{index}"] = matrix(index)
        nodes.append(node("MatMul", f"{last} w{index}", f"m{index}"))
        shape = draw(st.sampled_from(["chain", "diamond", "residual"]))
        if shape == "diamond":
            nodes += [node("Relu", f"m{index}", f"l{index}"), node("Neg", f"m{index}", f"r{index}")]
            nodes.append(node("Add", f"l{index} r{index}", f"t{index}"))
        elif shape == "residual":
            nodes.append(node("Add", f"m{index} {last}", f"t{index}"))
        else:
            nodes.append(node("Tanh", f"m{index}", f"t{index}"))
        last = f"t{index}"
    nodes.append(node("Identity", last, "y"))
    model = network(nodes, weights)
    broken = draw(st.integers(0, count - 1))
    wrong = -weights[f"w{broken}"]
    return model, with_weight(model, f"w{broken}", wrong), f"MatMul_m{broken}"


@settings(max_examples=25, deadline=None)
@given(broken_networks())
def test_the_broken_layer_of_a_random_network_is_found(
    case: tuple[onnx.ModelProto, onnx.ModelProto, str],
) -> None:
    reference, subject, expected = case
    assert first(bisect(subject, reference, feeds(), FP32)).node == expected
    assert bisect(copy(reference), reference, feeds(), FP32).first is None
