"""A base that the user has already: brought into the store and the Engine, examined there, and verified.

What is found is kept in the lock. A base is named by digest, so it need not be examined again.

Sources: OCI image-spec 1.1 (manifest.md, config.md); Python's sysconfig and importlib.metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trtforge.engine.docker_archive import LoadableImage
from trtforge.errors import BuildError, UnfitBase
from trtforge.image import Image
from trtforge.index.pins import Installed
from trtforge.layers.install_target import InstallTarget
from trtforge.oci import Digest
from trtforge.registry.pull import layer_name, pull_image
from trtforge.rules import broken_rules, explanation

if TYPE_CHECKING:
    from collections.abc import Callable

    from trtforge.cells import Cell, Cells
    from trtforge.engine.engine import Engine
    from trtforge.progress import Progress
    from trtforge.store import Store

PLATFORM = "linux/amd64"

NAME = "trtforge/base"
"""What bases are called in the Engine; the tag is the beginning of the manifest's digest."""


class Base(BaseModel):
    """What was found in a base image.

    image: its reference, by digest. manifest: the digest of its manifest for our platform.
    layers: how many it has.
    python: "3.11.9"; interpreter: what `python` starts; prefix, purelib: where installers put things.
    uid, gid: who owns site-packages. directories: path -> "mode uid gid" where a layer would change it.
    torch, cuda: the versions torch says of itself, "" where there is none; no_torch: why.
    glibc: "2.36", "" where the C library is another.
    headers, nvcc: where cuda_runtime.h and the compiler are, "" where they are not.
    nvidia: names of the NVIDIA_* variables it sets.
    entrypoint, command: what it starts; an `entrypoint` of None was not looked at, so it is examined again.
    packages: every distribution that can be imported, in its version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    manifest: Digest
    layers: int
    python: str
    interpreter: str
    prefix: str
    purelib: str
    scripts: str
    uid: int = 0
    gid: int = 0
    directories: dict[str, str] = Field(default_factory=dict)
    torch: str = ""
    cuda: str = ""
    no_torch: str = ""
    glibc: str = ""
    headers: str = ""
    nvcc: str = ""
    nvidia: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] = ()
    packages: dict[str, str] = Field(default_factory=dict)

    @property
    def tag(self) -> str:
        """Its name in the Engine."""
        return engine_tag(self.manifest)

    @property
    def target(self) -> InstallTarget:
        """Where wheels go in it: where its own pip would put them, owned as what is there."""
        return InstallTarget(
            ".".join(self.python.split(".")[:2]),
            self.prefix,
            self.purelib,
            self.interpreter,
            self.uid,
            self.gid,
            tuple(sorted(_directory(path, text) for path, text in self.directories.items())),
        )

    @property
    def installed(self) -> tuple[Installed, ...]:
        """The packages that a resolution has to keep: those with a version it can compare (PEP 440)."""
        return tuple(Installed(*item) for item in self.packages.items() if _is_version(item[1]))

    @property
    def guarded(self) -> dict[str, list[str]]:
        """What the guard stands before in an image upon it: its Python starts the guard, this its command."""
        return {
            "entrypoint": [self.interpreter, "-ISB", "/opt/trtforge/guard", *(self.entrypoint or ())],
            "command": list(self.command),
        }

    def nvidia_settings(self, cuda: str) -> dict[str, str]:
        """What the NVIDIA Container Toolkit reads from the environment, as far as the base is silent."""
        settings = {
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            "NVIDIA_REQUIRE_CUDA": f"cuda>={cuda}",
        }
        return {name: value for name, value in settings.items() if name not in self.nvidia}


def engine_tag(manifest: Digest) -> str:
    """What the base with this manifest is called in the Engine."""
    return f"{NAME}:{manifest.removeprefix('sha256:')[:12]}"


def bring_base(reference: str, connect: Callable[[], Engine], store: Store, progress: Progress) -> Base:
    """Pull the base into the store, load it into the Engine and look inside.

    Raises:
        RequestError: there is no such image, or not for our platform; UnfitBase: it has no Python.
        HashMismatch, BuildError: it is not what its digests say.
        EnvironmentLack: no Engine or no registry answers.
    """
    engine = connect()  # before the long way: it may be missing
    image = _pull(reference, store, progress)
    load_base(image, engine, store, progress)
    with progress.task(f"examine {reference}"):
        return examine_base(engine, engine_tag(image.digest), reference, image)


def load_base(image: Image, engine: Engine, store: Store, progress: Progress) -> None:
    """Have the base in the Engine under our tag for it."""
    tag = engine_tag(image.digest)
    if not engine.has(tag):
        engine.load(LoadableImage(image.config, image.layers, (tag,)), store, progress)


def examine_base(engine: Engine, tag: str, reference: str, image: Image) -> Base:
    """Look inside the base, which the Engine has as `tag`: in a container without network.

    Raises:
        UnfitBase: `python` does not start in it.
        BuildError: it does, and does not answer.
    """
    probe = Path(__file__).with_name("base_probe.py").read_text(encoding="utf-8")
    try:
        run = engine.run(tag, ["-c", probe], entrypoint=["python"])
    except BuildError as error:
        why = error.fact("engine") or error.problem
        raise UnfitBase(reference, {"base-python": f"`python` does not start in it: {why}"}) from error
    settings = json.loads(image.config).get("config", {})
    environment = settings.get("Env") or []
    facts = {
        "image": reference,
        "manifest": image.digest,
        "layers": len(image.layers),
        "nvidia": sorted(name for name, _, _ in (item.partition("=") for item in environment)
                         if name.startswith("NVIDIA_")),
        "entrypoint": settings.get("Entrypoint") or [],
        "command": settings.get("Cmd") or [],
    }  # fmt: skip
    try:
        return Base.model_validate(json.loads(run.stdout.strip().rpartition("\n")[2]) | facts)
    except (ValueError, ValidationError) as error:
        raise BuildError(
            f"{reference} could not be examined: Python in it gave no answer",
            ("exit code", str(run.exit_code)),
            *(("output", line) for line in run.stderr.splitlines()[-10:]),
            ("next", f"see what it says: docker run --rm --entrypoint python {tag} -c 'import torch'"),
        ) from error


def verify_base(base: Base, cells: Cells, cell: Cell) -> tuple[str, ...]:
    """See that `base` is what matrix.yaml says of it and what `cell` needs; what else is worth knowing.

    Raises:
        UnfitBase: it is not; with everything that does not fit.
    """
    stated = cells.matrix.axes.os[cell.os]
    flavour, facts = cells.matrix.flavours[cells.flavour(cell)], cells.facts(cell)
    misfits: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if base.target.python != stated.python:
        misfits["base-python"] = f"its Python is {base.python}, not {stated.python}"
    elif base.scripts != f"{base.prefix}/bin":
        misfits["base-python"] = f"its Python installs scripts to {base.scripts}, not {base.prefix}/bin"
    if base.glibc != stated.glibc:
        misfits["base-glibc"] = f"its glibc is {base.glibc or 'absent'}, not {stated.glibc}"
    if not base.torch:
        misfits["base-torch"] = f"it has no torch that can be imported ({base.no_torch})"
    elif base.torch.partition("+")[0] != cell.torch:
        misfits["base-torch"] = f"its torch is {base.torch}, not {cell.torch}"
    if base.torch and base.cuda.split(".")[0] != facts["cuda_major"]:
        what = f"for CUDA {base.cuda}" if base.cuda else "for CPUs only"
        misfits["base-cuda"] = f"its torch is {what}, not for CUDA {facts['cuda_major']}"
    elif base.cuda:  # what the rules took from the torch build of ours that this one stands for
        known = facts | {"torch_cuda": base.cuda}
        misfits |= {rule.id: explanation(rule, known) for rule in broken_rules(cells.matrix.rules, known)}
    ours = {name.format_map(facts) for name in (flavour.libs, flavour.bindings, flavour.frontend)}
    if there := sorted(ours & base.packages.keys()):
        misfits["base-tensorrt"] = f"it has {', '.join(there)} already"
    if not base.headers:
        lacks = "it has no CUDA headers (cuda_runtime.h)"
        notes = (f"{cell.os}: {lacks}: nothing can be compiled against CUDA in the image",)
    if misfits:
        raise UnfitBase(base.image, misfits)
    return notes


def base_image(base: Base, store: Store, progress: Progress) -> Image:
    """The base as an image of the store; pulled again where it is not there.

    Raises:
        RequestError, HashMismatch, BuildError, EnvironmentLack: it cannot be; see `pull_image`.
    """
    return held_base(base, store) or _pull(base.image, store, progress)


def held_base(base: Base, store: Store) -> Image | None:
    """The base, if all of it is in the store."""
    body = store.read_blob(base.manifest)
    if body is None:
        return None
    described = json.loads(body)
    config = store.read_blob(Digest(described["config"]["digest"]))
    layers = [store.layer(layer_name(one["digest"])) for one in described["layers"]]
    if config is None or None in layers:
        return None
    return Image(base.manifest, config, tuple(filter(None, layers)))


def _pull(reference: str, store: Store, progress: Progress) -> Image:
    pulled = pull_image(reference, PLATFORM, store, progress)
    described = json.loads(store.blob(pulled.digest).read_bytes())
    config = store.blob(Digest(described["config"]["digest"])).read_bytes()
    return Image(pulled.digest, config, pulled.layers)


def _directory(path: str, text: str) -> tuple[str, int, int, int]:
    mode, uid, gid = text.split()
    return path, int(mode, 8), int(uid), int(gid)


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
