"""A batch through Envoy into the real OpenTelemetry Collector, and back out of its file."""

import json

import httpx
import pytest

from harness import bootstrap, collector


# Building the collector takes minutes, once.
@pytest.mark.timeout(1500)
def test_the_collector_writes_what_was_sent(gateway, bearer, fixture_bytes):
    reason = collector.missing()
    if reason:
        pytest.skip(reason)
    body = fixture_bytes("first-generation.json")
    sent = json.loads(body)["logs"]
    with collector.Collector() as running:
        envoy = gateway(edit=lambda document: bootstrap.point_cluster(document, "backend", running.port))
        answer = httpx.post(envoy.url("/api/v1/logs"), content=body, headers=bearer(sub="u-1"))
        assert (answer.status_code, answer.json()) == (200, {"accepted": len(sent), "rejected": 0})
        records = running.wait_for_records(len(sent))

    assert sorted(record["body"] for record in records) == sorted(record["message"] for record in sent)
    by_message = {record["body"]: record for record in records}
    for record in sent:
        arrived = by_message[record["message"]]
        assert arrived["scope"] == record["logger"]
        assert arrived["attributes"]["client_timestamp"] == record["timestamp"]
        assert arrived["attributes"]["enduser.id"] == "u-1"
        assert arrived["trace_id"] == (record["traceId"] or "")
        assert arrived["span_id"] == (record["spanId"] or "")
        assert {**arrived["attributes"], **record["attributes"]} == arrived["attributes"]
    assert by_message["slow response"]["resource"]["service.name"] == "field-app"
