"""The queue, and the threads that run what is in it: one a runner.

A runner that is free takes at once what has gathered while it was busy, so a lone request waits for nobody,
and under load batches grow by themselves. The queue is shared by threads, not handed out by the event loop: a
runner that is done goes on without waiting until the event loop has come through all that is pending there.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trtkit.cuda import DeviceLost
from trtkit.errors import EnvironmentLack, TrtkitError, WorkFailed
from trtkit.runners import Runner, Tensors
from trtkit.serve.model import Model
from trtkit.serve.refusal import Refusal

Outputs = dict[str, NDArray[Any]]

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """A request that waits for its outputs. feeds: checked (`check_feeds`). arrived: time.perf_counter()."""

    feeds: Tensors
    rows: int
    group: Hashable
    done: asyncio.Future[Outputs]
    arrived: float = field(default_factory=time.perf_counter)


Observer = Callable[[int, float], None]
"""Is told the rows and the seconds of every run, on the thread that ran it."""


class Batcher:
    """Runs jobs on `runners`, which it owns; it is made, and spoken to, on the event loop's thread.

    Args:
        queue: requests that may wait; more are refused.
        max_delay: seconds that a job may wait for others while a runner is free.

    lost: why nothing runs any more, None as long as it does.

    Raises:
        EnvironmentLack: the system gives no thread for a runner.
    """

    def __init__(
        self,
        model: Model,
        runners: Sequence[Runner],
        *,
        queue: int,
        max_delay: float = 0.0,
        observe: Observer,
    ) -> None:
        self.lost: DeviceLost | None = None
        self._model, self._queue, self._max_delay, self._observe = model, queue, max_delay, observe
        self._joins = model.joins
        self._groups: dict[Hashable, deque[Job]] = {}
        self._waiting, self._running = 0, 0
        self._seconds_a_job = 0.0
        self._open, self._ended = True, False
        self._wake = threading.Condition(threading.Lock())
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._work, args=(runner,), name=f"runner {number}", daemon=True)
            for number, runner in enumerate(runners)
        ]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:  # so Python tells that pthread_create failed
            self._end()
            raise EnvironmentLack(
                f"the system gives no threads for {len(runners)} runs at a time",
                ("because", str(error)),
                ("next", "raise its limit (ulimit -u, docker run --pids-limit), or use fewer --contexts"),
            ) from error

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._waiting

    @property
    def unfinished(self) -> int:
        """Jobs in the queue or in a run."""
        return self._waiting + self._running

    def check_running(self) -> None:
        """Whether jobs are taken at all.

        Raises:
            Refusal: with status 503: the service stops. DeviceLost: the GPU is lost.
        """
        if self.lost:
            raise self.lost
        if not self._open:
            raise Refusal(
                503, "this server is shutting down", ("next", "ask another, or later"), retry_after=1
            )

    def check_open(self, coming: int = 0) -> None:
        """Whether one more request is taken now.

        Args:
            coming: requests that are taken already and will be submitted.

        Raises:
            as check_running, and Refusal: with status 503 and Retry-After: the queue is full.
        """
        self.check_running()
        self._check_room(coming)

    def _check_room(self, coming: int = 0) -> None:
        if self._waiting + coming >= self._queue:
            seconds = math.ceil(self._waiting * self._seconds_a_job / len(self._threads)) or 1
            raise Refusal(
                503,
                f"the queue is full: {self._queue} requests wait",
                ("next", f"try again in {seconds} s"),
                retry_after=seconds,
            )

    def submit(self, feeds: Tensors) -> Job:
        """Queue a request that was taken, even if no others are any more; `job.done` raises TrtkitErrors.

        Raises:
            Refusal: with status 503: the queue is full. DeviceLost: the GPU is lost.
        """
        job = Job(feeds, self._model.rows(feeds), self._model.group(feeds), self._loop.create_future())
        with self._wake:
            if self.lost:
                raise self.lost
            self._check_room()
            self._groups.setdefault(job.group, deque()).append(job)
            self._waiting += 1
            self._wake.notify()
        return job

    def withdraw(self, job: Job) -> None:
        """Forget a job whose client has gone, if it has not begun."""
        with self._wake:
            group = self._groups.get(job.group, ())
            if job in group:
                self._forget(job.group, [job])
        job.done.cancel()

    def stop_taking(self) -> None:
        """Take no more requests; what was taken is run, no longer waiting for others."""
        with self._wake:
            self._open = False
            self._wake.notify_all()

    def abandon(self, error: TrtkitError) -> int:
        """Fail all jobs that have not begun; how many there were."""
        with self._wake:
            jobs = [job for group in self._groups.values() for job in group]
            self._groups.clear()
            self._waiting = 0
            self._wake.notify_all()
        self._tell(jobs, [error] * len(jobs))
        return len(jobs)

    def close(self, patience: float) -> bool:
        """Run what is queued, and stop; whether all threads ended within `patience` seconds: before, their
        runners must not be closed."""
        self._end()
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _end(self) -> None:
        with self._wake:
            self._open, self._ended = False, True
            self._wake.notify_all()

    # On the runners' threads

    def _work(self, runner: Runner) -> None:
        while jobs := self._take():
            results = self._results(runner, jobs)
            with self._wake:
                self._running -= len(jobs)
            self._tell(jobs, results)

    def _tell(self, jobs: list[Job], results: Sequence[Outputs | TrtkitError]) -> None:
        with suppress(RuntimeError):  # the event loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(_deliver, jobs, results)

    def _take(self) -> list[Job]:
        """The next jobs to run together, oldest group first; waits for them. Empty: there will be none."""
        with self._wake:
            while True:
                if self._groups:
                    group = min(self._groups, key=lambda one: self._groups[one][0].arrived)
                    patience = self._patience(self._groups[group])
                    if patience <= 0:
                        return self._pop(group)
                    self._wake.wait(patience)
                elif self._ended:
                    return []
                else:
                    self._wake.wait()

    def _patience(self, jobs: deque[Job]) -> float:
        """Seconds that these may still wait for others."""
        if not self._max_delay or not self._joins or not self._open:
            return 0.0
        if sum(job.rows for job in jobs) >= self._model.max_batch:
            return 0.0
        return jobs[0].arrived + self._max_delay - time.perf_counter()

    def _pop(self, group: Hashable) -> list[Job]:
        taken: list[Job] = []
        rows = 0
        for job in self._groups[group]:
            rows += job.rows
            if taken and (not self._joins or rows > self._model.max_batch):
                break
            taken.append(job)
        self._forget(group, taken)
        self._running += len(taken)
        return taken

    def _forget(self, group: Hashable, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._groups[group].remove(job)
            self._waiting -= 1
        if not self._groups[group]:
            del self._groups[group]

    def _results(self, runner: Runner, jobs: list[Job]) -> list[Outputs | TrtkitError]:
        """The outputs of every job. A batch that fails is run one by one: only who is at fault fails."""
        try:
            start = time.perf_counter()
            results = self._run(runner, jobs)
            seconds = time.perf_counter() - start
            self._seconds_a_job += 0.1 * (seconds / len(jobs) - self._seconds_a_job)
            self._observe(sum(job.rows for job in jobs), seconds)
            return list(results)
        except DeviceLost as error:
            log.error("%s", error.text())
            self.lost = error
            self.abandon(error)
            return [error] * len(jobs)
        except Exception as error:  # a runner's worst must not end the thread
            if len(jobs) > 1:
                log.warning("a batch of %d failed and is run one by one: %s", len(jobs), error)
                return [result for job in jobs for result in self._results(runner, [job])]
            if isinstance(error, TrtkitError):
                return [error]
            log.exception("a runner failed")
            return [WorkFailed("the model could not be run", ("because", f"{type(error).__name__}: {error}"))]

    def _run(self, runner: Runner, jobs: list[Job]) -> list[Outputs]:
        if len(jobs) == 1:
            return [runner.run(jobs[0].feeds)]
        names = jobs[0].feeds
        outputs = runner.run({name: np.concatenate([job.feeds[name] for job in jobs]) for name in names})
        ends = np.cumsum([job.rows for job in jobs]).tolist()
        if any(output.shape[:1] != (ends[-1],) for output in outputs.values()):
            self._joins = False
            raise WorkFailed(
                "the outputs have not one row a row of the inputs: requests are no longer joined"
            )
        starts = [0, *ends[:-1]]
        return [
            {name: output[start:end] for name, output in outputs.items()}
            for start, end in zip(starts, ends, strict=True)
        ]


def _deliver(jobs: list[Job], results: Sequence[Outputs | TrtkitError]) -> None:
    """On the event loop: wake who waits for `jobs`."""
    for job, result in zip(jobs, results, strict=True):
        if job.done.done():
            continue
        if isinstance(result, TrtkitError):
            job.done.set_exception(result)
        else:
            job.done.set_result(result)
