"""trtkit inside the images it is packaged in: on the real cell, without network, as the image's user."""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import docker
import pytest
from uv import find_uv_bin

from tests.conftest import PROJECT
from tests.documented import commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from docker.models.containers import Container

    from tests.e2e.conftest import Forge

pytestmark = [pytest.mark.e2e, pytest.mark.cell]

CELL = "--cuda 12.1 --arch ampere --tensorrt rtx"
REF, SERVE = "trtforge/tensorrt:cu12.1-ampere", "trtforge/serve:cu12.1-ampere"
RUNNER = ("pytest", "pluggy", "iniconfig", "pygments", "hypothesis", "sortedcontainers", "packaging")
"""What runs tests in an image that has no network."""


@dataclass(frozen=True)
class Ran:
    code: int
    output: str


@dataclass(frozen=True)
class Images:
    """The built images. client: of the Engine that has them."""

    client: docker.DockerClient

    def run(self, script: str, mounts: Mapping[Path, str] | None = None, **environment: str) -> Ran:
        """`script`, by a shell that stops at the first failure, in a container without network."""
        container = self.client.containers.run(
            REF,
            ["bash", "-ec", script],
            detach=True,
            network_mode="none",
            environment=environment,
            volumes={str(path): {"bind": place, "mode": "ro"} for path, place in (mounts or {}).items()},
        )
        try:
            code = container.wait(timeout=1200)["StatusCode"]
            return Ran(code, container.logs().decode(errors="replace"))
        finally:
            container.remove(force=True)


@pytest.fixture(scope="module")
def images(forge: Forge, address: str) -> Iterator[Images]:
    forge.build(CELL)
    client = docker.DockerClient(base_url=address)
    yield Images(client)
    client.close()


@pytest.fixture(scope="module")
def test_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pytest and hypothesis, as they are locked."""
    lock = (PROJECT / "requirements-dev.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z])", lock)
    wanted = [one for one in entries if re.split(r"[=; ]", one)[0] in RUNNER]
    assert len(wanted) == len(RUNNER)
    folder = tmp_path_factory.mktemp("runner")
    (folder / "runner.txt").write_text("\n".join(wanted), encoding="utf-8")
    command = [find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    target = ["--python-version", "3.11", "--target", str(folder / "site")]
    subprocess.run([*command, *target, "-r", str(folder / "runner.txt")], check=True)
    return folder / "site"


def test_what_needs_pytorch_is_tested_inside_the_image(images: Images, test_runner: Path) -> None:
    toolkit = PROJECT / "toolkit"
    mounts = {toolkit / name: f"/toolkit/{name}" for name in ("tests", "examples", "pyproject.toml")}
    files = [
        path for path in (toolkit / "tests").rglob("test_*.py") if "mark.torch" in path.read_text("utf-8")
    ]
    named = " ".join(sorted(str(path.relative_to(toolkit)) for path in files))
    script = f"cd /toolkit && python -m pytest {named} -m torch -q -p no:cacheprovider --durations=8"
    ran = images.run(script, {**mounts, test_runner: "/runner"}, PYTHONPATH="/runner")
    print(ran.output[-6000:])
    assert ran.code == 0
    assert re.search(r"\d+ passed", ran.output)


def test_a_model_s_whole_pipeline_in_one_command(images: Images) -> None:
    """Exports, calibrates, builds for both GPUs of the cell; says what was skipped. Then there is no work."""
    pipeline = "trtkit pipeline /opt/trtkit/examples/resnet50.yaml"
    sidecars = """python -c "
import json, pathlib
for path in sorted(pathlib.Path('trtkit-resnet50').glob('*.engine.json')):
    told = json.loads(path.read_text())
    print('sidecar', told['precision'], *told['sms'], bool(told['layers']))
" """
    ran = images.run(f"{pipeline}; {sidecars}; echo AGAIN; {pipeline}")
    print(ran.output)
    assert ran.code == 0
    first, _, again = ran.output.partition("AGAIN")
    for precision in ("FP16", "INT8"):
        assert f"{precision} for SM 80, 86" in first
        assert f"TensorRT {precision}: skipped: no GPU" in first
        assert f"sidecar {precision.lower()} 80 86 True" in first
    assert re.search(r"PyTorch FP32 +\d", first)
    assert re.search(r"ONNX Runtime CPU +\d", first)
    assert re.search(r"budget +INT8 cosine .* held", first)
    assert re.search(r"budget +TensorRT FP16, batch 1: P99 ms .* skipped +no GPU", first)
    line = r"^(export|calibrate|build \w+|verify|bench) +(done|unchanged|skipped) "
    steps = re.findall(line, again, re.MULTILINE)
    assert [action for _, action in steps] == ["unchanged"] * 6


def test_every_command_of_the_documentation(images: Images) -> None:
    """docs/pipeline.md, typed into one shell in its order; what it says of exit codes is so."""
    script = [
        f"echo '$ {number}'; code=0; {{ {one.text}\n}} || code=$?; test $code = {one.exits}"
        for number, one in enumerate(commands(PROJECT / "docs" / "pipeline.md", "Inside the image"))
    ]
    assert len(script) > 10
    ran = images.run("\n".join(script))
    print(ran.output[-8000:])
    assert ran.code == 0


def test_an_operator_that_tensorrt_does_not_have_is_named(images: Images) -> None:
    ran = images.run(
        "trtkit export /opt/trtkit/examples/unsupported.py:deformable --opset 19 --out net.onnx >/dev/null;"
        "trtkit build net.onnx --sm 86"
    )
    assert ran.code == 1, ran.output
    assert "DeformConv" in ran.output
    assert re.search(r"node +DeformConv '", ran.output)


@pytest.fixture(scope="module")
def served(forge: Forge, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """The image that serves, with a folder of models, as `docker run` starts it."""
    forge.build(f"{CELL} --variant serve")
    models = tmp_path_factory.mktemp("models")
    (models / "relu.onnx").write_bytes(relu())
    for path in (models, *models.iterdir()):
        path.chmod(0o755)
    container = images.client.containers.run(
        SERVE,
        detach=True,
        ports={"8000/tcp": ("127.0.0.1", 0)},
        volumes={str(models): {"bind": "/models", "mode": "ro"}},
    )
    yield container
    container.remove(force=True)


def test_the_serving_image_serves_and_is_healthy(served: Container) -> None:
    deadline = time.monotonic() + 60
    while served.attrs["State"].get("Health", {}).get("Status") != "healthy":
        assert time.monotonic() < deadline, served.logs().decode()
        time.sleep(0.5)
        served.reload()
    assert served.attrs["Config"]["User"] == "1000:1000"
    port = served.attrs["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"]
    x = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [-1, 2, 3]}
    body = json.dumps({"inputs": [x]}).encode()
    request = Request(
        f"http://127.0.0.1:{port}/v2/models/models/infer", body, {"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=30) as answer:
        said: dict[str, Any] = json.load(answer)
    assert said["outputs"][0]["data"] == [0, 2, 3]


def test_the_serving_image_has_no_torch_and_ends_when_it_is_told_to(served: Container) -> None:
    code, output = served.exec_run(["python", "-c", "import torch"])
    assert (code, b"No module named 'torch'" in output) == (1, True)
    served.stop(timeout=20)
    served.reload()
    assert served.attrs["State"]["ExitCode"] == 0


def relu() -> bytes:
    """The model of the smoke test."""
    from smoke.checks.trtkit_serve import RELU

    return RELU
