from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import KilledWorker
from hypothesis import given
from hypothesis import strategies as st

from trtforge.errors import BuildError, EnvironmentLack
from trtforge.production.cluster import Workers, cluster, explained, few_of
from trtforge.production.graph import Node
from trtforge.progress import Silent
from trtforge.registry.namespace import Namespace


@dataclass
class Cluster:
    """What a lane of workers knows of Dask: the workers' resources, and what was submitted."""

    workers: list[dict[str, float]]
    submitted: list[dict[str, Any]] = field(default_factory=list)

    def scheduler_info(self) -> dict[str, Any]:
        return {"workers": {str(number): {"resources": one} for number, one in enumerate(self.workers)}}

    def submit(self, *_call: object, **options: Any) -> None:
        self.submitted.append(options)


@pytest.mark.parametrize(
    ("workers", "asked"),
    [
        ([{}], None),
        ([{"GPU_SM86": 1}, {"GPU": 1}], {"GPU_SM86": 1}),
        ([{"GPU": 1}], {"GPU": 1}),
        ([{"ENGINE": 1}, {}], {"ENGINE": 1}),
        ([{"ENGINE": 1, "GPU_SM80": 1}, {"ENGINE": 1}], {"ENGINE": 1, "GPU_SM80": 1}),
        ([{"ENGINE": 1}, {"GPU_SM80": 1}], {"ENGINE": 1}),
    ],
)
def test_a_test_goes_to_a_worker_with_what_it_prefers(
    workers: list[dict[str, float]], asked: dict[str, float] | None
) -> None:
    dask = Cluster(workers)
    node = Node("test a", print, prefers=("GPU_SM80", "GPU_SM86", "GPU"))
    Workers(dask, dask, "run1").submit(node, {})
    assert dask.submitted[0].get("resources") == asked


def test_tests_of_images_on_one_base_go_to_few_workers() -> None:
    """Their share of the tests is their share of those workers that can test."""
    dask = Cluster([{}] * 10 + [{"ENGINE": 1}] * 10)
    lane = Workers(dask, dask, "run1", {"torch": 0.3, "other": 0.7})
    for beside in ("torch", "torch", "other"):
        lane.submit(Node("test a", print, beside=beside), {})
    first, again, other = (set(options["workers"]) for options in dask.submitted)
    assert first == again != other
    assert (len(first), len(other)) == (3, 7)
    assert all(int(worker) >= 10 for worker in first | other)
    assert all(options["allow_other_workers"] for options in dask.submitted)


@given(st.sets(st.text(), min_size=2), st.text(), st.floats(0.01, 1))
def test_a_worker_that_goes_moves_only_what_it_had(workers: set[str], beside: str, share: float) -> None:
    chosen = few_of(sorted(workers), beside, share)
    assert 1 <= len(chosen) <= len(workers)
    gone = min(workers)
    left = few_of(sorted(workers - {gone}), beside, share)
    assert set(left) - set(chosen) <= workers - set(chosen)
    assert len(set(chosen) - set(left)) <= 1


def test_the_dashboard_shows_what_runs() -> None:
    dask = Cluster([])
    Workers(dask, dask, "run1").submit(Node("layer torch 2.9.1 0a1b", print, weight=float("inf")), {})
    (options,) = dask.submitted
    assert options["key"] == "layer-torch 2.9.1 0a1b run1"
    assert options["priority"] < float("inf")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1", "nonsense://x:1"])
def test_a_scheduler_that_is_not_there_is_told_with_what_to_do(address: str) -> None:
    with (
        Namespace.open("127.0.0.1:1/x") as namespace,
        pytest.raises(EnvironmentLack, match="no Dask scheduler") as told,
        cluster(address, namespace, Silent()),
    ):
        pytest.fail("connected")
    assert "make scheduler" in (told.value.fact("next") or "")


def test_what_dask_says_is_told_in_our_words() -> None:
    assert "has gone away" in explained(CancelledError()).problem
    worker: Any = SimpleNamespace(address="tcp://127.0.0.1:1")
    killed = explained(KilledWorker("layer-x", worker, 3))
    assert isinstance(killed, EnvironmentLack)
    assert "layer-x" in (killed.fact("found") or "")
    strangers = explained(RuntimeError("Error during deserialization of the task graph.\n..."))
    assert "make worker" in (strangers.fact("next") or "")
    error = BuildError("no")
    assert explained(error) is error
