"""The engine inspector's JSON, in the forms that TensorRT 8 to 11 and RTX write it."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from trtkit.inspect.engine_layers import engine_layers, origins
from trtkit.inspect.layer import LayerTensor


def told(name: str) -> list[dict[str, object]]:
    """cask: TensorRT's own kernels, from 8.x to 10.x: one sentence for type and layout, parameters by layer
    type. myelin: its compiler: the type alone, or beside the layout; nodes between control characters."""
    layers: list[dict[str, object]] = json.loads(
        (Path(__file__).parent / f"inspector_{name}.json").read_text()
    )["Layers"]
    return layers


def test_tensorrts_own_kernels() -> None:
    reformat, fused, quantise, int8 = engine_layers(told("cask"))
    assert reformat.type == "Reformat"
    assert reformat.family == "layout"
    assert reformat.tactic == "0x00000000000003ea"
    assert reformat.inputs == (LayerTensor("input", "fp32", (8, 3, 224, 224), "NCHW"),)
    assert reformat.outputs[0].format == "NHWC4"
    assert fused.fused == ("/conv1/Conv", "/relu/Relu")
    assert fused.precision == "fp16"
    assert fused.outputs == (LayerTensor("/relu/Relu_output_0", "fp16", (8, 64, 112, 112), "NHWC8"),)
    assert fused.tactic.startswith("sm80_xmma_fprop")
    assert fused.weights == (9408 + 64) * 2
    assert fused.family == "convolution"
    assert quantise.outputs[0].format == "NC/32HW32"
    assert int8.precision == "int8"
    assert int8.weights == 36864 + 64 * 4
    assert int8.fused == ("conv2.weight", "QuantizeLinear_7", "Conv_9")  # no metadata: by its name


def test_tensorrts_compiler() -> None:
    attention, convolution = engine_layers(told("myelin"))
    assert attention.fused == ("/attention/MatMul", "/attention/Softmax", "/attention/MatMul_1")
    assert attention.family == "matrix"
    assert attention.inputs == (LayerTensor("qkv", "fp16", (1, 12, 197, 192), ""),)
    assert convolution.precision == "bf16"
    assert convolution.inputs[0].format == "NHWC"
    assert convolution.outputs == (LayerTensor("out", "fp32", (-1, 8, 197, 64), "NCHW"),)
    assert convolution.weights == 8 * 12 * 2
    assert convolution.tactic == ""  # chosen on the GPU
    assert origins((attention, convolution)) == 4


def test_names_alone_are_layers_that_tell_no_more() -> None:
    """What an engine tells that was built without detailed profiling verbosity."""
    first, second = engine_layers(["/conv/Conv + /relu/Relu", "/fc/Gemm"])
    assert first.fused == ("/conv/Conv", "/relu/Relu")
    assert (second.name, second.type, second.precision, second.inputs) == ("/fc/Gemm", "", "", ())


def test_a_node_whose_name_holds_brackets_is_one_node() -> None:
    (layer,) = engine_layers(
        [{"Name": "a", "LayerType": "kgen", "Metadata": "[ONNX Layer: x[0]]\x1f[ONNX Layer: y]"}]
    )
    assert layer.fused == ("x[0]", "y")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
TENSORS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "Name": st.text(),
            "Dimensions": st.lists(st.integers(-1, 9)),
            "Format/Datatype": st.text(),
            "Datatype": st.text(),
            "Format": st.text(),
        },
    )
)


@given(
    st.lists(
        st.text()
        | st.fixed_dictionaries(
            {"Name": st.text()},
            optional={
                "LayerType": st.text(),
                "Inputs": TENSORS,
                "Outputs": TENSORS,
                "Metadata": st.text(),
                "Other": ANYTHING,
            },
        )
    )
)
def test_unknown_fields_and_values_are_no_failure(entries: list[str | dict[str, object]]) -> None:
    layers = engine_layers(entries)
    assert len(layers) <= len(entries)
    assert all(layer.family for layer in layers)
