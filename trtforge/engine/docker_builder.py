"""The `docker` builder: the Engine builds a rendered Dockerfile from its context folder.

The `oci` builder assembles the same image without an Engine; a test holds the two against each other.
"""

from __future__ import annotations

import os
import re
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from trtforge.engine.errors import EngineSays
from trtforge.engine.tar_stream import Member, file_chunks, tar_stream
from trtforge.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtforge.engine.engine import Engine
    from trtforge.progress import Advance, Progress

TAIL = 20
"""Lines of output that an error shows."""


def build_with_docker(context: Path, tags: Sequence[str], engine: Engine, progress: Progress) -> str:
    """Build `context` with the Engine's classic builder and name the result.

    Args:
        context: folder with `Dockerfile` and what it adds; links are followed, so layers may be links into
            the store. It is streamed: gigabytes of layers are neither copied nor held in memory.
        tags: "name:tag" each; at least one.

    Returns:
        The image's ID.

    Raises:
        BuildError: a step failed; its facts name the step and the last lines of output.
        EnvironmentLack: the Engine went away or its disk is full.
    """
    files = context_files(context)
    size = sum(path.stat().st_size for _name, path in files if path.is_file())
    with engine.errors(f"build {tags[0]}"):
        with progress.task(f"send the context of {tags[0]}", size) as advance:
            events = engine.api.build(
                fileobj=_Stream(tar_stream(_members(files, advance))),
                custom_context=True,
                tag=tags[0],
                rm=True,
                forcerm=True,
                decode=True,
                use_config_proxy=False,
            )
        with progress.task(f"the Engine builds {tags[0]}"):
            _follow(events, tags[0], progress)
        image_id = str(engine.api.inspect_image(tags[0])["Id"])
        for tag in tags[1:]:
            engine.api.tag(image_id, *tag.rsplit(":", 1))
    return image_id


def context_files(context: Path) -> list[tuple[str, Path]]:
    """(name in the context, path) of every file and folder below `context`, sorted; links followed."""
    found = [
        (Path(folder, name).relative_to(context).as_posix(), Path(folder, name))
        for folder, folders, files in os.walk(context, followlinks=True)
        for name in folders + files
    ]
    return sorted(found)


def _members(files: list[tuple[str, Path]], advance: Advance) -> Iterator[Member]:
    for name, path in files:
        if path.is_dir():
            yield Member(name, 0, None, 0o755)
        else:
            status = path.stat()
            mode = 0o755 if status.st_mode & 0o100 else 0o644  # the umask of the checkout must not leak in
            yield Member(name, status.st_size, _counted(file_chunks(path), advance), mode)


def _counted(chunks: Iterator[bytes], advance: Advance) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        advance(len(chunk))


class _Stream:
    """An iterator that the SDK accepts as a file and requests sends in chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks


def _follow(events: Iterator[dict[str, object]], tag: str, progress: Progress) -> None:
    """Show the Engine's build output; the step that was running when an error came is the one that failed."""
    step = "reading the Dockerfile"
    tail: deque[str] = deque(maxlen=TAIL)
    for event in events:
        for line in str(event.get("stream", "")).splitlines():
            if re.match(r"Step \d+/\d+ : ", line):
                step = line
                progress.note(line)
                tail.clear()
            elif line.strip():
                tail.append(line.rstrip())
        if "error" in event:
            says = str(event["error"])
            if "no space left on device" in says.lower():
                raise EngineSays(says)
            output = [("output", line) for line in tail]
            raise BuildError(f"building {tag} failed: {says}", ("step", step), *output)
