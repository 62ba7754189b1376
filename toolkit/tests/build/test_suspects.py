"""Where the builder gives up, the error names nodes of the ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.tiny_network import network
from trtkit.build import BuildFailed, BuildOptions, build_engine

BRANCHES = """branches (float[2,1] x, bool c) => (float[N,M] y) {
  [choice] chosen = If (c) <
    then_branch = flat () => (float[2] small) { [flatten] small = Squeeze(x, last) },
    else_branch = same () => (float[2,1] whole) { [keep] whole = Identity(x) }
  >
  y = Unsqueeze(chosen, last)
}"""

WEIGHTS_AS_INTEGERS = """integers (float[2,8] x) => (float[2,4] y) {
  [widen] wide = Cast<to=1>(weight_q)
  y = MatMul(x, wide)
}"""


def failure(model: onnx.ModelProto, folder: Path) -> BuildFailed:
    onnx.save(model, str(folder / "model.onnx"))
    with pytest.raises(BuildFailed) as failed:
        build_engine(folder / "model.onnx", folder / "engine", BuildOptions(precision="fp32", sms=("86",)))
    return failed.value


def test_branches_of_different_ranks(tmp_path: Path) -> None:
    error = failure(network(BRANCHES, weights={"last": np.array([1])}), tmp_path)
    assert error.nodes == ("If 'choice': both branches must give shapes that broadcast",)


def test_a_tensor_that_the_builder_names_is_told_by_who_takes_it(tmp_path: Path) -> None:
    error = failure(network(WEIGHTS_AS_INTEGERS, weights={"weight_q": np.ones((8, 4), np.int8)}), tmp_path)
    assert error.nodes == ("Cast 'widen'",)
    assert "Cast 'widen'" in error.text()
