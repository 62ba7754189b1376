"""What is fed to subject and reference: the profile's shapes, further ones, samples."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trtkit.errors import RequestError
from trtkit.runners import random_feeds
from trtkit.tensors import Profile, Shape, TensorSpec, shape_text
from trtkit.verify.options import VerifyOptions

BATCHES = (1, 2, 8)
"""Tried where the batch is dynamic and no profile says how far."""

SAMPLES_AT_ONCE = 32
"""Of a file of samples, where no profile says how many."""


@dataclass(frozen=True)
class Case:
    """Feeds with a name. batch: samples to run at once, None for all."""

    name: str
    feeds: Mapping[str, NDArray[Any]]
    batch: int | None = None

    @property
    def shapes(self) -> str:
        return ", ".join(f"{name}:{shape_text(value.shape)}" for name, value in self.feeds.items())


def cases(inputs: tuple[TensorSpec, ...], profile: Profile, options: VerifyOptions) -> Iterator[Case]:
    """All cases, made one after another: a case's feeds may be large.

    Raises:
        RequestError: shapes or samples do not fit the inputs or the profile, or shapes are missing.
    """
    if options.data is not None:
        yield from _samples(inputs, profile, options.data)
    named = [] if options.data is not None and not options.shapes else _shapes(inputs, profile, options)
    for name, shapes in named:
        yield Case(name, random_feeds(inputs, shapes, options.seed))


def _shapes(
    inputs: tuple[TensorSpec, ...], profile: Profile, options: VerifyOptions
) -> Iterator[tuple[str, dict[str, Shape]]]:
    """Names and shapes of all inputs; the same shapes once."""
    seen: list[dict[str, Shape]] = []
    for name, shapes in _wanted(inputs, profile, options):
        _check(inputs, profile, shapes, name)
        full = {spec.name: shapes.get(spec.name, spec.shape) for spec in inputs}
        missing = [spec for spec in inputs if -1 in full[spec.name]]
        if missing:
            raise RequestError(
                f"{name}: no shape for {', '.join(spec.name for spec in missing)}",
                ("next", ",".join(f"{spec.name}:{_example(spec.shape)}" for spec in inputs if spec.dynamic)),
            )
        if full not in seen:
            seen.append(full)
            yield name, full


def _wanted(
    inputs: tuple[TensorSpec, ...], profile: Profile, options: VerifyOptions
) -> Iterator[tuple[str, Mapping[str, Shape]]]:
    dynamic = [spec for spec in inputs if spec.dynamic]
    if not dynamic:
        yield "fixed", {}
    elif profile:
        yield "min", {name: shapes.min for name, shapes in profile.items()}
        yield "opt", {name: shapes.opt for name, shapes in profile.items()}
        yield "max", {name: shapes.max for name, shapes in profile.items()}
    elif all(spec.shape.index(-1) == 0 and spec.shape.count(-1) == 1 for spec in dynamic):
        for batch in BATCHES:
            yield f"batch {batch}", {spec.name: (batch, *spec.shape[1:]) for spec in dynamic}
    elif not options.shapes:
        raise RequestError(
            "more than the batch is dynamic, and nothing tells the shapes to try",
            *(("input", str(spec)) for spec in dynamic),
            ("next", "--shapes " + ",".join(f"{spec.name}:{_example(spec.shape)}" for spec in dynamic)),
        )
    for index, shapes in enumerate(options.shapes):
        yield f"shapes {index + 1}", shapes


def _check(inputs: tuple[TensorSpec, ...], profile: Profile, shapes: Mapping[str, Shape], what: str) -> None:
    known = {spec.name: spec for spec in inputs}
    for name, shape in shapes.items():
        if name not in known:
            raise RequestError(
                f"there is no input {name!r}",
                ("inputs", ", ".join(map(str, inputs))),
                ("next", "name one of them"),
            )
        if not known[name].admits(shape) or -1 in shape:
            raise RequestError(
                f"{what}: {name}:{shape_text(shape)} does not fit the input {known[name]}",
                ("next", f"--shapes {name}:{_example(known[name].shape)}"),
            )
        if name in profile and not profile[name].covers(shape):
            ends = f"{shape_text(profile[name].min)} to {shape_text(profile[name].max)}"
            raise RequestError(
                f"{what}: {name}:{shape_text(shape)} is outside the engine's profile",
                ("profile", ends),
                ("next", "ask for shapes inside it, or build the engine with --min-shapes and --max-shapes"),
            )


def _samples(inputs: tuple[TensorSpec, ...], profile: Profile, path: Path) -> Iterator[Case]:
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise RequestError(
            f"there is no .npz file in {path}", ("next", "write some: numpy.savez(file, input=array)")
        )
    for file in files:
        feeds = _read(file, inputs)
        rows = {value.shape[0] if value.shape else 1 for value in feeds.values()}
        most = _most_at_once(inputs, profile)
        batch = most if most is not None and len(rows) == 1 and max(rows) > most else None
        shapes = {
            name: (batch or value.shape[0], *value.shape[1:]) if value.shape else ()
            for name, value in feeds.items()
        }
        _check(inputs, profile, shapes, file.name)
        yield Case(file.name, feeds, batch)


def _read(file: Path, inputs: tuple[TensorSpec, ...]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise RequestError(f"there is no file {file}") from None
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError(
            f"{file.name} cannot be read as samples",
            ("because", str(error).splitlines()[0]),
            ("next", "write it with numpy.savez(file, input=array)"),
        ) from error
    names = [spec.name for spec in inputs]
    if set(arrays) != set(names):
        raise RequestError(
            f"{file.name} does not hold the model's inputs",
            ("holds", ", ".join(sorted(arrays)) or "nothing"),
            ("inputs", ", ".join(names)),
            ("next", f"numpy.savez(file, {', '.join(f'{name}=...' for name in names)})"),
        )
    return {spec.name: _typed(arrays[spec.name], spec, file) for spec in inputs}


def _typed(array: NDArray[Any], spec: TensorSpec, file: Path) -> NDArray[Any]:
    wanted = np.dtype(spec.dtype)
    if not (array.dtype == wanted or np.can_cast(array.dtype, wanted, "same_kind")):
        raise RequestError(
            f"{file.name}: {spec.name} is {array.dtype}, and the model takes {wanted}",
            ("next", f"write it as {wanted}, scaled as the model expects it"),
        )
    return np.ascontiguousarray(array, wanted)


def _most_at_once(inputs: Sequence[TensorSpec], profile: Profile) -> int | None:
    """Samples that one run may take; None where the first axis does not count samples."""
    if not all(spec.shape and spec.shape[0] == -1 for spec in inputs):
        return None
    return min(
        (profile[spec.name].max[0] for spec in inputs if spec.name in profile), default=SAMPLES_AT_ONCE
    )


def _example(shape: Shape) -> str:
    return shape_text(1 if size < 0 else size for size in shape)
