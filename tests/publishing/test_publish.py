from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest

from tests.docker_registry import docker_registry
from tests.memory_registry import MemoryNamespace
from tests.published_factory import Publisher, changed, report_of, require_whole
from trtforge.errors import EnvironmentLack, ForeignTag, NotTested, RequestError
from trtforge.oci import MANIFEST, Digest
from trtforge.policy import RegistryPolicy
from trtforge.production.staged import staging_tag
from trtforge.progress import Silent
from trtforge.publishing.catalogue import REPOSITORY, TAG, read_catalogue
from trtforge.publishing.entry import dated_tag
from trtforge.publishing.publish import (
    clock_difference,
    is_published,
    published_images,
    require_redistribution,
)
from trtforge.publishing.rollback import rollback
from trtforge.publishing.tested import in_words
from trtforge.registry.artifact import EMPTY, artifact_manifest
from trtforge.registry.namespace import Namespace
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.cells import Cells
    from trtforge.production.staged import Staged

EXACT, SHORT = "rtx1.7.1.116-pt2.9.1-cu12.1-ampere", "cu12.1-ampere"
IMAGES = ("os", "pytorch-cuda", "tensorrt")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def publisher(registry: str, tmp_path: Path, cells: Cells) -> Iterator[Publisher]:
    with Namespace.open(f"{registry}/{tmp_path.name.replace('_', '-')}") as namespace:
        yield Publisher(cells, Store(tmp_path / "store"), namespace)


def whole(publisher: Publisher) -> None:
    require_whole(publisher.namespace)


def put_foreign(publisher: Publisher, tag: str) -> Digest:
    repository = publisher.namespace.repository("tensorrt")
    repository.put_blob(EMPTY)
    return repository.put_manifest(artifact_manifest("theirs"), MANIFEST, tag)


def test_a_chain_gets_its_tags_its_records_and_its_place_in_the_catalogue(publisher: Publisher) -> None:
    staged = publisher.stage()
    entries = publisher.promote(staged)
    day = publisher.namespace.now().date()
    top, digest = entries[-1], staged[-1].image.digest
    assert [entry.image for entry in entries] == list(IMAGES)
    assert (top.tags, top.dated) == ((EXACT, SHORT), dated_tag(EXACT, day))
    assert {publisher.leads_to(tag) for tag in (*top.tags, top.dated)} == {digest}
    assert publisher.leads_to("2.9.1-cu12.1-debian12", "pytorch-cuda") == staged[1].image.digest
    assert publisher.leads_to("debian12", "os") == staged[0].image.digest
    catalogue = read_catalogue(publisher.namespace, Silent())
    assert catalogue.entries == tuple(entries)
    assert not [tag for tag in publisher.namespace.repository("tensorrt").tags() if tag.startswith("staging")]
    recipes = [one.recipe for one in staged]
    found = published_images(recipes, catalogue, publisher.namespace)
    assert found == {one.recipe.key: one.image.digest for one in staged}
    whole(publisher)


def test_an_entry_says_what_the_image_is_and_how_it_was_tested(publisher: Publisher) -> None:
    os, base, top = publisher.publish()
    assert (os.axes, base.sm, base.driver) == ({"os": "debian12", "python": "3.11"}, (), "525")
    assert (top.sm, top.axes["arch"]) == (("80", "86"), "ampere")
    assert os.packages == {"python3": "3.11.2"}
    assert top.packages["onnx"] == "1.23.2"
    assert "torch" not in top.packages
    assert read_catalogue(publisher.namespace, Silent()).packages(top)["torch"] == "2.9.1"
    assert (base.parent, top.parent) == (os.digest, base.digest)
    assert top.smoke
    assert [(one.name, one.status, one.reason) for one in top.smoke.results] == [
        ("user", "passed", ""),
        ("torch_gpu", "skipped", "no GPU"),
    ]
    assert os.smoke is None
    assert os.tested_through == f"tensorrt@{top.digest}"


def test_the_same_again_changes_nothing(publisher: Publisher) -> None:
    first = publisher.publish()
    tags = [publisher.namespace.repository(image).tags() for image in IMAGES]
    catalogue = publisher.leads_to(TAG, REPOSITORY)
    assert publisher.publish() == first
    assert [publisher.namespace.repository(image).tags() for image in IMAGES] == tags
    assert publisher.leads_to(TAG, REPOSITORY) == catalogue


def test_another_image_on_the_same_day_is_the_day_s_second(publisher: Publisher) -> None:
    first = publisher.publish()[-1]
    other = changed(publisher.lock, "onnx", "e")
    second = publisher.publish(other)[-1]
    assert second.dated == f"{first.dated}.2"
    assert publisher.leads_to(first.dated) == first.digest
    assert publisher.leads_to(SHORT) == second.digest
    assert publisher.publish(other)[-1] == second
    third = publisher.publish()[-1]  # the first recipe once more: the newest again
    assert (third.dated, third.digest) == (f"{first.dated}.3", first.digest)
    assert publisher.leads_to(SHORT) == first.digest


def test_an_image_whose_dated_tag_somebody_took_gets_the_next(publisher: Publisher) -> None:
    taken = dated_tag(EXACT, publisher.namespace.now().date())
    digest = put_foreign(publisher, taken)
    assert publisher.publish()[-1].dated == f"{taken}.2"
    assert publisher.leads_to(taken) == digest


def test_a_tag_that_somebody_else_moved_is_left_alone(publisher: Publisher) -> None:
    before = publisher.publish()[-1]
    foreign = put_foreign(publisher, SHORT)
    with pytest.raises(ForeignTag) as caught:
        publisher.publish(changed(publisher.lock, "onnx", "e"))
    assert caught.value.tag == f"{publisher.namespace}/tensorrt:{SHORT}"
    assert (publisher.leads_to(SHORT), publisher.leads_to(EXACT)) == (foreign, before.digest)
    assert read_catalogue(publisher.namespace, Silent()).newest("tensorrt", EXACT) == before


def test_a_tag_that_is_moved_while_we_publish_is_left_alone(tmp_path: Path, cells: Cells) -> None:
    memory = MemoryNamespace()
    publisher = Publisher(cells, Store(tmp_path / "store"), cast("Namespace", memory))
    staged = publisher.make()
    foreign: list[Digest] = []

    def meddle(write: str) -> None:
        if write == f"put tensorrt:{EXACT}":
            foreign.append(put_foreign(publisher, SHORT))

    memory.tell = meddle
    with pytest.raises(ForeignTag):
        publisher.promote(staged)
    assert publisher.leads_to(SHORT) == foreign[0]
    assert publisher.leads_to(EXACT) == staged[-1].image.digest


def test_what_failed_a_test_is_not_published(publisher: Publisher) -> None:
    before = publisher.publish()
    staged = publisher.stage(changed(publisher.lock, "onnx", "e"))
    reports = {staged[1].recipe.key: report_of(), staged[2].recipe.key: report_of(ok=False)}
    with pytest.raises(NotTested) as caught:
        publisher.promote(staged, reports=reports)
    assert caught.value.reasons == {"user": "is root"}
    assert read_catalogue(publisher.namespace, Silent()).entries == tuple(before)
    assert publisher.leads_to(SHORT) == before[-1].digest
    assert publisher.leads_to(staging_tag(staged[-1].image.digest)) is None


def test_what_was_not_tested_is_not_published(publisher: Publisher) -> None:
    staged = publisher.stage()
    for reports in ({}, {staged[2].recipe.key: report_of()}):  # the image below carries tests of its own
        with pytest.raises(NotTested, match="not run"):
            publisher.promote(staged, reports=reports)
    assert publisher.leads_to(SHORT) is None
    publisher.promote(staged)
    again = publisher.stage(changed(publisher.lock, "onnx", "e"))
    publisher.promote(again, reports={again[2].recipe.key: report_of()})  # the base was tested when published


def test_require_gpu_refuses_what_skipped_its_gpu_checks(publisher: Publisher) -> None:
    staged = publisher.stage()
    with pytest.raises(NotTested) as caught:
        publisher.promote(staged, require_gpu=True)
    assert caught.value.reasons == {"torch_gpu": "no GPU"}
    assert publisher.leads_to(SHORT) is None
    good = {one.recipe.key: report_of(gpu=True) for one in staged[1:]}
    assert publisher.promote(staged, reports=good, require_gpu=True)


def test_dates_are_the_registry_s(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = publisher.stage()
    monkeypatch.setattr(Namespace, "now", lambda _self: datetime(2031, 2, 3, 23, 59, tzinfo=UTC))
    assert publisher.promote(staged)[-1].dated == f"{EXACT}-20310203"


def test_a_clock_that_is_wrong_is_told() -> None:
    memory = MemoryNamespace()
    for minutes, told in {4: "", -4: "", 90: "90 minutes behind", -90: "90 minutes ahead"}.items():
        memory.clock = datetime.now(UTC) + timedelta(minutes=minutes)
        assert told in clock_difference(cast("Namespace", memory)) or not told
        assert bool(clock_difference(cast("Namespace", memory))) is bool(told)


def test_a_report_in_words_never_hides_what_was_skipped() -> None:
    assert in_words(report_of()) == "1 passed, 1 skipped (torch_gpu: no GPU)"
    assert in_words(report_of(ok=False, gpu=True)) == "1 passed, 1 failed"


def test_a_public_registry_needs_the_word() -> None:
    policy = RegistryPolicy(public=["registry.example/team"])
    acknowledged = policy.model_copy(update={"redistribution": "acknowledged"})
    for name, refused in {
        "registry.example/team": True,
        "registry.example/team/nightly": True,
        "registry.example/teammates": False,
    }.items():
        with Namespace.open(name) as namespace:
            require_redistribution(namespace, acknowledged)
            if refused:
                with pytest.raises(RequestError, match="nothing was pushed"):
                    require_redistribution(namespace, policy)
            else:
                require_redistribution(namespace, policy)


# Broken off anywhere


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("package", ["onnx", "torch"])
def test_broken_off_anywhere_public_tags_lead_to_whole_images_and_the_next_run_finishes(
    package: str, tmp_path: Path, cells: Cells
) -> None:
    memory = MemoryNamespace()
    publisher = Publisher(cells, Store(tmp_path / "store"), cast("Namespace", memory))
    old = publisher.promote(publisher.make())[-1]
    staged = publisher.make(changed(publisher.lock, package, "e"))
    before, moment, died = memory.contents, 0, True
    while died:
        moment += 1
        memory.contents = deepcopy(before)
        died = killed_at(memory, publisher, staged, moment)
        whole(publisher)
        assert publisher.leads_to(SHORT) in (old.digest, staged[-1].image.digest)
        assert not published(publisher, staged) or publisher.leads_to(SHORT) == staged[-1].image.digest
        memory.clock += timedelta(days=moment % 2)  # the next run may be on the next day
        new = publisher.promote(staged)[-1]
        assert publisher.leads_to(SHORT) == publisher.leads_to(EXACT) == new.digest
        assert published(publisher, staged)
        found = read_catalogue(publisher.namespace, Silent())
        assert [entry.dated for entry in found.of("tensorrt", SHORT)] == [new.dated, old.dated]
        assert len(found.entries) == {"onnx": 4, "torch": 5}[package]
        whole(publisher)
    assert moment > 12


def killed_at(memory: MemoryNamespace, publisher: Publisher, staged: list[Staged], writes: int) -> bool:
    """Whether the process died before its write number `writes`."""
    done: list[str] = []

    def tell(write: str) -> None:
        done.append(write)
        if len(done) >= writes:  # it is dead: it cleans up nothing any more
            raise Killed

    memory.tell = tell
    try:
        publisher.promote(staged)
    except Killed:
        return True
    finally:
        memory.tell = lambda _write: None
    return False


def published(publisher: Publisher, staged: list[Staged]) -> bool:
    repository = publisher.namespace.repository("tensorrt")
    catalogue = read_catalogue(publisher.namespace, Silent())
    return is_published(staged[-1].recipe, catalogue, repository, repository.tags())


# Two at once


def test_two_publishers_of_the_same_image(publisher: Publisher) -> None:
    staged = publisher.stage()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(publisher.promote, [staged, staged])
    assert [entry.dated for entry in first] == [entry.dated for entry in second]
    found = read_catalogue(publisher.namespace, Silent())
    assert [entry.dated for entry in found.entries] == [entry.dated for entry in first]
    whole(publisher)


def test_two_publishers_of_the_same_cell_in_other_recipes(publisher: Publisher) -> None:
    for digit in "bcd":
        chains = [publisher.stage(changed(publisher.lock, name, digit)) for name in ("onnx", "torch")]
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(publisher.promote, chains)
        assert one[-1].dated != other[-1].dated
        for entry in (*one, *other):
            assert publisher.leads_to(entry.dated, entry.image) == entry.digest
        found = read_catalogue(publisher.namespace, Silent())
        newest = found.newest("tensorrt", SHORT)
        assert newest
        assert newest.digest == publisher.leads_to(SHORT) == publisher.leads_to(EXACT)
        whole(publisher)


# Rollback


def test_rollback_puts_the_tags_back_and_a_nightly_leaves_it_so(publisher: Publisher) -> None:
    locks = [publisher.lock, changed(publisher.lock, "onnx", "e"), changed(publisher.lock, "onnx", "f")]
    first, second, third = (publisher.publish(lock)[-1] for lock in locks)

    def back(to: str = "") -> tuple[Digest | None, Digest | None]:
        catalogue = read_catalogue(publisher.namespace, Silent())
        done = rollback(publisher.namespace, catalogue, "tensorrt", SHORT, to, Silent())
        assert done.now.digest == publisher.leads_to(SHORT) == publisher.leads_to(EXACT)
        return done.before.digest if done.before else None, done.now.digest

    assert back() == (third.digest, second.digest)
    assert back() == (second.digest, first.digest)
    with pytest.raises(RequestError) as caught:
        back()
    assert [text for label, text in caught.value.facts if label == "published"] == [
        third.dated,
        second.dated,
        first.dated,
    ]
    day = f"{first.day:%Y%m%d}"
    assert back(f"{day}.2") == (first.digest, second.digest)
    assert back(day) == (second.digest, third.digest)
    with pytest.raises(RequestError, match="no image of 20200101"):
        back("20200101")
    back(f"{day}.1")
    repository = publisher.namespace.repository("tensorrt")
    catalogue = read_catalogue(publisher.namespace, Silent())
    newest = publisher.stage(locks[2])[-1].recipe  # stages the newest again, as an unfinished publish would
    assert not is_published(newest, catalogue, repository, repository.tags())
    back(f"{day}.1")
    assert is_published(newest, catalogue, repository, repository.tags())


def test_rollback_over_a_foreign_tag_must_name_the_day(publisher: Publisher) -> None:
    ours = publisher.publish()[-1]
    put_foreign(publisher, SHORT)
    catalogue = read_catalogue(publisher.namespace, Silent())
    with pytest.raises(ForeignTag):
        rollback(publisher.namespace, catalogue, "tensorrt", SHORT, "", Silent())
    done = rollback(publisher.namespace, catalogue, "tensorrt", SHORT, f"{ours.day:%Y%m%d}", Silent())
    assert (done.before, done.moved) == (None, (SHORT,))
    assert publisher.leads_to(SHORT) == ours.digest


# A registry that deletes nothing


def test_a_registry_that_deletes_nothing_can_be_published_to(tmp_path: Path, cells: Cells) -> None:
    (tmp_path / "registry").mkdir()
    with (
        docker_registry(tmp_path / "registry", delete=False) as host,
        Namespace.open(f"{host}/team") as namespace,
    ):
        publisher = Publisher(cells, Store(tmp_path / "store"), namespace)
        first = publisher.publish()[-1]
        second = publisher.publish(changed(publisher.lock, "onnx", "e"))[-1]
        assert read_catalogue(namespace, Silent()).of("tensorrt", SHORT) == (second, first)
        with pytest.raises(EnvironmentLack):
            namespace.repository("tensorrt").delete_tag(SHORT)
