from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trtforge.nightly.fan_out import github_matrix

if TYPE_CHECKING:
    from trtforge.cells import Cells


def test_the_jobs_select_exactly_the_published_cells_and_no_large_layer_is_in_two(cells: Cells) -> None:
    published = [choice.cell for choice in cells.published()]
    jobs = json.loads(json.dumps(github_matrix(published)))["include"]
    requests = [{axis: tuple(value.split(",")) for axis, value in job.items()} for job in jobs]
    selected = [choice.cell for request in requests for choice in cells.published(request)]
    assert selected == [choice.cell for request in requests for choice in cells.choose(request)]
    assert sorted(selected) == sorted(published)
    assert len(jobs) < len(published)
    assert all("," not in value for job in jobs for axis, value in job.items() if axis != "arch")


def test_no_cells_are_no_jobs() -> None:
    assert github_matrix([]) == {"include": []}
