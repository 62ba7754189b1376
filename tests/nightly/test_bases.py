from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.base_factory import FITTING
from tests.conftest import PROJECT
from tests.test_locking import pick
from trtforge.cells import Cells
from trtforge.errors import EnvironmentLack, RequestError
from trtforge.matrix import Matrix, load_matrix
from trtforge.nightly.bases import Move, moved, moves, rewritten, unfit
from trtforge.oci import Digest
from trtforge.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.registry.reference import Reference

OLD, NEW = Digest(f"sha256:{'a' * 64}"), Digest(f"sha256:{'b' * 64}")
OURS = (PROJECT / "matrix.yaml").read_text(encoding="utf-8")
ROWS = f"""\
    bookworm-slim: {{distribution: debian, codename: bookworm, python: "3.11", glibc: "2.36", gcc: "12",
                    image: "registry.acme.example/debian:12@{OLD}"}}   # security: {OLD}
    acme-torch: {{base: "registry.acme.example/torch:2.9@{OLD}", python: "3.11", glibc: "2.35"}}
    fixed: {{base: "registry.acme.example/torch@{OLD}", python: "3.11", glibc: "2.35"}}
"""
MARK = '  python: ["3.11", '
TEXT = OURS.replace(MARK, ROWS + MARK)


@pytest.fixture
def followed(tmp_path: Path) -> Matrix:
    return read(tmp_path, TEXT)


def read(folder: Path, text: str) -> Matrix:
    (folder / "matrix.yaml").write_text(text, encoding="utf-8")
    return load_matrix(folder / "matrix.yaml")


def test_a_reference_with_a_tag_follows_it_and_one_without_never_moves(followed: Matrix) -> None:
    asked = []

    def find(reference: Reference) -> Digest:
        asked.append(str(reference))
        return NEW if reference.name == "torch" else OLD

    found, failed = moves(followed, find)
    assert asked == ["registry.acme.example/debian:12", "registry.acme.example/torch:2.9"]
    assert found == [
        Move("acme-torch", f"registry.acme.example/torch:2.9@{OLD}", f"registry.acme.example/torch:2.9@{NEW}")
    ]
    assert found[0].digests == (OLD, NEW)
    assert failed == {}


def test_a_tag_that_cannot_be_looked_up_stays_and_says_why(followed: Matrix) -> None:
    def find(reference: Reference) -> Digest | None:
        if reference.name == "torch":
            return None
        raise EnvironmentLack("the registry does not answer")

    assert moves(followed, find) == (
        [],
        {
            "bookworm-slim": "the registry does not answer",
            "acme-torch": "registry.acme.example/torch:2.9 is not there any more",
        },
    )


def test_only_the_digest_in_its_line_is_replaced(followed: Matrix, tmp_path: Path) -> None:
    found, _ = moves(followed, lambda _reference: NEW)
    text = rewritten(TEXT, found)
    changed = [pair for pair in zip(TEXT.splitlines(), text.splitlines(), strict=True) if pair[0] != pair[1]]
    assert [after.replace(NEW, OLD, 1) for _, after in changed] == [before for before, _ in changed]
    assert len(changed) == 2
    assert text.count(OLD) == 2  # the comment, and the base without a tag
    assert read(tmp_path, text) == moved(followed, found)
    assert rewritten(OURS, []) == OURS


def test_a_reference_over_several_lines_is_refused(followed: Matrix) -> None:
    found, _ = moves(followed, lambda _reference: NEW)
    folded = TEXT.replace("registry.acme.example/torch:2.9@", "registry.acme.example\\\n      /torch:2.9@")
    with pytest.raises(RequestError, match="cannot be replaced"):
        rewritten(folded, found)


def test_a_moved_base_is_looked_into_before_it_is_taken(followed: Matrix) -> None:
    found, _ = moves(followed, lambda _reference: NEW)
    system, base = found
    cells = Cells(moved(followed, found))
    wanted = [pick(cells, tensorrt="rtx", os="acme-torch")]

    def misfit(reference: str) -> object:
        assert reference.endswith(NEW)
        return FITTING.model_copy(update={"torch": "2.8.0"})

    assert unfit(base, cells, wanted, lambda _reference: FITTING, Silent()) is None
    assert "2.8.0" in (unfit(base, cells, wanted, misfit, Silent()) or "")  # type: ignore[arg-type]
    assert unfit(system, cells, wanted, misfit, Silent()) is None  # type: ignore[arg-type]
