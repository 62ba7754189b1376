"""Work as a graph: each node runs once, after what it needs, as many at a time as its lane is wide.

A node that fails takes with it what needs it, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from concurrent.futures import Future

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
    """

    key: str
    call: Callable[[Any, Found], Any]
    needs: tuple[str, ...] = ()
    lane: str = ""
    weight: float = 0


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
class Ended:
    """A node that is over.

    value: what its call returned. error: why there is none.
    culprit: the key of the node that failed: its own, or that of one it needed, and so it never ran.
    """

    node: Node
    value: Any = None
    error: Exception | None = None
    culprit: str = ""


def run_graph(nodes: Iterable[Node], lanes: Mapping[str, Lane], stop: Callable[[], None]) -> Generator[Ended]:
    """Run all nodes; each comes out as soon as it is over.

    Who does not take them all closes the iterator (`contextlib.closing`): then, and if waiting is
    interrupted, `stop` is called, which makes running work end at its next step, and nothing runs any more
    when this returns.

    Raises:
        ValueError: two nodes have one key, a node needs one that is not there, or itself (CycleError).
    """
    run = _Run(nodes, lanes)
    try:
        while run.order.is_active():
            yield from run.start()
            if run.running:
                yield run.wait()
    finally:
        if run.running:
            stop()
            for future in tuple(run.running):
                future.cancel()
            while run.running:
                run.running.pop(run.over.get())


class _Run:
    """A run of a graph.

    ready: lane -> its nodes that could start, as a heap. ended: what is over.
    over: futures as they end, in whichever thread.
    """

    def __init__(self, nodes: Iterable[Node], lanes: Mapping[str, Lane]) -> None:
        listed = list(nodes)
        self._nodes = {node.key: node for node in listed}
        self._lanes = lanes
        if len(self._nodes) != len(listed):
            raise ValueError("two nodes have the same key")
        if unknown := {need for node in listed for need in node.needs} - self._nodes.keys():
            raise ValueError(f"needed and not there: {', '.join(sorted(unknown))}")
        self.order = TopologicalSorter({node.key: node.needs for node in listed})
        self.order.prepare()
        self.running: dict[Future[Any], Node] = {}
        self.over: SimpleQueue[Future[Any]] = SimpleQueue()
        self._ready: dict[str, list[tuple[float, int, Node]]] = {name: [] for name in lanes}
        self._busy = dict.fromkeys(lanes, 0)
        self._ended: dict[str, Ended] = {}
        self._count = 0

    def start(self) -> Iterator[Ended]:
        """Submit what can start; what cannot any more is over."""
        while ready := self.order.get_ready():
            for node in map(self._nodes.__getitem__, ready):
                failed = next((self._ended[need] for need in node.needs if self._ended[need].error), None)
                if failed:
                    yield self._end(Ended(node, error=failed.error, culprit=failed.culprit))
                else:
                    self._count += 1
                    heappush(self._ready[node.lane], (-node.weight, self._count, node))
        for name, lane in self._lanes.items():
            while self._ready[name] and self._busy[name] < lane.width:
                _, _, node = heappop(self._ready[name])
                future = lane.submit(node, {need: self._ended[need].value for need in node.needs})
                self._busy[name] += 1
                self.running[future] = node
                future.add_done_callback(self.over.put)

    def wait(self) -> Ended:
        """What is over next."""
        future = self.over.get()
        node = self.running.pop(future)
        self._busy[node.lane] -= 1
        try:
            return self._end(Ended(node, future.result()))
        except Exception as error:
            return self._end(Ended(node, error=error, culprit=node.key))

    def _end(self, ended: Ended) -> Ended:
        self._ended[ended.node.key] = ended
        self.order.done(ended.node.key)
        return ended
