"""The timing cache: how fast each tactic was, kept from one build to the next.

Valid for one GPU and one TensorRT version (TensorRT developer guide, "Timing Cache"); TensorRT-RTX times
nothing when it builds, and has none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtkit.flavour import TensorRT
from trtkit.sidecar import Caveat


def load_timing_cache(config: Any, path: Path | None, tensorrt: TensorRT) -> tuple[Caveat, ...]:
    """Give `config` the cache at `path`, or a new one. A file that does not fit is told, and not used."""
    if path is None:
        return ()
    if tensorrt.flavour == "tensorrt-rtx":
        return (Caveat(kind="timing-cache", text=f"{tensorrt} has no timing cache; {path.name} is not used"),)
    kept = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(kept)
    if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
        return ()
    config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    text = f"{path.name} is of another GPU or TensorRT, or damaged: the build began without it"
    return (Caveat(kind="timing-cache", text=text),)


def save_timing_cache(config: Any, path: Path | None, tensorrt: TensorRT) -> None:
    """Write the cache of the build that `config` was used for to `path`: whole, or not at all."""
    if path is None or tensorrt.flavour == "tensorrt-rtx":
        return
    cache = config.get_timing_cache()
    if cache is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_bytes(memoryview(cache.serialize()))
    new.replace(path)
