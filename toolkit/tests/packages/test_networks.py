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
from trtkit.build.onnx_file import read_onnx
from trtkit.build.profiles import resolve_profile
from trtkit.build.strong_typing import typed_onnx
from trtkit.errors import TrtkitError
from trtkit.flavour import find_tensorrt
from trtkit.runners import random_feeds
from trtkit.runners.onnxruntime import OnnxRuntimeRunner
from trtkit.sidecar import Precision, read_sidecar
from trtkit.tensors import Shape, parse_shapes
from trtkit.verify import Tolerance
from trtkit.verify.comparison import compare

pytestmark = pytest.mark.packages

LIKE_FP32 = Tolerance(
    absolute=0.1, relative=0.1, cosine=0.997, agreement=1.0, because="the trained networks here; see the test"
)

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


@pytest.mark.parametrize(
    "network",
    [network for network in LISTED if "refused" not in network],
    ids=lambda network: network["onnx"],
)
def test_what_is_written_as_fp16_computes_what_it_did(
    network: dict[str, Any], packages: dict[str, Path], tmp_path: Path
) -> None:
    """On noise, in which a detector sees nothing: what it gives is mostly rounding, its direction counts."""
    wanted = options(network, "fp16")
    source = read_onnx(packages[network["package"]] / network["onnx"])
    profile = resolve_profile(
        source.inputs, source.dimensions, wanted.min_shapes, wanted.opt_shapes, wanted.max_shapes
    )
    halved = typed_onnx(source, profile, wanted, find_tensorrt(), tmp_path)
    shapes = {spec.name: profile[spec.name].opt if spec.dynamic else spec.shape for spec in source.inputs}
    feeds = random_feeds(source.inputs, shapes)
    before, after = (OnnxRuntimeRunner(path).run(feeds) for path in (source.path, halved.path))
    assert halved.path != source.path
    for name, expected in before.items():
        comparison = compare(after[name], expected, LIKE_FP32)
        assert comparison.within, f"{name}: {comparison.why}"


def options(network: dict[str, Any], precision: Precision) -> BuildOptions:
    low, opt, high = (
        {name: pick(texts, at) for name, texts in network.get("shapes", {}).items()} for at in range(3)
    )
    return BuildOptions(precision=precision, sms=("86",), min_shapes=low, opt_shapes=opt, max_shapes=high)


def pick(texts: list[str], at: int) -> Shape:
    """min, opt or max; one text is all three."""
    return parse_shapes([f"x:{texts[at % len(texts)]}"])["x"]
