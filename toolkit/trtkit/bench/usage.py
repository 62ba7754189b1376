"""What a row uses while it is the one that runs: the GPU's time, its memory, and the host's."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trtkit.devices import Gpu, usage

INTERVAL = 0.05
"""Seconds between two looks."""

STALE = 0.2
"""Seconds: NVML tells the utilisation of its last sample period, which may have begun before the run did.
Source: NVML API reference, nvmlDeviceGetUtilizationRates ("between 1/6 and 1 second")."""


@contextmanager
def utilisation(gpu: Gpu | None) -> Iterator[list[int]]:
    """The GPU's utilisation in percent, looked at beside the `with` block, without its first `STALE` seconds.
    Empty without a GPU, or if the block was shorter."""
    seen: list[int] = []
    if gpu is None:
        yield seen
        return
    over = threading.Event()
    start = time.perf_counter()

    def look() -> None:
        while not over.wait(INTERVAL):
            now = usage(gpu)
            if now is not None and time.perf_counter() - start > STALE:
                seen.append(now.utilisation)

    looking = threading.Thread(target=look, name="utilisation", daemon=True)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def memory_in_use(gpu: Gpu | None) -> int | None:
    """Bytes that everybody uses on `gpu` now."""
    now = usage(gpu) if gpu else None
    return now.memory if now else None


def resident_bytes(pid: int) -> int:
    """Memory of a process; 0 if it is gone. Source: proc(5), /proc/pid/statm, in pages."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
