"""`make bench`; `--quick` for a few minutes. All rivals run side by side: each kind of load goes to
one after the other, and only then comes the next kind."""

import argparse
import contextlib
import itertools
import json
import sys

from harness.common import Problem

from . import extras, report, rivals
from .extras import say
from .load import Load, measure, median

# What clients send at the most, and a line of what makes a batch so large.
NINE_HUNDRED_KB = 900_000
FRAME = "#12     _WorkOrderSyncState._upload (package:field/work_orders/sync.dart:218:11)\n"


def batches(names):
    """{name: (body, records)} of the fixture's records; the largest batch is 100 of them with long stack traces."""
    whole = extras.fixture()
    made = {}
    for name in names:
        records = list(itertools.islice(itertools.cycle(whole["logs"]), int(name) if name.isdigit() else 100))

        def body(lines, records=records):
            logs = [{**record, "stack_trace": FRAME * lines} if lines else record for record in records]
            return json.dumps({**whole, "logs": logs}, separators=(",", ":")).encode()

        lines = 0
        while not name.isdigit() and len(body(lines + 1)) <= NINE_HUNDRED_KB:
            lines += 1
        made[name] = (body(lines), len(records))
    return made


def besides(rivals_, port, seconds, quick):
    """{what: figure} of what the loads don't show, given those that run."""
    running = rivals_["filter"]
    made = batches(["1", "100"])
    beside, off, floor = extras.untouched(port, seconds, 3 if quick else 5)
    found = {
        "µs of CPU by which the first request of a token (RS256) is dearer than the next": extras.new_tokens(
            running, made["1"][0], 200 if quick else 2000
        ),
        "µs of CPU by which a path that isn't the filter's is dearer than without it": beside,
        "the same where only its route turns the filter on": off,
        "the same with the floor in the filter's place": floor,
    }
    for name in ("filter", "floor", "Envoy, plain proxy"):
        if name in rivals_:
            paced = extras.paced(rivals_[name], *made["100"], seconds, 1 if quick else 3)
            found[f"ms, p50 at 1,000 requests/s of 100 records: {name}"] = paced.p50
            found[f"ms, p99 at 1,000 requests/s of 100 records: {name}"] = paced.p99
    total = 1_000_000 if quick else 10_000_000
    found[f"MB of growth over {total:,} records"] = extras.growth(running, *made["100"], total)
    for what, figure in found.items():
        say(f"{what}: {figure:.1f}")
    return found


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
        start = extras.starts(backend.port())
        beside = {}
        if not options.only or "filter" in options.only:
            vm, native = extras.mapping(1 if quick else 3)
            beside["µs to map and encode 100 records, in Envoy's V8"] = vm
            beside["the same natively"] = native
            say(f"mapping: {vm:.1f} µs in V8, {native:.1f} µs natively")
        running = {name: stack.enter_context(rival(backend.port())) for name, rival in chosen.items()}
        if "filter" in running:
            beside |= besides(running, backend.port(), seconds, quick)
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
    for path in report.write(rows, start, beside, report.about(seconds, rounds)):
        print(path)


try:
    main()
except Problem as problem:
    sys.exit(f"bench: {problem}")
