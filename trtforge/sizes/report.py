"""What an image is made of, in bytes: layer by layer, and package by package.

A large wheel is a layer: its size is the layer's. What is in the others the layer itself says (`contents`).
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from trtforge.dockerfile import read_dockerfile
from trtforge.layers.sources import (
    BytecodeSource,
    LinksSource,
    OsSource,
    PackagesSource,
    ToolkitSource,
    WheelSource,
)
from trtforge.sizes.contents import BYTECODE, LINKS, Kind, Part, layer_contents
from trtforge.sizes.size import Size, total

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtforge.image import Image
    from trtforge.layers.sources import LayerSource
    from trtforge.oci import Digest, Layer
    from trtforge.recipe import Recipe
    from trtforge.store import Store

BASE = "base"
"""What a brought base is called where images of the chain are named."""


@dataclass(frozen=True)
class LayerSize:
    """One layer of an image.

    image: the image of the chain that adds it. name: what it is called, the same in whatever version.
    source: what it was made from; None: copied files, or a layer of a brought base.
    """

    image: str
    name: str
    layer: Layer
    source: LayerSource | None

    @property
    def digest(self) -> Digest:
        return self.layer.digest

    @property
    def size(self) -> Size:
        return Size(self.layer.size, self.layer.unpacked)


@dataclass(frozen=True)
class PackageSize:
    """What a package, or what is none, has in one image of the chain.

    version: "" where it has none.
    """

    image: str
    name: str
    kind: Kind
    version: str
    size: Size


@dataclass(frozen=True)
class SizeReport:
    """The sizes of an image and of all images that it stands on.

    layers: in the image's order. packages: the largest first; they add up to the layers.
    left_out: what file rules leave out of wheels, and slimmed: what slimming takes from their libraries; both
        by the wheel's name, for the wheels that the store has.
    """

    image: str
    layers: tuple[LayerSize, ...]
    packages: tuple[PackageSize, ...]
    left_out: dict[str, Size] = field(default_factory=dict)
    slimmed: dict[str, Size] = field(default_factory=dict)

    @cached_property
    def size(self) -> Size:
        """All of it."""
        return total(one.size for one in self.layers)

    @cached_property
    def ours(self) -> Size:
        """All of it but a base that was brought, which is not of our making."""
        return size_of(self.layers)

    @property
    def images(self) -> tuple[str, ...]:
        """The images of the chain, the lowest first."""
        return tuple(dict.fromkeys(one.image for one in self.layers))


def image_layers(recipe: Recipe, image: Image) -> tuple[LayerSize, ...]:
    """The layers of `image`, which was made from `recipe`, each with what it is. Reads nothing."""
    found: list[LayerSize] = []
    layers, one = list(image.layers), recipe
    while True:
        added = list(_added(one))
        own = layers[len(layers) - len(added) :]
        layers = layers[: len(layers) - len(added)]
        named = zip(added, own, strict=True)
        found = [LayerSize(one.image, name, layer, source) for (name, source), layer in named] + found
        if one.parent is None:
            break
        one = one.parent
    return tuple([LayerSize(BASE, BASE, layer, None) for layer in layers] + found)


def size_of(layers: Sequence[LayerSize]) -> Size:
    """The size of `layers`, but of those of a brought base."""
    return total(one.size for one in layers if one.image != BASE)


def layer_sizes(layers: Sequence[LayerSize]) -> dict[tuple[str, str], Size]:
    """The size of what each image adds, by the image's and the layer's name."""
    sizes: dict[tuple[str, str], Size] = defaultdict(Size)
    for one in layers:
        sizes[one.image, one.name] += one.size
    return dict(sizes)


def size_report(recipe: Recipe, image: Image, store: Store) -> SizeReport:
    """What `image`, made from `recipe`, is made of.

    Layers that hold several packages are read where nobody has yet; of those that the store lacks only the
    whole is told.

    Raises:
        BuildError: a layer in the store cannot be read.
    """
    layers = image_layers(recipe, image)
    sizes: dict[tuple[str, str, Kind], Size] = defaultdict(Size)
    versions: dict[tuple[str, str], str] = {}
    left_out: dict[str, Size] = defaultdict(Size)
    slimmed: dict[str, Size] = defaultdict(Size)
    for one in layers:
        for part in _parts(one, store):
            sizes[one.image, part.name, part.kind] += Size(part.compressed, part.on_disk)
        for pin in getattr(one.source, "pins", ()):
            versions[one.image, pin.name] = pin.version
        if isinstance(one.source, OsSource | PackagesSource):
            versions |= {(one.image, package.name): package.version for package in one.source.packages}
        if isinstance(one.source, WheelSource):
            _count_cuts(one.source, one.size, store, left_out, slimmed)
    packages = [
        PackageSize(image_name, name, kind, versions.get((image_name, name), ""), size)
        for (image_name, name, kind), size in sizes.items()
    ]
    packages.sort(key=lambda one: (-one.size.compressed, -one.size.on_disk, one.image, one.name, one.kind))
    return SizeReport(recipe.image, layers, tuple(packages), dict(left_out), dict(slimmed))


def _added(recipe: Recipe) -> Iterator[tuple[str, LayerSource | None]]:
    """Name and source of each layer that `recipe` adds, in order."""
    for instruction in read_dockerfile(recipe.dockerfile):
        if instruction.name == "ADD":
            source = recipe.sources[instruction.words()[0]]
            yield _name(source), source
        elif instruction.name == "COPY":
            yield f"files in {instruction.words()[-1]}", None


def _name(source: LayerSource) -> str:
    """What a layer is called whatever the versions in it."""
    match source:
        case OsSource():
            return "operating system"
        case PackagesSource():
            return "Debian packages"
        case ToolkitSource():
            return "CUDA toolkit"
        case BytecodeSource():
            return BYTECODE
        case LinksSource():
            return LINKS
        case WheelSource():
            return source.pins[0].name if len(source.pins) == 1 else "smallest wheels"


def _parts(one: LayerSize, store: Store) -> tuple[Part, ...]:
    """The packages in a layer; without reading it where what it is made from says enough."""
    kind: Kind = "files"
    match one.source:
        case WheelSource((_,), interpreter=None):
            kind = "wheel"
        case BytecodeSource():
            kind = "bytecode"
        case LinksSource():
            kind = "links"
        case WheelSource() | OsSource() | PackagesSource():
            if parts := layer_contents(one.layer, store):
                return parts
    return (Part(one.name, kind, one.size.compressed, one.size.on_disk),)


def _count_cuts(
    source: WheelSource, layer: Size, store: Store, left_out: dict[str, Size], slimmed: dict[str, Size]
) -> None:
    """Add what the layer of `source` lacks of its wheels: whole files, and code in those that are there."""
    for pin, cut in zip(source.pins, source.cuts, strict=bool(source.cuts)):
        wheel = store.file("wheels", pin.sha256, pin.filename)
        if not cut or cut.gives_back or not wheel.exists():
            continue
        with zipfile.ZipFile(wheel) as archive:
            members = archive.infolist()
        gone = [member for member in members if not cut.installs(member.filename)]
        there = [member for member in members if cut.installs(member.filename)]
        if gone:
            left_out[pin.name] += _size(gone)
        if cut.sm and len(source.pins) == 1 and source.interpreter is None:
            slimmed[pin.name] += _size(there) - layer


def _size(members: Sequence[zipfile.ZipInfo]) -> Size:
    return Size(sum(one.compress_size for one in members), sum(one.file_size for one in members))
