"""A plain upstream that notes what reaches it, byte for byte, and answers with a body of
its own: the judge of requests that the filter must leave alone."""

import socketserver
import threading

from .common import LOOPBACK


class Echo:
    """`requests` holds (head, body) of each request as bytes; the answer's body is the
    request's, and two headers of the answer are unusual on purpose.

    Requests must have a content-length or be chunked, as Envoy's HTTP/1.1 ones are."""

    def __init__(self):
        self.requests = []
        self._server = _Server((LOOPBACK, 0), _Handler)
        self._server.echo = self
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self):
        """The requests so far, which are then forgotten."""
        taken, self.requests = self.requests, []
        return taken


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        pass  # a peer that went away is no news here


class _Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while (head := self.read_head()):
            fields = {name.lower(): value.strip() for name, _, value in
                      (line.partition(b":") for line in head.split(b"\r\n")[1:])}
            if fields.get(b"transfer-encoding") == b"chunked":
                body = self.read_chunks()
            else:
                body = self.rfile.read(int(fields.get(b"content-length", 0)))
            self.server.echo.requests.append((head, body))
            without_body = head.startswith(b"HEAD ")
            self.wfile.write(b"HTTP/1.1 299 Echoed\r\nx-odd: \xff\xfe\r\nx-twice: 1\r\nx-twice: 2\r\n"
                             b"content-length: %d\r\n\r\n" % len(body) + (b"" if without_body else body))

    def read_head(self):
        lines = []
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            lines.append(line)
        return b"".join(lines).removesuffix(b"\r\n")

    def read_chunks(self):
        parts = []
        while (size := int(self.rfile.readline(), 16)):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)
