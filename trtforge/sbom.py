"""The software bill of materials of an image, in CycloneDX: known from its recipe, before anything is built.

It names every wheel and Debian package that the image's layers are made from, with its hash, and what of
each the image has not, or not as it was: the files that rules leave out, the libraries that are slimmed.

Sources: CycloneDX 1.6 (ECMA-424); package URLs: purl-spec, types pypi, deb, oci and generic.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from trtforge import __version__
from trtforge.dockerfile import read_dockerfile
from trtforge.layers.cut import WHOLE
from trtforge.layers.sources import OsSource, PackagesSource, ToolkitSource, WheelSource
from trtforge.oci import EPOCH
from trtforge.system.os_packages import OsSuite

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from trtforge.index.pins import Pin
    from trtforge.layers.cut import Cut, LeftOut
    from trtforge.layers.sources import LayerSource
    from trtforge.recipe import Recipe
    from trtforge.system.apt import FlatRepository
    from trtforge.system.os_packages import OsPackage

_CHANGED = (
    "The ancestor is the file as its index offers it; properties say what of it the image has not as it was."
)


def sbom(chain: Sequence[Recipe], own: Collection[str]) -> str:
    """The bill of materials of the last image of `chain`, as JSON; the same recipes give the same text.

    Args:
        own: canonical names of projects of this repository, which no index has.
    """
    image = chain[-1]
    name, _, tag = image.ref.rpartition(":")
    key = Property(name="trtforge:recipe-key", value=image.key)
    subject = Component(
        type=ComponentType.CONTAINER, name=name, version=tag, bom_ref=image.ref, properties=[key]
    )
    tool = Component(type=ComponentType.APPLICATION, name="trtforge", version=__version__)
    # By default a bill has the time and a number at random: the same recipes would not give the same text.
    metadata = BomMetaData(
        timestamp=datetime.fromtimestamp(EPOCH, UTC),
        tools=ToolRepository(components=[tool]),
        component=subject,
    )
    components = [*_below(chain[0]), *map(_component, _materials(chain, own).values())]
    number = uuid.uuid5(uuid.NAMESPACE_OID, image.key)
    bill = Bom(metadata=metadata, components=components, serial_number=number)
    bill.register_dependency(subject, components)
    return JsonV1Dot6(bill).output_as_string(indent=2) + "\n"


@dataclass(frozen=True)
class _Material:
    """A file that layers are made from.

    image: of the chain, the first that has it. cut: what of it is there. facts: what else there is to tell.
    """

    purl: PackageURL
    sha256: str
    image: str
    cut: Cut = WHOLE
    facts: tuple[tuple[str, str], ...] = ()


def _materials(chain: Sequence[Recipe], own: Collection[str]) -> dict[str, _Material]:
    """What the images of `chain` are made from, by hash."""
    found: dict[str, _Material] = {}
    for recipe in chain:
        for source in recipe.sources.values():
            new = {one.sha256: one for one in _made_from(source, recipe.image, own)}
            # A layer further up gives back what one below left out: what it says of the wheel holds.
            found |= {
                sha256: replace(one, image=found.get(sha256, one).image)
                for sha256, one in new.items()
                if sha256 not in found or isinstance(source, WheelSource)
            }
    return found


def _made_from(source: LayerSource, image: str, own: Collection[str]) -> Iterator[_Material]:
    """The files whose contents are in the layer of `source`; bytecode and links hold nothing of a file."""
    match source:
        case OsSource():
            yield from (_package(one, source.suite, image) for one in source.packages)
        case PackagesSource():
            yield from (_package(one, source.system.suite, image) for one in source.packages)
        case ToolkitSource():
            parts = [_wheel(pin, WHOLE, image, own) for pin in source.pins]
            if source.of:
                parts += [_package(one, source.of, image) for one in source.packages]
            only = (
                "trtforge:only-for",
                f"the CUDA toolkit in {source.parts.home}, which has some of its files",
            )
            yield from (replace(one, facts=(*one.facts, only)) for one in parts)
        case WheelSource():
            cuts = source.cuts or [WHOLE] * len(source.pins)
            for pin, cut in zip(source.pins, cuts, strict=True):
                yield _wheel(pin, cut, image, own)


def _package(package: OsPackage, of: OsSuite | FlatRepository, image: str) -> _Material:
    architecture = package.filename.removesuffix(".deb").rpartition("_")[2]
    if isinstance(of, OsSuite):
        distribution, where = of.distribution, {"distro": of.codename}
    else:
        distribution, where = None, {"repository_url": of.address}
    purl = PackageURL("deb", distribution, package.name, package.version, {"arch": architecture, **where})
    return _Material(purl, package.sha256, image)


def _wheel(pin: Pin, cut: Cut, image: str, own: Collection[str]) -> _Material:
    facts = [("trtforge:file", pin.filename)]
    if pin.index != "default":
        facts.append(("trtforge:index", pin.index))
    if pin.sdist:
        facts.append(("trtforge:built-from", f"{pin.sdist.filename} sha256:{pin.sdist.sha256}"))
    purl = PackageURL("generic" if pin.name in own else "pypi", None, pin.name, pin.version)
    return _Material(purl, pin.sha256, image, cut, tuple(facts))


def _component(material: _Material) -> Component:
    """The material as the image has it: what was changed of a file says so, and has the file as ancestor."""
    purl, cut = material.purl, material.cut
    facts = [("trtforge:image", material.image), *material.facts]
    facts += [(f"trtforge:left-out:{rule.rule}", _globs(rule)) for rule in cut.left_out]
    if cut.libraries:
        facts.append(("trtforge:slimmed", f"{', '.join(cut.libraries)}: GPU code of SM {', '.join(cut.sm)}"))
    file = [HashType(alg=HashAlgorithm.SHA_256, content=material.sha256)]
    changed = bool(cut.left_out or cut.libraries)
    ancestor = Component(name=purl.name, version=purl.version, purl=purl, hashes=file)
    return Component(
        name=purl.name,
        version=purl.version,
        bom_ref=purl.to_string(),
        purl=purl,
        hashes=[] if changed else file,
        properties=[Property(name=name, value=value) for name, value in facts],
        pedigree=Pedigree(ancestors=[ancestor], notes=_CHANGED) if changed else None,
    )


def _globs(rule: LeftOut) -> str:
    kept = f", but for {', '.join(rule.keep)}" if rule.keep else ""
    return f"{', '.join(rule.drop)}{kept}"


def _below(lowest: Recipe) -> Iterator[Component]:
    """What the lowest image of ours stands on, and what is known of it."""
    (start,) = (one.value for one in read_dockerfile(lowest.dockerfile) if one.name == "FROM")
    if start == "scratch":
        return
    image, _, digest = start.partition("@sha256:")
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)] if digest else []
    told = "packages of Python, by name and version" if lowest.base else "nothing"
    yield Component(
        type=ComponentType.CONTAINER,
        name=image,
        bom_ref=start,
        hashes=hashes,
        properties=[Property(name="trtforge:known-of-its-contents", value=told)],
    )
    for name, version in sorted(lowest.base.packages.items()) if lowest.base else ():
        purl = PackageURL("pypi", None, name, version)
        yield Component(
            name=name,
            version=version,
            bom_ref=f"{start} {name}",
            purl=purl,
            properties=[Property(name="trtforge:image", value=start)],
        )
