from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtforge.matrix import Matrix, Rule
from trtforge.rules import Rulebook, broken_rules, explanation

FACTS = {"cuda": "12.10", "cuda_major": "12", "arch": "hopper", "flavour": "tensorrt", "python": "3.9"}


def rule(when: dict[str, str | list[str]], require: dict[str, str | list[str]]) -> Rule:
    return Rule(id="r", when=when, require=require, because="{arch} on {cuda}", source="a test")


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (">=12.9", True),  # as text "12.10" < "12.9"
        ("<12.9", False),
        ("==12.*", True),
        ("12.1", False),
        ([">=13", "==12.10"], True),
        ([], False),
        ("=={cuda}", True),
    ],
)
def test_versions_are_compared_as_versions(condition: str | list[str], holds: bool) -> None:
    assert (broken_rules([rule({}, {"cuda": condition})], FACTS) == ()) is holds


def test_a_rule_that_does_not_apply_is_not_broken() -> None:
    assert not broken_rules([rule({"arch": "volta"}, {"cuda": "<1"})], FACTS)


def test_every_condition_of_a_rule_counts() -> None:
    both = rule({"arch": "hopper", "flavour": "tensorrt"}, {"cuda": ">=12", "python": ">=3.10"})
    assert broken_rules([both], FACTS) == (both,)
    assert not broken_rules([both], FACTS | {"python": "3.10"})


def test_a_reason_is_told_for_the_cell() -> None:
    assert explanation(rule({}, {"cuda": ">=13"}), FACTS) == "hopper on 12.10"


def test_a_name_is_not_compared_with_a_version_in_silence() -> None:
    with pytest.raises(ValueError, match="hopper"):
        broken_rules([rule({}, {"arch": ">=1"})], FACTS)


@given(st.lists(st.fixed_dictionaries({name: st.sampled_from(["12.1", "13", "x"]) for name in "abc"})))
def test_many_cells_get_what_each_would_get_alone(many: list[dict[str, str]]) -> None:
    rules = [
        rule({"a": "x"}, {"b": "{c}"}),
        rule({"b": ["x", "13"]}, {"c": ["13", "{a}"]}),
        rule({}, {"a": "{b}"}),
    ]
    book = Rulebook(rules)
    assert [book.broken(facts) for facts in many] == [broken_rules(rules, facts) for facts in many]


def test_every_rule_of_the_matrix_can_be_told(matrix: Matrix) -> None:
    """A rule that names an unknown fact, or that no combination breaks, would be a dead letter."""
    from trtforge.cells import Cells

    cells = Cells(matrix)
    broken: set[str] = set()
    for verdict in cells.every():
        for one in verdict.broken:
            if one.id not in broken:
                assert explanation(one, cells.facts(verdict.cell))
            broken.add(one.id)
    # These guard values that the matrix does not list today.
    guards = {"torch-2.9-python", "torch-2.7-python", "glibc-2.28", "tensorrt-11.0-python", "rtx-1.5-python"}
    guards |= {"no-torch-on-an-os-of-ours", "jupyter-has-an-image-of-ours", "slim-is-of-our-torch"}
    guards.add("packages-need-an-os-of-ours")
    assert {one.id for one in matrix.rules} - broken == guards
