"""envoy/logfire.yaml as it is shipped, with a backend that speaks TLS in Logfire's
place: whom it trusts, what it adds to requests, and what browsers are told."""

import httpx
import pytest

from harness import bootstrap, tokens
from harness.backend import Backend
from harness.common import wait_until
from harness.tls import Authority

HOST = "logfire-us.pydantic.dev"
PATH = "/api/v1/logs"
CA_FILE = "/etc/ssl/certs/ca-certificates.crt"
BATCH = {"logs": [{"timestamp": "2026-02-06T12:00:00.000Z", "level": "info", "logger": "Auth", "message": "hello"}]}


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def key():
    return tokens.rsa_key("logfire")


@pytest.fixture
def headers(key):
    token = tokens.mint(key, iss="https://id.example.com/realms/field", aud="field-app")
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def production(gateway, authority, key, production_files):
    """production(backend): Envoy as in logfire.yaml, but for the addresses, the
    provider's key, and the authority that it trusts."""
    def start(backend):
        def edit(document):
            bootstrap.point_cluster(document, "logfire", backend.port)
            bootstrap.filter_config(document)["auth"]["providers"][0]["public_key_pem"] = key.public_pem
            changed = bootstrap.replace_text(document, CA_FILE, str(authority.ca_file))
            document.update(production_files.rewrite(changed))
        return gateway(name="logfire.yaml", edit=edit)
    return start


def post(envoy, headers):
    return httpx.post(envoy.url(PATH), json=BATCH, headers=headers, timeout=20)


def test_records_arrive_with_the_write_token(production, authority, headers, production_files):
    with Backend(tls=authority.issue(HOST)) as backend:
        envoy = production(backend)
        answer = post(envoy, headers)
        assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "rejected": 0})
        (request,) = backend.requests
        assert request.path == "/v1/logs"
        assert request.headers["host"] == HOST
        assert request.headers["authorization"] == "write-token-1"
        assert [record["body"] for record in request.records] == ["hello"]


def test_the_write_token_is_rotated_without_a_restart(production, authority, headers, production_files):
    with Backend(tls=authority.issue(HOST)) as backend:
        envoy = production(backend)

        def token_now():
            assert post(envoy, headers).status_code == 200
            return backend.requests[-1].headers["authorization"]

        assert token_now() == "write-token-1"
        production_files.rotate("write-token-2\n")  # editors end files with a newline
        wait_until(lambda: token_now() == "write-token-2", 10, "the new write token", poll=0.1)
        assert "write-token" not in envoy.log_text() + envoy.access_log_text()


@pytest.mark.parametrize("case", ["another name", "another authority", "no TLS"])
def test_nobody_else_gets_the_records(case, production, authority, headers, tmp_path):
    if case == "another name":
        tls = authority.issue("logfire-us.pydantic.dev.example.com", "pydantic.dev")
    elif case == "another authority":
        (tmp_path / "stranger").mkdir()
        tls = Authority(tmp_path / "stranger").issue(HOST)
    else:
        tls = None
    with Backend(tls=tls) as backend:
        envoy = production(backend)
        assert post(envoy, headers).status_code == 502
        assert backend.requests == []


class TestBrowsers:
    """CORS, which only browsers care for."""

    ORIGIN = "https://app.example.com"

    @pytest.fixture
    def envoy(self, production, backend):
        return production(backend)

    def test_preflight(self, envoy):
        asked = {"origin": self.ORIGIN, "access-control-request-method": "POST",
                 "access-control-request-headers": "authorization,content-type"}
        answer = httpx.options(envoy.url(PATH), headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == self.ORIGIN
        assert answer.headers["access-control-allow-methods"] == "POST"
        assert "authorization" in answer.headers["access-control-allow-headers"]

    def test_a_refusal_can_be_read(self, envoy):
        answer = httpx.post(envoy.url(PATH), json=BATCH, headers={"origin": self.ORIGIN})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == self.ORIGIN
        assert "retry-after" in answer.headers["access-control-expose-headers"]

    def test_other_origins_are_told_nothing(self, envoy):
        answer = httpx.post(envoy.url(PATH), json=BATCH, headers={"origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in answer.headers


def test_the_placeholder_key_admits_nobody(gateway, production_files, backend, headers):
    def edit(document):
        bootstrap.point_cluster(document, "logfire", backend.port)
        document.update(production_files.rewrite(document))
    envoy = gateway(name="logfire.yaml", edit=edit)
    assert post(envoy, headers).status_code == 401
