"""A treemap of an image: a rectangle for each package, as large as its compressed bytes.

Source of the layout: Bruls, Huizing, van Wijk, "Squarified Treemaps" (2000): rows along the shorter side,
each as long as its worst rectangle gets no thinner.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trtforge.sizes.size import human

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.sizes.report import PackageSize, SizeReport

WIDTH, HEIGHT = 1200, 700
"""Of the map, in the SVG's units, pixels unless it is scaled."""

_COLOURS = ("#0072b2", "#9c4a00", "#00694f", "#7d3c6b", "#5c5c00", "#444444")
"""By image of the chain, the lowest first: dark enough for white text (WCAG 2.2, 1.4.3), and
told apart by most who see colours otherwise (after Okabe and Ito)."""

_SMALLEST = 1 / 1500
"""Share of the map below which a package has no rectangle of its own, but one together with others."""

_CHARACTER = 0.6
"""Width of a character by its height: generous, so that a label fits in whatever font there is."""

_FONTS = (20, 16, 13, 11, 9)
"""Sizes of labels, in pixels: the largest that fits is taken."""


class Rectangle(NamedTuple):
    """Its left upper corner, width and height."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Tile:
    """A rectangle of the map, and what it says.

    label: in lines, none if nothing fits; font: their size in pixels. title: all that there is to say.
    """

    rectangle: Rectangle
    colour: str
    title: str
    label: tuple[str, ...]
    font: int


def squarify(sizes: Sequence[float], frame: Rectangle) -> list[Rectangle]:
    """Rectangles that fill `frame`, each as large as its share of `sizes`, in the order of these.

    Args:
        sizes: positive; the largest first makes the best shapes.
    """
    rectangles: list[Rectangle] = []
    left, scale = frame, frame.width * frame.height / (sum(sizes) or 1)
    areas = [size * scale for size in sizes]
    while len(rectangles) < len(areas):
        rest = areas[len(rectangles) :]
        side, count = min(left.width, left.height), 1
        while count < len(rest) and _worst(rest[: count + 1], side) <= _worst(rest[:count], side):
            count += 1
        row, left = _row(rest[:count], left)
        rectangles += row
    return rectangles


def treemap(report: SizeReport) -> list[Tile]:
    """The tiles of an image's map, the largest first; what is too small to see is gathered by image."""
    colours = dict(zip(report.images, _COLOURS * len(report.images), strict=False))
    shown = [(one.size.compressed, one.image, one.name, _title(one)) for one in report.packages]
    least = report.size.compressed * _SMALLEST
    large = [one for one in shown if one[0] >= least]
    for image in report.images:
        small = [size for size, of, *_ in shown if of == image and 0 < size < least]
        if small:
            name = f"{len(small)} smaller"
            large.append(
                (sum(small), image, name, f"{name} packages of {image}: {human(sum(small))} compressed")
            )
    large.sort(key=lambda one: (-one[0], one[1], one[2]))
    frame = Rectangle(0, 0, WIDTH, HEIGHT)
    return [
        _tile(rectangle, colours[image], name, size, title)
        for rectangle, (size, image, name, title) in zip(
            squarify([one[0] for one in large], frame), large, strict=True
        )
    ]


def draw_svg(report: SizeReport, name: str) -> str:
    """The treemap of the image called `name` as an SVG file, which needs nothing from elsewhere."""
    return _render("treemap.svg.j2", report, name)


def draw_html(report: SizeReport, name: str) -> str:
    """The same in a page, with all packages in a table."""
    return _render("treemap.html.j2", report, name)


def _worst(row: Sequence[float], side: float) -> float:
    """The largest ratio of the sides of rectangles with areas `row` along `side`."""
    length = sum(row) / side
    return max(max(length * length / area, area / (length * length)) for area in (min(row), max(row)))


def _row(areas: Sequence[float], left: Rectangle) -> tuple[list[Rectangle], Rectangle]:
    """Rectangles with these areas along the shorter side of `left`, and what is left of it."""
    upright = left.width >= left.height
    side = left.height if upright else left.width
    thickness = sum(areas) / side
    row, at = [], 0.0
    for area in areas:
        length = area / thickness
        if upright:
            row.append(Rectangle(left.x, left.y + at, thickness, length))
        else:
            row.append(Rectangle(left.x + at, left.y, length, thickness))
        at += length
    if upright:
        rest = left._replace(x=left.x + thickness, width=max(left.width - thickness, 0))
    else:
        rest = left._replace(y=left.y + thickness, height=max(left.height - thickness, 0))
    return row, rest


def _tile(rectangle: Rectangle, colour: str, name: str, size: int, title: str) -> Tile:
    for more in ([human(size)], []):
        for font in _FONTS:
            fitting = int((rectangle.width - font / 2) / (font * _CHARACTER))
            lines = (*_broken(name, fitting), *more)
            if max(map(len, lines)) <= fitting and (len(lines) + 0.5) * font * 1.2 <= rectangle.height:
                return Tile(rectangle, colour, title, lines, font)
    return Tile(rectangle, colour, title, (), 0)


def _broken(name: str, width: int) -> list[str]:
    """`name` in lines of at most `width` characters where it has places to be broken at: after hyphens."""
    lines = [""]
    for piece in re.findall(r"[^-]+-?|-", name):
        if lines[-1] and len(lines[-1] + piece) > width:
            lines.append("")
        lines[-1] += piece
    return lines


def _title(one: PackageSize) -> str:
    named = f"{one.name} {one.version}".strip()
    return f"{named} in {one.image}: {one.size.says()}"


def _render(template: str, report: SizeReport, name: str) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    environment.filters |= {"human": human, "px": _px}
    legend = [
        (image, colour, sum(one.size.compressed for one in report.layers if one.image == image))
        for image, colour in zip(report.images, _COLOURS * len(report.images), strict=False)
    ]
    return environment.get_template(template).render(
        name=name, report=report, tiles=treemap(report), legend=legend, width=WIDTH, height=HEIGHT
    )


def _px(value: float) -> str:
    """A coordinate, in hundredths: enough for any screen, and the same text everywhere."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
