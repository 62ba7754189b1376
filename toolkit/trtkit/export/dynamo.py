"""The exporter that captures the model with torch.export: the usual one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trtkit.errors import RequestError, TrtkitError, WorkFailed
from trtkit.export.call import Call
from trtkit.export.options import ExportOptions
from trtkit.export.unsupported import UnsupportedOperator, in_program
from trtkit.object_reference import named_object

EXTERNAL_FROM = 2_000_000_000
"""Bytes of weights from which they get a file of their own: protobuf ends at 2 GiB, the graph included."""


def convert(
    model: Any, call: Call, outputs: list[str], options: ExportOptions, device: str, to: Path
) -> None:
    """Write `model` to the file `to`.

    Raises:
        UnsupportedOperator: an operator has no translation to ONNX.
        WorkFailed: the model cannot be captured, or fixes a dimension that is to be dynamic.
        RequestError: the table of translations is none.
    """
    program = model if isinstance(model, torch.export.ExportedProgram) else _capture(model, call, device)
    try:
        onnx = torch.onnx.export(
            program,
            (),
            dynamo=True,
            input_names=[spec.name for spec in call.examples],
            output_names=outputs,
            opset_version=options.opset,
            custom_translation_table=_translations(options),
            optimize=True,
            verbose=False,
        )
    except TrtkitError:
        raise
    except Exception as error:  # its exception types are not public
        raise _told(error, program, options.opset) from error
    tensors = [*program.state_dict.values(), *program.constants.values()]
    size = sum(it.numel() * it.element_size() for it in tensors if isinstance(it, torch.Tensor))
    onnx.save(str(to), external_data=size >= EXTERNAL_FROM)


def _capture(model: Any, call: Call, device: str) -> Any:
    # An example whose dynamic dimension is 1 would be captured as a broadcast: torch.export takes 0 and 1
    # for special.
    sizes = {
        dimension: 2
        for name, axes in call.axes.items()
        for axis, dimension in axes.items()
        if call.shapes[name][axis] < 2
    }
    args, kwargs = call.arguments(call.feeds(call.sized(sizes)), device)
    bound = inspect.signature(model.forward).bind(*call.positional, **call.keywords)
    dynamic = {argument: _dimensions(name, call) for argument, name in bound.arguments.items()}
    try:
        with torch.no_grad():
            return torch.export.export(model, args, kwargs, dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # UserError, GuardOnDataDependentSymNode, ...: no public common type
        raise _not_captured(error, call) from error


def _dimensions(name: Any, call: Call) -> Any:
    """For one argument, which may be *args or **kwargs: what torch.export calls dynamic shapes."""
    if isinstance(name, tuple):
        return tuple(_dimensions(one, call) for one in name)
    if isinstance(name, Mapping):
        return {key: _dimensions(one, call) for key, one in name.items()}
    return dict.fromkeys(call.axes.get(name, {}), torch.export.Dim.DYNAMIC)


def _not_captured(error: Exception, call: Call) -> WorkFailed:
    message = str(error)
    fixed = re.search(r"(L\['\w+'\]\S*?)\.size\(\)\[(\d+)\] .*constant \((\d+)\)", message)
    if fixed:
        # L['x'] is an argument by its name; PyTorch 2.7 says L['args'][0][1] for the second.
        keys, axis, size = re.findall(r"\['?(\w+)'?\]", fixed[1]), int(fixed[2]), fixed[3]
        name = (
            call.positional[int(keys[-1])] if keys[-1].isdecimal() else call.keywords.get(keys[-1], keys[-1])
        )
        return WorkFailed(
            f"the model fixes dimension {axis} of its input {name!r} at {size}, which is to be dynamic",
            ("because", "its code uses the size as a number, as in x.view(2, -1) or int(x.shape[0])"),
            ("next", "use x.shape[0] or -1 there"),
            ("or", "--static, or --dynamic with other dimensions"),
        )
    line = re.search(r'File "[^"]+", line \d+, in \S+\n.*', message)
    first = next((text for text in message.splitlines() if text.strip()), type(error).__name__)
    return WorkFailed(
        "torch.export cannot capture the model",
        ("because", first[:300]),
        *([("line", " ".join(line[0].split()))] if line else []),
        ("next", "write this part so that it does not depend on the values of tensors"),
        ("or", "--exporter torchscript, which keeps the branch that the example takes"),
    )


def _translations(options: ExportOptions) -> dict[Any, Any] | None:
    if options.translations is None:
        return None
    table = named_object(options.translations)
    if not isinstance(table, dict):
        raise RequestError(
            f"{options.translations} is a {type(table).__name__}",
            ("next", "give a dict, PyTorch operator (torch.ops.acme.op.default) -> onnxscript function"),
        )
    return table


def _told(error: BaseException, program: Any, opset: int) -> WorkFailed:
    """What the exporter's error says, in its innermost cause."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for one in chain:
        missing = re.search(
            r"No ONNX function found for (?:<OpOverload\(op='(\S+)', overload='(\S+)'\)>|(\S+))", str(one)
        )
        if missing:
            name, overload, other = missing.groups()
            target = f"{name}.{overload}" if name else other
            operator = target.removesuffix(".default").replace(".", "::", 1)
            return UnsupportedOperator(operator, *in_program(program, target), opset, None)
    first = next((text for text in str(chain[-1]).splitlines() if text.strip()), type(chain[-1]).__name__)
    return WorkFailed(
        "PyTorch's exporter failed",
        ("because", first[:300]),
        ("next", "--exporter torchscript, or another --opset"),
    )
