"""The exporter that goes through TorchScript: for TorchScript files, and for what torch.export refuses.

Source: torch.onnx.export(dynamo=False); deprecated since PyTorch 2.9, still there in those that came since.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from trtkit.errors import RequestError, WorkFailed
from trtkit.export.call import Call
from trtkit.export.options import ExportOptions
from trtkit.export.unsupported import UnsupportedOperator, in_torchscript


def convert(
    model: Any, call: Call, outputs: list[str], options: ExportOptions, device: str, to: Path
) -> None:
    """Write `model` to the file `to`.

    Raises:
        UnsupportedOperator: an operator has no counterpart in this opset.
        WorkFailed: the exporter fails.
        RequestError: it does not know this opset, or something is asked that it cannot do.
    """
    if options.translations is not None:
        raise RequestError(
            "--translate is for the dynamo exporter", ("next", "leave out --exporter torchscript")
        )
    args, kwargs = call.arguments(call.feeds(call.shapes), device)
    try:
        with torch.no_grad(), _silent():
            torch.onnx.export(
                model,
                args,
                str(to),
                kwargs=kwargs or None,
                dynamo=False,
                input_names=[spec.name for spec in call.examples],
                output_names=outputs,
                dynamic_axes={name: dict(axes) for name, axes in call.axes.items()},
                opset_version=options.opset,
                do_constant_folding=True,
            )
    except torch.onnx.errors.UnsupportedOperatorError as error:
        raise _unsupported(error, model, args, kwargs, options.opset) from error
    except Exception as error:  # RuntimeError, ValueError, SymbolicValueError, ...
        first = next((text for text in str(error).splitlines() if text.strip()), type(error).__name__)
        if re.search(r"opset.{0,20}version", first, re.IGNORECASE):
            raise RequestError(f"the TorchScript exporter does not write opset {options.opset}",
                               ("because", first)) from error  # fmt: skip
        raise WorkFailed(
            "PyTorch's TorchScript exporter failed",
            ("because", first[:300]),
            (
                "next",
                "another --opset, or the dynamo exporter with the nn.Module instead of the TorchScript file",
            ),
        ) from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The exporter's C++ part writes the whole graph to standard output before it raises."""
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _unsupported(
    error: Exception, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], opset: int
) -> UnsupportedOperator:
    # For operators that are not PyTorch's own the message lacks the name.
    named = re.search(r"the operator '(\S+)'", str(error))
    since = re.search(r"added in version (\d+)", str(error))
    operator = named[1] if named else None
    if not isinstance(model, torch.jit.ScriptModule):
        model = (
            torch.jit.trace(model, args, example_kwarg_inputs=kwargs)
            if kwargs
            else torch.jit.trace(model, args)
        )
    name, module, line = in_torchscript(model, operator) or (operator or "that the exporter met", "", None)
    return UnsupportedOperator(name, module, line, opset, int(since[1]) if since else None)
