from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import PROJECT
from tests.docker_registry import docker_registry
from tests.lock_factory import BASE, PYTHON3, TENSORRT, lock_of
from tests.store_factory import finish_images, make_layers
from tests.test_recipe import ours
from trtforge.commands import gc as command
from trtforge.commands.gc import bytes_of
from trtforge.errors import RequestError
from trtforge.gc import Freed, collect, size_of
from trtforge.image import find_image
from trtforge.in_use import in_use
from trtforge.layers.sources import WheelSource
from trtforge.plan import plan_image
from trtforge.publishing.prune import Pruned
from trtforge.record import Record, find_record, keep_record
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.cells import Cells
    from trtforge.publishing.catalogue import Catalogue
    from trtforge.recipe import Recipe
    from trtforge.registry.namespace import Namespace


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def chain(cells: Cells, **request: str) -> Sequence[Recipe]:
    (choice,) = cells.choose({"tensorrt": ("rtx",), **{axis: (value,) for axis, value in request.items()}})
    return ours(cells).chain(choice.cell, lock_of(cells, choice.cell))


def put(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def fill(store: Store, recipes: Sequence[Recipe]) -> None:
    """All that a build of `recipes` leaves in a store."""
    images = finish_images(recipes, store)
    *_, own = recipes[-1].sources.values()
    assert isinstance(own, WheelSource)
    assert own.name.startswith("trtkit")  # which no lock names
    for pin in (*BASE, *TENSORRT, *own.pins):
        put(store.file("wheels", pin.sha256, pin.filename))
    put(store.file("debs", PYTHON3.sha256, PYTHON3.filename))
    system = store.layer(next(iter(recipes[0].sources.values())).key)
    assert system
    put(store.root / "rootfs" / system.diff_id.removeprefix("sha256:") / "bin" / "sh")
    for recipe, image in zip(recipes, images, strict=True):
        keep_record(_record(recipe, image.digest), store)


def _record(recipe: Recipe, digest: str) -> Record:
    return Record(
        ref=recipe.ref, recipe_key=recipe.key, digest=digest, image_id="x", layers=1, size=1, unpacked=1
    )


def files(store: Store) -> set[Path]:
    """But for locks and the index, which stay."""
    return {
        path
        for path in store.root.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.parent != store.oci
    }


def test_what_locked_cells_need_is_kept(cells: Cells, store: Store) -> None:
    recipes = chain(cells)
    fill(store, recipes)
    # The layers that COPY makes have a file in layers/ that is cheap to lose; their blobs stay.
    before = {path for path in files(store) if path.parent.name != "layers"}
    collect(recipes, store)
    assert {path for path in files(store) if path.parent.name != "layers"} == before
    assert [plan_image(recipe, store).action for recipe in recipes] == ["reuse"] * 3
    assert all(find_record(recipe.key, store) for recipe in recipes)


def test_all_else_goes(cells: Cells, store: Store) -> None:
    kept, gone = chain(cells, arch="ampere"), chain(cells, arch="turing")
    fill(store, kept)
    wanted = files(store)
    own = [one for one in gone if one.key not in {recipe.key for recipe in kept}]
    images = finish_images(gone, store)
    extra = [
        put(store.root / "wheels" / ("f" * 64) / "old-1-py3-none-any.whl", 1000).parent,
        put(store.root / "debs" / ("f" * 64) / "old_1_all.deb").parent,
        put(store.root / "rootfs" / ("f" * 64) / "etc" / "passwd").parent.parent,
        put(store.oci / "blobs" / "sha256" / ("f" * 64)),
        put(store.root / "layers" / "f.json"),
        put(store.root / "records" / "f.json"),
    ]
    assert {*collect(kept, store, dry_run=True).paths} >= {*extra}
    assert all(path.exists() for path in extra)
    freed = collect(kept, store)
    assert freed.size > 1000
    assert not [path for path in extra if path.exists()]
    assert {path for path in files(store) if path.parent.name != "layers"} <= wanted
    assert [find_image(recipe.ref, recipe.key, store) for recipe in own] == [None]
    assert not store.blob(images[-1].digest).exists()
    assert [plan_image(recipe, store).action for recipe in kept] == ["reuse"] * 3


def test_nothing_locked_needs_nothing(cells: Cells, store: Store) -> None:
    fill(store, chain(cells))
    collect([], store)
    assert files(store) == set()


def test_an_empty_store_has_nothing_to_free(cells: Cells, store: Store) -> None:
    assert collect(chain(cells), store) == Freed((), 0, 0)


def test_layers_made_for_an_unfinished_image_are_kept(cells: Cells, store: Store) -> None:
    recipes = chain(cells)
    layers = make_layers(recipes[1].sources.values(), store)
    collect(recipes, store)
    assert all(map(store.holds, layers.values()))


def test_work_in_progress_is_kept_and_dead_work_goes(cells: Cells, store: Store) -> None:
    dead = put(store.root / "tmp" / "dead" / "layer", 500)
    with store.work_folder() as work:
        put(work / "layer")
        assert collect(chain(cells), store, dry_run=True) == Freed((dead.parent,), 500, 0)
        assert collect(chain(cells), store).size == 500
        assert work.exists()
    assert not dead.parent.exists()


def age(path: Path, days: float) -> Path:
    """Let `path` not have been used for some days."""
    used = time.time() - 86_400 * days
    os.utime(path, (used, used))
    return path


def wheel(store: Store, letter: str, size: int, days: float) -> Path:
    return age(put(store.file("wheels", letter * 64, "x.whl"), size).parent, days)


def test_a_size_is_kept_by_what_was_not_used_for_longest(store: Store) -> None:
    new, old, middle = (wheel(store, letter, 1000, days) for letter, days in (("a", 1), ("b", 9), ("c", 5)))
    assert collect([], store, 3000) == Freed((), 0, 3000)
    assert collect([], store, 2999, dry_run=True) == Freed((old,), 1000, 2000)
    assert collect([], store, 1999) == Freed((old, middle), 2000, 1000)
    assert [path.exists() for path in (new, old, middle)] == [True, False, False]
    assert collect([], store, 0) == Freed((new,), 1000, 0)


def test_what_a_lock_needs_goes_last_whatever_its_age(cells: Cells, store: Store) -> None:
    recipes = chain(cells)
    fill(store, recipes)
    for path in files(store):
        age(path, 100)
    spare = wheel(store, "f", 1000, 1)
    needed = sum(map(size_of, files(store))) - 1000
    gone = collect(recipes, store, needed).paths
    assert [path for path in gone if path.parent.name != "layers"] == [spare]
    assert [plan_image(recipe, store).action for recipe in recipes] == ["reuse"] * 3
    assert collect(recipes, store, 0).left == 0
    assert [plan_image(recipe, store).action for recipe in recipes] == ["build"] * 3


def test_what_work_uses_stays_whatever_is_said(cells: Cells, store: Store) -> None:
    recipes = chain(cells)
    fill(store, recipes)
    for path in [*files(store), *(path.parent for path in files(store))]:
        age(path, 100)
    before = {path for path in files(store) if path.parent.name != "layers"}
    other = wheel(store, "f", 1000, 1)
    with in_use(store, recipes):
        made = put(store.root / "oci" / "blobs" / "sha256" / ("e" * 64))
        for bound in (None, 0):
            collect([], store, bound)
            assert {path for path in files(store) if path.parent.name != "layers"} >= before | {made}
        assert not other.exists()
        assert [plan_image(recipe, store).action for recipe in recipes] == ["reuse"] * 3
    collect([], store)
    assert files(store) == set()


def test_what_is_made_anew_and_is_there_counts_as_used(cells: Cells, store: Store) -> None:
    """COPY makes its layer each time, and no recipe knows its digest."""
    recipes = chain(cells)
    images = finish_images(recipes, store)
    for path in files(store):
        age(path, 100)
    with in_use(store, ()):
        finish_images(recipes, store)
        collect([], store, 0)
        assert all(store.holds(layer) for image in images for layer in image.layers)
        assert [store.read_blob(image.digest) is not None for image in images] == [True] * 3


WORK = """
import sys, time
from pathlib import Path
from trtforge.in_use import in_use
from trtforge.store import Store
store = Store(Path(sys.argv[1]))
with in_use(store, ()):
    (store.root / "wheels" / ("a" * 64)).touch()
    print(flush=True)
    time.sleep(60)
"""


def test_the_work_of_another_process_counts_until_it_is_killed(store: Store) -> None:
    used, idle = wheel(store, "a", 1000, 9), wheel(store, "b", 1000, 1)
    with subprocess.Popen(
        [sys.executable, "-c", WORK, str(store.root)], cwd=PROJECT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert collect([], store, 0) == Freed((idle,), 1000, 1000)
        process.kill()
    freed = collect([], store, 0)
    assert used in freed.paths
    assert not used.exists()
    assert not list((store.root / "tmp").iterdir())


def test_work_does_not_begin_while_gc_runs(cells: Cells, store: Store) -> None:
    """Else gc could have looked before a file is used, and delete it after."""
    recipes = chain(cells)
    fill(store, recipes)
    began = threading.Event()

    def work() -> None:
        with in_use(store, recipes):
            began.set()

    with store.gc_lock():
        thread = threading.Thread(target=work)
        thread.start()
        assert not began.wait(0.2)
    thread.join(10)
    assert began.is_set()


def test_several_at_once_agree(store: Store) -> None:
    """Each file goes once, and none of them fails for what another took."""
    for number in range(60):
        age(put(store.file("wheels", f"{number:064}", "x.whl"), 100).parent, number + 1)
    with ThreadPoolExecutor(4) as pool:
        freed = list(pool.map(lambda _: collect([], store, 1000), range(4)))
    assert sum(one.size for one in freed) == 5000
    assert {one.left for one in freed} == {1000}
    assert len(list((store.root / "wheels").iterdir())) == 10


@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 50)), max_size=12),
    st.integers(0, 12_000),
)
def test_a_size_is_kept_and_nothing_goes_in_vain(held: list[tuple[int, int]], bound: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        paths = {
            age(put(store.file("wheels", f"{number:064}", "x.whl"), size).parent, days): (size, days)
            for number, (size, days) in enumerate(held)
        }
        freed = collect([], store, bound)
        assert freed.left <= bound
        assert freed.left == sum(size for path, (size, _days) in paths.items() if path.exists())
        gone = [paths[path] for path in freed.paths]
        stay = [about for path, about in paths.items() if path.exists()]
        assert min((days for _size, days in gone), default=99) >= max(
            (days for _size, days in stay), default=0
        )
        if gone:  # without the last that went, it would have been too much
            assert freed.left + gone[-1][0] > bound


@pytest.mark.parametrize(
    ("text", "size"),
    [("50GB", 50 * 10**9), ("20GiB", 20 << 30), ("1.5TB", 1.5 * 10**12), ("500 mb", 5 * 10**8), ("0", 0)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "much", "-5GB", "5 parsecs", "GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is not a size") as error:
        bytes_of(text)
    assert "50GB" in (error.value.fact("next") or "")


def gc(**options: Any) -> None:
    """The command, as typed."""
    open_ = {"max_size": None, "registry": None, "registry_ca": None, "plain_http": False, "dry_run": False}
    command.gc(**{**open_, "json": True, **options})


def test_a_registry_is_pruned_instead_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "collect", lambda *_, **__: pytest.fail("the store was touched"))
    told: list[tuple[str, int, bool]] = []

    def prune(namespace: Namespace, _found: Catalogue, keep: int, _progress: object, dry_run: bool) -> Pruned:
        told.append((str(namespace), keep, dry_run))
        return Pruned(images=("tensorrt:x-20260101",), freed=5)

    monkeypatch.setattr(command, "prune", prune)
    with docker_registry(tmp_path) as host:
        gc(registry=f"{host}/team", dry_run=True)
    assert told == [(f"{host}/team", 7, True)]
    assert json.loads(capsys.readouterr().out) == {
        "dry_run": True,
        "removed": ["tensorrt:x-20260101"],
        "freed": 5,
    }


def test_a_size_is_not_a_registrys() -> None:
    with pytest.raises(RequestError, match="--max-size is about the store") as error:
        gc(registry="localhost:1/team", max_size="5GB")
    assert "keep" in (error.value.fact("next") or "")


def test_sizes_count_files_and_not_what_links_point_to(tmp_path: Path) -> None:
    put(tmp_path / "a" / "one", 100)
    put(tmp_path / "a" / "b" / "two", 50)
    (tmp_path / "a" / "away").symlink_to("/usr")
    assert size_of(tmp_path / "a") == 150 + len("/usr")
    assert size_of(tmp_path / "a" / "one") == 100
    assert os.path.lexists(tmp_path / "a" / "away")
