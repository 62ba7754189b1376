"""What the smoke tests inside an image compare with: /opt/smoke/expected.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtforge.cell_cuts import left_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.base import Base
    from trtforge.cell_cuts import Cuts
    from trtforge.cells import Cell, Cells
    from trtforge.index.pins import Pin


def expected(cells: Cells, cell: Cell, image: str, pins: Sequence[Pin], cuts: Cuts) -> dict[str, Any]:
    """What is expected of the `image` of `cell`, which has the wheels `pins` by these `cuts`."""
    build = cells.build(cell)
    facts: dict[str, Any] = {
        "image": image,
        "packages": {pin.name: pin.version for pin in pins},
        "python": cell.python,
        "user": "trt",
        **({"bytecode": "ours"} if cells.facts(cell)["os_from"] == "packages" else {}),
        "cuda": cell.cuda,
        "left_out": left_out(cuts),
    }
    if cells.variant(cell).torch:
        facts["torch"] = {"version": f"{cell.torch}+{build.name}", "cuda": build.cuda}
    if sms := cells.slim_sm(cell):
        names = [glob for globs in cells.matrix.slim.values() for glob in globs]
        facts["slim"] = {"sm": list(sms), "libraries": names}
    if image != "pytorch-cuda":
        library = cells.library(cell)
        facts["sm"] = list(cells.sm(cell))
        facts["tensorrt"] = {
            "flavour": cells.matrix.flavours[cells.flavour(cell)].short,
            "module": library.module,
            "version": cell.tensorrt,
            "cuda_major": int(cells.facts(cell)["cuda_major"]),
            "libs": library.libs.format_map(cells.facts(cell)),
        }
        family = cells.matrix.flavours[cells.flavour(cell)].family
        if used := {sm: family[sm] for sm in facts["sm"] if sm in family}:
            facts["tensorrt"]["family"] = used
    return facts


def expected_on(base: Base, facts: dict[str, Any]) -> dict[str, Any]:
    """`facts` for an image on a brought base: its own torch, packages, interpreter, user and bytecode."""
    return {name: value for name, value in facts.items() if name not in ("user", "bytecode")} | {
        "packages": base.packages | facts["packages"],
        "torch": {"version": base.torch, "cuda": base.cuda},
        "interpreter": base.interpreter,
        "prefix": base.prefix,
    }
