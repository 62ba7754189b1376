from __future__ import annotations

import numpy as np
import pytest

from tests.precision.networks import large
from tests.tiny_network import convolutional, network
from trtkit.precision import overflowing_nodes


def test_it_finds_the_nodes_that_make_or_take_a_large_value() -> None:
    assert overflowing_nodes(large(), {"x": (1, 8)}).nodes == {"up", "product", "down"}


def test_an_ordinary_network_has_none() -> None:
    overflow = overflowing_nodes(convolutional(), {"image": (1, 4, 16, 16)})
    assert (overflow.nodes, overflow.unseen) == (frozenset(), "")


@pytest.mark.parametrize(
    ("value", "large"), [(60000, True), (1e9, True), (-60000, True), (-1e9, False), (9, False)]
)
def test_a_weight_counts_too_unless_it_is_a_masks_minus_infinity(value: float, large: bool) -> None:
    model = network(
        "n (float[4] x) => (float[4] y) { [add] h = Add(x, w) y = Tanh(h) }", weights={"w": np.float32(value)}
    )
    assert ("add" in overflowing_nodes(model, {"x": (4,)}).nodes) == large


def test_infinity_is_no_overflow() -> None:
    """log(0), which is minus infinity in FP16 as well."""
    model = network("n (float[4] x) => (float[4] y) { z = Sub(x, x) l = Log(z) i = Neg(l) y = Exp(l) }")
    assert not overflowing_nodes(model, {"x": (4,)}).nodes


def test_a_network_that_cannot_be_run_is_told_and_its_weights_are_still_looked_at() -> None:
    model = network(
        "n (float[4] x) => (float[4] y) { h = my.ops.Odd(x) [add] y = Add(h, w) }",
        weights={"w": np.float32(60000)},
    )
    overflow = overflowing_nodes(model, {"x": (4,)})
    assert overflow.nodes == {"add"}
    assert "Odd" in overflow.unseen


def test_a_node_without_a_name_is_called_after_its_output() -> None:
    model = large()
    for node in model.graph.node:
        node.name = ""
    assert overflowing_nodes(model, {"x": (1, 8)}).nodes == {"up", "product", "down"}
