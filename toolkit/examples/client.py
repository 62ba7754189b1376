"""Asks a service of trtkit: an image or random numbers in, what the model says out.

python client.py http://127.0.0.1:8000 resnet50 photo.jpg    # POST /infer: the classes
python client.py http://127.0.0.1:8000 resnet50              # the KServe protocol, with random numbers
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen


def ask(url: str, body: bytes | None = None, kind: str = "application/json") -> Any:
    """The JSON that comes back."""
    with urlopen(Request(url, body, {"Content-Type": kind} if body else {}), timeout=60) as answer:
        return json.load(answer)


def wait_until_ready(service: str, seconds: float = 60) -> None:
    """A service that has just been started loads its model first."""
    deadline = time.monotonic() + seconds
    while not is_ready(service):
        if time.monotonic() > deadline:
            sys.exit(f"{service} is not ready")
        time.sleep(0.2)


def is_ready(service: str) -> bool:
    try:
        urlopen(f"{service}/ready", timeout=5).close()
    except URLError:
        return False
    return True


def random_request(service: str, model: str) -> bytes:
    """A KServe request: one row of random numbers for each input of `model`."""
    inputs = []
    for spec in ask(f"{service}/v2/models/{model}")["inputs"]:
        shape = [size if size > 0 else 1 for size in spec["shape"]]
        data = [random.random() for _ in range(math.prod(shape))]
        inputs.append({"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": data})
    return json.dumps({"inputs": inputs}).encode()


def main(service: str, model: str, *images: str) -> None:
    wait_until_ready(service)
    for image in images:
        kind = "image/png" if image.endswith(".png") else "image/jpeg"
        print(json.dumps(ask(f"{service}/infer", Path(image).read_bytes(), kind)))
    if not images:
        answer = ask(f"{service}/v2/models/{model}/infer", random_request(service, model))
        for output in answer["outputs"]:
            print(output["name"], output["datatype"], output["shape"], output["data"][:4], "...")


if __name__ == "__main__":
    main(*sys.argv[1:])
