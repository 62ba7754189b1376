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
from dataclasses import dataclass
from typing import Any

import numpy as np
import python_multipart  # noqa: F401  without it Starlette would fail at the first form
from numpy.typing import NDArray
from starlette.datastructures import Headers, QueryParams, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response

from trtkit.errors import WorkFailed
from trtkit.images import UnreadableImage, image_tensor
from trtkit.serve.model import Model
from trtkit.serve.refusal import Refusal
from trtkit.serve.tensors import dtype_of, from_bytes, to_bytes
from trtkit.tensors import Shape, parse_shapes, shape_text

BINARY = "application/octet-stream"
MULTIPART = "multipart/form-data"
TOP = 5
"""Classes that are told unless ?top= says otherwise."""

MAX_DIGITS = 9
"""Of ?top=: more classes nobody has, and Python refuses to read thousands of digits."""


@dataclass(frozen=True)
class Asked:
    """What the query says. top: classes to tell of an image. shape, output: of a bare tensor."""

    top: int = TOP
    shape: Shape = ()
    output: str = ""


def media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def asked_of(headers: Headers, query: QueryParams, model: Model) -> Asked:
    """What is asked of `model`; known before the body is read, and so before anything is computed.

    Raises:
        RequestError: with status 415, the content type is none that it takes; with 400, the query is wrong.
    """
    _check_media_type(headers, model)
    if media_type(headers) == BINARY:
        return Asked(output=_output(query, model), shape=_shape(query, model))
    return Asked(top=_top(query))


def _check_media_type(headers: Headers, model: Model) -> None:
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
    body: bytes, headers: Headers, asked: Asked, model: Model, pool: Executor
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The model's inputs, and the names of the images that they are made of.

    Args:
        pool: decodes the images.

    Raises:
        RequestError: the body is not what its content type says.
    """
    kind = media_type(headers)
    if kind == BINARY:
        (spec,) = model.inputs
        return {spec.name: from_bytes(spec.name, memoryview(body), spec.dtype, asked.shape)}, []
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


def answer(outputs: Mapping[str, NDArray[Any]], images: list[str], asked: Asked, model: Model) -> Response:
    """The answer to what `feeds_of` read.

    Raises:
        WorkFailed: an output holds NaN or infinity, which JSON cannot tell.
    """
    if not images:
        tensor = outputs[asked.output]
        told = {"x-output": asked.output, "x-dtype": str(tensor.dtype), "x-shape": shape_text(tensor.shape)}
        return Response(bytes(to_bytes(tensor)), 200, told, BINARY)
    rows = [
        {**({"image": name} if name else {}), **_row(outputs, row, model, asked.top)}
        for row, name in enumerate(images)
    ]
    try:
        return Response(
            json.dumps({"model": model.name, "results": rows}, allow_nan=False), 200, None, "application/json"
        )
    except ValueError as error:
        raise WorkFailed("an output of the model holds NaN or infinity", ("model", model.name)) from error


def _top(query: QueryParams) -> int:
    top = query.get("top", str(TOP))
    if not top.isdecimal() or len(top) > MAX_DIGITS or not int(top):
        raise Refusal(400, f"?top={top[:MAX_DIGITS]} is not a number of classes", ("next", "write ?top=5"))
    return int(top)


def _shape(query: QueryParams, model: Model) -> Shape:
    """The shape of the model's only input, from ?shape=; ?dtype= is the input's, or absent."""
    if len(model.inputs) != 1:
        raise Refusal(
            400,
            f"{model.name} has {len(model.inputs)} inputs: one body of bytes cannot hold them",
            ("next", "use POST /v2/models/{name}/infer"),
        )
    (spec,) = model.inputs
    if query.get("dtype", spec.dtype) != spec.dtype:
        problem = f"the input {spec.name} is {spec.dtype}, not {query['dtype']}"
        raise Refusal(400, problem, ("next", f"send {spec.dtype}"))
    next_step = ("next", f"add ?shape=, as 1x3x224x224; it takes {spec}")
    if "shape" not in query:
        raise Refusal(400, "the shape of these bytes is not told", next_step)
    try:
        return parse_shapes([f"shape:{query['shape']}"])["shape"]
    except ValueError as error:  # Python does not read numbers of thousands of digits
        raise Refusal(400, "the shape of these bytes is too large", next_step) from error


def _output(query: QueryParams, model: Model) -> str:
    names = [spec.name for spec in model.outputs]
    name = query.get("output", names[0] if len(names) == 1 else None)
    if name not in names:
        problem = "which output is wanted?" if name is None else f"the model has no output {name!r}"
        raise Refusal(400, problem, ("has", ", ".join(names)), ("next", "add ?output=NAME"))
    return str(name)


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
