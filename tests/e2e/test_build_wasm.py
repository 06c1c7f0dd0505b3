"""tests/tools/build-wasm finds out by itself which toolchain to use. The machines
that it meets are made of small stand-ins on PATH."""

import shutil
import subprocess

import pytest

from harness.common import ROOT

SCRIPT = ROOT / "tests" / "tools" / "build-wasm"
TOOLS = "bash dirname id timeout env mkdir cat".split()


class Machine:
    """A PATH with nothing on it but a few tools and what a test adds."""

    def __init__(self, directory):
        self.bin = directory / "bin"
        self.libdir = directory / "rustlib"
        self.rustup_log = directory / "rustup.log"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.debian(installed=False)

    def program(self, name, script):
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        path.chmod(0o755)

    def rust(self, std):
        self.program("cargo", "exit 0")
        self.program("rustc", f'if [ "$1" = --version ]; then echo "rustc 1.0.0 (fake)"; else echo "{self.libdir}"; fi')
        if std:
            self.add_std()

    def add_std(self):
        self.libdir.mkdir()
        (self.libdir / "libstd-0123456789abcdef.rlib").touch()

    def rustup(self, can_add):
        # What it can add is put where rustc says that it looks.
        add = f'{shutil.which("mkdir")} -p "{self.libdir}"; : > "{self.libdir}/libstd-1.rlib"' if can_add else "exit 1"
        self.program("rustup", f'echo "$@" >> "{self.rustup_log}"\n{add}')

    def debian(self, installed):
        self.program("dpkg-query", "printf installed" if installed else "exit 1")

    def which(self, **env):
        done = subprocess.run([SCRIPT, "--which"], env={"PATH": str(self.bin), **env}, capture_output=True, text=True)
        return done.returncode, done.stderr.strip()

    @property
    def rustup_was_asked(self):
        return self.rustup_log.exists()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_toolchain_that_has_the_target(machine):
    machine.rust(std=True)
    machine.rustup(can_add=True)
    machine.debian(installed=True)
    status, said = machine.which()
    assert status == 0
    assert "using the usual toolchain, rustc 1.0.0 (fake): it has a std for wasm32-wasip1" in said
    assert not machine.rustup_was_asked


def test_rustup_fetches_the_target(machine):
    machine.rust(std=False)
    machine.rustup(can_add=True)
    machine.debian(installed=False)
    status, said = machine.which()
    assert status == 0
    assert "using the usual toolchain" in said and "rustup fetched" in said
    assert machine.rustup_log.read_text() == "target add wasm32-wasip1\n"


def test_rustup_cannot_fetch_the_target(machine):
    machine.rust(std=False)
    machine.rustup(can_add=False)
    machine.debian(installed=False)
    status, said = machine.which()
    assert status == 0
    assert "using Debian's rustc-web" in said and "none from rustup" in said


def test_debians_packages_come_before_the_network(machine):
    machine.rust(std=False)
    machine.rustup(can_add=True)
    machine.debian(installed=True)
    status, said = machine.which()
    assert status == 0
    assert "using Debian's rustc-web" in said and "Debian's packages are installed" in said
    assert not machine.rustup_was_asked


def test_no_rust_at_all(machine):
    assert "using Debian's rustc-web" in machine.which()[1]


def test_the_choice_can_be_taken_away(machine):
    machine.rust(std=True)
    assert "using Debian's rustc-web" in machine.which(WASM_TOOLCHAIN="debian")[1]
    assert "using the usual toolchain" in machine.which(WASM_TOOLCHAIN="rustup")[1]
    status, said = machine.which(WASM_TOOLCHAIN="neither")
    assert status == 1
    assert "it may be rustup or debian" in said


def test_it_says_on_one_line(machine):
    machine.rust(std=True)
    assert len(machine.which()[1].splitlines()) == 1


def test_no_debian_says_what_is_missing(machine):
    """Debian's way on a machine that is no Debian: one line, no attempt."""
    env = {"PATH": str(machine.bin), "WASM_TOOLCHAIN": "debian"}
    done = subprocess.run([SCRIPT], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs rustc-web" in done.stderr.splitlines()[-1]


def test_without_root_it_prints_the_line_to_run(machine):
    machine.program("apt-get", "exit 1")
    machine.program("id", "echo 1000")
    env = {"PATH": str(machine.bin), "WASM_TOOLCHAIN": "debian"}
    done = subprocess.run([SCRIPT], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "sudo apt-get install -y --no-install-recommends rustc-web cargo-web" in last
