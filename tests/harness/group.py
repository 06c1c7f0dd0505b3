"""What group commit saves, and what it costs: measured with wrk against a real Envoy.

    python -m harness.group                 # some two minutes; on a machine that does nothing else

Many connections, each sending batches of one record: how many clients' requests there are for each
request to the backend. One connection: the time until the answer, against one callout for each
request. In one Envoy and one run there are, each a listener of its own:

    grouped     the filter as it is by default
    many flights  the filter with so many exports in flight that nothing ever waits for one
    one callout each  the filter as it was before group commit: the module that --against names, built
                from commit c4e754b (git worktree add, make wasm); left out where none is named
    floor       no filter: Envoy's Lua buffers the body, makes one callout with it, answers 200

The time of one connection is judged against `one callout each`; the floor, which checks no token
and reads no JSON, is there to be compared with. The backend is another Envoy, which takes
everything at once, or after some milliseconds. The listeners take turns, so that whatever else the
machine does meets all of them. Results go to target/group.json too; the exit status is 1 where the
figures are not reached.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path

from . import bootstrap, tokens
from .common import LOOPBACK, TARGET, WASM, Problem
from .envoy import Envoy
from .gateways import PATH

RECORD = {
    "timestamp": "2026-02-06T12:00:00.000Z", "level": "info", "logger": "Router.Home", "message": "push /rooms",
    "attributes": {"from": "/", "depth": 3}, "error": None, "stack_trace": None, "span_id": None, "trace_id": None,
    "install_id": "8d0f4e5a-0c52-4a5f-a6c2-6d9a7d0b7f11", "session_id": "3f1c9a52-7a53-4f0e-9b55-0c1d9d0a8c11",
    "user_id": "u-7", "active_run": None,
}
BODY = json.dumps({"logs": [RECORD], "resource": {"service.name": "field-app", "service.version": "1.4.2"}})

OTHER = "one callout each"
MERGED_AT_LEAST = 20
SLOWER_AT_MOST = 1.2

FLOOR = """
function envoy_on_request(handle)
  local body = handle:body()
  local headers = handle:httpCall("%s", {
    [":method"] = "POST", [":path"] = "/v1/logs", [":authority"] = "127.0.0.1:4318",
    ["content-type"] = "application/x-protobuf"}, body:getBytes(0, body:length()), 10000)
  handle:respond({[":status"] = headers[":status"] == "200" and "200" or "502",
    ["content-type"] = "application/json"}, '{"accepted":1,"rejected":0}')
end
"""

WRK = """
wrk.method = "POST"
wrk.body = %s
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %s"
done = function(summary, latency, requests)
  io.write(string.format('{"requests":%%d,"bad":%%d,"seconds":%%f,"p50_us":%%f,"p99_us":%%f}\\n',
    summary.requests, summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
    summary.duration / 1e6, latency:percentile(50), latency:percentile(99)))
end
"""


def main():
    parser = argparse.ArgumentParser(prog="python -m harness.group", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement")
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--delay-ms", type=int, default=20, help="of the slow backend")
    parser.add_argument("--against", type=Path, help="a module that makes one callout for each request")
    parser.add_argument("--workers", type=int, default=1, help="of the Envoy that is measured")
    arguments = parser.parse_args()
    try:
        figures = measure(arguments)
    except Problem as problem:
        print(f"group: error: {problem}", file=sys.stderr)
        return 2
    TARGET.mkdir(exist_ok=True)
    (TARGET / "group.json").write_text(json.dumps(figures, indent=1) + "\n")
    return show(figures)


def show(figures):
    many, one = figures["many"], figures["one"]
    print(f"{figures['connections']} connections, one record each     requests/s   p50 ms   p99 ms   for each export")
    for name, each in many.items():
        print(f"  {name:<32} {each['rate']:>12,.0f} {each['p50_us'] / 1000:>8.1f} {each['p99_us'] / 1000:>8.1f} "
              f"{each['merged']:>12.1f}")
    print("1 connection                        requests/s   p50 ms   p99 ms   p50 to the floor's")
    for name, each in one.items():
        ratio = each["p50_us"] / one["floor"]["p50_us"]
        print(f"  {name:<32} {each['rate']:>12,.0f} {each['p50_us'] / 1000:>8.2f} {each['p99_us'] / 1000:>8.2f} "
              f"{ratio:>12.2f}")
    bad = sum(each["bad"] for each in [*many.values(), *one.values()])
    merged = min(each["merged"] for name, each in many.items() if name.startswith("grouped"))
    checks = {
        f"{merged:.1f} clients' requests for each export (at least {MERGED_AT_LEAST})": merged >= MERGED_AT_LEAST,
        f"{bad} answers other than 200": bad == 0,
    }
    if OTHER in one:
        slower = one["grouped"]["p50_us"] / one[OTHER]["p50_us"]
        text = f"one connection: {slower:.2f} times one callout for each request (at most {SLOWER_AT_MOST})"
        checks[text] = slower <= SLOWER_AT_MOST
    else:
        print("group: one connection is not judged: --against names no module to compare with")
    for what, reached in checks.items():
        print(f"group: {'reached' if reached else 'MISSED'}: {what}")
    return 0 if all(checks.values()) else 1


def measure(arguments):
    if not WASM.exists():
        raise Problem(f"{WASM} is not there; run:  make wasm")
    if not shutil.which("wrk"):
        raise Problem("wrk is missing; run:  apt-get install wrk")
    key = tokens.hmac_key()
    with ExitStack() as running:
        sink = running.enter_context(Envoy(sink_document(arguments.delay_ms)))
        document = gateway_document(sink, arguments.against)
        gateway = running.enter_context(Envoy(
            document, concurrency=arguments.workers, env={"SESSION_JWT_SECRET": key.secret}))
        script = Path(running.enter_context(tempfile.TemporaryDirectory())) / "wrk.lua"
        script.write_text(WRK % (json.dumps(BODY), tokens.mint(key, lifetime=7200)))
        script.chmod(0o600)

        def turn(name, connections):
            before = exports(sink)
            command = ["wrk", "-t1", f"-c{connections}", f"-d{arguments.seconds}s", "-s", str(script),
                       gateway.url(PATH, name)]
            said = subprocess.run(command, capture_output=True, text=True, timeout=arguments.seconds + 60, check=True)
            result = json.loads(said.stdout.splitlines()[-1])
            result["merged"] = result["requests"] / max(1, exports(sink) - before)
            return result

        names = ["grouped", "many flights", *([OTHER] if arguments.against else []), "floor"]
        turns = [(name, 1) for name in names]
        turns += [(name, arguments.connections) for name in [*names, "grouped, slow backend"]]
        found = {each: [] for each in turns}
        for round_ in range(arguments.rounds + 1):
            print(f"group: round {round_} of {arguments.rounds}", file=sys.stderr, flush=True)
            for each in turns:
                result = turn(*each)
                if round_:  # the first one warms up
                    found[each].append(result)
    return {
        "connections": arguments.connections, "workers": arguments.workers, "delay_ms": arguments.delay_ms,
        "one": {name: middle(results) for (name, count), results in found.items() if count == 1},
        "many": {name: middle(results) for (name, count), results in found.items() if count > 1},
    }


def middle(results):
    """The median of each figure over the rounds."""
    made = {name: statistics.median(each[name] for each in results) for name in ("p50_us", "p99_us", "merged")}
    made["rate"] = statistics.median(each["requests"] / each["seconds"] for each in results)
    made["bad"] = sum(each["bad"] for each in results)
    return made


def exports(sink):
    return sum(value for name, value in sink.stats("downstream_rq_total").items() if name.startswith("http.sink"))


def sink_document(delay_ms):
    """An Envoy that takes everything: an empty 200 is OTLP's way to say so."""
    def listener(name, filters):
        router = {"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
                     ".HttpConnectionManager",
            "stat_prefix": name, "http_filters": [*filters, router],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]},
        }
        return {
            "name": name, "address": {"socket_address": {"address": LOOPBACK, "port_value": 0}},
            "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
        }
    slow = {"name": "envoy.filters.http.fault", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "delay": {"fixed_delay": f"{delay_ms / 1000}s", "percentage": {"numerator": 100}}}}
    return {
        "admin": {"address": {"socket_address": {"address": LOOPBACK, "port_value": 0}}},
        "static_resources": {"listeners": [listener("sink", []), listener("sink-slow", [slow])], "clusters": []},
    }


def gateway_document(sink, against):
    """The listener of envoy/envoy.yaml some times: with the filter, and with the floor in its place."""
    made = bootstrap.load_for_tests()
    bootstrap.connection_manager(made).pop("access_log", None)
    bootstrap.merge(bootstrap.filter_config(made), {"rate_limits": None})
    bootstrap.point_cluster(made, "backend", sink.port("sink"))
    slow = deepcopy(bootstrap.cluster(made, "backend"))
    slow["name"] = "slow"
    made["static_resources"]["clusters"].append(slow)
    bootstrap.point_cluster(made, "slow", sink.port("sink-slow"))
    pattern = bootstrap.listener(made)
    listeners = []
    changes = {"grouped": {}, "many flights": {"max_in_flight": 1000}, "grouped, slow backend": {"cluster": "slow"}}
    if against:
        changes[OTHER] = {}
    for name, export in changes.items():
        listeners.append({**deepcopy(pattern), "name": name})
        plugin = bootstrap.wasm_plugin({"static_resources": {"listeners": listeners[-1:]}})
        plugin["vm_config"]["vm_id"] = name
        section = plugin["configuration"]["value"]["export"]
        bootstrap.merge(section, export)
        if name == OTHER:
            plugin["vm_config"]["code"]["local"]["filename"] = str(against.resolve())
            # What it does not know it would refuse.
            plugin["configuration"]["value"]["export"] = {
                each: section[each] for each in ("cluster", "authority", "path", "timeout_ms")}
    listeners.append({**deepcopy(pattern), "name": "floor"})
    filters = bootstrap.http_filters({"static_resources": {"listeners": listeners[-1:]}})
    filters[0] = {"name": "floor", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": FLOOR % "backend"}}}
    made["static_resources"]["listeners"] = listeners
    return made


if __name__ == "__main__":
    sys.exit(main())
