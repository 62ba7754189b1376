from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

from trtforge.cells import Cells
from trtforge.matrix import Matrix, load_matrix

PROJECT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Let Ctrl-C work: a shell has it ignored in what it starts in its background, and in their children.

    Under nohup that is so of SIGHUP; children of who handles it themselves have its default again.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    # How long an example takes is the machine's business, not the test's.
    settings.register_profile("trtforge", deadline=None)
    settings.load_profile("trtforge")


@pytest.fixture(scope="session")
def matrix() -> Matrix:
    return load_matrix(PROJECT / "matrix.yaml")


@pytest.fixture(scope="session")
def cells(matrix: Matrix) -> Cells:
    return Cells(matrix)
