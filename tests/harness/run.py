"""`make run`: the local stack, and a batch through it.

Builds what is missing, starts the stand-in backend and Envoy with envoy/envoy.yaml
as it is, sends a realistic batch, shows what came of it, and stays up until Ctrl-C.
With ONCE=1 it ends after the batch; its status says whether every record arrived.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from contextlib import ExitStack, suppress
from datetime import datetime, timezone

from . import bootstrap, envoy_bin, mint, otlp, sample, tokens
from .backend import Backend
from .common import LOOPBACK, ROOT, RUN_DIR, Problem
from .envoy import Envoy

RECORDS = RUN_DIR / "records.jsonl"
PATH = "/api/v1/logs"


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived."""


def say(text=""):
    print(text, flush=True)


def step(text):
    say(f"run: {text}")


def main():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop_now)
    once = os.environ.get("ONCE", "") not in ("", "0")
    try:
        with ExitStack() as running:
            return stack(running, once)
    except Stopped:
        say("\nrun: stopped; every process that it started has ended")
        return 0 if not once else 130
    except Problem as problem:
        print(f"run: error: {problem}", file=sys.stderr)
    except Exception as fault:  # a defect of this program: one line here, the rest in a file
        RUN_DIR.mkdir(parents=True, exist_ok=True)
        (RUN_DIR / "error.txt").write_text(traceback.format_exc())
        print(f"run: error: {type(fault).__name__}: {fault} (more in target/run/error.txt)", file=sys.stderr)
    return 1


def stop_now(*_):
    # Once is enough: what follows is the orderly end, which a second Ctrl-C must not break.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def stack(running, once):
    """Starts it all in `running`, which ends it in reverse order. Returns the status."""
    document = bootstrap.load("envoy.yaml")
    port, admin_port, backend_port = ports_of(document)
    for number, user in ((port, "Envoy"), (admin_port, "Envoy's admin"), (backend_port, "the backend")):
        check_port(number, user)
    build_wasm()
    step(f"using {envoy_bin.find()}")

    shutil.rmtree(RUN_DIR, ignore_errors=True)
    RUN_DIR.mkdir(parents=True)
    secret = make_secret(running)
    backend = running.enter_context(Backend(backend_port, jsonl=RECORDS, on_record=show))
    step(f"backend on {backend.address} (stands in for Logfire)")
    envoy = Envoy(ROOT / "envoy" / "envoy.yaml", concurrency=2, workdir=RUN_DIR, env={"SESSION_JWT_SECRET": secret})
    running.enter_context(envoy)
    running.enter_context(Watch(envoy))
    step(f"Envoy on {LOOPBACK}:{port}, admin on {LOOPBACK}:{admin_port}, log in {shown(envoy.log_path)}")

    complete = send_batch(port, secret, backend)
    step(f"records are in {shown(RECORDS)}, one JSON object a line")
    if once:
        return 0 if complete else 1
    invite(port, secret)
    while envoy.running():
        with suppress(subprocess.TimeoutExpired):
            envoy.process.wait(1)
    raise Problem(f"Envoy ended by itself with status {envoy.process.returncode}; see {shown(envoy.log_path)}")


# Before the start.

def ports_of(document):
    """The ports of the listener, the admin interface and the backend, from Envoy's file."""
    (group,) = bootstrap.cluster(document, "backend")["load_assignment"]["endpoints"]
    places = [bootstrap.listener(document), document["admin"], group["lb_endpoints"][0]["endpoint"]]
    return [place["address"]["socket_address"]["port_value"] for place in places]


def check_port(port, user):
    with socket.socket() as probe:
        # As the servers do: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            raise Problem(
                f"port {port}, which {user} needs, is in use; end what listens there"
                f" (another `make run`?), then try again"
            ) from None


def build_wasm():
    step("building the filter")
    # A session of its own, so that all of it can be ended at once, compilers too.
    build = subprocess.Popen([ROOT / "tests" / "tools" / "build-wasm"], cwd=ROOT, start_new_session=True)
    try:
        status = build.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(build.pid, signal.SIGTERM)
        build.wait()
        raise
    if status != 0:
        raise Problem("the filter could not be built; the reason stands above")


def make_secret(running):
    """A new HMAC secret for this run, where `make token` finds it while the stack is up."""
    secret = tokens.hmac_key().secret
    with open(mint.SECRET_FILE, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(secret)
    running.callback(mint.SECRET_FILE.unlink, missing_ok=True)
    return secret


# The batch.

def send_batch(port, secret, backend):
    """Sends it and shows the answer. True if it was accepted and every record arrived."""
    batch = sample.batch()
    count = len(batch["logs"])
    body = json.dumps(batch, ensure_ascii=False).encode()
    step(f"sending {count} records of both client generations, {len(body)} bytes, to POST {PATH}")
    headers = {"content-type": "application/json", "authorization": f"Bearer {mint.token(secret)}"}
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    try:
        connection.request("POST", PATH, body, headers)
        response = connection.getresponse()
        answer = response.read()
    except OSError as fault:
        raise Problem(f"no answer from Envoy: {fault}; see target/run/envoy.log") from None
    finally:
        connection.close()
    step(f"the answer: {response.status} {answer.decode(errors='replace').strip()}")
    return judge(response.status, answer, batch, backend)


def judge(status, answer, batch, backend):
    # The backend had the records before Envoy had its answer: nothing to wait for.
    sent = [record["message"] for record in batch["logs"]]
    arrived = [record["body"] for record in backend.taken_records]
    missing = [message for message in sent if message not in arrived]
    for message in missing:
        step(f"did not arrive: {message}")
    try:
        accepted = json.loads(answer).get("accepted")
    except (ValueError, AttributeError):
        accepted = None
    complete = status == 200 and accepted == len(sent) and not missing and len(arrived) == len(sent)
    step(f"{len(arrived)} of {len(sent)} records arrived" + ("" if complete else ": NOT as it should be"))
    return complete


def show(record):
    say("  arrived  " + otlp.line(record))


def invite(port, secret):
    record = {"timestamp": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}", "level": "info", "logger": "Shell",
              "message": "hello from curl", "attributes": {"answer": 42}}
    body = json.dumps({"logs": [record], "resource": {"service.name": "curl"}})
    say(f"""
The stack is up; Ctrl-C ends it. To send a record yourself, paste this in another terminal:

curl -i http://{LOOPBACK}:{port}{PATH} -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer {mint.token(secret)}' \\
  -d '{body}'

That token is good for an hour; `make -s token` prints another.
""")


class Watch:
    """Shows what Envoy logs at warning or worse, as it comes."""

    def __init__(self, envoy):
        self.envoy = envoy
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def follow(self):
        with self.envoy.log_path.open(errors="replace") as log:
            rest = ""
            while True:
                last = self.ended.wait(0.2)
                rest += log.read()
                *lines, rest = rest.split("\n")
                for line in lines:
                    if any(level in line for level in ("[warning]", "[error]", "[critical]")):
                        say("  envoy    " + line[:400])
                if last:
                    return


def shown(path):
    return path.relative_to(ROOT)


if __name__ == "__main__":
    sys.exit(main())
