"""The KServe v2 inference protocol over HTTP, with the binary tensor data extension: bodies in, bodies out.

A body is a JSON object. With the header Inference-Header-Content-Length it is that many bytes of JSON, then
the bytes of the tensors whose parameters say `binary_data_size`, in order.

Source: Open Inference Protocol v2 (KServe), "HTTP/REST"; Triton, "Binary Tensor Data Extension".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from trtkit.errors import WorkFailed
from trtkit.serve.model import VERSION, Model
from trtkit.serve.refusal import Refusal
from trtkit.serve.tensors import DATATYPES, KSERVE, from_bytes, from_json, to_bytes, to_json
from trtkit.tensors import Shape, TensorSpec


@dataclass(frozen=True)
class InferRequest:
    """What a client asks. outputs: the names it wants, in its order; True: as binary data."""

    feeds: dict[str, NDArray[Any]]
    outputs: dict[str, bool]
    id: str | None = None


@dataclass(frozen=True)
class InferResponse:
    """A body. header_length: bytes of JSON at its start, None if it is JSON as a whole."""

    body: bytes
    header_length: int | None = None


def parse_request(body: bytes, header_length: int | None, model: Model) -> InferRequest:
    """What `body` asks of `model`. Types and sizes are right then; shapes are not yet held against the model.

    Raises:
        Refusal: with status 400: it is not such a body, or asks for what is not there.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise _malformed(f"its JSON part has {header_length} bytes, and the body {len(body)}")
    document = _json(body[:header_length] if header_length is not None else body)
    binary = memoryview(body)[header_length:] if header_length is not None else memoryview(b"")
    specs = {spec.name: spec for spec in model.inputs}
    feeds: dict[str, NDArray[Any]] = {}
    for entry in _objects(document, "inputs"):
        name = _name(entry, specs, "input")
        if name in feeds:
            raise _malformed(f"the input {name} is there twice")
        feeds[name], binary = _input(entry, specs[name], binary)
    if binary:
        raise _malformed(f"{len(binary)} bytes at its end belong to no input")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise _malformed("its id is not a string")
    return InferRequest(feeds, _wanted(document, model), identity)


def response(request: InferRequest, outputs: Mapping[str, NDArray[Any]], model: Model) -> InferResponse:
    """The answer with the outputs that were asked for.

    Raises:
        WorkFailed: a value is NaN or infinite, which JSON cannot tell.
    """
    entries, blobs = [], []
    for name, binary in request.outputs.items():
        tensor = outputs[name]
        entry: dict[str, Any] = {
            "name": name,
            "datatype": KSERVE[str(tensor.dtype)],
            "shape": list(tensor.shape),
        }
        if binary:
            blobs.append(to_bytes(tensor))
            entry["parameters"] = {"binary_data_size": tensor.nbytes}
        else:
            entry["data"] = to_json(tensor)
        entries.append(entry)
    document: dict[str, Any] = {"model_name": model.name, "model_version": VERSION, "outputs": entries}
    if request.id is not None:
        document["id"] = request.id
    try:
        header = json.dumps(document, allow_nan=False).encode()
    except ValueError as error:
        raise WorkFailed(
            "an output holds NaN or infinity, which JSON cannot tell", ("next", "ask for binary data")
        ) from error
    if not blobs:
        return InferResponse(header)
    return InferResponse(b"".join((header, *blobs)), len(header))


def metadata(model: Model) -> dict[str, Any]:
    """The model as GET /v2/models/{name} tells it."""
    return {
        "name": model.name,
        "versions": [VERSION],
        "platform": model.platform,
        "inputs": [_tensor_metadata(spec) for spec in model.inputs],
        "outputs": [_tensor_metadata(spec) for spec in model.outputs],
    }


def _tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": KSERVE.get(spec.dtype, "BYTES"), "shape": list(spec.shape)}


def _input(entry: Mapping[str, Any], spec: TensorSpec, binary: memoryview) -> tuple[NDArray[Any], memoryview]:
    """The tensor of `entry`, and what is left of the binary data."""
    shape = _shape(entry, spec.name)
    datatype = entry.get("datatype")
    if datatype != KSERVE.get(spec.dtype):
        known = "" if datatype in list(DATATYPES) else ", which is not served here"
        raise Refusal(
            400,
            f"the input {spec.name} is {KSERVE.get(spec.dtype)}, not {datatype!r}{known}",
            ("next", f"send {KSERVE.get(spec.dtype)}"),
        )
    parameters = _parameters(entry)
    if "shared_memory_region" in parameters:
        raise Refusal(400, "shared memory is not served here", ("next", "send the data in the request"))
    if "binary_data_size" not in parameters:
        if "data" not in entry:
            raise _malformed(f"the input {spec.name} has neither data nor binary_data_size")
        return from_json(spec.name, entry["data"], spec.dtype, shape), binary
    size = parameters["binary_data_size"]
    if type(size) is not int or not 0 <= size <= len(binary):
        raise _malformed(f"binary_data_size of {spec.name} is {size!r}, and {len(binary)} bytes are left")
    return from_bytes(spec.name, binary[:size], spec.dtype, shape), binary[size:]


def _wanted(document: Mapping[str, Any], model: Model) -> dict[str, bool]:
    every = _parameters(document).get("binary_data_output") is True
    specs = {spec.name: spec for spec in model.outputs}
    wanted: dict[str, bool] = {}
    for entry in _objects(document, "outputs") if document.get("outputs") else ():
        name, parameters = _name(entry, specs, "output"), _parameters(entry)
        if parameters.get("classification"):
            raise Refusal(
                400,
                "the classification extension is not served here",
                ("next", "take the scores and sort them, or send an image to POST /infer"),
            )
        wanted[name] = parameters.get("binary_data", every) is True
    return wanted or dict.fromkeys(specs, every)


def _json(text: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"its JSON cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise _malformed("its JSON is not an object")
    return document


def _objects(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _malformed(f"its {key!r} are not a list of objects")
    return entries


def _name(entry: Mapping[str, Any], specs: Mapping[str, TensorSpec], what: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or name not in specs:
        raise Refusal(
            400, f"the model has no {what} {name!r}", ("has", ", ".join(specs)), ("next", "name one of those")
        )
    return name


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = entry.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise _malformed("some 'parameters' are not an object")
    return parameters


def _shape(entry: Mapping[str, Any], name: str) -> Shape:
    shape = entry.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise _malformed(f"the shape of {name} is not a list of numbers, 0 or more")
    return tuple(shape)


def _malformed(because: str) -> Refusal:
    return Refusal(
        400,
        "this is not a KServe v2 inference request",
        ("because", because),
        ("next", "see GET /v2/models/{name} for the inputs, and the protocol for the form"),
    )
