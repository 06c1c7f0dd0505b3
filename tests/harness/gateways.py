"""Envoys that several tests share, and what must be true of every Envoy at its end.

    with serving(backend, key, concurrency=2) as gate:
        gate.send(sample.batch()).status_code
        gate.good_on_every_worker()

A gate is the Envoy of envoy/envoy.yaml with the tests' changes, its backend, and one
connection to each of its workers: what broke one worker would not be seen through
another.
"""

import http.client
import itertools
import json
import re
import threading
from contextlib import contextmanager

import httpx

from . import bootstrap, tokens
from .common import LOOPBACK, wait_until
from .envoy import Envoy

PATH = "/api/v1/logs"
STATS = "wasmcustom.envoy_log_ingest."

# What Envoy or the VM writes when a filter is broken; none of it may ever be seen.
BROKEN = ("panicked", "wasm_fail", "[critical]", "Uncaught RuntimeError")


@contextmanager
def serving(backend, key, *, config=None, edit=None, form="struct", concurrency=1, env=None, log_level="info", **more):
    """A Gate, ready. The keyword arguments are those of the fixture `gateway` in conftest.py:
    config   merged deeply into the filter's configuration (None removes a name)
    edit     a function that changes the bootstrap, called last
    form     how the filter gets its configuration: "struct", or "json" for a StringValue
    """
    document = bootstrap.load_for_tests()
    bootstrap.point_cluster(document, "backend", backend.port)
    value = bootstrap.merge(bootstrap.filter_config(document), config or {})
    bootstrap.set_filter_config(document, value, form)
    if edit:
        edit(document)
    # Access logs are read by the tests; Envoy would keep them back for ten seconds.
    arguments = ["--file-flush-interval-msec", "20", *more.pop("arguments", [])]
    envoy = Envoy(document, concurrency=concurrency, log_level=log_level, arguments=arguments,
                  env={"SESSION_JWT_SECRET": key.secret, **(env or {})}, **more)
    secrets = [key.secret, *(env or {}).values()]
    try:
        envoy.start()
        gate = Gate(envoy, backend, key)
        yield gate
        gate.close()
        faults = faults_of(envoy, secrets)
    finally:
        envoy.stop()
        envoy.discard()
    assert not faults, "\n".join(faults)


def faults_of(envoy, secrets=()):
    """Stops a running Envoy; what it did in its life that it should not have done, one line
    each. `secrets` are texts that its logs must not hold, beside every token ever minted."""
    faults = []
    if envoy.running():
        reloads = {name: value for name, value in envoy.stats("vm_reload").items() if value}
        if reloads:
            faults.append(f"the VM was reloaded: {reloads}")
        envoy.stop()
    else:
        faults.append(f"Envoy ended by itself, status {envoy.process.returncode}")
    for what, text in (("log", envoy.log_text()), ("access log", envoy.access_log_text())):
        broken = [line for line in text.splitlines() if any(word in line for word in BROKEN)]
        faults += [f"Envoy's {what}: {line[:300]}" for line in broken]
        if any(secret and secret in text for secret in secrets):
            faults.append(f"Envoy's {what} holds a secret")
        if tokens_in(text):
            faults.append(f"Envoy's {what} holds a token, or a part of one")
    return faults


def tokens_in(text):
    """The minted tokens of which the claims or the signature stand in the text. Shorter parts
    are left out: they stand in any text by chance."""
    return [token for token in tokens.minted if any(len(part) > 20 and part in text for part in token.split(".")[1:])]


class Gate:
    """An Envoy with the filter; `.envoy`, `.backend` and `.key` are its parts."""

    _numbers = itertools.count(1)

    def __init__(self, envoy, backend, key):
        self.envoy = envoy
        self.backend = backend
        self.key = key
        self._workers = {}
        # A client for each thread: where several share one, httpcore now and then closes a connection that
        # it has just given to another's request.
        self._own = threading.local()
        self._clients = []
        self._tls = httpx.create_ssl_context(verify=False)

    def url(self, path=PATH):
        return self.envoy.url(path)

    def bearer(self, **claims):
        """The headers of an authorized JSON request."""
        return {"authorization": f"Bearer {tokens.mint(self.key, **claims)}", "content-type": "application/json"}

    def send(self, batch, *, path=PATH, headers=None, timeout=30, **claims):
        """POSTs a batch, given as a value or as the body's bytes."""
        body = batch if isinstance(batch, bytes) else json.dumps(batch).encode()
        headers = {**self.bearer(**claims), **(headers or {})}
        return self._client().post(self.url(path), content=body, headers=headers, timeout=timeout)

    def _client(self):
        if not hasattr(self._own, "client"):
            # A connection for each request, as from many clients.
            limits = httpx.Limits(max_keepalive_connections=0)
            self._own.client = httpx.Client(trust_env=False, verify=self._tls, limits=limits)
            self._clients.append(self._own.client)
        return self._own.client

    def deliver(self, batch, **claims):
        """Sends a batch that must be accepted whole. The request as the backend got it."""
        before = len(self.backend.requests)
        answer = self.send(batch, **claims)
        assert answer.status_code == 200, answer.text
        (request,) = self.backend.requests[before:]
        assert answer.json() == {"accepted": len(request.records), "rejected": 0}
        return request

    def counters(self):
        """The filter's counters that are not zero, without their common prefix."""
        return {name[len(STATS):]: value for name, value in self.envoy.stats(STATS).items() if value}

    def counted(self, before):
        """What was counted since `before`, which counters() gave."""
        now = self.counters()
        return {name: now[name] - before.get(name, 0) for name in now if now[name] != before.get(name)}

    def outcome(self, before):
        """The same, but only what says what became of requests and their records."""
        names = re.compile(r"requests(_accepted)?|records_(accepted|rejected)|rejected\..*|exports|clients_gone")
        return {name: value for name, value in self.counted(before).items() if names.fullmatch(name)}

    def tag(self):
        """A user agent that no other request has: it finds the request's line in the access log."""
        return f"test-{next(self._numbers)}-of-them"

    def access_log_line(self, tag):
        (line,) = self.envoy.wait_for_access_log(f'"{tag}"')
        return line

    # Each worker.

    def good_on_every_worker(self):
        """Sends a good request over a connection to each worker: each must be answered 200, and
        its record must have arrived, by a VM that was never replaced."""
        for worker in self.workers():
            message = f"good-{next(self._numbers)}"
            status, answer = self.post_on(worker, {"logs": [{"message": message}]}, sub=message)
            assert (status, answer) == (200, b'{"accepted":1,"rejected":0}'), f"worker {worker}: {status} {answer!r}"
            assert message in [record["body"] for record in self.backend.taken_records]
        reloads = self.envoy.stats("vm_reload")
        assert not any(reloads.values()), f"a worker's VM died: {reloads}"

    def post_on(self, worker, batch, **claims):
        """Sends a batch on the connection to one worker. Status and body of the answer."""
        connection = self.workers()[worker]
        try:
            connection.request("POST", PATH, json.dumps(batch), self.bearer(**claims))
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            del self._workers[worker]
            raise

    def workers(self):
        """{number: connection}, one for each worker. The kernel chooses the worker of a new
        connection, so it takes some of them to have one with each."""
        if len(self._workers) < self.envoy.concurrency:
            wait_until(self._find_workers, 20, f"a connection to each of {self.envoy.concurrency} workers", poll=0)
        return self._workers

    def _find_workers(self):
        before = self._accepted()
        connection = http.client.HTTPConnection(LOOPBACK, self.envoy.port(), timeout=20)
        connection.connect()
        after = wait_until(lambda: (now := self._accepted()) != before and now, 5, "a worker to accept a connection")
        changed = [worker for worker in after if after[worker] != before[worker]]
        # Some other connection came in between: this one cannot be told.
        if len(changed) == 1 and sum(after.values()) == sum(before.values()) + 1 and changed[0] not in self._workers:
            self._workers[changed[0]] = connection
        else:
            connection.close()
        return len(self._workers) == self.envoy.concurrency

    def _accepted(self):
        listener = f".{LOOPBACK}_0.worker_"
        return {
            int(name.split(listener)[1].split(".")[0]): value
            for name, value in self.envoy.stats("downstream_cx_total").items() if listener in name
        }

    def close(self):
        for connection in self._workers.values():
            connection.close()
        self._workers = {}
        for client in self._clients:
            client.close()
