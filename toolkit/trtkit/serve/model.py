"""What the served model takes. Every request is held against it before it meets others in a batch."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from trtkit.runners import Tensors
from trtkit.serve.refusal import Refusal
from trtkit.serve.tensors import dtype_of
from trtkit.sidecar import Preprocess
from trtkit.tensors import Profile, TensorSpec, shape_text

VERSION = "1"
"""Of the one model that a service has, as the KServe protocol asks for one."""


@dataclass(frozen=True)
class Model:
    """A model as the service sees it.

    platform: KServe's name of what runs it. max_batch: rows that one run takes at most; 1: requests are never
    joined, and each is of whatever shape the model takes.
    preprocess: how an image becomes its only input, None where images are not served. labels: of its classes.
    """

    name: str
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: Profile
    max_batch: int = 1
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()

    @property
    def joins(self) -> bool:
        """Whether requests are joined along their first dimension."""
        return self.max_batch > 1

    def rows(self, feeds: Tensors) -> int:
        """What `feeds` add to a batch."""
        return next(iter(feeds.values())).shape[0] if self.joins else 1

    def group(self, feeds: Tensors) -> Hashable:
        """Requests of the same group can be joined."""
        return tuple(feeds[spec.name].shape[1:] for spec in self.inputs) if self.joins else None


def batch_limit(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], profile: Profile, wanted: int
) -> int:
    """Rows of a batch: `wanted`, or fewer if the profile ends before; 1 where the first dimension of an input
    or output is fixed."""
    specs = (*inputs, *outputs)
    if not inputs or not all(spec.shape and spec.shape[0] == -1 for spec in specs):
        return 1
    return min([wanted, *(one.max[0] for one in profile.values())])


def check_feeds(model: Model, feeds: Tensors, *, finite: bool = True) -> None:
    """Let `feeds` pass only if the model can run them.

    Args:
        finite: NaN and infinity are refused: they give NaN for everything they touch.

    Raises:
        Refusal: with status 400: a name, type or shape is wrong, or a value is not finite.
    """
    known = {spec.name for spec in model.inputs}
    if feeds.keys() != known:
        missing, foreign = sorted(known - feeds.keys()), sorted(feeds.keys() - known)
        raise _wrong(
            model,
            "the inputs are not the model's",
            *([("missing", ", ".join(missing))] if missing else []),
            *([("unknown", ", ".join(foreign))] if foreign else []),
        )
    for spec in model.inputs:
        _check_shape(model, spec, feeds[spec.name].shape)
        if feeds[spec.name].dtype != dtype_of(spec.dtype):
            problem = f"the input {spec.name} is {feeds[spec.name].dtype}, not {spec.dtype}"
            raise _wrong(model, problem)
        if finite and feeds[spec.name].dtype.kind not in "biu" and not np.isfinite(feeds[spec.name]).all():
            raise _wrong(model, f"the input {spec.name} holds values that are NaN or infinite")
    if model.joins:
        _check_rows(model, feeds)


def _check_shape(model: Model, spec: TensorSpec, shape: tuple[int, ...]) -> None:
    if not spec.admits(shape):
        problem = f"the input {spec.name} is {shape_text(shape)}, not {shape_text(spec.shape)}"
        raise _wrong(model, problem)
    covered = model.profile.get(spec.name)
    if covered and not covered.covers(shape):
        raise _wrong(
            model,
            f"the input {spec.name} is {shape_text(shape)}: outside the optimisation profile",
            ("profile", f"{shape_text(covered.min)} to {shape_text(covered.max)}"),
        )


def _check_rows(model: Model, feeds: Tensors) -> None:
    rows = {name: tensor.shape[0] for name, tensor in feeds.items()}
    if len(set(rows.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise _wrong(model, "the inputs have different numbers of rows", ("rows", told))
    count = model.rows(feeds)
    if count > model.max_batch:
        raise _wrong(
            model,
            f"{count} rows are more than the {model.max_batch} of a batch",
            ("next", f"send them in parts of {model.max_batch}"),
        )
    if not count or not all(map(math.prod, (tensor.shape for tensor in feeds.values()))):
        raise _wrong(model, "there are no rows in this request")


def _wrong(model: Model, problem: str, *facts: tuple[str, str]) -> Refusal:
    facts = facts if any(label == "next" for label, _ in facts) else (*facts, ("next", "send what it takes"))
    return Refusal(400, problem, ("model", "; ".join(map(str, model.inputs))), *facts)
