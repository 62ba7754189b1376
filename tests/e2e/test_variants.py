"""The variants of one cell, as they are built and tested: what each adds, and what none may hold."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Forge
    from trtforge.engine.engine import Engine

pytestmark = [pytest.mark.e2e, pytest.mark.cell]

CELL = "--cuda 12.1 --arch ampere --tensorrt rtx"


def built(forge: Forge, engine: Engine, variant: str) -> dict[str, Any]:
    """The variant's own image, all of whose tests passed or were skipped for want of a GPU; out of the Engine
    again."""
    chain = forge.build(f"{CELL} --variant {variant}")
    for ref in chain[-1]["refs"]:
        engine.remove(ref)
    return chain[-1]


def results(image: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["status"] for one in image["smoke"]["results"]}


@pytest.mark.parametrize(
    ("variant", "checks"),
    [
        ("jupyter", {"jupyter_server", "jupyter_notebooks"}),
        ("ssh", {"ssh_login"}),
    ],
)
def test_what_stands_on_the_cell_s_image_adds_to_it(
    forge: Forge, engine: Engine, variant: str, checks: set[str]
) -> None:
    image, below = built(forge, engine, variant), forge.build(CELL)[-1]
    found = results(image)
    assert {found.get(name) for name in checks} == {"passed"}
    assert results(below).keys() <= found.keys()
    layers, lower = forge.layers(image["digest"]), forge.layers(below["digest"])
    assert layers[: len(lower)] == lower
    assert [name for digest in layers[len(lower) :] for name in private_keys(forge, digest)] == []


def private_keys(forge: Forge, digest: str) -> list[str]:
    """The files of a layer that are private keys (RFC 7468; programs only hold the words)."""
    found = []
    with tarfile.open(forge.cache / "store" / "oci" / "blobs" / digest.replace(":", "/")) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            first = file.readline(80) if file else b""
            if first.startswith(b"-----BEGIN") and b"PRIVATE KEY" in first:
                found.append(member.name)
    return found


def test_what_deploys_is_small_and_has_no_torch(forge: Forge, engine: Engine) -> None:
    image = built(forge, engine, "deploy")
    assert image["size"] < 400_000_000
    found = results(image)
    assert not any(name.startswith("torch") for name in found)
    assert found["trtkit_run"] in ("passed", "skipped")
    assert "failed" not in found.values()
