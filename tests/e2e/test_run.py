"""`make run` and `make token`, as a person meets them."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from types import SimpleNamespace

import pytest

from harness import bootstrap, mint, run, sample
from harness.common import LOOPBACK, ROOT, Problem, wait_until

PORTS = run.ports_of(bootstrap.load("envoy.yaml"))


def command(module="harness.run", **env):
    """The arguments of subprocess for a module of the harness, run as the Makefile does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), **env}
    if "SESSION_JWT_SECRET" not in env:
        environment.pop("SESSION_JWT_SECRET", None)
    return {"args": [sys.executable, "-m", module], "cwd": ROOT, "env": environment, "text": True}


def output(**arguments):
    return subprocess.run(**arguments, capture_output=True, timeout=110)


@pytest.fixture
def free_ports():
    for port in PORTS:
        try:
            run.check_port(port, "the test")
        except Problem as problem:
            pytest.skip(f"make run cannot be tested: {problem}")


@pytest.fixture
def stack(free_ports, wasm_module):
    """`make run`, up; what it has printed so far is in `stack.said`."""
    process = subprocess.Popen(**command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = []
    for line in process.stdout:
        said.append(line)
        if "prints another" in line:
            break
    process.said = "".join(said)
    yield process
    process.terminate()  # not kill(): it has children to end
    process.stdout.close()
    process.wait(30)


def test_once(free_ports, wasm_module):
    done = output(**command(ONCE="1"))
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(sample.batch()["logs"])
    assert f"{count} of {count} records arrived" in done.stdout
    assert '"accepted":8' in done.stdout.replace(" ", "")
    records = [json.loads(line) for line in run.RECORDS.read_text().splitlines()]
    assert sorted(r["body"] for r in records) == sorted(r["message"] for r in sample.batch()["logs"])
    assert {r["resource"]["service.name"] for r in records} == {"field-app"}
    assert not mint.SECRET_FILE.exists()
    for port in PORTS:
        run.check_port(port, "the test")


def test_it_stays_up_for_curl_and_ends_when_told(stack):
    (curl,) = re.findall(r"^curl .*(?:\\\n.*)*\\\n.*$", stack.said, re.M)
    answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=20)
    assert answer.stdout.startswith("HTTP/1.1 200 "), answer.stdout

    token = output(**command("harness.mint")).stdout
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", token)
    url = f"http://{LOOPBACK}:{PORTS[0]}/api/v1/logs"
    command_line = ["curl", "-s", "-w", "%{http_code}", url, "-H", "Content-Type: application/json",
                    "-H", f"Authorization: Bearer {token.strip()}", "-d", '{"logs":[{"message":"with make token"}]}']
    answer = subprocess.run(command_line, capture_output=True, text=True, timeout=20)
    assert answer.stdout.endswith("200"), answer.stdout

    bodies = [json.loads(line)["body"] for line in run.RECORDS.read_text().splitlines()]
    assert bodies[-2:] == ["hello from curl", "with make token"]
    assert stat.S_IMODE(mint.SECRET_FILE.stat().st_mode) == 0o600
    log = (run.RUN_DIR / "envoy.log").read_text() + (run.RUN_DIR / "access.log").read_text()
    assert mint.SECRET_FILE.read_text() not in log and token.strip() not in log

    stack.send_signal(signal.SIGTERM)
    rest = stack.stdout.read()
    assert stack.wait(20) == 0
    assert "every process that it started has ended" in rest
    for port in PORTS:
        run.check_port(port, "the test")
    assert output(**command("harness.mint")).returncode == 1  # no stack, no token


def test_envoy_that_ends_by_itself_is_noticed(stack):
    (pid,) = children(stack.pid)
    os.kill(pid, signal.SIGKILL)
    rest = stack.stdout.read()
    assert stack.wait(20) == 1
    assert "Envoy ended by itself" in rest and "Traceback" not in rest


def children(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue  # it has ended
            if parent == pid:
                found.append(int(entry))
    return found


@pytest.mark.parametrize("port", PORTS)
def test_a_port_in_use_is_named(port, free_ports):
    with socket.create_server((LOOPBACK, port)):
        done = output(**command(ONCE="1"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"port {port}" in line and "is in use" in line


def test_an_envoy_that_does_not_exist_is_named(free_ports, wasm_module):
    done = output(**command(ONCE="1", ENVOY_BIN="/nowhere/envoy"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("run: error: ENVOY_BIN names /nowhere/envoy")
    assert "Traceback" not in done.stderr


def test_token_from_the_environment():
    done = output(**command("harness.mint", SESSION_JWT_SECRET="s" * 32))
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1 and done.stdout.count(".") == 2


class TestJudge:
    """ONCE=1 is green only if everything is."""

    batch = sample.batch()
    count = len(batch["logs"])
    records = [{"body": record["message"]} for record in batch["logs"]]
    answer = json.dumps({"accepted": count, "rejected": 0}).encode()

    def judge(self, status=200, answer=None, records=None):
        backend = SimpleNamespace(taken_records=self.records if records is None else records)
        return run.judge(status, answer or self.answer, self.batch, backend)

    def test_complete(self):
        assert self.judge()

    def test_incomplete(self):
        assert not self.judge(records=self.records[1:])
        assert not self.judge(records=self.records + self.records[:1])
        assert not self.judge(records=[])
        assert not self.judge(status=202)
        assert not self.judge(answer=b'{"accepted": 1, "rejected": 0}')
        assert not self.judge(answer=b"[]")
        assert not self.judge(answer=b"<html>")


def test_ports_that_are_closing_are_free(free_ports):
    """A stack may be started right after another one ended."""
    with socket.create_server((LOOPBACK, PORTS[0])) as server:
        with socket.create_connection((LOOPBACK, PORTS[0])) as client:
            accepted, _ = server.accept()
            accepted.close()  # this side closes first: it waits in TIME_WAIT
            client.recv(1)
    wait_until(lambda: run.check_port(PORTS[0], "the test") is None, 5, "a free port")
