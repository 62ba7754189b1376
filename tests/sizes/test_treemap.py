"""The treemap: areas in proportion, none over another, none outside, and the same picture every time."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtforge.oci import Digest, Layer
from trtforge.sizes.report import LayerSize, PackageSize, SizeReport
from trtforge.sizes.size import Size
from trtforge.sizes.treemap import HEIGHT, WIDTH, Rectangle, draw_html, draw_svg, squarify, treemap

SVG = "{http://www.w3.org/2000/svg}"
SIZES = st.lists(st.integers(1, 10**10), min_size=1, max_size=60)


def report_of(*packages: tuple[str, str, int]) -> SizeReport:
    """A report with these (image, package, bytes)."""
    images = list(dict.fromkeys(image for image, _, _ in packages))
    layers = tuple(
        LayerSize(
            image,
            "all",
            Layer(
                Digest("sha256:0"),
                Digest("sha256:1"),
                sum(size for of, _, size in packages if of == image),
                0,
            ),
            None,
        )
        for image in images
    )
    told = [PackageSize(image, name, "wheel", "1.0", Size(size, 2 * size)) for image, name, size in packages]
    return SizeReport(images[-1], layers, tuple(sorted(told, key=lambda one: -one.size.compressed)))


REPORT = report_of(
    ("os", "libc6", 4_000_000),
    ("os", "bash", 1000),
    ("os", "dash", 900),
    ("pytorch-cuda", "torch", 900_000_000),
    ("pytorch-cuda", "nvidia-cublas-cu12", 594_000_000),
    ("tensorrt", "tensorrt-rtx-cu12-libs", 89_000_000),
    ("tensorrt", '<odd> & "name"', 50_000_000),
)


@given(SIZES, st.integers(1, 3000), st.integers(1, 3000))
def test_areas_are_in_proportion_and_inside_the_frame(sizes: list[int], width: int, height: int) -> None:
    found = squarify(sorted(sizes, reverse=True), Rectangle(5, 7, width, height))
    whole = sum(sizes)
    slack = 1e-6 * (width + height)
    for size, one in zip(sorted(sizes, reverse=True), found, strict=True):
        assert one.width * one.height == pytest.approx(size / whole * width * height, rel=1e-6)
        assert one.x >= 5 - slack
        assert one.y >= 7 - slack
        assert one.x + one.width <= 5 + width + slack
        assert one.y + one.height <= 7 + height + slack


@given(SIZES)
def test_no_two_overlap(sizes: list[int]) -> None:
    found = squarify(sizes, Rectangle(0, 0, 1200, 700))
    for one, other in combinations(found, 2):
        across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
        down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
        assert min(across, down) <= 1e-6


def test_shapes_are_near_squares() -> None:
    # The example of the paper: its worst rectangle is 1.25 times as long as wide but for the last ones.
    found = squarify([6, 6, 4, 3, 2, 2, 1], Rectangle(0, 0, 6, 4))
    assert found[0] == pytest.approx((0, 0, 3, 2))
    assert found[1] == pytest.approx((0, 2, 3, 2))
    assert found[2] == pytest.approx((3, 0, 12 / 7, 7 / 3))


def test_what_is_too_small_to_see_is_gathered_by_image() -> None:
    tiles = treemap(REPORT)
    titles = [tile.title for tile in tiles]
    assert "2 smaller packages of os: 1.9 kB compressed" in titles
    assert len(tiles) == 6
    area = sum(tile.rectangle.width * tile.rectangle.height for tile in tiles)
    assert area == pytest.approx(WIDTH * HEIGHT)


def test_labels_stay_within_their_rectangles() -> None:
    for tile in treemap(REPORT):
        if tile.label:
            assert max(map(len, tile.label)) * tile.font * 0.6 <= tile.rectangle.width
            assert len(tile.label) * tile.font * 1.2 <= tile.rectangle.height


def test_a_long_name_is_broken_after_hyphens() -> None:
    tiles = treemap(report_of(("os", "a" * 10, 90), ("os", "tensorrt-rtx-cu12-libs", 10)))
    (label,) = [tile.label for tile in tiles if "tensorrt" in tile.title]
    assert "".join(label[:-1]) == "tensorrt-rtx-cu12-libs"
    assert len(label) > 2


def test_the_svg_says_all_and_needs_nothing() -> None:
    text = draw_svg(REPORT, "trtforge/tensorrt:cu12.1-ampere")
    tree = ElementTree.fromstring(text)
    titles = [title.text for group in tree.iter(f"{SVG}g") for title in group.findall(f"{SVG}title")]
    assert "torch 1.0 in pytorch-cuda: 900 MB compressed, 1.80 GB on disk" in titles
    assert any('<odd> & "name"' in (title or "") for title in titles)
    assert (tree.get("role"), tree.get("aria-labelledby")) == ("img", "treemap-title treemap-desc")
    assert {"os 4.0 MB", "pytorch-cuda 1.49 GB"} <= {one.text for one in tree.iter(f"{SVG}text")}
    fills = {tile.colour for tile in treemap(REPORT)}
    assert len(fills) == 3
    assert not re.search(r"(href|src|url\(|@import|script)", text)
    assert draw_svg(REPORT, "trtforge/tensorrt:cu12.1-ampere") == text


def test_the_page_has_the_same_picture_and_every_package_in_a_table() -> None:
    page = draw_html(REPORT, "name")
    assert draw_svg(REPORT, "name").strip() in page
    for one in ("bash", "dash", "libc6", "torch", "&lt;odd&gt; &amp; &#34;name&#34;"):
        assert f'<th scope="row">{one}</th>' in page
    assert not re.search(r"(href|src|url\(|@import|<script)", page)


def test_an_image_without_bytes_is_an_empty_map() -> None:
    assert ElementTree.fromstring(draw_svg(replace(REPORT, packages=(), layers=()), "empty")) is not None
