"""publish and nightly, ended by kill -9 at any moment: what is public is whole, and the next run goes on.

The verbs and the registry are real; see tests/tiny_publishing.py for what is not.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.docker_registry import docker_registry
from tests.tiny_publishing import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.onlooker import Onlooker

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform != "linux", reason="forks")]

SEED, MOMENTS, A_ROUND = 3, 50, 10

PUBLISH = "publish --cuda 12.1 --arch ampere --offline --jobs 2"
NIGHTLY = "nightly --no-refresh --offline --jobs 2"
CELLS = {PUBLISH: ["ampere"], NIGHTLY: ["ampere", "turing"]}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@dataclass
class Runs:
    """Runs of one verb, each to publish another version than the one before or to finish that.

    steps: of an undisturbed run that changes TensorRT's image alone, and of one that changes the base too.
    """

    shop: Workshop
    line: str
    onlooker: Onlooker
    version: int = 0
    steps: dict[int, int] = field(default_factory=dict)

    def next(self) -> None:
        self.version += 1
        self.shop.write(self.version)

    def is_killed(self, moment: float, delay_s: float) -> bool:
        """Whether the process still ran at `moment`, a part of the steps it takes, and a little later."""
        run = self.shop.start(self.line)
        if run.reaches(round(moment * self.steps[self.version % 2])):
            time.sleep(delay_s)
            run.kill()
        else:
            run.end()
        assert run.process.exitcode in (0, -signal.SIGKILL), self.shop.said
        return run.process.exitcode != 0

    def finish(self) -> None:
        """A run that nobody disturbs; all is then as if nobody ever had."""
        steps = self.shop.type(self.line)
        found = self.onlooker.look()
        recipes = {chain[-1].ref.rpartition("-")[2]: chain for chain in self.shop.chains(self.version)}
        for arch in CELLS[self.line]:
            for recipe in recipes[arch]:
                for ref in recipe.refs:
                    name = ref.rpartition("/")[2]
                    assert self.onlooker.recipe_of(name) == recipe.key, f"{name}\n{self.shop.said}"
        newest = {digest for name, digest in found.items() if name not in self.onlooker.dated}
        assert not newest & {*self.onlooker.unfinished().values()}, self.shop.said
        entries = self.onlooker.catalogue() or []
        listed = {f"{entry['image']}:{entry['dated']}": entry["digest"] for entry in entries}
        assert listed == {name: found[name] for name in found if name in self.onlooker.dated}
        self.steps.setdefault(self.version % 2, steps)


@pytest.mark.parametrize("line", CELLS, ids=lambda line: line.partition(" ")[0])
def test_killed_at_fifty_moments(line: str, registry: str, tmp_path: Path) -> None:
    shop = Workshop(tmp_path / "machine", f"{registry}/{line.partition(' ')[0]}")
    runs, chance = Runs(shop, line, shop.onlooker()), random.Random(SEED)
    shop.type(line)
    for _ in range(2):
        runs.next()
        runs.finish()
    runs.next()
    moments = [(number + chance.random()) / MOMENTS for number in range(MOMENTS)]
    chance.shuffle(moments)
    while moments:
        moment = moments[-1]
        if not runs.is_killed(moment, chance.uniform(0, 0.01)):
            runs.next()  # it was begun before, and less was left to do
            continue
        moments.pop()
        try:
            runs.onlooker.look()
        except AssertionError as error:
            found = f"seed {SEED}, killed at {moment:.0%} of {line.split()[0]}"
            raise AssertionError(f"{found}: {error}\n{shop.said}") from error
        if len(moments) % A_ROUND == 0:
            runs.finish()
            shop.type("gc")
            shop.days += 1
        if len(moments) % A_ROUND == 0 or chance.random() < 0.7:  # else the next goes on with this one
            runs.next()
    for _ in range(2):  # who prunes lets what nothing refers to lie for a day
        shop.type("gc")
        shop.days += 2
    assert runs.onlooker.unfinished() == {}
    runs.onlooker.look()
