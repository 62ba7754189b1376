"""The process: it opens a door, serves until it is told to stop, and finishes what it has taken on."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

import uvicorn

from trtkit.errors import EnvironmentLack, WorkFailed
from trtkit.serve.app import make_app
from trtkit.serve.batcher import Batcher
from trtkit.serve.folder import Opened
from trtkit.serve.metrics import Metrics
from trtkit.serve.refusal import Refusal
from trtkit.serve.service import Limits, Service

SWITCH = 0.0005
"""Seconds after which a thread gives up the interpreter to another that wants it. Python's own 5 ms would let
the event loop keep a runner that has finished from taking its next batch."""

TICK = 0.02
"""Seconds between looks at whether everything is finished."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How to serve.

    host, port: where to listen; port 0: any that is free. queue: requests that may wait. max_delay: seconds
    that a request may wait for others while the model is idle. drain: seconds for finishing, once told to.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    queue: int = 256
    max_delay: float = 0.0
    drain: float = 30.0
    limits: Limits = field(default_factory=Limits)


def serve(opened: Opened, options: Options, started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, and then until everything that was taken on is answered.

    `opened` is closed in any case; only what a run still uses then is left to the end of the process.

    Args:
        started: is told the address when requests are taken.

    Raises:
        EnvironmentLack: the address, or what uvicorn and the runners need, cannot be had.
        WorkFailed: not everything was answered within `options.drain`.
    """
    sys.setswitchinterval(SWITCH)
    server = None
    try:
        door = _listen(options)
        host, port = door.getsockname()[:2]
        server = _Server(
            opened, options, lambda: started(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        )
        server.run(sockets=[door])
    finally:
        if server is None or server.idle:
            opened.close()
        else:
            opened.save()
    if server.abandoned:
        raise WorkFailed(
            f"{server.abandoned} requests were not finished within {options.drain:g} s of the signal to stop",
            ("next", "give it more time (--drain), or a smaller queue"),
        )


def _listen(options: Options) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        return socket.create_server((options.host, options.port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:  # UnicodeError: the host is no name at all
        raise EnvironmentLack(
            f"cannot listen on {options.host} port {options.port}",
            ("because", getattr(error, "strerror", None) or str(error)),
            ("next", "choose another --port (0: any that is free), or a --host of this machine"),
        ) from error


class _Server(uvicorn.Server):
    """uvicorn, stopping in our order: refuse, finish, close the door, exit 0.

    While it finishes, the door stays open, so that whoever asks is told 503 and not left without an answer.
    abandoned: requests that the time did not suffice for. idle: no run goes on.
    """

    def __init__(self, opened: Opened, options: Options, started: Callable[[], None]) -> None:
        self._opened, self._options, self._started = opened, options, started
        self._service: Service | None = None
        self._finishing: asyncio.Task[None] | None = None
        self.abandoned, self.idle = 0, True
        super().__init__(
            uvicorn.Config(
                make_app(self._served),
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=5,
            )
        )

    def _served(self) -> Service:
        assert self._service is not None
        return self._service

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        # Not as the application's lifespan: of what fails there uvicorn tells no more than a traceback.
        opened, options = self._opened, self._options
        metrics = Metrics(
            {
                "trtkit_queue_depth": ("Requests that wait.", lambda: batcher.waiting),
                "trtkit_in_flight": ("Requests that are not answered yet.", lambda: service.in_flight),
            }
        )
        batcher = Batcher(
            opened.model,
            opened.runners,
            queue=options.queue,
            max_delay=options.max_delay,
            observe=metrics.run,
        )
        self._service = service = Service(opened.model, batcher, metrics, options.limits)
        self._loop = asyncio.get_running_loop()
        try:
            await super().serve(sockets)
        finally:
            service.close()
            self.idle = batcher.close(patience=0.5)
            self.abandoned = max(self.abandoned, batcher.unfinished)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """A signal to stop. Pressing Ctrl-C again ends the waiting."""
        if self._finishing is None and self._service is not None and sig in (signal.SIGTERM, signal.SIGINT):
            self._loop.call_soon_threadsafe(self._stop)
        else:
            self.should_exit = True

    def _stop(self) -> None:
        if self._finishing is None:
            self._finishing = self._loop.create_task(self._finish(self._served()))

    async def _finish(self, service: Service) -> None:
        log.info("stopping: %d requests to finish", service.taken)
        service.batcher.stop_taking()
        end = time.monotonic() + self._options.drain
        while service.taken and time.monotonic() < end and not self.should_exit:
            await asyncio.sleep(TICK)
        self.abandoned = service.taken
        error = Refusal(503, "this server stopped before it came to this request", ("next", "ask another"))
        service.batcher.abandon(error)
        self.should_exit = True
