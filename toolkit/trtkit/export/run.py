"""An export, from its source to the file under its name."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtkit.devices import NO_GPU
from trtkit.errors import EnvironmentLack, RequestError, WorkFailed
from trtkit.export.options import Device, Exporter, ExportOptions
from trtkit.sidecar import file_sha256

if TYPE_CHECKING:  # the command line imports this module before it knows the verb
    from trtkit.export.report import ExportReport
    from trtkit.verify.tolerance import Tolerance


def export_onnx(source: str, out: Path, options: ExportOptions) -> ExportReport:
    """Export the model that `source` names to the ONNX file `out`, and compare the two.

    The file is there whole and compared, or not at all; the same source and options give the same bytes with
    the same PyTorch on the same kind of device.

    Args:
        source: torchvision:NAME, package.module:callable, FILE.py:callable, a TorchScript or .pt2 file.

    Raises:
        RequestError: the source, its inputs or an option is wrong.
        UnsupportedOperator: ONNX has nothing for one of its operators.
        ComparisonFailed: the ONNX file computes something else than PyTorch.
        WorkFailed: the model cannot be captured, or the result is not sound.
        EnvironmentLack: a GPU was asked for and there is none.
    """
    import torch

    from trtkit.export import dynamo, torchscript
    from trtkit.export.call import arrange
    from trtkit.export.compare import compare
    from trtkit.export.graph import finish
    from trtkit.export.reference import Reference
    from trtkit.export.report import ExportReport
    from trtkit.export.sources import load
    from trtkit.onnx_graph import value_spec

    if not out.parent.is_dir():
        raise RequestError(f"there is no folder {out.parent}", ("next", "make it, or give another --out"))
    device = _device(options.device)
    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        loaded = load(source, options.weights, device)
        if isinstance(loaded.model, torch.export.ExportedProgram):
            device = _captured_on(loaded.model)
        call = arrange(loaded, options)
        reference = Reference(loaded.model, call, device, options.output_names)
        outputs, tolerance = _stable(reference, call.feeds(call.shapes), options.tolerance)
        exporter = _exporter(loaded.model, options)
        convert = dynamo.convert if exporter == "dynamo" else torchscript.convert
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            (raw := Path(folder, "raw")).mkdir()
            with contextlib.redirect_stderr(
                io.StringIO()
            ):  # where a capture fails, its whole graph goes there
                convert(loaded.model, call, outputs, options, device, raw / "model.onnx")
            made = Path(folder, out.name)
            model = finish(raw / "model.onnx", made, call.axes, options.opset, exporter)
            comparisons = compare(made, reference, call, options, tolerance)
            external = (
                out.with_name(f"{out.name}.data") if made.with_name(f"{out.name}.data").exists() else None
            )
            if external:
                made.with_name(external.name).chmod(made.stat().st_mode)  # onnx makes it for its owner alone
                made.with_name(external.name).replace(external)
            made.replace(out)
    return ExportReport(
        source=source,
        path=str(out),
        sha256=file_sha256(out),
        size=sum(file.stat().st_size for file in (out, external) if file),
        external_data=external.name if external else None,
        external_sha256=file_sha256(external) if external else None,
        opset=options.opset,
        exporter=exporter,
        inputs=tuple(map(value_spec, model.graph.input)),
        outputs=tuple(map(value_spec, model.graph.output)),
        nodes=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        tolerance=tolerance,
        comparisons=comparisons,
        torch=torch.__version__,
        device=torch.cuda.get_device_name(device) if device != "cpu" else "cpu",
    )


def _device(asked: Device) -> str:
    import torch

    found = torch.cuda.is_available()
    if asked == "cuda" and not found:
        raise EnvironmentLack(f"--device cuda: {NO_GPU}", ("next", "leave it out, or docker run --gpus all"))
    return "cuda" if found and asked != "cpu" else "cpu"


def _captured_on(program: Any) -> str:
    """A program stays on the device it was captured on: its graph may name it."""
    return next((str(tensor.device) for tensor in program.state_dict.values()), "cpu")


def _exporter(model: Any, options: ExportOptions) -> Exporter:
    import torch

    if isinstance(model, torch.jit.ScriptModule):
        if options.exporter == "dynamo":
            raise RequestError(
                "the dynamo exporter does not take TorchScript files",
                ("next", "leave --exporter out, or give the nn.Module itself"),
            )
        return "torchscript"
    if isinstance(model, torch.export.ExportedProgram) and options.exporter == "torchscript":
        raise RequestError(
            "the TorchScript exporter does not take an ExportedProgram", ("next", "leave --exporter out")
        )
    return options.exporter or "dynamo"


def _stable(reference: Any, feeds: Any, asked: float | None) -> tuple[list[str], Tolerance]:
    """Names of the outputs, and what they may differ by.

    Raises:
        WorkFailed: the model answers differently each time, so that nothing can be compared with it.
    """
    from trtkit.export.compare import allowed
    from trtkit.verify.comparison import compare

    once, again = reference.run(feeds), reference.run(feeds)
    tolerance = allowed(once.values(), asked)
    for name, output in once.items():
        if not compare(again[name], output, tolerance).within:
            raise WorkFailed(
                f"the model's output {name!r} is another each time",
                ("because", "it draws random numbers: dropout, captured in training mode?"),
                ("next", "call .eval() before torch.jit.trace or torch.export.export"),
            )
    return list(once), tolerance


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print, warn and log what is for their authors; errors come as exceptions."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
