"""What the backend's answer means for those whose records an export carried: what can never be
accepted is found and told, what fails for now is tried again, and who asks to be left alone is."""

import json
import random
import threading
from email.utils import formatdate
from time import time

import pytest

from harness.backend import Backend
from harness.behaviours import BEFORE_HEADERS, BEFORE_READ, MID_BODY, accept, broken, hang, html, status
from harness.common import wait_until
from harness.crowd import Crowd, outcome
from harness.gateways import serving
from harness.rawhttp import Http1, head

# What hangs must hang until the test lets it go, however slow the machine is.
EXPORT = {"max_in_flight": 1, "timeout_ms": 13_000, "try_timeout_ms": 12_000}
POISON = "poison"


@pytest.fixture(scope="module")
def serve(wasm_module, session_key, sink):
    """serve(**export) is a gate of its own, as `serving` makes it."""
    return lambda **export: serving(sink, session_key, config={"export": {**EXPORT, **export}, "rate_limits": None})


@pytest.fixture(scope="module")
def shared_gate(serve):
    with serve() as gate:
        yield gate


@pytest.fixture
def fresh(serve, sink):
    """A gate that no other test has used: what a backend asked for may last for minutes."""
    sink.forget()
    with serve() as gate:
        yield gate
    sink.forget()


def batch(*messages):
    return {"logs": [{"message": message} for message in messages]}


def numbered(name, count):
    return batch(*(f"{name}.{number}" for number in range(count)))


def bodies(records):
    return [record["body"] for record in records]


def together(gate, sink, *batches):
    """Sends them such that they go out as one export. Their outcomes."""
    stuck, before = hang(), len(sink.requests)
    sink.script(stuck)
    with Crowd(gate, http2=True) as crowd:
        crowd.send([batch("first")])
        sink.wait_for(before + 1)
        crowd.send(batches).parked()
        stuck.release()
        outcomes = crowd.outcomes()
    assert outcomes[0] == (200, 1, 0)
    return outcomes[1:]


class TestWhatCanNeverBeAccepted:
    @pytest.fixture(params=[400, 413, 422])
    def poisonous(self, request, sink):
        """The backend refuses every export that holds a poisoned record, as a whole."""
        def decide(received):
            if any(POISON in str(record["body"]) for record in received.records):
                return status(request.param, b"one of them cannot be read")
            return None
        return decide

    def taken(self, sink):
        """What was delivered, each record once."""
        arrived = bodies(sink.taken_records)
        assert len(arrived) == len(set(arrived))
        return set(arrived)

    def test_the_culprit_is_found_in_a_batch(self, gate, sink, poisonous):
        sink.decide = poisonous
        messages = [f"a.{number}" for number in range(99)]
        answer = gate.send(batch(*messages[:40], POISON, *messages[40:]))
        assert outcome_of(answer) == (200, 99, 1)
        assert self.taken(sink) == set(messages)
        # Halving a hundred: two for each of seven levels, and what it takes to be sure.
        assert len(sink.requests) <= 20

    def test_several_culprits(self, gate, sink, poisonous):
        sink.decide = poisonous
        messages = [f"a.{number}" for number in range(100)]
        for number in (0, 1, 50, 99):
            messages[number] = f"{POISON}.{number}"
        assert outcome_of(gate.send(batch(*messages))) == (200, 96, 4)
        assert self.taken(sink) == {message for message in messages if POISON not in message}

    def test_one_record_alone(self, gate, sink, poisonous):
        sink.decide = poisonous
        # It has just been seen that the backend takes others.
        assert outcome_of(gate.send(batch("fine"))) == (200, 1, 0)
        assert outcome_of(gate.send(batch(POISON))) == (200, 0, 1)
        assert self.taken(sink) == {"fine"}

    def test_every_record(self, gate, sink, poisonous):
        sink.decide = poisonous
        assert outcome_of(gate.send(batch("fine"))) == (200, 1, 0)
        assert outcome_of(gate.send(batch(*(f"{POISON}.{number}" for number in range(8))))) == (200, 0, 8)

    def test_the_others_in_the_export_are_fine(self, gate, sink, poisonous):
        """Of ten requests one is to blame, and of its three records one."""
        sink.decide = poisonous
        batches = [numbered(f"b{number}", 3) for number in range(10)]
        batches[6] = batch("b6.0", POISON, "b6.2")
        outcomes = together(gate, sink, *batches)
        assert outcomes == [(200, 2, 1) if number == 6 else (200, 3, 0) for number in range(10)]
        wanted = {f"b{number}.{record}" for number in range(10) for record in range(3)} - {"b6.1"}
        assert self.taken(sink) == wanted | {"first"}
        assert len(sink.requests) <= 20

    def test_any_mixture(self, gate, sink, poisonous):
        """Each is told of its own, and nothing is lost or sent twice."""
        sink.decide = poisonous
        chance = random.Random(5)
        batches = []
        for number in range(40):
            size = chance.choice([1, 1, 2, 3, 10, 30])
            names = [f"b{number}.{record}" for record in range(size)]
            if chance.random() < 0.1:
                names[chance.randrange(size)] += POISON
            batches.append(batch(*names))
        outcomes = together(gate, sink, *batches)
        poisoned = [sum(POISON in record["message"] for record in each["logs"]) for each in batches]
        assert sum(poisoned) >= 3
        assert outcomes == [(200, len(each["logs"]) - bad, bad) for each, bad in zip(batches, poisoned)]
        wanted = {record["message"] for each in batches for record in each["logs"] if POISON not in record["message"]}
        assert self.taken(sink) == wanted | {"first"}

    def test_too_large_together(self, gate, sink):
        """413 is for the size of the whole: every part of it is fine."""
        sink.decide = lambda received: status(413) if len(received.body) > 8192 else None
        outcomes = together(gate, sink, *(numbered(f"b{number}", 10) for number in range(30)))
        assert outcomes == [(200, 10, 0)] * 30
        wanted = {f"b{number}.{record}" for number in range(30) for record in range(10)}
        assert self.taken(sink) == wanted | {"first"}

    def test_too_large_by_itself(self, gate, sink):
        """One client's batch has to be cut, and one of its records fits in no way."""
        sink.decide = lambda received: status(413) if len(received.body) > 8192 else None
        messages = [f"a.{number}" for number in range(100)]
        messages[17] = "x" * 9000
        assert outcome_of(gate.send(batch(*messages))) == (200, 99, 1)
        assert self.taken(sink) == set(messages) - {messages[17]}

    @pytest.mark.parametrize("code", [400, 413, 422])
    def test_a_backend_that_refuses_everything(self, gate, sink, code):
        """Then it is not the records: clients keep them, and it does not cost a callout for each."""
        sink.default = status(code, b"no")
        batches = [numbered(f"b{number}", 20) for number in range(20)]
        stuck = hang()
        sink.script(stuck)
        with Crowd(gate, http2=True) as crowd:
            crowd.send([batch("first")])
            sink.wait_for(1)
            crowd.send(batches).parked()
            stuck.release()
            outcomes = crowd.outcomes()[1:]
        assert all(each == (502,) or each[1:] == (0, 20) for each in outcomes), outcomes
        assert (502,) in outcomes
        assert len(sink.requests) <= 200, "for 400 records"

    @pytest.mark.parametrize("code", [400, 413, 422])
    def test_a_backend_that_has_never_accepted_anything(self, fresh, sink, code):
        """One record is refused by a backend of which nobody knows whether it accepts any."""
        sink.default = status(code, b"no")
        assert outcome_of(fresh.send(batch("one"))) == (502,)
        assert len(sink.requests) <= 10
        sink.default = accept()
        assert outcome_of(fresh.send(batch("one"))) == (200, 1, 0)

    def test_a_fault_in_the_middle_of_splitting(self, gate, sink):
        """A half that meets a fault that passes is tried again: the answer is as if nothing had happened."""
        faults = iter([status(500), broken(BEFORE_HEADERS), status(503, headers={"retry-after": "1"})])

        def decide(received):
            if any(POISON in record["body"] for record in received.records):
                return status(400)
            if len(received.records) < 32:
                return next(faults, None) if next(turns) % 2 else None
            return None
        turns = iter(range(1000))
        sink.decide = decide
        messages = [f"a.{number}" for number in range(63)]
        answer = outcome_of(gate.send(batch(*messages, POISON)))
        # The 503 may be more than the request's deadline allows: then the client keeps all.
        assert answer in [(200, 63, 1), (502,)]
        if answer == (200, 63, 1):
            assert set(bodies(sink.taken_records)) >= set(messages)
        sink.decide = None
        wait_until(lambda: gate.send(batch("over")).status_code == 200, 10, "the wait to be over")


def outcome_of(answer):
    if answer.status_code != 200:
        return (answer.status_code,)
    body = answer.json()
    return answer.status_code, body["accepted"], body["rejected"]


class TestWhoAsksToBeLeftAlone:
    @pytest.mark.parametrize("code", [429, 503])
    @pytest.mark.parametrize("said, told", [
        ("2", {2}), ("0", {1}), ("100000", {300}), ("9" * 30, {300}),
        (lambda: formatdate(time() + 120, usegmt=True), {119, 120}),
    ], ids=["seconds", "too short", "too long", "many digits", "a date"])
    def test_retry_after(self, fresh, sink, code, said, told):
        """Clients are told so, and nothing is sent meanwhile."""
        sink.default = status(code, b"slow down", headers={"retry-after": said() if callable(said) else said})
        answer = fresh.send(batch("a"))
        assert answer.status_code == 502
        assert int(answer.headers["retry-after"]) in told
        # A second is all the time that there is where none was asked for.
        for _ in range(1 if said == "0" else 5):
            answer = fresh.send(batch("b"))
            assert answer.status_code == 502
            assert 1 <= int(answer.headers["retry-after"]) <= max(told)
        assert len(sink.requests) == 1

    @pytest.mark.parametrize("code", [429, 503])
    @pytest.mark.parametrize("said", [None, "", "soon", "-5", "1.5"])
    def test_without_a_time(self, fresh, sink, code, said):
        """The gateway chooses one."""
        sink.default = status(code, headers={} if said is None else {"retry-after": said})
        answer = fresh.send(batch("a"))
        assert answer.status_code == 502
        assert 1 <= int(answer.headers["retry-after"]) <= 300
        assert fresh.send(batch("b")).status_code == 502
        assert len(sink.requests) == 1

    @pytest.mark.parametrize("code", [429, 503])
    def test_after_the_wait(self, fresh, sink, code):
        sink.script(status(code, headers={"retry-after": "1"}))
        assert fresh.send(batch("a")).status_code == 502
        wait_until(lambda: fresh.send(batch("b")).status_code == 200, 10, "the wait to be over")
        assert len(sink.requests) == 2
        assert [fresh.send(batch("c")).status_code for _ in range(3)] == [200] * 3

    def test_one_probe(self, wasm_module, serve, sink):
        """After the wait one export goes; until it is accepted no other, however many may be in flight."""
        sink.forget()
        probe = hang()
        sink.script(status(429, headers={"retry-after": "1"}), probe)
        with serve(max_in_flight=8) as gate:
            assert gate.send(batch("a")).status_code == 502
            answers = []

            def send(name):
                answers.append(gate.send(batch(name)))
            first = threading.Thread(target=lambda: wait_until(
                lambda: gate.send(batch("probe")).status_code == 200, 20, "the probe to be accepted"))
            first.start()
            sink.wait_for(2)
            others = [threading.Thread(target=send, args=[f"other-{number}"]) for number in range(5)]
            before = gate.counters()
            for other in others:
                other.start()
            wait_until(lambda: gate.counted(before).get("requests") == 5, 10, "five others to come")
            assert len(sink.requests) == 2
            probe.release()
            for thread in [first, *others]:
                thread.join()
            assert {answer.status_code for answer in answers} <= {200, 502}
            assert gate.send(batch("z")).status_code == 200
        taken = bodies(sink.taken_records)
        assert {f"other-{n}" for n in range(5)} & set(taken) == \
            {body for answer, body in ((a, json.loads(a.request.content)["logs"][0]["message"]) for a in answers)
             if answer.status_code == 200}
        sink.forget()

    def test_a_probe_that_fails(self, fresh, sink):
        """Then there is another wait."""
        sink.script(*(status(503, headers={"retry-after": seconds}) for seconds in "13"))
        assert fresh.send(batch("a")).status_code == 502
        wait_until(lambda: fresh.send(batch("b")).status_code == 502 and len(sink.requests) == 2, 10, "a probe to fail")
        assert fresh.send(batch("c")).status_code == 502
        assert len(sink.requests) == 2
        wait_until(lambda: fresh.send(batch("d")).status_code == 200, 10, "the wait to be over")
        assert len(sink.requests) == 3

    @pytest.mark.parametrize("code", [429, 503])
    def test_whoever_is_parked_is_told_at_once(self, fresh, sink, code):
        stuck = hang(status(code, headers={"retry-after": "60"}))
        sink.script(stuck)
        with Crowd(fresh, http2=True) as crowd:
            crowd.send([batch("first")])
            sink.wait_for(1)
            crowd.send([batch(f"b{number}") for number in range(30)]).parked()
            stuck.release()
            answers = crowd.answers()
        assert {answer.status for answer in answers} == {502}
        assert {1 <= int(answer.header("retry-after")) <= 60 for answer in answers} == {True}
        assert len(sink.requests) == 1


class TestWhatPasses:
    @pytest.mark.parametrize("fault", [
        status(500), status(502), status(504), status(408), broken(BEFORE_READ), broken(BEFORE_HEADERS),
        broken(BEFORE_HEADERS, reset=False), broken(MID_BODY), broken(MID_BODY, reset=False),
    ], ids=["500", "502", "504", "408", "RST before reading", "RST", "FIN", "RST in mid-answer", "FIN in mid-answer"])
    def test_is_tried_again(self, gate, sink, fault):
        sink.script(fault)
        assert outcome_of(gate.send(batch("a", "b"))) == (200, 2, 0)
        assert bodies(sink.taken_records) == ["a", "b"]

    def test_the_same_is_sent_again(self, gate, sink):
        sink.script(status(500), status(500))
        assert outcome_of(gate.send(batch("a", "b"))) == (200, 2, 0)
        assert len(sink.requests) == 3
        assert len({request.body for request in sink.requests}) == 1

    def test_an_answer_that_does_not_come(self, serve, sink):
        sink.forget()
        stuck = hang()
        sink.script(stuck)
        with serve(try_timeout_ms=2000) as gate:
            assert outcome_of(gate.send(batch("a"))) == (200, 1, 0)
            stuck.release()
            assert len(sink.requests) == 2
        sink.forget()

    def test_nobody_listens_yet(self, gate, sink, serve, session_key, wasm_module):
        """A backend that is restarted costs no client an error."""
        with Backend() as gone:
            pass
        config = {"export": {**EXPORT, "max_retries": 100}, "rate_limits": None}
        with serving(gone, session_key, config=config) as restarted:
            with Http1(restarted.envoy.port()) as client:
                body = json.dumps(batch("a")).encode()
                client.send(head({**restarted.bearer(), "content-length": str(len(body))}) + body)
                restarted.envoy.wait_for_stat("cluster.backend.upstream_cx_connect_fail")
                with Backend(gone.port) as back:
                    assert outcome(client.answer()) == (200, 1, 0)
                    assert bodies(back.taken_records) == ["a"]

    def test_not_for_ever(self, gate, sink):
        """A few tries, then the client is told: it keeps the records."""
        sink.default = status(500)
        assert outcome_of(gate.send(batch("a"))) == (502,)
        assert 2 <= len(sink.requests) <= 10

    def test_max_retries(self, serve, sink):
        sink.forget()
        with serve(max_retries=0) as gate:
            sink.default = status(500)
            assert outcome_of(gate.send(batch("a"))) == (502,)
            assert len(sink.requests) == 1
        sink.forget()

    def test_the_deadline(self, serve, sink):
        """Whatever else may be tried: the request is answered in its time, before Envoy gives it up (503)."""
        sink.forget()
        with serve(timeout_ms=1500, try_timeout_ms=1000, max_retries=100) as gate:
            stuck = hang()
            sink.default = stuck
            before = time()
            assert outcome_of(gate.send(batch("a"))) == (502,)
            # Three times as long is no matter of a busy machine.
            assert time() - before < 6
            stuck.release()
        sink.forget()

    def test_others_are_not_held_up(self, serve, sink):
        """While one export waits to be tried again, the next one goes."""
        sink.forget()
        bad = threading.Event()

        def decide(received):
            return status(500) if "bad" in bodies(received.records) and not bad.is_set() else None
        sink.decide = decide
        with serve(max_retries=100) as gate, Crowd(gate) as crowd:
            crowd.send([batch("bad")])
            sink.wait_for(1)
            for number in range(5):
                assert outcome_of(gate.send(batch(f"good-{number}"))) == (200, 1, 0)
            bad.set()
            assert crowd.outcomes() == [(200, 1, 0)]
        sink.forget()


class TestWhatIsTheOperators:
    @pytest.mark.parametrize("answer", [status(401), status(403), status(404), status(302), html()],
                             ids=["401", "403", "404", "302", "a portal"])
    def test_is_not_tried_again(self, gate, sink, answer):
        """And is never passed on: the client keeps the records."""
        sink.default = answer
        assert outcome_of(gate.send(batch("a"))) == (502,)
        assert len(sink.requests) == 1
        sink.default = accept()
        assert outcome_of(gate.send(batch("a"))) == (200, 1, 0)
