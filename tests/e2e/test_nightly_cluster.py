"""A night on a cluster, as a person types it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_cluster import two_workers
from tests.e2e.test_nightly import place  # noqa: F401 (a fixture)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.test_nightly import Place

pytestmark = pytest.mark.e2e


def test_two_workers_publish_what_one_machine_does(
    place: Place,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, ours = place.night()
    assert code == 0
    monkeypatch.delenv("TRTFORGE_CACHE", raising=False)  # each worker has a store of its own
    elsewhere = f"--registry {place.namespace.host}/elsewhere --no-refresh"
    with two_workers(tmp_path / "scratch", ENGINE=1) as client:
        code, theirs = place.night(f"{elsewhere} --scheduler {client.scheduler.address}")
    assert code == 0
    assert {cell["result"] for cell in theirs["cells"]} == {"published"}
    assert {cell["cell"]: cell["digest"] for cell in theirs["cells"]} == {
        cell["cell"]: cell["digest"] for cell in ours["cells"]
    }
    # The state is in the registry: this machine, which made nothing of it, sees that nothing is to be done.
    code, again = place.night(elsewhere)
    assert (code, again["summary"]) == (0, "nothing changed: 3 up to date")
