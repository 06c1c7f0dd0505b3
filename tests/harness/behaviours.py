"""What the stand-in backend can do with a request, other than take it."""

import threading
from dataclasses import dataclass, field
from typing import Optional

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

PROTOBUF = "application/x-protobuf"

# Where a connection can break.
BEFORE_READ = "before the request's body is read"
BEFORE_HEADERS = "after the request, before the answer"
MID_BODY = "in the middle of the answer's body"


@dataclass(frozen=True)
class Answer:
    """One answer, or a failure to give one. Use the functions below to make it.

    delay   seconds to wait first
    hold    an event to wait for first
    fault   where the connection breaks: one of the three above, or None
    reset   whether it breaks with RST (else with FIN)
    """

    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    content_type: Optional[str] = PROTOBUF
    delay: float = 0.0
    hold: Optional[threading.Event] = None
    fault: Optional[str] = None
    reset: bool = True

    @property
    def takes(self):
        """Whether the sender is told, in full, that its records were taken."""
        return self.fault is None and 200 <= self.status < 300

    def release(self):
        """Lets every request go on that hangs on this answer."""
        self.hold.set()


def accept(**more) -> Answer:
    """200 and an ExportLogsServiceResponse without a word: everything was taken."""
    return Answer(body=ExportLogsServiceResponse().SerializeToString(), **more)


def partial_success(rejected, message="", **more) -> Answer:
    """200, but the backend says that it rejected some records."""
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = rejected
    response.partial_success.error_message = message
    return Answer(body=response.SerializeToString(), **more)


def status(code, body=b"", headers=None, content_type="text/plain", **more) -> Answer:
    return Answer(status=code, headers=headers or {}, body=body, content_type=content_type, **more)


def html(code=200) -> Answer:
    """What a captive portal or a wrong address answers."""
    return Answer(status=code, body=b"<!doctype html><title>Welcome</title>", content_type="text/html")


def huge(size, code=200) -> Answer:
    """An answer with a body of `size` bytes."""
    return Answer(status=code, body=b"\0" * size)


def slow(seconds, then=None) -> Answer:
    then = then or accept()
    return Answer(**{**vars(then), "delay": seconds})


def hang(then=None) -> Answer:
    """No answer until `.release()` is called on it, or the backend stops."""
    then = then or accept()
    return Answer(**{**vars(then), "hold": threading.Event()})


def broken(where, reset=True) -> Answer:
    """The connection breaks: BEFORE_READ, BEFORE_HEADERS or MID_BODY."""
    body = b"\0" * 1024 if where == MID_BODY else b""
    return Answer(fault=where, reset=reset, body=body)
