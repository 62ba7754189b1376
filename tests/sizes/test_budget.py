"""Budgets in matrix.yaml: what is refused, which one counts, and what an image over it is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PROJECT
from trtforge.cells import Cells
from trtforge.errors import MatrixError
from trtforge.lock import inputs_checksum
from trtforge.matrix import load_matrix
from trtforge.policy import Budget
from trtforge.sizes.budget import budget_of, over_budget
from trtforge.sizes.growth import Growth
from trtforge.sizes.size import Size

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.cells import Cell
    from trtforge.matrix import Matrix

OURS = (PROJECT / "matrix.yaml").read_text(encoding="utf-8")
OS = re.findall(r"^  os: \{compressed.*$", OURS, re.MULTILINE)


def matrix_with(budget: str, tmp_path: Path) -> Matrix:
    """Ours, with this as the budget of the image os."""
    file = tmp_path / "matrix.yaml"
    file.write_text(OURS.replace(OS[0], budget), encoding="utf-8")
    return load_matrix(file)


def cell_of(cells: Cells, **asked: str) -> Cell:
    (choice,) = cells.choose({axis: (value,) for axis, value in asked.items()})
    return choice.cell


@pytest.mark.parametrize("size", ["0 MB", "-3 MB", "0", "60", "much", "60 parsecs", "[60 MB]", "1e3", "''"])
def test_a_budget_that_is_no_size_is_refused_with_its_line(size: str, tmp_path: Path) -> None:
    with pytest.raises(MatrixError) as caught:
        matrix_with(f"  os: {{compressed: {size}, on_disk: 160 MB}}", tmp_path)
    at = caught.value.fact("at") or ""
    line = OURS[: OURS.index(OS[0])].count("\n") + 1
    assert at.startswith(f"matrix.yaml:{line}: budgets.os")
    assert "is not a size: write one above zero, with its unit" in at


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ("", "budgets: there is none for the image os"),
        ("  os: {compressed: 60 MB}", "on_disk: Field required"),
        (f"{OS[0]}\n  oss: {{compressed: 1 MB, on_disk: 1 MB}}", "budgets: there is no image oss"),
        ("  os: []", "at least 1 item"),
        ("  os: [{when: {arch: ada}, compressed: 1 MB, on_disk: 1 MB}]", "the last budget, and no other"),
        ("  os: [{compressed: 1 MB, on_disk: 1 MB}, {compressed: 2 MB, on_disk: 2 MB}]", "the last budget"),
    ],
)
def test_each_image_has_a_budget_for_all_of_its_cells(budget: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(MatrixError) as caught:
        matrix_with(budget, tmp_path)
    assert says in str(caught.value.facts)


def test_the_first_that_holds_for_the_cell_counts(tmp_path: Path) -> None:
    matrix = matrix_with(
        """\
  os:
    - {when: {arch: [ada, hopper], cuda: ">=12.5"}, compressed: 2 GB, on_disk: 3 GiB}
    - {when: {arch: ada}, compressed: 1.5 MB, on_disk: 2 MB}
    - {compressed: 60 kB, on_disk: 61 kB}""",
        tmp_path,
    )
    cells = Cells(matrix)
    found = [
        budget_of("os", cell_of(cells, cuda=cuda, arch=arch, tensorrt="rtx"), cells)
        for cuda, arch in (("12.8", "ada"), ("12.1", "ada"), ("12.8", "ampere"))
    ]
    assert [(one.compressed, one.on_disk) for one in found] == [
        (2 * 10**9, 3 * 2**30),
        (1_500_000, 2_000_000),
        (60_000, 61_000),
    ]


def test_a_condition_on_what_nobody_knows_is_refused(tmp_path: Path) -> None:
    two = "[{when: {colour: red}, compressed: 1 MB, on_disk: 1 MB}, {compressed: 1 MB, on_disk: 1 MB}]"
    cells = Cells(matrix_with(f"  os: {two}", tmp_path))
    with pytest.raises(MatrixError, match="nothing is known of a cell that is called 'colour'"):
        budget_of("os", cell_of(cells, cuda="12.1", arch="ampere", tensorrt="rtx"), cells)


def test_budgets_make_no_lock_stale(tmp_path: Path) -> None:
    changed = matrix_with("  os: {compressed: 1 GB, on_disk: 2 GB}", tmp_path)
    assert changed.budgets != load_matrix(PROJECT / "matrix.yaml").budgets
    images = PROJECT / "images"
    assert inputs_checksum(changed, images, {}) == inputs_checksum(
        load_matrix(PROJECT / "matrix.yaml"), images, {}
    )


BUDGET = Budget(compressed="10 MB", on_disk="20 MB")  # type: ignore[arg-type]


def test_an_image_within_its_budget_is_well() -> None:
    assert over_budget("os:debian12", Size(10_000_000, 20_000_000), BUDGET, (), None) is None


def test_an_image_over_it_is_told_by_how_much_and_what_grew() -> None:
    layers = (("os", "operating system", Size(4_000_000, 0)), ("os", "links", Size(-50, -60)))
    growth = Growth("os:debian12-20261124", Size(3_999_950, -60), layers)
    error = over_budget("os:debian12", Size(12_500_000, 20_000_000), BUDGET, (), growth)
    assert error
    assert error.problem == "os:debian12 is over its budget by 2.5 MB compressed"
    assert error.over == {"compressed": (12_500_000, 10_000_000)}
    assert [text for label, text in error.facts if label == "grew"] == [
        "since os:debian12-20261124: +4.0 MB compressed, -60 B on disk",
        "operating system in os: +4.0 MB compressed, +0 MB on disk",
    ]
    both = over_budget("os:debian12", Size(12_500_000, 21_000_000), BUDGET, (), None)
    assert both
    assert both.problem == "os:debian12 is over its budget by 2.5 MB compressed and 1.0 MB on disk"
    assert both.fact("grew") == "no published image to compare with"
    assert both.fact("next")
