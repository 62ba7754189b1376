"""The real cell, published: pushed from the store, tested as it was pushed, and found by others."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.docker_registry import docker_registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Forge

pytestmark = [pytest.mark.e2e, pytest.mark.cell]

CELL = "--cuda 12.1 --arch ampere --tensorrt rtx"
EXACT = "rtx1.7.1.116-pt2.9.1-cu12.1-ampere"


def test_the_real_cell_is_published_tested_and_found(forge: Forge, scratch: Path) -> None:
    with docker_registry(scratch) as host:
        registry = f"--registry {host}/team"
        done = forge.type(f"publish {CELL} {registry}")
        assert done.returncode == 0, done.stderr
        skipped = "engine_run, torch_compile_run, torch_gpu, trtkit_run: no GPU"
        assert f"tensorrt: 15 passed, 4 skipped ({skipped})" in done.stdout

        def inspected(tag: str) -> str:
            command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{host}/team/tensorrt:{tag}"]
            out = subprocess.run(command, capture_output=True, check=True).stdout
            return str(json.loads(out)["Digest"])

        digest = inspected("cu12.1-ampere")
        assert digest == inspected(EXACT)
        line = forge.type(f"pull {CELL} {registry} --print").stdout
        assert line == f"docker pull {host}/team/tensorrt@{digest}\n"

        # A second architecture brings its own configuration, and nothing else of 4 GB.
        (turing,) = forge.answer(f"push --cuda 12.1 --arch turing --tensorrt rtx {registry}")
        assert turing["sent"] < 1_000_000
