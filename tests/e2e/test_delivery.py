"""A 200 is a promise: the client has it only if the backend took the records. Whatever else
the backend does is 502, after which the filter still works."""

import concurrent.futures
import json
import re

import pytest

from harness import behaviours, bootstrap, gateways, tokens
from harness.backend import Backend
from harness.behaviours import BEFORE_HEADERS, BEFORE_READ, MID_BODY, broken, hang, html, huge, status
from harness.common import ROOT, wait_until
from harness.curl import curl
from harness.gateways import serving
from harness.rawhttp import Http1, Http2, head

BATCH = {"logs": [{"message": "one"}, {"message": "two"}, {"message": "three"}]}
BODY = json.dumps(BATCH).encode()
# Far more than anything here takes, however busy the machine is: a try that ends by it is another failure.
TIMEOUTS = {"timeout_ms": 13_000, "try_timeout_ms": 12_000}
JSON = "application/json"


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def shared_gate(request, wasm_module, session_key, sink):
    # What is made of failures by trying again is another file's subject.
    config = {"export": {**TIMEOUTS, "max_retries": 0}}
    with serving(sink, session_key, config=config, concurrency=request.param) as gate:
        yield gate


def accepts(gate, accepted=3, rejected=0):
    """Sends BATCH, of which so many records must be accepted."""
    before, tag = gate.counters(), gate.tag()
    answer = gate.send(BODY, headers={"user-agent": tag})
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    assert answer.json() == {"accepted": accepted, "rejected": rejected}
    records = {"records_accepted": accepted, "records_rejected": rejected}
    wanted = {"requests": 1, "requests_accepted": 1, "exports": 1, **records}
    assert gate.outcome(before) == {name: count for name, count in wanted.items() if count}
    assert '" 200 records_delivered - ' in gate.access_log_line(tag)


def fails(gate, refusal):
    """Sends BATCH, which must not be accepted: the client is told so, the operator why."""
    before, tag = gate.counters(), gate.tag()
    is_502(gate.send(BODY, headers={"user-agent": tag}))
    assert f'" 502 {refusal} - ' in gate.access_log_line(tag)
    counted = gate.outcome(before)
    counted.pop("exports", None)
    assert counted == {"requests": 1, f"rejected.{refusal}": 1}


def is_502(answer):
    assert (answer.status_code, answer.headers["content-type"]) == (502, "application/problem+json")
    assert answer.json() == {"type": "about:blank", "title": "The records could not be delivered", "status": 502}


class TestAccepted:
    def test_all(self, gate, sink):
        accepts(gate)
        (request,) = sink.requests
        assert [record["body"] for record in request.records] == ["one", "two", "three"]
        assert request.taken

    @pytest.mark.parametrize("answer", [
        status(200, content_type=None),
        status(202),
        status(204, content_type=None),
        status(200, b"{}", content_type=JSON),
        status(200, b'{"partialSuccess":{}}', content_type=f"{JSON}; charset=utf-8"),
        behaviours.partial_success(0, "a warning"),
    ], ids=["200 without a body", "202", "204", "JSON", "JSON, nothing rejected", "a warning"])
    def test_other_ways_to_say_so(self, gate, sink, answer):
        sink.script(answer)
        accepts(gate)

    @pytest.mark.parametrize("said, rejected", [(1, 1), (3, 3), (99, 3), (-1, 0)])
    def test_in_part(self, gate, sink, said, rejected):
        sink.script(behaviours.partial_success(said, "no"))
        accepts(gate, 3 - rejected, rejected)

    @pytest.mark.parametrize("number", ['"2"', "2"])
    def test_in_part_said_in_json(self, gate, sink, number):
        body = f'{{"partialSuccess":{{"rejectedLogRecords":{number},"errorMessage":"no"}}}}'
        sink.script(status(200, body.encode(), content_type=JSON))
        accepts(gate, 1, 2)


class TestNotBeforeTheBackend:
    def test_over_http_1(self, gate, sink):
        stuck = hang()
        sink.script(stuck)
        with Http1(gate.envoy.port()) as client:
            client.send(head({**gate.bearer(), "content-length": str(len(BODY))}), BODY)
            sink.wait_for(1)
            assert client.silent(0.3)
            assert not sink.taken_records
            stuck.release()
            answer = client.answer()
        assert (answer.status, len(sink.taken_records)) == (200, 3)

    def test_over_http_2(self, gate, sink):
        """On the same connection others are not held up."""
        stuck = hang()
        sink.script(stuck)
        with Http2(gate.envoy.port()) as client:
            waiting = client.begin(gate.bearer(), [BODY], end=True)
            sink.wait_for(1)
            assert client.request(gate.bearer(), [BODY]).status == 200
            assert waiting not in [getattr(event, "stream_id", None) for event in client.events]
            assert len(sink.taken_records) == 3
            stuck.release()
            assert client.answer(waiting).status == 200
        assert len(sink.taken_records) == 6


class TestNotAccepted:
    @pytest.mark.parametrize("code, refusal", [
        *((code, "export_denied") for code in (300, 302, 307, 401, 403, 404, 405, 415)),
        *((code, "export_refused") for code in (408, 500, 501, 502, 504)),
    ])
    def test_another_status(self, gate, sink, code, refusal):
        """Whatever the backend thinks of the gateway is no verdict on the client."""
        sink.script(status(code, b"no", headers={"location": "/elsewhere", "retry-after": "7"}))
        fails(gate, refusal)
        assert len(sink.requests) == 1

    @pytest.mark.parametrize("answer", [
        html(),
        status(200, b"ok"),
        status(200, b"accepted", content_type=behaviours.PROTOBUF),
        status(200, b"\x0a\xff", content_type=behaviours.PROTOBUF),
        status(200, b"\0" * 1024, content_type=behaviours.PROTOBUF),
        status(200, b"{", content_type=JSON),
        status(200, b"[]", content_type=JSON),
        status(200, b'{"error":"no"}', content_type=JSON),
        status(200, b"<!doctype html>", content_type=None),
    ], ids=["HTML", "text", "text as protobuf", "cut protobuf", "zeros", "cut JSON", "a list", "an error",
            "untyped HTML"])
    def test_success_of_somebody_else(self, gate, sink, answer):
        """A captive portal says 200 to everything."""
        sink.script(answer)
        fails(gate, "export_not_understood")

    def test_timeout(self, wasm_module, session_key, sink):
        sink.forget()
        stuck = hang()
        sink.script(stuck)
        with serving(sink, session_key, config={"export": {"timeout_ms": 1000, "max_retries": 0}}) as gate:
            fails(gate, "export_refused")
            stuck.release()
            gate.good_on_every_worker()
        sink.forget()

    @pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
    @pytest.mark.parametrize("where", [BEFORE_READ, BEFORE_HEADERS, MID_BODY])
    def test_the_connection_breaks(self, gate, sink, where, reset):
        sink.script(broken(where, reset))
        fails(gate, "export_reset" if where == MID_BODY else "export_refused")
        assert not sink.taken_records

    @pytest.mark.parametrize("code", [200, 500])
    def test_an_answer_too_large_for_envoy(self, gate, sink, code):
        sink.script(huge(33 << 20, code))
        fails(gate, "export_reset")

    def test_the_largest_answer(self, gate, sink):
        """It is no OTLP, but it is held in the VM as a whole."""
        sink.script(huge(16 << 20))
        fails(gate, "export_not_understood")

    def test_again_and_again(self, gate, sink):
        """And one good one in between is not taken for a bad one, or the reverse."""
        answers = [status(500), None, broken(BEFORE_HEADERS), None, html(), broken(MID_BODY), None]
        sink.script(*[answer or behaviours.accept() for answer in answers])
        assert [gate.send(BODY).status_code for _ in answers] == [502 if answer else 200 for answer in answers]


class TestOtherClusters:
    """Of which the filter's configuration names one that cannot be reached."""

    @pytest.fixture(scope="class")
    def unreachable(self, wasm_module, session_key):
        """unreachable(…) is a gate as `serving` makes it; ended with the class."""
        with Backend() as unused:
            pass  # a port that was free a moment ago: nothing listens on it now
        return lambda **more: serving(unused, session_key, **more)

    def test_refused_until_the_backend_is_back(self, unreachable):
        with unreachable() as gate:
            fails(gate, "export_refused")
            fails(gate, "export_refused")
            with Backend(gate.backend.port) as back:
                gate.backend = back
                gate.good_on_every_worker()
            fails(gate, "export_refused")

    def test_no_such_cluster(self, unreachable):
        with unreachable(config={"export": {"cluster": "nowhere"}}) as gate:
            for _ in range(3):
                fails(gate, "export_not_dispatched")
            assert gate.send({"logs": []}).status_code == 200
            assert "cluster nowhere" in gate.envoy.log_text()

    def test_no_endpoint(self, unreachable):
        def edit(document):
            bootstrap.cluster(document, "backend")["load_assignment"]["endpoints"] = []
        with unreachable(edit=edit) as gate:
            for _ in range(3):
                fails(gate, "export_not_dispatched")
            assert gate.send({"logs": []}).status_code == 200

    def test_an_open_circuit_breaker(self, wasm_module, session_key):
        def edit(document):
            bootstrap.cluster(document, "backend")["circuit_breakers"] = {"thresholds": [{"max_requests": 1}]}
        with Backend() as backend, serving(backend, session_key, edit=edit) as gate:
            stuck = hang()
            backend.script(stuck)
            with Http1(gate.envoy.port()) as client:
                client.send(head({**gate.bearer(), "content-length": str(len(BODY))}), BODY)
                backend.wait_for(1)
                is_502(gate.send(BODY))
                stuck.release()
                assert client.answer().status == 200
            gate.good_on_every_worker()


class TestTheClientLeaves:
    """Its records were complete: they are delivered, and nobody else is disturbed."""

    def leave(self, gate, sink, go):
        """`go` sends BODY and leaves once it is at the backend."""
        before = gate.counters()
        stuck = hang()
        sink.script(stuck)
        go(lambda: sink.wait_for(1))
        wait_until(lambda: gate.counted(before).get("clients_gone") == 1, 5, "the filter to see it")
        stuck.release()
        assert [record["body"] for record in sink.wait_for_records(3)] == ["one", "two", "three"]
        assert not [name for name in gate.counted(before) if name.startswith("rejected")]

    def test_over_http_1(self, gate, sink):
        def go(there):
            with Http1(gate.envoy.port()) as client:
                client.send(head({**gate.bearer(), "content-length": str(len(BODY))}), BODY)
                there()
        self.leave(gate, sink, go)

    def test_over_http_2(self, gate, sink):
        """One stream ends, its connection goes on."""
        with Http2(gate.envoy.port()) as client:
            def go(there):
                stream = client.begin(gate.bearer(), [BODY], end=True)
                there()
                client.reset(stream)
            self.leave(gate, sink, go)
            assert client.request(gate.bearer(), [BODY]).status == 200

    def test_and_the_backend_fails(self, gate, sink):
        before = gate.counters()
        stuck = hang(status(500))
        sink.script(stuck)
        with Http1(gate.envoy.port()) as client:
            client.send(head({**gate.bearer(), "content-length": str(len(BODY))}), BODY)
            sink.wait_for(1)
        wait_until(lambda: gate.counted(before).get("clients_gone") == 1, 5, "the filter to see it")
        stuck.release()

    def test_all_at_once(self, gate, sink):
        """Some stay: each of them has its own answer."""
        before, stuck = gate.counters(), hang()
        sink.default = stuck
        clients = [Http1(gate.envoy.port()) for _ in range(20)]
        for client in clients:
            client.send(head({**gate.bearer(), "content-length": str(len(BODY))}), BODY)
        bodies = len(clients) * len(BODY)
        wait_until(lambda: gate.counted(before).get("request_bytes") == bodies, 5, "the filter to have read them all")
        for leaving in clients[::2]:
            leaving.close()
        wait_until(lambda: gate.counted(before).get("clients_gone") == 10, 5, "the filter to see them leave")
        stuck.release()
        for staying in clients[1::2]:
            assert staying.answer().status == 200
            staying.close()
        assert len(sink.wait_for_records(60)) == 60


def test_who_is_told_200_has_delivered(gate, sink):
    """Many clients at once, and a backend that does the worst to some: whoever has 200 finds
    its records at the backend once, and those of whoever has not were not taken."""
    bad = [status(500), status(403), broken(BEFORE_HEADERS), broken(MID_BODY), status(502)]

    def decide(request):
        numbers = [int(record["body"]) % 20 for record in request.records]
        return next((bad[number] for number in numbers if number < len(bad)), None)
    sink.decide = decide
    before = gate.counters()

    def send(number):
        return number, gate.send({"logs": [{"message": str(number)}]}, sub=f"user-{number}").status_code
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = dict(threads.map(send, range(200)))
    assert set(answers.values()) == {200, 502}
    told = [number for number, code in answers.items() if code == 200]
    assert told and not [number for number in told if number % 20 < len(bad)]
    assert sorted(int(record["body"]) for record in sink.taken_records) == told
    assert sorted(int(record["body"]) for record in sink.records) == list(range(200))
    counted = gate.counted(before)
    assert (counted["requests"], counted["requests_accepted"]) == (200, len(told))
    assert counted["records_accepted"] == len(told)
    assert counted["exports"] == len(sink.requests)


class TestWhatIsSent:
    TOKEN = "pylf_v1_us_TheWriteTokenThatNobodyMaySee"

    @pytest.fixture(scope="class")
    def configured_gate(self, wasm_module, session_key, sink):
        """With everything that the section `export` offers."""
        def edit(document):
            environment = bootstrap.wasm_plugin(document)["vm_config"]["environment_variables"]
            environment["host_env_keys"].append("LOGFIRE_TOKEN")
        export = {"authority": "logs.example.com", "path": "/otlp/v1/logs?x=1", "token_env": "LOGFIRE_TOKEN",
                  "headers": {"X-Scope-OrgID": "field", "x-empty-not": "a, b"}, "compression": "none"}
        with serving(sink, session_key, edit=edit, env={"LOGFIRE_TOKEN": self.TOKEN}, config={"export": export},
                     component_log_level="wasm:trace") as gate:
            yield gate

    @pytest.fixture
    def configured(self, configured_gate, sink):
        sink.forget()
        yield configured_gate
        sink.forget()

    def test_by_default(self, gate, sink):
        request = gate.deliver(BATCH)
        version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
        assert (request.method, request.path) == ("POST", "/v1/logs")
        assert request.headers["host"] == "127.0.0.1:4318"
        assert request.headers["content-type"] == "application/x-protobuf"
        assert request.headers["content-encoding"] == "gzip"
        assert request.headers["user-agent"] == f"envoy-log-ingest/{version}"
        assert "authorization" not in request.headers
        assert request.raw[:2] == b"\x1f\x8b" and request.raw != request.body

    def test_nothing_of_the_clients_headers(self, gate, sink):
        headers = {"x-client": "1", "cookie": "a=b", "user-agent": "app/1"}
        assert gate.send(BATCH, headers=headers).status_code == 200
        (request,) = sink.requests
        assert not {"x-client", "cookie"} & request.headers.keys()
        assert "app/1" not in repr(request.header_list)

    def test_as_configured(self, configured, sink):
        request = configured.deliver(BATCH)
        assert (request.method, request.path) == ("POST", "/otlp/v1/logs?x=1")
        assert request.headers["host"] == "logs.example.com"
        assert request.headers["authorization"] == self.TOKEN
        assert request.headers["x-scope-orgid"] == "field"
        assert request.headers["x-empty-not"] == "a, b"
        assert "content-encoding" not in request.headers
        assert request.raw == request.body

    def test_a_whole_batch_is_smaller_compressed(self, gate, fixture_bytes):
        request = gate.deliver(fixture_bytes("full-batch-100.json"), sub="full-batch")
        assert len(request.raw) * 3 < len(request.body)

    def test_no_log_holds_a_secret(self, configured, sink):
        """At the level at which the VM's host tells all. The end of every Envoy of these tests
        looks for the same, at the usual level; here is that the look would find something."""
        configured.send(BATCH)
        for answer in (status(500, b"the backend's secret"), html(), broken(BEFORE_HEADERS), broken(MID_BODY)):
            sink.script(answer)
            configured.send({"logs": [{"message": "the client's secret", "level": 7}]})
        for token in tokens.bad_tokens(configured.key).values():
            assert curl(configured.url(), headers={"authorization": b"Bearer " + token}, body=BODY).status == 401
        log = configured.envoy.wait_for_log("[wasm]") + configured.envoy.access_log_text()
        assert "][trace][wasm]" in log
        assert gateways.tokens_in(log) == []
        assert gateways.tokens_in(f"x{tokens.mint(configured.key)}x") != []
        for secret in (self.TOKEN, configured.key.secret, "the backend's secret", "the client's secret"):
            assert secret not in log
