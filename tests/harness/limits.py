"""Do the limits hold, at length? Three measurements through the release module in a real Envoy:

    exact    two workers, 64 connections, one user who never stops: is more let in than the bucket,
             its refill and one request?
    memory   distinct users and sessions by the million: does Envoy's memory grow?
    others   a user at the limit who keeps asking: does another one wait longer?

`make limits` runs all of them; `python -m harness.limits exact --seconds 60 --runs 10` one.
"""

import argparse
import hashlib
import hmac
import json
import multiprocessing
import sys
import time
from base64 import urlsafe_b64encode

from . import bootstrap, tokens
from .backend import Backend
from .gateways import serving
from .load import Load, request
from .memory import resident

ONE = b'{"logs":[{"message":"one"}]}'
MB = 1_000_000


def say(*words):
    print(*words, flush=True)


def progress(what, total):
    """Says how far it is, every five seconds."""
    last = [time.monotonic()]

    def at(done):
        if time.monotonic() - last[0] > 5:
            last[0] = time.monotonic()
            say(f"  {what}: {done:,} of {total:,}")
    return at


def quiet(document):
    """Without an access log: a line for each of millions would fill the disk."""
    bootstrap.connection_manager(document).pop("access_log", None)


# exact


def exact(gate, bucket, seconds, connections=64, user="busy"):
    """One user who never stops. (let in, what the bucket allows in that time, refused)"""
    before = len(gate.backend.taken_records)
    send = request(gate.bearer(sub=user, sid=None, lifetime=seconds + 300), ONE)
    load = Load(gate.envoy.port(), connections)

    def endless():
        while True:
            yield send
    took = load.run(endless(), until=time.monotonic() + seconds)
    unknown = set(load.statuses) - {200, 429}
    assert not unknown, f"answers that are neither 200 nor 429: {load.statuses}"
    let_in = load.statuses[200]
    arrived = len(gate.backend.taken_records) - before
    assert arrived == let_in, f"{let_in} were told that they were let in, {arrived} arrived"
    # The bucket, its refill, and the one request that may overdraw it.
    allowed = bucket["max_tokens"] + bucket["tokens_per_fill"] * took * 1000 / bucket["fill_interval_ms"] + 1
    return let_in, allowed, load.statuses[429]


def measure_exact(seconds, runs, key):
    bucket = {"max_tokens": 1000, "tokens_per_fill": 50, "fill_interval_ms": 1000}
    most = float("-inf")
    for run in range(1, runs + 1):
        config = {"rate_limits": {"unit": "records", "user": bucket, "session": None}}
        with Backend() as sink, serving(sink, key, config=config, edit=quiet, concurrency=2) as gate:
            let_in, allowed, refused = exact(gate, bucket, seconds)
        most = max(most, let_in - allowed)
        say(f"  run {run:2}: {let_in:,} let in, {allowed:,.1f} allowed, {refused:,} refused")
    say(f"exact: {most:+,.1f} at most against what is allowed, {runs} runs of {seconds} s, two workers, 64 connections")
    return most <= 0


# memory


def signed(key, users):
    """A request for each of the numbers: a user of that number, in a session of its own."""
    secret, now = key.secret.encode(), int(time.time())
    start = encoded(b'{"alg":"HS256","typ":"JWT"}') + b"."
    signer = hmac.new(secret, digestmod=hashlib.sha256)
    headers = {"authorization": "Bearer TOKEN", "content-type": "application/json"}
    before, after = request(headers).split(b"TOKEN")
    for number in users:
        claims = b'{"sub":"user-%d","sid":"session-%d","iat":%d,"exp":%d}' % (number, number, now, now + 7200)
        text = start + encoded(claims)
        mac = signer.copy()
        mac.update(text)
        yield b"%b%b.%b%b" % (before, text, encoded(mac.digest()), after)


def encoded(part):
    return urlsafe_b64encode(part).rstrip(b"=")


def memory(gate, few, many, connections=32):
    """Resident memory after `few` users and sessions, and after `many`."""
    load = Load(gate.envoy.port(), connections)
    load.run(signed(gate.key, range(few)))
    first = resident(gate.envoy.pid)
    load.run(signed(gate.key, range(few, many)), progress=progress("users", many))
    assert load.statuses == {200: many}, load.statuses
    return first, resident(gate.envoy.pid)


def measure_memory(users, key):
    limit = {"max_tokens": 10, "tokens_per_fill": 1, "fill_interval_ms": 1000}
    config = {"rate_limits": {"unit": "requests", "user": limit, "session": limit}}
    with Backend() as sink, serving(sink, key, config=config, edit=quiet, concurrency=2) as gate:
        began = time.monotonic()
        first, last = memory(gate, 1000, users)
        took = time.monotonic() - began
    say(f"memory: {first / MB:.1f} MB after 1,000 users and sessions, {last / MB:.1f} MB after {users:,}: "
        f"{(last - first) / MB:+.1f} MB, in {took:.0f} s")
    return last - first < 20 * MB


# others


def hammer(port, send, seconds, rate, counted):
    """In a process of its own: its work is not the other user's delay."""
    load = Load(port, 32, rate=rate)

    def endless():
        while True:
            yield send
    load.run(endless(), until=time.monotonic() + seconds)
    counted.put(dict(load.statuses))


def latencies(port, send, seconds, rate):
    """Of one request at a time, `rate` a second, in seconds; by when it should have been sent."""
    found, interval = [], 1 / rate
    load = Load(port, 1)
    began = time.monotonic()
    due = began

    def paced():
        nonlocal due
        while due < began + seconds:
            time.sleep(max(0, due - time.monotonic()))
            sent = due
            yield send
            found.append(time.monotonic() - sent)
            due += interval
    load.run(paced())
    assert set(load.statuses) == {200}, f"the other user was refused: {load.statuses}"
    return found


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure_others(seconds, rounds, rate, key):
    bucket = {"max_tokens": 100_000, "tokens_per_fill": 10_000, "fill_interval_ms": 1000}
    empty = {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval_ms": 3_600_000}
    limits = {"unit": "records", "user": bucket, "session": None,
              "overrides": [{"claim": "limited", "value": True, "user": empty}]}
    alone, beside = [], []
    with Backend() as sink, serving(sink, key, config={"rate_limits": limits}, edit=quiet, concurrency=2) as gate:
        life = {"sid": None, "lifetime": 7200}
        other = request(gate.bearer(sub="other", **life), ONE)
        busy = request(gate.bearer(sub="busy", limited=True, **life), ONE)
        port = gate.envoy.port()
        latencies(port, other, 2, 100)
        context = multiprocessing.get_context("spawn")
        counted = context.Queue()
        refused = 0
        for number in range(1, rounds + 1):
            alone += latencies(port, other, seconds, 100)
            crowd = context.Process(target=hammer, args=(port, busy, seconds + 2, rate, counted))
            crowd.start()
            time.sleep(1)  # the process begins, and its connections are made
            beside += latencies(port, other, seconds, 100)
            crowd.join()
            if crowd.exitcode:
                sys.exit("the other process has failed, see above")
            statuses = counted.get()
            refused += statuses.get(429, 0)
            say(f"  round {number}: p99 alone {percentile(alone, 0.99) * 1000:.2f} ms, "
                f"beside {percentile(beside, 0.99) * 1000:.2f} ms, {statuses}")
    ratio = percentile(beside, 0.99) / percentile(alone, 0.99)
    say(f"others: p50 {percentile(alone, 0.5) * 1000:.2f} and {percentile(beside, 0.5) * 1000:.2f} ms, "
        f"p99 {percentile(alone, 0.99) * 1000:.2f} and {percentile(beside, 0.99) * 1000:.2f} ms ({ratio:.2f} times), "
        f"of {len(alone)} requests each, beside {refused:,} refused ones, none of them its own")
    return ratio <= 2


def main():
    parser = argparse.ArgumentParser(prog="harness.limits", description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="*", metavar="WHAT", help="exact, memory, others; all of them by default")
    parser.add_argument("--seconds", type=int, default=60, help="of each run of exact")
    parser.add_argument("--runs", type=int, default=10, help="of exact")
    parser.add_argument("--users", type=int, default=2_000_000, help="of memory, each with a session of its own")
    parser.add_argument("--rounds", type=int, default=5, help="of others, 10 s alone and 10 s beside each")
    parser.add_argument("--rate", type=int, default=500, help="refused requests a second, of others")
    options = parser.parse_args()
    key = tokens.hmac_key()
    measurements = {
        "exact": lambda: measure_exact(options.seconds, options.runs, key),
        "memory": lambda: measure_memory(options.users, key),
        "others": lambda: measure_others(10, options.rounds, options.rate, key),
    }
    unknown = set(options.what) - set(measurements)
    if unknown:
        parser.error(f"no measurement is named {', '.join(unknown)}; there are {', '.join(measurements)}")
    held = {}
    for name in options.what or measurements:
        say(f"{name}:")
        held[name] = measurements[name]()
    say(json.dumps(held))
    sys.exit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()
