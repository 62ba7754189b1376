"""How many layers this machine should make at a time."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pathlib import Path

MEMORY = 256 << 20
"""Bytes that making a layer takes at most: this process's share and a compiling one (bench/results)."""

DISK = 2 << 30
"""Bytes that making a layer takes at most: the largest known wheel, and its layer."""


@dataclass(frozen=True)
class Jobs:
    """A number of jobs, and what it comes from."""

    count: int
    reason: str


def jobs_for(cpus: int, memory: int, disk: int) -> Jobs:
    """As many as there are CPUs, as far as free `memory` and `disk` (bytes) allow; at least one."""
    bounds = [
        Jobs(cpus, f"{cpus} CPUs"),
        Jobs(
            memory // MEMORY, f"{memory / 1e9:.1f} GB of memory are free, and each takes {MEMORY / 1e9:.1f}"
        ),
        Jobs(disk // DISK, f"{disk / 1e9:.1f} GB of disk are free, and each takes {DISK / 1e9:.1f}"),
    ]
    least = min(bounds, key=lambda bound: bound.count)
    return Jobs(max(least.count, 1), least.reason)


def default_jobs(folder: Path) -> Jobs:
    """What suits this machine now, for a store that is, or will be, in `folder`."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return jobs_for(
        len(os.sched_getaffinity(0)), psutil.virtual_memory().available, shutil.disk_usage(there).free
    )
