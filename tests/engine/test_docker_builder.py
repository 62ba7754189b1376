"""The build context: the same bytes from any checkout, links followed."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from trtforge.engine.docker_builder import build_with_docker, context_files
from trtforge.errors import BuildError
from trtforge.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.engine.engine import Engine


class Builder:
    """The part of the SDK's client that building uses; `events` is what the Engine says."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = events
        self.context = b""
        self.tags: list[tuple[str, str]] = []

    def build(self, fileobj: Any, **_options: Any) -> Any:
        self.context = b"".join(fileobj)
        return iter(self.events)

    def inspect_image(self, _ref: str) -> dict[str, str]:
        return {"Id": "sha256:1"}

    def tag(self, _image: str, repository: str, tag: str) -> None:
        self.tags.append((repository, tag))


def build(context: Path, builder: Builder) -> str:
    engine = SimpleNamespace(api=builder, errors=lambda _doing: nullcontext())
    return build_with_docker(context, ["a/b:1", "host:5000/b:2"], cast("Engine", engine), Silent())


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "layers").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "blob").write_bytes(b"blob")
    (folder / "layers" / "one.tar.gz").symlink_to(tmp_path / "blob")
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "run").write_text("#!")
    (tmp_path / "smoke" / "run").chmod(0o700)
    (folder / "smoke").symlink_to(tmp_path / "smoke")
    return folder


def test_the_context_holds_what_links_lead_to(context: Path) -> None:
    assert [name for name, _path in context_files(context)] == [
        "Dockerfile",
        "layers",
        "layers/one.tar.gz",
        "smoke",
        "smoke/run",
    ]
    builder = Builder()
    assert build(context, builder) == "sha256:1"
    with tarfile.open(fileobj=io.BytesIO(builder.context)) as tar:
        modes = {member.name: (member.isreg(), member.mode) for member in tar}
        layer = tar.extractfile("layers/one.tar.gz")
        assert layer is not None
        assert layer.read() == b"blob"
    assert modes == {
        "Dockerfile": (True, 0o644),
        "layers": (False, 0o755),
        "layers/one.tar.gz": (True, 0o644),
        "smoke": (False, 0o755),
        "smoke/run": (True, 0o755),
    }
    assert builder.tags == [("host:5000/b", "2")]


def test_umask_and_time_of_the_checkout_do_not_matter(context: Path) -> None:
    one, two = Builder(), Builder()
    build(context, one)
    (context / "Dockerfile").chmod(0o600)
    (context / "layers").chmod(0o700)
    os.utime(context / "Dockerfile", (1, 1))
    build(context, two)
    assert one.context == two.context


def test_the_failing_step_and_its_own_output_are_reported(context: Path) -> None:
    builder = Builder(
        {"stream": "Step 1/2 : FROM x\n"},
        {"stream": " ---> 0123\n"},
        {"stream": "Step 2/2 : RUN false\n"},
        *({"stream": f"line {number}\n"} for number in range(100)),
        {"error": "returned a non-zero code: 1", "errorDetail": {}},
    )
    with pytest.raises(BuildError) as error:
        build(context, builder)
    assert error.value.fact("step") == "Step 2/2 : RUN false"
    output = [text for label, text in error.value.facts if label == "output"]
    assert output[-1] == "line 99"
    assert len(output) == 20


def test_a_dockerfile_that_cannot_be_read_fails_before_any_step(context: Path) -> None:
    with pytest.raises(BuildError) as error:
        build(context, Builder({"error": "dockerfile parse error"}))
    assert error.value.fact("step") == "reading the Dockerfile"
