"""HTTP by hand, for what no client library lets one send: bodies in frames of one byte,
trailers, a request that is left half-way.

    with Http2(port) as connection:
        connection.request(headers, [b"{", b"}"], trailers={"x": "1"}).status

    with Http1(port) as connection:
        connection.send(head(headers, "transfer-encoding: chunked") + chunks(b"{", b"}"))
        connection.answer().status
"""

import select
import socket

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from .common import LOOPBACK
from .curl import Answer

PATH = "/api/v1/logs"


class Http2:
    """One HTTP/2 connection with prior knowledge; one request at a time."""

    def __init__(self, port, timeout=20):
        self.socket = socket.create_connection((LOOPBACK, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False)
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.events = []
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def request(self, headers, frames=(), trailers=None, *, method="POST", path=PATH):
        """Sends a request, its body one DATA frame for each of `frames`, and reads the answer."""
        stream = self.begin(headers, frames, end=not trailers, method=method, path=path)
        if trailers:
            self.connection.send_headers(stream, encoded(trailers.items()), end_stream=True)
            self.flush()
        return self.answer(stream)

    def begin(self, headers, frames=(), *, end=False, method="POST", path=PATH):
        """Sends a request up to here, perhaps not to its end. The stream's number."""
        pseudo = [(":method", method), (":scheme", "http"), (":authority", LOOPBACK), (":path", path)]
        pairs = headers.items() if hasattr(headers, "items") else headers
        stream = self.connection.get_next_available_stream_id()
        frames = list(frames)
        self.connection.send_headers(stream, encoded([*pseudo, *pairs]), end_stream=end and not frames)
        self.flush()
        try:
            for number, frame in enumerate(frames, 1):
                while self.connection.local_flow_control_window(stream) < len(frame):
                    resets = [event for event in self.events if isinstance(event, h2.events.StreamReset)]
                    if any(event.stream_id == stream for event in resets):
                        return stream
                    self._receive()
                self.connection.send_data(stream, frame, end_stream=end and number == len(frames))
                self.flush()
        except h2.exceptions.StreamClosedError:
            pass  # the answer came before the request's end; nobody wants the rest
        return stream

    def queue(self, headers, body, *, path=PATH):
        """A small request that goes out with the next flush(): many of them arrive as one. The stream's number."""
        pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", LOOPBACK), (":path", path)]
        stream = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream, encoded([*pseudo, *headers.items()]))
        while self.connection.local_flow_control_window(stream) < len(body):
            self.flush()
            self._receive()
        self.connection.send_data(stream, body, end_stream=True)
        return stream

    def statuses(self, count):
        """The statuses of the next `count` answers, on whichever stream."""
        found, ended = [], 0
        while ended < count:
            if not self.events:
                self._receive()
            for event in self.events:
                if isinstance(event, h2.events.ResponseReceived):
                    found.append(int(dict(event.headers)[b":status"]))
                elif isinstance(event, h2.events.StreamReset):
                    raise ConnectionError(f"the stream was reset: {event.error_code}")
                ended += isinstance(event, h2.events.StreamEnded)
            self.events = []
        return found

    def trickle(self, stream, frame, ended):
        """Sends a little more of a body that has no end, unless the stream has ended. Whatever answers
        have come in, on any stream, are added to `ended`, a dict of statuses by stream."""
        try:
            self.connection.send_data(stream, frame)
            self.flush()
        except (h2.exceptions.StreamClosedError, h2.exceptions.FlowControlError):
            pass  # its answer has come, or will
        while select.select([self.socket], [], [], 0)[0]:
            self._receive()
        for event in self.events:
            if isinstance(event, h2.events.ResponseReceived):
                ended[event.stream_id] = int(dict(event.headers)[b":status"])
        self.events = []

    def reset(self, stream):
        """The client leaves: RST_STREAM with CANCEL."""
        self.connection.reset_stream(stream, 8)
        self.flush()

    def answer(self, stream):
        """The answer on a stream, as soon as it is complete."""
        headers, body = [], b""
        while True:
            if not self.events:
                self._receive()
            for event in self.events:
                if isinstance(event, h2.events.ConnectionTerminated):
                    raise ConnectionError(f"GOAWAY: {event.error_code}")
                if getattr(event, "stream_id", None) != stream:
                    continue
                if isinstance(event, h2.events.ResponseReceived):
                    headers = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamReset) and not headers:
                    raise ConnectionError(f"the stream was reset: {event.error_code}")
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                    return Answer(int(dict(headers)[":status"]), "HTTP/2", headers, body, 0)
            self.events = []

    def _receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the connection was closed before the answer's end")
        self.events += self.connection.receive_data(data)
        self.flush()

    def flush(self):
        """Sends what is ready."""
        self.socket.sendall(self.connection.data_to_send())


def frames_of(body, size=16_000):
    """The body in DATA frames that any peer takes."""
    return [body[at : at + size] for at in range(0, len(body), size)]


def encoded(pairs):
    return [tuple(part if isinstance(part, bytes) else part.encode() for part in pair) for pair in pairs]


class Http1:
    """One HTTP/1.1 connection: bytes out as they are, answers in."""

    def __init__(self, port, timeout=20):
        self.socket = socket.create_connection((LOOPBACK, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.reader.close()
        self.socket.close()

    def send(self, *parts):
        """Each part in a segment of its own, as far as the kernel allows."""
        for part in parts:
            self.socket.sendall(part)

    def silent(self, seconds):
        """Whether nothing comes in for so long, not even the connection's end."""
        return not select.select([self.socket], [], [], seconds)[0]

    def rest(self):
        """What comes until the connection ends, in whichever way."""
        data = b""
        try:
            while (more := self.reader.read1(65536)):
                data += more
        except ConnectionError:
            pass
        return data

    def answer(self):
        version, status = self.reader.readline().decode().split(" ")[:2]
        headers = []
        while (line := self.reader.readline().strip()):
            name, value = line.decode("latin-1").split(":", 1)
            headers.append((name.lower(), value.strip()))
        length = int(dict(headers).get("content-length", 0))
        return Answer(int(status), version, headers, self.reader.read(length), 0)


def head(headers, *more, method="POST", path=PATH):
    """The head of an HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {LOOPBACK}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, *more, "", ""]).encode()


def chunks(*parts):
    """Each part as a chunk of the chunked coding, without the last one."""
    return [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]


LAST_CHUNK = b"0\r\n\r\n"
