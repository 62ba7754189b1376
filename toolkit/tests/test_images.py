"""Images become tensors as torchvision makes them, whatever they are; what is no image is told so."""

from __future__ import annotations

import io
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from trtkit.images import MAX_PIXELS, UnreadableImage, image_tensor
from trtkit.sidecar import Preprocess

RAW = Preprocess(resize=32, crop=32, mean=(0, 0, 0), std=(1, 1, 1))
"""No crop of a square, and values 0 to 1."""


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.torch
@pytest.mark.parametrize("size", [(480, 640), (300, 300), (101, 117), (33, 7), (257, 999)])
def test_it_is_what_torchvision_makes(size: tuple[int, int]) -> None:
    from torchvision import transforms

    settings = Preprocess()
    theirs = transforms.Compose(
        [
            transforms.Resize(settings.resize),
            transforms.CenterCrop(settings.crop),
            transforms.ToTensor(),
            transforms.Normalize(settings.mean, settings.std),
        ]
    )
    image = noise(*size)
    expected: NDArray[np.float32] = theirs(image).numpy()
    difference = np.abs(image_tensor(encoded(image), settings) - expected)
    assert difference.max() <= 1.01 / 255 / min(settings.std)
    assert (difference > 1e-5).mean() < 0.01


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (255, 128, 0), (1, 128 / 255, 0)),
        ("RGBA", (255, 128, 0, 10), (1, 128 / 255, 0)),
        ("L", 128, (128 / 255,) * 3),
        ("LA", (128, 0), (128 / 255,) * 3),
        ("1", 1, (1, 1, 1)),
        ("I;16", 128 * 257, (128 / 255,) * 3),
    ],
)
def test_every_mode_becomes_rgb(mode: str, colour: Any, expected: tuple[float, ...]) -> None:
    tensor = image_tensor(encoded(Image.new(mode, (32, 32), colour)), RAW)
    assert tensor.shape == (3, 32, 32)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor.mean(axis=(1, 2)), expected, atol=1e-6)


def test_palette_and_cmyk_images_become_rgb() -> None:
    red = Image.new("RGB", (32, 32), (255, 0, 0))
    for data in (
        encoded(red.quantize(4)),
        encoded(red.convert("CMYK"), "JPEG", quality=95),
        encoded(red, "WEBP", lossless=True),
        encoded(red, "BMP"),
    ):
        tensor = image_tensor(data, RAW)
        np.testing.assert_allclose(tensor.mean(axis=(1, 2)), (1, 0, 0), atol=0.03)


def test_it_is_turned_as_its_exif_orientation_says() -> None:
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16] = 255  # white above, black below
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by half
    lying = encoded(Image.fromarray(upright[::-1, ::-1]), "PNG", exif=exif)
    np.testing.assert_array_equal(
        image_tensor(lying, RAW), image_tensor(encoded(Image.fromarray(upright)), RAW)
    )


def test_a_long_thin_image_takes_no_more_memory_than_its_crop() -> None:
    """Resized as a whole, it would be 256 x 256,000,000 pixels."""
    data = encoded(Image.new("L", (1_000_000, 1)))
    tracemalloc.start()
    assert image_tensor(data, Preprocess()).shape == (3, 224, 224)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_a_small_file_that_claims_to_be_huge_is_not_decoded() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    bomb = encoded(Image.new("1", (side, side)))
    assert len(bomb) < 100_000
    with pytest.raises(UnreadableImage) as raised:
        image_tensor(bomb, RAW)
    assert f"{side} x {side}" in raised.value.reason


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(100), b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_what_is_no_image_of_a_known_format_is_told_so(data: bytes) -> None:
    with pytest.raises(UnreadableImage):
        image_tensor(data, RAW)


def test_a_gif_stays_closed_though_pillow_reads_it() -> None:
    with pytest.raises(UnreadableImage):
        image_tensor(encoded(noise(8, 8), "GIF"), RAW)


@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP"]), data=st.data())
def test_a_damaged_file_gives_a_tensor_or_the_one_error(kind: str, data: st.DataObject) -> None:
    whole = encoded(noise(24, 24), kind)
    bytes_ = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8)):
        if bytes_:
            bytes_[place % len(bytes_)] = value
    with suppress(UnreadableImage):
        tensor = image_tensor(bytes(bytes_), RAW)
        assert tensor.shape == (3, 32, 32)
        assert np.isfinite(tensor).all()
