"""What file rules and slimming make of the wheels of one cell, image by image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trtforge import file_rules
from trtforge.layers.cut import WHOLE, Cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trtforge.cells import Cell, Cells
    from trtforge.index.pins import Held

Cuts = dict[str, Cut]
"""A wheel's name -> what of it is installed; a wheel that stays whole is not named."""


def base_cuts(cells: Cells, cell: Cell, pins: Iterable[Held]) -> Cuts:
    """Of the wheels `pins` of the cell's PyTorch-CUDA image, which all architectures share if it is not slim.

    Raises:
        MatrixError: a rule tells files of such a wheel apart by architecture.
    """
    pins = list(pins)
    matrix, sms = cells.matrix, cells.slim_sm(cell)
    cuts = file_rules.cuts(matrix.files, pins, _major(cells, cell), sms, _family(cells, cell))
    return _slimmed(cuts, cells, cell, pins)


def own_cuts(cells: Cells, cell: Cell, pins: Iterable[Held]) -> Cuts:
    """Of the wheels `pins` that images for this architecture add."""
    return file_rules.cuts(
        cells.matrix.files, pins, _major(cells, cell), cells.sm(cell), _family(cells, cell)
    )


def back_cuts(cells: Cells, cell: Cell, base: Sequence[Held], own: Sequence[Held]) -> Cuts:
    """What the cell's variant adds to wheels of the images that it stands on: files that these lack.

    Args:
        base: the wheels of its PyTorch-CUDA image. own: those of the image with TensorRT.
    """
    rules, major, family = cells.matrix.files, _major(cells, cell), _family(cells, cell)
    lower = file_rules.given_back(rules, base, cell.variant, major, cells.slim_sm(cell), family)
    upper = file_rules.given_back(rules, own, cell.variant, major, cells.sm(cell), family)
    slimmed = _slimmed(lower, cells, cell, [pin for pin in base if pin.name in lower])
    return slimmed | upper


def left_out(cuts: Mapping[str, Cut]) -> list[dict[str, Any]]:
    """What an image lacks, rule by rule, for its tests and for machines."""
    return [
        {"package": name, "rule": rule.rule, "drop": list(rule.drop), "keep": list(rule.keep)}
        for name, cut in sorted(cuts.items())
        for rule in cut.left_out
    ]


def globs(cuts: Mapping[str, Cut]) -> dict[str, tuple[str, ...]]:
    """For each wheel the globs of what an image lacks, as matrix.lock has them: those of files that stay all
    the same follow with "!", as in .dockerignore."""
    found = {
        name: (
            *(glob for rule in cut.left_out for glob in rule.drop),
            *(f"!{glob}" for rule in cut.left_out for glob in rule.keep),
        )
        for name, cut in sorted(cuts.items())
    }
    return {name: listed for name, listed in found.items() if listed}


def _slimmed(cuts: Cuts, cells: Cells, cell: Cell, pins: Iterable[Held]) -> Cuts:
    if not (sms := cells.slim_sm(cell)):
        return cuts
    slim = {pin.name: tuple(cells.matrix.slim.get(pin.name, ())) for pin in pins}
    return cuts | {
        name: replace(cuts.get(name, WHOLE), libraries=libraries, sm=sms)
        for name, libraries in slim.items()
        if libraries
    }


def _major(cells: Cells, cell: Cell) -> str:
    return cells.facts(cell)["cuda_major"]


def _family(cells: Cells, cell: Cell) -> Mapping[str, str]:
    return cells.matrix.flavours[cells.flavour(cell)].family
