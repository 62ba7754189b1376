"""Work as a graph: each node runs once, after what it needs, as many at a time as its lane is wide.

A node that fails takes with it what needs it, and nothing else.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from trtforge.errors import as_forge_error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from trtforge.errors import ForgeError

    Found = Mapping[str, Any]


@dataclass(frozen=True)
class Node:
    """One piece of work.

    key: its name, which people see too.
    call: the work: takes what the lane gives it and the values of what it needs, by key; where nodes run in
        other processes, a `partial` of a module's function with plain arguments.
    needs: keys of the nodes that come before it.
    lane: where it runs.
    weight: of the nodes that a lane could start, it starts the heaviest.
    prefers: things that some places may have and others not; the first that is to be had decides where.
    beside: nodes that say the same here use the same large things, and had better run at few places.
    """

    key: str
    call: Callable[[Any, Found], Any]
    needs: tuple[str, ...] = ()
    lane: str = ""
    weight: float = 0
    prefers: tuple[str, ...] = ()
    beside: str = ""


class Lane(Protocol):
    """Where nodes run, on a `concurrent.futures.Executor`."""

    @property
    def width(self) -> float:
        """How many nodes it takes at a time."""
        ...

    def submit(self, node: Node, found: Found) -> Future[Any]:
        """Have `node` run; `found` has the values of what it needs."""
        ...


@dataclass(frozen=True)
class Threads:
    """A lane of this process.

    pool: as wide as the lane, so that a node that waits is one that can still be left out.
    place: what its nodes are given.
    """

    pool: ThreadPoolExecutor
    width: int
    place: Any

    def submit(self, node: Node, found: Found) -> Future[Any]:
        """Have `node` run in a thread."""
        return self.pool.submit(node.call, self.place, found)


@dataclass(frozen=True)
class Site:
    """Where a graph can run.

    lanes: by name. stop: makes running work end at its next step. explain: what a node's error means there.
    """

    lanes: Mapping[str, Lane]
    stop: Callable[[], None]
    explain: Callable[[Exception], ForgeError] = as_forge_error


@contextmanager
def threads(place: Any, stop: Callable[[], None], **widths: int) -> Iterator[Site]:
    """This process, with a lane of threads for each name, so wide."""
    with ExitStack() as stack:
        lanes: dict[str, Lane] = {
            name: Threads(stack.enter_context(ThreadPoolExecutor(width, name)), width, place)
            for name, width in widths.items()
        }
        yield Site(lanes, stop)


@dataclass(frozen=True)
class Ended:
    """A node that is over.

    value: what its call returned. error: why there is none.
    culprit: the key of the node that failed: its own, or that of one it needed, and so it never ran.
    """

    node: Node
    value: Any = None
    error: Exception | None = None
    culprit: str = ""


def run_graph(nodes: Iterable[Node], site: Site) -> Generator[Ended]:
    """Run all nodes; each comes out as soon as it is over, and the others go on meanwhile.

    Who does not take them all closes the iterator (`contextlib.closing`): then, and if waiting is
    interrupted, the site is told to stop, and nothing runs here any more when this returns.

    Raises:
        ValueError: two nodes have one key, a node needs one that is not there, or itself (CycleError).
    """
    run = _Run(nodes, site)
    thread = Thread(target=run.go, name="graph")
    thread.start()
    try:
        while (ended := run.out.get()) is not None:
            if isinstance(ended, BaseException):
                raise ended
            yield ended
    finally:
        run.over.put(None)
        thread.join()


class _Run:
    """A run of a graph, in a thread of its own.

    out: what is over, for who waits for it; what broke the run; at last None.
    over: futures as they end, in whichever thread; None: nobody wants the rest.
    """

    def __init__(self, nodes: Iterable[Node], site: Site) -> None:
        listed = list(nodes)
        self._nodes = {node.key: node for node in listed}
        self._site = site
        if len(self._nodes) != len(listed):
            raise ValueError("two nodes have the same key")
        self._dependants: dict[str, list[Node]] = {node.key: [] for node in listed}
        for node in listed:
            for need in node.needs:
                if need not in self._nodes:
                    raise ValueError(f"{node.key} needs {need}, which is not there")
                self._dependants[need].append(node)
        self._order = TopologicalSorter({node.key: node.needs for node in listed})
        self._order.prepare()
        self.out: SimpleQueue[Ended | BaseException | None] = SimpleQueue()
        self.over: SimpleQueue[Future[Any] | None] = SimpleQueue()
        self._running: dict[Future[Any], Node] = {}
        self._ready: dict[str, list[tuple[float, int, Node]]] = {name: [] for name in site.lanes}
        self._busy = dict.fromkeys(site.lanes, 0)
        self._ended: dict[str, Ended] = {}
        self._count = 0

    def go(self) -> None:
        """Run everything, or until nobody wants the rest."""
        try:
            while self._order.is_active():
                self._start()
                if self._running:
                    if (future := self.over.get()) is None:
                        break
                    self._finish(future)
        except BaseException as error:
            self.out.put(error)
        finally:
            if self._running:
                self._site.stop()
                for future in tuple(self._running):
                    future.cancel()
                while self._running:
                    if future := self.over.get():
                        del self._running[future]
            self.out.put(None)

    def _start(self) -> None:
        """Submit what can start."""
        while ready := self._order.get_ready():
            for node in map(self._nodes.__getitem__, ready):
                if node.key in self._ended:  # it failed with one that it needed
                    self._order.done(node.key)
                else:
                    self._count += 1
                    heappush(self._ready[node.lane], (-node.weight, self._count, node))
        for name, lane in self._site.lanes.items():
            while self._ready[name] and self._busy[name] < lane.width:
                _, _, node = heappop(self._ready[name])
                future = lane.submit(node, {need: self._ended[need].value for need in node.needs})
                self._busy[name] += 1
                self._running[future] = node
                future.add_done_callback(self.over.put)

    def _finish(self, future: Future[Any]) -> None:
        """A node is over; with one that failed all that needed it."""
        node = self._running.pop(future)
        self._busy[node.lane] -= 1
        self._order.done(node.key)
        try:
            self._tell(Ended(node, future.result()))
        except Exception as error:
            self._fail(node, error)

    def _fail(self, culprit: Node, error: Exception) -> None:
        self._tell(Ended(culprit, error=error, culprit=culprit.key))
        needed = [culprit.key]
        for key in needed:
            for node in self._dependants[key]:
                if node.key not in self._ended:
                    needed.append(node.key)
                    self._tell(Ended(node, error=error, culprit=culprit.key))

    def _tell(self, ended: Ended) -> None:
        self._ended[ended.node.key] = ended
        self.out.put(ended)
