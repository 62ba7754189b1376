"""POST /infer: images and bare tensors in, no protocol to learn.

    image/jpeg, image/png, ...   an image                        -> JSON
    multipart/form-data          images as files, a row each     -> JSON
    application/octet-stream     the bytes of the only input,
                                 ?shape=1x3x224x224              -> the bytes of an output, ?output=name

JSON has, for every image, the classes with the highest scores where the model's labels are known, and all
outputs where they are not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import Headers, QueryParams, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response

from trtkit.errors import WorkFailed
from trtkit.images import UnreadableImage, image_tensor
from trtkit.serve.model import Model
from trtkit.serve.refusal import Refusal
from trtkit.serve.tensors import dtype_of, from_bytes, to_bytes
from trtkit.tensors import TensorSpec, parse_shapes, shape_text

BINARY = "application/octet-stream"
MULTIPART = "multipart/form-data"
TOP = 5
"""Classes that are told unless ?top= says otherwise."""


def media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def check_media_type(headers: Headers, model: Model) -> None:
    """Refuse, with status 415, what `model` cannot take; asked before the body is read."""
    kind = media_type(headers)
    image = kind.startswith("image/") or kind == MULTIPART
    if image and model.preprocess is None:
        raise Refusal(
            415,
            f"{model.name} takes no images: nothing says how an image becomes its input",
            ("next", "send a tensor, or add `preprocess` to the model's model.json or sidecar"),
            close=True,
        )
    if not image and kind != BINARY:
        raise Refusal(
            415,
            f"the content type {kind!r} is not served here",
            ("known", f"image/*, {MULTIPART}, {BINARY}"),
            ("next", "name the type of what you send, or use POST /v2/models/{name}/infer"),
            close=True,
        )


async def feeds_of(
    body: bytes, headers: Headers, query: QueryParams, model: Model, pool: Executor
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The model's inputs, and the names of the images that they are made of.

    Args:
        pool: decodes the images.

    Raises:
        RequestError: the body is not what its content type says.
    """
    kind = media_type(headers)
    if kind == BINARY:
        return _bare(body, query, model), []
    images = await _files(body, headers) if kind == MULTIPART else [("", body)]
    (spec,), preprocess = model.inputs, model.preprocess
    assert preprocess is not None
    loop = asyncio.get_running_loop()
    tasks = [loop.run_in_executor(pool, image_tensor, data, preprocess) for _, data in images]
    tensors = []
    for (name, _), result in zip(images, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
        if isinstance(result, UnreadableImage) and name:
            raise Refusal(400, result.problem, ("image", name), *result.facts) from result
        if isinstance(result, BaseException):
            raise result
        tensors.append(result)
    return {spec.name: np.stack(tensors).astype(dtype_of(spec.dtype), copy=False)}, [
        name for name, _ in images
    ]


def answer(
    outputs: Mapping[str, NDArray[Any]], images: list[str], query: QueryParams, model: Model
) -> Response:
    """The answer to what `feeds_of` read.

    Raises:
        RequestError: ?top or ?output is not what can be.
        WorkFailed: an output holds NaN or infinity, which JSON cannot tell.
    """
    if not images:
        spec = _output(query, model)
        tensor = outputs[spec.name]
        told = {"x-output": spec.name, "x-dtype": spec.dtype, "x-shape": shape_text(tensor.shape)}
        return Response(bytes(to_bytes(tensor)), 200, told, BINARY)
    top = query.get("top", str(TOP))
    if not top.isdecimal() or not int(top):
        raise Refusal(400, f"?top={top} is not a number of classes", ("next", "write ?top=5"))
    rows = [
        {**({"image": name} if name else {}), **_row(outputs, row, model, int(top))}
        for row, name in enumerate(images)
    ]
    try:
        return Response(
            json.dumps({"model": model.name, "results": rows}, allow_nan=False), 200, None, "application/json"
        )
    except ValueError as error:
        raise WorkFailed("an output of the model holds NaN or infinity", ("model", model.name)) from error


def _bare(body: bytes, query: QueryParams, model: Model) -> dict[str, NDArray[Any]]:
    _output(query, model)  # better now than when it has been computed
    if len(model.inputs) != 1:
        raise Refusal(
            400,
            f"{model.name} has {len(model.inputs)} inputs: one body of bytes cannot hold them",
            ("next", "use POST /v2/models/{name}/infer"),
        )
    (spec,) = model.inputs
    if "shape" not in query:
        next_step = ("next", f"add ?shape=, as 1x3x224x224; it takes {spec}")
        raise Refusal(400, "the shape of these bytes is not told", next_step)
    if query.get("dtype", spec.dtype) != spec.dtype:
        problem = f"the input {spec.name} is {spec.dtype}, not {query['dtype']}"
        raise Refusal(400, problem, ("next", f"send {spec.dtype}"))
    shape = parse_shapes([f"{spec.name}:{query['shape']}"])[spec.name]
    return {spec.name: from_bytes(spec.name, memoryview(body), spec.dtype, shape)}


def _output(query: QueryParams, model: Model) -> TensorSpec:
    names = [spec.name for spec in model.outputs]
    name = query.get("output", names[0] if len(names) == 1 else None)
    chosen = next((spec for spec in model.outputs if spec.name == name), None)
    if chosen is None:
        problem = "which output is wanted?" if name is None else f"the model has no output {name!r}"
        raise Refusal(400, problem, ("has", ", ".join(names)), ("next", "add ?output=NAME"))
    return chosen


async def _files(body: bytes, headers: Headers) -> list[tuple[str, bytes]]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await _InMemory(headers, once()).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        because = ("because", str(error))
        raise Refusal(400, "the form cannot be read", because, ("next", "send whole files")) from error
    files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    if not files:
        raise Refusal(400, "the form holds no file", ("next", "curl -F image=@cat.jpg http://.../infer"))
    return [(part.filename or f"image {number}", await part.read()) for number, part in enumerate(files)]


class _InMemory(MultiPartParser):
    """The body is in memory and within the limit already: its parts need no files."""

    spool_max_size = 1 << 62


def _row(outputs: Mapping[str, NDArray[Any]], row: int, model: Model, top: int) -> dict[str, Any]:
    """What is told of one image."""
    scores = next(iter(outputs.values()))[row].reshape(-1)
    if not model.labels or scores.size != len(model.labels):
        return {
            "outputs": {name: output[row].astype(np.float64).tolist() for name, output in outputs.items()}
        }
    best = np.argsort(-scores.astype(np.float64), kind="stable")[:top]
    return {
        "top": [
            {"label": model.labels[index], "index": int(index), "score": float(scores[index])}
            for index in best
        ]
    }
