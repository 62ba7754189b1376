"""Which published image is for this machine: for all its GPUs and for its driver, and of those the newest.

The order, from what weighs most: the operating system and variant that are the matrix's defaults;
torch; a CUDA that is no newer than the driver (of those the newest; else the oldest: a driver runs every CUDA
of its major, without what is newer than itself); the TensorRT flavour that the matrix lists first (the full
one); TensorRT's version; an image that holds no code of other GPUs; the day it was published.

Source: NVIDIA's CUDA Compatibility (minor version compatibility).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from trtforge.errors import EnvironmentLack, ForgeError, RequestError
from trtforge.machine import capability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.machine import Gpu, Machine
    from trtforge.matrix import Matrix
    from trtforge.publishing.entry import Entry


@dataclass(frozen=True)
class Fit:
    """The image for a machine. native: whether the driver is as new as the image's CUDA. why: in words."""

    entry: Entry
    native: bool
    why: tuple[str, ...]


def best_fit(entries: Sequence[Entry], machine: Machine, matrix: Matrix) -> Fit:
    """The one of the TensorRT images `entries` that `machine` should take.

    Raises:
        RequestError: no image is for its GPUs, or none for all of them; says which.
        EnvironmentLack: its driver is too old for those that are; says which one would do.
    """
    for_gpus = [entry for entry in entries if all(gpu.sm in entry.sm for gpu in machine.gpus)]
    driver = Version(machine.driver)
    fitting = [entry for entry in for_gpus if driver >= Version(entry.driver)]
    if not fitting:
        raise _too_old(machine, for_gpus) if for_gpus else _not_for(machine, entries)
    ranked = sorted(fitting, key=lambda entry: _rank(entry, driver, matrix), reverse=True)
    native = is_native(ranked[0], driver, matrix)
    return Fit(ranked[0], native, _why(ranked[0], native, machine, len(ranked), len(entries)))


def is_native(entry: Entry, driver: Version, matrix: Matrix) -> bool:
    """Whether `driver` is at least the one that came with the CUDA of `entry`."""
    cuda = matrix.axes.cuda.get(entry.axes["cuda"])
    return cuda is not None and driver >= Version(cuda.toolkit_driver)


def _rank(entry: Entry, driver: Version, matrix: Matrix) -> tuple[Any, ...]:
    """Greater is better; the last ones decide only between the images of one cell."""
    axes, native = entry.axes, is_native(entry, driver, matrix)
    major, minor = Version(axes["cuda"]).release[:2]
    return (
        sum(axes.get(axis) == matrix.defaults.get(axis) for axis in ("os", "variant")),
        Version(axes["torch"]),
        native,
        (major, minor if native else -minor),
        _flavour(entry, matrix),
        Version(axes["tensorrt"]),
        axes.get("code") == "slim",
        entry.order,
        entry.dated,
    )


def _flavour(entry: Entry, matrix: Matrix) -> int:
    """Greater for a flavour that the matrix lists earlier."""
    known = matrix.axes.tensorrt.get(entry.axes["tensorrt"])
    return -list(matrix.flavours).index(known.flavour) if known else -len(matrix.flavours)


def _why(entry: Entry, native: bool, machine: Machine, fitting: int, published: int) -> tuple[str, ...]:
    axes = entry.axes
    gpus = "; ".join(map(str, machine.gpus))
    cuda = (
        f"CUDA {axes['cuda']}: driver {machine.driver} is new enough for it by itself"
        if native
        else f"CUDA {axes['cuda']}: driver {machine.driver} is older than it, but runs every CUDA "
        f"{axes['cuda'].partition('.')[0]}.x ({entry.driver} or newer)"
    )
    return (
        f"{gpus}: the image is for {', '.join(map(capability, entry.sm))}",
        cuda,
        f"torch {axes['torch']}, TensorRT {axes['tensorrt']}, published {entry.day}: "
        + (f"the newest of the {fitting} that fit" if fitting > 1 else "the only one that fits")
        + f", of {published} published",
    )


def _too_old(machine: Machine, for_gpus: Sequence[Entry]) -> ForgeError:
    oldest = min(for_gpus, key=lambda entry: Version(entry.driver))
    return EnvironmentLack(
        f"driver {machine.driver} is too old for every image that is for this machine's GPUs",
        *(("found", str(gpu)) for gpu in machine.gpus),
        ("would do", f"driver {oldest.driver} or newer, with {oldest.exact}"),
        ("next", f"update the NVIDIA driver to {oldest.driver} or newer"),
    )


def _not_for(machine: Machine, entries: Sequence[Entry]) -> ForgeError:
    """No image is for all GPUs: for some there is none, or they need different ones."""
    newest = {gpu: _newest_for(gpu, entries) for gpu in machine.gpus}
    would_do = [("would do", f"for {gpu}: {entry.exact}") for gpu, entry in newest.items() if entry]
    without = [gpu for gpu, entry in newest.items() if entry is None]
    if without:
        published = sorted({sm for entry in entries for sm in entry.sm}, key=int)
        return RequestError(
            f"no published image is for {' or for '.join(map(str, without))}",
            ("published", f"for {', '.join(map(capability, published))}" if published else "nothing"),
            *would_do,
            ("next", "python build.py cells lists what could be built and published"),
        )
    return RequestError(
        "no published image is for all of this machine's GPUs",
        *would_do,
        ("next", "name one: --cuda 12.1 --arch ampere, and give containers its GPUs only: --gpus device=0"),
    )


def _newest_for(gpu: Gpu, entries: Sequence[Entry]) -> Entry | None:
    return max((one for one in entries if gpu.sm in one.sm), key=lambda one: one.order, default=None)
