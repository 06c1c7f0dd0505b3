"""Batches through Envoy into the real OpenTelemetry Collector, and back out of its file: what
somebody else's decoder makes of the filter's encoding."""

import pytest

from harness import collector
from harness import expected as rules
from harness.expected import differences, expected
from harness.gateways import serving


# Building the collector takes minutes, once.
@pytest.mark.timeout(1500)
def test_the_collector_writes_what_was_sent(wasm_module, session_key, fixture_bytes):
    reason = collector.missing()
    if reason:
        pytest.skip(reason)
    names = ["first-generation.json", "second-generation.json", "odd-records.json", "full-batch-100.json"]
    with collector.Collector() as running, serving(running, session_key, config={"mapping": {"window": None}}) as gate:
        for name in names:
            body = fixture_bytes(name)
            before = len(running.records)
            answer = gate.send(body, sub="u-1")
            assert answer.status_code == 200, answer.text
            accepted = answer.json()["accepted"]
            records = running.wait_for_records(before + accepted)[before:]
            received = rules.nanoseconds(records[0]["attributes"]["server_received_at"])
            assert differences(records, expected(body, subject="u-1", received=received)) == [], name
