"""Limits that many Envoys share, asked of a rate limit service by gRPC: of the real one of the Envoy
project, and of one that fails in every way."""

import concurrent.futures
import itertools
import socket
import time

import pytest

from harness import bootstrap, ratelimit, tokens
from harness.collector import free_port
from harness.common import wait_until
from harness.gateways import serving
from harness.identity import Identity, provider, trust
from harness.rawhttp import Http2

ONE = {"logs": [{"message": "one"}]}
BUCKET = {"max_tokens": 1_000_000, "tokens_per_fill": 1, "fill_interval_ms": 1000}
names = (f"shared-{number}" for number in itertools.count())

# Records a day; the window is long, so that no test sees its end.
LIMITS = """
domain: logs
descriptors:
- key: user
  rate_limit: { unit: day, requests_per_unit: 30 }
  descriptors:
  - key: session
    rate_limit: { unit: day, requests_per_unit: 10 }
"""


def asking(sink, key, port, *, failure_mode="allow", timeout_ms=500, concurrency=1, user=BUCKET, edit_more=None):
    """A gate that asks whoever listens on that port; None for a cluster that isn't there, unless
    `edit_more` adds it."""
    def edit(document):
        if port:
            document["static_resources"]["clusters"].append(ratelimit.cluster("ratelimit", port))
        if edit_more:
            edit_more(document)
    service = {"cluster": "ratelimit", "domain": "logs", "timeout_ms": timeout_ms, "failure_mode": failure_mode}
    limits = {"unit": "records", "user": user, "session": None, "service": service}
    return serving(sink, key, config={"rate_limits": limits}, edit=edit, concurrency=concurrency)


# Building it takes minutes, once.
@pytest.mark.timeout(1200)
class TestReal:
    """envoyproxy/ratelimit, with Redis."""

    @pytest.fixture(scope="class")
    def service(self):
        reason = ratelimit.missing()
        if reason:
            pytest.skip(reason)
        with ratelimit.Service(LIMITS) as running:
            yield running

    @pytest.fixture(scope="class")
    def gates(self, wasm_module, session_key, sink, service):
        """Two Envoys, one service."""
        with asking(sink, session_key, service.port, failure_mode="deny", timeout_ms=5000, concurrency=2) as one, \
                asking(sink, session_key, service.port, failure_mode="deny", timeout_ms=5000) as other:
            yield one, other

    def test_a_user_is_limited_over_all_envoys(self, gates):
        user = next(names)
        codes = [gate.send(ONE, sub=user, sid=next(names)).status_code for gate in itertools.islice(
            itertools.cycle(gates), 36)]
        assert codes == [200] * 30 + [429] * 6

    def test_so_is_a_session(self, gates):
        user = next(names)
        codes = [gates[number % 2].send(ONE, sub=user, sid="s").status_code for number in range(13)]
        assert codes == [200] * 10 + [429] * 3
        assert gates[0].send(ONE, sub=user, sid="t").status_code == 200
        assert gates[0].send(ONE, sub=next(names), sid="s").status_code == 200

    def test_hits_are_records(self, gates):
        user = next(names)
        batch = {"logs": [{"message": "x"}] * 9}
        codes = [gates[0].send(batch, sub=user, sid=next(names)).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]

    def test_the_answer_says_when(self, gates):
        user = next(names)
        answers = [gates[0].send(ONE, sub=user, sid="s") for _ in range(11)]
        refused = answers[-1]
        assert (refused.status_code, refused.json()["title"]) == (429, "Too many records")
        # Until the day is over, but no client is sent away for longer than an hour.
        assert 1 <= int(refused.headers["retry-after"]) <= 3600
        assert "ratelimit" not in refused.headers and "ratelimit" in answers[0].headers

    def test_many_at_once_get_no_more(self, gates):
        user = next(names)
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            send = [threads.submit(gates[n % 2].send, ONE, sub=user, sid=next(names)) for n in range(80)]
            codes = [one.result().status_code for one in send]
        assert (codes.count(200), codes.count(429)) == (30, 50)

    def test_without_a_session(self, gates):
        assert gates[0].send(ONE, sub=next(names), sid=None).status_code == 200


FAULTS = {
    "unavailable": ratelimit.ends_with(14), "unimplemented": ratelimit.ends_with(12),
    "no message": ratelimit.ends_with(0), "an empty message": ratelimit.replies(b""),
    "no such code": ratelimit.replies(b"\x08\x09"),
    "junk": ratelimit.replies(b"\xff\xff\xff"), "no gRPC": ratelimit.http_error,
    "half a message": ratelimit.breaks_off,
    "a closed connection": ratelimit.hangs_up, "silence": ratelimit.nothing,
    "a large message that is none": ratelimit.replies(b"\x08\x01\x12" + b"\xe0\xd4\x03" + bytes(60_000)),
}


class TestStub:
    @pytest.fixture(scope="class")
    def stub(self):
        with ratelimit.Stub() as running:
            yield running

    @pytest.fixture(scope="class")
    def allowing(self, wasm_module, session_key, sink, stub):
        with asking(sink, session_key, stub.port) as gate:
            yield gate

    @pytest.fixture(scope="class")
    def denying(self, wasm_module, session_key, sink, stub):
        with asking(sink, session_key, stub.port, failure_mode="deny", timeout_ms=3000, concurrency=2) as gate:
            yield gate

    @pytest.fixture(autouse=True)
    def afresh(self, stub, sink):
        stub.answer = ratelimit.yes
        stub.asked.clear()
        sink.forget()

    def test_what_is_asked(self, denying, stub):
        assert denying.send({"logs": [{}, {}]}, sub="alice", sid="s", iss="https://id").status_code == 200
        user = b"\x0a\x18\x0a\x04user\x12\x10https://id|alice"
        session = b"\x0a\x0c\x0a\x07session\x12\x01s"
        wanted = b"\x0a\x04logs\x12\x1a" + user + b"\x12\x28" + user + session + b"\x18\x02"
        assert stub.asked == [wanted]

    def test_no_is_a_429(self, denying, stub, sink):
        stub.answer = ratelimit.no
        before = denying.counters()
        answer = denying.send(ONE)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert denying.outcome(before) == {"requests": 1, "rejected.service_rate_limited": 1}
        assert sink.requests == []

    @pytest.mark.parametrize("fault", FAULTS)
    def test_no_answer_lets_in_where_it_says_so(self, allowing, stub, fault):
        stub.answer = FAULTS[fault]
        before = allowing.counters()
        assert allowing.send(ONE).status_code == 200
        assert allowing.counted(before)["limit_service_failed"] == 1
        stub.answer = ratelimit.yes
        allowing.good_on_every_worker()

    @pytest.mark.parametrize("fault", FAULTS)
    def test_or_is_a_503_where_it_says_so(self, denying, stub, sink, fault):
        stub.answer = FAULTS[fault]
        before = denying.counters()
        answer = denying.send(ONE)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["title"] == "Limits can not be checked at the moment"
        assert denying.outcome(before) == {"requests": 1, "rejected.limit_service_unavailable": 1}
        assert sink.requests == []
        stub.answer = ratelimit.yes
        denying.good_on_every_worker()

    def test_batches_without_records_ask_nobody(self, denying, stub):
        stub.answer = ratelimit.no
        assert denying.send({"logs": []}).status_code == 200
        assert stub.asked == []

    @pytest.mark.parametrize("answer", [ratelimit.yes, ratelimit.no, ratelimit.nothing], ids=["yes", "no", "silence"])
    def test_clients_that_leave_meanwhile(self, denying, stub, sink, answer):
        """Nothing comes of it, and nothing is left of it."""
        held = []
        stub.answer = lambda connection, stream: held.append((connection, stream))
        headers = denying.bearer(sub=next(names))
        resets = "http.ingest.downstream_rq_rx_reset"
        before = denying.envoy.stats(resets)[resets]
        with Http2(denying.envoy.port()) as client:
            streams = [client.begin(headers, [b'{"logs":[{}]}'], end=True) for _ in range(50)]
            wait_until(lambda: len(stub.asked) == 50, 10, "the questions")
            for stream in streams:
                client.reset(stream)
        stub.answer = answer
        denying.envoy.wait_for_stat(resets, before + 50)
        # The timeout of the calls ends those that nobody answers.
        wait_until(lambda: denying.envoy.stats("cluster.ratelimit.upstream_rq_active")
                   ["cluster.ratelimit.upstream_rq_active"] == 0, 10, "the calls to end")
        assert sink.requests == []
        stub.answer = ratelimit.yes
        denying.good_on_every_worker()

    def test_many_that_wait_at_once(self, denying, stub):
        stub.answer = ratelimit.nothing
        before = denying.counters()
        headers = denying.bearer(sub=next(names))
        with Http2(denying.envoy.port()) as client:
            for _ in range(100):
                client.queue(headers, b'{"logs":[{}]}')
            client.flush()
            assert set(client.statuses(100)) == {503}
        assert denying.counted(before)["limit_service_failed"] == 100
        stub.answer = ratelimit.yes
        denying.good_on_every_worker()


class TestInFront:
    """What is over the local limit is not asked about."""

    def test_the_local_bucket_spares_the_service(self, wasm_module, session_key, sink):
        bucket = {"max_tokens": 5, "tokens_per_fill": 1, "fill_interval_ms": 600_000}
        with ratelimit.Stub() as stub, asking(sink, session_key, stub.port, user=bucket) as gate:
            user = next(names)
            admitted = [gate.send(ONE, sub=user).status_code for _ in range(20)].count(200)
            # What came in meanwhile, little as it is, may be overdrawn once.
            assert admitted in (5, 6) and len(stub.asked) == admitted

    def test_what_the_service_refuses_costs_nothing_there(self, wasm_module, session_key, sink):
        bucket = {"max_tokens": 5, "tokens_per_fill": 1, "fill_interval_ms": 600_000}
        with ratelimit.Stub() as stub, asking(sink, session_key, stub.port, user=bucket) as gate:
            stub.answer = ratelimit.no
            user = next(names)
            assert [gate.send(ONE, sub=user).status_code for _ in range(20)] == [429] * 20
            stub.answer = ratelimit.yes
            assert gate.send(ONE, sub=user).headers["ratelimit"].startswith('"user";r=4;')


@pytest.mark.parametrize("failure_mode", ["allow", "deny"])
class TestDown:
    def test_no_such_cluster(self, wasm_module, session_key, sink, failure_mode):
        """Envoy doesn't check it."""
        with asking(sink, session_key, None, failure_mode=failure_mode) as gate:
            assert {gate.send(ONE).status_code for _ in range(5)} == {200 if failure_mode == "allow" else 503}
            assert gate.counters()["limit_service_failed"] == 5
            assert "rate limit service: " in gate.envoy.wait_for_log("rate limit service")

    def test_nobody_listens(self, wasm_module, session_key, sink, failure_mode):
        with asking(sink, session_key, free_port(), failure_mode=failure_mode) as gate:
            assert {gate.send(ONE).status_code for _ in range(5)} == {200 if failure_mode == "allow" else 503}

    def test_nobody_answers_the_connection(self, wasm_module, session_key, sink, failure_mode):
        """Accepted by the kernel, and by nobody else: the timeout counts."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with asking(sink, session_key, port, failure_mode=failure_mode, timeout_ms=300) as gate:
                began = time.monotonic()
                assert gate.send(ONE).status_code == (200 if failure_mode == "allow" else 503)
                assert time.monotonic() - began >= 0.3


class TestUnreachable:
    """Where Envoy itself has nobody to send the question to."""

    @pytest.fixture
    def gate_with(self, wasm_module, session_key, sink):
        def gate(edit_cluster, port):
            cluster = ratelimit.cluster("ratelimit", port)
            edit_cluster(cluster)

            def edit(document):
                document["static_resources"]["clusters"].append(cluster)
            return asking(sink, session_key, None, failure_mode="deny", edit_more=edit)
        return gate

    def test_no_endpoint(self, gate_with):
        def edit(cluster):
            cluster["load_assignment"]["endpoints"] = []
        with gate_with(edit, 1) as gate:
            assert {gate.send(ONE, timeout=5).status_code for _ in range(5)} == {503}
            assert gate.counters()["limit_service_failed"] == 5

    def test_the_circuit_is_broken(self, gate_with):
        def edit(cluster):
            cluster["circuit_breakers"] = {"thresholds": [{"max_requests": 1}]}
        with ratelimit.Stub() as stub, gate_with(edit, stub.port) as gate:
            stub.answer = ratelimit.nothing
            with Http2(gate.envoy.port(), timeout=10) as client:
                for _ in range(20):
                    client.queue(gate.bearer(sub=next(names)), b'{"logs":[{}]}')
                client.flush()
                assert set(client.statuses(20)) == {503}
            assert gate.counters()["limit_service_failed"] == 20
            stub.answer = ratelimit.yes
            gate.good_on_every_worker()


def test_requests_that_have_waited_for_keys_ask_too(wasm_module, sink):
    """They are resumed by the root context, to which their answers are brought."""
    secret, first, second = tokens.hmac_key(), tokens.ec_key("first"), tokens.ec_key("second")
    with Identity(first.jwk("first")) as host, ratelimit.Stub() as stub:
        def edit(document):
            bootstrap.filter_config(document)["auth"]["providers"] = []
            trust(document, provider("idp", "ES256"), host)
        with asking(sink, secret, stub.port, failure_mode="deny", edit_more=edit) as gate:
            gate.key = first
            known = {"authorization": f"Bearer {tokens.mint(first, header={'kid': 'first'}, sub='a')}"}
            wait_until(lambda: gate.send(ONE, headers=known).status_code == 200, 15, "the first keys")
            host.publish(second.jwk("second"))
            stub.asked.clear()
            # Fetches on demand are ten seconds apart. The second request waits for nothing any more.
            for answer, code in ((ratelimit.yes, 200), (ratelimit.no, 429)):
                stub.answer = answer
                late = {"authorization": f"Bearer {tokens.mint(second, header={'kid': 'second'}, sub='b')}"}
                assert gate.send(ONE, headers=late, timeout=30).status_code == code
            assert len(stub.asked) == 2
