"""The rule by which `make soak` says that something grows; and two short runs of it, one of
which must fail."""

import csv
import os
import random
import subprocess
import sys

import pytest

from harness.common import ROOT
from harness.soak.report import MIB, breaches, growth


def series(form, count=300, seed=1):
    """Resident memory in bytes over a run: `form` says how many MiB it is at each moment from 0 to 1."""
    chance = random.Random(seed)
    return [(form(number / count) + chance.uniform(-1, 1)) * MIB for number in range(count)]


@pytest.mark.parametrize("form", [
    lambda at: 120,
    lambda at: 60 + 600 * min(at, 0.1),
    lambda at: 300 if 0.5 < at < 0.6 else 120,
    lambda at: 300 if at > 0.95 else 120,
    lambda at: 120 + 30 * (int(at * 50) % 2),
    lambda at: 120 + 5 * at,
    lambda at: 200 - 50 * at,
], ids=["flat", "a warm start", "a peak", "a peak at the end", "to and fro", "a little", "less"])
def test_what_does_not_grow(form):
    rows = [{"resident_bytes": value, "vm_bytes": value, "heap_bytes": value, "open_files": 60}
            for value in series(form)]
    assert breaches(rows) == []


@pytest.mark.parametrize("form", [
    lambda at: 120 + 30 * at,
    lambda at: 120 + 20 * int(at * 4),
    lambda at: 120 + 30 * at + 40 * (int(at * 50) % 2),
    lambda at: 500 + 100 * at,
], ids=["a leak", "in steps", "to and fro and up", "a large one"])
def test_what_grows(form):
    rows = [{"resident_bytes": value, "vm_bytes": None, "heap_bytes": 20 * MIB, "open_files": 60}
            for value in series(form)]
    (breach,) = breaches(rows)
    assert breach.startswith("resident memory of Envoy grew by ")


def test_files_that_stay_open():
    rows = [{"resident_bytes": None, "vm_bytes": None, "heap_bytes": MIB, "open_files": 60 + number}
            for number in range(100)]
    assert breaches(rows) == ["open files of Envoy grew by 60 after the first tenth; 20 are allowed"]


def test_a_short_run_says_nothing():
    assert growth([1, 2, 3]) == 0


@pytest.fixture
def soak(wasm_module, tmp_path):
    """soak(arguments) is (exit status, what it said, the rows) of a run of a quarter of a minute."""
    def run(*arguments):
        directory = tmp_path / "soak"
        command = [sys.executable, "-m", "harness.soak", "--minutes", "0.25", "--directory", str(directory), *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100,
                              env={**os.environ, "PYTHONPATH": "tests"})
        assert done.returncode in (0, 1), done.stdout + done.stderr
        assert (directory / "soak.png").read_bytes().startswith(b"\x89PNG")
        with (directory / "soak.csv").open(newline="") as file:
            return done.returncode, done.stdout + done.stderr, list(csv.DictReader(file))
    return run


def test_a_short_soak(soak):
    status, said, rows = soak()
    assert status == 0, said
    assert len(rows) >= 10
    assert sum(int(row["good"]) for row in rows) > 100
    assert sum(int(row["refused"]) for row in rows) > 100
    assert {row["vm_reloads"] for row in rows} == {"0"}
    if sys.platform == "linux":
        assert min(int(row["vm_bytes"]) for row in rows) > MIB
        assert min(int(row["resident_bytes"]) for row in rows) > 20 * MIB


def test_a_soak_that_must_fail(soak):
    """Clients that never hang up."""
    if sys.platform != "linux":
        pytest.skip("open files can be counted on Linux only")
    status, said, _ = soak("--break", "files")
    assert status == 1, said
    assert "BROKEN: open files of Envoy grew by" in said
