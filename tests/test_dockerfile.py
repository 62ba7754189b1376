from __future__ import annotations

import pytest

from trtforge.dockerfile import Instruction, read_dockerfile
from trtforge.errors import RequestError


def test_instructions_come_with_their_lines() -> None:
    text = '# comment\nFROM scratch\n\nENV A="x y" \\\n    B=1\nCMD ["python", "-V"]\n'
    assert [(one.line, one.name) for one in read_dockerfile(text)] == [(2, "FROM"), (4, "ENV"), (6, "CMD")]


def test_pairs_are_read_as_docker_reads_them() -> None:
    (env,) = read_dockerfile('ENV A="x y" \\\n    PATH="/opt/bin:$PATH" C=${MISSING}\n')
    assert env.pairs({"PATH": "/bin"}) == {"A": "x y", "PATH": "/opt/bin:/bin", "C": ""}


@pytest.mark.parametrize(
    ("instruction", "reads"),
    [
        (Instruction(7, "ENV", "A 1"), lambda one: one.pairs({})),
        (Instruction(7, "CMD", "python -V"), lambda one: one.argv()),
        (Instruction(7, "CMD", "[1]"), lambda one: one.argv()),
        (Instruction(7, "LABEL", 'a="b'), lambda one: one.words()),
    ],
)
def test_a_form_that_is_not_understood_names_its_line(instruction: Instruction, reads: object) -> None:
    with pytest.raises(RequestError, match="line 7"):
        reads(instruction)  # type: ignore[operator]
