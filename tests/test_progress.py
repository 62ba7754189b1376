from __future__ import annotations

import io

import pytest
from rich.console import Console

from trtforge.production.graph import Node
from trtforge.production.tally import Tally
from trtforge.progress import Lines, Silent, Stoppable, Stopped, progress_on


def console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def said(where: Console) -> str:
    assert isinstance(where.file, io.StringIO)
    return where.file.getvalue()


NODES = [
    Node(key, lambda *_: None)
    for key in ("wheels for Python 3.11", "layer a", "layer b", "image x", "test x")
]


def test_a_log_is_told_now_and_then_how_far_all_is() -> None:
    where = console()
    tally = Tally(Lines(where, every_s=0), NODES)
    for node in NODES[:3]:
        tally.count(node)
    assert said(where).splitlines() == [
        "images 0/1, layers 0/2, tests 0/1",
        "images 0/1, layers 1/2, tests 0/1",
        "images 0/1, layers 2/2, tests 0/1",
    ]


def test_a_log_is_not_flooded() -> None:
    where = console()
    tally = Tally(Lines(where), NODES)
    for node in NODES:
        tally.count(node)
    assert said(where) == ""


def test_a_terminal_shows_one_bar_for_all_beside_those_of_tasks() -> None:
    where = console(terminal=True)
    with progress_on(where, silent=False) as progress:
        Tally(progress, NODES).count(NODES[0])
        with progress.task("layer a", 100) as advance:
            advance(50)
    assert "images 0/1, layers 0/2, tests 0/1" in said(where)
    assert "layer a" in said(where)


def test_stopped_work_ends_at_its_next_step() -> None:
    progress = Stoppable(Silent())
    with progress.task("a") as advance:
        advance(1)
        progress.stop()
        with pytest.raises(Stopped):
            advance(1)
    with pytest.raises(Stopped), progress.task("b"):
        pytest.fail("begun")
