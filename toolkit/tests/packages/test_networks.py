"""Networks that we did not export ourselves build, or trtkit says which operator and which node is why not.

networks.yaml says what becomes of each; it stays true, since a success that it does not expect fails as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.index_packages import unpack
from trtkit.build import BuildOptions, build_engine
from trtkit.errors import TrtkitError
from trtkit.sidecar import Precision, read_sidecar
from trtkit.tensors import Shape, parse_shapes

pytestmark = pytest.mark.packages

LISTED: list[dict[str, Any]] = YAML(typ="safe").load(Path(__file__).with_name("networks.yaml"))


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every package of networks.yaml -> the folder it is unpacked to."""
    folder = tmp_path_factory.mktemp("packages")
    exact = {
        network["package"]: f"{network['package']} --hash=sha256:{network['sha256']}" for network in LISTED
    }
    return {name: unpack(requirement, folder / name) for name, requirement in exact.items()}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("network", LISTED, ids=lambda network: network["onnx"])
def test_it_builds_or_is_refused_for_the_reason_that_is_listed(
    network: dict[str, Any], precision: Precision, packages: dict[str, Path], tmp_path: Path
) -> None:
    onnx, engine = packages[network["package"]] / network["onnx"], tmp_path / "engine"
    try:
        build_engine(onnx, engine, options(network, precision))
        said = ""
    except TrtkitError as error:
        said = error.text()
    wanted = network.get("refused", [])
    if not wanted:
        assert not said
        assert read_sidecar(engine).sms == ("86",)
    else:
        assert said, "it builds now: take `refused` out of networks.yaml"
        for text in wanted:
            assert text in said


def options(network: dict[str, Any], precision: Precision) -> BuildOptions:
    low, opt, high = (
        {name: pick(texts, at) for name, texts in network.get("shapes", {}).items()} for at in range(3)
    )
    return BuildOptions(precision=precision, sms=("86",), min_shapes=low, opt_shapes=opt, max_shapes=high)


def pick(texts: list[str], at: int) -> Shape:
    """min, opt or max; one text is all three."""
    return parse_shapes([f"x:{texts[at % len(texts)]}"])["x"]
