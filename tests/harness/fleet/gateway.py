"""Envoy with the filter, as often as it takes: killed by SIGKILL and started anew, its workers'
VMs trapped, and its log read after each life."""

import re
import socket
from contextlib import suppress

from .. import bootstrap, wasm
from ..common import LOOPBACK, WASM, Problem
from ..envoy import Envoy
from ..gateways import BROKEN, PATH

# A request with so many headers traps the VM that it reaches. Envoy takes a hundred at most; no
# client of the fleet sends more than ten.
TRAPPING_HEADERS = 90


class Gateway:
    """One at a time; `lives` have been begun, `faults` are what the logs hold that they should not."""

    def __init__(self, plan, key, backend_port, directory):
        self.lives = 0
        self.faults = []
        self.trapped = 0  # in this life
        self._document = document(plan, backend_port, directory)
        if not plan.trace:
            bootstrap.connection_manager(self._document).pop("access_log", None)
        self._trace = plan.trace
        self._directory = directory
        self._environment = {"SESSION_JWT_SECRET": key.secret}
        self._workers = plan.workers
        self._secret = key.secret
        self.envoy = None

    def start(self):
        """Begins a life. The port at which it listens, another one each time."""
        self.lives += 1
        self.trapped = 0
        workdir = self._directory / "envoy"
        workdir.mkdir(exist_ok=True)
        self.envoy = Envoy(self._document, concurrency=self._workers, env=self._environment, workdir=workdir).start()
        return self.envoy.port()

    def kill(self):
        """SIGKILL."""
        if not self.envoy.running():
            self.faults.append(f"Envoy ended by itself, status {self.envoy.process.returncode}")
        self.envoy.process.kill()
        self.envoy.process.wait()
        self._read_log()

    def trap(self):
        """Traps the VM of whichever worker takes a new connection."""
        fields = "".join(f"x-{number}: 1\r\n" for number in range(TRAPPING_HEADERS + 5))
        with suppress(OSError), socket.create_connection((LOOPBACK, self.envoy.port()), 5) as connection:
            connection.sendall(f"POST {PATH} HTTP/1.1\r\nhost: {LOOPBACK}\r\n{fields}\r\n".encode())
            connection.recv(4096)
        # During the pause before a VM is made anew Envoy answers by itself, and nothing is trapped.
        self.trapped = len(OURS.findall(self.envoy.log_text()))

    def stop(self):
        """Ends the last life in order."""
        if self.envoy is None:
            return
        if self.envoy.running():
            self.envoy.stop()
            self._read_log()
        elif self.envoy.process is not None:
            self.faults.append(f"Envoy ended by itself, status {self.envoy.process.returncode}")
            self._read_log()

    def _read_log(self):
        """Each trap of ours is one error; anything else is a fault."""
        if self._trace:
            self.envoy.access_log_path.replace(self._directory / f"access-{self.lives}.log")
        text = self.envoy.log_text()
        lines = [line for line in text.splitlines() if any(word in line for word in BROKEN)]
        foreign = [line for line in lines if not OURS.search(line)]
        if foreign or len(lines) > self.trapped:
            self.faults.append(f"Envoy's log of life {self.lives}: {(foreign or lines)[0][:300]}")
        if self._secret in text:
            self.faults.append(f"Envoy's log of life {self.lives} holds the secret")


# What V8 says of the instruction that the wrapped export has.
OURS = re.compile(r"proxy_on_request_headers failed: Uncaught RuntimeError: unreachable")


def document(plan, backend_port, directory):
    """The bootstrap: that of envoy/envoy.yaml with what the fleet needs."""
    if not WASM.exists():
        raise Problem(f"{WASM} is not there; run:  make wasm")
    made = bootstrap.load_for_tests()
    bootstrap.point_cluster(made, "backend", backend_port)
    bootstrap.merge(bootstrap.filter_config(made), {
        "export": {"timeout_ms": plan.timeout_ms},
        # Some of those that come back with a full queue are told to wait.
        "rate_limits": {
            "user": {"max_tokens": 600, "tokens_per_fill": 100, "fill_interval_ms": 1000}, "session": None,
        },
    })
    manager = bootstrap.connection_manager(made)
    # What a trap leaves unanswered ends by this.
    manager["stream_idle_timeout"] = f"{plan.timeout_ms / 1000 + 1.5}s"
    if plan.traps:
        module = directory / "trapping.wasm"
        module.write_bytes(wasm.trapping(WASM.read_bytes(), "proxy_on_request_headers", 1, TRAPPING_HEADERS))
        bootstrap.wasm_plugin(made)["vm_config"]["code"]["local"]["filename"] = str(module)
    code = {"false-200": 200, "discard": 400}.get(plan.breaks)
    if code:
        manager["local_reply_config"]["mappers"].insert(0, {
            "filter": {"status_code_filter": {"comparison": {
                "op": "EQ", "value": {"default_value": 502, "runtime_key": "fleet.broken"}}}},
            "status_code": code,
            "body": {"inline_string": '{"accepted":0,"rejected":0}'},
        })
    return made
