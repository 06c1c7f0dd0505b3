"""Tables and the picture of a run, in target/bench."""

import csv
import json
import os
import platform
import subprocess
from pathlib import Path

from harness import envoy_bin
from harness.common import TARGET, WASM

HOME = TARGET / "bench"
COLUMNS = [
    "rival",
    "http",
    "batch",
    "connections",
    "requests",
    "failed",
    "per_second",
    "cpu_us_request",
    "cpu_us_record",
    "p50_ms",
    "p99_ms",
    "p999_ms",
    "rss_mb",
]


def row(rival, load, batch, measured):
    """One line of the tables; figures as they are written."""
    return dict(
        zip(
            COLUMNS,
            [
                rival,
                "2" if load.http2 else "1.1",
                batch,
                load.connections,
                int(measured.requests),
                int(measured.failed),
                round(measured.per_second),
                round(measured.cpu, 1),
                round(measured.cpu / load.records, 3),
                round(measured.p50, 2),
                round(measured.p99, 2),
                round(measured.p999, 2),
                round(measured.rss, 1),
            ],
        )
    )


def about(seconds, rounds):
    cores = len(os.sched_getaffinity(0))
    return (
        f"{envoy_bin.find()}, one worker; {cores} cores shared by load, gateway and backend; {platform.machine()};"
        f" module {WASM.stat().st_size:,} bytes; the median of {rounds} runs of {seconds:g} s."
    )


def write(rows, start, extras, note):
    """results.csv, results.md and results.png; returns the paths."""
    HOME.mkdir(parents=True, exist_ok=True)
    paths = [HOME / f"results.{kind}" for kind in ("csv", "md", "png")]
    with paths[0].open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    paths[1].write_text(markdown(rows, start, extras, note))
    picture = subprocess.run(
        [HOME / "venv" / "bin" / "python", Path(__file__).with_name("picture.py"), paths[2]],
        input=json.dumps(rows),
        text=True,
    )
    return paths[:2] if picture.returncode else paths


def markdown(rows, start, extras, note):
    lines = [note, ""]
    for http in dict.fromkeys(row["http"] for row in rows):
        for batch in dict.fromkeys(row["batch"] for row in rows):
            here = [row for row in rows if (row["http"], row["batch"]) == (http, batch)]
            if here:
                lines += [f"HTTP/{http}, batches of {batch}", ""] + table(here) + [""]
    lines += [
        "Start, and memory at rest",
        "",
        "| rival | CPU s | ready after s | RSS MB |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {name} | {cpu:.2f} | {wall:.2f} | {memory:.0f} |" for name, (cpu, wall, memory) in start.items()]
    lines += ["", "| beside that | |", "| --- | --- |"]
    lines += [f"| {what} | {value:.1f} |" for what, value in extras.items()]
    return "\n".join(lines) + "\n"


def table(rows):
    """CPU against the floor's of the same load, since only ratios travel to other machines."""
    floors = {row["connections"]: row["cpu_us_request"] for row in rows if row["rival"] == "floor"}
    lines = [
        "| rival | connections | requests/s | CPU µs a request | of the floor | CPU µs a record | p50 | p99 | p99.9 ms"
        " | RSS MB | failed |",
        "| --- " * 11 + "|",
    ]
    for row in sorted(rows, key=lambda row: row["connections"]):
        ratio = f"{row['cpu_us_request'] / floors[row['connections']]:.2f}" if floors.get(row["connections"]) else "–"
        lines.append(
            f"| {row['rival']} | {row['connections']} | {row['per_second']:,} | {row['cpu_us_request']} | {ratio}"
            f" | {row['cpu_us_record']} | {row['p50_ms']} | {row['p99_ms']} | {row['p999_ms']} | {row['rss_mb']}"
            f" | {row['failed']} |"
        )
    return lines
