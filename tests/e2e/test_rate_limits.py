"""Who sends too much is told to wait, for as long as it takes and no longer; nobody else
is. With two workers a bucket is the same one.

Each test has users of its own, whose buckets are full.
"""

import concurrent.futures
import itertools
import json
import re
import time

import pytest

from harness import bootstrap
from harness.behaviours import hang, status
from harness.common import wait_until
from harness.curl import curl
from harness.gateways import serving
from harness.rawhttp import Http2

# In requests: easy to count. A user fills at 2 a second, a session at 1.
USER = {"max_tokens": 8, "tokens_per_fill": 2, "fill_interval_ms": 1000}
SESSION = {"max_tokens": 4, "tokens_per_fill": 1, "fill_interval_ms": 1000}
ONE = {"logs": [{"message": "one"}]}

names = (f"limited-{number}" for number in itertools.count())


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def shared_gate(request, wasm_module, session_key, sink):
    limits = {"unit": "requests", "user": USER, "session": SESSION}
    # Each request goes to the backend by itself, once.
    config = {"rate_limits": limits, "export": {"max_retries": 0, "max_in_flight": 100}}
    with serving(sink, session_key, config=config, concurrency=request.param) as gate:
        yield gate


@pytest.fixture
def user():
    return next(names)


def is_429(answer):
    """Told to wait. For how many seconds."""
    assert (answer.status_code, answer.headers["content-type"]) == (429, "application/problem+json")
    assert answer.json() == {"type": "about:blank", "title": "Too many records", "status": 429}
    assert re.fullmatch("[1-9][0-9]*", answer.headers["retry-after"])
    return int(answer.headers["retry-after"])


def until_refused(gate, batch=ONE, claims=lambda: {}, at_most=50):
    """Sends batches, through each worker in turn, until one is refused. How many were let in,
    and in what time."""
    workers = itertools.cycle(list(gate.workers()))
    began = time.monotonic()
    for count in range(at_most):
        code, _ = gate.post_on(next(workers), batch, **claims())
        if code == 429:
            return count, time.monotonic() - began
        assert code == 200
    raise AssertionError(f"{at_most} requests were let in")


def refusal(gate, claims, at_most=5):
    """The next answer that isn't 200: a token may have come in since the last one."""
    answers = (gate.send(ONE, **claims()) for _ in range(at_most))
    return next(answer for answer in answers if answer.status_code != 200)


def within(count, bucket, seconds):
    """As many as were in the bucket; at most what came in since, and the one request that may
    overdraw it."""
    filled = bucket["tokens_per_fill"] * seconds * 1000 / bucket["fill_interval_ms"]
    assert bucket["max_tokens"] <= count <= bucket["max_tokens"] + filled + 1


class TestUser:
    def test_is_limited_over_all_sessions(self, gate, user):
        count, seconds = until_refused(gate, claims=lambda: {"sub": user, "sid": next(names)})
        within(count, USER, seconds)
        assert is_429(refusal(gate, lambda: {"sub": user, "sid": next(names)})) == 1

    def test_another_one_is_not(self, gate, user):
        until_refused(gate, claims=lambda: {"sub": user, "sid": next(names)})
        assert gate.send(ONE, sub=next(names)).status_code == 200

    def test_with_the_same_session_id_is_not(self, gate, user):
        until_refused(gate, claims=lambda: {"sub": user, "sid": "shared"})
        assert gate.send(ONE, sub=next(names), sid="shared").status_code == 200

    def test_names_are_not_mixed_up(self, gate):
        """Subject and session are two things, wherever one ends and the other begins."""
        until_refused(gate, claims=lambda: {"sub": "ab", "sid": "c"})
        assert gate.send(ONE, sub="a", sid="bc").status_code == 200


class TestSession:
    def test_is_limited(self, gate, user):
        count, seconds = until_refused(gate, claims=lambda: {"sub": user, "sid": "s"})
        within(count, SESSION, seconds)
        assert is_429(gate.send(ONE, sub=user, sid="s")) == 1

    def test_another_one_of_the_user_is_not(self, gate, user):
        until_refused(gate, claims=lambda: {"sub": user, "sid": "s"})
        assert gate.send(ONE, sub=user, sid="t").status_code == 200

    @pytest.mark.parametrize("spelling", ["sessionId", "session_id"])
    def test_is_the_records_where_the_token_has_none(self, gate, user, spelling):
        def batch(session):
            return {"logs": [{"message": "x", spelling: session}]}
        count, seconds = until_refused(gate, batch("s"), lambda: {"sub": user, "sid": None})
        within(count, SESSION, seconds)
        assert gate.send(batch("t"), sub=user, sid=None).status_code == 200

    def test_of_the_token_comes_before_the_records(self, gate, user):
        """Else a client would have as many buckets as it can think of."""
        def send():
            batch = {"logs": [{"message": "x", "sessionId": next(names)}]}
            return gate.send(batch, sub=user, sid="s").status_code
        assert 429 in [send() for _ in range(7)]


class TestRefusal:
    def test_is_seen_by_operators(self, gate, user, sink):
        until_refused(gate, claims=lambda: {"sub": user, "sid": "s"})
        before, requests, tag = gate.counters(), len(sink.requests), gate.tag()
        is_429(gate.send(ONE, headers={"user-agent": tag}, sub=user, sid="s"))
        assert gate.outcome(before) == {"requests": 1, "rejected.session_rate_limited": 1}
        assert '" 429 session_rate_limited - ' in gate.access_log_line(tag)
        assert len(sink.requests) == requests

    def test_names_the_users_bucket(self, gate, user):
        before = gate.counters()
        until_refused(gate, claims=lambda: {"sub": user, "sid": next(names)})
        refusals = {name: count for name, count in gate.counted(before).items() if name.startswith("rejected")}
        assert refusals == {"rejected.user_rate_limited": 1}

    @pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
    def test_is_seen_by_curl(self, gate, user, http2):
        """Without a body: it is refused before that is looked at."""
        until_refused(gate, claims=lambda: {"sub": user, "sid": "s"})
        answer = curl(gate.url(), headers=gate.bearer(sub=user, sid="s"), http2=http2)
        assert (answer.status, answer.header("retry-after")) == (429, "1")
        assert json.loads(answer.body)["title"] == "Too many records"

    def test_ends_when_it_says(self, gate, user):
        claims = {"sub": user, "sid": "s"}
        until_refused(gate, claims=lambda: claims)
        wait = is_429(gate.send(ONE, **claims))
        # Asking on the way costs nothing, or a client that asks too early would never get in.
        wait_until(lambda: gate.send(ONE, **claims).status_code == 200, wait + 0.5, "the bucket to fill", poll=0.02)
        is_429(gate.send(ONE, **claims))

    def test_costs_nothing_in_the_other_bucket(self, gate, user):
        """The session's is empty; what the user has left is for other sessions."""
        until_refused(gate, claims=lambda: {"sub": user, "sid": "s"})
        for _ in range(20):
            assert gate.send(ONE, sub=user, sid="s").status_code in (200, 429)
        assert gate.send(ONE, sub=user, sid="t").status_code == 200


class TestRefund:
    def test_what_was_not_delivered_is_not_charged(self, gate, user, sink):
        sink.default = status(500)
        codes = [gate.send(ONE, sub=user, sid="s").status_code for _ in range(20)]
        assert codes == [502] * 20
        sink.forget()
        count, seconds = until_refused(gate, claims=lambda: {"sub": user, "sid": "s"})
        within(count, SESSION, seconds)

    def test_nor_what_was_no_batch(self, gate, user):
        codes = [gate.send(b"{", sub=user, sid="s").status_code for _ in range(20)]
        assert codes == [400] * 20
        assert gate.send(ONE, sub=user, sid="s").status_code == 200

    def test_what_is_under_way_is_charged(self, gate, user, sink):
        """Or a client that does not wait for answers would have no limit."""
        stuck = sink.default = hang()
        with concurrent.futures.ThreadPoolExecutor(12) as threads:
            waiting = [threads.submit(gate.send, ONE, sub=user, sid="s") for _ in range(12)]
            refused = wait_until(lambda: [one for one in waiting if one.done()], 10, "the first refusal")
            assert all(one.result().status_code == 429 for one in refused)
            # The others are on their way to the backend, or wait for one that is.
            at_most = SESSION["max_tokens"] + 2
            wait_until(lambda: sum(one.done() for one in waiting) >= 12 - at_most, 10, "the other refusals")
            assert len(sink.requests) <= at_most
            stuck.release()
            assert {one.result().status_code for one in waiting} == {200, 429}


def test_many_at_once_get_no_more(gate, user, sink):
    """From eight threads, as fast as they can, for a second: the two workers must agree on
    every charge."""
    began = time.monotonic()

    def hammer(thread):
        admitted = 0
        while time.monotonic() < began + 1:
            code = gate.send(ONE, sub=user, sid=f"s-{thread}").status_code
            assert code in (200, 429)
            admitted += code == 200
        return admitted
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        admitted = sum(threads.map(hammer, range(8)))
    within(admitted, USER, time.monotonic() - began)
    assert len(sink.taken_records) == admitted


class TestTwoWorkersAtOnce:
    """Requests that arrive as one piece on several connections: both workers are at the same
    bucket within microseconds, again and again. Whoever writes over the other's charge lets
    in more than the bucket holds."""

    BUCKET = {"max_tokens": 1500, "tokens_per_fill": 1, "fill_interval_ms": 1000}
    CONNECTIONS, EACH = 16, 100

    @pytest.fixture(scope="class")
    def gate(self, wasm_module, session_key, sink):
        limits = {"unit": "requests", "user": self.BUCKET, "session": None}
        with serving(sink, session_key, config={"rate_limits": limits}, concurrency=2) as gate:
            yield gate

    @pytest.mark.parametrize("turn", range(4))
    def test_no_charge_is_lost(self, gate, user, turn):
        headers = gate.bearer(sub=user, sid=None)
        clients = [Http2(gate.envoy.port()) for _ in range(self.CONNECTIONS)]
        for client in clients:
            for _ in range(self.EACH):
                client.queue(headers, b'{"logs":[]}')
        began = time.monotonic()
        for client in clients:
            client.flush()
        statuses = [code for client in clients for code in client.statuses(self.EACH)]
        seconds = time.monotonic() - began
        for client in clients:
            client.socket.close()
        assert set(statuses) == {200, 429}
        within(statuses.count(200), self.BUCKET, seconds)


# A bucket of 50 that takes minutes to fill; the batch has 100 records.
SLOW = {"max_tokens": 50, "tokens_per_fill": 1, "fill_interval_ms": 2000}


def fields(answer):
    """The RateLimit-Policy and RateLimit fields: {name: {parameter: value}} each, {} where there is none."""
    def items(field):
        found = {}
        for item in filter(None, answer.headers.get(field, "").split(", ")):
            name, *parameters = item.split(";")
            found[json.loads(name)] = {key: json.loads(value) for key, value in (one.split("=") for one in parameters)}
        return found
    return items("ratelimit-policy"), items("ratelimit")


class TestFields:
    """draft-ietf-httpapi-ratelimit-headers: a client can slow down before it is told to."""

    def test_a_200_says_what_is_left(self, gate, user):
        first, second = (fields(gate.send(ONE, sub=user, sid="s")) for _ in range(2))
        assert first == ({}, {"user": {"r": 7, "t": 1}, "session": {"r": 3, "t": 1}})
        policy, left = second
        assert policy == {} and left["user"]["r"] in (6, 7) and left["session"]["r"] in (2, 3)

    def test_a_429_says_of_what(self, gate, user):
        until_refused(gate, claims=lambda: {"sub": user, "sid": "s"})
        answer = gate.send(ONE, sub=user, sid="s")
        is_429(answer)
        policy, left = fields(answer)
        assert policy == {"user": {"q": 8, "w": 4}, "session": {"q": 4, "w": 4}}
        assert left["session"] in ({"r": 0, "t": 4}, {"r": 0, "t": 5}) and left["user"]["r"] > 0

    def test_another_answer_says_nothing(self, gate, user):
        assert fields(gate.send(b"{", sub=user)) == ({}, {})

    def test_web_apps_may_read_them(self):
        """Where they are served from elsewhere."""
        manager = bootstrap.connection_manager(bootstrap.load("logfire.yaml"))
        route = manager["route_config"]["virtual_hosts"][0]["routes"][0]
        exposed = route["typed_per_filter_config"]["envoy.filters.http.cors"]
        assert {"retry-after", "ratelimit", "ratelimit-policy"} <= set(exposed["expose_headers"].split(","))


class TestShadow:
    """For trying a limit in production."""

    @pytest.fixture(scope="class")
    def gate(self, wasm_module, session_key, sink):
        limits = {"unit": "requests", "user": {**USER, "shadow": True}, "session": SESSION}
        with serving(sink, session_key, config={"rate_limits": limits}, concurrency=2) as gate:
            yield gate

    def test_it_counts_and_refuses_nothing(self, gate, user):
        before = gate.counters()
        answers = [gate.send(ONE, sub=user, sid=next(names)) for _ in range(40)]
        assert {answer.status_code for answer in answers} == {200}
        counted = gate.counted(before)
        assert 0 < counted["shadow.user_rate_limited"] <= 32
        assert not any(name.startswith("rejected") for name in counted)
        assert fields(answers[-1])[1].keys() == {"session"}

    def test_the_other_limit_means_it(self, gate, user):
        count, seconds = until_refused(gate, claims=lambda: {"sub": user, "sid": "s"})
        within(count, SESSION, seconds)


class TestOverrides:
    """Other limits for those whose verified token says so."""

    TWICE = {**USER, "max_tokens": 16}

    @pytest.fixture(scope="class")
    def gate(self, wasm_module, session_key, sink):
        limits = {
            "unit": "requests", "user": USER, "session": None,
            "overrides": [
                {"claim": "channel", "value": "beta", "user": self.TWICE},
                {"claim": "realm_access.roles", "value": "support", "user": None},
                {"claim": "version", "value": 3, "user": {**USER, "max_tokens": 2}},
            ],
        }
        with serving(sink, session_key, config={"rate_limits": limits}, concurrency=2) as gate:
            yield gate

    @pytest.mark.parametrize(("claims", "bucket"), [
        ({}, USER), ({"channel": "stable"}, USER), ({"channel": "beta"}, TWICE), ({"channel": ["a", "beta"]}, TWICE),
        ({"version": 3}, {**USER, "max_tokens": 2}), ({"version": "3"}, USER),
        ({"channel": "beta", "version": 3}, TWICE),
    ], ids=str)
    def test_the_first_that_fits_counts(self, gate, user, claims, bucket):
        count, seconds = until_refused(gate, claims=lambda: {"sub": user, **claims})
        within(count, bucket, seconds)

    def test_no_limit_at_all(self, gate, user):
        claims = {"sub": user, "realm_access": {"roles": ["support"]}}
        assert {gate.send(ONE, **claims).status_code for _ in range(40)} == {200}


class TestUnit:
    @pytest.fixture(scope="class")
    def by_records(self, wasm_module, session_key, sink):
        limits = {"unit": "records", "user": SLOW, "session": None}
        with serving(sink, session_key, config={"rate_limits": limits}) as gate:
            yield gate

    @pytest.fixture(scope="class")
    def by_bytes(self, wasm_module, session_key, sink):
        user = {"max_tokens": 1000, "tokens_per_fill": 1, "fill_interval_ms": 100}
        limits = {"unit": "bytes", "user": user, "session": None}
        with serving(sink, session_key, config={"rate_limits": limits}) as gate:
            yield gate

    def test_a_batch_larger_than_the_bucket_is_let_in_once(self, by_records, user, fixture_bytes):
        """Else it could never be delivered. What it took too much has to be waited for."""
        batch = fixture_bytes("full-batch-100.json")
        assert by_records.send(batch, sub=user).json() == {"accepted": 100, "rejected": 0}
        assert 99 <= is_429(by_records.send(ONE, sub=user)) <= 102

    def test_records_are_counted(self, by_records, user):
        five = {"logs": [{"message": "x"}] * 5}
        count, _ = until_refused(by_records, five, lambda: {"sub": user})
        assert count in (10, 11)  # as much as came in meanwhile lets one more in

    def test_an_empty_batch_is_free(self, by_records, user):
        for _ in range(60):
            assert by_records.send({"logs": []}, sub=user).status_code == 200

    def test_bytes_are_counted(self, by_bytes, user):
        body = json.dumps({"logs": [{"message": "x" * 221}]}).encode()
        assert len(body) == 248
        count, seconds = until_refused(by_bytes, json.loads(body), lambda: {"sub": user})
        assert count in (5, 6) and seconds < 5


class TestNoLimit:
    @pytest.mark.parametrize("limits", [None, {"user": None, "session": None}], ids=["no section", "no bucket"])
    def test_where_none_is_configured(self, wasm_module, session_key, sink, limits):
        with serving(sink, session_key, config={"rate_limits": limits}) as gate:
            batch = {"logs": [{"message": "x"}] * 1000}
            assert [gate.send(batch, sub="u").status_code for _ in range(10)] == [200] * 10
