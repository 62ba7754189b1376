"""Which GPUs an engine is built for."""

from __future__ import annotations

import re

from trtkit.build.options import BuildOptions
from trtkit.devices import NO_GPU, Gpu
from trtkit.errors import EnvironmentLack, RequestError
from trtkit.flavour import TensorRT


def target_sms(options: BuildOptions, tensorrt: TensorRT, here: Gpu | None) -> tuple[str, ...]:
    """The compute capabilities to build for, in order.

    Args:
        here: the GPU that this process uses, if any.

    Raises:
        RequestError: this TensorRT cannot build for what was asked, or was asked for what it does not have.
        EnvironmentLack: it builds on a GPU only, and there is none.
    """
    _check_compatibility(options, tensorrt)
    if tensorrt.builds_without_gpu:
        return _named(options, tensorrt, here)
    if here is None:
        raise EnvironmentLack(
            f"{tensorrt} builds on the GPU that will run the engine: {NO_GPU}",
            (
                "next",
                "build there (docker run --gpus all), or use an image with TensorRT-RTX, which needs none",
            ),
        )
    sm = here.sm
    if options.sms not in ((), (sm,)):
        raise RequestError(
            f"{tensorrt} builds for the GPU here only, an SM {sm}, not for SM {', '.join(options.sms)}",
            ("gpu", here.name),
            ("next", "leave --sm out, and build on each GPU; or give --hardware-compatibility"),
        )
    if options.hardware_compatibility == "ampere-plus" and int(sm) < 80:
        raise RequestError(
            f"hardware compatibility ampere-plus cannot be built on an SM {sm}",
            ("because", "the GPU it is built on must be an Ampere or newer itself (SM 80)"),
            ("next", "build on such a GPU, or without it"),
        )
    return (sm,)


def known_sms(tensorrt: TensorRT) -> tuple[str, ...]:
    """Those that this TensorRT-RTX can be told to build for, as its enumeration has them."""
    members = tensorrt.module.ComputeCapability.__members__
    return tuple(sorted((match[1] for name in members if (match := re.fullmatch(r"SM(\d+)", name))), key=int))


def _named(options: BuildOptions, tensorrt: TensorRT, here: Gpu | None) -> tuple[str, ...]:
    known = ", ".join(known_sms(tensorrt))
    wanted = options.sms or ((here.sm,) if here else ())
    if not wanted:
        raise RequestError(
            "nothing says which GPUs the engine is for",
            ("because", f"{NO_GPU} here, and no --sm"),
            ("known", known),
            ("next", "name them: --sm 80,86"),
        )
    if unknown := [sm for sm in wanted if sm not in known_sms(tensorrt)]:
        raise RequestError(
            f"{tensorrt} cannot build for SM {', '.join(unknown)}",
            ("known", known),
            ("next", "name others, or use full TensorRT, which builds on such a GPU"),
        )
    return tuple(sorted(set(wanted), key=int))


def _check_compatibility(options: BuildOptions, tensorrt: TensorRT) -> None:
    """TensorRT-RTX takes both options, ignores the one, and fails without a word of use at the other."""
    if tensorrt.flavour != "tensorrt-rtx":
        return
    if options.hardware_compatibility != "none":
        raise RequestError(
            f"{tensorrt} has no hardware compatibility",
            ("because", "its setHardwareCompatibilityLevel() is without effect"),
            ("next", f"name the GPUs: --sm {','.join(known_sms(tensorrt))}"),
        )
    if options.version_compatible:
        raise RequestError(
            f"{tensorrt} has no version-compatible engines",
            ("because", "they carry the lean runtime, which it does not have"),
            ("next", "build again for each version; or use full TensorRT"),
        )
