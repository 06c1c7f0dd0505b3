"""A short run of `make fleet`, and runs with something broken, which must fail: the books are
no good where they can't show a loss."""

import json
import os
import subprocess
import sys

import pytest

from harness.common import ROOT


@pytest.fixture
def fleet(wasm_module, tmp_path):
    """fleet(arguments) is (exit status, what it said, result.json) of a run."""
    def run(*arguments):
        command = [sys.executable, "-m", "harness.fleet", "--directory", str(tmp_path / "fleet"), *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": "tests"}, timeout=110)
        said = done.stdout + done.stderr
        assert done.returncode in (0, 1), said
        return done.returncode, said, json.loads((tmp_path / "fleet" / "result.json").read_text())
    return run


def test_every_promise_is_kept(fleet):
    status, said, result = fleet("--records", 6000, "--kills", 3, "--traps", 2, "--hurry", 60, "--fault-rate", 0.3)
    assert (status, result["breaches"]) == (0, []), said
    records, counters = result["records"], result["counters"]
    assert records["confirmed"] == 6000 == records["delivered"] + records["poisoned_confirmed"]
    assert (counters["kills"], counters["traps"], result["lives"]) == (3, 2, 4)
    assert counters["faults"] > 20
    # The clients' crashes alone see to some.
    assert records["duplicated"] > 0


@pytest.mark.parametrize("broken, breach", [
    ("acknowledge-and-drop", "deleted because of a 200 and are not at the backend"),
    ("false-200", "told 200 before the backend had said"),
    ("discard", "discarded for a 4xx"),
])
def test_a_broken_promise_is_seen(fleet, broken, breach):
    status, said, result = fleet("--records", 1500, "--kills", 0, "--traps", 0, "--hurry", 60, "--break", broken)
    assert status == 1, said
    assert [line for line in result["breaches"] if breach in line], said
    assert breach in said
