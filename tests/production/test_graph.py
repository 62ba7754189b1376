from __future__ import annotations

import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from graphlib import CycleError
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtforge.production.graph import Ended, Node, Site, run_graph, threads
from trtforge.progress import Silent, Stoppable, Stopped

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence


@dataclass
class Pool:
    """A lane of threads that sees how many of its nodes run at a time."""

    pool: ThreadPoolExecutor
    width: int
    place: Any = None
    most: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def submit(self, node: Node, found: Mapping[str, Any]) -> Future[Any]:
        return self.pool.submit(self._run, node, found)

    def _run(self, node: Node, found: Mapping[str, Any]) -> Any:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            return node.call(self.place, found)
        finally:
            with self.lock:
                self.now -= 1


def run(nodes: Sequence[Node], width: int = 2) -> list[Ended]:
    with ExitStack() as stack:
        names = {node.lane for node in nodes}
        lanes = {name: Pool(stack.enter_context(ThreadPoolExecutor(width)), width) for name in names}
        ended = list(run_graph(nodes, Site(lanes, lambda: pytest.fail("stopped"))))
        assert all(lane.most <= width for lane in lanes.values())
    return ended


class Refused(Exception):
    pass


@dataclass(frozen=True)
class Plan:
    """A graph: key -> what it needs; the nodes that fail when they run."""

    needs: dict[str, tuple[str, ...]]
    failing: frozenset[str]
    lanes: dict[str, str]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    keys = [f"n{number}" for number in range(draw(st.integers(0, 12)))]
    needs = {
        key: tuple(draw(st.lists(st.sampled_from(keys[:index]), unique=True, max_size=3)) if index else ())
        for index, key in enumerate(keys)
    }
    failing = draw(st.sets(st.sampled_from(keys))) if keys else set()
    lanes = {key: draw(st.sampled_from(["left", "right"])) for key in keys}
    return Plan(needs, frozenset(failing), lanes)


@given(plans(), st.integers(1, 4), st.randoms())
def test_a_node_runs_once_after_its_needs_and_exactly_the_dependants_of_failures_do_not(
    plan: Plan, width: int, random: Any
) -> None:
    ran: list[str] = []

    def work(key: str, _place: object, found: Mapping[str, Any]) -> str:
        assert found == {need: f"{need} done" for need in plan.needs[key]}
        ran.append(key)
        if key in plan.failing:
            raise Refused(key)
        return f"{key} done"

    nodes = [
        Node(key, partial(work, key), needs, plan.lanes[key], random.random())
        for key, needs in plan.needs.items()
    ]
    random.shuffle(nodes)
    ended = {one.node.key: one for one in run(nodes, width)}

    doomed: set[str] = set()  # keys come after their needs
    for key, needs in plan.needs.items():
        if any(need in plan.failing or need in doomed for need in needs):
            doomed.add(key)
    assert sorted(ran) == sorted(plan.needs.keys() - doomed)
    assert ended.keys() == plan.needs.keys()
    for key, one in ended.items():
        if key in doomed or key in plan.failing:
            assert str(one.error) == one.culprit
            assert one.culprit in plan.failing - doomed
            assert key in doomed or one.culprit == key
        else:
            assert (one.value, one.error) == (f"{key} done", None)


def test_what_ends_comes_out_at_once() -> None:
    late = threading.Event()
    nodes = [Node("late", lambda *_: late.wait(10)), Node("early", lambda *_: "here")]
    with threads(None, lambda: None, **{"": 2}) as site:
        ended = run_graph(nodes, site)
        assert next(ended).node.key == "early"
        late.set()
        assert next(ended).value is True


def test_what_needs_a_failed_node_is_over_with_it() -> None:
    late = threading.Event()

    def refuse(*_arguments: object) -> None:
        raise Refused

    nodes = [
        Node("late", lambda *_: late.wait(10)),
        Node("bad", refuse),
        Node("both", lambda *_: pytest.fail("ran"), ("late", "bad")),
        Node("last", lambda *_: pytest.fail("ran"), ("both",)),
    ]
    with threads(None, lambda: None, **{"": 2}) as site:
        ended = run_graph(nodes, site)
        assert [next(ended).node.key for _ in range(3)] == ["bad", "both", "last"]
        late.set()
        assert [one.node.key for one in ended] == ["late"]


def test_the_heaviest_comes_first() -> None:
    weights = {"light": 1, "heavy": 3, "middle": 2}
    ended = run([Node(key, lambda *_: None, weight=weight) for key, weight in weights.items()], width=1)
    assert [one.node.key for one in ended] == ["heavy", "middle", "light"]


@pytest.mark.parametrize(
    ("nodes", "trouble"),
    [
        ([Node("a", min), Node("a", min)], "same key"),
        ([Node("a", min, ("b",))], "a needs b"),
        ([Node("a", min, ("b",)), Node("b", min, ("a",))], "cycle"),
    ],
)
def test_what_is_no_graph_is_refused(nodes: list[Node], trouble: str) -> None:
    with pytest.raises(ValueError, match=trouble) as told:
        run(nodes)
    assert isinstance(told.value, CycleError) == (trouble == "cycle")


@dataclass
class Bench:
    """Two nodes that go on in small steps for ten seconds."""

    progress: Stoppable = field(default_factory=lambda: Stoppable(Silent()))
    begun: threading.Barrier = field(default_factory=lambda: threading.Barrier(3))
    left: list[str] = field(default_factory=list)

    def work(self, key: str, place: Stoppable, _found: object) -> None:
        with place.task(key) as advance:
            self.begun.wait(10)
            try:
                for _ in range(1000):
                    threading.Event().wait(0.01)
                    advance(1)
            except Stopped:
                self.left.append(key)
                raise

    def ended(self, pool: ThreadPoolExecutor) -> Generator[Ended]:
        """ "first" is over at once, the others when they are stopped."""
        nodes = [Node(key, partial(self.work, key)) for key in ("a", "b")]
        nodes += [Node("first", lambda *_: None), Node("never", lambda *_: pytest.fail("ran"), ("a",))]
        return run_graph(nodes, Site({"": Pool(pool, 3, self.progress)}, self.progress.stop))


def test_work_ends_at_its_next_step_when_nobody_wants_the_rest() -> None:
    bench = Bench()
    with ThreadPoolExecutor(3) as pool, closing(bench.ended(pool)) as ended:
        assert next(ended).node.key == "first"
        bench.begun.wait(10)
        ended.close()
        assert sorted(bench.left) == ["a", "b"]


def test_an_interrupt_while_waiting_ends_the_work() -> None:
    bench = Bench()

    def press() -> None:
        bench.begun.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with ThreadPoolExecutor(3) as pool:
        ended = bench.ended(pool)
        next(ended)
        threading.Timer(0.2, press).start()
        with pytest.raises(KeyboardInterrupt):
            next(ended)
        assert sorted(bench.left) == ["a", "b"]


def test_nodes_go_on_while_nobody_looks() -> None:
    last = threading.Event()
    nodes = [Node("first", lambda *_: None), Node("then", lambda *_: None, ("first",))]
    nodes.append(Node("last", lambda *_: last.set(), ("then",)))
    with threads(None, lambda: None, **{"": 1}) as site:
        ended = run_graph(nodes, site)
        assert next(ended).node.key == "first"
        assert last.wait(10)
        assert [one.node.key for one in ended] == ["then", "last"]


def test_a_lane_that_breaks_breaks_the_run() -> None:
    class Broken:
        width = 1

        def submit(self, _node: Node, _found: object) -> Future[Any]:
            raise Refused

    with pytest.raises(Refused):
        next(run_graph([Node("a", min)], Site({"": Broken()}, lambda: None)))
