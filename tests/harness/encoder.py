"""The filter's encoder without an Envoy, and what is wrong with what it encodes.

    request = Request(b'{"logs":[{}]}')
    (answer,) = encode([request])
    faults(request, answer)             # [], or one line for each

Its bytes are read by the official decoder and compared with what expected.py says.
"""

import json
import struct
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from google.protobuf.message import DecodeError

from . import otlp
from .common import ROOT, Problem
from .expected import Refused, Window, differences, state

RECEIVED = 1_770_379_205_123_456_789  # 2026-02-06T12:00:05.123456789Z


@dataclass(frozen=True)
class Request:
    """A body, and what the server knows; `resource` and `window` are those of the mapping."""

    body: bytes
    subject: str = "user-1"
    received: int = RECEIVED
    resource: dict = field(default_factory=dict)
    window: Optional[Window] = Window()

    def settings(self):
        window = [self.window.past_seconds, self.window.future_seconds] if self.window else None
        return {"subject": self.subject, "received": self.received, "resource": self.resource, "window": window}


@dataclass(frozen=True)
class Answer:
    """`refused` is the reason where there is one; `odd` is what was counted, by kind."""

    protobuf: bytes
    records: int = 0
    odd: Counter = field(default_factory=Counter)
    refused: Optional[str] = None


def encode(requests):
    """An Answer to each request. Builds the encoder if need be."""
    with tempfile.TemporaryDirectory() as directory:
        sent, received = Path(directory, "requests"), Path(directory, "answers")
        sent.write_bytes(b"".join(block(json.dumps(each.settings()).encode()) + block(each.body) for each in requests))
        run = subprocess.run([ROOT / "tests" / "tools" / "encode", sent, received], capture_output=True, text=True)
        if run.returncode:
            raise Problem(f"tests/tools/encode failed:\n{run.stdout}{run.stderr}")
        found = blocks(received.read_bytes())
    answers = [Answer(protobuf, **json.loads(facts)) for facts, protobuf in zip(found[::2], found[1::2])]
    if len(answers) != len(requests) or len(found) % 2:
        raise AssertionError(f"{len(found)} blocks in answer to {len(requests)} requests")
    return answers


def block(content):
    return struct.pack("<I", len(content)) + content


def blocks(content):
    found, at = [], 0
    while at < len(content):
        (length,) = struct.unpack_from("<I", content, at)
        found.append(content[at + 4:at + 4 + length])
        at += 4 + length
    assert at == len(content), "the last block is cut off"
    return found


def faults(request, answer):
    """How an answer differs from what the rules say, one line each."""
    try:
        wanted = state(request.body, subject=request.subject, received=request.received, window=request.window,
                       configured=request.resource)
    except Refused as refused:
        return [] if answer.refused == refused.args[0] else [f"refused is {answer.refused!r}, not {refused.args[0]!r}"]
    if answer.refused:
        return [f"refused: {answer.refused}"]
    try:
        message = otlp.decode(answer.protobuf)
    except DecodeError as error:
        return [f"no protobuf: {error}"]
    lines = differences(otlp.records_of(message), wanted.records, exact=True)
    lines += faults_of_structure(message, answer, wanted)
    # What is left out may have been looked at, or not.
    kinds = {"dropped_attribute"} if wanted.odd["dropped_attribute"] else {*answer.odd, *wanted.odd}
    lines += [f"counted {kind} {answer.odd.get(kind, 0)} times, not {wanted.odd[kind]}"
              for kind in sorted(kinds) if answer.odd.get(kind, 0) != wanted.odd[kind]]
    return lines


def faults_of_structure(message, answer, wanted):
    """What the list of records does not show."""
    lines = []
    if answer.records != len(wanted.records):
        lines.append(f"counts {answer.records} records, not {len(wanted.records)}")
    records = [record for each in message.resource_logs for scope in each.scope_logs for record in scope.log_records]
    message.DiscardUnknownFields()
    # A time of 0 may be written or left out, which is the same.
    if all(record.time_unix_nano and record.observed_time_unix_nano for record in records):
        if message.SerializeToString(deterministic=True) != answer.protobuf:
            lines.append("the bytes are not those that the official encoder would write")
    lines += [f"record {number}: has a body and should have none"
              for number, (record, want) in enumerate(zip(records, wanted.records))
              if record.HasField("body") and want["body"] is None]
    if len(message.resource_logs) != bool(wanted.records):
        lines.append(f"{len(message.resource_logs)} ResourceLogs")
    for resource_logs in message.resource_logs:
        names = [scope_logs.scope.name for scope_logs in resource_logs.scope_logs]
        if names != list(dict.fromkeys(record["scope"] for record in wanted.records)):
            lines.append(f"the scopes are {names}")
        dropped = resource_logs.resource.dropped_attributes_count
        if dropped != wanted.resource_dropped:
            lines.append(f"the resource dropped {dropped}, not {wanted.resource_dropped}")
    return lines
