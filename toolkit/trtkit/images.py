"""An image file's bytes as a model's input; calibration and the service prepare images in this one way.

The result is what torchvision's evaluation transforms give (Resize, CenterCrop, ToTensor, Normalize on a PIL
image), so a model sees here what it was trained for; a value differs by one step of 1/255 at most.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from trtkit.errors import RequestError
from trtkit.sidecar import Preprocess

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""What is read, by content. Everything else that Pillow knows stays closed: fewer decoders face strangers."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
"""File names that are taken for images of these formats, in lower case."""

MAX_PIXELS = 64 << 20
"""The largest image that is decoded, in pixels (192 MiB as RGB): a small file can claim to be far larger."""


class UnreadableImage(RequestError):
    """These bytes are no image that can be read. reason: why not."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "this image cannot be read",
            ("because", reason),
            ("next", f"send a whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file"),
        )
        self.reason = reason


def image_tensor(data: bytes, preprocess: Preprocess) -> NDArray[np.float32]:
    """The image as float32 of shape (3, crop, crop), channels RGB.

    It is turned as its EXIF orientation says. Grey, palette and CMYK images become RGB; alpha is dropped, and
    of an animation the first frame counts.

    Raises:
        UnreadableImage: it is of another format, damaged, or larger than MAX_PIXELS.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}")
            pixels = _cropped(_rgb(ImageOps.exif_transpose(image)), preprocess)
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"it is none of {', '.join(FORMATS)}") from error
    except Exception as error:  # decoders fail on damaged files with whatever they hit
        raise UnreadableImage(str(error) or type(error).__name__) from error
    return _normalised(pixels, preprocess)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip it to white
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _cropped(image: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Resized and cropped in one step, so only the part that is kept is computed: the whole of an image one
    pixel high, resized to 256, would not fit into memory."""
    width, height = image.size
    short, crop = min(width, height), preprocess.crop
    # torchvision's rounding, from functional.resize and functional.center_crop.
    resized = (int(preprocess.resize * width / short), int(preprocess.resize * height / short))
    left, top = (round((size - crop) / 2) for size in resized)
    across, down = width / resized[0], height / resized[1]
    box = (left * across, top * down, (left + crop) * across, (top + crop) * down)
    inside = (box[0], box[1], min(box[2], width), min(box[3], height))
    return np.asarray(image.resize((crop, crop), Image.Resampling.BILINEAR, box=inside))


def _normalised(pixels: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
    tensor: NDArray[Any] = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel, (mean, std) in enumerate(zip(preprocess.mean, preprocess.std, strict=True)):
        np.multiply(pixels[..., channel], np.float32(1 / (255 * std)), out=tensor[channel])
        tensor[channel] -= np.float32(mean / std)
    return tensor
