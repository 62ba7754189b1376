"""--preprocess: how images become a model's input."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from trtkit.errors import RequestError
from trtkit.sidecar import Preprocess


def parse_preprocess(text: str) -> Preprocess:
    """ "imagenet", or a JSON file of `Preprocess`'s fields.

    Raises:
        RequestError: there is no such file, or it does not hold that.
    """
    if text == "imagenet":
        return Preprocess()
    if not Path(text).is_file():
        raise RequestError(f"there is no file {text}", ("next", "give a JSON file, or imagenet"))
    try:
        return Preprocess.model_validate_json(Path(text).read_bytes())
    except ValidationError as error:
        reason = error.errors()[0]
        raise RequestError(
            f"{text} does not say how images are preprocessed",
            ("because", f"{'.'.join(map(str, reason['loc'])) or 'JSON'}: {reason['msg']}"),
            ("next", 'write {"resize": 256, "crop": 224, "mean": [r, g, b], "std": [r, g, b]}'),
        ) from error
