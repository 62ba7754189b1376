"""Nights of a tiny project: bases of one program, wheels of some bytes, and everything else as it is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.docker_registry import docker_registry
from tests.e2e.conftest import Forge, copy_of_project, without_file_rules
from tests.loopback_index import tiny_wheel
from tests.tiny_image import tiny_image
from trtforge.nightly.failures import read_failures
from trtforge.progress import Silent
from trtforge.registry.namespace import Namespace
from trtforge.registry.push import push_image
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.oci import Digest

pytestmark = pytest.mark.e2e

PROGRAM = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **words) {
    if (count > 1 && !strcmp(words[1], "-c")) { puts(FACTS); return 0; }
    int broken = access(PURELIB "/onnx/broken", F_OK) == 0;
    puts("{\"smoke\": \"plan\", \"checks\": [\"onnx\", \"gpu\"]}");
    printf("{\"smoke\": \"result\", \"name\": \"onnx\", \"status\": \"%s\", \"reason\": \"%s\","
           " \"seconds\": 0, \"detail\": {}}\n", broken ? "failed" : "passed", broken ? "it is broken" : "");
    puts("{\"smoke\": \"result\", \"name\": \"gpu\", \"status\": \"skipped\", \"reason\": \"no GPU\","
         " \"seconds\": 0, \"detail\": {}}");
    return broken;
}
"""
"""The `python` of a base: it says what is inside it when it is probed, and runs the smoke tests."""

STEADY, MOVING = ("ampere-base3.11", "ada-base3.11"), "ampere-base3.12"
OURS = "rtx1.7.1.116-pt2.9.1-cu12.8"


@dataclass
class Place:
    """The project, its registry, the wheels that its index offers, and what is needed to make bases."""

    forge: Forge
    namespace: Namespace
    house: Path
    work: Path

    def night(self, more: str = "") -> tuple[int, dict[str, Any]]:
        """One night: its exit code and its report."""
        done = self.forge.type(
            f"nightly --registry {self.namespace} --wheelhouse {self.house} --offline --json {more}"
        )
        assert done.stdout, done.stderr
        answer = json.loads(done.stdout)
        assert "cells" in answer, done.stdout + done.stderr
        return done.returncode, answer

    def offer(self, version: str, tag: str = "py3-none-any", *names: str) -> None:
        """Have onnx in this version, with more files of these names."""
        files = {f"onnx/{name}": version.encode() for name in ("__init__.py", *names)}
        tiny_wheel(self.house, "onnx", version, tag=tag, files=files)

    def base(self, python: str, release: str) -> Digest:
        """Have the base for this Python under its tag in the registry."""
        purelib = f"/usr/local/lib/python{python}/site-packages"
        facts = {
            "python": f"{python}.{release}",
            "interpreter": "/bin/python",
            "prefix": "/usr/local",
            "purelib": purelib,
            "scripts": "/usr/local/bin",
            "torch": "2.9.1+cu128",
            "cuda": "12.8",
            "glibc": "2.36",
            "headers": "/usr/local/cuda/include/cuda_runtime.h",
            "packages": {"torch": "2.9.1+cu128", "numpy": "2.4.6"},
        }
        definitions = {"FACTS": json.dumps(json.dumps(facts)), "PURELIB": json.dumps(purelib)}
        text = "".join(f"#define {name} {value}\n" for name, value in definitions.items()) + PROGRAM
        work = self.work / f"{python}.{release}"
        work.mkdir()
        store = Store(work / "store")
        image = tiny_image(store, work, source=text)
        return push_image(image, python, self.namespace.repository("base"), store, Silent()).digest

    def digest(self, tag: str) -> Digest | None:
        return self.namespace.repository("tensorrt").find_digest(tag)


@pytest.fixture
def place(address: str, scratch: Path, tmp_path: Path) -> Iterator[Place]:
    house = tmp_path / "house"
    library = {"tensorrt_rtx_libs/libtensorrt_rtx.so.1": b"\x7fELF" * 9}
    tiny_wheel(house, "tensorrt-rtx-cu12-libs", "1.7.1.116", files=library)
    for name in ("tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu12"):
        tiny_wheel(house, name, "1.7.1.116")
    (tmp_path / "registry").mkdir()
    root = without_file_rules(copy_of_project(tmp_path / "project"))
    with (
        docker_registry(tmp_path / "registry") as host,
        Namespace.open(f"{host}/team") as namespace,
    ):
        place = Place(Forge(root, scratch / "cache", address), namespace, house, tmp_path)
        place.offer("1.23.2")
        rows = "".join(
            f'    base{python}: {{base: "{namespace}/base:{python}@{place.base(python, "1")}",'
            f' python: "{python}", glibc: "2.36"}}\n'
            for python in ("3.11", "3.12")
        )
        publish = (
            "publish:\n"
            '  - {cuda: ["12.8"], arch: [ampere, ada], tensorrt: rtx, os: ["base3.11"]}\n'
            '  - {cuda: ["12.8"], arch: [ampere], tensorrt: rtx, os: ["base3.12"]}\n\n'
        )
        matrix = (root / "matrix.yaml").read_text()
        matrix = matrix.replace('  python: ["3.11"', rows + '  python: ["3.11"')
        matrix = re.sub(r"publish:.*?\n\n(?=registry:)", publish, matrix, flags=re.DOTALL)
        # trtkit needs some fifty wheels, which this house has not.
        matrix, found = re.subn(r"  tensorrt: \[onnx, .*\]\n", "  tensorrt: [onnx]\n", matrix)
        assert found == 1
        (root / "matrix.yaml").write_text(matrix)
        (root / "matrix.lock").unlink()
        yield place


def results(answer: dict[str, Any]) -> dict[str, str]:
    return {cell["cell"].removeprefix(f"{OURS}-"): cell["result"] for cell in answer["cells"]}


def test_nights(place: Place) -> None:
    code, first = place.night()
    assert (code, set(results(first).values())) == (0, {"published"}), first
    assert all(cell["checks"]["skipped"] == {"gpu": "no GPU"} for cell in first["cells"])

    # A second night has nothing to do, and says so.
    lock = (place.forge.root / "matrix.lock").read_bytes()
    code, second = place.night()
    assert (code, second["summary"]) == (0, "nothing changed: 3 up to date")
    assert second["seconds"] < 5
    assert (place.forge.root / "matrix.lock").read_bytes() == lock

    # After a changed pin only the image that holds it is rebuilt; the report says what and why.
    place.offer("1.24.0", "cp312-none-any")
    code, third = place.night()
    assert (code, results(third)) == (0, dict.fromkeys(STEADY, "up to date") | {MOVING: "published"})
    (cell,) = [cell for cell in third["cells"] if cell["result"] == "published"]
    assert cell["why"] == "onnx 1.23.2 -> 1.24.0"
    assert cell["pushed"] < 10_000
    text = (place.forge.root / "nightly" / "report.md").read_text()
    assert "| onnx | 1.23.2 | [1.24.0](<https://github.com/onnx/onnx/releases/tag/v1.24.0>) | wheel" in text

    # A base's tag moves, and what is offered elsewhere is broken: the one is followed, the other kept out.
    good = place.digest(f"{OURS}-ampere-base3.12")
    place.offer("1.25.0", "cp312-none-any", "broken")
    moved = place.base("3.11", "2")
    before = (place.forge.root / "matrix.yaml").read_text()
    code, fourth = place.night()
    assert code == 1
    assert results(fourth) == dict.fromkeys(STEADY, "published") | {MOVING: "failed"}
    failed = next(cell for cell in fourth["cells"] if cell["result"] == "failed")
    assert failed["checks"]["failed"] == {"onnx": "it is broken"}
    assert place.digest(f"{OURS}-ampere-base3.12") == good == failed["digest"]
    after = (place.forge.root / "matrix.yaml").read_text()
    assert after == re.sub(r"(base:3\.11@)sha256:\w+", rf"\g<1>{moved}", before) != before
    assert [len(one.nights) for one in read_failures(place.namespace, Silent()).values()] == [1]

    # Shared out over the jobs of a CI system, it is the same night.
    parts = place.forge.root / "parts"
    code, plan = place.night(f"--no-refresh --dry-run --report {parts}/plan")
    assert (code, results(plan)) == (0, dict.fromkeys(STEADY, "up to date") | {MOVING: "to publish"})
    said = place.forge.type(f"plan --github-matrix --registry {place.namespace}")
    (job,) = json.loads(said.stdout)["include"]
    selectors = " ".join(f"--{axis} {value}" for axis, value in job.items())
    code, done = place.night(f"--no-refresh {selectors} --report {parts}/job-0")
    assert (code, results(done)) == (1, {MOVING: "failed"})
    whole = place.forge.type(f"report {parts} --output {parts}/whole")
    assert (whole.returncode, whole.stdout.splitlines()[0]) == (1, "1 failed, 2 up to date")


def test_nothing_is_done_where_the_command_line_is_wrong(place: Place) -> None:
    for words, problem in [
        (f"nightly --registry {place.namespace} --arch volta", "no published cell is --arch volta"),
        ("nightly", "no registry is named"),
    ]:
        done = place.forge.type(words)
        assert done.returncode == 2
        assert problem in done.stderr
    code, dry = place.night("--dry-run")
    assert (code, set(results(dry).values())) == (0, {"to publish"})
    assert not (place.forge.root / "matrix.lock").exists()
    assert place.namespace.repository("tensorrt").tags() == []
