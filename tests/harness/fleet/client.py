"""The apps in the field, as the wire contract has them: a queue on disk, batches of up to 100
records, and what is done with each answer. Back-off is `plan.hurry` times as fast.

An app crashes now and then: in the middle of a request, after it, or with the answer in hand and
nothing yet written to disk. Its queue survives, and it sends the same batch again.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter, deque
from datetime import datetime, timezone

from .. import tokens
from ..common import LOOPBACK
from .ledger import CONFIRMED, DISCARDED, GIVEN_UP, Ledger

PATH = "/api/v1/logs"
LARGEST_BATCH, LARGEST_BODY = 100, 900 * 1024
FAILURES_IN_A_ROW = 50
PATIENCE = 10.0  # seconds until an app takes no answer for an answer

# How many records are made at once; now and then an app comes back from days offline.
BURSTS = [1] * 8 + [2, 2, 2, 3, 3, 4, 5, 8, 12, 20, 30, 60, 150]

STACK = ("#0      Queue.flush (package:field_app/log/queue.dart:118:7)\\n<asynchronous suspension>\\n"
         "#1      Uploader.run (package:field_app/log/uploader.dart:44:5)\\n")
LEVELS = ["trace", "debug", "info", "info", "info", "warning", "error", "fatal"]
LOGGERS = ["Auth", "Router.Home", "Http", "Sync", "Chat"]

FIRST = ('{"timestamp":"%(time)s","level":"%(level)s","logger":"%(logger)s","message":"#%(record)d %(text)s",'
         '"attributes":{"attempt":%(number)d,"hosts":["a.example","b.example"],"timing":{"dns":12,"tls":80.5}},'
         '"error":%(error)s,"stackTrace":%(stack)s,"spanId":null,"traceId":null,'
         '"installId":"%(install)s","sessionId":"%(session)s","userId":"%(user)s"}')
SECOND = ('{"timestamp":"%(time)s","level":"%(level)s","logger":"%(logger)s","message":"#%(record)d %(text)s",'
          '"attributes":{"attempt":%(number)d,"online":true,"ratio":0.25},'
          '"error":%(error)s,"stack_trace":%(stack)s,"span_id":null,"trace_id":null,'
          '"install_id":"%(install)s","session_id":"%(session)s","user_id":"%(user)s",'
          '"active_run":{"thread_id":"t-19","run_id":null}}')
PLACEHOLDER = ('{"timestamp":"%(time)s","level":"%(level)s","logger":"%(logger)s",'
               '"message":"#%(record)d [record exceeded 65536B after truncation]",'
               '"installId":null,"sessionId":null,"userId":null}')
RESOURCE = ('{"service.name":"field-app","service.version":"1.4.2","os.name":"android","device.model":"Pixel 7",'
            '"deployment.environment":"fleet","app.build_number":%d}')


def main(plan, path, key):
    """A process of its own: all clients of the plan. `key` signs their tokens."""
    ledger = Ledger(path, plan.records)
    asyncio.run(everyone(plan, ledger, key))


async def everyone(plan, ledger, key):
    row = ledger.row("clients")
    left = plan.clients
    row.set("clients_left", left)
    for done in asyncio.as_completed([Client(number, plan, ledger, key).run() for number in range(plan.clients)]):
        await done
        left -= 1
        row.set("clients_left", left)


class Client:
    def __init__(self, number, plan, ledger, key):
        self.number = number
        self.plan = plan
        self.ledger = ledger
        self.row = ledger.row("clients")
        self.key = key
        self.random = random.Random(f"{plan.seed} client {number}")
        self.install = f"00000000-0000-4000-8000-{number:012d}"
        self.starts = 0
        self.to_come = deque(plan.records_of(number))
        self.queue = deque()  # (number of the record, its JSON): what is on disk
        self.again = 0  # so many records were sent as one batch before a crash
        self.failures = 0
        self.connection = None
        self.stopped = False
        self.start()

    # The app's life.

    async def run(self):
        await asyncio.sleep(self.random.random())
        while (self.queue or self.to_come) and not self.stopped:
            self.make_records()
            try:
                status, answer = await asyncio.wait_for(self.send(), PATIENCE)
            except Crash:
                self.row.add("crashes")
                self.hang_up()
                self.start()
                await self.pause(1)
                continue
            except (OSError, EOFError, ValueError, asyncio.TimeoutError):
                self.hang_up()
                self.row.add("no_answer")
                await self.failed("no answer")
                continue
            await self.answered(status, answer)
        self.hang_up()

    def start(self):
        """The app is started: what was in memory is gone."""
        self.starts += 1
        self.session = f"{self.number:08d}-0000-4000-8000-{self.starts:012d}"
        self.failures = 0
        self.met = Counter()  # what it failed for since the last success
        self.renew()

    def renew(self, lifetime=300):
        self.token = tokens.mint(self.key, sub=f"user-{self.number}", sid=f"login-{self.number}-{self.starts}",
                                 lifetime=lifetime)
        self.renewed = time.monotonic()

    def make_records(self):
        if not self.to_come:
            return
        for _ in range(min(self.random.choice(BURSTS), len(self.to_come))):
            record = self.to_come.popleft()
            level = self.random.choice(LEVELS)
            wrong = level in ("error", "fatal")
            form = PLACEHOLDER if record % 97 == 0 else FIRST if self.number % 2 else SECOND
            if record % 53 == 0:
                form = SECOND if form is FIRST else FIRST  # mixed in one batch
            self.queue.append((record, form % {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z",
                "level": level, "logger": self.random.choice(LOGGERS), "record": record, "number": record % 7,
                "text": "Nachricht gesendet ✅" if record % 5 == 0 else "GET /rooms",
                "error": '"Bad state: No element"' if wrong else "null",
                "stack": f'"{STACK}"' if wrong else "null",
                "install": self.install, "session": self.session, "user": f"user-{self.number}",
            }))

    def batch(self):
        """The records at the head of the queue that go out together."""
        records, size = [], 0
        # After a crash the same batch comes again.
        most = self.again or LARGEST_BATCH
        for record, text in self.queue:
            size += len(text) + 1
            if len(records) == most or size > LARGEST_BODY:
                break
            records.append((record, text))
        return records

    # A request.

    async def send(self):
        batch = self.batch()
        chance = self.random.random()
        if chance < 0.003:
            self.renew(lifetime=-120)
            self.row.add("expired_tokens")
        elif time.monotonic() - self.renewed > 200:
            self.renew()
        body = (f'{{"logs":[{",".join([text for _, text in batch])}],'
                f'"resource":{RESOURCE % self.number}}}').encode()
        head = (f"POST {PATH} HTTP/1.1\r\nhost: {LOOPBACK}\r\nuser-agent: field-app/{self.number}\r\n"
                f"authorization: Bearer {self.token}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n").encode()
        reader, writer = self.connection or await self.connect()
        self.row.add("requests")
        if chance > 0.997:
            writer.write(head + body[:len(body) // 2])
            await writer.drain()
            raise Crash
        writer.write(head + body)
        await writer.drain()
        if chance > 0.99:
            self.again = len(batch)
            raise Crash
        status, answer, stays = await read_answer(reader)
        now = time.monotonic()
        if not stays:
            self.hang_up()
        if status == 200:
            self.told(batch, answer, now)
            if chance > 0.985:
                self.again = len(batch)
                raise Crash
        self.sent = batch
        return status, answer

    async def connect(self):
        port = self.ledger.count("port")
        if not port:
            raise OSError("there is no gateway now")
        self.connection = await asyncio.open_connection(LOOPBACK, port)
        return self.connection

    def hang_up(self):
        if self.connection:
            self.connection[1].close()
            self.connection = None

    def told(self, batch, answer, now):
        for record, _ in batch:
            self.ledger.told[record] = self.ledger.told[record] or now
        try:
            said = json.loads(answer)
            accepted, rejected = said["accepted"], said["rejected"]
        except (ValueError, KeyError, TypeError):
            accepted = rejected = -1
        self.row.add("unlike_counts", accepted + rejected != len(batch))
        poisoned = sum(self.plan.is_poisoned(record) for record, _ in batch)
        self.row.add("rejected_too_many", max(0, rejected - poisoned))
        self.row.add("rejected_told", max(0, rejected))

    # What is done with the answer.

    async def answered(self, status, answer):
        name = f"status_{status}"
        self.row.add(name if name in KNOWN else "status_other")
        if status == 200:
            self.remove(CONFIRMED, "confirmed")
            self.failures = self.again = 0
            self.met.clear()
            # An app sends when it has something to say.
            await asyncio.sleep(0.02 * self.random.random())
        elif status in (401, 403):
            self.renew()
            await self.pause(1)
        elif status == 404:
            self.row.add("stopped")
            self.stopped = True
        elif status == 429:
            await self.pause(self.random.choice([1, 2, 4]))
        elif 400 <= status < 500:
            self.remove(DISCARDED, "discarded")
        else:
            await self.failed(status)

    async def failed(self, why):
        self.failures += 1
        self.met[why] += 1
        if self.failures >= FAILURES_IN_A_ROW:
            self.sent = self.batch()
            self.note()
            self.remove(GIVEN_UP, "given_up")
            self.failures = 0
            self.met.clear()
        await self.pause(min(60, 2 ** (self.failures - 1)) if self.failures else 1)

    def note(self):
        """For whoever wants to know why a batch was given up."""
        numbers = [record for record, _ in self.sent]
        poisoned = {record: self.plan.refusal(record) for record in numbers if self.plan.is_poisoned(record)}
        print(f"fleet: client {self.number} gives up {len(numbers)} records from {numbers[0]}; poisoned among them: "
              f"{poisoned or 'none'}; failures: {dict(self.met)}", file=sys.stderr, flush=True)

    async def pause(self, seconds):
        # Apps don't fail in step.
        await asyncio.sleep(seconds * (0.8 + 0.4 * self.random.random()) / self.plan.hurry)

    def remove(self, fate, counter):
        """The batch that was sent leaves the disk."""
        for record, _ in self.sent:
            self.ledger.fate[record] = fate
            self.queue.popleft()
        self.row.add(counter, len(self.sent))


KNOWN = {f"status_{code}" for code in (200, 400, 401, 403, 404, 413, 415, 429, 500, 502, 503, 504)}


class Crash(Exception):
    """The app is gone."""


async def read_answer(reader):
    """Status, body, and whether the connection stays open."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    length = 0
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    body = await reader.readexactly(length) if length else b""
    return status, body, b"\r\nconnection: close\r\n" not in head
