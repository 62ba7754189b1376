"""A row's own process: it opens one runner, and measures when it is told to.

Parent and process speak through a pipe: a request goes one way, an answer comes back. Between requests the
process sleeps, so that rows can take turns and do not disturb each other.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trtkit.bench.contender import Contender
from trtkit.bench.latency import is_settled
from trtkit.errors import EnvironmentLack, TrtkitError
from trtkit.runners import OnDevice, Runner, random_feeds
from trtkit.tensors import Shape, TensorSpec

LEAST_RUNS = 3
"""Runs of a round, however long one takes."""


@dataclass(frozen=True)
class Ready:
    """The runner is open. seconds: since its process began."""

    seconds: float


@dataclass(frozen=True)
class WarmUp:
    """Take the inputs of these shapes, and run until latencies settle, for so many seconds at most."""

    inputs: tuple[TensorSpec, ...]
    shapes: Mapping[str, Shape]
    seed: int
    seconds: float


@dataclass(frozen=True)
class Warm:
    """Warm after so many runs; the outputs are those of the last."""

    runs: int
    outputs: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Measure:
    """Time runs for so many seconds: with copies from and to the host, or on the device alone."""

    seconds: float
    on_device: bool = False


@dataclass(frozen=True)
class Measured:
    """Seconds of each run; empty where the runner has no device of its own."""

    seconds: NDArray[np.float64]


@dataclass(frozen=True)
class Refused:
    """It could not be done, and why. skipped: it lacks something here, so nothing has failed. gone: the
    process has ended; otherwise it can be asked for something else."""

    status: Literal["skipped", "failed"]
    reason: str
    gone: bool = False


Answer = Ready | Warm | Measured | Refused


class ShapeNotCovered(EnvironmentLack):
    """The runner's profile does not reach these shapes; others it can run."""


def serve_row(contender: Contender, connection: Connection, log: Path) -> None:
    """The process: open the contender's runner, answer requests until the parent closes the pipe."""
    started = time.perf_counter()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on: it ends us
    _print_to(log)
    runner = _guarded(contender.open)
    if isinstance(runner, Refused):
        connection.send(replace(runner, gone=True))
        return
    connection.send(Ready(time.perf_counter() - started))
    measuring = Measuring(runner)
    try:
        while True:
            request = connection.recv()
            connection.send(_guarded(partial(measuring.answer, request)))
    except EOFError:
        return


class Measuring:
    """A runner and the inputs it is at."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._run: Callable[[], Any] = lambda: None
        self._resident: Callable[[], None] | None = None

    def answer(self, request: WarmUp | Measure) -> Answer:
        """Do what is asked.

        Raises:
            WorkFailed: the runner could not run. ShapeNotCovered: it cannot at these shapes.
        """
        if isinstance(request, WarmUp):
            return self._warm_up(request)
        run = self._resident if request.on_device else self._run
        return Measured(timed(run, request.seconds) if run else np.empty(0))

    def _warm_up(self, request: WarmUp) -> Warm:
        feeds = _feeds(self._runner, request)
        self._run = lambda: self._runner.run(feeds)
        latencies: list[float] = []
        end = time.perf_counter() + request.seconds
        while True:
            before = time.perf_counter()
            outputs = self._run()
            latencies.append((now := time.perf_counter()) - before)
            if now >= end or is_settled(latencies):
                break
        self._resident = self._runner.resident(feeds) if isinstance(self._runner, OnDevice) else None
        if self._resident is not None:
            for _ in range(LEAST_RUNS):
                self._resident()
        return Warm(len(latencies), outputs)


def timed(run: Callable[[], Any], seconds: float) -> NDArray[np.float64]:
    """Seconds that each run takes, one after the other, until `seconds` are over; some first runs, which
    bring back caches and clocks that sleeping has lost, are not among them."""
    for _ in range(LEAST_RUNS):
        run()
    latencies = []
    end = time.perf_counter() + seconds
    while True:
        before = time.perf_counter()
        run()
        now = time.perf_counter()
        latencies.append(now - before)
        if now >= end and len(latencies) >= LEAST_RUNS:
            return np.array(latencies)


def _feeds(runner: Runner, request: WarmUp) -> dict[str, NDArray[Any]]:
    """The same numbers for every runner, in the types that it takes."""
    for name, covered in runner.profile.items():
        if name in request.shapes and not covered.covers(request.shapes[name]):
            low, high = ("x".join(map(str, shape)) for shape in (covered.min, covered.max))
            raise ShapeNotCovered(f"its profile covers {name} from {low} to {high}")
    feeds = random_feeds(request.inputs, request.shapes, request.seed)
    return {spec.name: np.ascontiguousarray(feeds[spec.name], spec.dtype) for spec in runner.inputs}


def _guarded(work: Callable[[], Any]) -> Any:
    """What `work` gives, or why it gave nothing: a row that fails is a result, not an accident."""
    try:
        return work()
    except ModuleNotFoundError as error:
        return Refused("skipped", f"{error.name} is not installed here")
    except TrtkitError as error:
        because = error.fact("because")
        reason = f"{error.problem}: {because}" if because else error.problem
        return Refused("skipped" if isinstance(error, EnvironmentLack) else "failed", reason)
    except Exception as error:
        said = str(error).strip().splitlines()
        return Refused("failed", ": ".join([type(error).__name__, *said[:1]]))


def _print_to(log: Path) -> None:
    """Whatever libraries print goes to a file: the terminal and stdout's JSON are the parent's."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(file, standard)
