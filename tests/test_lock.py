from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PROJECT
from tests.index.test_local_project import FILES, write
from tests.lock_factory import lock_of
from trtforge.errors import LockError
from trtforge.index.local_project import LocalProject
from trtforge.lock import Lock, inputs_checksum, lock_text, read_lock
from trtforge.oci import Digest

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.cells import Cells
    from trtforge.matrix import Matrix

INPUTS = Digest("sha256:inputs")


@pytest.fixture
def lock(cells: Cells) -> Lock:
    (choice,) = cells.choose({"cuda": ("12.1",), "tensorrt": ("rtx",)})
    return lock_of(cells, choice.cell)


def test_a_lock_is_read_as_it_was_written(lock: Lock, tmp_path: Path) -> None:
    file = tmp_path / "matrix.lock"
    file.write_text(lock_text(lock), encoding="utf-8")
    assert read_lock(file, INPUTS) == lock.pruned()


def test_the_same_lock_is_the_same_text(lock: Lock) -> None:
    shuffled = lock.model_copy(update={"wheels": dict(reversed(lock.wheels.items()))})
    assert lock_text(shuffled) == lock_text(lock)


def test_a_lock_holds_no_addresses() -> None:
    assert not re.search(r"https?:|//", (PROJECT / "matrix.lock").read_text(encoding="utf-8"))


def test_what_no_cell_uses_is_dropped(lock: Lock) -> None:
    more = lock.model_copy(update={"sets": {**lock.sets, "old": ("gone.whl",)}})
    assert "old" not in more.pruned().sets


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('sha256 = "' + "1" * 64, 'sha256 = "' + "b" * 64),
        ('version = "2.4.6"', 'version = "2.4.7"'),
        ('state = "locked"', 'state = "unlocked"'),
    ],
)
def test_an_edited_lock_is_refused(lock: Lock, tmp_path: Path, old: str, new: str) -> None:
    file = tmp_path / "matrix.lock"
    text = lock_text(lock)
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(LockError) as caught:
        read_lock(file, INPUTS)
    assert "python build.py lock" in (caught.value.fact("next") or "")


def test_a_lock_of_another_matrix_is_stale(lock: Lock, tmp_path: Path) -> None:
    file = tmp_path / "matrix.lock"
    file.write_text(lock_text(lock), encoding="utf-8")
    with pytest.raises(LockError, match="stale") as caught:
        read_lock(file, Digest("sha256:other"))
    assert caught.value.fact("next") == "python build.py lock"
    assert read_lock(file, None) == lock.pruned()


@pytest.mark.parametrize("text", ["content = [", "\x00", 'inputs = "x"\nunknown = 1\n', "format = 3"])
def test_what_is_no_lock_is_refused_without_a_traceback(tmp_path: Path, text: str) -> None:
    file = tmp_path / "matrix.lock"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(LockError, match="cannot be read"):
        read_lock(file, INPUTS)


def test_no_lock_is_an_empty_one(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "matrix.lock", INPUTS) == Lock(inputs=INPUTS)


def test_the_meaning_of_the_matrix_and_the_templates_count_not_the_layout(
    matrix: Matrix, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(PROJECT / "images", images)
    before = inputs_checksum(matrix, images, {})
    assert inputs_checksum(matrix, PROJECT / "images", {}) == before
    other = matrix.model_copy(update={"sdist_build": ["setuptools==1"]})
    assert inputs_checksum(other, images, {}) != before
    template = images / "tensorrt" / "Dockerfile.j2"
    template.write_text(template.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert inputs_checksum(matrix, images, {}) != before


def test_what_our_own_projects_need_counts_not_what_they_are(matrix: Matrix, tmp_path: Path) -> None:
    def checksum() -> str:
        return inputs_checksum(matrix, PROJECT / "images", {"acme-kit": LocalProject(tmp_path)})

    write(tmp_path)
    before = checksum()
    write(tmp_path, {"acme_kit/more.py": "X = 1\n", "README.md": "text\n"})
    assert checksum() == before
    for old, new in (("numpy>=1.26", "numpy>=2"), ("fastapi", "starlette"), ("serve =", "service =")):
        write(tmp_path, {"pyproject.toml": FILES["pyproject.toml"].replace(old, new)})
        assert checksum() != before
