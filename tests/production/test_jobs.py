from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trtforge.production.jobs import DISK, MEMORY, default_jobs, jobs_for

if TYPE_CHECKING:
    from pathlib import Path

PLENTY = 1 << 50


@pytest.mark.parametrize(
    ("cpus", "memory", "disk", "count", "why"),
    [
        (16, PLENTY, PLENTY, 16, "16 CPUs"),
        (16, 4 * MEMORY, PLENTY, 4, "memory"),
        (16, PLENTY, 3 * DISK, 3, "disk"),
        (16, 0, 0, 1, "memory"),
    ],
    ids=["CPUs", "memory", "disk", "at least one"],
)
def test_what_is_scarcest_decides(cpus: int, memory: int, disk: int, count: int, why: str) -> None:
    jobs = jobs_for(cpus, memory, disk)
    assert jobs.count == count
    assert why in jobs.reason


def test_a_folder_need_not_exist_yet(tmp_path: Path) -> None:
    assert default_jobs(tmp_path / "not" / "yet").count >= 1
