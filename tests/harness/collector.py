"""The real OpenTelemetry Collector, built once from tests/collector/builder.yaml where
Go and its modules are at hand, run with the very config.yaml of docker-compose.yml.

    reason = collector.missing()          # why it cannot be had, or None
    with Collector() as running:
        ...                               # send OTLP/HTTP to 127.0.0.1:{running.port}
        running.wait_for_records(5)
"""

import base64
import functools
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from . import gobuild, otlp
from .common import LOOPBACK, ROOT, TARGET, Problem, wait_until

MANIFEST = ROOT / "tests" / "collector" / "builder.yaml"
CONFIG = ROOT / "tests" / "collector" / "config.yaml"
VERSION = re.search(r"^  version: (\S+)", MANIFEST.read_text(), re.M).group(1)
BUILDER = f"go.opentelemetry.io/collector/cmd/builder@v{VERSION}"
HOME = TARGET / "collector"
BINARY = HOME / "build" / "otelcol"
STAMP = HOME / "stamp"

# On two slow cores it takes four minutes; a network that answers nothing takes for ever.
BUILD_SECONDS = 1200


@functools.cache
def missing():
    """Why there is no collector to be had here, in one line; None if there is one.
    Builds it, which takes some minutes the first time."""
    if BINARY.exists() and STAMP.exists() and STAMP.read_text() == fingerprint():
        return None
    reason = gobuild.build(f"the OpenTelemetry Collector {VERSION}", HOME,
                           ["go", "run", BUILDER, "--config", str(MANIFEST)], cwd=ROOT, seconds=BUILD_SECONDS)
    if reason is None:
        STAMP.write_text(fingerprint())
    return reason


def fingerprint():
    return hashlib.sha256(MANIFEST.read_bytes()).hexdigest()


class Collector:
    """One collector process on free ports, writing to a temporary file."""

    def __init__(self, env=None):
        self.env = env or {}
        self.port, self.health_port = free_port(), free_port()
        self._directory = tempfile.TemporaryDirectory(prefix="collector-")
        self.file = Path(self._directory.name) / "records.jsonl"
        self.log_path = Path(self._directory.name) / "collector.log"
        self.process = None

    def __enter__(self):
        environment = {
            **os.environ,
            "COLLECTOR_OTLP": f"{LOOPBACK}:{self.port}",
            "COLLECTOR_HEALTH": f"{LOOPBACK}:{self.health_port}",
            "COLLECTOR_FILE": str(self.file),
            **self.env,
        }
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen([BINARY, f"--config={CONFIG}"], cwd=ROOT, env=environment,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(self.healthy, 30, "the collector to be healthy", poll=0.05)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        self._directory.cleanup()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def healthy(self):
        if self.process.poll() is not None:
            raise Problem(f"the collector ended at once: {self.log_path.read_text(errors='replace')[-600:]}")
        connection = http.client.HTTPConnection(LOOPBACK, self.health_port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    @property
    def records(self):
        """What its file holds, as harness.otlp describes records. The exporter writes
        with a delay; see wait_for_records."""
        whole_lines = self.file.read_text().split("\n")[:-1] if self.file.exists() else []
        return [record for line in whole_lines for record in otlp.records_of(from_json(line))]

    def wait_for_records(self, count, timeout=15):
        return wait_until(lambda: len(self.records) >= count and self.records, timeout,
                          f"{count} record(s) in the collector's file", poll=0.05)


def from_json(line):
    """OTLP's JSON is protobuf's own, except that ids are hex instead of base64."""
    request = json.loads(line)
    for resource_logs in request.get("resourceLogs", []):
        for scope_logs in resource_logs.get("scopeLogs", []):
            for record in scope_logs.get("logRecords", []):
                for name in ("traceId", "spanId"):
                    if name in record:
                        record[name] = base64.b64encode(bytes.fromhex(record[name])).decode()
    return json_format.ParseDict(request, ExportLogsServiceRequest())


def free_port():
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    print(missing() or f"the OpenTelemetry Collector {VERSION} is ready")
