"""An image that runs, in a megabyte: one static program, which is the `python` that the smoke tests start."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

from tests.gzip_layers import gzip_layer
from trtforge.image import Image, assemble, name_image

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.store import Store

_PROGRAM = r"""
#include <stdio.h>
int main(void) {
    puts("{\"smoke\": \"plan\", \"checks\": [\"tiny\", \"gpu\"]}");
    puts("{\"smoke\": \"result\", \"name\": \"tiny\", \"status\": \"passed\", \"reason\": \"\","
         " \"seconds\": 0.5, \"detail\": {}}");
    puts("{\"smoke\": \"result\", \"name\": \"gpu\", \"status\": \"skipped\", \"reason\": \"no GPU\","
         " \"seconds\": 0, \"detail\": {}}");
    return 0;
}
"""


def tiny_image(store: Store, work: Path, *contents: bytes, source: str = _PROGRAM) -> Image:
    """An image in `store`, named "tiny": the program's layer, and one for each of `contents`.

    Args:
        work: an empty folder to compile in. source: the program's, in C.
    """
    program = work / "python"
    if not program.exists():
        (work / "tiny.c").write_text(source)
        subprocess.run(["gcc", "-static", "-Os", "-s", "-o", program, work / "tiny.c"], check=True)
    files = {"bin/python": program.read_bytes()}, *({"data": content} for content in contents)
    layers = {f"layers/{number}": gzip_layer(store, _tar(names)) for number, names in enumerate(files)}
    lines = ["FROM scratch", *(f"ADD {source} /" for source in layers), 'CMD ["python"]', "ENV PATH=/bin"]
    image = assemble("\n".join(lines) + "\n", layers, {}, None, store)
    name_image(image, "tiny", "key", store)
    return image


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()
