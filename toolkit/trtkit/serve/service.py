"""A request's way through: read, checked, queued, answered; counted at its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from trtkit.errors import TrtkitError
from trtkit.runners import Tensors
from trtkit.serve import kserve, plain
from trtkit.serve.batcher import Batcher, Outputs
from trtkit.serve.body import ClientGone, read_body
from trtkit.serve.metrics import Metrics, Outcome
from trtkit.serve.model import Model, check_feeds
from trtkit.serve.refusal import Refusal, error_response, status_of

LARGE_JSON = 64 << 10
"""Bytes of JSON from which reading it is worth a thread, so that others are answered meanwhile."""

HEADER_LENGTH = "inference-header-content-length"

MAX_DIGITS = 18
"""Of a number in a header: more make no size, and Python refuses to read thousands."""


@dataclass(frozen=True)
class Limits:
    """request_bytes: of a body, packed and unpacked. finite: inputs with NaN or infinity are refused."""

    request_bytes: int = 32 << 20
    finite: bool = True


class Service:
    """One model, served.

    in_flight: requests that are not answered yet. taken: those of them whose body is here; they are finished
    before the service ends.
    """

    def __init__(self, model: Model, batcher: Batcher, metrics: Metrics, limits: Limits) -> None:
        self.model, self.batcher, self.metrics, self.limits = model, batcher, metrics, limits
        self.pool: Executor = ThreadPoolExecutor(thread_name_prefix="reader")
        self.in_flight, self._arriving, self._preparing = 0, 0, 0

    @property
    def taken(self) -> int:
        return self.in_flight - self._arriving

    def close(self) -> None:
        """Leave what still waits to be read: nobody waits for it any more."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def infer(self, request: Request) -> Response:
        """POST /infer."""
        return await self._counted(request, self._infer)

    async def kserve_infer(self, request: Request) -> Response:
        """POST /v2/models/{name}/infer."""
        return await self._counted(request, self._kserve_infer)

    async def _counted(self, request: Request, way: Callable[[Request], Awaitable[Response]]) -> Response:
        start = time.perf_counter()
        outcome: Outcome = "ok"
        self.in_flight += 1
        try:
            return await way(request)
        except TrtkitError as error:
            outcome = outcome_of(error)
            return error_response(error)
        except ClientGone:
            outcome = "client-gone"
            return Response(status_code=499)  # nobody reads it
        except BaseException:
            outcome = "failed"
            raise
        finally:
            self.in_flight -= 1
            self.metrics.request(outcome, time.perf_counter() - start)

    async def _infer(self, request: Request) -> Response:
        asked = plain.asked_of(request.headers, request.query_params, self.model)
        body = await self._body(request)
        with self._preparation():
            feeds, images = await plain.feeds_of(body, request.headers, asked, self.model, self.pool)
        outputs = await self._computed(request, feeds)
        return plain.answer(outputs, images, asked, self.model)

    async def _kserve_infer(self, request: Request) -> Response:
        length = request.headers.get(HEADER_LENGTH)
        if length is not None and not (length.isdecimal() and len(length) <= MAX_DIGITS):
            next_step = ("next", "give the bytes of the body's JSON part")
            raise Refusal(400, f"{HEADER_LENGTH} is {length!r}", next_step, close=True)
        body = await self._body(request)
        header_length = int(length) if length else None
        arguments = (body, header_length, self.model)
        if (len(body) if header_length is None else header_length) < LARGE_JSON:
            asked = kserve.parse_request(*arguments)
        else:
            loop = asyncio.get_running_loop()
            with self._preparation():
                asked = await loop.run_in_executor(self.pool, kserve.parse_request, *arguments)
        told = kserve.response(asked, await self._computed(request, asked.feeds), self.model)
        if told.header_length is None:
            return Response(told.body, 200, None, "application/json")
        return Response(told.body, 200, {HEADER_LENGTH: str(told.header_length)}, plain.BINARY)

    async def _body(self, request: Request) -> bytes:
        self.batcher.check_open(self._preparing)  # what would be refused is not read
        self._arriving += 1
        try:
            body = await read_body(request, self.limits.request_bytes, self.pool)
        finally:
            self._arriving -= 1
        self.batcher.check_running()  # that may have taken a while
        return body

    @contextmanager
    def _preparation(self) -> Iterator[None]:
        """Reading a body in the pool: what waits there counts as queued, or the pool's queue had no bound."""
        self.batcher.check_open(self._preparing)
        self._preparing += 1
        try:
            yield
        finally:
            self._preparing -= 1

    async def _computed(self, request: Request, feeds: Tensors) -> Outputs:
        """The outputs for `feeds`; the job is withdrawn if the client goes."""
        check_feeds(self.model, feeds, finite=self.limits.finite)
        job = self.batcher.submit(feeds)
        # The body is read, so the next thing to be received is that the client has gone, or was answered.
        gone = asyncio.ensure_future(request.receive())
        gone.add_done_callback(lambda task: None if task.cancelled() else self.batcher.withdraw(job))
        try:
            return await job.done
        except asyncio.CancelledError:
            if gone.done():
                raise ClientGone from None
            self.batcher.withdraw(job)  # the server ends
            raise
        finally:
            gone.cancel()


def outcome_of(error: TrtkitError) -> Outcome:
    status = status_of(error)
    if status < 500:
        return "bad-request"
    return "overloaded" if isinstance(error, Refusal) else "failed"
