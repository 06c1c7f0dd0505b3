"""Rate limit services for the filter to ask: the real one of the Envoy project, built once from
tests/ratelimit where Go and its modules are at hand, and one that can be told to misbehave.

    reason = ratelimit.missing()          # why the real one cannot be had, or None
    with ratelimit.Service(CONFIG) as service: ...
    with ratelimit.Stub() as stub: ...
    document["static_resources"]["clusters"].append(ratelimit.cluster("ratelimit", service.port))
"""

import functools
import hashlib
import http.client
import os
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from . import bootstrap, gobuild
from .collector import free_port
from .common import LOOPBACK, ROOT, TARGET, Problem, wait_until
from .rawhttp import frames_of

SOURCE = ROOT / "tests" / "ratelimit"
HOME = TARGET / "ratelimit"
SERVICE, REDIS, STAMP = HOME / "bin" / "service_cmd", HOME / "bin" / "redis", HOME / "stamp"

# On two slow cores it takes two minutes; a network that answers nothing takes for ever.
BUILD_SECONDS = 900


@functools.cache
def missing():
    """Why there is no real service to be had here, in one line; None if there is one. Builds it,
    which takes some minutes the first time."""
    if SERVICE.exists() and REDIS.exists() and STAMP.exists() and STAMP.read_text() == fingerprint():
        return None
    (HOME / "bin").mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-o", f"{HOME / 'bin'}/", "./redis", "github.com/envoyproxy/ratelimit/src/service_cmd"]
    reason = gobuild.build("envoyproxy/ratelimit", HOME, command,
                           cwd=SOURCE, seconds=BUILD_SECONDS, flags="-mod=readonly")
    if reason is None:
        STAMP.write_text(fingerprint())
    return reason


def fingerprint():
    parts = [(SOURCE / name).read_bytes() for name in ("go.mod", "go.sum", "redis/main.go")]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def cluster(name, port):
    """An Envoy cluster that speaks gRPC to a port."""
    http2 = {"@type": f"type.googleapis.com/{bootstrap.HTTP_OPTIONS}",
             "explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {bootstrap.HTTP_OPTIONS: http2},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {"address": LOOPBACK, "port_value": port}}}}]}]},
    }


class Service:
    """envoyproxy/ratelimit with a Redis of its own. `config` is its YAML; `port` speaks gRPC."""

    def __init__(self, config):
        self._directory = tempfile.TemporaryDirectory(prefix="ratelimit-")
        self._home = Path(self._directory.name)
        (self._home / "limits" / "config").mkdir(parents=True)
        (self._home / "limits" / "config" / "config.yaml").write_text(config)
        self.port, self.http_port, self.redis_port = free_port(), free_port(), free_port()
        self.processes = []

    def __enter__(self):
        try:
            self._start([REDIS, f"{LOOPBACK}:{self.redis_port}"], {})
            wait_until(lambda: listens(self.redis_port), 10, "Redis to listen")
            self._start([SERVICE], {
                "USE_STATSD": "false", "LOG_LEVEL": "warn", "BACKEND_TYPE": "redis", "REDIS_SOCKET_TYPE": "tcp",
                "REDIS_URL": f"{LOOPBACK}:{self.redis_port}", "RUNTIME_ROOT": str(self._home),
                "RUNTIME_SUBDIRECTORY": "limits", "RUNTIME_WATCH_ROOT": "false", "HOST": LOOPBACK,
                "PORT": str(self.http_port), "GRPC_HOST": LOOPBACK, "GRPC_PORT": str(self.port),
                "DEBUG_HOST": LOOPBACK, "DEBUG_PORT": str(free_port()),
            })
            wait_until(self._healthy, 30, "the rate limit service to be healthy", poll=0.05)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()
        self._directory.cleanup()

    def _start(self, command, environment):
        with (self._home / "log").open("ab") as log:
            self.processes.append(subprocess.Popen(command, cwd=self._home, env={**os.environ, **environment},
                                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                   start_new_session=True))

    def _healthy(self):
        if any(process.poll() is not None for process in self.processes):
            raise Problem(f"it ended at once: {(self._home / 'log').read_text(errors='replace')[-600:]}")
        connection = http.client.HTTPConnection(LOOPBACK, self.http_port, timeout=5)
        try:
            connection.request("GET", "/healthcheck")
            return connection.getresponse().status == 200 and listens(self.port)
        except OSError:
            return False
        finally:
            connection.close()


def listens(port):
    try:
        socket.create_connection((LOOPBACK, port), 1).close()
        return True
    except OSError:
        return False


def message(body, compressed=0):
    """A message as gRPC frames it."""
    return struct.pack(">BI", compressed, len(body)) + body


class Stub:
    """A gRPC server that answers every call with `answer(connection, stream)`, a function of the
    h2 connection; it is one of those below. `asked` holds the messages that came."""

    def __init__(self):
        self.answer = yes
        self.asked = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self._peers = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        # Closing alone would leave accept() where it is.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for peer in self._peers:
            peer.close()

    def _accept(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        bodies = {}
        try:
            peer.sendall(connection.data_to_send())
            while data := peer.recv(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.DataReceived):
                        bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded):
                        self.asked.append(bodies.pop(event.stream_id)[5:])
                        if self.answer(connection, event.stream_id) == CLOSE:
                            peer.close()
                            return
                peer.sendall(connection.data_to_send())
        except (OSError, h2.exceptions.ProtocolError):
            pass  # the peer has left


CLOSE = "close"
HEADERS = [(":status", "200"), ("content-type", "application/grpc")]


def replies(body):
    """A message, and status 0."""
    def answer(connection, stream):
        connection.send_headers(stream, HEADERS)
        for frame in frames_of(message(body)):
            connection.send_data(stream, frame)
        connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    return answer


yes = replies(b"\x08\x01")
no = replies(b"\x08\x02\x12\x06\x08\x02\x22\x02\x08\x07")  # over the limit, for 7 s


def ends_with(status):
    """A gRPC status and no message."""
    def answer(connection, stream):
        connection.send_headers(stream, [*HEADERS, ("grpc-status", str(status))], end_stream=True)
    return answer


def nothing(connection, stream):
    """No answer at all."""


def http_error(connection, stream):
    """Something that is no gRPC server."""
    connection.send_headers(stream, [(":status", "404"), ("content-type", "text/html")])
    connection.send_data(stream, b"<html>", end_stream=True)


def breaks_off(connection, stream):
    """Half a message, then a reset."""
    connection.send_headers(stream, HEADERS)
    connection.send_data(stream, message(b"\x08\x01")[:4])
    connection.reset_stream(stream)


def hangs_up(connection, stream):
    """The connection is closed."""
    return CLOSE


if __name__ == "__main__":
    print(missing() or "envoyproxy/ratelimit is ready")
