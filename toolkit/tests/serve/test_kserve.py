"""The KServe v2 protocol as a pure function: bodies to tensors and back."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from trtkit.errors import WorkFailed
from trtkit.serve.kserve import InferRequest, metadata, parse_request, response
from trtkit.serve.model import Model
from trtkit.serve.refusal import Refusal
from trtkit.serve.tensors import DATATYPES, KSERVE, dtype_of
from trtkit.tensors import TensorSpec


def model_of(*inputs: TensorSpec) -> Model:
    return Model("m", "onnxruntime_onnx", inputs, (TensorSpec("y", "float32", (-1, 2)),), {})


MODEL = model_of(TensorSpec("x", "float32", (-1, 2)))


def body_of(tensors: dict[str, NDArray[Any]], *, binary: bool, **more: object) -> tuple[bytes, int | None]:
    """A request as a client writes it."""
    entries: list[dict[str, Any]] = []
    for name, tensor in tensors.items():
        entry: dict[str, Any] = {"name": name, "shape": list(tensor.shape)}
        entry["datatype"] = KSERVE[str(tensor.dtype)]
        if binary:
            entry["parameters"] = {"binary_data_size": tensor.nbytes}
        else:
            flat = tensor.reshape(-1)
            entry["data"] = (flat.astype(np.float32) if flat.dtype.kind == "V" else flat).tolist()
        entries.append(entry)
    header = json.dumps({"inputs": entries, **more}).encode()
    blobs = [tensor.tobytes() for tensor in tensors.values()] if binary else []
    return b"".join([header, *blobs]), len(header) if binary else None


def entry(**changes: object) -> bytes:
    """A right request with one entry, with changes to the entry."""
    right = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}
    return json.dumps({"inputs": [{**right, **changes}]}).encode()


@st.composite
def tensors(draw: st.DrawFn) -> NDArray[Any]:
    name = draw(st.sampled_from(sorted(DATATYPES.values())))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    if name == "bfloat16":
        return draw(hnp.arrays(np.float32, shape, elements=st.integers(-128, 128))).astype(ml_dtypes.bfloat16)
    elements = {"allow_nan": False, "allow_infinity": False} if name.startswith("float") else None
    return draw(hnp.arrays(dtype_of(name), shape, elements=elements))


@given(tensors(), st.booleans(), st.text(max_size=20))
def test_what_a_client_writes_is_what_is_read(tensor: NDArray[Any], binary: bool, identity: str) -> None:
    model = model_of(TensorSpec("x", str(tensor.dtype), (-1,) * tensor.ndim))
    body, header_length = body_of({"x": tensor}, binary=binary, id=identity)
    request = parse_request(body, header_length, model)
    assert request.id == identity
    assert request.feeds["x"].dtype == tensor.dtype
    assert request.feeds["x"].flags.aligned
    np.testing.assert_array_equal(request.feeds["x"], tensor)


@given(tensors(), st.booleans())
def test_an_answer_says_what_the_output_holds(tensor: NDArray[Any], binary: bool) -> None:
    told = response(InferRequest({}, {"y": binary}, "7"), {"y": tensor}, MODEL)
    document = json.loads(told.body[: told.header_length])
    assert document["id"] == "7"
    (output,) = document["outputs"]
    assert (output["shape"], DATATYPES[output["datatype"]]) == (list(tensor.shape), str(tensor.dtype))
    if binary:
        assert told.body[told.header_length :] == tensor.tobytes()
        assert output["parameters"]["binary_data_size"] == tensor.nbytes
    else:
        np.testing.assert_array_equal(
            np.array(output["data"], np.float64), tensor.reshape(-1).astype(np.float64)
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["x", "y", "FP32", "INT64", "BYTES"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["name", "shape", "datatype", "data", "parameters", "inputs", "outputs", "id",
                         "binary_data_size", "binary_data", "classification"]) | st.text(max_size=5),
        inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@given(JSON, st.binary(max_size=40), st.none() | st.integers(-5, 200))
def test_any_json_is_read_or_refused(document: object, tail: bytes, header_length: int | None) -> None:
    header = json.dumps(document).encode()
    _refused_or_read(header, None)
    _refused_or_read(header + tail, len(header))
    _refused_or_read(header + tail, header_length)


@given(st.dictionaries(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), JSON))
def test_any_change_to_a_right_entry_is_read_or_refused(changes: dict[str, object]) -> None:
    _refused_or_read(entry(**changes), None)


@given(st.binary(max_size=200), st.none() | st.integers(-5, 250))
def test_any_bytes_are_read_or_refused(body: bytes, header_length: int | None) -> None:
    _refused_or_read(body, header_length)


def _refused_or_read(body: bytes, header_length: int | None) -> None:
    with suppress(Refusal):  # and no other error
        request = parse_request(body, header_length, MODEL)
        assert request.feeds.keys() <= {"x"}
        assert all(tensor.dtype == np.float32 for tensor in request.feeds.values())


@pytest.mark.parametrize(
    ("body", "because"),
    [
        (b"", "cannot be read"),
        (b"[1, 2]", "not an object"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"inputs": 3}', "list of objects"),
        (entry(name="z"), "no input 'z'"),
        (entry(name=["x"]), "no input"),
        (entry(datatype="FP64"), "is FP32, not 'FP64'"),
        (entry(datatype="BYTES"), "not served here"),
        (entry(shape=[1, -2]), "shape of x"),
        (entry(shape=[True, 2]), "shape of x"),
        (entry(shape=[1 << 40, 1 << 40]), "too large"),
        (entry(shape=[1, 3]), "there are 2"),
        (entry(data=[1.0, "2.0"]), "another type"),
        (entry(data=[1.0, None]), "another type"),
        (entry(data=[[1.0], [2.0, 3.0]]), "not 2 values"),
        (entry(data=[True, False]), "another type"),
        (entry(data=3), "no list"),
        (entry(parameters={"binary_data_size": 8}), "0 bytes are left"),
        (entry(parameters={"shared_memory_region": "r"}), "shared memory"),
        (entry(parameters=[1]), "not an object"),
        (json.dumps({"inputs": [json.loads(entry())["inputs"][0]] * 2}).encode(), "twice"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(body: bytes, because: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_request(body, None, MODEL)
    assert caught.value.status == 400
    assert because in caught.value.text()


def test_integers_out_of_range_and_fractions_are_refused() -> None:
    model = model_of(TensorSpec("x", "int8", (-1,)))
    for data in ([128], [-129], [1.5], [10**30]):
        wrong = entry(datatype="INT8", shape=[1], data=data)
        with pytest.raises(Refusal, match="not 1 values of int8"):
            parse_request(wrong, None, model)
    assert parse_request(entry(datatype="INT8", shape=[1], data=[-128]), None, model).feeds["x"].tolist() == [
        -128
    ]


def test_binary_data_must_be_exactly_what_the_entries_say() -> None:
    body, length = body_of({"x": np.ones((1, 2), np.float32)}, binary=True)
    for wrong, told in ((body[:-1], "7 bytes are left"), (body + b"!", "belong to no input")):
        with pytest.raises(Refusal, match="KServe") as caught:
            parse_request(wrong, length, MODEL)
        assert told in caught.value.text()


def test_an_output_that_json_cannot_tell_is_an_error_and_binary_data_can() -> None:
    outputs = {"y": np.array([[np.nan, 1]], np.float32)}
    with pytest.raises(WorkFailed, match="NaN"):
        response(InferRequest({}, {"y": False}), outputs, MODEL)
    assert response(InferRequest({}, {"y": True}), outputs, MODEL).body.endswith(outputs["y"].tobytes())


def test_outputs_are_binary_as_the_request_or_the_output_says() -> None:
    def wanted(**document: object) -> dict[str, bool]:
        body = json.dumps({"inputs": [], **document}).encode()
        return parse_request(body, None, MODEL).outputs

    assert wanted() == {"y": False}
    assert wanted(parameters={"binary_data_output": True}) == {"y": True}
    assert wanted(outputs=[{"name": "y", "parameters": {"binary_data": True}}]) == {"y": True}
    with pytest.raises(Refusal, match="no output 'q'"):
        wanted(outputs=[{"name": "q"}])
    with pytest.raises(Refusal, match="classification"):
        wanted(outputs=[{"name": "y", "parameters": {"classification": 3}}])


def test_the_metadata_are_those_of_the_protocol() -> None:
    assert metadata(MODEL) == {
        "name": "m",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
