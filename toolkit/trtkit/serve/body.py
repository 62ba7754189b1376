"""What a client sent: read within a limit, unpacked, and given up when the client goes."""

from __future__ import annotations

import asyncio
import zlib
from concurrent.futures import Executor

from starlette.requests import Request
from starlette.types import Message

from trtkit.serve.refusal import Refusal

PATIENCE = 60
"""Seconds that a client may take to send its body."""

WBITS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""Content-Encoding -> zlib's window bits; HTTP's "deflate" is a zlib stream (RFC 9110, section 8.4.1.2)."""


class ClientGone(Exception):
    """The client closed the connection: nobody waits for an answer."""


async def read_body(request: Request, limit: int, pool: Executor) -> bytes:
    """The whole body, unpacked.

    Args:
        limit: bytes, packed and unpacked. What is announced as larger is not read at all; what turns out
            larger is read to the limit.
        pool: unpacks: a small body may become a large one, and others are answered meanwhile.

    Raises:
        Refusal: 413 too large, 408 too slow, 415 packed in a way that is not known, 400 badly packed.
        ClientGone: before it was complete.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity" and encoding not in WBITS:
        raise Refusal(
            415, f"the content encoding {encoding!r} is not known", ("known", ", ".join(WBITS)), close=True
        )
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    message = await request.receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect" or message.get("more_body"):
        try:
            body = await asyncio.wait_for(_rest(request, message, limit), PATIENCE)
        except asyncio.TimeoutError:
            next_step = ("next", "send it faster, or in smaller requests")
            raise Refusal(408, f"the body took more than {PATIENCE} s", next_step, close=True) from None
    if len(body) > limit:
        raise _too_large(limit)
    if encoding == "identity":
        return body
    return await asyncio.get_running_loop().run_in_executor(pool, unpack, body, encoding, limit)


async def _rest(request: Request, message: Message, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await request.receive()
    raise ClientGone


def unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """`body` without its content encoding; it is not unpacked further than to `limit` bytes.

    Raises:
        Refusal: 413 larger than that, 400 damaged.
    """
    inflater = zlib.decompressobj(WBITS[encoding])
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        because = ("because", str(error))
        raise Refusal(400, f"the body is not {encoding}", because, ("next", "pack it again")) from error
    if len(plain) > limit:
        raise _too_large(limit)
    if not inflater.eof:
        raise Refusal(400, f"the {encoding} body is cut off", ("next", "send it as a whole"))
    return plain


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413,
        f"the request is larger than {limit} bytes",
        ("next", "send fewer rows in a request, or start the server with a larger --max-request-bytes"),
        close=True,
    )
