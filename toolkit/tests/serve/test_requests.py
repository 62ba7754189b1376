"""A request's way through the service, with a runner that notes what it is given; no server in between."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request
from starlette.types import Message

from tests.serve.test_batcher import MODEL, Doubling, started
from trtkit.serve.batcher import Batcher, Job
from trtkit.serve.metrics import Metrics
from trtkit.serve.refusal import Refusal
from trtkit.serve.service import LARGE_JSON, Limits, Service

BINARY = {"content-type": "application/octet-stream"}


class Watched(Batcher):
    """Notes the jobs that are withdrawn."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.withdrawn: list[Job] = []
        super().__init__(*arguments, **options)

    def withdraw(self, job: Job) -> None:
        self.withdrawn.append(job)
        super().withdraw(job)


@dataclass
class Client:
    """One request. sent: its whole body is. gone: the connection is closed."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def request(self) -> Request:
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        scope = {"type": "http", "method": "POST", "headers": headers, "query_string": self.query.encode()}
        read = False

        async def receive() -> Message:
            nonlocal read
            if not read:
                await self.sent.wait()
                read = True
                return {"type": "http.request", "body": self.body}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        return Request(scope, receive)


def row(value: float) -> Client:
    """A bare tensor of one value, that is here at once."""
    client = Client(np.array([[value]], np.float32).tobytes(), BINARY, "shape=1x1")
    client.sent.set()
    return client


def serving(story: Callable[[Service, Doubling], Awaitable[None]], queue: int = 100) -> Doubling:
    """Run `story` with a service over a runner that doubles."""
    runner = Doubling()

    async def tell() -> None:
        batcher = Watched(MODEL, [runner], queue=queue, observe=lambda *_: None)
        service = Service(MODEL, batcher, Metrics({}), Limits())
        try:
            await story(service, runner)
        finally:
            runner.gate.set()
            service.close()
            assert batcher.close(5)

    asyncio.run(tell())
    return runner


def withdrawn(service: Service) -> list[Job]:
    assert isinstance(service.batcher, Watched)
    return service.batcher.withdrawn


def test_an_answered_request_does_not_search_the_queue() -> None:
    async def story(service: Service, _: Doubling) -> None:
        response = await service.infer(row(3).request())
        assert np.frombuffer(bytes(response.body), np.float32) == 6
        await asyncio.sleep(0.05)  # for what is still to be called back
        assert withdrawn(service) == []

    serving(story)


def test_a_client_that_goes_during_its_run_is_let_go_at_once_and_the_runner_goes_on() -> None:
    async def story(service: Service, runner: Doubling) -> None:
        runner.gate.clear()
        client = row(1)
        answer = asyncio.create_task(service.infer(client.request()))
        await started(runner)
        client.gone.set()
        assert (await asyncio.wait_for(answer, 5)).status_code == 499
        assert len(withdrawn(service)) == 1
        runner.gate.set()
        assert (await service.infer(row(2).request())).status_code == 200

    serving(story)


def test_a_request_that_the_server_breaks_off_is_not_run() -> None:
    async def story(service: Service, runner: Doubling) -> None:
        runner.gate.clear()
        first = asyncio.create_task(service.infer(row(1).request()))
        await started(runner)
        second = asyncio.create_task(service.infer(row(2).request()))
        while not service.batcher.waiting:
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert service.batcher.waiting == 0
        runner.gate.set()
        await first

    assert len(serving(story).runs) == 1


def large() -> Client:
    """JSON that is read in the pool."""
    document = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
    client = Client(json.dumps({**document, "padding": " " * LARGE_JSON}).encode())
    client.sent.set()
    return client


@dataclass
class Busy:
    """A pool of one thread that is busy until `free` is set."""

    free: threading.Event = field(default_factory=threading.Event)

    def occupy(self, service: Service) -> None:
        service.pool = ThreadPoolExecutor(1)
        service.pool.submit(self.free.wait, 10)


def test_what_waits_to_be_read_counts_as_queued() -> None:
    async def story(service: Service, _: Doubling) -> None:
        busy = Busy()
        busy.occupy(service)
        answers = [asyncio.create_task(service.kserve_infer(large().request())) for _ in range(7)]
        await asyncio.sleep(0.05)
        refused = [answer.result() for answer in answers if answer.done()]
        assert [response.status_code for response in refused] == [503] * 4
        assert all("retry-after" in response.headers for response in refused)
        busy.free.set()
        assert sorted([(await answer).status_code for answer in answers]) == [200] * 3 + [503] * 4

    serving(story, queue=3)


def test_what_is_being_read_when_the_service_stops_is_still_answered() -> None:
    async def story(service: Service, _: Doubling) -> None:
        busy = Busy()
        busy.occupy(service)
        answer = asyncio.create_task(service.kserve_infer(large().request()))
        await asyncio.sleep(0.01)
        assert service.taken == 1
        service.batcher.stop_taking()
        busy.free.set()
        assert (await answer).status_code == 200
        assert service.taken == 0

    serving(story)


def test_a_body_that_is_not_here_when_the_service_stops_is_refused() -> None:
    async def story(service: Service, _: Doubling) -> None:
        client = row(1)
        client.sent.clear()
        answer = asyncio.create_task(service.infer(client.request()))
        await asyncio.sleep(0.01)
        assert (service.in_flight, service.taken) == (1, 0)
        service.batcher.stop_taking()
        client.sent.set()
        assert (await answer).status_code == 503

    assert not serving(story).runs


def test_what_a_runner_finishes_after_the_event_loop_is_delivered_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    runner = Doubling()
    runner.gate.clear()

    async def tell() -> Batcher:
        batcher = Batcher(MODEL, [runner], queue=9, observe=lambda *_: None)
        batcher.submit({"x": np.ones((1, 1), np.float32)})
        await started(runner)
        assert not batcher.close(0)
        return batcher

    batcher = asyncio.run(tell())
    runner.gate.set()
    assert batcher.close(5)
    assert failed == []


def test_queries_with_numbers_beyond_sense_are_refused_as_such() -> None:
    async def story(service: Service, _: Doubling) -> None:
        for shape in ("1" * 5000, "0x" + "1" * 30, "x".join("1" * 40)):
            client = Client(b"1234", BINARY, f"shape={shape}")
            client.sent.set()
            assert (await service.infer(client.request())).status_code == 400
        for shape_of_json in ([0, 10**30], [1] * 40):
            entry = {
                "name": "x",
                "shape": shape_of_json,
                "datatype": "FP32",
                "data": [1] * (0 not in shape_of_json),
            }
            client = Client(json.dumps({"inputs": [entry]}).encode())
            client.sent.set()
            assert (await service.kserve_infer(client.request())).status_code == 400
        client = Client(b"{}", {"inference-header-content-length": "1" * 5000})
        assert (await service.kserve_infer(client.request())).status_code == 400

    serving(story)


def test_a_batcher_that_gets_no_threads_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from trtkit.errors import EnvironmentLack

    begun = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "runner 2":
            raise RuntimeError("can't start new thread")
        begun(thread)

    monkeypatch.setattr(threading.Thread, "start", start)

    async def tell() -> None:
        Batcher(MODEL, [Doubling()] * 3, queue=9, observe=lambda *_: None)

    before = threading.active_count()
    with pytest.raises(EnvironmentLack, match="3 runs at a time"):
        asyncio.run(tell())
    for thread in threading.enumerate():
        if thread.name.startswith("runner "):
            thread.join(5)
    assert threading.active_count() <= before


def test_refusals_of_a_stopped_service_name_the_next_step() -> None:
    async def story(service: Service, _: Doubling) -> None:
        service.batcher.stop_taking()
        with pytest.raises(Refusal, match="shutting down"):
            service.batcher.check_open()
        response = await service.infer(row(1).request())
        assert (response.status_code, "retry-after" in response.headers) == (503, True)

    serving(story)
