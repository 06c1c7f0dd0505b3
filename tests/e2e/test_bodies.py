"""Bodies that a parser could stumble over, through the release module: what is JSON is taken,
what is none is refused with 400, and the VM lives. tests/native has more of them, without Envoy."""

import json

import pytest

from harness.corners import PLACES, STRINGS, bodies
from harness.gateways import serving

SHOWN = 10


@pytest.fixture(scope="module")
def gate(wasm_module, session_key, sink):
    config = {"rate_limits": None, "mapping": {"window": None}}
    with serving(sink, session_key, config=config) as gate:
        yield gate


def wanted(place, body, is_json):
    """Status and title, of which 200 has none."""
    if not body:
        return 400, "The request has no body"
    if not is_json:
        return 400, "The body is not JSON"
    return (400, "The body has no array of logs") if place == "body" else (200, None)


@pytest.mark.parametrize("place", PLACES)
def test_values(gate, place):
    wrong = []
    for body, is_json in bodies(place):
        answer = gate.send(body)
        found = answer.status_code, answer.json().get("title")
        if found != wanted(place, body, is_json):
            wrong.append((found, body if len(body) < 200 else body[:60] + b"..." + body[-60:]))
    gate.good_on_every_worker()
    assert not wrong, "\n".join(map(repr, wrong[:SHOWN]))


def test_what_ends_a_run_of_plain_characters_is_seen_wherever_it_stands(gate):
    """The module looks at sixteen bytes at once, which the native tests do in another way."""
    texts = ["a" * place + odd + "b" * (50 - place) for odd in '"\\\n\x01\x7fé😀' for place in range(50)]
    body = json.dumps({"logs": [{"message": text} for text in texts]}, ensure_ascii=False).encode()
    assert [record["body"] for record in gate.deliver(body).records] == texts
    for place in range(50):
        for raw in (b"\n", b"\x1f", b"\xff", b"\\x"):
            broken = b'{"logs":["' + b"a" * place + raw + b"b" * (50 - place) + b'"]}'
            assert gate.send(broken).status_code == 400, (place, raw)
    gate.good_on_every_worker()


@pytest.mark.parametrize("escaped", [False, True])
def test_strings(gate, escaped):
    """Each arrives with the same characters, wherever it stood."""
    for text in STRINGS:
        name = f"n{text}"[:64]
        fields = {"message": text, "logger": text, "sessionId": text, "stackTrace": text,
                  "attributes": {name: text, "list": [text]}}
        body = json.dumps({"logs": [fields]}, ensure_ascii=escaped).encode()
        (record,) = gate.deliver(body).records
        kept = record["attributes"]
        found = [record["body"], record["scope"], kept["session.id"], kept["exception.stacktrace"], kept[name]]
        assert [*found, *kept["list"]] == [text] * 6
    gate.good_on_every_worker()
