"""Rules, applied. This module does not know what CUDA is: it compares a cell's facts with conditions.

A condition is a version specifier (">=12.8,<13", PEP 440), a value ("hopper") or a list of values. In a
condition, `{fact}` stands for another fact of the same cell.
"""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from string import Formatter
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trtforge.matrix import Rule

Facts = dict[str, str]
"""What is known of one cell: fact name -> value, e.g. {"cuda": "12.1", "flavour": "tensorrt-rtx"}."""


def broken_rules(rules: Iterable[Rule], facts: Facts) -> tuple[Rule, ...]:
    """The rules that a cell with these `facts` breaks, in the matrix's order.

    Raises:
        KeyError: a rule names a fact that no cell has.
    """
    return tuple(rule for rule in rules if _breaks(rule, facts))


class Rulebook:
    """The rules of a matrix for very many cells: what a rule says is worked out once for all cells that have
    the same of the few facts that it is about."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = [(rule, itemgetter(*_facts_of(rule)), dict[object, bool]()) for rule in rules]

    def broken(self, facts: Facts) -> tuple[Rule, ...]:
        """As `broken_rules`."""
        found = []
        for rule, facts_of, known in self._rules:
            values = facts_of(facts)
            breaks = known.get(values)
            if breaks is None:
                breaks = known[values] = _breaks(rule, facts)
            if breaks:
                found.append(rule)
        return tuple(found)


def _breaks(rule: Rule, facts: Facts) -> bool:
    return hold(rule.when, facts) and not hold(rule.require, facts)


def _facts_of(rule: Rule) -> tuple[str, ...]:
    """The facts that decide about a rule: those of its conditions, and those that stand in them."""
    names = dict.fromkeys([*rule.when, *rule.require])
    for condition in (*rule.when.values(), *rule.require.values()):
        for text in [condition] if isinstance(condition, str) else condition:
            names |= dict.fromkeys(name for _, name, _, _ in Formatter().parse(text) if name)
    return tuple(names)


def explanation(rule: Rule, facts: Facts) -> str:
    """The rule's reason, told for this cell."""
    return rule.because.format_map(facts)


def hold(conditions: Mapping[str, str | list[str]], facts: Facts) -> bool:
    """Whether a cell with these `facts` satisfies all `conditions`, which map a fact's name to one.

    Raises:
        KeyError: a condition is about a fact that no cell has.
    """
    return all(_holds(condition, facts[name], facts) for name, condition in conditions.items())


def _holds(condition: str | list[str], value: str, facts: Facts) -> bool:
    if isinstance(condition, list):
        return any(_holds(choice, value, facts) for choice in condition)
    return _matches(condition.format_map(facts) if "{" in condition else condition, value)


@cache
def _matches(condition: str, value: str) -> bool:
    if condition[0] not in "<>=!~":
        return condition == value
    try:
        return SpecifierSet(condition).contains(Version(value), prereleases=True)
    except (InvalidSpecifier, InvalidVersion) as error:
        raise ValueError(f"{value!r} cannot be compared with {condition!r}") from error
