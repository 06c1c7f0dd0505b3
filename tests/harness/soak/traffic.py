"""What clients send, good and bad, from some connections at once; and a backend that mostly takes it."""

import asyncio
import json
import random
import time
from collections import Counter

from .. import behaviours, sample, tokens
from ..common import FIXTURES, LOOPBACK
from ..fleet.backend import answer, read_body, reset
from ..fleet.client import PATH, read_answer

PATIENCE = 20.0
USERS = 5_000

# What a client does, and how often.
KINDS = {
    "good": 60,
    "bad token": 8,
    "greedy": 6,       # one user who is over the limit most of the time
    "oversize": 1,
    "far oversize": 1,  # sent without end, until the answer comes
    "no batch": 6,     # a body that is none
    "encoding": 1,
    "elsewhere": 4,    # what is none of the filter's business
    "leaves early": 4,  # with half its body sent
    "leaves": 4,       # with its request complete
    "dawdles": 2,
}
NO_BATCHES = [
    b"", b"{", b"[]", b"null", b'{"logs":7}', b'{"log":[]}', b"\xff\xfe", b'{"logs":[' + b"[" * 3000, b"0" * 5000,
]


class Traffic:
    """`counts` and `latencies` are of the time since they were last taken with `take`."""

    def __init__(self, port, key, seed, leak=False):
        self.port = port
        self.key = key
        self.random = random.Random(seed)
        self.leak = leak
        self.leaked = []
        self.bodies = [json.dumps(sample.batch(user=f"u-{n}")).encode() for n in range(20)]
        self.bodies += [path.read_bytes() for path in sorted(FIXTURES.glob("*.json"))]
        self.bad_tokens = list(tokens.bad_tokens(key).values())
        self.tokens = {}  # of each user the token, and until when it is used
        self.counts = Counter()
        self.latencies = []

    def take(self):
        taken = self.counts, sorted(self.latencies)
        self.counts, self.latencies = Counter(), []
        return taken

    async def client(self):
        """One after the other, for ever."""
        connection = None
        while True:
            kind = self.random.choices(list(KINDS), KINDS.values())[0]
            try:
                if connection is None:
                    connection = await asyncio.open_connection(LOOPBACK, self.port)
                stays = await asyncio.wait_for(self.act(kind, *connection), PATIENCE)
            except (OSError, EOFError, ValueError, asyncio.TimeoutError):
                self.counts["unanswered"] += 1
                self.counts[f"unanswered: {kind}"] += 1
                stays = False
            if connection and (not stays or self.random.random() < 0.02):
                if self.leak:
                    self.leaked.append(connection)
                else:
                    connection[1].close()
                connection = None
            await asyncio.sleep(0.1 * self.random.random())

    async def act(self, kind, reader, writer):
        """One request; whether the connection may be used again."""
        body = self.random.choice(self.bodies)
        token = None
        path, method, more = PATH, "POST", ""
        if kind == "bad token":
            token = self.random.choice(self.bad_tokens)
        elif kind == "greedy":
            token = self.token("greedy")
        elif kind == "oversize":
            body = b'{"logs":["' + b"x" * 1_100_000 + b'"]}'
        elif kind == "no batch":
            body = self.random.choice(NO_BATCHES)
        elif kind == "encoding":
            more = "content-encoding: br\r\n"
        elif kind == "elsewhere":
            path, method, body = self.random.choice([("/healthz", "GET", b""), ("/nothing", "POST", body)])
        token = token or self.token(f"user-{self.random.randrange(USERS)}")
        length = 5_000_000 if kind == "far oversize" else len(body)
        writer.write(f"{method} {path} HTTP/1.1\r\nhost: {LOOPBACK}\r\ncontent-type: application/json\r\n{more}"
                     f"content-length: {length}\r\nauthorization: Bearer ".encode() + token + b"\r\n\r\n")
        began = time.perf_counter()
        if kind == "leaves early":
            writer.write(body[:len(body) // 2])
            await writer.drain()
            return False
        if kind == "far oversize":
            body = b"x" * 64_000
        if kind == "dawdles":
            writer.write(body[:100])
            await writer.drain()
            await asyncio.sleep(0.3)
            body = body[100:]
        writer.write(body)
        await writer.drain()
        if kind == "leaves":
            return False
        status, _, stays = await read_answer(reader)
        self.counts[f"{kind}: {status}"] += 1
        if kind == "good":
            self.latencies.append(1000 * (time.perf_counter() - began))
        self.counts["good" if status == 200 else "refused" if status < 500 else "failed"] += 1
        return stays and kind != "far oversize"

    def token(self, user):
        token, until = self.tokens.get(user, (None, 0))
        if time.monotonic() > until:
            token = tokens.mint(self.key, sub=user, sid=None).encode()
            self.tokens[user] = token, time.monotonic() + 200
        return token


def backend(listening, seed):
    """A process of its own: takes nearly everything, and forgets it."""
    asyncio.run(serve(listening, random.Random(seed)))


async def serve(listening, chance):
    accepted, partial = behaviours.accept().body, behaviours.partial_success(1, "no").body

    async def one(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await read_body(reader, head)
        what = chance.random()
        if what < 0.01:
            return await answer(writer, 500, b"")
        if what < 0.02:
            return reset(writer)
        if what < 0.025:
            return await answer(writer, 200, partial)
        if what < 0.03:
            return await answer(writer, 400, b"no")
        if what < 0.031:
            await asyncio.sleep(3)
        await asyncio.sleep(0.01 * chance.random())
        return await answer(writer, 200, accepted)

    async def connection(reader, writer):
        try:
            while await one(reader, writer):
                pass
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, sock=listening)
    await server.serve_forever()
