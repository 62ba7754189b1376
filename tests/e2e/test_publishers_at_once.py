"""Several machines that publish to one namespace at once; see tests/tiny_publishing.py."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.docker_registry import docker_registry
from tests.tiny_publishing import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform != "linux", reason="forks")]

PUBLISH = "publish --cuda 12.1 --arch ampere --offline --jobs 1"
SHORT = "tensorrt:cu12.1-ampere"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.mark.parametrize(
    "versions",
    [[(0, 0), (1, 1), (2, 2), (3, 3)], [(0, 1), (2, 3), (4, 5), (6, 7)]],
    ids=["same recipe", "other recipes"],
)
def test_two_publishers(versions: list[tuple[int, int]], registry: str, tmp_path: Path) -> None:
    shops = [Workshop(tmp_path / name, f"{registry}/two-{versions[0][1]}") for name in ("one", "other")]
    onlooker = shops[0].onlooker(forward=False)
    for pair in versions:
        for shop, version in zip(shops, pair, strict=True):
            shop.write(version)
        runs = [shop.start(PUBLISH) for shop in shops]
        codes = [run.end() for run in runs]
        assert codes == [0, 0], "\n".join(shop.said for shop in shops)
        found = onlooker.look()
        keys = {shops[0].chains(version)[0][-1].key for version in pair}
        assert onlooker.recipe_of(SHORT) in keys
        assert found[SHORT] == found["tensorrt:rtx1.7.1.116-pt2.9.1-cu12.1-ampere"]
        entries = onlooker.catalogue() or []
        listed = {f"{entry['image']}:{entry['dated']}" for entry in entries}
        assert listed == {name for name in found if name in onlooker.dated}
        assert onlooker.unfinished() == {}


def test_two_publishers_while_a_third_prunes(registry: str, tmp_path: Path) -> None:
    """They publish again what is just being removed, as well."""
    names = ("one", "other", "third")
    shops = [Workshop(tmp_path / name, f"{registry}/pruned") for name in names]
    onlooker = shops[0].onlooker(forward=False)
    for pair in [(0, 1), (2, 3), (4, 0), (1, 2), (3, 5), (0, 1), (2, 6)]:
        for shop, version in zip(shops, pair, strict=False):
            shop.write(version)
        runs = [shop.start(line) for shop, line in zip(shops, (PUBLISH, PUBLISH, "gc"), strict=True)]
        codes = [runs[2].end()]
        codes += [shops[2].start("gc").end()]
        codes += [run.end() for run in runs[:2]]
        print(codes)
        onlooker.look()
