"""The first layer that goes wrong: intermediate tensors of a subject against the reference's.

Nodes inside a subgraph (If, Loop, Scan) are one layer with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray

from trtkit.onnx_graph import in_order, outputs_of
from trtkit.runners import Tensors
from trtkit.verify.alignment import align
from trtkit.verify.comparison import Comparison, compare
from trtkit.verify.hint import hint
from trtkit.verify.marked import groups, runs_in_half, tensor_bytes, tensors_of, with_barriers
from trtkit.verify.pathology import numeric
from trtkit.verify.statistics import Statistics, statistics
from trtkit.verify.tolerance import Tolerance

Values = Callable[[Sequence[str]], Mapping[str, NDArray[Any]]]
"""Tensors of the subject by name; what it cannot give out is not in the answer."""

MEMORY = 2 * 1024**3
"""Bytes of intermediate tensors that are held at once, subject's and reference's together."""


@dataclass(frozen=True)
class Operand:
    """A tensor that a layer is fed with, or makes. tensor: its name in the subject; reference: of the same
    tensor there, None where it has no partner; why: how the two differ, "" where they do not."""

    tensor: str
    weight: bool
    subject: Statistics
    reference: Statistics | None
    why: str


@dataclass(frozen=True)
class BadLayer:
    """The first layer that goes wrong.

    node, op: its name and operator; tensor: the output that shows it. unseen: the layers before it that could
        not be compared, and so may be where it really started. hint: what it looks like, and what to try.
    """

    node: str
    op: str
    tensor: str
    comparison: Comparison
    output: Operand
    inputs: tuple[Operand, ...]
    unseen: tuple[str, ...]
    hint: str


@dataclass(frozen=True)
class Bisection:
    """How far the subject went with the reference.

    layers: how many it has; compared: how many of them could be compared. first: None where none goes wrong.
    """

    layers: int
    compared: int
    first: BadLayer | None


def bisect(
    subject: onnx.ModelProto,
    reference: onnx.ModelProto,
    feeds: Tensors,
    tolerance: Tolerance,
    *,
    values: Values | None = None,
    memory: int = MEMORY,
) -> Bisection:
    """Find the first layer of `subject`, in topological order, whose output leaves `tolerance` or is not a
    number; or, where none does and an output is one number everywhere, the layer that made it so.

    Args:
        feeds: of the reference's inputs; floats are cast to what the subject takes.
        values: who computes the subject's tensors; ONNX Runtime where None.
        memory: bytes of tensors held at once; more are computed in several runs.

    Raises:
        WorkFailed: one of them cannot be run.
    """
    search = _Search(subject, reference, feeds, tolerance, values, memory)
    first = search.out_of_tolerance() or search.where_constant()
    return Bisection(len(search.nodes), search.compared, first)


class _Search:
    def __init__(
        self,
        subject: onnx.ModelProto,
        reference: onnx.ModelProto,
        feeds: Tensors,
        tolerance: Tolerance,
        values: Values | None,
        memory: int,
    ) -> None:
        self.graph = subject.graph
        self.nodes = in_order(subject.graph)
        self.partners = align(subject.graph, reference.graph)
        self.weights = {one.name: one for one in subject.graph.initializer}
        self.reference_weights = {one.name: one for one in reference.graph.initializer}
        self.reference = reference
        self.feeds = feeds
        self.tolerance = tolerance
        self.runnable = with_barriers(subject) if runs_in_half(subject) else subject
        self.values: Values = values or (lambda names: tensors_of(self.runnable, self.feeds, names))
        self.memory = memory
        self.compared = 0
        self.makers = {name: node for node in self.nodes for name in outputs_of(node)}
        shapes = {name: value.shape for name, value in feeds.items()}
        self.sizes = tensor_bytes(subject, shapes)
        self.batch = next((shape[0] for shape in shapes.values() if shape), 0)

    def out_of_tolerance(self) -> BadLayer | None:
        """The first whose output leaves tolerance; counts what it compares."""
        seen: set[str] = set()
        for group in groups(
            (name for name in self.makers if name in self.sizes), self.sizes, self.memory // 2
        ):
            ours, theirs = self.both(group)
            for name in group:
                if name not in ours:
                    continue
                partner = theirs.get(name)
                if partner is not None and numeric(ours[name]) == numeric(partner):
                    seen.add(name)
                    self.compared = len({id(self.makers[one]) for one in seen})
                else:
                    partner = ours[name]  # a NaN shows without a reference
                comparison = compare(ours[name], partner, self.tolerance)
                if not comparison.within:
                    return self.bad_layer(self.makers[name], name, comparison, seen)
        return None

    def where_constant(self) -> BadLayer | None:
        """Where an output that is one number everywhere became so: the layer fed with none that is."""
        for output in self.graph.output:
            name: str | None = output.name
            found: tuple[onnx.NodeProto, str] | None = None
            while name is not None and name in self.makers and self.constant(name):
                found = self.makers[name], name
                name = next(
                    (one for one in found[0].input if one in self.makers and self.constant(one)), None
                )
            if found:
                ours, theirs = self.both([found[1]])
                value = ours[found[1]]
                comparison = compare(value, theirs.get(found[1], value), self.tolerance)
                return self.bad_layer(*found, comparison, set(self.makers))
        return None

    def constant(self, name: str) -> bool:
        value = self.values([name]).get(name)
        return (
            value is not None and numeric(value) and value.size > 1 and bool((value == value.flat[0]).all())
        )

    def both(self, names: Sequence[str]) -> tuple[Mapping[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """The subject's tensors, and the reference's under the subject's names."""
        ours = self.values(names)
        wanted = sorted({self.partners[name] for name in names if name in self.partners} - set(self.feeds))
        theirs = self.of_reference(wanted)
        return ours, {
            name: theirs[self.partners[name]] for name in names if self.partners.get(name) in theirs
        }

    def of_reference(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        made = [name for name in names if name not in self.reference_weights]
        found = tensors_of(self.reference, self.feeds, made) if made else {}
        found.update(self.feeds)
        for name in names:
            if name in self.reference_weights:
                found[name] = onnx.numpy_helper.to_array(self.reference_weights[name])
        return found

    def bad_layer(self, node: onnx.NodeProto, name: str, comparison: Comparison, seen: set[str]) -> BadLayer:
        fed = [one for one in dict.fromkeys(node.input) if one]
        inputs = tuple(filter(None, map(self.operand, fed)))
        output = self.operand(name)
        assert output is not None
        unseen = tuple(self.label(one) for one in self.before(node, seen))
        return BadLayer(
            self.label(node), node.op_type, name, comparison, output, inputs, unseen,
            hint(node.op_type, output, inputs, comparison),
        )  # fmt: skip

    def before(self, node: onnx.NodeProto, seen: set[str]) -> list[onnx.NodeProto]:
        """The layers that feed it without one between that was compared, nearest first."""
        found: list[onnx.NodeProto] = []
        waiting = [one for one in node.input if one in self.makers and one not in seen]
        while waiting:
            maker = self.makers[waiting.pop(0)]
            if maker not in found:
                found.append(maker)
                waiting += [one for one in maker.input if one in self.makers and one not in seen]
        return found

    def operand(self, name: str) -> Operand | None:
        """None for a tensor that the subject does not give out."""
        partner = self.partners.get(name)
        theirs = self.of_reference([partner]).get(partner) if partner is not None else None
        ours: NDArray[Any] | None
        if name in self.weights:
            ours = onnx.numpy_helper.to_array(self.weights[name])
        elif name in self.feeds:
            ours = self.feeds[name]
        else:
            ours = self.values([name]).get(name)
        if ours is None:
            return None
        comparable = theirs is not None and numeric(ours) == numeric(theirs)
        return Operand(
            tensor=name,
            weight=name in self.weights or self.from_weights(name),
            subject=statistics(ours),
            reference=statistics(theirs) if theirs is not None else None,
            why=compare(ours, theirs, self.tolerance).why if comparable and theirs is not None else "",
        )

    def from_weights(self, name: str) -> bool:
        maker = self.makers.get(name)
        return maker is not None and all(
            one in self.weights or self.from_weights(one) for one in maker.input if one
        )

    def label(self, node: onnx.NodeProto) -> str:
        return node.name or f"{node.op_type} of {next(outputs_of(node))}"
