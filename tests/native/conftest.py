"""What the filter's encoder makes of bodies, without an Envoy: held against golden files and
against an independent statement of the rules.

`make golden` writes the golden files anew. A failure names the SECOND_OPINION_SEED that gives
the same batches again; SECOND_OPINION_BATCHES=100000 asks for more of them.
"""

import pytest

from harness.batches import COUNT, SEED
from harness.common import Problem
from harness.encoder import encode


def pytest_report_header():
    return f"second opinion on {COUNT} batches of each kind, SECOND_OPINION_SEED={SEED}"


def pytest_sessionstart():
    """Builds the encoder, which takes longer than a test may."""
    try:
        encode([])
    except Problem as problem:
        pytest.exit(str(problem), returncode=1)
