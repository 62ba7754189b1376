"""publish as a person types it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_nightly import OURS, Place, place  # noqa: F401 (a fixture)

if TYPE_CHECKING:
    import subprocess


pytestmark = pytest.mark.e2e

CELLS = "--cuda 12.8 --tensorrt rtx --os base3.11"
SHORT = "cu12.8-ampere-base3.11"


def test_from_the_matrix_to_a_tag_and_back(place: Place) -> None:  # noqa: F811
    def type_in(line: str) -> subprocess.CompletedProcess[str]:
        return place.forge.type(f"{line} --registry {place.namespace}")

    packages = f"--wheelhouse {place.house} --offline"
    assert place.forge.type("lock --all " + packages).returncode == 0
    refused = type_in(f"publish {CELLS} --arch ampere {packages} --require-gpu")
    assert refused.returncode == 1
    assert "gpu: no GPU" in refused.stderr
    assert place.digest(SHORT) is None

    first = type_in(f"publish {CELLS} --arch ampere,ada {packages}")
    assert first.returncode == 0, first.stderr
    assert f"docker pull {place.namespace}/tensorrt:{SHORT}" in first.stdout
    assert "1 passed, 1 skipped (gpu: no GPU)" in first.stdout
    good = place.digest(SHORT)
    assert good == place.digest(f"{OURS}-ampere-base3.11")

    again = type_in(f"publish {CELLS} --arch ampere {packages}")
    assert again.returncode == 0, again.stderr
    assert "all of it was there" in again.stdout

    place.offer("1.24.0", "py3-none-any")
    assert place.forge.type(f"lock --all --upgrade {packages}").returncode == 0
    pushed = type_in(f"push {CELLS} --arch ampere {packages}")
    assert pushed.returncode == 0, pushed.stderr
    assert "tensorrt:staging-" in pushed.stdout
    assert place.digest(SHORT) == good
    second = type_in(f"publish {CELLS} --arch ampere {packages}")
    assert second.returncode == 0, second.stderr
    assert place.digest(SHORT) != good

    back = type_in(f"rollback {CELLS} --arch ampere")
    assert back.returncode == 0, back.stderr
    assert place.digest(SHORT) == good
    listed = type_in("catalogue --arch ampere")
    assert "rolled back to" in listed.stdout
    unknown = type_in(f"rollback {CELLS} --arch ampere --to 20200101")
    assert unknown.returncode == 2
    assert "published" in unknown.stderr
