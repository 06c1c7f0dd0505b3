"""python -m harness.soak --minutes 30: see the package."""

import argparse
import asyncio
import multiprocessing
import os
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from .. import bootstrap, tokens
from ..common import TARGET, WASM, Problem
from ..envoy import Envoy
from ..fleet.__main__ import end
from ..fleet.backend import listening
from ..gateways import BROKEN
from . import report
from .process import look
from .traffic import Traffic, backend

SAMPLES = 300


def main():
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--connections", type=int, default=24, help="clients at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", default=os.path.relpath(TARGET / "soak"), help="where the CSV and the PNG go")
    parser.add_argument("--break", dest="breaks", choices=["files"], help="clients never hang up, to see it fail")
    arguments = parser.parse_args()
    directory = Path(arguments.directory)
    try:
        breaches, rows = run(arguments, directory)
    except Problem as problem:
        print(f"soak: error: {problem}", file=sys.stderr)
        return 2
    for column, (meaning, _) in report.BOUNDED.items():
        values = [row[column] for row in rows if row[column] is not None]
        if not values:
            print(f"soak: {meaning}: can't be seen on this system")
            continue
        first, most, last, grown = (
            report.plain(column, value) for value in (values[0], max(values), values[-1], report.growth(values)))
        print(f"soak: {meaning}: {first} at first, {most} at most, {last} at last, growth {grown}")
    print(f"soak: {sum(row['good'] for row in rows):,} good batches accepted, {sum(row['refused'] for row in rows):,} "
          f"requests refused, {sum(row['failed'] for row in rows):,} failed; see {directory / 'soak.csv'} and soak.png")
    for breach in breaches:
        print(f"soak: BROKEN: {breach}")
    return 1 if breaches else 0


def run(arguments, directory):
    """What went wrong, one line each, and the rows."""
    if not WASM.exists():
        raise Problem(f"{WASM} is not there; run:  make wasm")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    key = tokens.hmac_key()
    with ExitStack() as running:
        made = listening()
        server = multiprocessing.get_context("spawn").Process(target=backend, args=(made, arguments.seed), daemon=True)
        running.callback(end, server)
        server.start()
        document = bootstrap.load_for_tests()
        bootstrap.point_cluster(document, "backend", made.getsockname()[1])
        made.close()
        # A user who is over the limit, and five thousand who are not.
        bootstrap.merge(bootstrap.filter_config(document), {"export": {"timeout_ms": 2000}, "rate_limits": {
            "session": None, "user": {"max_tokens": 1000, "tokens_per_fill": 20, "fill_interval_ms": 1000}}})
        bootstrap.connection_manager(document).pop("access_log", None)
        workdir = directory / "envoy"
        workdir.mkdir()
        envoy = Envoy(document, concurrency=2, env={"SESSION_JWT_SECRET": key.secret}, workdir=workdir)
        running.callback(envoy.stop)
        envoy.start()
        table = report.Table(directory / "soak.csv")
        running.callback(table.close)
        traffic = Traffic(envoy.port(), key, arguments.seed, leak=arguments.breaks == "files")
        breaches = asyncio.run(soak(arguments, envoy, traffic, table))
        envoy.stop()
        log = envoy.log_text()
    breaches += [f"Envoy's log: {line[:300]}" for line in log.splitlines() if any(word in line for word in BROKEN)][:5]
    breaches += report.breaches(table.rows)
    if table.rows:
        report.draw(table.rows, directory / "soak.png")
    return breaches, table.rows


async def soak(arguments, envoy, traffic, table):
    """Runs the traffic and looks at Envoy at intervals, until the time is over or Envoy is."""
    seconds = 60 * arguments.minutes
    interval = max(0.5, seconds / SAMPLES)
    clients = [asyncio.ensure_future(traffic.client()) for _ in range(arguments.connections)]
    began = last = time.monotonic()
    breaches, shown = [], 0.0
    while last - began < seconds:
        await asyncio.wait(clients, timeout=last + interval - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        for ended in [client for client in clients if client.done()]:
            ended.result()  # a defect of this program
        now = time.monotonic()
        if not envoy.running():
            return [f"Envoy ended by itself, status {envoy.process.returncode}"]
        counts, latencies = traffic.take()
        # Not in the way of the clients' latencies: they are taken.
        row = {"seconds": round(now - began, 1), "interval": round(now - last, 2), **look(envoy),
               **{name: counts[name] for name in ("good", "refused", "failed", "unanswered")},
               **{f"p{part}_ms": percentile(latencies, part) for part in (50, 95, 99)}}
        table.add(row)
        last = now
        if row["vm_reloads"]:
            breaches = ["a VM was replaced: it trapped"]
        if now - shown > 10 or sys.stderr.isatty():
            shown = now
            progress(row, seconds)
    for client in clients:
        client.cancel()
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if not any(row["good"] for row in table.rows):
        breaches.append("not one good batch was accepted")
    return breaches


def percentile(latencies, part):
    return round(latencies[min(len(latencies) - 1, len(latencies) * part // 100)], 2) if latencies else None


def progress(row, seconds):
    memory = f"{row['resident_bytes'] / report.MIB:.1f} MiB" if row["resident_bytes"] else "unknown"
    text = (f"soak: {row['seconds'] / 60:5.1f} of {seconds / 60:g} min  resident {memory}  files {row['open_files']}  "
            f"{row['good'] / row['interval']:.0f} good/s  p50 {row['p50_ms']} ms  p99 {row['p99_ms']} ms")
    live = sys.stderr.isatty()
    print(f"\r{text}\x1b[K" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
