"""A service as its clients see it: every address, on a real server."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from onnx import TensorProto
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.serve.networks import WEIGHTS, classifier, doubling, row_sum, sum_and_difference, unchanged
from tests.serve.running import Running, ask, serving
from trtkit.images import image_tensor
from trtkit.sidecar import Preprocess

LABELS = ["ant", "bee", "cat", "dog"]
PREPROCESS = {"resize": 40, "crop": 32}


@pytest.fixture(scope="module")
def two(folder: Path) -> Iterator[Running]:
    sum_and_difference(folder / "two" / "model.onnx")
    with serving(folder / "two") as running:
        yield running


@pytest.fixture(scope="module")
def zoo(folder: Path) -> Iterator[Running]:
    classifier(folder / "zoo" / "model.onnx")
    described = {"labels": LABELS, "preprocess": PREPROCESS}
    (folder / "zoo" / "model.json").write_text(json.dumps(described))
    with serving(folder / "zoo") as running:
        yield running


def picture(colour: tuple[int, int, int] = (200, 30, 90), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (60, 50), colour).save(file, kind)
    return file.getvalue()


def scores(image: bytes) -> Any:
    return image_tensor(image, Preprocess.model_validate(PREPROCESS)).mean((1, 2)) @ WEIGHTS


# KServe v2, through its own client library


def test_the_client_library_finds_the_server_and_the_model(two: Running) -> None:
    client = triton.InferenceServerClient(two.netloc)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("two")
    assert client.is_model_ready("two", "1")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("two")
    assert metadata["inputs"][1] == {"name": "b", "datatype": "FP32", "shape": [-1, 3]}
    with pytest.raises(InferenceServerException, match="no model 'three'"):
        client.get_model_metadata("three")


@pytest.mark.parametrize("sent", [True, False], ids=["binary in", "JSON in"])
@pytest.mark.parametrize("asked", [True, False, None], ids=["binary out", "JSON out", "as it likes"])
@pytest.mark.parametrize("packed", ["gzip", "deflate", None])
def test_the_client_library_gets_several_outputs(
    two: Running, sent: bool, asked: bool | None, packed: str | None
) -> None:
    client = triton.InferenceServerClient(two.netloc)
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 5, 3), np.float32)
    inputs = [triton.InferInput(name, [5, 3], "FP32") for name in "ab"]
    for one, value in zip(inputs, (a, b), strict=True):
        one.set_data_from_numpy(value, binary_data=sent)
    names = ("difference", "sum")
    wanted = None if asked is None else [triton.InferRequestedOutput(n, binary_data=asked) for n in names]
    result = client.infer(
        "two", inputs, outputs=wanted, request_id="17", request_compression_algorithm=packed
    )
    np.testing.assert_allclose(result.as_numpy("sum"), a + b, rtol=1e-6)
    np.testing.assert_allclose(result.as_numpy("difference"), a - b, rtol=1e-6)
    assert result.get_response()["id"] == "17"


def test_the_client_library_is_told_what_is_wrong(two: Running) -> None:
    client = triton.InferenceServerClient(two.netloc)
    one = triton.InferInput("a", [5, 3], "FP32")
    one.set_data_from_numpy(np.zeros((5, 3), np.float32))
    with pytest.raises(InferenceServerException, match="inputs are not the model's"):
        client.infer("two", [one])


@pytest.mark.parametrize(
    ("kind", "datatype", "dtype"),
    [
        (TensorProto.FLOAT16, "FP16", np.float16),
        (TensorProto.DOUBLE, "FP64", np.float64),
        (TensorProto.INT8, "INT8", np.int8),
        (TensorProto.INT64, "INT64", np.int64),
        (TensorProto.UINT8, "UINT8", np.uint8),
        (TensorProto.BOOL, "BOOL", np.bool_),
    ],
)
def test_types_other_than_float32_pass(tmp_path: Path, kind: int, datatype: str, dtype: type) -> None:
    with serving(unchanged(tmp_path / "m.onnx", kind)) as running:
        client = triton.InferenceServerClient(running.netloc)
        value: NDArray[Any] = np.array([[1, 0], [3, 5]]).astype(dtype)
        one = triton.InferInput("x", [2, 2], datatype)
        one.set_data_from_numpy(value)
        result = client.infer("m", [one]).as_numpy("y")
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, value)


# POST /infer


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_gets_its_classes(zoo: Running, kind: str) -> None:
    image = picture(kind=kind)
    answer = zoo.client.post("/infer?top=2", content=image, headers={"content-type": f"image/{kind.lower()}"})
    (result,) = answer.json()["results"]
    expected = scores(image)
    best = np.argsort(-expected)[:2]
    assert [one["label"] for one in result["top"]] == [LABELS[index] for index in best]
    np.testing.assert_allclose([one["score"] for one in result["top"]], expected[best], rtol=1e-4)


def test_uploaded_images_are_the_rows_of_one_request(zoo: Running) -> None:
    images = {"red.png": picture((250, 0, 0)), "blue.jpg": picture((0, 0, 250), "JPEG")}
    files = [("image", (name, content)) for name, content in images.items()]
    results = zoo.client.post("/infer", files=files).json()["results"]
    assert [result["image"] for result in results] == list(images)
    for result, image in zip(results, images.values(), strict=True):
        told = {one["label"]: one["score"] for one in result["top"]}
        np.testing.assert_allclose([told[label] for label in LABELS], scores(image), rtol=1e-4)


def test_without_labels_all_outputs_are_told(folder: Path) -> None:
    classifier(folder / "unlabelled" / "model.onnx")
    (folder / "unlabelled" / "model.json").write_text(json.dumps({"preprocess": PREPROCESS}))
    with serving(folder / "unlabelled") as running:
        image = picture()
        answer = running.client.post("/infer", content=image, headers={"content-type": "image/png"})
        np.testing.assert_allclose(answer.json()["results"][0]["outputs"]["scores"], scores(image), rtol=1e-4)


def test_a_bare_tensor_comes_back_as_one(twice: Running) -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    headers = {"content-type": "application/octet-stream"}
    answer = twice.client.post("/infer?shape=2x3&dtype=float32", content=value.tobytes(), headers=headers)
    assert (answer.headers["x-shape"], answer.headers["x-dtype"]) == ("2x3", "float32")
    np.testing.assert_array_equal(np.frombuffer(answer.content, np.float32).reshape(2, 3), 2 * value)


# Bad input, each with a JSON body and the server as before


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "told"),
    [
        ("/infer", {"content-type": "text/plain"}, b"x", 415, "content type"),
        ("/infer", {}, b"x", 415, "content type"),
        ("/infer", {"content-type": "application/octet-stream"}, b"1234", 400, "shape"),
        ("/infer?shape=one", {"content-type": "application/octet-stream"}, b"1234", 400, "shape"),
        ("/infer?shape=1x2", {"content-type": "application/octet-stream"}, b"1234", 400, "needs 8"),
        (
            "/infer?shape=1x1&dtype=int8",
            {"content-type": "application/octet-stream"},
            b"1234",
            400,
            "float32",
        ),
        ("/infer?shape=1x1&output=z", {"content-type": "application/octet-stream"}, b"1234", 400, "'z'"),
        ("/infer", {"content-type": "image/png"}, b"x", 415, "no images"),
        ("/v2/models/twice/infer", {}, b"{", 400, "JSON"),
        ("/v2/models/twice/infer", {"content-encoding": "br"}, b"{}", 415, "encoding"),
        ("/v2/models/twice/infer", {"content-encoding": "gzip"}, b"{}", 400, "gzip"),
        ("/v2/models/twice/infer", {"inference-header-content-length": "9"}, b"{}", 400, "9 bytes"),
        ("/v2/models/twice/infer", {"inference-header-content-length": "-1"}, b"{}", 400, "-1"),
        ("/v2/models/twice/infer", {}, bytes(1_000_001), 413, "1000000"),
        ("/v2/models/other/infer", {}, b"{}", 404, "other"),
        ("/v2/models/twice/versions/2/infer", {}, b"{}", 404, "version"),
        ("/nowhere", {}, b"{}", 404, "Not Found"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    twice: Running, path: str, headers: dict[str, str], body: bytes, status: int, told: str
) -> None:
    answer = twice.client.post(path, content=body, headers=headers)
    assert answer.status_code == status
    assert told in json.dumps(answer.json())
    assert answer.json()["error"]
    assert twice.client.post(twice.infer, json=ask([[1.0]])).json()["outputs"][0]["data"] == [2.0]


@pytest.mark.parametrize("top", ["0", "-1", "many", "1" * 5000])
def test_a_wrong_number_of_classes_is_refused_before_anything_is_computed(zoo: Running, top: str) -> None:
    before = zoo.metrics()["trtkit_batch_rows_count"]
    answer = zoo.client.post(f"/infer?top={top}", content=picture(), headers={"content-type": "image/png"})
    assert answer.status_code == 400
    assert "?top=" in answer.json()["error"]
    assert zoo.metrics()["trtkit_batch_rows_count"] == before


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e39"])
def test_values_that_are_not_finite_are_refused(twice: Running, value: str) -> None:
    body = json.dumps(ask([[7.5]])).replace("7.5", value)
    answer = twice.client.post(twice.infer, content=body)
    assert answer.status_code == 400
    assert "NaN or infinite" in answer.json()["error"]


def test_nan_is_served_to_who_allows_it(folder: Path) -> None:
    doubling(folder / "nan" / "model.onnx")
    with serving(folder / "nan", "--allow-nan") as running:
        headers = {"content-type": "application/octet-stream"}
        nan = np.array([[np.nan]], np.float32)
        answer = running.client.post("/infer?shape=1x1", content=nan.tobytes(), headers=headers)
        assert np.isnan(np.frombuffer(answer.content, np.float32)).all()


def test_a_damaged_image_is_named(zoo: Running) -> None:
    files = [("image", ("good.png", picture())), ("image", ("bad.png", picture()[:80]))]
    answer = zoo.client.post("/infer", files=files)
    assert answer.status_code == 400
    assert answer.json()["image"] == "bad.png"
    broken_form = {"content-type": "multipart/form-data; boundary=b"}
    assert zoo.client.post("/infer", content=b"--b\r\nno form", headers=broken_form).status_code == 400


def test_what_is_sent_in_chunks_is_cut_off_at_the_limit(twice: Running) -> None:
    """Without a Content-Length the server reads to its limit and no further."""
    host, port = twice.netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        path = twice.infer.encode()
        client.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 100 << 20:
                client.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
        except OSError:
            pass  # the server has hung up
        assert sent < 20 << 20
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_request_that_breaks_off_is_forgotten(twice: Running) -> None:
    before = twice.metrics()
    host, port = twice.netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        head = f"POST {twice.infer} HTTP/1.1\r\nHost: t\r\nContent-Length: 500000\r\n\r\n"
        client.sendall(head.encode() + b'{"inputs": [')
    gone = 'trtkit_requests_total{outcome="client-gone"}'
    while twice.metrics()[gone] == before[gone]:
        pass  # the suite's own time limit ends this
    assert twice.metrics()["trtkit_in_flight"] == 0


def test_outputs_that_are_not_rows_are_served_one_request_at_a_time(tmp_path: Path) -> None:
    with serving(row_sum(tmp_path / "m.onnx")) as running:
        answer = running.client.post(running.infer, json=ask([[1, 2], [3, 4]])).json()
        assert answer["outputs"][0]["data"] == [4, 6]
