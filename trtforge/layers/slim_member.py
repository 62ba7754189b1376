"""A shared library of a wheel on its way into a layer that keeps the code of some GPUs only.

Slimming reads a library here and there, and what it holds is told at its end: so it is unpacked to a folder
for work in progress, and what comes of it is read from there.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from trtforge.slim.library import slim_library

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtforge.layers.wheel_contents import MemberStream
    from trtforge.progress import Advance


@dataclass(frozen=True)
class SlimFile:
    """A slimmed library: where it is for now, its bytes and the SHA-256 of its content."""

    path: Path
    size: int
    sha256: bytes


@contextmanager
def slimmed(
    stream: MemberStream, sm: Sequence[str], work: Path | None, advance: Advance
) -> Iterator[SlimFile]:
    """The library of `stream`, all of which is read and checked, with only the code that GPUs of `sm` run.

    Args:
        work: the folder below which it may lie meanwhile; None: where the system has its temporary files.
        advance: told the compressed bytes read.

    Raises:
        CorruptWheel: it is not what the archive or RECORD says.
        NotUnderstood, NothingRuns: see `slim_library`.
    """
    with tempfile.TemporaryDirectory(dir=work) as folder:
        library = Path(folder) / PurePosixPath(stream.member.name).name
        with library.open("wb") as file:
            for piece in stream.pieces():
                file.write(piece.plain)
                advance(len(piece.deflated))
        out = library.with_name(f"{library.name}.slim")
        slim_library(library, out, sm)
        library.unlink()
        with out.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").digest()
        yield SlimFile(out, out.stat().st_size, sha256)
