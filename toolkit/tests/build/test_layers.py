from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trtkit.build.layers import logged_layers

SAID = """Layers:
Name: __mye59_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata: 
Name: conv_2, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [-1,3,16,16], Strides: [768,1,48,3], StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format }], Constants: [ { Name: w, Dimensions: [8,3,3,3], Datatype: Half }, { Name: one, Dimensions: [1], Datatype: Float }], Outputs: [ { Name: y, Dimensions: [-1,8,16,16], Datatype: Half }], TacticName: __myelin_CASK_STUB, StreamId: 1, Metadata: [ONNX Layer: conv][ONNX Layer: act]

I/O Tensors:
 Name: x, IOMode: Input, DataType: Float
"""  # noqa: E501, W291 as TensorRT-RTX 1.7.1 says it


def test_the_builders_message_is_read_as_the_inspectors_json() -> None:
    first, second = logged_layers(SAID)
    assert first == {
        "Name": "__mye59_0", "LayerType": "shape_call", "Inputs": [], "Constants": [], "Outputs": [],
        "TacticName": "", "StreamId": 0, "Metadata": "",
    }  # fmt: skip
    assert second["Inputs"] == [
        {
            "Name": "x", "Dimensions": [-1, 3, 16, 16], "Strides": [768, 1, 48, 3],
            "StrideOrder": [3, 0, 2, 1], "Datatype": "Half", "Format": "(NHWC) Channel major format",
        }
    ]  # fmt: skip
    assert [constant["Name"] for constant in second["Constants"]] == ["w", "one"]
    assert second["TacticName"] == "__myelin_CASK_STUB"
    assert second["StreamId"] == 1
    assert second["Metadata"] == "[ONNX Layer: conv][ONNX Layer: act]"


@given(st.text())
def test_a_message_of_another_form_gives_what_it_can_and_no_error(text: str) -> None:
    assert logged_layers(text) == () or text.startswith("Layers:\n")
    assert isinstance(logged_layers(f"Layers:\n{text}"), tuple)
    assert isinstance(logged_layers(f"Layers:\nName: {text}"), tuple)
