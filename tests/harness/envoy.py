"""A real Envoy as a context manager.

    with Envoy(bootstrap.load("envoy.yaml"), concurrency=2) as envoy:
        httpx.post(envoy.url("/api/v1/logs"), ...)
        envoy.stats()["cluster.backend.upstream_rq_total"]

The bootstrap may give port 0 for listeners and admin: the ports that the kernel
chose are asked for, so nothing races for a free one.
"""

import http.client
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from . import envoy_bin
from .common import LOOPBACK, ROOT, Problem, wait_until


class Envoy:
    """One Envoy process.

    config        a bootstrap as a dict, or the path of a file to use as it is
    concurrency   worker threads
    env           variables added to this process's own (None removes one)
    log_level     of Envoy; `component_log_level` as on its command line, "wasm:debug"
    cwd           where relative paths in the bootstrap start; the project's root
    workdir       where its files go; a temporary directory by default
    """

    def __init__(self, config, *, concurrency=1, env=None, log_level="info",
                 component_log_level=None, cwd=ROOT, workdir=None, arguments=()):
        self.config = config
        self.concurrency = concurrency
        self.env = env or {}
        self.log_level = log_level
        self.component_log_level = component_log_level
        self.cwd = Path(cwd)
        self.arguments = list(arguments)
        self._own_workdir = None
        if workdir is None:
            self._own_workdir = tempfile.TemporaryDirectory(prefix="envoy-")
            workdir = self._own_workdir.name
        self.workdir = Path(workdir)
        self.log_path = self.workdir / "envoy.log"
        self.access_log_path = self.workdir / "access.log"
        self.process = None
        self.admin_port = None
        self._ports = {}

    # Life.

    def start(self, timeout=60):
        """Starts it and returns once it takes requests. Raises Problem, with the
        end of its log, if it ends before that or is not ready in `timeout` seconds."""
        admin_file = self.workdir / "admin-address.txt"
        admin_file.unlink(missing_ok=True)
        command = self._command() + ["--admin-address-path", str(admin_file)]
        environment = {**os.environ, **self.env}
        environment = {name: value for name, value in environment.items() if value is not None}
        with self.log_path.open("wb") as log, self.access_log_path.open("wb") as access_log:
            # A session of its own: Ctrl-C at a terminal reaches only the program
            # that started it, which then ends its children in order.
            self.process = subprocess.Popen(command, cwd=self.cwd, env=environment, stdin=subprocess.DEVNULL,
                                            stdout=access_log, stderr=log, start_new_session=True)

        def ready():
            if self.process.poll() is not None:
                raise Problem(f"Envoy ended at once (status {self.process.returncode}); {self._why()}")
            if self.admin_port is None:
                if not admin_file.exists() or ":" not in admin_file.read_text():
                    return False
                self.admin_port = int(admin_file.read_text().strip().rsplit(":", 1)[1])
            try:
                return self.admin_response("/ready")[0] == 200
            except OSError:
                return False

        try:
            wait_until(ready, timeout, "Envoy to be ready")
        except TimeoutError as late:
            self.stop()
            raise Problem(f"{late}; {self._why()}") from None
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, grace=10):
        """Ends it, by SIGTERM, or SIGKILL if that does not do. Returns its status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        self.discard()

    def discard(self):
        """Removes its temporary directory, logs and all."""
        if self._own_workdir:
            self._own_workdir.cleanup()

    # Where it listens.

    def port(self, listener=None):
        """The port of the named listener, or of the first one."""
        if not self._ports:
            statuses = json.loads(self.admin("/listeners?format=json"))["listener_statuses"]
            self._ports = {
                status["name"]: status["local_address"]["socket_address"]["port_value"] for status in statuses
            }
        return self._ports[listener] if listener else next(iter(self._ports.values()))

    def url(self, path="/", listener=None):
        return f"http://{LOOPBACK}:{self.port(listener)}{path}"

    # What it says.

    def admin_response(self, path, method="GET"):
        """Status and body of a request to the admin port."""
        connection = http.client.HTTPConnection(LOOPBACK, self.admin_port, timeout=10)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        finally:
            connection.close()

    def admin(self, path, method="GET"):
        status, body = self.admin_response(path, method)
        if status != 200:
            raise AssertionError(f"{method} {path} on the admin port: {status} {body}")
        return body

    def stats(self, contains=""):
        """Every counter and gauge as {name: value}; those with `contains` in their names."""
        entries = json.loads(self.admin("/stats?format=json"))["stats"]
        return {entry["name"]: entry["value"] for entry in entries if "name" in entry and contains in entry["name"]}

    def wait_for_stat(self, name, at_least=1, timeout=10):
        """Waits until the named stat has reached a value, and returns it."""
        return wait_until(lambda: (value := self.stats().get(name, 0)) >= at_least and value,
                          timeout, f"{name} >= {at_least}")

    def log_text(self):
        return self.log_path.read_text(errors="replace")

    def access_log_text(self):
        """What Envoy wrote to its standard output: the access log of the files in envoy/.
        Envoy flushes it at intervals; wait_for_access_log waits for a line."""
        return self.access_log_path.read_text(errors="replace")

    def wait_for_log(self, text, timeout=10):
        return wait_until(lambda: text in self.log_text() and self.log_text(), timeout, f"{text!r} in Envoy's log")

    def wait_for_access_log(self, text, timeout=15):
        """The lines of the access log with `text`, as soon as there is one."""
        def lines():
            return [line for line in self.access_log_text().splitlines() if text in line]
        return wait_until(lines, timeout, f"{text!r} in Envoy's access log")

    # Inside.

    def _command(self):
        if isinstance(self.config, dict):
            # JSON, since YAML's writers and readers differ on what `y` or `on` is.
            path = self.workdir / "envoy.json"
            path.write_text(json.dumps(self.config))
        else:
            path = Path(self.config)
        command = [str(envoy_bin.find().path), "--config-path", str(path)]
        command += ["--concurrency", str(self.concurrency), "--log-level", self.log_level]
        # Without hot restart several Envoys on one machine share nothing.
        command += ["--disable-hot-restart", *self.arguments]
        if self.component_log_level:
            command += ["--component-log-level", self.component_log_level]
        return command

    def _why(self):
        # Errors first of all; Envoy may quote the whole configuration in one line.
        lines = [line for line in self.log_text().splitlines() if line.strip()]
        grave = [line for line in lines if "[error]" in line or "[critical]" in line]
        return "its log ends:\n" + "\n".join("    " + line[:400] for line in (grave or lines)[-8:])


def validate(config, *, cwd=ROOT, env=None):
    """Runs `envoy --mode validate`. Returns (accepted, what Envoy said)."""
    with tempfile.TemporaryDirectory(prefix="envoy-") as workdir:
        envoy = Envoy(config, cwd=cwd, env=env, workdir=workdir, log_level="warning")
        environment = {**os.environ, **envoy.env}
        done = subprocess.run(envoy._command() + ["--mode", "validate"], cwd=cwd, env=environment,
                              capture_output=True, text=True, timeout=120)
        return done.returncode == 0, done.stdout + done.stderr
