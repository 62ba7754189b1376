from __future__ import annotations

import re
from typing import TYPE_CHECKING

import jsonschema
import pytest
from ruamel.yaml import YAML

from docs.generate import pages
from tests.conftest import PROJECT
from trtforge.axes import BroughtBase
from trtforge.errors import MatrixError
from trtforge.matrix import json_schema, load_matrix

if TYPE_CHECKING:
    from pathlib import Path

OURS = (PROJECT / "matrix.yaml").read_text(encoding="utf-8")


def refused(tmp_path: Path, text: str) -> MatrixError:
    file = tmp_path / "matrix.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MatrixError) as caught:
        load_matrix(file)
    return caught.value


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_an_unquoted_version_is_refused_with_its_line(tmp_path: Path) -> None:
    text = OURS.replace('defaults: {cuda: "12.8"', "defaults: {cuda: 12.10")
    error = refused(tmp_path, text)
    place = error.fact("at") or ""
    assert place.startswith(f"matrix.yaml:{line_of(text, 'cuda: 12.10')}: defaults.cuda")
    assert "quote it" in place


def test_an_unknown_key_is_refused_with_its_line(tmp_path: Path) -> None:
    text = OURS.replace("    because: ptxas before", "    becuase: ptxas before")
    error = refused(tmp_path, text)
    assert any(f"matrix.yaml:{line_of(text, 'becuase')}:" in fact for _, fact in error.facts)


def test_a_version_that_is_none_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, OURS.replace('"12.9": {driver', '"twelve": {driver'))
    assert "is not a version" in str(error.facts)


def test_broken_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    text = OURS.replace("runtime: {image: tensorrt}", "runtime: {image: tensorrt")
    at = refused(tmp_path, text).fact("at") or ""
    assert at.startswith("matrix.yaml:")
    assert int(at.partition(":")[2]) >= line_of(text, "runtime: {image: tensorrt")


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    assert "duplicate" in refused(tmp_path, OURS + "\nnamespace: other\n").problem


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("arch: ampere, torch", "arch: kepler, torch", "kepler is not a value of the axis arch"),
        ("index: pytorch-cu126", "index: pytorch-cu127", "pytorch-cu127 used but not declared"),
        ("flavour: tensorrt-rtx, sm", "flavour: trt, sm", "there is no flavour trt"),
        ("- id: glibc-2.28", "- id: os-python", "os-python declared twice"),
        ("serve: {image: serve,", "serve: {image: server,", "variant: serve: there is no image server"),
        ("serve: {image: serve,", "serve: {image: tensorrt,", "another variant has the image tensorrt"),
    ],
)
def test_a_name_that_does_not_exist_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert says in str(refused(tmp_path, OURS.replace(old, new)).facts)


def test_a_list_of_variants_is_answered_with_the_new_form(tmp_path: Path) -> None:
    text = re.sub(r"  variant: +#.*\n(    .*\n)+", "  variant: [runtime]\n", OURS)
    assert text != OURS
    error = refused(tmp_path, text)
    place = f"matrix.yaml:{line_of(text, 'variant: [runtime]')}: axes.variant: "
    assert place in (error.fact("at") or "")
    assert "write `runtime: {image: tensorrt}`" in (error.fact("at") or "")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("tensorrt: [onnx, ", "tensorrt: [on nx, ", "images.tensorrt.0: 'on nx' is no requirement"),
        ("package: nvidia-cuda-runtime==13.*", "package: ==13.*", "is no requirement"),
        ("trtkit: toolkit\n", "trtkit: ../toolkit\n", "projects.trtkit: "),
        ("trtkit: toolkit\n", "trtkit: /toolkit\n", "projects.trtkit: "),
    ],
)
def test_a_requirement_or_a_project_that_cannot_be_is_refused(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    text = OURS.replace(old, new)
    assert text != OURS
    assert says in (refused(tmp_path, text).fact("at") or "")


PINNED = f"registry.acme.example/torch@sha256:{'a' * 64}"


def with_os(row: str) -> str:
    return OURS.replace("    debian12: {", f"    acme-torch: {{{row}}}\n    debian12: {{", 1)


def test_an_os_may_be_a_base_that_the_user_has(tmp_path: Path) -> None:
    file = tmp_path / "matrix.yaml"
    text = with_os(f'base: "{PINNED}", python: "3.11", glibc: "2.35"')
    file.write_text(text, encoding="utf-8")
    assert load_matrix(file).axes.os["acme-torch"] == BroughtBase(base=PINNED, python="3.11", glibc="2.35")
    jsonschema.validate(YAML(typ="safe").load(text), json_schema())


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            'base: "acme/torch:1", python: "3.11", glibc: "2.35"',
            "acme-torch.base: 'acme/torch:1' is not pinned",
        ),
        ('base: "Acme?", python: "3.11", glibc: "2.35"', "'Acme?' is not an image reference"),
        (
            f'base: "{PINNED}", distribution: debian, codename: bookworm, python: "3.11", glibc: "2.35"',
            "say either `distribution` and `codename`, or `base`",
        ),
        (
            f'base: "{PINNED}", codename: bookworm, python: "3.11", glibc: "2.35"',
            "acme-torch.codename: Extra",
        ),
        ('python: "3.11", glibc: "2.35"', "say either `distribution` and `codename`, or `base`"),
        (f'base: "{PINNED}", glibc: "2.35"', "acme-torch.python: Field required"),
    ],
)
def test_an_os_is_one_of_the_two_and_a_base_is_pinned(tmp_path: Path, row: str, says: str) -> None:
    text = with_os(row)
    error = refused(tmp_path, text)
    assert says in str(error.facts)
    assert f"matrix.yaml:{line_of(text, 'acme-torch')}:" in (error.fact("at") or "")


def test_a_missing_matrix_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match="there is no"):
        load_matrix(tmp_path / "matrix.yaml")


@pytest.mark.parametrize(("name", "text"), pages().items())
def test_generated_documentation_is_up_to_date(name: str, text: str) -> None:
    assert (PROJECT / "docs" / name).read_text(encoding="utf-8") == text, "run: make docs"


def test_the_schema_for_editors_accepts_our_matrix() -> None:
    jsonschema.validate(YAML(typ="safe").load(OURS), json_schema())
