"""A registry in trouble while we publish: we say so, no public tag leads astray, the next run finishes."""

from __future__ import annotations

import random
from contextlib import suppress
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from tests.onlooker import Onlooker
from tests.published_factory import Publisher, changed
from tests.unruly_registry import HASTE, UnrulyRegistry, unruly_registry
from trtforge.errors import BuildError, EnvironmentLack, ForgeError, WrongDigest
from trtforge.registry.namespace import Namespace
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.cells import Cells

SHORT = "cu12.1-ampere"
WRONG = f"sha256:{'0' * 64}"


@pytest.fixture
def registry() -> Iterator[UnrulyRegistry]:
    with unruly_registry() as registry:
        yield registry


@pytest.fixture
def publisher(registry: UnrulyRegistry, tmp_path: Path, cells: Cells) -> Iterator[Publisher]:
    with Namespace.open(f"{registry.host}/team", HASTE) as namespace:
        yield Publisher(cells, Store(tmp_path / "store"), namespace)


@pytest.mark.parametrize(
    ("method", "part", "events", "error", "says"),
    [
        ("PUT", "manifests", [500, 503], None, ""),
        ("POST", "uploads", [429, 429], None, ""),
        ("PUT", "uploads", [("cut", 40), ("cut", 40)], None, ""),
        ("PUT", "uploads", ["deaf", "lost"], None, ""),
        ("GET", "manifests", ["short", "short"], None, ""),
        ("GET", "blobs", ["short", "short"], None, ""),
        ("PUT", "uploads", [500] * 99, EnvironmentLack, "does not write"),
        ("PUT", f"manifests/{SHORT}", [503] * 99, EnvironmentLack, "does not write"),
        ("GET", "tags/list", [429] * 99, EnvironmentLack, "does not read"),
        ("PUT", "manifests/staging", [("lie", WRONG)], WrongDigest, "not what its digest says"),
        ("HEAD", f"manifests/{SHORT}", [("lie", WRONG)], BuildError, "was moved by somebody else"),
        ("PUT", "uploads", ["full"] * 99, EnvironmentLack, "has no space left"),
        ("PUT", "manifests/staging", ["full"] * 99, EnvironmentLack, "has no space left"),
        ("PUT", "uploads", [403] * 99, EnvironmentLack, "does not let us write"),
    ],
)
def test_one_trouble(
    method: str,
    part: str,
    events: list[Any],
    error: type[ForgeError] | None,
    says: str,
    registry: UnrulyRegistry,
    publisher: Publisher,
) -> None:
    onlooker = Onlooker(registry.host, "team")
    old = publisher.publish()[-1]
    onlooker.look()
    newer = changed(publisher.lock, "onnx", "e")
    if "full" in events:
        registry.refusal, events = {"message": "write: no space left on device"}, [500] * 99
    registry.breaks(method, part, *events)
    if error:
        with pytest.raises(error, match=says) as caught:
            publisher.publish(newer)
        assert caught.value.exit_code == error.exit_code
        assert caught.value.fact("next")
        registry.broken.clear()
        assert onlooker.look()[f"tensorrt:{SHORT}"] == old.digest
    else:
        publisher.publish(newer)
        assert not registry.broken[method, part]
        onlooker.look()
    new = publisher.publish(newer)[-1]
    assert onlooker.look()[f"tensorrt:{SHORT}"] == new.digest != old.digest


def test_tokens_that_expire_meanwhile(tmp_path: Path, cells: Cells) -> None:
    with (
        unruly_registry(token_lasts=12) as registry,
        Namespace.open(f"{registry.host}/team", HASTE) as namespace,
    ):
        publisher = Publisher(cells, Store(tmp_path / "store"), namespace)
        new = publisher.publish()[-1]
        assert publisher.leads_to(SHORT) == new.digest
        assert len(registry.tokens) > 10


@pytest.mark.parametrize("event", [500, "short", ("lie", WRONG), "deaf"], ids=str)
def test_trouble_at_any_request(
    event: Any, registry: UnrulyRegistry, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be too much for a publish, above all if it stays; it never is for those who read."""
    onlooker, chance = Onlooker(registry.host, "team"), random.Random(4)
    before = len(registry.asked)
    publisher.publish()
    requests = len(registry.asked) - before
    for lasting, digit in zip(cycle([False, True]), "abcdef", strict=False):
        moment = len(registry.asked) + chance.randrange(requests // 2)

        def breaks(_method: str, _path: str, moment: int = moment, lasting: bool = lasting) -> Any:
            asked = len(registry.asked)
            return event if asked == moment or (lasting and asked > moment) else None

        newer = changed(publisher.lock, "onnx", digit)
        with monkeypatch.context() as patch, suppress(ForgeError):
            patch.setattr(registry, "event", breaks)
            publisher.publish(newer)
        onlooker.look()
        new = publisher.publish(newer)[-1]
        assert onlooker.look()[f"tensorrt:{SHORT}"] == new.digest
