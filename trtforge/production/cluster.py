"""Nodes of a graph on the workers of a Dask cluster.

Workers need no common disk: each has a store of its own, and the registry is the one that they share. What a
worker finished is in the registry; of a worker that dies only what ran just then is begun anew, elsewhere.

Sources: distributed's documentation: resources, worker plugins, resilience.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import socket
import uuid
from collections import Counter
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client, KilledWorker, WorkerPlugin, get_worker
from distributed.comm.addressing import get_address_host_port

from trtforge.errors import EnvironmentLack, ForgeError, as_forge_error
from trtforge.production.graph import Site, Threads
from trtforge.production.staging import SharedPlace
from trtforge.progress import Silent, Stoppable
from trtforge.registry.namespace import Namespace
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from distributed import Worker

    from trtforge.production.graph import Lane, Node
    from trtforge.progress import Progress
    from trtforge.registry.access import Access

ENGINE = "ENGINE"
"""The resource of workers that can test images: those with a Docker Engine, or that may start one."""

HEAVIEST = 1e12
"""Priority of the heaviest nodes, which Dask cannot have infinite."""

PATIENCE_S = 30
"""Seconds in which a scheduler must answer, and have a worker."""


@contextmanager
def cluster(
    scheduler: str, namespace: Namespace, progress: Progress, nodes: Sequence[Node] = ()
) -> Iterator[Site]:
    """The workers of the cluster at `scheduler` ("tcp://host:8786") as a place for the graph of `nodes`.

    Raises:
        EnvironmentLack: there is no such scheduler, or it has no workers.
    """
    run = uuid.uuid4().hex[:8]
    with _connected(scheduler) as client, ThreadPoolExecutor(1, "here") as pool:
        progress.note(f"Dask's dashboard: {client.dashboard_link}")
        try:
            client.register_plugin(Places(str(namespace), namespace.access), run)
        except Exception as error:  # whatever a worker said, as text
            raise _strangers(error) from error

        def stop() -> None:
            with suppress(OSError):  # the scheduler has gone away, and who waits is told so
                client.unregister_worker_plugin(run)

        counts = Counter(node.beside for node in nodes if node.beside)
        shares = {beside: count / counts.total() for beside, count in counts.items()}
        there = Workers(client, client.get_executor(pure=False), run, shares)
        try:
            lanes: dict[str, Lane] = dict.fromkeys(("layer", "image", "test"), there)
            yield Site(lanes | {"here": Threads(pool, 1, None)}, stop, explained)
        finally:
            stop()


@contextmanager
def _connected(scheduler: str) -> Iterator[Any]:
    client: Any  # half of it has no types
    for name in ("distributed", "distributed.client"):  # what goes wrong is told in our way
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        # Asked here first: a client that finds nobody says so in its own way, even at exit.
        socket.create_connection(get_address_host_port(scheduler), PATIENCE_S).close()
        client = Client(  # type: ignore[no-untyped-call]
            scheduler, timeout=PATIENCE_S, set_as_default=False
        )
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        raise EnvironmentLack(
            f"no Dask scheduler answers at {scheduler}",
            ("found", str(error)),
            ("next", "start one: make scheduler; it says its address, tcp://... (docs/scale.md)"),
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE_S)
        except TimeoutError as error:
            raise EnvironmentLack(
                f"the Dask scheduler at {scheduler} has no workers",
                ("next", f"start some: make worker SCHEDULER={scheduler} (docs/scale.md)"),
            ) from error
        yield client


def _strangers(error: Exception) -> EnvironmentLack:
    return EnvironmentLack(
        "the Dask cluster does not know trtforge, or not this version of it",
        ("found", str(error).strip().splitlines()[0]),
        ("next", "start its scheduler and workers by `make scheduler` and `make worker` (docs/scale.md)"),
    )


class Places(WorkerPlugin):
    """Gives each worker, while a run goes on, a place to work at."""

    def __init__(self, namespace: str, access: Access) -> None:
        self.namespace, self.access = namespace, access

    def setup(self, worker: Worker) -> None:
        """The worker's store is in $TRTFORGE_CACHE there, or else in the worker's own folder."""
        cache = Path(os.environ.get("TRTFORGE_CACHE") or Path(worker.local_directory, "trtforge")).absolute()
        store = Store(cache / "store")
        store.sweep()
        self.progress = Stoppable(Silent())
        namespace = Namespace.open(self.namespace, self.access)
        jobs = max((os.cpu_count() or 1) // worker.state.nthreads, 1)
        self.place = SharedPlace(store, self.progress, jobs, namespace, cache)

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """What still runs ends at its next step."""
        self.progress.stop()
        await asyncio.to_thread(self.place.close)
        self.place.namespace.__exit__(None, None, None)


@dataclass(frozen=True)
class Workers:
    """A lane of all workers. Dask's scheduler holds what waits; the dashboard shows nodes by their names.

    shares: what nodes had better run beside -> their share of all such nodes, and so of the workers.
    """

    client: Any
    executor: Any
    run: str
    shares: Mapping[str, float] = field(default_factory=dict)
    width: float = math.inf

    def submit(self, node: Node, found: Mapping[str, Any]) -> Future[Any]:
        """Have `node` run on a worker that has what it prefers, or else on any."""
        kind, _, name = node.key.partition(" ")
        future: Future[Any] = self.executor.submit(
            _work,
            self.run,
            node.call,
            dict(found),
            key=f"{kind}-{name} {self.run}",  # Dask groups by what is before the first hyphen
            priority=min(node.weight, HEAVIEST),
            **self._where(node),
        )
        return future

    def _where(self, node: Node) -> dict[str, Any]:
        """What to say of the workers that suit `node`."""
        if not node.prefers and not node.beside:
            return {}
        known = self.client.scheduler_info()["workers"]
        there = {address: worker["resources"].keys() for address, worker in known.items()}
        wanted: list[str] = []
        for names in ((ENGINE,), node.prefers):
            having = [(name, [address for address in there if name in there[address]]) for name in names]
            if found := next(((name, addresses) for name, addresses in having if addresses), None):
                wanted.append(found[0])
                there = {address: there[address] for address in found[1]}
        few = few_of(list(there), node.beside, self.shares.get(node.beside, 1))
        where: dict[str, Any] = {"resources": dict.fromkeys(wanted, 1.0)} if wanted else {}
        return where | ({"workers": few, "allow_other_workers": True} if len(few) < len(there) else {})


def few_of(workers: Sequence[str], beside: str, share: float) -> list[str]:
    """That `share` of `workers` which is the same for all that say `beside`, whoever else comes or goes
    (rendezvous hashing)."""
    order = sorted(workers, key=lambda worker: hashlib.sha256(f"{beside} {worker}".encode()).digest())
    return order[: math.ceil(len(order) * share)]


def explained(error: Exception) -> ForgeError:
    """What a node's `error` means where it ran on a cluster."""
    if isinstance(error, KilledWorker):
        return EnvironmentLack(
            "Dask's workers died of this again and again",
            ("found", str(error)),
            ("next", "see their logs; most often memory or disk ran out: fewer threads a worker, more room"),
        )
    if isinstance(error, CancelledError):
        return EnvironmentLack(
            "the Dask scheduler has gone away",
            ("next", "start it again, and run the same command: what is finished is in the registry"),
        )
    if isinstance(error, RuntimeError) and "deserialization" in str(error):
        return _strangers(error)
    return as_forge_error(error)


def _work(run: str, call: Callable[[Any, Mapping[str, Any]], Any], found: Mapping[str, Any]) -> Any:
    """A node, on a worker."""
    places: Any = get_worker().plugins[run]
    return call(places.place, found)
