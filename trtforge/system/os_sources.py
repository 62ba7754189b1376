"""The apt sources of an image: those the distribution itself suggests, in the documentation of its apt.

So that `apt install` works in derived images, and neither this machine's mirror nor ours is written anywhere.

Source: sources.list(5), both styles.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from trtforge.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.system.os_packages import OsSuite


def image_sources(apt: Path, suite: OsSuite) -> tuple[str, str]:
    """Where in an image of `suite` its apt sources belong, and what they say.

    Args:
        apt: the file of the package "apt" of that suite.

    Raises:
        BuildError: it suggests no sources for this suite.
    """
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(apt)], stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as tar,
    ):
        examples = list(_examples(tar))
    for name, example in examples:
        if text := narrowed(example, suite):
            return (
                "/etc/apt/sources.list" if name == "sources.list" else f"/etc/apt/sources.list.d/{name}",
                text,
            )
    raise BuildError(
        f"apt of {suite.distribution} {suite.codename} suggests no sources for an image",
        ("looked in", f"{apt.name}: /usr/share/doc/apt/examples"),
        ("next", "check that the packages were locked for this suite: python build.py lock"),
    )


def narrowed(example: str, suite: OsSuite) -> str:
    """The sources in `example`, of either style, for `suite` and with no more than its components.

    Comments and source packages are left out; the result is empty if nothing is left.
    """
    if re.search(r"^Types:", example, re.MULTILINE):
        text = re.sub(r"^#.*\n", "", example, flags=re.MULTILINE)
        stanzas = (_stanza(stanza, suite) for stanza in re.split(r"\n\s*\n", text))
        return "\n".join(stanza for stanza in stanzas if stanza)
    return "".join(_one_line(line.split(), suite) for line in example.splitlines())


def _one_line(words: list[str], suite: OsSuite) -> str:
    wanted = [word for word in words[3:] if word in suite.components]
    if words[:1] != ["deb"] or not words[2].startswith(suite.codename) or not wanted:
        return ""
    return " ".join(words[:3] + wanted) + "\n"


def _stanza(stanza: str, suite: OsSuite) -> str:
    fields = dict(line.split(": ", 1) for line in stanza.strip().splitlines() if ": " in line)
    wanted = [word for word in fields.get("Components", "").split() if word in suite.components]
    if not wanted or suite.codename not in fields.get("Suites", ""):
        return ""
    fields |= {"Types": "deb", "Components": " ".join(wanted)}
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def _examples(tar: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    """Name and text of the sources among apt's examples."""
    for member in tar:
        path = PurePosixPath(member.name)
        if path.parent.name == "examples" and path.name.endswith(("sources.list", ".sources")):
            contents = tar.extractfile(member)
            if contents:
                yield path.name, contents.read().decode()
