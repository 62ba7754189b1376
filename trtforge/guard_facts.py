"""What an image's guard compares a machine with: /opt/trtforge/image.json, which guard/guard.py reads.

It tells what the image is for, as its labels do, and which images of the matrix are for what it is not for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.version import Version

if TYPE_CHECKING:
    from trtforge.cells import Cell, Cells

PYTORCH = "pytorch-cuda"


def guard_facts(cells: Cells, cell: Cell, image: str) -> dict[str, Any]:
    """The facts of the image called `image` in the chain of `cell`.

    Keys: image, ref; cuda; driver: the oldest that will do; sm: the compute capabilities that it is for, none
    if it is for no architecture in particular; arch, flavour: if it has one; slim; for_sm: another compute
    capability -> the image for it; for_driver: an older driver -> an image that it will do for, oldest first.

    An image is in the chains of several cells, and its facts must be the same in each: a PyTorch-CUDA image
    that holds all code is every architecture's, and any is every variant's and every TensorRT's.
    """
    facts: dict[str, Any] = {
        "image": image,
        "ref": _ref(cells, cell, image),
        "cuda": cell.cuda,
        "driver": cells.matrix.axes.cuda[cell.cuda].driver,
        "sm": list(_sm(cells, cell, image)),
        "slim": cell.code == "slim",
        "for_sm": _for_sm(cells, cell, image),
        "for_driver": _for_driver(cells, cell, image),
    }
    if facts["sm"]:
        facts["arch"] = cell.arch
    if image != PYTORCH:
        facts["flavour"] = cells.flavour(cell)
    return facts


def _sm(cells: Cells, cell: Cell, image: str) -> tuple[str, ...]:
    return cells.slim_sm(cell) if image == PYTORCH else cells.sm(cell)


def _ref(cells: Cells, cell: Cell, image: str, *, short: bool = False) -> str:
    tag = cells.base_tag(cell) if image == PYTORCH else cells.short_tag(cell) if short else cells.tag(cell)
    return f"{cells.matrix.namespace}/{image}:{tag}"


def _kept(cells: Cells, cell: Cell, image: str) -> dict[str, str]:
    """What `cell` has in common with the cells whose images come into question instead of its own."""
    own = "tensorrt" if image == PYTORCH else image
    variants = cells.matrix.axes.variant.items()
    variant = next((name for name, one in variants if one.image == own), cell.variant)
    return {"os": cell.os, "python": cell.python, "code": cell.code, "variant": variant}


def _for_sm(cells: Cells, cell: Cell, image: str) -> dict[str, str]:
    """Of an architecture's images the one most like this: in flavour, then in torch, then in CUDA."""
    own, found = _sm(cells, cell, image), dict[str, str]()
    if not own:
        return found
    alike = {"cuda": cell.cuda, "torch": cell.torch}
    requests = [alike, {"cuda": cell.cuda}, {}]
    if image != PYTORCH:  # which TensorRT will stand on it, it does not know
        requests.insert(0, alike | {"tensorrt": cells.matrix.flavours[cells.flavour(cell)].short})
    taken = {_ref(cells, cell, image, short=True)}
    for arch in cells.matrix.axes.arch:
        for request in requests:
            other = cells.first(_kept(cells, cell, image) | request | {"arch": arch})
            missing = set(_sm(cells, other, image)) - {*own, *found} if other else ()
            if other and missing:
                short = _ref(cells, other, image, short=True)
                found |= dict.fromkeys(missing, _ref(cells, other, image) if short in taken else short)
                taken.add(short)
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def _for_driver(cells: Cells, cell: Cell, image: str) -> dict[str, str]:
    """One image for each older driver, of the CUDA that is preferred among those that it runs."""
    kept = _kept(cells, cell, image) | ({"arch": cell.arch} if _sm(cells, cell, image) else {})
    found: dict[str, str] = {}
    for cuda, facts in cells.matrix.axes.cuda.items():
        older = Version(facts.driver) < Version(cells.matrix.axes.cuda[cell.cuda].driver)
        if older and facts.driver not in found and (other := cells.first(kept | {"cuda": cuda})):
            found[facts.driver] = _ref(cells, other, image, short=True)
    return dict(sorted(found.items(), key=lambda item: Version(item[0])))
