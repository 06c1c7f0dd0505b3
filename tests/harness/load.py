"""A cheap client for many requests: raw HTTP/1.1, one thread, as many connections as wanted.

    load = Load(port, connections=64)
    load.run(requests, until=time.monotonic() + 60)     # an iterator of requests as bytes
    load.statuses                                        # {200: 4000, 429: 90000}
"""

import collections
import selectors
import socket
import time

from .common import LOOPBACK
from .rawhttp import head

STATUS = len(b"HTTP/1.1 ")


def request(headers, body=b'{"logs":[]}'):
    """A whole request."""
    return head({**headers, "content-length": len(body)}) + body


class Load:
    """One request at a time is under way on each connection; `rate` a second, on all of them."""

    def __init__(self, port, connections=16, rate=None):
        self.port = port
        self.connections = connections
        self.rate = rate
        self.statuses = collections.Counter()

    def run(self, requests, until=float("inf"), progress=lambda done: None):
        """Sends until the requests are used up, or the time has come. Each is answered in full. How
        long it took, in seconds."""
        requests = iter(requests)
        began, sent, done, more = time.monotonic(), 0, 0, True
        with selectors.DefaultSelector() as selector:
            idle = collections.deque(_Connection(self.port, selector) for _ in range(self.connections))
            peers = list(idle)
            try:
                while more or done < sent:
                    more = more and time.monotonic() < until
                    allowed = len(idle)
                    if self.rate:
                        allowed = min(allowed, int((time.monotonic() - began) * self.rate) - sent)
                    for _ in range(allowed if more else 0):
                        one = next(requests, None)
                        if one is None:
                            more = False
                            break
                        idle.popleft().send(one)
                        sent += 1
                    for key, _ in selector.select(0.002 if more else 1):
                        status = key.data.read()
                        if status:
                            self.statuses[status] += 1
                            done += 1
                            idle.append(key.data)
                    progress(done)
            finally:
                for peer in peers:
                    peer.close()
        return time.monotonic() - began


class _Connection:
    """One after the other: Envoy closes a connection whose request it refuses before its body."""

    def __init__(self, port, selector):
        self.port = port
        self.selector = selector
        self.socket = None
        self.rest = b""

    def send(self, request):
        if self.socket is None:
            self.socket = socket.create_connection((LOOPBACK, self.port), 30)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(self.socket, selectors.EVENT_READ, self)
        self.rest = b""
        self.socket.sendall(request)

    def read(self):
        """The answer's status, when it has come in full."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("closed before the answer's end")
        self.rest += data
        end = self.rest.find(b"\r\n\r\n")
        if end < 0:
            return None
        lines = self.rest[:end].lower()
        at = lines.index(b"content-length: ") + 16
        if len(self.rest) < end + 4 + int(lines[at:].split(b"\r\n", 1)[0]):
            return None
        if b"\r\nconnection: close" in lines:
            self.close()
        return int(lines[STATUS : STATUS + 3])

    def close(self):
        if self.socket is not None:
            self.selector.unregister(self.socket)
            self.socket.close()
            self.socket = None
