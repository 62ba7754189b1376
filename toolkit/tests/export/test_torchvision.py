"""Real networks, exported whole: equal to PyTorch at several batch sizes, and read by TensorRT-RTX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from trtkit.export import ExportOptions, export_onnx
from trtkit.flavour import find_tensorrt

pytestmark = pytest.mark.torch


def parsed_by_tensorrt(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs and outputs of the network that TensorRT's parser makes of the file."""
    trt: Any = find_tensorrt().module
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path)), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    ends = [network.get_input(i) for i in range(network.num_inputs)]
    ends += [network.get_output(i) for i in range(network.num_outputs)]
    return {end.name: tuple(end.shape) for end in ends}


@pytest.mark.parametrize(
    ("name", "size", "batches", "without"),
    [
        ("resnet18", 64, (1, 4, 8), {"BatchNormalization", "Shape"}),
        ("resnet50", 64, (1, 4, 8), {"BatchNormalization", "Shape"}),
        ("mobilenet_v3_small", 64, (1, 4, 8), {"BatchNormalization", "Dropout"}),
        # Its positions are for 224 x 224 alone; 86 million weights, so once each at two batch sizes.
        ("vit_b_16", 224, (1, 2), {"Dropout"}),
    ],
)
def test_a_network_of_torchvision(
    tmp_path: Path, name: str, size: int, batches: tuple[int, ...], without: set[str]
) -> None:
    options = ExportOptions.model_validate({"inputs": [f"input:1x3x{size}x{size}"], "batches": batches})
    report = export_onnx(f"torchvision:{name}", tmp_path / "net.onnx", options)
    assert [one.shapes["input"][0] for one in report.comparisons] == list(batches)
    for one in report.comparisons:
        assert one.within
        assert not one.outputs["output"].shared  # all zero, and equal to what would be no export at all
    assert report.external_data is None
    assert not without & set(report.nodes)
    assert not any(node.domain for node in onnx.load(report.path, load_external_data=False).graph.node)
    assert parsed_by_tensorrt(Path(report.path)) == {"input": (-1, 3, size, size), "output": (-1, 1000)}
