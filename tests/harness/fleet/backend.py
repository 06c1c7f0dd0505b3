"""An OTLP/HTTP receiver that fails by the plan's script, and keeps the books of what it took.

A record is *kept* when the backend has decided to; it is *acknowledged* when the whole answer is
on its way. Only what is acknowledged may lead to a 200.
"""

import asyncio
import hashlib
import random
import re
import socket
import struct
import time
import zlib

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from .. import behaviours
from ..common import LOOPBACK
from .ledger import Ledger
from .plan import FAULTS

ACCEPTED = behaviours.accept().body
PORTAL = behaviours.html().body
NUMBER = re.compile(r"#(\d+) ")
REFUSALS = {400: b"a record cannot be read", 413: b"too large", 422: b"a record cannot be kept"}
NAMES = list(FAULTS)


def main(plan, path, socket_):
    """A process of its own, on a socket that listens already."""
    asyncio.run(Backend(plan, Ledger(path, plan.records)).serve(socket_))


def listening():
    """A socket for main(); its port is known before the process is there."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((LOOPBACK, 0))
    made.listen(1024)
    return made


class Backend:
    def __init__(self, plan, ledger):
        self.plan = plan
        self.ledger = ledger
        self.row = ledger.row("backend")
        self.script = plan.script()
        self.random = random.Random(f"{plan.seed} backend")

    async def serve(self, socket_):
        server = await asyncio.start_server(self.connection, sock=socket_, limit=1 << 20)
        async with server:
            await server.serve_forever()

    async def connection(self, reader, writer):
        try:
            while await self.request(reader, writer):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # Envoy was killed, or gave up
        finally:
            writer.close()

    async def request(self, reader, writer):
        """One request; whether another may follow on this connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        fault = next(self.script)
        if fault:
            self.row.add("faults")
            self.row.add(f"fault_{NAMES.index(fault)}")
        if fault == "reset before reading":
            return reset(writer)
        raw = await read_body(reader, head)
        self.row.add("exports")
        self.row.add("export_bytes", len(raw))
        export = self.read(raw, head)
        if export is None:
            self.row.add("not_decoded")
            return await answer(writer, 400, b"cannot be decoded")
        if fault:
            return await self.fail(fault, export, reader, writer)
        return await self.judge(export, writer)

    # A request that is met by no fault.

    async def judge(self, export, writer):
        poisoned = [record for record, _ in export.records if self.plan.is_poisoned(record)]
        for record in poisoned:
            self.ledger.refused[record] += 1
        refusal = next((status for status in map(self.plan.refusal, poisoned) if status != 200), None)
        if refusal or export.size > self.plan.limit and len(export.records) > 1:
            self.row.add("poison_refused", bool(refusal))
            return await answer(writer, refusal or 413, REFUSALS[refusal or 413])
        self.row.add("exports_taken")
        self.row.add("requests_in_exports", export.requests)
        self.row.most("most_requests_in_an_export", export.requests)
        if poisoned:
            self.row.add("partial")
            said = behaviours.partial_success(len(poisoned), "some records cannot be kept").body
        else:
            said = ACCEPTED
        self.keep(export, poisoned)
        self.acknowledge(export, poisoned)
        return await answer(writer, 200, said)

    async def fail(self, fault, export, reader, writer):
        poisoned = [record for record, _ in export.records if self.plan.is_poisoned(record)]
        if any(self.plan.refusal(record) != 200 for record in poisoned) and ("after accepting" in fault
                                                                             or fault in ("slow", "cut in mid-answer")):
            # What holds such a record is never kept, however the backend feels.
            return await self.judge(export, writer)
        if fault == "413" and len(export.records) < 2:
            # What is refused alone is refused for good: that is for poisoned ones.
            return await self.judge(export, writer)
        if fault == "reset before accepting":
            return reset(writer)
        if fault == "reset after accepting":
            self.keep(export, poisoned)
            return reset(writer)
        if fault == "cut in mid-answer":
            self.keep(export, poisoned)
            await answer(writer, 200, b"\0" * 100, length=1000)
            # Envoy is to see the first half on its own.
            await asyncio.sleep(0.005)
            return reset(writer)
        if fault.startswith("hang"):
            if fault == "hang after accepting":
                self.keep(export, poisoned)
            await reader.read(1)  # nothing comes but the end: Envoy gives up
            return False
        if fault == "slow":
            await asyncio.sleep(0.5 * self.random.random())
            return await self.judge(export, writer)
        if fault == "502 after accepting":
            self.keep(export, poisoned)
        if fault == "portal":
            return await answer(writer, 200, PORTAL, b"text/html")
        if fault == "junk":
            return await answer(writer, 200, b"\x0a\xff")
        status = int(fault[:3])
        return await answer(writer, status, b"no", b"text/plain",
                            b"retry-after: 1\r\n" if "Retry-After" in fault else b"")

    # The books.

    def read(self, raw, head):
        try:
            body = zlib.decompress(raw, 31) if b"\r\ncontent-encoding: gzip\r\n" in head else raw
            message = ExportLogsServiceRequest.FromString(body)
        except (zlib.error, DecodeError):
            return None
        records = []
        for resource_logs in message.resource_logs:
            for scope_logs in resource_logs.scope_logs:
                for record in scope_logs.log_records:
                    found = NUMBER.match(record.body.string_value)
                    if not found or int(found.group(1)) >= self.plan.records:
                        self.row.add("strangers")
                        continue
                    records.append((int(found.group(1)), record))
        return Export(records, len(message.resource_logs), len(body))

    def keep(self, export, poisoned):
        if self.plan.breaks == "acknowledge-and-drop" and self.random.random() < 0.1:
            return
        ledger, row = self.ledger, self.row
        for number, record in export.records:
            if number in poisoned:
                continue
            ledger.stored[number] += 1
            uid = user = None
            for attribute in record.attributes:
                if attribute.key == "log.record.uid":
                    uid = attribute.value.string_value
                elif attribute.key == "enduser.id":
                    user = attribute.value.string_value
            if user != f"user-{self.plan.owner(number)}":
                row.add("misnamed")
            if not uid:
                row.add("without_uid")
                continue
            hashed = int.from_bytes(hashlib.blake2b(uid.encode(), digest_size=8).digest(), "big") or 1
            if ledger.uid[number] not in (0, hashed):
                row.add("uid_differs")
            ledger.uid[number] = hashed

    def acknowledge(self, export, poisoned):
        now = time.monotonic()
        for number, _ in export.records:
            if number not in poisoned:
                self.ledger.acked[number] = self.ledger.acked[number] or now


class Export:
    """records: pairs of a record's number and the LogRecord; requests: how many clients' requests it carries."""

    def __init__(self, records, requests, size):
        self.records = records
        self.requests = requests
        self.size = size


async def read_body(reader, head):
    found = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head)
    if found:
        return await reader.readexactly(int(found.group(1)))
    parts = []
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
        if not size:
            return b"".join(parts)


async def answer(writer, status, body, content_type=b"application/x-protobuf", more=b"", length=None):
    writer.write(b"HTTP/1.1 %d -\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b"
                 % (status, content_type, len(body) if length is None else length, more, body))
    await writer.drain()
    return True


def reset(writer):
    """RST: closing with zero seconds of linger."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
