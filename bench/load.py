"""A load generator: so many connections, each with one request in flight, for a time or a number of requests.

python bench/load.py HOST PORT CONNECTIONS {--seconds S | --requests N} < REQUEST

REQUEST is the bytes of one HTTP request with a body; it is sent over and over. Prints JSON: seconds, requests
that were answered with 200, those that were not, and latencies in microseconds at some percentiles.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import cast

import uvloop

PERCENTILES = (50, 90, 99)


class Connection(asyncio.Protocol):
    """Sends the request, waits for the whole answer, and so on until there is no more to do."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = bytearray()
        self._end = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._end and (head := self._received.find(b"\r\n\r\n")) >= 0:
            headers = bytes(self._received[:head]).lower()
            length = headers.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0]
            self._end = head + 4 + int(length)
        if self._end and len(self._received) >= self._end:
            self._load.answered(time.perf_counter() - self._start, self._received.startswith(b"HTTP/1.1 200"))
            del self._received[: self._end]
            self._end = 0
            self._send()

    def connection_lost(self, _: Exception | None) -> None:
        self._load.closed()

    def _send(self) -> None:
        if self._load.over:
            self._transport.close()
            return
        self._start = time.perf_counter()
        self._transport.write(self._load.request)


class Load:
    """What all connections do together."""

    def __init__(self, request: bytes, seconds: float | None, requests: int | None) -> None:
        self.request, self._seconds, self._requests = request, seconds, requests
        self.latencies: list[float] = []
        self.failed, self._open = 0, 0

    @property
    def over(self) -> bool:
        if self._requests is not None:
            return len(self.latencies) + self.failed >= self._requests
        return time.perf_counter() >= self._begin + (self._seconds or 0)

    def answered(self, seconds: float, well: bool) -> None:
        if well:
            self.latencies.append(seconds)
        else:
            self.failed += 1

    def closed(self) -> None:
        self._open -= 1
        if not self._open:
            self._done.set_result(None)

    async def run(self, host: str, port: int, connections: int) -> float:
        """Seconds that it took."""
        loop = asyncio.get_running_loop()
        self._done, self._open, self._begin = loop.create_future(), connections, time.perf_counter()
        await asyncio.gather(*(loop.create_connection(lambda: Connection(self), host, port)
                               for _ in range(connections)))  # fmt: skip
        await self._done
        return time.perf_counter() - self._begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--requests", type=int)
    arguments = parser.parse_args()
    load = Load(sys.stdin.buffer.read(), arguments.seconds, arguments.requests)
    seconds = uvloop.run(load.run(arguments.host, arguments.port, arguments.connections))
    ordered = sorted(load.latencies)
    at = {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] * 1e6 for p in PERCENTILES}
    print(json.dumps({"seconds": seconds, "ok": len(ordered), "failed": load.failed, **at}))


if __name__ == "__main__":
    main()
