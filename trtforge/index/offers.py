"""What the package indexes offer, as uv finds it for the Python and platform of an image.

uv writes a pylock.toml (PEP 751) for a generated pyproject.toml, whose `tool.uv.sources` route the packages
that live on an extra index to that index alone: nothing else is asked of it, and they are asked of no other.
"""

from __future__ import annotations

import re
import tempfile
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

import tomli_w
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from trtforge.errors import IndexUnreachable, RequestError, ResolutionError
from trtforge.index.uv import run_uv
from trtforge.index.wheel_tags import image_tags, rank

if TYPE_CHECKING:
    from collections.abc import Mapping
    from subprocess import CompletedProcess

    from trtforge.index.uv import Sources


@dataclass(frozen=True)
class Need:
    """A package that is asked for.

    requirement: as in PEP 508, "torch==2.9.1+cu126".
    index: where it is asked, "default" or a name in `Sources.indexes`.
    wheel_only: its source distribution must never be built (NVIDIA's stubs download gigabytes when built).
    """

    requirement: str
    index: str = "default"
    wheel_only: bool = False

    @property
    def name(self) -> str:
        """The package's canonical name."""
        return canonicalize_name(Requirement(self.requirement).name)


@dataclass(frozen=True)
class Artefact:
    """A file that an index offers; sha256 in hexadecimal and size in bytes where the index says them."""

    url: str
    filename: str
    sha256: str | None
    size: int | None


@dataclass(frozen=True)
class Offer:
    """A version of a package: the wheels that fit the Python and platform asked for, and the source."""

    name: str
    version: str
    wheels: tuple[Artefact, ...]
    sdist: Artefact | None


@dataclass(frozen=True)
class Question:
    """What is asked of the indexes.

    python, platform: the image's, "3.11" and "x86_64-manylinux_2_28" (uv's --python-platform).
    constraints: requirements that hold for a package if something pulls it in ("numpy==2.3.5").
    dependencies: whether what the needs depend on is wanted too.
    """

    needs: tuple[Need, ...]
    python: str
    platform: str
    constraints: tuple[str, ...] = ()
    dependencies: bool = True


def offers(question: Question, sources: Sources) -> tuple[Offer, ...]:
    """The one version of every package that satisfies `question`, by name.

    Raises:
        IndexUnreachable: an index does not answer, or refuses our credentials.
        ResolutionError: a package or version does not exist there, or the needs contradict each other.
    """
    with tempfile.TemporaryDirectory(prefix="trtforge-") as folder:
        answer = _ask(question, sources, Path(folder))
        if answer.returncode:
            _explain(answer.stderr, question, sources)
        document = tomllib.loads((Path(folder) / "pylock.toml").read_text(encoding="utf-8"))
    return tuple(_offer(package) for package in document.get("packages", []))


def _ask(question: Question, sources: Sources, folder: Path) -> CompletedProcess[str]:
    project = _project(question, sources)
    (folder / "pyproject.toml").write_text(tomli_w.dumps(project), encoding="utf-8")
    (folder / "constraints.txt").write_text("\n".join(question.constraints), encoding="utf-8")
    (folder / "build.txt").write_text("\n".join(sources.build), encoding="utf-8")
    options = ["--constraints", "constraints.txt", "--build-constraints", "build.txt"]
    options += ["--python-version", question.python, "--python-platform", question.platform]
    # Said outright, so that a uv.toml of the user's cannot change what a lock holds.
    options += ["--resolution", "highest", "--prerelease", "if-necessary"]
    for need in question.needs:
        options += ["--only-binary", need.name] if need.wheel_only else []
    options += [] if question.dependencies else ["--no-deps"]
    output = ["--format", "pylock.toml", "--output-file", "pylock.toml"]
    return run_uv(["pip", "compile", "pyproject.toml", *options, *output], folder, sources)


def _project(question: Question, sources: Sources) -> dict[str, Any]:
    needs = () if sources.offline else question.needs
    routes = {need.name: _route(need, question, sources) for need in needs}
    used = {route for route in routes.values() if route}
    return {
        "project": {
            "name": _OUR_NAME,
            "version": "0",
            "dependencies": [need.requirement for need in question.needs],
        },
        "tool": {
            "uv": {
                "index": [
                    {"name": name, "explicit": True, **_location(name, sources)} for name in sorted(used)
                ],
                "sources": {name: {"index": route} for name, route in sorted(routes.items()) if route},
            }
        },
    }


def _route(need: Need, question: Question, sources: Sources) -> str | None:
    """The index that alone is asked for `need`; None leaves it to uv (the wheelhouse, then the default)."""
    if need.index == "default":
        return None
    return _WHEELHOUSE if _in_wheelhouse(need, question, sources.wheelhouse) else need.index


def _location(name: str, sources: Sources) -> dict[str, str]:
    if name == _WHEELHOUSE:
        return {"url": str(Path(sources.wheelhouse or "").resolve()), "format": "flat"}
    if name not in sources.indexes:
        raise RequestError(
            f"the package index {name!r} has no address",
            ("next", "give it one in matrix.yaml, under indexes"),
        )
    return {"url": sources.indexes[name]}


def _in_wheelhouse(need: Need, question: Question, wheelhouse: Path | None) -> bool:
    specifier, tags = Requirement(need.requirement).specifier, image_tags(question.python, question.platform)
    for wheel in sorted(wheelhouse.glob("*.whl")) if wheelhouse else ():
        if rank(wheel.name, tags) is not None:
            name, version, _, _ = parse_wheel_filename(wheel.name)
            if name == need.name and specifier.contains(version, prereleases=True):
                return True
    return False


def _offer(package: Mapping[str, Any]) -> Offer:
    sdist = package.get("sdist")
    return Offer(
        name=package["name"],
        version=package["version"],
        wheels=tuple(_artefact(wheel) for wheel in package.get("wheels", [])),
        sdist=_artefact(sdist) if sdist else None,
    )


def _artefact(entry: Mapping[str, Any]) -> Artefact:
    name = entry.get("name") or unquote(urlsplit(entry["url"]).path).rpartition("/")[2]
    return Artefact(entry["url"], name, entry.get("hashes", {}).get("sha256"), entry.get("size"))


_OUR_NAME = "trtforge-request"
_WHEELHOUSE = "wheelhouse"


def _explain(stderr: str, question: Question, sources: Sources) -> NoReturn:
    """Raise what uv's failure means."""
    lines = account(stderr)
    text = " ".join(lines)
    if match := re.search(
        r"(?:Failed to fetch: `?|for url \(|An index (?:URL )?\()([a-z]+://[^\s`)]+)", text
    ):
        # uv breaks long lines, so the last cause may be two of them.
        raise _unreachable(match[1], " ".join(lines[-2:]), question, sources)
    if match := re.search(r"Failed to (?:download and )?build `([^`]+)`", text):
        advice = "name what its build needs in matrix.yaml, or put a wheel of it into the wheelhouse"
        raise ResolutionError("build", (match[1].split(" @ ")[0],), text, advice)
    if missing := _missing(question, sources):
        advice = "ask for a version that is offered for this Python and platform"
        if "building from source is disabled" in text:
            advice = "there is only a source, which must not be built: name the index that has the wheel"
        raise ResolutionError("missing", tuple(need.requirement for need in missing), text, advice)
    wanted = tuple(need.requirement for need in question.needs)
    raise ResolutionError("conflict", wanted, text, "loosen one of them: the account names which disagree")


def _missing(question: Question, sources: Sources) -> tuple[Need, ...]:
    """The needs that no index satisfies even alone. Asked anew: uv's wording is no interface."""
    missing = []
    for need in question.needs:
        alone = replace(question, needs=(need,), constraints=(), dependencies=False)
        with tempfile.TemporaryDirectory(prefix="trtforge-") as folder:
            if _ask(alone, sources, Path(folder)).returncode:
                missing.append(need)
    return tuple(missing)


def _unreachable(url: str, reason: str, question: Question, sources: Sources) -> IndexUnreachable:
    """Say which index `url` belongs to: the one it lies under, or one on the same server."""
    url = _bare(url)
    addresses = {name: _bare(address) for name, address in sorted(sources.indexes.items())}
    under = [name for name, address in addresses.items() if url.startswith(address)]
    beside = [name for name, address in addresses.items() if urlsplit(address)[:2] == urlsplit(url)[:2]]
    index = [*under, *beside, "default"][0]
    supplies = tuple(need.requirement for need in question.needs if need.index == index)
    return IndexUnreachable(index, supplies or (url,), f"{url}: {reason}")


def _bare(address: str) -> str:
    """`address` without credentials."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def account(stderr: str) -> list[str]:
    """uv's account of a failure, in few lines: no warnings, nothing twice, the end of a long build log."""
    kept: list[str] = []
    for line in stderr.splitlines():
        text = re.sub(r"^(error|cause|hint):\s*", "", line.strip())
        text = text.replace(f"{_OUR_NAME} depends on", "you ask for")
        text = text.replace("your requirements are unsatisfiable", "this cannot be satisfied")
        if text and not line.startswith("warning:") and text not in kept:
            kept.append(text)
    return kept if len(kept) <= 12 else [*kept[:2], "[...]", *kept[-9:]]
