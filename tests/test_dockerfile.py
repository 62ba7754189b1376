from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


seconds = st.integers(1, 10_000)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("interval", "timeout", "start-period", "retries"), seconds)
    ).flatmap(lambda options: st.permutations(list(options.items()))),
    st.lists(words, min_size=1),
)
def test_a_health_check_is_read_as_docker_reads_it(
    options: list[tuple[str, int]], command: list[str]
) -> None:
    text = " ".join(f"--{name}={value}{'' if name == 'retries' else 's'}" for name, value in options)
    found = Instruction(1, "HEALTHCHECK", f"{text} CMD {json.dumps(command)}".strip()).health_check()
    assert found.pop("Test") == ["CMD", *command]
    keys = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "retries": "Retries"}
    assert found == {
        keys[name]: value * (1 if name == "retries" else 1_000_000_000) for name, value in options
    }


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("NONE", "not known: NONE"),
        ("CMD curl localhost", "exec form"),
        ("CMD []", "is not of the form"),
        ("CMD", "exec form"),
        ("--interval=10s", "is not of the form"),
        ("--interval=10 CMD ['x']", "--interval=30s"),
        ("--interval=1m30s CMD ['x']", "--interval=30s"),
        ("--interval=-1s CMD ['x']", "--interval=30s"),
        ("--interval=10s --interval=5s CMD ['x']", "once"),
        ("--interval=0s CMD ['x']", "--interval=30s"),
        ("--retries=0 CMD ['x']", "--retries=30"),
        ("--retries=3s CMD ['x']", "--retries=30"),
        ("--start-interval=5s CMD ['x']", "not known: --start-interval"),
        ("interval=5s CMD ['x']", "not known: interval"),
        ("--interval 5s CMD ['x']", "--interval=30s"),
    ],
)
def test_a_health_check_that_docker_reads_otherwise_is_refused(value: str, says: str) -> None:
    with pytest.raises(RequestError, match="line 7") as caught:
        Instruction(7, "HEALTHCHECK", value.replace("'", '"')).health_check()
    assert says in caught.value.problem


def test_a_health_check_may_go_over_several_lines() -> None:
    (check,) = read_dockerfile('HEALTHCHECK --interval=10s --retries=3 \\\n    CMD ["true", "CMD"]\n')
    assert check.health_check() == {"Interval": 10**10, "Retries": 3, "Test": ["CMD", "true", "CMD"]}


def test_ports_have_a_protocol() -> None:
    assert Instruction(1, "EXPOSE", "8000 9000/udp").ports() == ["8000/tcp", "9000/udp"]


@pytest.mark.parametrize("value", ["", "$PORT", "8000-8002", "http", "8000/TCP", "08000", "8000/"])
def test_a_port_of_another_form_is_refused(value: str) -> None:
    with pytest.raises(RequestError, match="line 7"):
        Instruction(7, "EXPOSE", value).ports()
