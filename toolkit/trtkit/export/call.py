"""How a model is called: which of its arguments are which inputs, of which shapes, and what is dynamic."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trtkit.errors import RequestError
from trtkit.export.options import DTYPES, ExportOptions
from trtkit.export.sources import Loaded
from trtkit.runners import random_feeds
from trtkit.tensors import Shape, TensorSpec, shape_text

Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Call:
    """How a model is called.

    examples: its inputs with the shapes of an example, in the order of the exported graph.
    values: of the examples, for those whose source brings some.
    axes: names of dynamic dimensions, by input and axis.
    positional: inputs that are arguments by position; keywords: by name, argument -> input.
    """

    examples: tuple[TensorSpec, ...]
    values: Mapping[str, NDArray[Any]]
    axes: Mapping[str, Mapping[int, str]]
    positional: tuple[str, ...]
    keywords: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, Shape]:
        return {spec.name: spec.shape for spec in self.examples}

    def sized(self, sizes: Mapping[str, int]) -> dict[str, Shape]:
        """The example's shapes, with dynamic dimensions of these names changed."""
        return {
            name: tuple(
                sizes.get(self.axes.get(name, {}).get(axis, ""), size) for axis, size in enumerate(shape)
            )
            for name, shape in self.shapes.items()
        }

    def batches(self) -> set[str]:
        """Names of the dynamic dimensions 0."""
        return {axes[0] for axes in self.axes.values() if 0 in axes}

    def feeds(self, shapes: Mapping[str, Shape]) -> Feeds:
        """Inputs of these `shapes`, the same in every run: random, or the example's values, moved about so
        that no two samples of a batch are alike."""
        feeds = random_feeds(self.examples, shapes)
        for name, value in self.values.items():
            shape = shapes[name]
            moved = np.resize(value, (shape[0], *value.shape[1:])) if shape and value.ndim else value
            for sample in range(1, shape[0] if shape else 0):
                moved[sample] = np.roll(moved[sample], sample)
            feeds[name] = np.resize(moved, shape)
        return feeds

    def arguments(
        self, feeds: Mapping[str, NDArray[Any]], device: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """`feeds` as the model's arguments, on `device`."""
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(feed)).to(device) for name, feed in feeds.items()
        }
        positional = tuple(tensors[name] for name in self.positional)
        return positional, {argument: tensors[name] for argument, name in self.keywords.items()}


def arrange(loaded: Loaded, options: ExportOptions) -> Call:
    """How `loaded` is called, from what is asked and what its source says.

    Raises:
        RequestError: nothing says which inputs it takes, or what says so does not fit the model.
    """
    if isinstance(loaded.model, torch.export.ExportedProgram):
        call = _of_program(loaded.model, options)
    elif options.inputs or loaded.examples is None:
        inputs = options.inputs or loaded.inputs
        if not inputs:
            known = ", ".join(_parameters(loaded.model)) or "none"
            raise RequestError(
                "nothing says what the model is called with",
                ("arguments", known),
                ("next", "give every input: --input NAME:1x3x224x224, with :int64 for other types"),
            )
        call = _bound(loaded.model, inputs, {})
    else:
        call = _of_examples(loaded)
    return _with_axes(call, options)


def _of_examples(loaded: Loaded) -> Call:
    assert loaded.examples is not None
    args, kwargs = loaded.examples
    parameters = _parameters(loaded.model)
    names = [parameters[i] if i < len(parameters) else f"input_{i}" for i in range(len(args))]
    tensors = dict(zip([*names, *kwargs], [*args, *kwargs.values()], strict=True))
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise RequestError(
                f"the example input {name!r} is a {type(tensor).__name__}, not a tensor",
                ("next", "wrap the model in an nn.Module that takes tensors only"),
            )
    values = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    specs = tuple(TensorSpec(name, str(value.dtype), value.shape) for name, value in values.items())
    return _bound(loaded.model, specs, values)


def _bound(model: Any, inputs: tuple[TensorSpec, ...], values: Mapping[str, NDArray[Any]]) -> Call:
    """By name where every input is called as an argument of the model, otherwise by position."""
    names = [spec.name for spec in inputs]
    if len(set(names)) < len(names):
        raise RequestError(
            f"two inputs have the same name: {', '.join(names)}", ("next", "give each its own")
        )
    for spec in inputs:
        if spec.dtype not in DTYPES:
            raise RequestError(
                f"the input {spec.name!r} is {spec.dtype}, which an exported model cannot take",
                ("next", f"use one of {', '.join(DTYPES)}; `trtkit build` lowers the precision"),
            )
    parameters = _parameters(model)
    if isinstance(model, torch.jit.ScriptModule):
        fits = len(names) <= len(parameters)
        positional = (
            tuple(sorted(names, key=parameters.index)) if set(names) <= set(parameters) else tuple(names)
        )
        keywords: dict[str, str] = {}
    else:
        signature = inspect.signature(model.forward)
        by_name = set(names) <= set(parameters)
        try:
            bound = signature.bind(**{name: name for name in names}) if by_name else signature.bind(*names)
        except TypeError:
            fits = False
        else:
            fits, positional, keywords = True, bound.args, bound.kwargs
    if not fits:
        raise RequestError(
            f"the model does not take {len(names)} inputs called {', '.join(names)}",
            ("arguments", ", ".join(parameters)),
            ("next", "give one --input for each argument that has no default"),
        )
    order = [*positional, *keywords.values()]
    return Call(
        tuple(sorted(inputs, key=lambda spec: order.index(spec.name))), values, {}, positional, keywords
    )


def _parameters(model: Any) -> list[str]:
    """Names of the arguments of the model's forward."""
    if isinstance(model, torch.jit.ScriptModule):
        return [argument.name for argument in model._c._get_method("forward").schema.arguments[1:]]
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, it in inspect.signature(model.forward).parameters.items() if it.kind in kinds]


def _of_program(program: Any, options: ExportOptions) -> Call:
    """An ExportedProgram says what it takes; an input may be given another name, and dynamic sizes."""
    from torch.utils import _pytree as pytree

    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    own = list(program.graph_signature.user_inputs)
    if options.inputs and len(options.inputs) != len(own):
        raise RequestError(
            f"the program takes {len(own)} inputs, not {len(options.inputs)}", ("arguments", ", ".join(own))
        )
    names = [spec.name for spec in options.inputs] or own
    args, kwargs = pytree.tree_unflatten(list(names), program.call_spec.in_spec)
    if not all(isinstance(name, str) for name in (*args, *kwargs.values())):
        raise RequestError(
            "the program takes tensors inside lists or dicts",
            ("next", "capture a module that takes tensors only"),
        )
    specs, axes = [], {}
    for index, name in enumerate(names):
        value = nodes[own[index]].meta["val"]
        dynamic = [axis for axis, size in enumerate(value.shape) if not isinstance(size, int)]
        # A hint is the size of the example it was captured with.
        shape = tuple(size if isinstance(size, int) else int(size.node.hint or 2) for size in value.shape)
        asked = options.inputs[index] if options.inputs else None
        spec = TensorSpec(name, str(value.dtype).removeprefix("torch."), shape)
        fixed = TensorSpec(name, spec.dtype, tuple(-1 if a in dynamic else s for a, s in enumerate(shape)))
        if asked is not None and not (asked.dtype == spec.dtype and fixed.admits(asked.shape)):
            raise RequestError(f"the program was captured for {fixed}, not for {asked}")
        specs.append(asked or spec)
        axes[name] = {axis: "batch" if axis == 0 else f"{name}_{axis}" for axis in dynamic}
    return Call(tuple(specs), {}, axes, tuple(args), kwargs)


def _with_axes(call: Call, options: ExportOptions) -> Call:
    """`call` with the dynamic dimensions that are asked for; those of a program are given already."""
    asked = options.dynamic
    for name, axes in (asked or {}).items():
        rank = len(call.shapes.get(name, ()))
        if name not in call.shapes or max(axes) >= rank:
            raise RequestError(
                f"there is no dimension {max(axes, default=0)} of an input {name!r}",
                ("inputs", ", ".join(map(str, call.examples))),
            )
    if call.axes:
        return _of_captured(call, asked)
    if asked is None:
        asked = {spec.name: {0: "batch"} for spec in call.examples if spec.shape}
    return replace(call, axes=asked)


def _of_captured(call: Call, asked: Mapping[str, Mapping[int, str]] | None) -> Call:
    """A program's dynamic dimensions were settled when it was captured; they can be named."""
    wanted = {name: {0} for name, shape in call.shapes.items() if shape} if asked is None else asked
    for name, axes in wanted.items():
        if missing := sorted(set(axes) - set(call.axes[name])):
            raise RequestError(
                f"the program was captured with dimension {missing[0]} of {name!r} fixed at"
                f" {call.shapes[name][missing[0]]} ({shape_text(call.shapes[name])})",
                ("next", "capture it again: torch.export.export(..., dynamic_shapes="
                 f"{{{name!r}: {{{missing[0]}: Dim.DYNAMIC}}}})"),
                ("or", "--static, for an ONNX file with what the program has"),
            )  # fmt: skip
    named = {name: {**axes, **(asked or {}).get(name, {})} for name, axes in call.axes.items()}
    return replace(call, axes=named)
