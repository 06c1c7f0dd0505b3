"""Where things are, the one kind of error that a person is meant to read, and
waiting for a condition."""

import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "target"
RUN_DIR = TARGET / "run"
WASM = ROOT / "dist" / "envoy_log_ingest.wasm"
FIXTURES = ROOT / "tests" / "fixtures"

LOOPBACK = "127.0.0.1"


class Problem(Exception):
    """Something a person can put right. Its text is one line that says how;
    programs print it without a traceback."""


def wait_until(condition, timeout, what, poll=0.01):
    """Returns the first true value of `condition()`; raises TimeoutError, which
    names `what` was waited for, once `timeout` seconds have passed."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(poll)
