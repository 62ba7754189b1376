"""A service that several files of tests speak to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.networks import doubling
from tests.serve.running import Running, serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def twice(folder: Path) -> Iterator[Running]:
    doubling(folder / "twice" / "model.onnx")
    with serving(folder / "twice", "--max-request-bytes", "1000000") as running:
        yield running
