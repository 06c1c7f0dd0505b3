"""The golden pairs: what the encoder makes of a body has not changed, and is what the rules
say. After a change that is meant, `make golden` writes them anew, for review."""

import pytest

from harness import golden
from harness.encoder import faults

CASES = golden.cases()


@pytest.fixture(scope="module")
def answers():
    return golden.answers()


@pytest.fixture(scope="module")
def fresh(answers):
    return golden.files(answers)


@pytest.mark.parametrize("case", CASES)
def test_as_committed(fresh, case):
    name = case + golden.SUFFIX
    assert golden.written().get(name) == fresh.get(name), f"tests/golden/{name} differs; see what changed:  make golden"


def test_what_is_counted(fresh):
    assert golden.written().get(golden.COUNTED) == fresh[golden.COUNTED]


def test_none_is_left_over(fresh):
    assert golden.written().keys() - fresh.keys() == set(), "files of cases that are no more; remove them:  make golden"


@pytest.mark.parametrize("case", CASES)
def test_as_the_rules_say(answers, case):
    assert faults(CASES[case], answers[case]) == []


def test_there_are_enough():
    """The fixtures, and more: an empty folder would pass all of the above."""
    assert len(CASES) > 50
    assert {"first-generation", "second-generation", "full-batch-100", "odd-records"} <= CASES.keys()
