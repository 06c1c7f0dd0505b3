"""A stand-in for the identity host: it serves a key set over HTTP on loopback.

    with Identity(key.jwk("a")) as identity:
        trust(document, provider("id", "ES256"), identity)   # in Envoy's bootstrap
        identity.publish(newer.jwk("b"), key.jwk("a"))       # from now on
        identity.answer = html()                             # or whatever `behaviours` can make
        identity.answer = None                               # the key set again
        identity.down()                                      # refuses connections; up() ends that
        len(identity.fetches)

The port is its own from the beginning, also while it is down.
"""

import json
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import bootstrap
from .behaviours import BEFORE_HEADERS, BEFORE_READ, MID_BODY, Answer
from .common import LOOPBACK, wait_until

PATH = "/certs"


@dataclass
class Fetch:
    """A request that was read: when, by time.monotonic(), and what for."""

    time: float
    method: str
    path: str
    headers: dict


class Identity:
    """keys     what stands in the key set: dicts, or whatever else
    up          whether it takes connections from the beginning
    tls         (certificate file, key file): HTTPS instead of HTTP

    answer      what is answered: an Answer, a function that makes one of the key set's
                bytes, or None for the key set itself
    fetches     the requests that were read, in the order of arrival
    """

    def __init__(self, *keys, up=True, tls=None):
        self.answer = None
        self.fetches = []
        self._keys = keys
        self._lock = threading.Lock()
        self._connections = set()
        self._held = []  # answers that hang, or did
        self._stopping = threading.Event()
        self._thread = None
        self._tls = None
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*map(str, tls))
        self._server = self._bind(0)
        self.port = self._server.server_address[1]
        if up:
            self.up()

    # Life.

    def up(self):
        """Takes connections."""
        self._stopping.clear()
        self._server.server_activate()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def down(self):
        """Breaks the connections that there are and refuses new ones."""
        deaf = self._bind(self.port)  # before the other is closed, or somebody may get the port
        self._end()
        self._server = deaf

    def stop(self):
        self._end()

    @property
    def is_up(self):
        return self._thread is not None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _bind(self, port):
        # Bound, but not listening: nobody else gets the port, and who connects is refused.
        server = _Server((LOOPBACK, port), _Handler, bind_and_activate=False)
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.server_bind()
        server.identity = self
        if self._tls:
            # The handshake is left to the connection's own thread.
            server.socket = self._tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        return server

    def _end(self):
        self._stopping.set()
        self.release()
        if self._thread:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # already gone

    # What it shall do.

    def publish(self, *keys):
        """From now on the set has these keys, each a dict or whatever else stands there."""
        with self._lock:
            self._keys = keys

    def release(self):
        """Lets go whoever hangs on an answer."""
        with self._lock:
            held = list(self._held)
        for answer in held:
            answer.release()

    def document(self):
        """The key set, as it is served."""
        with self._lock:
            return json.dumps({"keys": list(self._keys)}).encode()

    # What it got.

    def wait_for(self, count, timeout=20):
        """The fetches, as soon as there are `count` of them."""
        return wait_until(lambda: len(self.fetches) >= count and self.fetches, timeout, f"{count} fetch(es) of keys")

    def intervals(self):
        """The seconds between one fetch and the next."""
        times = [fetch.time for fetch in self.fetches]
        return [later - earlier for earlier, later in zip(times, times[1:])]

    # Called by the connections' threads.

    def _next(self, fetch):
        # Before it can be seen that it was asked for: what is published then is in the next.
        document = self.document()
        with self._lock:
            self.fetches.append(fetch)
        answer = self.answer
        if answer is None:
            return key_set(document)
        if callable(answer):
            answer = answer(document)
        if answer.hold:
            with self._lock:
                self._held.append(answer)
            if self._stopping.is_set():
                answer.release()
        return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        pass  # a peer that went away is no news here


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        identity = self.server.identity
        with identity._lock:
            identity._connections.add(self.connection)

    def finish(self):
        identity = self.server.identity
        with identity._lock:
            identity._connections.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def do_GET(self):
        identity = self.server.identity
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = identity._next(Fetch(time.monotonic(), self.command, self.path, headers))
        if answer.delay:
            identity._stopping.wait(answer.delay)
        if answer.hold and answer.fault != MID_BODY:
            answer.hold.wait()
        if answer.fault in (BEFORE_READ, BEFORE_HEADERS) or identity._stopping.is_set():
            return self.cut(answer)
        self.send_response(answer.status)
        if answer.content_type:
            self.send_header("content-type", answer.content_type)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        if answer.fault != MID_BODY:
            self.wfile.write(answer.body)
            return self.wfile.flush()
        self.wfile.write(answer.body[: len(answer.body) // 2])
        self.wfile.flush()
        if answer.hold:
            answer.hold.wait()
        self.cut(answer)

    do_POST = do_PUT = do_HEAD = do_GET

    def cut(self, answer):
        self.close_connection = True
        if answer.reset:
            # Lingering for zero seconds: close() sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()


# Answers that only an identity host gives; the rest is in `behaviours`.

def key_set(document, **more) -> Answer:
    """200 with these bytes, which ought to be a key set."""
    return Answer(body=document, content_type="application/json", **more)


def stall(document) -> Answer:
    """Half of it, and then silence, until release() or the end."""
    return key_set(document, fault=MID_BODY, hold=threading.Event())


# For Envoy's bootstrap.

def provider(name, *algorithms, issuer=None, **remote) -> dict:
    """A provider whose keys are fetched from the cluster of the same name."""
    made = {"name": name, "algorithms": list(algorithms),
            "remote_jwks": {"cluster": name, "uri": f"https://id.example.com{PATH}", "timeout_ms": 2000, **remote}}
    return {**made, "issuer": issuer} if issuer else made


def trust(document, provider, identity):
    """Adds the provider to the bootstrap, and the cluster that leads to its identity host."""
    bootstrap.filter_config(document)["auth"]["providers"].append(provider)
    document["static_resources"]["clusters"].append({"name": provider["name"], "connect_timeout": "2s"})
    bootstrap.point_cluster(document, provider["name"], identity.port)
