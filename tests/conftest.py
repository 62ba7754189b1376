from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

from trtforge.cells import Cells
from trtforge.matrix import Matrix, load_matrix

PROJECT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Let Ctrl-C work: a shell has it ignored in what it starts in its background, and in their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes is the machine's business, not the test's.
    settings.register_profile("trtforge", deadline=None)
    settings.load_profile("trtforge")


@pytest.fixture(scope="session")
def matrix() -> Matrix:
    return load_matrix(PROJECT / "matrix.yaml")


@pytest.fixture(scope="session")
def cells(matrix: Matrix) -> Cells:
    return Cells(matrix)
