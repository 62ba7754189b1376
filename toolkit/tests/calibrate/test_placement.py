"""Which edges get Q/DQ pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.calibrate import networks
from trtkit.calibrate.graph import Graph, read_graph
from trtkit.calibrate.placement import keep, place
from trtkit.errors import RequestError


def edges(graph: Graph) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for edge in place(graph).edges:
        found.setdefault(edge.node, []).append(edge.tensor)
    return found


def test_convolutions_the_skip_input_of_additions_pooling_and_the_classifier(tmp_path: Path) -> None:
    assert edges(read_graph(networks.residual(tmp_path / "n.onnx"))) == {
        "conv0": ["image", "w0"],
        "conv2": ["x", "w1"],
        "conv4": ["ar", "w2"],
        "conv5": ["x", "w3"],
        "add6": ["short"],  # b, from the convolution, stays: both fuse
        "conv8": ["y", "w4"],
        "add9": ["y"],
        "globalaveragepool11": ["z"],
        "gemm13": ["f", "w5"],  # not its bias
    }


def test_both_sides_of_a_product_of_activations(tmp_path: Path) -> None:
    found = edges(read_graph(networks.attention(tmp_path / "n.onnx")))
    assert ["q", "k"] in found.values()
    assert ["s", "v"] in found.values()
    assert not [node for node in found if node.startswith(("add", "mul"))]  # nothing there fuses


@pytest.mark.parametrize(
    ("make", "weight", "axis"),
    [
        (networks.residual, "w0", 0),  # Conv
        (networks.residual, "w5", 0),  # Gemm with transB
        (networks.separable, "w1", 0),  # depthwise
        (networks.separable, "w4", 1),  # ConvTranspose
        (networks.attention, "wq", 1),  # MatMul
    ],
)
def test_the_axis_of_a_weight_is_that_of_its_output_channels(
    make: Callable[[Path], Path], weight: str, axis: int, tmp_path: Path
) -> None:
    placed = place(read_graph(make(tmp_path / "n.onnx")))
    assert {edge.tensor: edge.axis for edge in placed.edges if edge.constant}[weight] == axis


def test_a_grouped_transposed_convolution_has_one_scale(tmp_path: Path) -> None:
    path = networks.write_network(
        tmp_path / "n.onnx",
        "n (float[b,4,8,8] x) => (float[b,6,16,16] y) "
        "{ y = ConvTranspose<kernel_shape=[2,2],strides=[2,2],group=2>(x, w) }",
        w=(4, 3, 2, 2),
    )
    assert [edge.axis for edge in place(read_graph(path)).edges] == [None, None]


def test_weights_behind_constants_and_identities_are_found(tmp_path: Path) -> None:
    path = networks.write_network(
        tmp_path / "n.onnx",
        """n (float[b,4] x) => (float[b,4] y) {
          w1 = Identity(w)
          h = MatMul(x, w1)
          t = Transpose<perm=[1,0]>(w)
          y = MatMul(h, t)
        }""",
        w=(4, 4),
    )
    placed = place(read_graph(path))
    assert [edge.constant for edge in placed.edges] == [False, True, False, True]


def test_batch_norms_go_into_convolutions_before_ranges_are_measured(tmp_path: Path) -> None:
    path = networks.write_network(
        tmp_path / "n.onnx",
        """n (float[b,3,8,8] x) => (float[b,4,6,6] y) {
          c = Conv(x, w)
          y = BatchNormalization(c, g, h, m, v)
        }""",
        w=(4, 3, 3, 3), g=(4,), h=(4,), m=(4,), v=(4,),
    )  # fmt: skip
    graph = read_graph(path)
    assert [node.op_type for node in graph.model.graph.node] == ["Conv"]


class TestKeep:
    @pytest.mark.parametrize(
        ("pattern", "kept"),
        [
            ("conv4", {"conv4"}),
            ("conv*", {"conv0", "conv2", "conv4", "conv5", "conv8"}),
            ("Add", {"add6", "add9"}),  # a type
            ("scores", {"gemm13"}),  # an output
            ("*", None),
        ],
    )
    def test_a_pattern_is_a_glob_over_names_types_and_outputs(
        self, pattern: str, kept: set[str] | None, tmp_path: Path
    ) -> None:
        graph = read_graph(networks.residual(tmp_path / "n.onnx"))
        everything = place(graph)
        left = keep(everything, graph, (pattern,))
        assert set(left.kept) == (kept or set(everything.nodes))
        assert set(left.nodes) == set(everything.nodes) - set(left.kept)

    def test_pytorchs_modules_can_be_named(self, tmp_path: Path) -> None:
        path = networks.residual(tmp_path / "n.onnx")
        model = onnx.load(str(path))
        scopes = model.graph.node[2].metadata_props.add()
        scopes.key, scopes.value = "pkg.torch.onnx.name_scopes", "['', 'layer1', 'layer1.conv1']"
        onnx.save(model, str(path))
        graph = read_graph(path)
        assert keep(place(graph), graph, ("layer1*",)).kept == ("conv2",)

    def test_a_name_with_brackets_can_be_given_as_it_is(self, tmp_path: Path) -> None:
        path = networks.residual(tmp_path / "n.onnx")
        model = onnx.load(str(path))
        model.graph.node[2].name = "head[0]"
        onnx.save(model, str(path))
        graph = read_graph(path)
        assert keep(place(graph), graph, ("head[0]",)).kept == ("head[0]",)

    def test_one_that_matches_nothing_lists_near_names(self, tmp_path: Path) -> None:
        graph = read_graph(networks.residual(tmp_path / "n.onnx"))
        with pytest.raises(RequestError) as raised:
            keep(place(graph), graph, ("conv44",))
        assert "conv4" in (raised.value.fact("near") or "").split(", ")

    def test_one_that_matches_only_what_is_not_quantised_says_so(self, tmp_path: Path) -> None:
        graph = read_graph(networks.residual(tmp_path / "n.onnx"))
        with pytest.raises(RequestError) as raised:
            keep(place(graph), graph, ("Relu",))
        assert "relu1" in (raised.value.fact("because") or "")


class TestRefused:
    def refusal(self, path: Path) -> RequestError:
        with pytest.raises(RequestError) as raised:
            read_graph(path)
        return raised.value

    def test_a_file_that_is_no_onnx(self, tmp_path: Path) -> None:
        path = tmp_path / "n.onnx"
        path.write_bytes(b"\x00\x01nonsense")
        assert "n.onnx" in self.refusal(path).problem

    def test_a_network_that_is_quantised_already(self, tmp_path: Path) -> None:
        path = networks.write_network(
            tmp_path / "n.onnx",
            """n (float[b,4] x) => (float[b,4] y) <float scale = {0.1}, int8 zero = {0}> {
              q = QuantizeLinear(x, scale, zero)
              y = DequantizeLinear(q, scale, zero)
            }""",
        )
        assert "quantised already" in self.refusal(path).problem

    def test_an_old_opset(self, tmp_path: Path) -> None:
        text = "n (float[b,4] x) => (float[b,4] y) { y = MatMul(x, w) }"
        assert (
            "opset 12"
            in self.refusal(networks.write_network(tmp_path / "n.onnx", text, 12, w=(4, 4))).problem
        )

    def test_fp16_weights(self, tmp_path: Path) -> None:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        path = networks.classifier(tmp_path / "n.onnx")
        onnx.save(convert_float_to_float16(onnx.load(str(path))), str(path))
        assert "FP16" in self.refusal(path).problem
