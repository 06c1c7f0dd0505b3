"""The filter's work takes no more instructions than docs/benchmarks.md says. A change that is
worth more of them writes that anew, with `make budget`."""

import pytest

from harness import budget

# It builds with all optimizations, on whatever machine.
pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def counted():
    try:
        return budget.counted(budget.written())
    except budget.NoValgrind as why:
        pytest.skip(f"tests/native/test_budget.py: {why}")


@pytest.mark.parametrize("case", budget.written())
def test_no_more_than_is_written(counted, case):
    most = budget.written()[case] * budget.TOLERANCE
    assert counted[case] <= most, (
        f"`{case}` takes {counted[case]:,} instructions, at most {most:,.0f} were expected; make it cheaper,"
        " or have the figure in docs/benchmarks.md changed by  make budget  and say why")


def test_there_are_enough():
    """A table that can't be read would pass all of the above."""
    assert {"map full-batch-100", "gzip full-batch-100", "token remembered", "token new"} <= budget.written().keys()
