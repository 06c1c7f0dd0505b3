"""Keys that are fetched from an identity host, through the real Envoy: a host that is down or
talks nonsense, keys that rotate, tokens whose key isn't known yet, and floods of those.

Most of it is waiting: fetches on demand are ten seconds apart. So a story is told once, with one
worker and with two at the same time, and the tests look at what was seen. LONG=1 in the environment
asks for ten thousand tokens and ten periods instead of some.
"""

import concurrent.futures
import gzip
import itertools
import json
import os
import re
import select
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from random import Random
from typing import NamedTuple, Optional

import h2.events
import pytest

from harness import bootstrap, tokens
from harness.backend import Backend
from harness.behaviours import BEFORE_HEADERS, MID_BODY, broken, hang, html, status
from harness.common import LOOPBACK, wait_until
from harness.gateways import PATH, serving
from harness.identity import Identity, key_set, provider, stall, trust
from harness.rawhttp import LAST_CHUNK, Http1, Http2, chunks, encoded, frames_of, head

LONG = os.environ.get("LONG", "") not in ("", "0")
WORKERS = [1, 2]
FIRST, SECOND, THIRD, STRANGER = (tokens.ec_key(name) for name in ("first", "second", "third", "stranger"))
SECRET = tokens.hmac_key()  # of no provider: no token that it signs is good

LIMIT = 1_048_576  # max_body_bytes in envoy/envoy.yaml
ON_DEMAND = 10  # seconds between fetches because of a key that is not known
# On a busy machine the host may see a fetch so much later than it was made, and the next one not.
SLACK = 0.5
# The same with many hosts at once: as late as a fetch may be and still be answered in time.
FAR_APART = ON_DEMAND - 2

pytestmark = [
    pytest.mark.usefixtures("wasm_module"),
    # A story belongs to the first test that looks at it.
    pytest.mark.timeout(600 if LONG else 120),
]
each_number_of_workers = pytest.mark.parametrize("workers", WORKERS, ids=["1 worker", "2 workers"])


def with_each(*stories):
    """Tells each story with each number of workers, all at once. {story: {workers: what came of it}}"""
    every = [(story, workers) for story in stories for workers in WORKERS]
    with concurrent.futures.ThreadPoolExecutor(len(every)) as threads:
        told = {each: threads.submit(each[0], each[1]) for each in every}
    for (story, workers), future in told.items():
        if future.exception():
            raise AssertionError(f"{story.__name__} with {workers} worker(s)") from future.exception()
    return {story: {workers: told[story, workers].result() for workers in WORKERS} for story in stories}


@contextmanager
def trusting(*trusted, workers, config=None):
    """A gate whose providers have remote keys: pairs of what identity.provider() made and the
    host. Good requests, where nothing else is said, are signed with FIRST."""
    def edit(document):
        # Else it may be Envoy that says 413, where it reads more than that of a body at once.
        bootstrap.listener(document)["per_connection_buffer_limit_bytes"] = 8 * LIMIT
        bootstrap.filter_config(document)["auth"]["providers"] = []
        for made, host in trusted:
            trust(document, made, host)
    with Backend() as backend, serving(backend, SECRET, edit=edit, config=config, concurrency=workers) as gate:
        gate.key = FIRST
        yield gate


class Seen(NamedTuple):
    """What a client saw of an answer, and for how long it waited for it."""

    status: int
    retry_after: Optional[str] = None
    seconds: float = 0.0

    @property
    def is_put_off(self):
        """503, and when to come back."""
        return self.status == 503 and re.fullmatch("[1-9]|[12][0-9]|30", self.retry_after or "") is not None


def send(gate, message="one", key=FIRST, kid="first", **claims):
    """One record, by a token that was never seen before."""
    began = time.monotonic()
    header = {"kid": kid} if kid else {}
    claims = {"sub": str(uuid.uuid4()), **claims}
    token = tokens.mint(key, header=header, **claims)
    answer = gate.send({"logs": [{"message": message}]}, headers={"authorization": f"Bearer {token}"}, timeout=40)
    return Seen(answer.status_code, answer.headers.get("retry-after"), time.monotonic() - began)


def post(connection, token, message="one"):
    """The same over a connection of the gate's to one worker, by a token that is given."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    connection.request("POST", PATH, json.dumps({"logs": [{"message": message}]}), headers)
    response = connection.getresponse()
    response.read()
    assert not response.will_close
    return response.status


def settled(gate, *keys):
    """Waits until every worker has these keys, one of each host; if none is given, the gate's."""
    for (worker, connection), key in itertools.product(gate.workers().items(), keys or [gate.key]):
        token = tokens.mint(key, sub="settled")

        def has_key(connection=connection, token=token):
            # 415 comes after the token and before the body. Without a body, since who is put off
            # before it has come loses the connection to the worker, as with a 400.
            connection.request("POST", PATH, headers={"authorization": f"Bearer {token}", "content-encoding": "br"})
            response = connection.getresponse()
            response.read()
            assert response.status in (415, 503) and not response.will_close
            return response.status == 415
        wait_until(has_key, 15, f"worker {worker} to have keys")


def bodies(backend):
    """How often each message was taken."""
    return Counter(record["body"] for record in backend.taken_records)


# What is nothing but waiting is told together with something else.

@pytest.fixture(scope="module")
def failures_and_periods():
    return with_each(Failures, Periods, Siblings)


@pytest.fixture(scope="module")
def late_host_and_crowd():
    return with_each(LateHost, Crowd)


# The identity host fails: at the start, and when the filter has had keys from it.

def without_keys(document, keys):
    """The key set with other keys in it."""
    return json.dumps({**json.loads(document), "keys": keys}).encode()


def good_keys(document):
    return json.loads(document)["keys"]


JUNK = [
    5, None, [], "key", {}, {"kty": 7}, {"kty": "EC"}, {"kty": "EC", "crv": "P-256", "kid": "x"},
    {**SECOND.jwk("off the curve"), "x": FIRST.jwk()["x"]},
    {**SECOND.jwk("short"), "x": "AA"},
    {**SECOND.jwk("not base64"), "x": "%%%"},
    {**SECOND.jwk("padded"), "y": SECOND.jwk()["y"] + "="},
    {**SECOND.jwk("kid"), "kid": 7},
]
# Nothing is wrong with these; they are for something else.
OTHERS = [
    SECOND.jwk("for encryption", use="enc"),
    SECOND.jwk("to sign", key_ops=["sign"]),
    SECOND.jwk("for another algorithm", alg="ES384"),
    tokens.rsa_key("unused").jwk("of another kind"),
    tokens.hmac_key().jwk("a secret"),
]

# What a broken host answers, given the key set that it should serve. Wherever there can be a
# body it is that very set, so that only what is wrong can be the reason for not using it.
FAULTS = {
    "refuses connections": None,
    "hangs": lambda _: hang(),
    "answers after the timeout": lambda document: key_set(document, delay=3.0),
    "closes without an answer": lambda _: broken(BEFORE_HEADERS, reset=False),
    "resets without an answer": lambda _: broken(BEFORE_HEADERS),
    "closes in the middle": lambda document: key_set(document, fault=MID_BODY, reset=False),
    "resets in the middle": lambda document: key_set(document, fault=MID_BODY),
    "stalls in the middle": stall,
    "HTML with 200": lambda _: html(),
    "33 MB": lambda document: key_set(document + b" " * (33 << 20)),
    "300 KB": lambda document: key_set(document + b" " * (300 << 10)),
    "500": lambda document: key_set(document, status=500),
    "404": lambda document: key_set(document, status=404),
    "201": lambda document: key_set(document, status=201),
    "a redirect": lambda document: key_set(document, status=302, headers={"location": f"http://{LOOPBACK}/elsewhere"}),
    "nothing at all": lambda _: status(200),
    "half a document": lambda document: key_set(document[:len(document) // 2]),
    "two documents": lambda document: key_set(document + document),
    "a list": lambda document: key_set(json.dumps(good_keys(document)).encode()),
    "no keys": lambda document: key_set(without_keys(document, [])),
    "keys that are no list": lambda document: key_set(without_keys(document, good_keys(document)[0])),
    "junk alone": lambda document: key_set(without_keys(document, JUNK)),
    "keys for something else": lambda document: key_set(without_keys(document, OTHERS)),
    "too many keys": lambda document: key_set(without_keys(document, good_keys(document) * 101)),
}
JUNK_BESIDE = "junk beside one good key"
SHORT_LIVED = "keys that may not be stale"


def fail(identity, fault):
    if fault:
        identity.answer = fault
    else:
        identity.down()


def repair(identity):
    identity.answer = None
    identity.release()
    if not identity.is_up:
        identity.up()


def slug(name):
    """A provider's name."""
    return name.replace(" ", "-")


class Failures:
    """One provider and one host for each fault, all in one Envoy.

    seen      {phase: {name: [Seen, …]}}
    fetches   {name: the fetches that were read}
    ignored   how many keys were ignored while only JUNK_BESIDE could be used
    log       Envoy's
    """

    PHASES = ["without keys", "after the repair", "with keys", "by a new key", "by a new key after the repair"]

    def __init__(self, workers):
        self.seen = {phase: {} for phase in self.PHASES}
        hosts = {name: Identity(FIRST.jwk("first")) for name in FAULTS}
        hosts[SHORT_LIVED] = Identity(FIRST.jwk("first"))
        faults = {**FAULTS, SHORT_LIVED: FAULTS["500"]}
        for name, fault in faults.items():
            fail(hosts[name], fault)

        # Nothing but a token with a new key id is a reason to ask again within ten minutes.
        settings = {SHORT_LIVED: {"max_stale_seconds": 10, "cache_seconds": 10}}
        hosts[JUNK_BESIDE] = Identity(*JUNK, *OTHERS, FIRST.jwk("first"), SECOND.jwk("first"))
        trusted = [(provider(slug(name), "ES256", issuer=name, **settings.get(name, {})), host)
                   for name, host in hosts.items()]
        try:
            with trusting(*trusted, workers=workers) as gate:
                del hosts[JUNK_BESIDE]
                self.gate, self.names = gate, list(faults)
                self.tell(hosts, faults)
                self.log = gate.envoy.log_text()
                self.fetches = {name: host.fetches for name, host in hosts.items()}
        finally:
            for _, host in trusted:
                host.stop()

    def tell(self, hosts, faults):
        # Without keys. Each host is asked again, without anybody asking the filter to.
        def asked_again():
            self.ask("without keys")
            # Where somebody is let in, which must not be, nobody asks again.
            waiting = [name for name, seen in self.seen["without keys"].items() if seen[-1].status != 200]
            return all(len(hosts[name].fetches) >= 2 for name in waiting if hosts[name].is_up)
        wait_until(asked_again, 20, "every host to be asked twice")
        wait_until(lambda: all(self.send(JUNK_BESIDE).status == 200 for _ in range(4)), 15, "the keys beside junk")
        self.beside = [self.send(JUNK_BESIDE) for _ in range(4)]
        self.ignored = self.gate.counters().get("keys_ignored")

        # With keys, the first ones.
        for host in hosts.values():
            repair(host)

        def taken():
            self.ask("after the repair")
            return all(seen[-1].status == 200 for seen in self.seen["after the repair"].values())
        wait_until(taken, 20, "every provider to have keys")

        # The host rotates its key, and fails before that is known here.
        for name, host in hosts.items():
            host.publish(SECOND.jwk("second"))
            fail(host, faults[name])
        self.ask_by_a_new_key("by a new key", meanwhile=lambda: self.ask("with keys"))
        # By now those that may not be stale are.
        self.ask("with keys")
        for host in hosts.values():
            repair(host)
        self.ask_by_a_new_key("by a new key after the repair")

        def has_keys_again():
            self.recovered = self.send(SHORT_LIVED, SECOND, "second")
            return self.recovered.status != 503
        wait_until(has_keys_again, 15, "the provider without keys to have some again")

    def send(self, name, key=FIRST, kid="first"):
        return send(self.gate, name, key, kid, iss=name)

    def ask(self, phase):
        for name in self.names:
            self.seen[phase].setdefault(name, []).append(self.send(name))

    def ask_by_a_new_key(self, phase, meanwhile=None):
        with concurrent.futures.ThreadPoolExecutor(len(self.names) + len(OTHERS)) as threads:
            asked = {name: threads.submit(self.send, name, SECOND, "second") for name in self.names}
            kids = [jwk["kid"] for jwk in OTHERS if jwk["kty"] == "EC"]
            others = [threads.submit(self.send, JUNK_BESIDE, SECOND, kid) for kid in kids]
            while meanwhile and not all(future.done() for future in asked.values()):
                meanwhile()
        self.seen[phase] = {name: [future.result()] for name, future in asked.items()}
        self.by_others = [future.result() for future in others]


@pytest.fixture(scope="module")
def failures(failures_and_periods):
    return failures_and_periods[Failures]


@each_number_of_workers
class TestTheHostFails:
    @pytest.mark.parametrize("name", [*FAULTS, SHORT_LIVED])
    def test_before_there_are_keys(self, failures, workers, name):
        """Never 401: nothing is known of the token."""
        seen = failures[workers].seen["without keys"][name]
        assert seen and all(each.is_put_off for each in seen), seen

    @pytest.mark.parametrize("name", [*FAULTS, SHORT_LIVED])
    def test_and_recovers_without_a_restart(self, failures, workers, name):
        seen = failures[workers].seen["after the repair"][name]
        assert seen[-1].status == 200
        assert all(each.is_put_off or each.status == 200 for each in seen), seen

    @pytest.mark.parametrize("name", FAULTS)
    def test_keys_that_are_held_stay_in_force(self, failures, workers, name):
        seen = failures[workers].seen["with keys"][name]
        assert len(seen) > 3 and all(each.status == 200 for each in seen), seen

    def test_but_not_for_longer_than_they_may(self, failures, workers):
        seen = failures[workers].seen["with keys"][SHORT_LIVED]
        assert seen[0].status == 200 and seen[-1].is_put_off, seen
        assert {each.status for each in seen} == {200, 503}
        assert failures[workers].recovered.status == 200

    @pytest.mark.parametrize("name", [*FAULTS, SHORT_LIVED])
    def test_a_new_key_is_not_refused(self, failures, workers, name):
        """The token is good; that the filter can't see it is no fault of the client's."""
        (seen,) = failures[workers].seen["by a new key"][name]
        assert seen.is_put_off, seen
        (seen,) = failures[workers].seen["by a new key after the repair"][name]
        # Where no key is in force nobody is kept waiting.
        assert seen.is_put_off if name == SHORT_LIVED else seen.status == 200, seen

    @pytest.mark.parametrize("name", [name for name in FAULTS if name != "refuses connections"])
    def test_it_is_asked_less_often(self, failures, workers, name):
        """After 1 s, 2 s, 4 s …, where there are no keys; after ten where there are. A quarter of it
        may be missing, so that gateways don't ask all at once."""
        times = [fetch.time for fetch in failures[workers].fetches[name]]
        intervals = [later - earlier for earlier, later in zip(times, times[1:])]
        *without, on_demand, after_failure = intervals
        least = [0.75 * 2**failures_before for failures_before in range(len(without))]
        assert all(interval >= shortest - SLACK for interval, shortest in zip(without, least)), intervals
        assert min(on_demand, after_failure) >= FAR_APART, intervals

    def test_redirects_are_not_followed(self, failures, workers):
        assert {fetch.path for fetch in failures[workers].fetches["a redirect"]} == {"/certs"}

    def test_one_good_key_among_junk_works(self, failures, workers):
        assert [seen.status for seen in failures[workers].beside] == [200] * 4

    def test_junk_is_counted(self, failures, workers):
        """And so is the second key of the same id."""
        assert failures[workers].ignored == len(JUNK) + 1

    def test_keys_for_something_else_verify_nothing(self, failures, workers):
        seen = failures[workers].by_others
        assert len(seen) == 3 and all(each.status == 401 for each in seen), seen

    def test_operators_are_told_why(self, failures, workers):
        """But not at every attempt: a host that is down would fill the disk."""
        warnings = re.findall(r"keys of provider .* could not be fetched: .*", failures[workers].log)
        assert 1 <= len(warnings) <= 3 * (workers + 1), warnings


# The host is down when Envoy starts.

class LateHost:
    """seen      [Seen, …] while the host was down
    after       the same, from the moment at which it was up until all was well
    """

    DOWN = 5  # seconds

    def __init__(self, workers):
        with Identity(FIRST.jwk("first"), up=False) as host:
            with trusting((provider("id", "ES256"), host), workers=workers) as gate:
                self.seen, self.after = [], []
                # Not a wait for anything: for so long the host is down.
                ended = time.monotonic() + self.DOWN
                while time.monotonic() < ended:
                    self.seen.append(send(gate))
                host.up()
                began = time.monotonic()

                def all_is_well():
                    self.after.append(send(gate))
                    return self.after[-1].status == 200
                wait_until(all_is_well, 15, "keys")
                self.seconds = time.monotonic() - began
                settled(gate)
                self.later = [send(gate).status for _ in range(50)]
                gate.good_on_every_worker()
                self.counters, self.fetches = gate.counters(), len(host.fetches)


@pytest.fixture(scope="module")
def late_host(late_host_and_crowd):
    return late_host_and_crowd[LateHost]


@each_number_of_workers
class TestTheHostIsDownAtTheStart:
    def test_until_it_is_up_clients_are_put_off(self, late_host, workers):
        told = late_host[workers]
        assert len(told.seen) > 20 and all(each.is_put_off for each in told.seen), told.seen
        assert all(each.seconds < 2 for each in told.seen)

    def test_then_their_records_are_taken(self, late_host, workers):
        """Without a restart, and on every worker."""
        told = late_host[workers]
        assert all(each.is_put_off for each in told.after[:-1]), told.after
        # The back-off is 4 s by then.
        assert told.seconds < 8
        assert told.later == [200] * 50

    def test_workers_share_the_keys(self, late_host, workers):
        """However many of them there are, the host is asked once when it is up."""
        told = late_host[workers]
        assert told.fetches == 1
        assert told.counters["key_fetches"] == told.counters["key_fetches_failed"] + 1 <= 6


# A token names a key that is not known yet: its request waits.

def signed(key=SECOND, kid="second", **claims):
    """The headers of a request with a token of its own."""
    token = tokens.mint(key, header={"kid": kid} if kid else {}, **{"sub": str(uuid.uuid4()), **claims})
    return {"authorization": f"Bearer {token}", "content-type": "application/json"}


def batch(message, size=0):
    """A body of one record, of so many bytes or a few more."""
    return json.dumps({"logs": [{"message": message}], "padding": "x" * size}).encode()


def pieces(body, count):
    """The body in so many parts, or one more."""
    return frames_of(body, len(body) // count)


WAITING = {}


def waits_for(expected):
    """A request that waits for the key SECOND, and then gets this status; None: whose client
    leaves. The function sends it, with its own name as the record's message, and returns the
    answer."""
    def register(function):
        WAITING[function.__name__] = (expected, function)
        return function
    return register


# All of it is sent before the keys are there, unless it says otherwise.

@waits_for(200)
def small_over_http_1(story, name):
    return http_1(story, batch(name))


@waits_for(200)
def small_over_http_2(story, name):
    return http_2(story, [batch(name)])


@waits_for(200)
def large_over_http_1(story, name):
    return http_1(story, batch(name, 900_000))


@waits_for(200)
def large_over_http_2(story, name):
    return http_2(story, frames_of(batch(name, 900_000)))


@waits_for(200)
def large_and_half_of_it_later_over_http_1(story, name):
    return http_1(story, batch(name, 900_000), later=450_000)


@waits_for(200)
def large_and_half_of_it_later_over_http_2(story, name):
    return http_2(story, frames_of(batch(name, 900_000)), later=30)


@waits_for(200)
def the_head_alone_over_http_1(story, name):
    """The whole body comes when the keys are there."""
    return http_1(story, batch(name), later=0)


@waits_for(200)
def the_head_alone_over_http_2(story, name):
    return http_2(story, [batch(name)], later=0)


@waits_for(200)
def all_but_the_end_over_http_2(story, name):
    return http_2(story, [batch(name), b""], later=1)


@waits_for(200)
def slowly_in_chunks(story, name):
    with Http1(story.port, timeout=40) as client:
        client.send(head(signed(), "transfer-encoding: chunked"))
        for chunk in slowly(story, chunks(*frames_of(batch(name, 60_000), 300))):
            client.send(chunk)
        client.send(LAST_CHUNK)
        return client.answer()


@waits_for(200)
def slowly_in_frames(story, name):
    with Http2(story.port, timeout=40) as client:
        stream = client.begin(signed())
        frames = frames_of(batch(name, 60_000), 300)
        for number, frame in enumerate(slowly(story, frames), 1):
            send_frame(client, stream, frame, end=number == len(frames))
        return client.answer(stream)


@waits_for(200)
def with_trailers(story, name):
    """Over HTTP/2 they are the end of a body."""
    with Http2(story.port, timeout=40) as client:
        return client.request(signed(), [batch(name)], {"x-checksum": "1"})


@waits_for(200)
def with_trailers_later(story, name):
    with Http2(story.port, timeout=40) as client:
        stream = client.begin(signed(), [batch(name)])
        story.keys_are_there.wait()
        client.connection.send_headers(stream, encoded([("x-checksum", "1")]), end_stream=True)
        client.flush()
        return client.answer(stream)


@waits_for(200)
def without_a_key_id(story, name):
    """The signature holds with none of the keys that are known, so there may be another."""
    return http_1(story, batch(name), signed(kid=None))


@waits_for(401)
def without_a_key_id_by_a_stranger(story, name):
    return http_1(story, batch(name), signed(STRANGER, kid=None))


@waits_for(401)
def by_a_key_that_is_nowhere(story, name):
    return http_1(story, batch(name), signed(kid="nowhere"))


@waits_for(401)
def by_a_stranger_with_the_keys_id(story, name):
    return http_1(story, batch(name), signed(STRANGER))


@waits_for(401)
def expired(story, name):
    return http_1(story, batch(name), signed(lifetime=-120))


@waits_for(413)
def too_large_over_http_1(story, name):
    return http_1(story, batch(name, LIMIT))


@waits_for(413)
def too_large_over_http_2(story, name):
    return http_2(story, frames_of(batch(name, LIMIT)))


@waits_for(413)
def too_large_in_chunks(story, name):
    return in_chunks(story, batch(name, LIMIT))


@waits_for(413)
def too_large_and_half_of_it_later(story, name):
    return http_1(story, batch(name, 2 * LIMIT), later=LIMIT)


@waits_for(413)
def too_large_and_a_little_of_it_before_the_keys(story, name):
    return http_1(story, batch(name, 2 * LIMIT), later=100_000)


@waits_for(413)
def far_too_large_in_chunks(story, name):
    return in_chunks(story, batch(name, 6 * LIMIT))


@waits_for(413)
def far_too_large_as_announced(story, name):
    """Nobody waits for such a body to come."""
    with Http1(story.port, timeout=40) as client:
        client.send(head({**signed(), "content-length": str(20 * LIMIT)}), b"{")
        return client.answer()


@waits_for(200)
def compressed(story, name):
    return http_1(story, gzip.compress(batch(name)), {**signed(), "content-encoding": "gzip"})


@waits_for(415)
def compressed_in_another_way(story, name):
    return http_1(story, batch(name), {**signed(), "content-encoding": "br"})


@waits_for(400)
def without_a_body_over_http_1(story, name):
    return http_1(story, b"")


@waits_for(400)
def without_a_body_over_http_2(story, name):
    return http_2(story, [])


@waits_for(400)
def no_json(story, name):
    return http_1(story, b"{")


@waits_for(429)
def by_one_who_has_sent_too_much(story, name):
    return http_1(story, batch(name), signed(sub="spent"))


@waits_for(502)
def and_the_backend_fails(story, name):
    return http_1(story, batch(name))


@waits_for(None)
def and_leaves_while_it_is_exported(story, name):
    with Http1(story.port, timeout=40) as client:
        body = batch(name)
        client.send(head({**signed(), "content-length": str(len(body))}), body)
        wait_until(lambda: story.at_the_backend(name), 40, "the record to be at the backend")


def http_1(story, body, headers=None, later=None):
    """Sends a request; what of its body comes behind `later` when the keys are there."""
    with Http1(story.port, timeout=40) as client:
        client.send(head({**(headers or signed()), "content-length": str(len(body))}), body[:later])
        if later is not None:
            story.keys_are_there.wait()
            client.send(body[later:])
        return client.answer()


def http_2(story, frames, later=None):
    """The same in frames."""
    with Http2(story.port, timeout=40) as client:
        if later is None:
            return client.request(signed(), frames)
        stream = client.begin(signed(), frames[:later])
        story.keys_are_there.wait()
        for number, frame in enumerate(frames[later:], later + 1):
            send_frame(client, stream, frame, end=number == len(frames))
        return client.answer(stream)


def send_frame(client, stream, frame, end):
    client.connection.send_data(stream, frame, end_stream=end)
    client.flush()


def slowly(story, parts):
    """As from a bad line, until the keys are there; the last part is sent after them."""
    for part in parts[:-1]:
        story.keys_are_there.wait(0.05)
        yield part
    story.keys_are_there.wait()
    yield parts[-1]


def in_chunks(story, body):
    with Http1(story.port, timeout=40) as client:
        client.send(head(signed(), "transfer-encoding: chunked"), *chunks(*frames_of(body)), LAST_CHUNK)
        return client.answer()


class Waits:
    """All of WAITING at once, and some clients that leave.

    answers   {name: status}
    began     {name: when the request was sent}
    ended     {name: when its answer was there}
    known     [Seen, …] of requests by the key that was known, meanwhile
    refused   the same of those by a stranger who says it was that key
    fetches   those that the host saw
    taken     {message: how often it was taken}
    """

    def __init__(self, workers):
        self.keys_are_there = threading.Event()
        self.stuck = hang()
        self.answers, self.began, self.ended = {}, {}, {}
        # What is spent is missed for long.
        limits = {"user": {"max_tokens": 2000, "tokens_per_fill": 1, "fill_interval_ms": 10_000}, "session": None}
        # Each goes to the backend alone and at once, so that what it answers to one is that one's affair.
        export = {"max_batch_bytes": 1, "max_in_flight": 100, "max_retries": 0, "try_timeout_ms": 10_000}
        with Identity(FIRST.jwk("first")) as host:
            id_host = provider("id", "ES256", timeout_ms=2000)
            with trusting((id_host, host), workers=workers, config={"rate_limits": limits, "export": export}) as gate:
                self.gate, self.port = gate, gate.envoy.port()
                self.tell(host)
                gate.good_on_every_worker()
                self.counters, self.fetches, self.taken = gate.counters(), host.fetches, bodies(gate.backend)

    def tell(self, host):
        settled(self.gate)
        # More than there is, in requests of no more than max_records.
        for records in (1_000, 999, 1_000):
            assert self.gate.send({"logs": [{}] * records}, sub="spent").status_code == 200
        self.gate.backend.decide = self.decide
        host.publish(FIRST.jwk("first"), SECOND.jwk("second"))
        # Long enough to see that nobody is answered while they are fetched.
        host.answer = lambda document: key_set(document, delay=1.0)
        with Http2(self.port, timeout=40) as leaving, concurrent.futures.ThreadPoolExecutor(len(WAITING)) as threads:
            self.leave(leaving)
            asked = {threads.submit(self.ask, name, function): name for name, (_, function) in WAITING.items()}
            self.known, self.refused = [], []
            while len(host.fetches) < 2:
                self.known.append(send(self.gate))
                self.refused.append(send(self.gate, key=STRANGER))
            try:
                for future in concurrent.futures.as_completed(asked):
                    self.answers[asked[future]] = future.result()
                    if asked[future] == "small_over_http_1":
                        self.keys_are_there.set()
            finally:
                self.keys_are_there.set()
            # He has left long ago, and nothing is resumed in his place.
            self.stuck.release()
            wait_until(lambda: self.gate.counters().get("clients_gone") == 1, 10, "the filter to see one leave")
            assert leaving.request(signed(FIRST, "first"), [batch("the connection is still good")]).status == 200

    def ask(self, name, function):
        self.began[name] = time.monotonic()
        answer = function(self, name)
        self.ended[name] = time.monotonic()
        return answer and answer.status

    def leave(self, http2):
        """Clients that are gone when the keys come, after or within their requests."""
        before, number = self.gate.counters()["requests"], itertools.count(1)

        def seen_by_the_filter():
            least = before + next(number)
            wait_until(lambda: self.gate.counters()["requests"] >= least, 10, "the filter to see a request")

        body = batch("left")
        whole = head({**signed(), "content-length": str(len(body))}), body
        for parts in (whole, whole[:1], [whole[0], body[:10]]):
            with Http1(self.port) as client:
                client.send(*parts)
                seen_by_the_filter()
        for frames, end in (([body], True), ([], False), ([body[:10]], False)):
            stream = http2.begin(signed(), frames, end=end)
            seen_by_the_filter()
            http2.reset(stream)
        with Http2(self.port) as client:
            for _ in range(2):
                client.begin(signed(), [body], end=True)
                seen_by_the_filter()

    def decide(self, request):
        messages = [record["body"] for record in request.records]
        if "and_the_backend_fails" in messages:
            return status(500)
        return self.stuck if "and_leaves_while_it_is_exported" in messages else None

    def at_the_backend(self, message):
        return message in [record["body"] for record in self.gate.backend.records]


@pytest.fixture(scope="module")
def waits():
    return with_each(Waits)[Waits]


@each_number_of_workers
class TestARequestWaitsForItsKey:
    @pytest.mark.parametrize("name", WAITING)
    def test_and_is_answered_as_any_other(self, waits, workers, name):
        told, (expected, _) = waits[workers], WAITING[name]
        assert told.answers[name] == expected
        assert told.taken[name] == (expected in (200, None))

    @pytest.mark.parametrize("name", WAITING)
    def test_not_before_the_keys_are_there(self, waits, workers, name):
        """Neither 413 nor 401 can be said of one who isn't known: both make clients lose records."""
        told = waits[workers]
        assert told.began[name] < told.fetches[1].time
        assert told.ended[name] > told.fetches[1].time + 1.0 - SLACK

    def test_one_fetch_serves_all(self, waits, workers):
        told = waits[workers]
        assert len(told.fetches) == told.counters["key_fetches"] == 2
        assert told.fetches[1].time - told.fetches[0].time >= FAR_APART

    def test_others_do_not(self, waits, workers):
        """Whose key is known is taken, or refused, at once."""
        told = waits[workers]
        assert len(told.known) > 10
        assert {seen.status for seen in told.known} == {200}
        assert {seen.status for seen in told.refused} == {401}
        assert max(seen.seconds for seen in told.known + told.refused) < 3

    def test_who_leaves_breaks_nothing(self, waits, workers):
        told = waits[workers]
        assert told.counters["clients_gone"] == 1
        assert told.taken["left"] == 0
        assert told.taken["the connection is still good"] == 1


# Keys rotate under load.

class Rotation:
    """Ten new keys, one each 1.5 s, and clients whose tokens are by the newest of them from the
    moment at which the host serves it. Others go on with older ones.

    seen      {key id: [Seen, …]}
    sent      {message: status}
    taken     {message: how often it was taken}
    """

    KEYS = [tokens.ec_key(f"rotation {number}") for number in range(11)]
    INTERVAL = 1.5
    CLIENTS, AT_ONCE = 8, 4

    def __init__(self, workers):
        self.seen, self.sent, self.lock = {}, {}, threading.Lock()
        self.published, self.ended = 0, threading.Event()
        with Identity() as host, concurrent.futures.ThreadPoolExecutor(80) as threads:
            self.publish(host, 0)
            with trusting((provider("id", "ES256"), host), workers=workers) as gate:
                self.gate = gate
                gate.key = self.KEYS[0]
                settled(gate)
                try:
                    self.tell(host, threads)
                finally:
                    self.ended.set()
                gate.good_on_every_worker()
                self.counters, self.fetches, self.intervals = gate.counters(), host.fetches, host.intervals()
                self.taken = bodies(gate.backend)

    def tell(self, host, threads):
        running = [threads.submit(self.client, number) for number in range(self.CLIENTS)]
        for number in range(1, len(self.KEYS)):
            time.sleep(self.INTERVAL)  # the interval of rotation
            self.publish(host, number)
            # One after the other, not only the fastest client has a token by the newest key at once.
            running += [threads.submit(self.until_taken, number) for _ in range(self.AT_ONCE)]
        for future in running[self.CLIENTS:]:
            future.result()
        self.ended.set()
        for future in running:
            future.result()

    def publish(self, host, newest):
        host.publish(*(key.jwk(f"key-{number}") for number, key in enumerate(self.KEYS[:newest + 1])))
        self.published = newest

    def client(self, number):
        """Half of the clients use the newest key, the others any."""
        random = Random(number)
        while not self.ended.is_set():
            self.ask(self.published if number % 2 else random.randint(0, self.published))

    def until_taken(self, number):
        """A client that comes again for as long as it is told to."""
        for _ in range(20):
            seen = self.ask(number)
            if not seen.is_put_off:
                return
            self.ended.wait(int(seen.retry_after))

    def ask(self, number):
        message = str(uuid.uuid4())
        seen = send(self.gate, message, self.KEYS[number], f"key-{number}")
        with self.lock:
            self.seen.setdefault(number, []).append(seen)
            self.sent[message] = seen.status
        return seen


@pytest.fixture(scope="module")
def rotation():
    told = with_each(Rotation)[Rotation]
    for workers, story in told.items():
        every = [seen for each in story.seen.values() for seen in each]
        print(f"{workers} worker(s): {Counter(seen.status for seen in every)}, "
              f"{sum(seen.seconds > 1 for seen in every)} waited, {max(seen.seconds for seen in every):.1f} s at most, "
              f"{len(story.fetches)} fetches")
    return told


@each_number_of_workers
class TestKeysRotateUnderLoad:
    def test_nobody_is_refused(self, rotation, workers):
        """A wrong 401 silences a client until its user logs in again."""
        told = rotation[workers]
        assert told.seen.keys() == set(range(len(told.KEYS)))
        for number, seen in told.seen.items():
            assert all(each.status == 200 or each.is_put_off for each in seen), (number, seen)
            assert sum(each.status == 200 for each in seen) >= (told.AT_ONCE if number else 1)

    def test_what_was_taken_is_at_the_backend(self, rotation, workers):
        told = rotation[workers]
        taken = [message for message, code in told.sent.items() if code == 200]
        assert [told.taken[message] for message in taken] == [1] * len(taken)
        assert not [message for message, code in told.sent.items() if code != 200 and told.taken[message]]

    def test_fetches_are_far_apart(self, rotation, workers):
        told = rotation[workers]
        assert min(told.intervals) >= FAR_APART


# Key ids that somebody makes up.

MOST_WAITING = 64  # requests of one worker


REST = tokens.mint(SECOND).split(".")[1:]


def made_up():
    """The headers of a request by a key id that nobody has ever heard of. The rest of its token is
    the same each time, so that ten thousand of them cost the test little."""
    header = tokens.part({"alg": "ES256", "kid": uuid.uuid4().hex, "typ": "JWT"})
    return {"authorization": f"Bearer {'.'.join([header, *REST])}", "content-type": "application/json"}


class Many(Http2):
    """A connection with many streams at once, all small requests."""

    def __init__(self, port):
        super().__init__(port, timeout=40)
        self.partly = {}  # of answers whose end isn't there yet

    def start(self, headers, message="by a made-up key"):
        """The number of a stream on which a request is sent."""
        stream = self.connection.get_next_available_stream_id()
        self.queue(headers, batch(message))
        self.flush()
        return stream

    def next_answers(self):
        """Waits for something to come in. {stream: Seen} of the answers that are complete with it."""
        if not self.events:
            self._receive()
        complete = {}
        for event in self.events:
            assert not isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)), event
            if isinstance(event, h2.events.ResponseReceived):
                headers = dict(event.headers)
                self.partly[event.stream_id] = Seen(int(headers[b":status"]), headers.get(b"retry-after", b"").decode())
            elif isinstance(event, h2.events.DataReceived):
                # Or the window of the connection would be used up after some hundreds of answers.
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                complete[event.stream_id] = self.partly.pop(event.stream_id)
        self.events = []
        self.flush()
        return complete

    def answers(self, streams):
        """{stream: Seen} of these."""
        complete = {}
        while not complete.keys() >= set(streams):
            complete.update(self.next_answers())
        assert complete.keys() == set(streams)
        return complete

    def is_silent(self, seconds):
        return not self.events and not select.select([self.socket], [], [], seconds)[0]


class Crowd:
    """More requests than may wait, all with one worker; some of them leave again.

    first     [Seen, …] of those for whom there was no room
    room      whether there was some when others had left
    second    {stream: Seen} of those that then waited
    good      the stream of the one among them whose key there is
    """

    def __init__(self, workers):
        with Identity(FIRST.jwk("first")) as host, trusting((provider("id", "ES256"), host), workers=workers) as gate:
            settled(gate)
            host.publish(FIRST.jwk("first"), SECOND.jwk("second"))
            with Many(gate.envoy.port()) as client:
                streams = {client.start(made_up()) for _ in range(MOST_WAITING + 30)}
                self.first = {}
                while len(self.first) < 30:
                    self.first.update(client.next_answers())
                self.others_wait = client.is_silent(0.3)
                self.meanwhile = [send(gate) for _ in range(20)]
                for stream in streams - self.first.keys():
                    client.reset(stream)
                # They have left before those come that are sent behind them.
                self.good = client.start(signed(), "good")
                streams = {client.start(made_up()) for _ in range(MOST_WAITING - 1)} | {self.good}
                self.room = client.is_silent(0.3)
                self.fetches_before = len(host.fetches)
                self.second = client.answers(streams)
                # And now there is room for as many again.
                streams = {client.start(made_up()) for _ in range(MOST_WAITING)}
                self.room_again = client.is_silent(0.3)
            gate.good_on_every_worker()
            self.intervals, self.taken = host.intervals(), bodies(gate.backend)


@pytest.fixture(scope="module")
def crowd(late_host_and_crowd):
    return late_host_and_crowd[Crowd]


@each_number_of_workers
class TestACrowdWaits:
    def test_for_whom_there_is_no_room_is_put_off(self, crowd, workers):
        told = crowd[workers]
        assert len(told.first) == 30 and all(seen.is_put_off for seen in told.first.values()), told.first
        assert told.others_wait

    def test_whose_key_is_known_need_not_wait(self, crowd, workers):
        assert {seen.status for seen in crowd[workers].meanwhile} == {200}

    def test_who_leaves_makes_room(self, crowd, workers):
        assert crowd[workers].room and crowd[workers].fetches_before == 1

    def test_who_is_answered_makes_room(self, crowd, workers):
        assert crowd[workers].room_again

    def test_each_has_its_own_answer(self, crowd, workers):
        """In several steps, since Envoy can't send so many answers in one."""
        told = crowd[workers]
        assert Counter(seen.status for seen in told.second.values()) == {401: MOST_WAITING - 1, 200: 1}
        assert told.second[told.good].status == 200
        assert told.taken["good"] == 1 and told.taken["by a made-up key"] == 0

    def test_one_fetch_serves_all(self, crowd, workers):
        (interval,) = crowd[workers].intervals
        assert interval >= FAR_APART


class Flood:
    """Tokens with random key ids, each on a stream of its own.

    seen        Counter of statuses
    put_off     the different {Seen, …} of those that shall come back
    seconds     what it took
    good        [Seen, …] of requests by a good token, meanwhile
    grown       by how many bytes Envoy's memory grew
    """

    # So many tokens at least, for so many seconds at least.
    TOKENS, SECONDS = (10_000, 25) if LONG else (500, 0)
    CONNECTIONS = 32 if LONG else 4
    STREAMS = 16 if LONG else 64

    def __init__(self, workers):
        self.seen, self.put_off, self.sent, self.lock = Counter(), set(), 0, threading.Lock()
        with Identity(FIRST.jwk("first")) as host, trusting((provider("id", "ES256"), host), workers=workers) as gate:
            self.gate = gate
            settled(gate)
            # What it costs to have so many connections is no growth.
            clients = [Many(gate.envoy.port()) for _ in range(self.CONNECTIONS)]
            for client in clients:
                client.answers([client.start(signed(FIRST, "first")) for _ in range(self.STREAMS)])
            before, self.began = self.memory(), time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(self.CONNECTIONS) as threads:
                running = [threads.submit(self.flood, client) for client in clients]
                self.good = []
                while not all(future.done() for future in running):
                    self.good.append(send(gate))
            for future in running:
                future.result()
            self.seconds = time.monotonic() - self.began
            gate.good_on_every_worker()
            self.grown = self.memory() - before
            for client in clients:
                client.socket.close()
            self.counters, self.fetches, self.intervals = gate.counters(), host.fetches, host.intervals()

    def memory(self):
        """Envoy's resident memory in bytes."""
        with open(f"/proc/{self.gate.envoy.pid}/status") as lines:
            (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
        return int(kilobytes) * 1024

    def flood(self, client):
        """Keeps so many streams of the connection busy until enough tokens are sent."""
        busy = set()
        while True:
            with self.lock:
                more = self.STREAMS - len(busy)
                if time.monotonic() - self.began >= self.SECONDS:
                    more = min(more, max(0, self.TOKENS - self.sent))
                self.sent += more
            busy |= {client.start(made_up()) for _ in range(more)}
            if not busy:
                return
            complete = client.next_answers()
            busy -= complete.keys()
            with self.lock:
                self.seen.update(seen.status for seen in complete.values())
                self.put_off |= {seen for seen in complete.values() if seen.status == 503}


@pytest.fixture(scope="module")
def flood():
    told = with_each(Flood)[Flood]
    for workers, story in told.items():
        print(f"{workers} worker(s): {dict(story.seen)} in {story.seconds:.1f} s, {len(story.fetches)} fetches, "
              f"{story.grown / 2**20:+.1f} MiB; {len(story.good)} good ones meanwhile, "
              f"{max(seen.seconds for seen in story.good):.2f} s at most")
    return told


@each_number_of_workers
class TestAFloodOfMadeUpKeyIds:
    def test_is_refused_or_put_off(self, flood, workers):
        told = flood[workers]
        assert told.seen.keys() == {401, 503} and sum(told.seen.values()) == told.sent >= told.TOKENS
        assert all(seen.is_put_off for seen in told.put_off)

    def test_costs_the_identity_host_next_to_nothing(self, flood, workers):
        told = flood[workers]
        assert min(told.intervals) >= FAR_APART
        assert len(told.fetches) <= 2 + told.seconds / ON_DEMAND

    def test_good_ones_are_taken_meanwhile(self, flood, workers):
        told = flood[workers]
        assert {seen.status for seen in told.good} == {200}
        assert len(told.good) > 20 and max(seen.seconds for seen in told.good) < 3

    def test_costs_no_memory(self, flood, workers):
        assert flood[workers].grown < 8 * 2**20


# Keys are fetched again before they are too old, and tokens are remembered no longer than their keys.

class Periods:
    """A key rotates, and no token asks for it; the next one does while that one is on its way.

    remembered  {what was sent: how many tokens were remembered by then}
    by_new      [Seen, …] of requests by the new key, one for each worker, when it must be known
    by_old      {worker: status} of the old key's remembered token after that
    by_next     Seen of a request by the key after the new one
    """

    SECONDS = 10
    COUNT = 10 if LONG else 2

    def __init__(self, workers):
        with Identity(FIRST.jwk("first")) as host:
            made = provider("id", "ES256", cache_seconds=self.SECONDS, timeout_ms=2000)
            with trusting((made, host), workers=workers) as gate:
                settled(gate)
                self.tell(gate, host)
                self.intervals, self.counters = host.intervals(), gate.counters()
                gate.key = SECOND
                gate.good_on_every_worker()

    def tell(self, gate, host):
        token = tokens.mint(FIRST, header={"kid": "first"}, sub="remembered")
        before, connections = gate.counters(), gate.workers()
        self.remembered = {}

        def note(what):
            self.remembered[what] = gate.counted(before).get("tokens_remembered", 0)

        for what in ("first", "second", "third"):
            assert [post(connection, token) for connection in connections.values()] == [200] * len(connections)
            note(what)
        for _ in connections:
            assert send(gate).status == 200
        note("others")

        host.publish(SECOND.jwk("second"))
        assert [post(connection, token) for connection in connections.values()] == [200] * len(connections)
        note("retired")
        # The set that is answered was made before the next key was there.
        host.answer = lambda document: key_set(document, delay=1.0)
        host.wait_for(2, timeout=2 * self.SECONDS)
        fetched = time.monotonic()
        host.publish(SECOND.jwk("second"), THIRD.jwk("third"))
        with concurrent.futures.ThreadPoolExecutor(len(connections) + 1) as threads:
            by_next = threads.submit(send, gate, key=THIRD, kid="third")
            self.by_new = list(threads.map(lambda _: send(gate, key=SECOND, kid="second"), connections))
            self.fetches_by_then = len(host.fetches)
            # A worker looks once a second for what another one has fetched.
            wait_until(lambda: time.monotonic() > fetched + 6, 8, "each worker to have the keys")
            self.by_old = dict(zip(connections, threads.map(lambda each: post(each, token), connections.values())))
            self.by_next = by_next.result()
        note("refused")
        host.wait_for(1 + self.COUNT, timeout=2 * self.SECONDS * self.COUNT)


@pytest.fixture(scope="module")
def periods(failures_and_periods):
    told = failures_and_periods[Periods]
    for workers, story in told.items():
        print(f"{workers} worker(s): fetches {', '.join(f'{interval:.2f}' for interval in story.intervals)} s apart")
    return told


@each_number_of_workers
class TestPeriods:
    def test_there_is_one_fetch_in_each(self, periods, workers):
        """For all workers together; a little early, and a second late at the most."""
        told = periods[workers]
        assert len(told.intervals) == told.COUNT
        assert all(told.SECONDS - SLACK <= interval <= told.SECONDS + 2 for interval in told.intervals), told.intervals
        assert told.counters["key_fetches"] == 1 + told.COUNT and "key_fetches_failed" not in told.counters

    def test_a_rotated_key_is_known_before_anybody_asks(self, periods, workers):
        told = periods[workers]
        assert all(seen.status == 200 and seen.seconds < 3 for seen in told.by_new), told.by_new
        assert told.fetches_by_then == 2

    def test_a_key_that_comes_during_a_fetch_is_in_the_next(self, periods, workers):
        """What was fetched says nothing of it, so it is no reason for a 401."""
        seen = periods[workers].by_next
        assert seen.status == 200 and seen.seconds > 5, seen

    def test_a_token_is_remembered_by_each_worker(self, periods, workers):
        """From its second request on; other tokens of the user are not it."""
        told = periods[workers].remembered
        expected = {"first": 0, "second": 1, "third": 2, "others": 2, "retired": 3}
        assert {what: told[what] for what in expected} == {what: count * workers for what, count in expected.items()}

    def test_but_not_when_its_key_is_gone(self, periods, workers):
        told = periods[workers]
        assert told.by_old == {worker: 401 for worker in told.by_old} and len(told.by_old) == workers
        assert told.remembered["refused"] == told.remembered["retired"]


# Two hosts, of either of which a key may be.

class Siblings:
    """Two providers for the same tokens. One after the other: both serve what they should, one of
    them fails, both are well again.

    new       Seen of a request by a new key of the second host
    stranger  the same of one by nobody's key with the id of a key of the first host
    nowhere   {phase: the same of one by a key id that neither has}
    known     {phase: statuses of requests by a key of the first host, meanwhile}
    """

    PHASES = {"both are well": 401, "one fails": 503, "both are well again": 401}

    def __init__(self, workers):
        self.nowhere, self.known = {}, {}
        with Identity(FIRST.jwk("first")) as one, Identity(STRANGER.jwk("another")) as other:
            trusted = (provider("one", "ES256"), one), (provider("other", "ES256"), other)
            with trusting(*trusted, workers=workers) as gate, concurrent.futures.ThreadPoolExecutor(3) as threads:
                settled(gate, FIRST, STRANGER)
                other.publish(STRANGER.jwk("another"), SECOND.jwk("second"))
                new = threads.submit(send, gate, key=SECOND, kid="second")
                stranger = threads.submit(send, gate, key=THIRD, kid="first")
                self.nowhere_during("both are well", gate, threads)
                self.new, self.stranger = new.result(), stranger.result()
                other.answer = status(500)
                self.nowhere_during("one fails", gate, threads)
                other.answer = None
                self.nowhere_during("both are well again", gate, threads)
                gate.good_on_every_worker()

    def nowhere_during(self, phase, gate, threads):
        asked = threads.submit(send, gate, key=THIRD, kid="nowhere")
        self.known[phase] = []
        while not asked.done():
            self.known[phase].append(send(gate).status)
        self.nowhere[phase] = asked.result()


@pytest.fixture(scope="module")
def siblings(failures_and_periods):
    return failures_and_periods[Siblings]


@each_number_of_workers
class TestTwoHosts:
    def test_a_new_key_of_the_second_is_found(self, siblings, workers):
        assert siblings[workers].new.status == 200

    def test_a_strangers_is_found_nowhere(self, siblings, workers):
        """Also if the first host has a key of that id: the second might have another one."""
        assert siblings[workers].stranger.status == 401

    @pytest.mark.parametrize("phase", Siblings.PHASES)
    def test_nobody_is_refused_while_one_of_them_can_not_be_asked(self, siblings, workers, phase):
        seen = siblings[workers].nowhere[phase]
        assert seen.status == Siblings.PHASES[phase] and seen.is_put_off == (seen.status == 503), seen

    @pytest.mark.parametrize("phase", Siblings.PHASES)
    def test_who_is_known_need_not_wait_for_the_other(self, siblings, workers, phase):
        assert set(siblings[workers].known[phase]) == {200}
