"""Generated batches: what the encoder makes of them is what the rules say, field by field, as
the official decoder reads it. What is broken on the way is refused, and nothing else is."""

import re
from dataclasses import replace
from random import Random

import pytest

from harness import batches
from harness.batches import COUNT, SEED
from harness.clocks import Window
from harness.encoder import Request, encode, faults

AT_ONCE = 1_000
RESOURCES = [{}, {}, {"service.name": "gateway", "n": 7}, {"deployment.environment": "prod", "client.n": [{"a": None}]}]
WINDOWS = [Window(), Window(), None, Window(100, 10)]
SHOWN = 5


def request(random, make=batches.batch):
    received = random.randrange(1_000_000_000, 4_000_000_000) * 10**9 + random.randrange(10**9)
    body = make(random, received)
    return Request(body, received=received, resource=random.choice(RESOURCES), window=random.choice(WINDOWS))


@pytest.mark.timeout(60 + COUNT // 20)
@pytest.mark.parametrize("make", [batches.batch, batches.broken])
def test_batches(make):
    random = Random(f"{SEED} {make.__name__}")
    found = {}
    accepted = 0
    for start in range(0, COUNT, AT_ONCE):
        requests = [request(random, make) for _ in range(min(AT_ONCE, COUNT - start))]
        for each, answer in zip(requests, encode(requests)):
            accepted += not answer.refused
            lines = faults(each, answer)
            if lines and len(found) < SHOWN:
                found.setdefault(kind(lines), each)
    assert not found, f"SECOND_OPINION_SEED={SEED}\n\n" + "\n\n".join(shown(smallest(each)) for each in found.values())
    # Else the comparison would be of refusals only.
    assert accepted > COUNT / 20


def kind(lines):
    """What kind of fault it is: the first line without what depends on the batch."""
    return re.sub(r"""'.*'|".*"|[-\d.]+| is .*""", "", lines[0])


def smallest(each):
    """A body with the same kind of fault from which nothing can be taken away."""
    wanted = kind(faults(each, *encode([each])))
    while True:
        tries = [replace(each, body=body) for body in batches.smaller(each.body)[:2 * AT_ONCE]]
        answers = encode(tries) if tries else []
        for smaller, answer in zip(tries, answers):
            lines = faults(smaller, answer)
            if lines and kind(lines) == wanted:
                each = smaller
                break
        else:
            return each


def shown(each):
    lines = faults(each, *encode([each]))
    known = f"received {each.received}, resource {each.resource}, {each.window}"
    return "\n".join(line[:2_000] for line in [repr(each.body), known, *lines])
