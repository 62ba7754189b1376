"""In which order the layers of an image's wheels lie, and which wheels share one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.layers.cut import WHOLE
from trtforge.layers.sources import BytecodeSource, LayerSource, OsSource, WheelSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.cell_cuts import Cuts
    from trtforge.index.pins import Pin
    from trtforge.layers.cut import Cut
    from trtforge.layers.install_target import InstallTarget

LARGE = 20_000_000
"""Bytes from which a wheel's bytecode is in another layer than the wheel: a new Python does not move it."""

SMALL = 20
"""How many smaller wheels of an image have layers of their own, so that a change of one moves no other. The
rest, the smallest, share one: Docker allows 127 layers, and each costs a request or two."""


def wheel_layers(
    pins: Sequence[Pin],
    direct: Sequence[str],
    target: InstallTarget,
    interpreter: OsSource | None,
    cuts: Cuts,
) -> list[LayerSource]:
    """Layers from what changes least to what changes most: large dependencies, the largest first, then
    the large wheels we ask for, then their bytecode; then the smaller wheels likewise, each with its own
    bytecode, which the `interpreter` compiles if it is ours."""

    def change(pin: Pin) -> tuple[bool, int, str]:
        return pin.name in direct, -(pin.size or 0), pin.name

    large = sorted((pin for pin in pins if (pin.size or 0) >= LARGE), key=change)
    small = sorted((pin for pin in pins if pin not in large), key=lambda pin: (-(pin.size or 0), pin.name))
    alone, bundle = sorted(small[:SMALL], key=change), sorted(small[SMALL:], key=lambda pin: pin.name)
    sources: list[LayerSource] = [WheelSource((pin,), target, None, _of(cuts, [pin])) for pin in large]
    if large and interpreter:
        sources.append(BytecodeSource(tuple(large), target, interpreter, _of(cuts, large)))
    sources += [WheelSource((pin,), target, interpreter, _of(cuts, [pin])) for pin in alone]
    if bundle:
        sources.append(WheelSource(tuple(bundle), target, interpreter, _of(cuts, bundle)))
    return sources


def given_back_layers(there: Sequence[Pin], back: Cuts, target: InstallTarget) -> list[LayerSource]:
    """The layer with the files of wheels that the images below lack, if the image has any `back`."""
    pins = tuple(pin for pin in there if pin.name in back)
    return [WheelSource(pins, target, None, _of(back, pins))] if pins else []


def _of(cuts: Cuts, pins: Sequence[Pin]) -> tuple[Cut, ...]:
    """The cuts of `pins`, in their order; none where all are whole."""
    found = tuple(cuts.get(pin.name, WHOLE) for pin in pins)
    return found if any(found) else ()
