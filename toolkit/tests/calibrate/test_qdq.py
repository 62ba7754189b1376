"""Q/DQ pairs as TensorRT wants them: real TensorRT-RTX builds the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.calibrate import networks
from trtkit.build import BuildOptions, build_engine
from trtkit.calibrate.graph import Graph, read_graph, save_model
from trtkit.calibrate.placement import Placement, keep, place
from trtkit.calibrate.qdq import quantised
from trtkit.calibrate.ranges import Range
from trtkit.tensors import shape_text

SMS = ("75", "80", "86", "89", "120")


def ranges(placement: Placement) -> dict[str, Range]:
    return dict.fromkeys(placement.activations, (-1.5, 3.0))


def int8(graph: Graph, *patterns: str) -> onnx.ModelProto:
    placement = keep(place(graph), graph, patterns)
    return quantised(graph, placement, ranges(placement))


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("make", [networks.residual, networks.separable, networks.attention])
def test_tensorrt_builds_it_for_every_gpu_with_a_dynamic_batch(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    out = tmp_path / "int8.onnx"
    graph = read_graph(make(tmp_path / "fp32.onnx"))
    save_model(int8(graph), out)
    sidecar = build_engine(out, tmp_path / "engine", BuildOptions(precision="int8", sms=SMS))
    assert sidecar.sms == SMS
    name = graph.inputs[0].name
    assert [shape_text(shape)[0] for shape in (sidecar.profile[name].min, sidecar.profile[name].max)] == [
        "1",
        "8",
    ]


def test_tensorrt_builds_it_with_nodes_kept_in_fp16(tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    save_model(int8(read_graph(networks.residual(tmp_path / "fp32.onnx")), "conv4", "Gemm"), out)
    assert build_engine(out, tmp_path / "engine", BuildOptions(precision="int8", sms=("86",))).sms == ("86",)


@pytest.mark.parametrize("make", [networks.residual, networks.separable, networks.attention])
def test_zero_points_are_zero_scales_positive_and_biases_untouched(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    model = int8(read_graph(make(tmp_path / "n.onnx")))
    onnx.checker.check_model(model, full_check=True)
    values = constants(model)
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert pairs
    for node in pairs:
        assert values[node.input[1]].dtype == np.float32
        assert (values[node.input[1]] > 0).all()
        assert values[node.input[2]].dtype == np.int8
        assert not values[node.input[2]].any()
    quantised_tensors = {node.input[0] for node in pairs}
    assert not {name for name in values if name.startswith("b")} & quantised_tensors


def test_a_scale_maps_the_larger_end_of_a_range_to_127(tmp_path: Path) -> None:
    values = constants(int8(read_graph(networks.classifier(tmp_path / "n.onnx"))))
    assert values["x_scale"] == np.float32(3) / 127
    np.testing.assert_allclose(values["w0_axis1_scale"], np.abs(values["w0"]).max(axis=0) / 127, rtol=1e-6)


@given(peaks=st.lists(st.floats(0, 1e4, width=32), min_size=16, max_size=16))
def test_every_scale_is_above_zero_covers_its_channel_and_survives_fp16(
    tmp_path_factory: pytest.TempPathFactory, peaks: list[float]
) -> None:
    path = networks.classifier(tmp_path_factory.mktemp("network") / "n.onnx")
    model = onnx.load(str(path))
    weights = np.zeros((8, 16), np.float32)
    weights[2] = peaks
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w0"))
    onnx.save(model, str(path))
    scales = constants(int8(read_graph(path)))["w0_axis1_scale"]
    assert (scales > 0).all()
    assert (scales * 127 >= np.array(peaks, np.float32) * (1 - 1e-6)).all()
    np.testing.assert_allclose(scales.astype(np.float16).astype(np.float32), scales, rtol=2**-11)


@pytest.mark.parametrize("size", [1e-9, 1e-6, 1e-3])
def test_tensorrt_builds_a_network_whose_weights_are_all_but_gone(size: float, tmp_path: Path) -> None:
    path = networks.residual(tmp_path / "fp32.onnx")
    model = onnx.load(str(path))
    weights = numpy_helper.to_array(model.graph.initializer[2]).copy()
    weights[3] *= np.float32(size)
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(weights, "w2"))
    onnx.save(model, str(path))
    out = tmp_path / "int8.onnx"
    save_model(int8(read_graph(path)), out)
    assert build_engine(out, tmp_path / "engine", BuildOptions(precision="int8", sms=("86",))).sms == ("86",)


def test_a_channel_of_zeros_has_a_scale_too(tmp_path: Path) -> None:
    path = networks.classifier(tmp_path / "n.onnx")
    model = onnx.load(str(path))
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[:, 3] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w0"))
    onnx.save(model, str(path))
    scales = constants(int8(read_graph(path)))["w0_axis1_scale"]
    assert (scales > 0).all()


def test_the_same_network_and_ranges_give_the_same_bytes(tmp_path: Path) -> None:
    path = networks.residual(tmp_path / "n.onnx")
    for name in ("a", "b"):
        save_model(int8(read_graph(path)), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_kept_node_reads_what_it_read_though_others_read_it_quantised(tmp_path: Path) -> None:
    graph = read_graph(networks.residual(tmp_path / "n.onnx"))
    before = {node.name: list(node.input) for node in graph.model.graph.node}
    after = {node.name: list(node.input) for node in int8(graph, "conv5").graph.node}
    assert after["conv5"] == before["conv5"] == ["x", "w3"]
    assert after["conv2"][0] == "x_dequantised"  # the same tensor


def test_names_that_the_network_has_already_are_not_taken_again(tmp_path: Path) -> None:
    path = networks.write_network(
        tmp_path / "n.onnx",
        """n (float[batch,8] x) => (float[batch,8] y) {
          h = MatMul(x, x_scale)
          x_dequantised_ = Mul(h, x__scale)
          y = MatMul(x_dequantised_, w)
        }""",
        x_scale=(8, 8), x__scale=(8,), w=(8, 8),
    )  # fmt: skip
    model = int8(read_graph(path))
    onnx.checker.check_model(model, full_check=True)
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(set(names)) == len(names)
    assert constants(model)["x_scale"].shape == (8, 8)
    out = tmp_path / "int8.onnx"
    save_model(model, out)
    assert build_engine(out, tmp_path / "engine", BuildOptions(precision="int8", sms=("86",))).sms == ("86",)


def test_it_is_written_as_onnx_whatever_the_file_is_called(tmp_path: Path) -> None:
    model = int8(read_graph(networks.classifier(tmp_path / "n.onnx")))
    save_model(model, tmp_path / "q.json")
    assert (tmp_path / "q.json").read_bytes() == model.SerializeToString()


@pytest.mark.parametrize("scale", ["f_scale", "w5_axis0_scale"])
def test_tensorrt_builds_a_matrix_product_one_of_whose_scales_is_too_small_for_fp16(
    scale: str, tmp_path: Path
) -> None:
    """Calibrators of others do not look at what FP16 can hold."""
    model = int8(read_graph(networks.residual(tmp_path / "fp32.onnx")))
    tensor = next(one for one in model.graph.initializer if one.name == scale)
    small = np.full(tensor.dims, 1e-8, np.float32)
    tensor.CopyFrom(numpy_helper.from_array(small, scale))
    out = tmp_path / "int8.onnx"
    save_model(model, out)
    assert build_engine(out, tmp_path / "engine", BuildOptions(precision="int8", sms=("86",))).sms == ("86",)
