"""The queue and its threads, with runners that note what they are given."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trtkit.cuda import DeviceLost
from trtkit.errors import WorkFailed
from trtkit.runners import Tensors
from trtkit.serve.batcher import Batcher, Outputs
from trtkit.serve.model import Model
from trtkit.serve.refusal import Refusal
from trtkit.tensors import Profile, TensorSpec

SPEC = TensorSpec("x", "float32", (-1, -1))
MODEL = Model("m", "test", (SPEC,), (TensorSpec("y", "float32", (-1, -1)),), {}, max_batch=8)

POISON = 666.0


class Doubling:
    """y = 2 x, noting every run. While `gate` is closed, runs wait. A batch with POISON in it fails."""

    name, inputs, outputs = "doubling", MODEL.inputs, MODEL.outputs

    def __init__(self) -> None:
        self.profile: Profile = {}
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Semaphore(0)
        self.runs: list[NDArray[Any]] = []

    def run(self, feeds: Tensors) -> Outputs:
        self.began.release()
        assert self.gate.wait(10)
        self.runs.append(feeds["x"])
        if (feeds["x"] == POISON).any():
            raise WorkFailed("poison")
        return {"y": feeds["x"] * 2}

    def close(self) -> None:
        pass


class Losing(Doubling):
    """Its GPU is lost in the first run."""

    def run(self, feeds: Tensors) -> Outputs:
        super().run(feeds)
        raise DeviceLost("cudaStreamSynchronize", "cudaErrorIllegalAddress", "an illegal memory access")


class Summing(Doubling):
    """One row, whatever the rows of the input."""

    def run(self, feeds: Tensors) -> Outputs:
        return {"y": super().run(feeds)["y"].sum(0, keepdims=True)}


def rows(*values: float, width: int = 1) -> dict[str, NDArray[Any]]:
    return {"x": np.repeat(np.array(values, np.float32)[:, None], width, 1)}


def batching(
    runner: Doubling, story: Callable[[Batcher], Awaitable[None]], *, model: Model = MODEL, **options: Any
) -> None:
    """Run `story` with a batcher over `runner`."""

    async def tell() -> None:
        batcher = Batcher(model, [runner], **{"queue": 100, "observe": lambda *_: None, **options})
        try:
            await story(batcher)
        finally:
            runner.gate.set()
            assert batcher.close(5)

    asyncio.run(tell())


async def started(runner: Doubling) -> None:
    """Until a run has begun."""
    assert await asyncio.to_thread(runner.began.acquire, True, 5)


def test_a_lone_request_is_run_at_once() -> None:
    runner = Doubling()

    async def story(batcher: Batcher) -> None:
        outputs = await batcher.submit(rows(1, 2)).done
        assert outputs["y"].tolist() == [[2], [4]]

    batching(runner, story)
    assert [len(run) for run in runner.runs] == [2]


def test_what_gathers_during_a_run_is_the_next_batch_and_everybody_gets_his_own() -> None:
    runner = Doubling()

    async def story(batcher: Batcher) -> None:
        runner.gate.clear()
        first = batcher.submit(rows(0))
        await started(runner)
        others = [batcher.submit(rows(*range(n, 2 * n))) for n in (1, 2, 3, 4)]
        assert batcher.waiting == 4
        runner.gate.set()
        assert (await first.done)["y"].tolist() == [[0]]
        for n, job in zip((1, 2, 3, 4), others, strict=True):
            assert (await job.done)["y"].ravel().tolist() == [2 * value for value in range(n, 2 * n)]

    batching(runner, story)
    assert [len(run) for run in runner.runs] == [1, 6, 4]  # 8 rows at most: the fourth did not fit


def test_requests_of_different_shapes_are_run_apart_oldest_first() -> None:
    runner = Doubling()

    async def story(batcher: Batcher) -> None:
        runner.gate.clear()
        jobs = [batcher.submit(rows(0))]
        await started(runner)
        jobs += [batcher.submit(rows(1, width=width)) for width in (3, 2, 3, 2)]
        runner.gate.set()
        await asyncio.gather(*(job.done for job in jobs))

    batching(runner, story)
    assert [run.shape for run in runner.runs] == [(1, 1), (2, 3), (2, 2)]


def test_one_bad_request_fails_alone() -> None:
    runner = Doubling()

    async def story(batcher: Batcher) -> None:
        runner.gate.clear()
        jobs = [batcher.submit(rows(0))]
        await started(runner)
        jobs += [batcher.submit(rows(value)) for value in (1, POISON, 3)]
        runner.gate.set()
        results = await asyncio.gather(*(job.done for job in jobs), return_exceptions=True)
        assert isinstance(results[2], WorkFailed)
        good = [result["y"].item() for result in results if isinstance(result, dict)]
        assert good == [0, 2, 6]
        assert (await batcher.submit(rows(4)).done)["y"].item() == 8  # and the runner goes on

    batching(runner, story)


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    runner = Doubling()

    async def story(batcher: Batcher) -> None:
        runner.gate.clear()
        jobs = [batcher.submit(rows(0))]
        await started(runner)
        jobs += [batcher.submit(rows(n)) for n in range(3)]
        with pytest.raises(Refusal, match="queue is full") as caught:
            batcher.submit(rows(9))
        assert caught.value.status == 503
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 1
        runner.gate.set()
        await asyncio.gather(*(job.done for job in jobs))

    batching(runner, story, queue=3)
    assert len(np.concatenate(runner.runs)) == 4


def test_a_job_whose_client_has_gone_is_not_run() -> None:
    runner = Doubling()

    async def story(batcher: Batcher) -> None:
        runner.gate.clear()
        first = batcher.submit(rows(0))
        await started(runner)
        gone, stays = batcher.submit(rows(1)), batcher.submit(rows(2))
        batcher.withdraw(gone)
        batcher.withdraw(first)  # too late to stop it, and nobody waits
        runner.gate.set()
        assert (await stays.done)["y"].item() == 4
        assert gone.done.cancelled()
        assert batcher.unfinished == 0

    batching(runner, story)
    assert np.concatenate(runner.runs).ravel().tolist() == [0, 2]


def test_a_lost_gpu_fails_all_that_wait_and_all_that_come() -> None:
    runner = Losing()

    async def story(batcher: Batcher) -> None:
        runner.gate.clear()
        jobs = [batcher.submit(rows(0))]
        await started(runner)
        jobs.append(batcher.submit(rows(1)))
        runner.gate.set()
        results = await asyncio.gather(*(job.done for job in jobs), return_exceptions=True)
        assert all(isinstance(result, DeviceLost) for result in results)
        assert batcher.lost is results[0]
        for taken in (batcher.check_running, lambda: batcher.submit(rows(2))):
            with pytest.raises(DeviceLost):
                taken()

    batching(runner, story)
    assert len(runner.runs) == 1


def test_outputs_that_do_not_follow_the_rows_end_the_joining_and_nobody_gets_a_wrong_answer() -> None:
    runner = Summing()

    async def story(batcher: Batcher) -> None:
        runner.gate.clear()
        jobs = [batcher.submit(rows(0))]
        await started(runner)
        jobs += [batcher.submit(rows(n, n + 1)) for n in range(3)]
        runner.gate.set()
        results = await asyncio.gather(*(job.done for job in jobs))
        assert [result["y"].item() for result in results] == [0, 2, 6, 10]

    batching(runner, story)


def test_a_model_that_cannot_be_batched_runs_requests_one_by_one() -> None:
    runner = Doubling()
    alone = Model("m", "test", MODEL.inputs, MODEL.outputs, {}, max_batch=1)

    async def story(batcher: Batcher) -> None:
        jobs = [batcher.submit(rows(1, 2, 3, 4)) for _ in range(5)]
        await asyncio.gather(*(job.done for job in jobs))

    batching(runner, story, model=alone)
    assert [len(run) for run in runner.runs] == [4] * 5


def test_with_a_delay_requests_wait_for_others_until_the_batch_is_full() -> None:
    runner = Doubling()

    async def story(batcher: Batcher) -> None:
        jobs = [batcher.submit(rows(n)) for n in range(8)]
        await asyncio.gather(*(job.done for job in jobs))
        await batcher.submit(rows(1)).done  # alone: it waits the delay, and is run

    batching(runner, story, max_delay=0.2)
    assert [len(run) for run in runner.runs] == [8, 1]


def test_when_it_stops_what_was_taken_is_run_and_nothing_more_is_taken() -> None:
    runner = Doubling()

    async def story(batcher: Batcher) -> None:
        runner.gate.clear()
        jobs = [batcher.submit(rows(n)) for n in range(3)]
        batcher.stop_taking()
        with pytest.raises(Refusal, match="shutting down"):
            batcher.check_open()
        jobs.append(batcher.submit(rows(3)))  # was taken before, and read meanwhile
        runner.gate.set()
        assert [(await job.done)["y"].item() for job in jobs] == [0, 2, 4, 6]

    batching(runner, story)
