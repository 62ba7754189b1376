"""An operator that has no ONNX counterpart: which one, in which module, on which line, and the ways out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from trtkit.errors import WorkFailed


class UnsupportedOperator(WorkFailed):
    """The model holds an operator that cannot be written in the opset that was asked for.

    operator: as PyTorch calls it ("torchvision::deform_conv2d"), or as ONNX does ("DeformConv").
    module: the path of the nn.Module it is in ("backbone.layer1.0"), "" for the model itself.
    line: "model.py:12 in forward: y = op(x)"; None where the model does not say.
    opset: the first opset that has it, None where none is known to have it.
    """

    def __init__(self, operator: str, module: str, line: str | None, asked: int, opset: int | None) -> None:
        self.operator = operator
        self.module = module
        self.line = line
        self.opset = opset
        super().__init__(
            f"ONNX opset {asked} has nothing for the operator {operator}",
            ("operator", operator),
            ("module", module or "the model itself"),
            *([("line", line)] if line else []),
            *([("next", f"--opset {opset}, the first that has it")] if opset else []),
            ("or" if opset else "next", "write this part of the model with operators that ONNX has"),
            ("or", "--translate FILE.py:TABLE, a dict with its translation to ONNX operators"),
        )


def in_program(program: Any, target: str) -> tuple[str, str | None]:
    """Where an ExportedProgram calls `target` ("aten._linalg_svd.default"): module path and source line.

    What a decomposition made is looked for in the decomposed program.
    """
    for candidate in (lambda: program, program.run_decompositions):
        for node in candidate().graph.nodes:
            if node.op == "call_function" and str(node.target) == target:
                stack = list((node.meta.get("nn_module_stack") or {}).values())
                return str(stack[-1][0]) if stack else "", source_line(node.meta.get("stack_trace") or "")
    return "", None


def in_torchscript(script: Any, operator: str | None) -> tuple[str, str, str | None] | None:
    """The first call of `operator` in a ScriptModule (None: of one that is not PyTorch's own): its name,
    module path and source line."""
    # A module's own graph calls its children, so whose graph holds the operator is where it is. Children come
    # first: the exporter inlines all of them into the graph of the whole, in place. What scripted functions
    # call is seen in the inlined graph alone.
    graphs = [(path, _graph(module)) for path, module in reversed(list(script.named_modules()))]
    for path, graph in [*graphs, ("", script.inlined_graph)]:
        for node in _nodes(graph):
            kind = node.kind()
            foreign = kind.partition("::")[0] not in ("aten", "prim", "onnx", "quantized")
            if kind == operator or (operator is None and foreign):
                return kind, path, source_line(node.sourceRange())
    return None


def _graph(module: Any) -> Any:
    """A ScriptModule's own graph; None where it is a mere container, without a forward."""
    try:
        return module.graph
    except RuntimeError:
        return None


def _nodes(block: Any) -> Iterator[Any]:
    """All nodes, those in branches and loops too."""
    for node in block.nodes() if block is not None else ():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


_FRAME = re.compile(
    r'^\s*File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>\S+))?\n(?P<code>.*)'
    r"|^(?P<traced_path>\S+)\((?P<traced_line>\d+)\): (?P<traced_function>\S+)$",
    re.MULTILINE,
)
"""A frame as Python writes it (innermost last), or as the TorchScript tracer does (innermost first)."""


def source_line(trace: str) -> str | None:
    """The innermost line of a trace that is not PyTorch's own: "model.py:12 in forward: y = op(x)"."""
    written = trace.partition("Serialized ")[0] or trace
    frames = [match.groupdict() for match in _FRAME.finditer(written)]
    if frames and frames[0]["traced_path"]:
        frames.reverse()
    own = [
        frame
        for frame in frames
        if not re.search(r"/site-packages/torch(vision)?/", frame["path"] or frame["traced_path"])
    ]
    if not frames:
        return None
    frame = (own or frames)[-1]
    here = re.search(r"^(.*)\n.*<--- HERE", written, re.MULTILINE)
    code = (here[1] if here else frame["code"] or "").strip()
    place = f"{frame['path'] or frame['traced_path']}:{frame['line'] or frame['traced_line']}"
    function = frame["function"] or frame["traced_function"]
    return place + (f" in {function}" if function else "") + (f": {code}" if code else "")
