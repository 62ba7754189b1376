"""A model, and an engine of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verify.networks import healthy, save
from trtkit.build import BuildOptions, build_engine


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return save(healthy(), tmp_path / "model.onnx")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.onnx and model.engine, made of it by TensorRT."""
    folder = tmp_path_factory.mktemp("built")
    options = BuildOptions(
        sms=("80",), min_shapes={"x": (1, 8)}, opt_shapes={"x": (3, 8)}, max_shapes={"x": (6, 8)}
    )
    build_engine(save(healthy(), folder / "model.onnx"), folder / "model.engine", options)
    return folder
