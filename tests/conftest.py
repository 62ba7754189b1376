from __future__ import annotations

from pathlib import Path

import pytest

from trtforge.cells import Cells
from trtforge.matrix import Matrix, load_matrix

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def matrix() -> Matrix:
    return load_matrix(PROJECT / "matrix.yaml")


@pytest.fixture(scope="session")
def cells(matrix: Matrix) -> Cells:
    return Cells(matrix)
