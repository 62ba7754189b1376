"""Whether an engine fits the TensorRT and the GPU at hand, and what to do where it does not.

TensorRT itself says no with an error code at best, and crashes or computes slowly at worst. Sources:
TensorRT 11 documentation, "Engine Compatibility" and "Support Matrix" (Engine Portability); TensorRT-RTX
documentation, "Engine Compatibility" and "CPU-Only AOT and TensorRT-RTX Engines"; what TensorRT-RTX 1.7.1
answered on an H100.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from packaging.version import InvalidVersion, Version

from trtkit.devices import Gpu
from trtkit.errors import RequestError
from trtkit.flavour import TITLES, TensorRT
from trtkit.sidecar import Sidecar

RTX_SMS = (75, 80, 86, 89)
"""Before the 12.0, TensorRT-RTX runs on these compute capabilities alone: not on 8.7, 9.0 or 10.x."""

RTX_FROM = 120
"""From this compute capability on, it runs on all."""

RTX_DEFAULT_LEAST = 80
"""Where an engine names no GPUs, the first that it is for: Turing has to be named."""

AMPERE = 80

CROSS_MAJOR = {(8, 10), (10, 11)}
"""Majors (built with, run by) of version-compatible engines, besides the same one."""

LEAN_RULE = "the lean runtime runs no engines but those that are built with --version-compatible"
"""Whatever their version. Source: TensorRT documentation, "Version Compatibility"; of another engine it says
"Unexpected call to stub loadRunner" (https://github.com/NVIDIA/TensorRT/issues/4790)."""


@dataclass(frozen=True)
class Mismatch:
    """One reason why an engine does not fit. engine: what it needs; here: what there is; rule: why that is
    no match."""

    kind: Literal["flavour", "version", "gpu"]
    engine: str
    here: str
    rule: str

    def __str__(self) -> str:
        return f"it is for {self.engine}, here is {self.here}: {self.rule}"


class EngineDoesNotFit(RequestError):
    """An engine that was built for another GPU or another TensorRT. mismatches: every reason."""

    def __init__(self, sidecar: Sidecar, mismatches: tuple[Mismatch, ...], *steps: str) -> None:
        self.sidecar = sidecar
        self.mismatches = mismatches
        super().__init__(
            "the engine does not fit this machine",
            *((mismatch.kind, str(mismatch)) for mismatch in mismatches),
            *(("next", step) for step in steps),
        )


def check_fit(sidecar: Sidecar, tensorrt: TensorRT, gpu: Gpu) -> None:
    """Whether `tensorrt` can run the engine of `sidecar` on `gpu`.

    Raises:
        EngineDoesNotFit: it cannot; the error has every reason and what to do.
    """
    mismatches = mismatches_of(sidecar, tensorrt, gpu)
    if mismatches:
        raise EngineDoesNotFit(sidecar, mismatches, *_steps(sidecar, tensorrt, gpu))


def mismatches_of(sidecar: Sidecar, tensorrt: TensorRT, gpu: Gpu) -> tuple[Mismatch, ...]:
    """Every reason why the engine does not fit; none where it does."""
    if sidecar.flavour != tensorrt.flavour:
        rule = "neither loads the other's engines"
        software: Mismatch | None = Mismatch("flavour", TITLES[sidecar.flavour], str(tensorrt), rule)
    else:
        software = _version_mismatch(sidecar, tensorrt)
    hardware = _rtx_mismatch(sidecar, gpu) if sidecar.flavour == "tensorrt-rtx" else _mismatch(sidecar, gpu)
    return tuple(found for found in (software, hardware) if found)


def _version_mismatch(sidecar: Sidecar, tensorrt: TensorRT) -> Mismatch | None:
    rule = _version_rule(sidecar, tensorrt)
    name = f"{TITLES[sidecar.flavour]} {sidecar.tensorrt_version}"
    return Mismatch("version", name, str(tensorrt), rule) if rule else None


def _version_rule(sidecar: Sidecar, tensorrt: TensorRT) -> str:
    """The rule that the two versions break, "" where they match. A `.post` is of the package, not of it."""
    try:
        built = Version(sidecar.tensorrt_version)
    except InvalidVersion:
        return "the sidecar's version cannot be read"
    if tensorrt.lean and not sidecar.version_compatible:
        return LEAN_RULE
    if built.release == tensorrt.version.release:
        return ""
    if sidecar.flavour == "tensorrt-rtx":
        return "an engine runs on the release that built it, and on no other"
    if not sidecar.version_compatible:
        return "major, minor, patch and build must be the same, unless it is built with --version-compatible"
    if built.release > tensorrt.version.release:
        return "a version-compatible engine runs on its own version and on newer ones, not on older ones"
    majors = (built.major, tensorrt.version.major)
    if majors[0] != majors[1] and majors not in CROSS_MAJOR:
        return "a version-compatible engine runs on its own major; one of 8 on 10 too, one of 10 on 11 too"
    return ""


def _mismatch(sidecar: Sidecar, gpu: Gpu) -> Mismatch | None:
    here = f"an SM {gpu.sm} ({gpu.name})"
    if sidecar.hardware_compatibility == "ampere-plus":
        if int(gpu.sm) >= AMPERE:
            return None
        return Mismatch("gpu", "Ampere and newer (SM 80 on)", here, "hardware compatibility starts at Ampere")
    if gpu.sm in sidecar.sms:
        return None
    rule = "an engine runs on the compute capability it was built on, unless built for Ampere and newer"
    return Mismatch("gpu", _listed(sidecar.sms), here, rule)


def _rtx_mismatch(sidecar: Sidecar, gpu: Gpu) -> Mismatch | None:
    here = f"an SM {gpu.sm} ({gpu.name})"
    if not _rtx_runs_on(gpu):
        rule = "TensorRT-RTX does not run on this GPU, whatever the engine"
        return Mismatch("gpu", _listed(sidecar.sms) if sidecar.sms else "RTX GPUs", here, rule)
    if sidecar.sms:
        if gpu.sm in sidecar.sms:
            return None
        return Mismatch("gpu", _listed(sidecar.sms), here, "an engine runs on the GPUs that it names")
    if int(gpu.sm) >= RTX_DEFAULT_LEAST:
        return None
    return Mismatch("gpu", "SM 80, 86, 89, 120 and later", here, "Turing has to be named when it is built")


def _rtx_runs_on(gpu: Gpu) -> bool:
    return int(gpu.sm) in RTX_SMS or int(gpu.sm) >= RTX_FROM


def _listed(sms: tuple[str, ...]) -> str:
    return f"SM {', '.join(sms)}"


def _steps(sidecar: Sidecar, tensorrt: TensorRT, gpu: Gpu) -> tuple[str, ...]:
    """What to do: pick another engine, or build one that fits."""
    if tensorrt.flavour == "tensorrt-rtx" and not _rtx_runs_on(gpu):
        return (f"use an image with full TensorRT: TensorRT-RTX does not run on SM {gpu.sm}",)
    here = f"{TITLES[tensorrt.flavour]} {tensorrt.version}"
    kind = " and version_compatible" if tensorrt.lean else ""
    where = f"with {here} on such a GPU" if tensorrt.lean else "here"
    named = f" --sm {gpu.sm}" if tensorrt.flavour == "tensorrt-rtx" else ""
    named += " --version-compatible" if tensorrt.lean else ""
    return (
        f"pick the engine whose sidecar says {here}{kind} and SM {gpu.sm}",
        f"or build it {where}: trtkit build NETWORK.onnx --precision {sidecar.precision}{named}"
        f" (its ONNX file has SHA-256 {sidecar.onnx_sha256[:12]}...)",
    )
