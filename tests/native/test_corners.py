"""Bodies made by hand, each held against the rules."""

import pytest

from harness.corners import ENVELOPES, MANY, PLACES, STRINGS, bodies, object_of
from harness.encoder import Request, encode, faults
from harness.jsontext import write

SHOWN = 10


@pytest.mark.parametrize("place", PLACES)
def test_values(place):
    """JSON is taken and all else refused, wherever it stands."""
    given = bodies(place)
    requests = [Request(body) for body, _ in given]
    wrong = []
    for (body, is_json), request, answer in zip(given, requests, encode(requests)):
        lines = faults(request, answer)
        if (answer.refused != "body_not_json") != is_json:
            lines.insert(0, "it is JSON" if is_json else "it is no JSON")
        if lines:
            wrong.append((body, lines))
    assert not wrong, f"{len(wrong)} of {len(given)}\n" + shown(wrong)


@pytest.mark.parametrize("name", ENVELOPES)
def test_envelopes(name):
    request = Request(ENVELOPES[name])
    lines = faults(request, *encode([request]))
    assert not lines, shown([(request.body, lines)])


@pytest.mark.parametrize("last", [b"service.name", b"one more"])
@pytest.mark.parametrize("configured", [1, 100])
def test_a_resource_that_is_full(configured, last):
    """What is configured has room, and a service name is always there."""
    body = b'{"resource":%b,"logs":[{}]}' % object_of([*MANY[1:], last])
    request = Request(body, resource={f"configured {number}": number for number in range(configured)})
    lines = faults(request, *encode([request]))
    assert not lines, shown([(request.body, lines)])


def test_strings():
    """Each in every place, as characters and as escapes."""
    requests = []
    for text in STRINGS:
        escaped, plain = write(text), '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for given in {escaped, plain} if all(char >= " " for char in text) else {escaped}:
            body = (
                f'{{"resource":{{{given}:{given}}},"logs":[{given},{{"message":{given},"logger":{given},"level":{given},"error":{given},'
                f'"timestamp":{given},"stackTrace":{given},"sessionId":{given},"traceId":{given},"active_run":{{{given}:{given}}},'
                f'"attributes":{{{given}:{given},"in":[{{{given}:{given}}}]}},{given}:{given}}}]}}'
            )
            requests.append(Request(body.encode()))
    found = [(request.body, faults(request, answer)) for request, answer in zip(requests, encode(requests))]
    wrong = [each for each in found if each[1]]
    assert not wrong, shown(wrong)


def shown(wrong):
    return "\n\n".join("\n".join([short(repr(body)), *map(short, lines)]) for body, lines in wrong[:SHOWN])


def short(text):
    return text if len(text) < 300 else f"{text[:150]} … {text[-50:]}"
