"""How many instructions the filter's work takes, and how many docs/benchmarks.md says.

`make budget` (python -m harness.budget) counts anew and writes them there, for review.
"""

import re
import subprocess
import sys

from .common import ROOT, Problem

DOCUMENT = ROOT / "docs" / "benchmarks.md"
ROW = re.compile(r"^\| `(?P<case>[^`]+)` \| (?P<what>[^|]+) \| (?P<count>[\d,]+) \|$", re.M)

# More than this above what is written fails a test.
TOLERANCE = 1.10
NO_VALGRIND = 77


class NoValgrind(Problem):
    """There is none, and none can be installed."""


def written():
    """{case: instructions} as in docs/benchmarks.md."""
    return {row["case"]: int(row["count"].replace(",", "")) for row in ROW.finditer(DOCUMENT.read_text())}


def counted(cases):
    """{case: instructions}; builds the program that is counted. Raises Problem, or NoValgrind."""
    command = [ROOT / "tests" / "tools" / "count", *cases]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode == NO_VALGRIND:
        raise NoValgrind("there is no valgrind, and it could not be installed:  apt-get install valgrind")
    if done.returncode:
        raise Problem("tests/tools/count failed; it says why above")
    return {case: int(count) for case, count in (line.split("\t") for line in done.stdout.splitlines())}


def main():
    before = written()
    try:
        now = counted(before)
    except Problem as problem:
        sys.exit(f"budget: {problem}")

    def row(match):
        return f"| `{match['case']}` | {match['what']} | {now[match['case']]:,} |"

    DOCUMENT.write_text(ROW.sub(row, DOCUMENT.read_text()))
    for case, count in now.items():
        print(f"{case}: {before[case]:,} -> {count:,} ({count / before[case] - 1:+.1%})")


if __name__ == "__main__":
    main()
