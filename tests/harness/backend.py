"""A backend that stands in for Logfire: OTLP/HTTP on loopback.

    with Backend() as backend:
        backend.script(status(503), accept())     # the next two requests, in order
        ...
        backend.wait_for(2)
        backend.records                            # as the official decoder reads them

A request beyond the script gets `backend.default`; `backend.decide`, a function
of the Received request, comes between the two where it is set. The answers are
made by the functions of `behaviours`.
"""

import collections
import gzip
import json
import socket
import ssl
import struct
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from google.protobuf.message import DecodeError

from . import otlp
from .behaviours import BEFORE_HEADERS, BEFORE_READ, MID_BODY, accept, status
from .common import LOOPBACK, Problem, wait_until


class Received:
    """One request as it arrived. `answer` is what it was given; `taken` is true if
    the sender was told in full that its records were taken."""

    def __init__(self, method, path, headers, peer):
        self.method = method
        self.path = path
        self.header_list = headers
        self.headers = {name.lower(): value for name, value in headers}
        self.peer = peer  # address and port: one pair for each connection
        self.time = time.time()
        self.raw = b""  # as sent
        self.body = b""  # with Content-Encoding undone
        self.message = None
        self.error = None  # why it could not be decoded
        self.answer = None
        self.taken = False

    @property
    def records(self):
        return otlp.records_of(self.message) if self.message is not None else []

    def decode(self, raw):
        self.raw = self.body = raw
        encoding = self.headers.get("content-encoding", "identity")
        try:
            if encoding == "gzip":
                self.body = gzip.decompress(raw)
            elif encoding != "identity":
                raise ValueError(f"content-encoding {encoding}")
            if self.headers.get("content-type") != "application/x-protobuf":
                raise ValueError(f"content-type {self.headers.get('content-type')}")
            self.message = otlp.decode(self.body)
        except (ValueError, EOFError, OSError, zlib.error, DecodeError) as fault:
            self.error = f"{type(fault).__name__}: {fault}"


class Backend:
    """port       0 for a free one; `backend.port` says which
    jsonl      a file to which each record is appended as one JSON object
    on_record  called with each record that was taken
    tls        (certificate file, key file): HTTPS instead of HTTP
    """

    def __init__(self, port=0, *, jsonl=None, on_record=None, tls=None):
        self.default = accept()
        self.decide = None
        self.jsonl = Path(jsonl) if jsonl else None
        if self.jsonl:
            self.jsonl.touch()
        self.on_record = on_record
        self.cut_early = 0  # connections broken before the request was read
        self._script = collections.deque()
        self._requests = []
        self._given = []  # every answer given, so that stop() can release those that hang
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._connections = set()
        try:
            self._server = _Server((LOOPBACK, port), _Handler)
        except OSError as fault:
            raise Problem(f"cannot listen on {LOOPBACK}:{port} ({fault.strerror}); end what uses that port") from None
        self._server.backend = self
        self.port = self._server.server_address[1]
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*map(str, tls))
            # The handshake is left to the connection's own thread.
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True,
                                                      do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    # Life.

    def start(self):
        self._thread.start()
        return self

    def stop(self):
        """Ends it at once, whatever hangs. The port is free afterwards."""
        self._stopping.set()
        with self._changed:
            for answer in self._given:
                if answer.hold:
                    answer.hold.set()
            connections = list(self._connections)
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # already gone

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # What it shall do.

    def script(self, *answers):
        """What the next requests get, one each, after those already scripted."""
        with self._changed:
            self._script.extend(answers)

    def forget(self):
        """Drops what was received, the script, and any decision; back to accept()."""
        with self._changed:
            self._script.clear()
            self._requests.clear()
            self.default = accept()
            self.decide = None

    # What it got.

    @property
    def address(self):
        return f"{LOOPBACK}:{self.port}"

    @property
    def requests(self):
        """Every request that was read to its end, in the order of arrival."""
        with self._changed:
            return list(self._requests)

    @property
    def records(self):
        """The records of all requests, taken or not."""
        return [record for request in self.requests for record in request.records]

    @property
    def taken_records(self):
        """The records of the requests whose sender was told that they were taken."""
        return [record for request in self.requests if request.taken for record in request.records]

    def wait_for(self, count=1, timeout=10):
        """The requests, as soon as there are `count` of them."""
        return wait_until(lambda: len(self.requests) >= count and self.requests, timeout,
                          f"{count} request(s) at the backend")

    def wait_for_records(self, count, timeout=10):
        """The taken records, as soon as there are `count` of them."""
        return wait_until(lambda: len(self.taken_records) >= count and self.taken_records, timeout,
                          f"{count} record(s) at the backend")

    # Called by the connections' threads.

    def next_answer(self, received=None):
        """The answer for a request: without `received`, only if it breaks the
        connection before reading (anything else stays for later)."""
        with self._changed:
            upcoming = self._script[0] if self._script else None
            if received is None:
                early = upcoming or (None if self.decide else self.default)
                if early is None or early.fault != BEFORE_READ:
                    return None
            if received is None:
                self.cut_early += 1
            if upcoming is not None:
                return self._script.popleft()
            decide, default = self.decide, self.default
        if received is None or decide is None:
            return default
        return decide(received) or default

    def note(self, received, answer):
        received.answer = answer
        with self._changed:
            self._requests.append(received)
            self._given.append(answer)
            self._changed.notify_all()
        if self._stopping.is_set() and answer.hold:
            answer.hold.set()

    def note_taken(self, received):
        """Before the answer goes out: a sender that has it may look at once."""
        received.taken = True
        records = received.records
        with self._changed:
            if self.jsonl:
                with self.jsonl.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            if self.on_record:
                for record in records:
                    self.on_record(record)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def handle_error(self, request, client_address):
        pass  # a peer that went away is no news here


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer leaves in one piece
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        with self.server.backend._changed:
            self.server.backend._connections.add(self.connection)

    def finish(self):
        with self.server.backend._changed:
            self.server.backend._connections.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def do_POST(self):
        backend = self.server.backend
        early = backend.next_answer()
        if early:
            return self.cut(early)
        received = Received(self.command, self.path, self.headers.items(), self.client_address)
        received.decode(self.read_body())
        answer = backend.next_answer(received)
        if received.error and answer.takes:
            answer = status(400, f"cannot be decoded: {received.error}".encode())
        backend.note(received, answer)
        if answer.hold:
            answer.hold.wait()
        if answer.delay:
            backend._stopping.wait(answer.delay)
        if answer.fault == BEFORE_HEADERS or backend._stopping.is_set():
            return self.cut(answer)
        if answer.takes:
            backend.note_taken(received)
        self.give(answer)

    do_GET = do_PUT = do_POST

    def give(self, answer):
        self.send_response(answer.status)
        if answer.content_type:
            self.send_header("content-type", answer.content_type)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        if answer.fault == MID_BODY:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            return self.cut(answer)
        self.wfile.write(answer.body)
        self.wfile.flush()

    def read_body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            parts.append(self.rfile.read(size))
            self.rfile.readline()
            if size == 0:
                return b"".join(parts)

    def cut(self, answer):
        """Breaks the connection, with RST where the answer says so."""
        self.close_connection = True
        self.wfile.flush()
        if answer.reset:
            # Lingering for zero seconds: close() sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
