"""Programs in Go that tests run beside Envoy, built where Go is at hand.

    reason = build("envoyproxy/ratelimit", home, command, cwd=source, seconds=900)    # None: it is built
"""

import os
import shutil
import signal
import subprocess
import sys


def build(what, home, command, *, cwd, seconds, flags=""):
    """Runs a command that builds `what`, with its output in home/build.log, and says so, since it
    takes some minutes. Why it can't be had, in one line; None if it could be built."""
    if not shutil.which("go"):
        return f"Go is not installed, so {what} cannot be built"
    home.mkdir(parents=True, exist_ok=True)
    log = home / "build.log"
    print(f"building {what}, which takes some minutes", file=sys.stderr, flush=True)
    # Not the flags that a machine sets for its own projects; and its version is not that of this repository.
    environment = {**os.environ, "GOFLAGS": f"-buildvcs=false {flags}".strip(), "GOWORK": "off"}
    with log.open("wb") as output:
        # A session of its own, so that the compilers can be ended with it.
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=output, start_new_session=True)
        try:
            status = process.wait(seconds)
        except BaseException as fault:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            if not isinstance(fault, subprocess.TimeoutExpired):
                raise
            return f"building {what} took more than {seconds} s (no network?)"
    if status != 0:
        said = " ".join(log.read_text(errors="replace").split())[-200:]
        return f"{what} could not be built (all of target/{home.name}/build.log tells why): …{said}"
    return None
