"""Images of the matrix written "registry/name:tag@sha256:...": where the tag moves, the digest follows.

matrix.yaml is written by people, so only the digest in that one line of it is replaced.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from trtforge.axes import BroughtBase, Os
from trtforge.base import verify_base
from trtforge.errors import EnvironmentLack, ForgeError, RequestError
from trtforge.registry.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trtforge.base import Base
    from trtforge.cells import Cell, Cells
    from trtforge.matrix import Matrix
    from trtforge.oci import Digest
    from trtforge.progress import Progress
    from trtforge.registry.reference import Reference


_TAGGED = re.compile(r".+:[^/:@]+@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Move:
    """An operating system whose image's tag now names another digest: its reference before and after."""

    os: str
    before: str
    after: str

    @property
    def digests(self) -> tuple[str, str]:
        """The digests before and after."""
        return self.before.rpartition("@")[2], self.after.rpartition("@")[2]


def moves(
    matrix: Matrix, find_digest: Callable[[Reference], Digest | None]
) -> tuple[list[Move], dict[str, str]]:
    """The images that moved, and for those whose tag could not be looked up: OS -> why.

    Args:
        find_digest: what a tag names now; None: there is no such tag.
    """
    found, failed = [], {}
    for name, text in _followed(matrix):
        tagged, _, digest = text.rpartition("@")
        try:
            now = find_digest(parse_reference(tagged))
            if now is None:
                raise EnvironmentLack(f"{tagged} is not there any more")
        except ForgeError as error:
            failed[name] = error.problem
            continue
        if now != digest:
            found.append(Move(name, text, f"{tagged}@{now}"))
    return found, failed


def _followed(matrix: Matrix) -> list[tuple[str, str]]:
    systems = matrix.axes.os.items()
    texts = [(name, one.image if isinstance(one, Os) else one.base) for name, one in systems]
    return [(name, text) for name, text in texts if text and _TAGGED.fullmatch(text)]


def moved(matrix: Matrix, found: Iterable[Move]) -> Matrix:
    """`matrix` after these moves."""
    systems = dict(matrix.axes.os)
    for move in found:
        key = "image" if isinstance(systems[move.os], Os) else "base"
        systems[move.os] = systems[move.os].model_copy(update={key: move.after})
    return matrix.model_copy(update={"axes": matrix.axes.model_copy(update={"os": systems})})


def unfit(
    move: Move, cells: Cells, wanted: Iterable[Cell], bring: Callable[[str], Base], progress: Progress
) -> str | None:
    """Why a moved image cannot be what `wanted` cells stand on; None where it can, as far as is known now."""
    if not isinstance(cells.matrix.axes.os[move.os], BroughtBase):
        return None
    try:
        base = bring(move.after)
        for cell in wanted:
            if cell.os == move.os:
                for note in verify_base(base, cells, cell):
                    progress.note(note)
    except ForgeError as error:
        return error.problem
    return None


def rewritten(text: str, found: Iterable[Move]) -> str:
    """matrix.yaml's `text` with the digests of these moves in place of the old ones, and else unchanged.

    Raises:
        RequestError: a reference does not stand in one line.
    """
    lines = text.splitlines(keepends=True)
    systems = YAML(typ="rt").load(text)["axes"]["os"]
    for move in found:
        key = "image" if "image" in systems[move.os] else "base"
        number = systems[move.os].lc.value(key)[0]
        if move.before not in lines[number]:
            raise RequestError(
                f"matrix.yaml:{number + 1}: the digest of {move.os} cannot be replaced",
                ("found", lines[number].strip()),
                ("next", "write the whole reference in one line"),
            )
        lines[number] = lines[number].replace(move.before, move.after)
    return "".join(lines)
