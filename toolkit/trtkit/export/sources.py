"""Where a model comes from: torchvision, Python code, a TorchScript file or an ExportedProgram."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trtkit.errors import RequestError
from trtkit.object_reference import because, named_object, nearest
from trtkit.tensors import TensorSpec

FORMS = "torchvision:NAME, package.module:callable, FILE.py:callable, a TorchScript file or a .pt2 program"

IMAGE = TensorSpec("input", "float32", (1, 3, 224, 224))
"""What torchvision's classification models are called with, unless something else is asked."""


@dataclass(frozen=True)
class Loaded:
    """A model on `device`, in evaluation mode.

    model: a torch.nn.Module, a torch.jit.ScriptModule or a torch.export.ExportedProgram.
    examples: what its source says it is called with: arguments by position, and by name.
    inputs: example inputs without values, where its kind has usual ones.
    """

    model: Any
    examples: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None
    inputs: tuple[TensorSpec, ...] = ()


def load(source: str, weights: Path | None, device: str) -> Loaded:
    """The model that `source` names.

    Raises:
        RequestError: there is no such model, it does not load, or `weights` do not fit it.
    """
    head, colon, name = source.rpartition(":")
    if head == "torchvision":
        loaded = _torchvision(name)
    elif colon and name.isidentifier():
        loaded = _called(head, name)
    elif Path(source).is_file():
        if weights is not None:
            raise RequestError(f"{source} brings its own weights", ("next", "leave --weights away"))
        return _file(Path(source), device)
    else:
        raise RequestError(f"there is no model {source!r}", ("next", f"give {FORMS}"))
    if weights is not None:
        _set_weights(loaded.model, weights)
    loaded.model.eval().to(device)
    return loaded


def _torchvision(name: str) -> Loaded:
    import torchvision

    models = torchvision.models
    if name not in models.list_models():
        raise RequestError(f"torchvision has no model {name!r}", *nearest(name, models.list_models()))
    classifies = name in models.list_models(module=models)
    # Without this a detection or segmentation model would download its backbone's weights.
    parts = {} if classifies or "raft" in name else {"weights_backbone": None}
    try:
        model = models.get_model(name, weights=None, **parts)
    except TypeError:
        model = models.get_model(name, weights=None)
    for parameter in model.parameters():
        # A vision transformer's head starts at zero: its output would be zero whatever became of the rest.
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return Loaded(model, inputs=(IMAGE,) if classifies else ())


def _called(head: str, name: str) -> Loaded:
    factory = named_object(f"{head}:{name}")
    if not callable(factory):
        raise RequestError(
            f"{head}:{name} is a {type(factory).__name__}, which cannot be called",
            ("next", "name a function that returns an nn.Module"),
        )
    try:
        made = factory()
    except Exception as error:  # whatever a person's code raises
        raise RequestError(f"{head}:{name}() fails", *because(error)) from error
    model, examples = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, torch.nn.Module):
        raise RequestError(
            f"{head}:{name}() gives a {type(model).__name__}, not a model",
            ("next", "return an nn.Module, or (module, example_inputs)"),
        )
    return Loaded(model, None if examples is None else _arguments(examples))


def _arguments(examples: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(examples, Mapping):
        return (), examples
    return (tuple(examples) if isinstance(examples, (tuple, list)) else (examples,)), {}


def _file(path: Path, device: str) -> Loaded:
    """A TorchScript file or an ExportedProgram; which of them, its contents say."""
    members = _members(path)
    try:
        if any(member.endswith("constants.pkl") for member in members):
            return Loaded(torch.jit.load(str(path), map_location=device).eval())
        if any(
            member.endswith(("models/model.json", "serialized_exported_program.json")) for member in members
        ):
            return Loaded(torch.export.load(str(path)))
    except Exception as error:  # no common type: RuntimeError, SerializeError, KeyError, ...
        raise RequestError(
            f"{path.name} does not load with torch {torch.__version__}", *because(error)
        ) from error
    if any(member.endswith("data.pkl") for member in members):
        raise RequestError(
            f"{path.name} holds weights or a pickled object, not a model that can be run",
            ("next", f"give the architecture too: torchvision:NAME --weights {path.name}"),
            ("or", "save the model with torch.export.save, or torch.jit.save"),
        )
    raise RequestError(f"{path.name} is not a model that PyTorch saved", ("next", f"give {FORMS}"))


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []


def _set_weights(model: torch.nn.Module, path: Path) -> None:
    if not path.is_file():
        raise RequestError(f"there is no file {path}", ("next", "give a state dict with --weights"))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, ...
        raise RequestError(f"{path.name} is not a state dict", *because(error)) from error
    # Training loops save more than the weights, under either of these names.
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RequestError(
            f"{path.name} does not fit the model", ("because", " ".join(lines)[:400])
        ) from error
