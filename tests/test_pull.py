"""From what is published to one digest: by selectors, by the machine, and what is refused."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PROJECT
from tests.docker_registry import docker_registry
from tests.test_fit import entry, machine
from trtforge.commands import pull as command
from trtforge.commands.pull import find_wanted
from trtforge.commands.selection import Session
from trtforge.errors import EnvironmentLack, RequestError
from trtforge.oci import MANIFEST, canonical_json
from trtforge.progress import Silent
from trtforge.project import Project
from trtforge.publishing.catalogue import Catalogue
from trtforge.publishing.entry import attach_record
from trtforge.pull import IMAGE, published, pull
from trtforge.registry.namespace import Namespace
from trtforge.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.cells import Cells
    from trtforge.publishing.entry import Entry

SHORT = "cu12.1-ampere"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def namespace(registry: str, tmp_path: Path) -> Iterator[Namespace]:
    with Namespace.open(f"{registry}/{tmp_path.name.replace('_', '-')}") as opened:
        yield opened


def put(one: Entry, namespace: Namespace, *tags: str) -> Entry:
    """A manifest with these tags, and `one` as what is known of it."""
    repository = namespace.repository("tensorrt")
    config = repository.put_blob(canonical_json({"of": one.dated}))
    body = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config,
                "size": len(canonical_json({"of": one.dated})),
            },
            "layers": [],
        }
    )
    for tag in tags:
        digest = repository.put_manifest(body, MANIFEST, tag)
    return one.model_copy(update={"digest": digest})


def ask(namespace: Namespace, catalogue: Catalogue, **request: str) -> list[tuple[str, tuple[str, ...]]]:
    session = Session(
        Project(PROJECT), {axis: (value,) for axis, value in request.items()}, False, Terminal()
    )
    return [(one.entry.digest, one.tags) for one in find_wanted(session, namespace, catalogue)]


def test_selectors_lead_through_the_short_tag_to_a_digest(cells: Cells, namespace: Namespace) -> None:
    one = entry(cells, cuda="12.1", arch="ampere", tensorrt="1.7.1.116")
    one = put(one, namespace, *one.tags)
    assert ask(namespace, Catalogue(entries=(one,)), cuda="12.1", arch="ampere") == [
        (one.digest, (SHORT, one.exact))
    ]


def test_who_names_torch_or_tensorrt_means_the_exact_tag(cells: Cells, namespace: Namespace) -> None:
    full = entry(cells, cuda="12.1", arch="ampere")
    rtx = entry(cells, cuda="12.1", arch="ampere", tensorrt="1.7.1.116")
    full = put(full, namespace, full.exact, SHORT)
    rtx = put(rtx.model_copy(update={"tags": rtx.tags[:1]}), namespace, rtx.exact)
    catalogue = Catalogue(entries=(full, rtx))
    assert ask(namespace, catalogue, cuda="12.1", arch="ampere") == [(full.digest, (SHORT, full.exact))]
    assert ask(namespace, catalogue, cuda="12.1", arch="ampere", tensorrt="rtx") == [
        (rtx.digest, (rtx.exact,))
    ]


def test_after_a_rollback_the_tag_counts_and_not_the_day(
    cells: Cells, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (entry(cells, date(2026, 11, day), cuda="12.1", arch="ampere") for day in (21, 22))
    new = put(new, namespace, new.dated)
    old = put(old, namespace, *old.tags)
    catalogue = Catalogue(entries=(old, new))
    assert published(IMAGE, SHORT, namespace, catalogue) == old
    monkeypatch.setattr(command, "read_machine", lambda: machine("535.104.05", "86"))
    assert ask(namespace, catalogue) == [(old.digest, (SHORT, old.exact))]


def test_an_image_that_the_catalogue_does_not_know_yet_is_known_by_its_record(
    cells: Cells, namespace: Namespace
) -> None:
    one = entry(cells, cuda="12.1", arch="ampere")
    one = put(one, namespace, SHORT)
    repository = namespace.repository("tensorrt")
    image = repository.find_manifest(SHORT)
    assert image
    attach_record(one, image, repository)
    assert published(IMAGE, SHORT, namespace, Catalogue()) == one


def test_a_tag_that_leads_to_a_strangers_image_is_refused(cells: Cells, namespace: Namespace) -> None:
    one = entry(cells, cuda="12.1", arch="ampere")
    ours = put(one, namespace, one.dated)
    strange = put(one.model_copy(update={"dated": "x-20260101"}), namespace, SHORT)
    with pytest.raises(RequestError, match="not published, so nothing is known of it") as error:
        published(IMAGE, SHORT, namespace, Catalogue(entries=(ours,)))
    assert error.value.fact("found") == strange.digest
    assert error.value.fact("published") == f"{ours.dated} ({ours.digest})"
    assert "rollback" in (error.value.fact("next") or "")


def test_what_is_not_published_is_answered_with_what_is(cells: Cells, namespace: Namespace) -> None:
    entries = tuple(
        put(one, namespace, *one.tags)
        for one in (entry(cells, cuda="12.1", arch=arch) for arch in ("ampere", "ada"))
    )
    with pytest.raises(RequestError, match=r"cu12\.1-turing is not published") as error:
        ask(namespace, Catalogue(entries=entries), cuda="12.1", arch="turing")
    assert error.value.fact("published") == "cu12.1-ampere, cu12.1-ada"
    with pytest.raises(RequestError) as error:
        published(IMAGE, SHORT, namespace, Catalogue())
    assert SHORT in error.value.problem


def test_without_selectors_and_gpu_selectors_are_asked_for(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentLack, match="no NVIDIA GPU") as error:
        ask(namespace, Catalogue())
    assert "--cuda" in (error.value.fact("next") or "")


class Tagged:
    """An Engine that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pull(self, reference: str, _progress: object, size: int) -> None:
        self.told.append(f"pull {reference} {size}")

    def tag(self, source: str, target: str) -> None:
        self.told.append(f"tag {source.partition('@')[2]} {target}")


def test_a_pulled_image_gets_every_name(cells: Cells, namespace: Namespace) -> None:
    one, engine = entry(cells, cuda="12.1", arch="ampere"), Tagged()
    names = pull(one, (SHORT, "x"), ["a/b", "c"], namespace, engine, Silent())  # type: ignore[arg-type]
    assert names == [f"a/b:{SHORT}", f"c:{SHORT}", "a/b:x", "c:x"]
    assert engine.told[0] == f"pull {namespace.name('tensorrt')}@{one.digest} 1"
    assert engine.told[1:] == [f"tag {one.digest} {name}" for name in names]
