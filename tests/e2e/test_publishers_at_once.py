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
    [[(0, 0), (1, 1), (2, 2)], [(0, 1), (2, 3), (4, 5)]],
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
    for pair in [(0, 1), (2, 3), (4, 0), (1, 2), (3, 0)]:
        for shop, version in zip(shops, pair, strict=False):
            shop.write(version)
        runs = [shop.start(line) for shop, line in zip(shops, (PUBLISH, PUBLISH, "gc"), strict=True)]
        pruned = [runs.pop().end(), shops[2].start("gc").end()]
        assert pruned == [0, 0], shops[2].said
        codes = [run.end() for run in runs]
        onlooker.look()
        for shop, code in zip(shops, codes, strict=False):
            if code:  # what it found was taken away before it had a tag; then nothing is moved
                assert "run the same command again" in shop.said
                shop.type(PUBLISH)
        keys = {shops[0].chains(version)[0][-1].key for version in pair}
        onlooker.look()
        assert onlooker.recipe_of(SHORT) in keys


@pytest.mark.parametrize("part", [0.1, 0.4, 0.9])
def test_a_registry_that_dies_and_comes_back(part: float, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry") as host:
        shop = Workshop(tmp_path / "machine", f"{host}/team")
        shop.type(PUBLISH)
        shop.write(1)
        steps = shop.type(PUBLISH)
        shop.write(3)
        onlooker = shop.onlooker()
        before = onlooker.look()
        run = shop.start(PUBLISH)
        assert run.reaches(int(part * steps))
    with docker_registry(tmp_path / "registry", host=host):
        onlooker = shop.onlooker(dated=onlooker.dated)
        onlooker.look()
        assert run.end() == 0, shop.said
        assert onlooker.look()[SHORT] != before[SHORT]
