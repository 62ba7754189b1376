"""An image's own Python, run on the host: its root file system is entered, no container is started.

Whatever could leak from the host into what it compiles is kept out: the environment, the locale, the hash
seed, site-packages. Standard output carries frames and nothing else; see `compile_sources`.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import resources
from typing import IO, TYPE_CHECKING

from trtforge.errors import BuildError, EnvironmentLack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

_FLAGS = ("-s", "-S", "-B", "-X", "utf8", "-W", "ignore")
"""Not -I: that would ignore the hash seed. The environment is replaced as a whole instead."""

_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}


@dataclass(frozen=True)
class ImagePython:
    """An image's Python.

    identity: what decides how it compiles. enter: gives the command that runs it, and is called only when
        there is something to compile.
    """

    identity: str
    enter: Callable[[], Sequence[str]]


def interpreter_in(root: Path, python: str = "/usr/bin/python3") -> tuple[str, ...]:
    """The command that runs `python` inside the unpacked root file system `root`: as root with `chroot`,
    otherwise with a user namespace, which needs no rights where the kernel allows it.

    Raises:
        EnvironmentLack: neither works here.
    """
    tried = []
    for tool, *options in (["chroot", str(root)], ["unshare", "--map-root-user", f"--root={root}"]):
        path = shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if path is None:
            tried.append((tool, "is not installed"))
            continue
        command = (path, *options, python)
        probe = subprocess.run([*command, "-S", "-c", ""], env=_ENVIRONMENT, capture_output=True, check=False)
        if probe.returncode == 0:
            return command
        tried.append((tool, probe.stderr.decode(errors="replace").strip() or f"exit {probe.returncode}"))
    raise EnvironmentLack(
        f"{python} cannot be run inside {root}",
        *tried,
        ("next", "run as root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1"),
    )


def compile_in(interpreter: Sequence[str], python: str, sources: Iterable[tuple[str, bytes]]) -> list[bytes]:
    """Compile `sources`, pairs of installed path and content, in one process.

    Args:
        interpreter: the command that runs the image's Python; arguments are appended to it.
        python: what it must be, "X.Y".

    Returns:
        A .pyc file for each source; empty if the source does not compile.

    Raises:
        BuildError: it is another Python, or it ended too early.
    """
    script = resources.files("trtforge.layers").joinpath("compile_sources.py").read_text(encoding="utf-8")
    command = [*interpreter, *_FLAGS, "-c", script]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=_ENVIRONMENT, cwd="/"
        )
        path = ""
        try:
            with process:
                assert process.stdin
                assert process.stdout
                _check(_read_frame(process.stdout).decode(errors="replace"), python)
                compiled = []
                for path, content in sources:
                    for data in (path.encode(), content):
                        process.stdin.write(struct.pack(">I", len(data)) + data)
                    process.stdin.flush()
                    compiled.append(_read_frame(process.stdout))
            return compiled
        except (EOFError, BrokenPipeError) as error:
            errors.seek(0)
            raise BuildError(
                "the image's Python ended while it compiled",
                ("source", path),
                ("stderr", errors.read().decode(errors="replace").strip()[-2000:]),
                ("next", "run it by hand: " + " ".join(interpreter)),
            ) from error
        finally:
            process.kill()


def cache_tag(python: str) -> str:
    """The tag of CPython `python`, "X.Y", in the names of bytecode files (PEP 3147)."""
    return f"cpython-{python.replace('.', '')}"


def _check(found: str, python: str) -> None:
    if found != f"{python} {cache_tag(python)}":
        raise BuildError(
            f"the image's Python is not the {python} that the wheels are for",
            ("found", found),
            ("next", "choose the image's Python and the wheels' together, in matrix.yaml"),
        )


def _read_frame(stream: IO[bytes]) -> bytes:
    head = stream.read(4)
    if len(head) == 4:
        (length,) = struct.unpack(">I", head)
        if len(data := stream.read(length)) == length:
            return data
    raise EOFError
