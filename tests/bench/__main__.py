"""`make bench`; `--quick` for a few minutes. All rivals run side by side: each kind of load goes to
one after the other, and only then comes the next kind."""

import argparse
import contextlib
import http.client
import itertools
import json
import sys
import time

from harness.common import FIXTURES, LOOPBACK, Problem
from harness.envoy import Envoy

from . import report, rivals
from .load import Load, cpu_seconds, measure, median, rss

NINE_HUNDRED_KB = 900_000


def batches(names):
    """{name: (body, records)} of the fixture's records."""
    whole = json.loads((FIXTURES / "full-batch-100.json").read_text())
    made = {}
    for name in names:
        records = list(itertools.islice(itertools.cycle(whole["logs"]), int(name) if name.isdigit() else 3000))

        def body(count, records=records):
            return json.dumps({**whole, "logs": records[:count]}, separators=(",", ":")).encode()

        count = len(records)
        while not name.isdigit() and len(body(count)) > NINE_HUNDRED_KB:
            count -= 10
        made[name] = (body(count), count)
    return made


def say(what):
    print(f"bench: {what}", file=sys.stderr, flush=True)


def starts(port):
    """{what: (CPU s, s until ready, MB)} of an Envoy that has just started."""
    found = {}
    for name, rival in {"without a filter": rivals.proxy, "floor": rivals.floor, "filter": rivals.plain_ingest}.items():
        began = time.monotonic()
        with rival(port) as running:
            found[name] = (cpu_seconds(running.pid), time.monotonic() - began, rss(running.pid))
        say(f"start {name}: {found[name][0]:.2f} s of CPU")
    return found


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


def untouched(port, seconds):
    """CPU µs by which the filter makes a request dearer that is none of its own."""
    answer, spent = {"direct_response": {"status": 200}}, []
    for filters in ([], [rivals.wasm(rivals.WASM, rivals.configuration())]):
        with Envoy(rivals.envoy_file(filters, answer, [rivals.backend_cluster(port)]), log_level="warning") as envoy:
            load = Load(b"", 1, 16, False, seconds)
            spent.append(measure(envoy.pid, envoy.url("/else"), {}, load).cpu)
    return spent[1] - spent[0]


def main():
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer loads, shorter, once")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--rounds", type=int, help="runs of which the median is taken")
    parser.add_argument("--batches", help="1,10,100,900KB")
    parser.add_argument("--connections", help="1,16,64,256")
    parser.add_argument("--only", help="names of rivals that contain one of these, with commas between them")
    options = parser.parse_args()
    quick = options.quick
    seconds = options.seconds or (1.5 if quick else 6)
    rounds = options.rounds or (1 if quick else 3)
    names = (options.batches or ("1,10,100" if quick else "1,10,100,900KB")).split(",")
    connections = [int(count) for count in (options.connections or ("1,64" if quick else "1,16,64,256")).split(",")]
    left_out = rivals.left_out()
    chosen = {
        name: rival
        for name, rival in rivals.RIVALS.items()
        if name not in left_out and (not options.only or any(word in name for word in options.only.split(",")))
    }
    for name, why in left_out.items():
        say(f"left out: {name}: {why}")
    made = batches(names)
    loads = [
        (name, Load(*made[name], count, http2, seconds))
        for http2 in (False, True)
        for name in names
        for count in connections
        if not (quick and http2 and count == 1)
    ]
    total = len(loads) * len(chosen) * rounds
    say(f"{total} measurements of {seconds:g} s, some {total * (seconds + 0.4) / 60:.0f} minutes")
    rows = []
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(rivals.backend())
        start = starts(backend.port())
        running = {name: stack.enter_context(rival(backend.port())) for name, rival in chosen.items()}
        if "filter" in running:
            extras = {
                "the first request of a token (RS256), more than the next": new_tokens(
                    running["filter"], made[names[0]][0], 200 if quick else 2000
                ),
                "a path that isn't the filter's, more than without it": untouched(backend.port(), seconds),
            }
        else:
            extras = {}
        sent = {(name, batch): each.body(made[batch][0]) for name, each in running.items() for batch in names}
        for number, (batch, load) in enumerate(loads, 1):
            say(
                f"{number}/{len(loads)}: HTTP/{'2' if load.http2 else '1.1'}, batches of {batch},"
                f" {load.connections} connections"
            )
            here = {name: each for name, each in running.items() if not (load.http2 and name in rivals.HTTP1_ONLY)}
            results = {name: [] for name in here}
            for _ in range(rounds):
                for name, each in here.items():
                    own = Load(sent[name, batch], load.records, load.connections, load.http2, load.seconds)
                    results[name].append(measure(each.pid, each.url, each.headers, own))
            rows += [report.row(name, load, batch, median(measured)) for name, measured in results.items()]
            for row in rows[-len(here) :]:
                say(
                    f"    {row['rival']:36} {row['cpu_us_request']:>9} µs  {row['per_second']:>7}/s"
                    f"  p99 {row['p99_ms']:>8} ms"
                    + (f"  {row['failed']} FAILED" if row["failed"] else "")
                )
    for path in report.write(rows, start, extras, report.about(seconds, rounds)):
        print(path)


try:
    main()
except Problem as problem:
    sys.exit(f"bench: {problem}")
