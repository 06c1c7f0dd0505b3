"""Many requests that are under way at once, each with its own answer.

    with Crowd(gate, http2=True) as crowd:
        crowd.send([body, another])
        crowd.parked()             # returns once the filter has read them all
        stuck.release()
        crowd.answers()            # in the order in which they were sent
"""

import json
import resource
from contextlib import ExitStack

import h2.events

from .common import wait_until
from .curl import Answer
from .rawhttp import Http1, Http2, head


class Crowd:
    """http2     one connection for so many requests as `streams` says; else one for each
    gate      as harness.gateways makes it; nobody else may send to it meanwhile
    """

    def __init__(self, gate, *, http2=False, streams=100):
        self.gate = gate
        self.http2 = http2
        self.streams = streams
        self.connections = []
        self.sent = []  # of each request its connection, and the number of its stream
        self.before = gate.counters()
        self._bytes = 0
        self._open = ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._open.close()

    def send(self, bodies, headers=None, **claims):
        """A request for each body; all of them by the same user unless `headers` say otherwise."""
        bearer = {**self.gate.bearer(**claims), **(headers or {})}
        for body in bodies:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self._bytes += len(body)
            if self.http2:
                connection = self._shared()
                self.sent.append((connection, connection.queue(bearer, body)))
                connection.load += 1
            else:
                connection = self._open.enter_context(Http1(self.gate.envoy.port(), timeout=60))
                connection.send(head({**bearer, "content-length": str(len(body))}) + body)
                self.sent.append((connection, None))
                self.connections.append(connection)
        if self.http2:
            for connection in self.connections:
                connection.flush()
        return self

    def _shared(self):
        if not self.connections or self.connections[-1].load == self.streams:
            self.connections.append(self._open.enter_context(Http2(self.gate.envoy.port(), timeout=60)))
            self.connections[-1].load = 0
        return self.connections[-1]

    def parked(self, timeout=30):
        """Waits until the filter has read every body that was sent."""
        wait_until(lambda: self.gate.counted(self.before).get("request_bytes") == self._bytes, timeout,
                   f"{self._bytes} bytes of {len(self.sent)} requests to be read")
        return self

    def leave(self, number):
        """The client of that request is gone."""
        connection, stream = self.sent[number]
        if stream is None:
            connection.close()
        else:
            connection.reset(stream)
        self.sent[number] = None

    def answers(self):
        """The Answer of each request in order; None for those that have left."""
        streams = {}
        for connection in self.connections if self.http2 else []:
            wanted = {stream for sent in self.sent if sent and sent[0] is connection for stream in [sent[1]]}
            streams[connection] = collect(connection, wanted)
        return [sent and (streams[sent[0]][sent[1]] if self.http2 else sent[0].answer()) for sent in self.sent]

    def outcomes(self):
        """Status and accepted and rejected of each answer, as (200, 3, 0) or (502,); None for those that have left."""
        return [answer and outcome(answer) for answer in self.answers()]


def outcome(answer):
    if answer.status != 200:
        return (answer.status,)
    body = json.loads(answer.body)
    return answer.status, body["accepted"], body["rejected"]


def collect(connection, streams):
    """The whole answers on these streams, by stream."""
    headers, bodies, done = {}, dict.fromkeys(streams, b""), {}
    while len(done) < len(streams):
        if not connection.events:
            connection._receive()
        events, connection.events = connection.events, []
        for event in events:
            stream = getattr(event, "stream_id", None)
            if isinstance(event, h2.events.ConnectionTerminated):
                raise ConnectionError(f"GOAWAY: {event.error_code}")
            if stream not in bodies:
                continue
            if isinstance(event, h2.events.ResponseReceived):
                headers[stream] = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            elif isinstance(event, h2.events.DataReceived):
                bodies[stream] += event.data
                connection.connection.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.StreamReset) and stream not in done:
                raise ConnectionError(f"stream {stream} was reset: {event.error_code}")
            elif isinstance(event, h2.events.StreamEnded):
                status = int(dict(headers[stream])[":status"])
                done[stream] = Answer(status, "HTTP/2", headers[stream], bodies[stream], 0)
        connection.flush()
    return done


def allow_files(count):
    """Lets this process, and those it starts, have so many files open. Whether it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            return False
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return True
