"""The rules of the query language, case by case."""

import pytest
from tests.unit.lql.cases import CASES, Case

from logmend import lql


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_the_filter_selects_as_its_rule_says(case: Case) -> None:
    """The filter holds, or does not, of the case's entry."""
    assert lql.compile(case.filter).matches(case.entry) is case.holds


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_the_printed_filter_selects_the_same(case: Case) -> None:
    """Printing and compiling again changes neither the tree nor the answer."""
    compiled = lql.compile(case.filter)
    again = lql.compile(lql.format(compiled))
    assert again.root == compiled.root
    assert again.matches(case.entry) is case.holds


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_the_conditions_hold_together_where_the_filter_matches(case: Case) -> None:
    """`explain` agrees with `matches`: all conditions hold, or the entry is not selected."""
    conditions = lql.compile(case.filter).explain(case.entry)
    assert all(condition.holds for condition in conditions) is case.holds


def test_no_rule_is_named_twice() -> None:
    """A case can be found by the name of its rule."""
    names = [case.rule for case in CASES]
    assert sorted(set(names)) == sorted(names)
