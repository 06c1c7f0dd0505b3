"""One measurement: h2load against a server, and what it cost that server's process."""

import os
import re
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness.common import Problem

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """`connections` clients, each of which sends its next request when the last is answered, for so many
    seconds or until there were `count` requests; together so many a second as `rate` says, evenly, if it does.
    A GET where there is no body."""

    body: bytes
    records: int
    connections: int
    http2: bool
    seconds: float
    count: int = 0
    rate: int = 0


@dataclass(frozen=True)
class Measured:
    """CPU in µs of the server's process for each request; latencies in ms; memory in MB."""

    requests: int
    failed: int
    per_second: float
    cpu: float
    p50: float
    p99: float
    p999: float
    rss: float


def cpu_seconds(pid):
    """User and system time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss(pid):
    """Resident memory in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


def measure(pid, url, headers, load) -> Measured:
    """Raises Problem where h2load can't be run at all; failed requests are counted."""
    with tempfile.TemporaryDirectory() as directory:
        body, log = Path(directory, "body"), Path(directory, "log")
        body.write_bytes(load.body)
        command = ["h2load", "--clients", str(load.connections), "--max-concurrent-streams", "1", "--threads", "1"]
        count = round(load.rate * load.seconds) or load.count
        command += ["--requests", str(count)] if count else ["--duration", f"{load.seconds * 1000:.0f}ms"]
        command += ["--log-file", str(log)]
        if load.rate:
            # Clients that begin together would send together ever after: a burst each time, not a rate.
            command += ["--rate", "1", "--rate-period", f"{1000 / load.rate:g}ms"]
            command += ["--rps", str(load.rate / load.connections)]
        command += ["--data", str(body)] if load.body else []
        command += [] if load.http2 else ["--h1"]
        for name, value in headers.items():
            command += ["--header", f"{name}: {value}"]
        before, began = cpu_seconds(pid), time.monotonic()
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=load.seconds + 60)
        spent, elapsed = cpu_seconds(pid) - before, time.monotonic() - began
        if done.returncode or not log.exists():
            raise Problem(f"h2load failed: {(done.stderr or done.stdout)[-300:]}")
        rows = [line.split("\t") for line in log.read_text().splitlines()]
    latencies = sorted(int(micros) / 1000 for _, status, micros in rows if status == "200")
    if not latencies:
        return Measured(0, len(rows), 0, 0, 0, 0, 0, rss(pid))

    def quantile(share):
        return latencies[min(int(len(latencies) * share), len(latencies) - 1)]

    count = len(latencies)
    return Measured(
        count,
        len(rows) - count,
        count / elapsed,
        spent / count * 1e6,
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        rss(pid),
    )


def median(results) -> Measured:
    """Of several runs of the same, each figure's median."""
    values = {name: statistics.median(getattr(each, name) for each in results) for name in Measured.__annotations__}
    return Measured(**values)
