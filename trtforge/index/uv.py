"""How uv is called: with the user's own indexes, and with nothing else of the machine that could leak in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from trtforge.oci import EPOCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Which of uv's variables say where packages are and how to get there. All the others (UV_PYTHON,
# UV_RESOLUTION, UV_EXCLUDE_NEWER, UV_CONSTRAINT, ...) would make two machines resolve differently.
_KEPT = (
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_CONFIG_FILE", "UV_CACHE_DIR",
    "UV_CREDENTIALS_DIR", "UV_HTTP", "UV_REQUEST_TIMEOUT", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS",
    "UV_INSECURE_HOST", "UV_KEYRING_PROVIDER", "UV_CONCURRENT", "UV_LINK_MODE",
)  # fmt: skip
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
_DROPPED = ("UV_INDEX_STRATEGY", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME")

# What a build of a source distribution may see of the machine: the same everywhere.
_FIXED = {
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": str(EPOCH),
    # The setup.py of TensorRT's frontends up to 10.3 would run pip inside the build.
    "NVIDIA_TENSORRT_DISABLE_INTERNAL_PIP": "1",
}


@dataclass(frozen=True)
class Sources:
    """Where packages come from.

    indexes: name -> address of the extra indexes ("nvidia", "pytorch-cu126"); only the packages routed to
        one are asked of it. The default index is the user's own configuration of uv, or else of pip.
    wheelhouse: a folder of wheels that is looked at first.
    offline: the wheelhouse alone: no index, no network.
    build: exact requirements for building source distributions ("setuptools==80.9.0", ...).
    projects: name -> folder of the Python projects of this repository, whose wheels are made from it.
    """

    indexes: Mapping[str, str] = field(default_factory=dict)
    wheelhouse: Path | None = None
    offline: bool = False
    build: tuple[str, ...] = ()
    projects: Mapping[str, Path] = field(default_factory=dict)


def run_uv(
    arguments: Sequence[str | Path], folder: Path, sources: Sources
) -> subprocess.CompletedProcess[str]:
    """Run uv in `folder` with the indexes of `sources`; the caller reads the exit status.

    Builds run on the Python that runs trtforge; uv never downloads another.
    """
    command = [find_uv_bin(), *map(str, arguments), *_index_options(sources)]
    command += ["--python", sys.executable, "--no-python-downloads", "--no-progress", "--color", "never"]
    return subprocess.run(
        command,
        cwd=folder,
        env=uv_environment(os.environ),
        umask=0o022,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def _index_options(sources: Sources) -> Iterator[str]:
    if sources.wheelhouse:
        yield from ("--find-links", str(sources.wheelhouse.resolve()))
    if sources.offline:
        yield from ("--no-index", "--offline")
    elif not uv_indexes(os.environ) and (address := pip_index(os.environ)):
        yield from ("--default-index", address)


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what would make uv's answer depend on this machine, and with what fixes a build."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _DROPPED and (not name.startswith("UV_") or name.startswith(_KEPT))
    }
    return kept | _FIXED


def uv_indexes(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The addresses of the indexes that the user's own uv.toml or UV_* variables name."""
    found = [
        re.sub(r"^[\w.-]+=", "", word)  # UV_INDEX may name them: name=address
        for variable in _INDEX_VARIABLES
        for word in environ.get(variable, "").split()
    ]
    for file in _uv_files(environ):
        try:
            settings = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError):
            continue
        settings = {**settings, **settings.get("pip", {})}
        found += [entry["url"] for entry in settings.get("index", []) if "url" in entry]
        found += [settings["index-url"]] if "index-url" in settings else []
        found += settings.get("extra-index-url", [])
    return tuple(found)


def _uv_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where uv looks for its configuration (uv docs: "Configuration files")."""
    if named := environ.get("UV_CONFIG_FILE"):
        return (Path(named),)
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config")
    systems = [*(environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"), "/etc"]
    return tuple(folder / "uv" / "uv.toml" for folder in (home, *map(Path, systems)))


def pip_index(environ: Mapping[str, str]) -> str | None:
    """The index that pip is configured to use (pip docs: "Configuration", location and precedence)."""
    if address := environ.get("PIP_INDEX_URL"):
        return address
    home = Path(environ.get("HOME", "/"))
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", config_home / "pip/pip.conf"]
    if named := environ.get("PIP_CONFIG_FILE"):
        files = [] if named == os.devnull else [*files, Path(named)]
    config = ConfigParser(interpolation=None)
    try:
        config.read(files, encoding="utf-8")
    except (ConfigError, UnicodeDecodeError):
        return None
    found = (config.get(section, "index-url", fallback=None) for section in ("install", "global"))
    return next(filter(None, found), None)
