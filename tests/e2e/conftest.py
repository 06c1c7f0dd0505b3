"""Fixtures for tests that drive the release module in a real Envoy.

    def test_it(gateway, backend, bearer):
        envoy = gateway(config={"max_body_bytes": 4096}, concurrency=2)
        answer = httpx.post(envoy.url("/api/v1/logs"), headers=bearer(), json={"logs": []})

`make test` builds what is needed first; by hand: `make wasm`, then
`target/venv/bin/python -m pytest tests/e2e`.
"""


import pytest

from harness import bootstrap, envoy_bin, tokens
from harness.backend import Backend
from harness.common import FIXTURES, WASM
from harness.envoy import Envoy


def pytest_report_header():
    return f"using {envoy_bin.find()}"


@pytest.fixture(scope="session")
def wasm_module():
    """The path of the release module."""
    if not WASM.exists():
        pytest.fail(f"{WASM} is not there; run:  make wasm", pytrace=False)
    return WASM


@pytest.fixture(scope="session")
def session_key():
    """The HMAC key of the provider in envoy/envoy.yaml; gateways get its secret."""
    return tokens.hmac_key()


@pytest.fixture
def bearer(session_key):
    """bearer(**claims) makes the headers of an authorized JSON request. Rate limits are
    counted by `sub` and `sid`; many requests need more than one of them."""
    def headers(**claims):
        token = tokens.mint(session_key, **claims)
        return {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return headers


@pytest.fixture
def backend():
    """A fresh stand-in for the backend; see harness.backend."""
    with Backend() as running:
        yield running


@pytest.fixture(scope="module")
def sink():
    """A backend that the tests of a file share."""
    with Backend() as running:
        yield running


@pytest.fixture
def gate(shared_gate, sink):
    """The gate that the tests of a file share (the file says which: `shared_gate`), with a backend that
    has forgotten what was before. Afterwards every worker must still do its work."""
    sink.forget()
    yield shared_gate
    sink.forget()
    shared_gate.good_on_every_worker()


@pytest.fixture(params=[False, True], ids=["HTTP/1.1", "HTTP/2"])
def http2(request):
    return request.param


@pytest.fixture
def fixture_bytes():
    """fixture_bytes("first-generation.json") is that file's content."""
    return lambda name: (FIXTURES / name).read_bytes()


class ProductionFiles:
    """Stands in for /etc/envoy, on which envoy/logfire.yaml relies."""

    def __init__(self, directory):
        self.directory = directory
        self.token_file = directory / "secrets" / "logfire-token"
        self.token_file.parent.mkdir(parents=True)
        self.token_file.write_text("write-token-1")
        (directory / WASM.name).symlink_to(WASM)
        secret = (bootstrap.ENVOY_DIR / "logfire-token.json").read_text()
        (directory / "logfire-token.json").write_text(self.rewrite(secret))

    def rewrite(self, node):
        """The document, or text, with /etc/envoy replaced by the directory here."""
        return bootstrap.replace_text(node, "/etc/envoy", str(self.directory))

    def rotate(self, token):
        """Replaces the write token as logfire.yaml says that it is done."""
        fresh = self.token_file.with_name("fresh")
        fresh.write_text(token)
        fresh.rename(self.token_file)


@pytest.fixture
def production_files(wasm_module, tmp_path):
    return ProductionFiles(tmp_path / "etc")


@pytest.fixture
def gateway(wasm_module, backend, session_key):
    """gateway(...) starts Envoy with envoy/envoy.yaml on free ports, its cluster
    pointed at `backend`, and returns it ready. It may be called several times.

    config       merged deeply into the filter's configuration (None removes a name)
    edit         a function that changes the bootstrap, called last
    form         "struct" (as in the file), or "json"
    concurrency  worker threads
    name         another file of envoy/, whose clusters `edit` then has to point somewhere
    env, log_level, component_log_level …   as for harness.envoy.Envoy

    At the end of the test each Envoy is stopped; it must still have been running,
    and its logs must hold no panic and no token. A test that wants a VM to die
    says `envoy.may_panic = True`; one that ends Envoy, `envoy.may_end = True`.
    """
    started = []

    def start(*, config=None, edit=None, form="struct", concurrency=1, name="envoy.yaml", env=None,
              log_level="info", **more):
        document = bootstrap.load_for_tests(name)
        if name == "envoy.yaml":
            bootstrap.point_cluster(document, "backend", backend.port)
        value = bootstrap.merge(bootstrap.filter_config(document), config or {})
        bootstrap.set_filter_config(document, value, form)
        if edit:
            edit(document)
        envoy = Envoy(document, concurrency=concurrency, log_level=log_level,
                      env={"SESSION_JWT_SECRET": session_key.secret, **(env or {})}, **more)
        envoy.may_panic = envoy.may_end = False
        started.append(envoy)
        return envoy.start()

    yield start

    faults = []
    for envoy in started:
        faults += end(envoy, session_key)
        envoy.discard()
    assert not faults, "\n".join(faults)


def end(envoy, session_key):
    """Stops an Envoy; what it should not have done, one line each."""
    faults = []
    if envoy.process is None:
        return faults
    if not envoy.running() and not envoy.may_end:
        faults.append(f"Envoy ended by itself, status {envoy.process.returncode}")
    envoy.stop()
    written = envoy.log_text() + envoy.access_log_text()
    panics = [line for line in written.splitlines() if "panicked" in line or "[critical]" in line]
    if panics and not envoy.may_panic:
        faults.append("Envoy's log: " + panics[0])
    if session_key.secret in written:
        faults.append("Envoy's log holds the secret")
    # The end of a token is its signature; short ones are no tokens at all.
    if any(token[-32:] in written for token in tokens.minted if len(token) > 64):
        faults.append("Envoy's log holds a token")
    return faults
