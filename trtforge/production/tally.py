"""How far a graph is, in one line: "images 12/48, layers 30/61"."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trtforge.production.graph import Node
    from trtforge.progress import Progress

KINDS = {"image": "images", "layer": "layers", "test": "tests"}
"""The first word of a node's key -> what such nodes are called together; of others nothing is said."""


class Tally:
    """Counts the nodes that are over, and shows it."""

    def __init__(self, progress: Progress, nodes: Iterable[Node]) -> None:
        self._progress = progress
        self._all = Counter(map(_kind, nodes))
        self._over: Counter[str] = Counter()

    def count(self, node: Node) -> None:
        """`node` is over."""
        self._over[_kind(node)] += 1
        told = [
            f"{name} {self._over[kind]}/{self._all[kind]}" for kind, name in KINDS.items() if self._all[kind]
        ]
        self._progress.overall(", ".join(told), self._over.total(), self._all.total())


def _kind(node: Node) -> str:
    return node.key.partition(" ")[0]
