"""What the tables of loads don't show: the start, memory, the mapping alone, a new token's first request,
a path that isn't the filter's, and latency at a fixed rate."""

import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone

from harness import bootstrap
from harness.common import FIXTURES, LOOPBACK, TARGET, Problem
from harness.envoy import Envoy

from . import rivals
from .load import Load, cpu_seconds, measure, median, rss

MAPPING = TARGET / "bench" / "mapping.wasm"
NATIVE = TARGET / "bench" / "native" / "release" / "mapping"

# Seconds after which an Envoy has given back what it needed for its start: 8 MB each second.
AT_REST = 4


def say(what):
    print(f"bench: {what}", file=sys.stderr, flush=True)


def fixture():
    """The batch of 100 as a client would send it now: a second between its records, the last a minute ago."""
    whole = json.loads((FIXTURES / "full-batch-100.json").read_text())
    last = datetime.now(timezone.utc) - timedelta(minutes=1)
    for age, record in enumerate(reversed(whole["logs"])):
        moment = last - timedelta(seconds=age)
        record["timestamp"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return whole


def starts(port):
    """{what: (CPU s, s until ready, MB)} of an Envoy that has just started."""
    kinds = {
        "without a filter": (rivals.proxy, 1),
        "without a filter, three workers": (rivals.proxy, 3),
        "floor": (rivals.floor, 1),
        "filter": (rivals.plain_ingest, 1),
        "filter, three workers": (rivals.plain_ingest, 3),
    }
    found = {}
    for name, (rival, workers) in kinds.items():
        runs = []
        for _ in range(3):
            with rival(port, workers=workers) as running:
                spent = cpu_seconds(running.pid)
                time.sleep(AT_REST)
                runs.append((spent, running.started_in, rss(running.pid)))
        found[name] = tuple(statistics.median(each) for each in zip(*runs))
        say(f"start {name}: {found[name][0]:.2f} s of CPU, {found[name][2]:.0f} MB")
    return found


def mapping(rounds):
    """(µs in Envoy's V8, µs natively) for the batch of 100, mapped and encoded and nothing else; the least of
    some runs."""
    vm, native = [], []
    for _ in range(rounds):
        body = json.dumps(fixture(), separators=(",", ":"))
        module = rivals.wasm(MAPPING)
        module["typed_config"]["config"]["configuration"] = {"@type": bootstrap.STRING, "value": body}
        with Envoy(rivals.envoy_file([module], {"direct_response": {"status": 404}}), log_level="warning") as envoy:
            vm += [int(nanos) / 1000 for nanos in re.findall(r"mapping: (\d+) ns", envoy.log_path.read_text())]
        # Else glibc may give the end of the heap back after each batch, which costs as much as a fifth of it.
        env = {**os.environ, "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
        done = subprocess.run([NATIVE], input=body, capture_output=True, text=True, check=True, env=env)
        native.append(int(re.search(r"mapping: (\d+) ns", done.stdout).group(1)) / 1000)
    if not vm:
        raise Problem("the module that times the mapping said nothing")
    return min(vm), min(native)


def new_tokens(running, body, count):
    """CPU µs by which the first request of a token is dearer than the next."""
    made = [rivals.bearer(sub=f"user-{i}") for i in range(count)]
    connection = http.client.HTTPConnection(LOOPBACK, int(running.url.split(":")[2].split("/")[0]))
    spent = []
    for _ in range(2):
        before = cpu_seconds(running.pid)
        for headers in made:
            connection.request("POST", rivals.PATH, body, headers)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise Problem(f"a new token was answered {response.status}")
        spent.append((cpu_seconds(running.pid) - before) / count * 1e6)
    connection.close()
    return spent[0] - spent[1]


def untouched(port, seconds, rounds):
    """CPU µs by which the filter makes a request dearer that is none of its own, as it is and where only its
    route turns it on; by which the floor does, which asks for the path alone. Each round all in turn."""
    answer = {"direct_response": {"status": 200}}

    def gateway(*filters):
        return Envoy(rivals.envoy_file(filters, answer, [rivals.backend_cluster(port)]), log_level="warning")

    load = Load(b"", 1, 16, False, seconds)
    own = rivals.wasm(rivals.WASM, rivals.configuration())
    with (
        gateway() as without,
        gateway(own) as beside,
        gateway({**own, "disabled": True}) as off,
        gateway(rivals.wasm(rivals.FLOOR)) as floor,
    ):
        envoys = (without, beside, off, floor)
        spent = [[measure(envoy.pid, envoy.url("/else"), {}, load).cpu for envoy in envoys] for _ in range(rounds)]
    return [statistics.median(row[i] - row[0] for row in spent) for i in range(1, len(envoys))]


def paced(running, body, records, seconds, rounds):
    """The latencies of 1,000 requests a second, one after the other over 20 connections."""
    load = Load(body, records, 20, False, seconds, rate=1000)
    return median([measure(running.pid, running.url, running.headers, load) for _ in range(rounds)])


def growth(running, body, records, total):
    """MB by which the process grows while it takes `total` records, after as many as a tenth."""
    def send(count):
        done = measure(running.pid, running.url, running.headers, Load(body, records, 16, False, 600, count // records))
        if done.failed:
            raise Problem(f"{done.failed} requests failed while memory was watched")
        return done.rss

    return -send(total // 10) + send(total)
