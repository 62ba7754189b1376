"""A service under load, when it is full, when it stops, and when some clients behave badly."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.serve.networks import doubling, slow_doubling
from tests.serve.running import Running, serving

pytestmark = pytest.mark.load

CLIENTS, REQUESTS = 64, 5


def ask(running: Running, values: list[float], client: httpx.Client | None = None) -> httpx.Response:
    """Binary data in and out, as one row."""
    row = np.array([values], np.float32)
    inputs = [{"name": "x", "shape": list(row.shape), "datatype": "FP32",
               "parameters": {"binary_data_size": row.nbytes}}]  # fmt: skip
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(header))}
    return (client or running.client).post(running.infer, content=header + row.tobytes(), headers=headers)


def answer_of(response: httpx.Response) -> list[float]:
    assert response.status_code == 200, response.text
    length = int(response.headers["inference-header-content-length"])
    values: list[float] = np.frombuffer(response.content[length:], np.float32).tolist()
    return values


def together(clients: int, work: Callable[[int], Any]) -> list[Any]:
    """`work` for every client, all at once."""
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(work, range(clients)))


def test_64_clients_get_their_own_answers_from_far_fewer_runs(tmp_path: Path) -> None:
    with serving(slow_doubling(tmp_path / "m.onnx", steps=10_000)) as running:

        def client(number: int) -> None:
            mine = random.Random(number)
            for _ in range(REQUESTS):
                values = [mine.uniform(-9, 9) for _ in range(4)]
                np.testing.assert_allclose(answer_of(ask(running, values)), 2 * np.array(values), rtol=1e-5)

        together(CLIENTS, client)
        metrics = running.metrics()
    assert metrics['trtkit_requests_total{outcome="ok"}'] == CLIENTS * REQUESTS
    assert metrics["trtkit_batch_rows_sum"] == CLIENTS * REQUESTS
    assert metrics["trtkit_batch_rows_count"] < CLIENTS * REQUESTS / 3
    assert metrics['trtkit_batch_rows_bucket{le="1.0"}'] < metrics["trtkit_batch_rows_count"]
    assert (metrics["trtkit_queue_depth"], metrics["trtkit_in_flight"]) == (0, 0)


def test_when_the_queue_is_full_clients_are_told_to_come_again_and_nobody_is_lost(tmp_path: Path) -> None:
    model = slow_doubling(tmp_path / "m.onnx", steps=20_000)
    with serving(model, "--queue", "4", "--max-batch", "2") as running:
        responses = together(40, lambda number: ask(running, [number] * 4))
        statuses = Counter(response.status_code for response in responses)
        assert statuses.keys() == {200, 503}
        for number, response in enumerate(responses):
            if response.status_code == 200:
                assert answer_of(response) == [2 * number] * 4
            else:
                assert int(response.headers["retry-after"]) >= 1
                assert "queue is full" in response.json()["error"]
        metrics = running.metrics()
        assert metrics['trtkit_requests_total{outcome="ok"}'] == statuses[200]
        assert metrics['trtkit_requests_total{outcome="overloaded"}'] == statuses[503]
        assert answer_of(ask(running, [1, 2, 3, 4])) == [2, 4, 6, 8]


def until(running: Running, name: str, least: float) -> None:
    end = time.monotonic() + 20
    while running.metrics()[name] < least:
        assert time.monotonic() < end, f"{name} stays below {least}"


def test_stopped_while_busy_it_finishes_what_it_has_taken_and_exits_0(tmp_path: Path) -> None:
    model = slow_doubling(tmp_path / "m.onnx", steps=30_000)
    with serving(model, "--max-batch", "2") as running, ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, running, [number] * 4) for number in range(8)]
        until(running, "trtkit_in_flight", 8)
        running.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 10
        while (ready := running.client.get("/ready")).status_code == 200:
            assert time.monotonic() < end
        assert ready.status_code == 503
        assert running.client.get("/health").status_code == 200
        refused = ask(running, [1] * 4)
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        assert [answer_of(answer.result()) for answer in answers] == [[2 * n] * 4 for n in range(8)]
        assert running.process.wait(20) == 0


def test_what_the_time_to_stop_does_not_suffice_for_is_told_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = slow_doubling(tmp_path / "m.onnx", steps=200_000)
    with serving(model, "--max-batch", "1", "--drain", "0.1") as running, ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, running, [number] * 4) for number in range(8)]
        until(running, "trtkit_in_flight", 8)
        assert running.stop() == 1
        statuses = Counter(answer.result().status_code for answer in answers)
    said = re.search(r"error: (\d+) requests were not finished within 0.1 s", capfd.readouterr().err)
    assert said
    refused = statuses.pop(503)
    # The one that runs when the time is over may still be answered.
    assert int(said[1]) - 1 <= refused <= int(said[1])
    assert statuses == Counter({200: 8 - refused})


@contextmanager
def good_clients(running: Running, count: int) -> Iterator[Counter[str]]:
    """Clients that ask all the time, while the block runs; how often each outcome came."""
    stop, outcomes = threading.Event(), Counter[str]()

    def client(number: int) -> None:
        with httpx.Client(base_url=running.address, timeout=30) as connection:
            while not stop.is_set():
                response = ask(running, [number] * 4, connection)
                right = response.status_code == 200 and answer_of(response) == [2 * number] * 4
                outcomes["right" if right else f"wrong: {response.status_code}"] += 1

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(client, number) for number in range(count)]
        try:
            yield outcomes
        finally:
            stop.set()
            for future in futures:
                future.result()


def test_good_clients_do_not_notice_bad_ones(tmp_path: Path) -> None:
    model = slow_doubling(tmp_path / "m.onnx", steps=200)
    with serving(model, "--max-request-bytes", "100000") as running:
        host, port = running.netloc.split(":")

        def send(data: bytes) -> None:
            with suppress(OSError), socket.create_connection((host, int(port)), timeout=10) as client:
                client.sendall(data)
                client.recv(1000)

        def post(body: bytes, length: int | None = None) -> bytes:
            size = len(body) if length is None else length
            head = f"POST {running.infer} HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\n\r\n"
            return head.encode() + body

        nan = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [float("nan")] * 4}]}
        bad = [
            post(b"{"),
            post(json.dumps(nan).encode()),
            post(json.dumps(nan).replace("[1, 4]", "[4, 1]").encode()),
            post(bytes(200_000)),
            b"no HTTP at all\r\n\r\n",
        ]
        with good_clients(running, 8) as outcomes:
            for _ in range(10):
                for data in bad:
                    send(data)
                for _ in range(3):  # asks properly, and hangs up before the answer, or in the middle
                    with socket.create_connection((host, int(port))) as client:
                        right = json.dumps(nan).replace("NaN", "1").encode()
                        client.sendall(post(right))
                    with socket.create_connection((host, int(port))) as client:
                        client.sendall(post(right, length=50_000))
        assert set(outcomes) == {"right"}
        assert outcomes["right"] >= 8
        until(running, 'trtkit_requests_total{outcome="bad-request"}', 40)
        until(running, 'trtkit_requests_total{outcome="client-gone"}', 30)
        assert running.metrics()['trtkit_requests_total{outcome="failed"}'] == 0


def test_jobs_whose_clients_hang_up_are_not_run(tmp_path: Path) -> None:
    model = slow_doubling(tmp_path / "m.onnx", steps=200_000)
    with serving(model, "--max-batch", "1") as running, ThreadPoolExecutor(1) as pool:
        busy = pool.submit(ask, running, [1] * 4)
        until(running, "trtkit_in_flight", 1)
        row = np.ones(4, np.float32).tobytes()
        head = "POST /infer?shape=1x4 HTTP/1.1\r\nHost: t\r\nContent-Type: application/octet-stream\r\n"
        host, port = running.netloc.split(":")
        with ExitStack() as impatient:
            for _ in range(10):
                client = impatient.enter_context(socket.create_connection((host, int(port))))
                client.sendall(f"{head}Content-Length: {len(row)}\r\n\r\n".encode() + row)
            until(running, "trtkit_in_flight", 11)
        until(running, 'trtkit_requests_total{outcome="client-gone"}', 10)
        assert answer_of(busy.result()) == [2] * 4
        assert running.metrics()["trtkit_batch_rows_count"] == 1


def test_memory_stays_flat(tmp_path: Path) -> None:
    with serving(doubling(tmp_path / "m.onnx")) as running:

        def requests(count: int) -> int:
            def client(number: int) -> None:
                with httpx.Client(base_url=running.address, timeout=30) as connection:
                    for _ in range(count // 8):
                        assert answer_of(ask(running, [number] * 4, connection)) == [2 * number] * 4

            together(8, client)
            return running.memory()

        warm = requests(2000)
        assert requests(4000) - warm < 4 << 20
