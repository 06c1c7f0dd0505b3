"""The stand-in backend does what it is told: tests of the filter rely on it."""

import gzip
import http.client
import json
import threading
import time

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from harness import envoy_bin
from harness.backend import Backend
from harness.behaviours import (
    BEFORE_HEADERS,
    BEFORE_READ,
    MID_BODY,
    accept,
    broken,
    hang,
    html,
    huge,
    partial_success,
    slow,
    status,
)
from harness.common import Problem


def export(*bodies):
    message = ExportLogsServiceRequest()
    resource_logs = message.resource_logs.add()
    scope_logs = resource_logs.scope_logs.add()
    scope_logs.scope.name = "Auth"
    for body in bodies:
        scope_logs.log_records.add().body.string_value = body
    return message.SerializeToString()


def send(backend, content=None, **headers):
    headers = {"content-type": "application/x-protobuf", **headers}
    return httpx.post(f"http://{backend.address}/v1/logs", content=content or export("a"), headers=headers, timeout=10)


def test_it_takes_and_writes_records(tmp_path):
    seen = []
    with Backend(jsonl=tmp_path / "records.jsonl", on_record=seen.append) as backend:
        answer = send(backend, export("a", "b"))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-protobuf"
        assert ExportLogsServiceResponse.FromString(answer.content).partial_success.rejected_log_records == 0
        written = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
        assert [record["body"] for record in written] == ["a", "b"]
        assert written == seen == backend.records == backend.taken_records
        assert written[0]["scope"] == "Auth"


def test_it_undoes_gzip_and_chunks(backend):
    send(backend, gzip.compress(export("zipped")), **{"content-encoding": "gzip"})
    send(backend, iter([export("in"), export("chunks")]))
    assert [record["body"] for record in backend.records] == ["zipped", "in", "chunks"]
    assert backend.requests[0].raw != backend.requests[0].body


@pytest.mark.parametrize("content, headers", [
    (b"\xff\xff", {}),
    (export("a"), {"content-type": "application/json"}),
    (export("a"), {"content-encoding": "gzip"}),
    (export("a"), {"content-encoding": "br"}),
])
def test_what_it_cannot_decode_it_does_not_take(backend, content, headers):
    assert send(backend, content, **headers).status_code == 400
    assert backend.requests[0].error
    assert backend.taken_records == []


def test_scripted_answers_come_in_order(backend):
    backend.script(status(503, headers={"retry-after": "7"}), html(), partial_success(1, "no"), huge(100_000), accept())
    answers = [send(backend) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [503, 200, 200, 200, 200, 200]
    assert answers[0].headers["retry-after"] == "7"
    assert answers[1].headers["content-type"] == "text/html"
    assert ExportLogsServiceResponse.FromString(answers[2].content).partial_success.error_message == "no"
    assert len(answers[3].content) == 100_000
    assert [request.taken for request in backend.requests] == [False] + [True] * 5


def test_a_function_decides(backend):
    backend.decide = lambda request: status(507) if request.records[0]["body"] == "bad" else None
    assert send(backend, export("bad")).status_code == 507
    assert send(backend, export("good")).status_code == 200


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("where", [BEFORE_READ, BEFORE_HEADERS, MID_BODY])
def test_connections_break(backend, where, reset):
    backend.script(broken(where, reset))
    connection = http.client.HTTPConnection(backend.address, timeout=5)
    expected = {BEFORE_READ: ConnectionError, BEFORE_HEADERS: ConnectionError, MID_BODY: http.client.IncompleteRead}
    with pytest.raises((expected[where], ConnectionResetError)):
        connection.request("POST", "/v1/logs", export("a"), {"content-type": "application/x-protobuf"})
        connection.getresponse().read()
    connection.close()
    assert backend.taken_records == []
    assert len(backend.requests) + backend.cut_early == 1
    assert send(backend).status_code == 200


def test_it_hangs_until_released(backend):
    stuck = hang()
    backend.script(stuck)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(send(backend)))
    waiting.start()
    backend.wait_for(1)
    assert backend.taken_records == [] and answers == []
    stuck.release()
    waiting.join(5)
    assert answers[0].status_code == 200


def test_it_stops_whatever_hangs():
    backend = Backend().start()
    backend.script(hang(), slow(60))
    threads = [threading.Thread(target=lambda: pytest.raises(httpx.HTTPError, send, backend)) for _ in range(2)]
    for thread in threads:
        thread.start()
    backend.wait_for(2)
    began = time.monotonic()
    backend.stop()
    for thread in threads:
        thread.join(5)
    assert time.monotonic() - began < 5
    Backend(backend.port).stop()  # the port is free again


def test_a_port_in_use_is_a_problem(backend):
    with pytest.raises(Problem, match=str(backend.port)):
        Backend(backend.port)


def test_waiting_in_vain_says_for_what(backend):
    with pytest.raises(TimeoutError, match=r"1 request\(s\) at the backend"):
        backend.wait_for(1, timeout=0.05)


@pytest.mark.parametrize("version, good", [("1.40.0", True), ("1.41.2", True), ("2.0.0", True), ("1.39.9", False),
                                           (None, False)])
def test_which_envoys_are_new_enough(version, good):
    assert envoy_bin.new_enough(version) is good
