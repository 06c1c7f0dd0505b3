"""The examples in docs/tokens.md do what the text around them says, in a real Envoy. What stands for
something of the reader's own is filled in: keys, addresses, the authority that is trusted."""

import json
import re

import pytest
import yaml

from harness import bootstrap, tokens
from harness.common import ROOT, wait_until
from harness.envoy import validate
from harness.gateways import serving
from harness.identity import Identity
from harness.tls import Authority

TEXT = (ROOT / "docs" / "tokens.md").read_text()
KEY = tokens.rsa_key("examples")
CA_FILE = "/etc/ssl/certs/ca-certificates.crt"


def examples(heading):
    """The YAML under a heading, as text, in order."""
    _, found, rest = TEXT.partition(f"\n## {heading}\n")
    assert found, f"no heading {heading!r}"
    return re.findall(r"^```yaml\n(.*?)^```$", rest.split("\n## ")[0], re.M | re.S)


@pytest.fixture
def served(wasm_module, session_key, sink):
    """served(example, edit) is a gate with the example's section `auth`."""
    def serve(example, edit=None):
        def change(document):
            bootstrap.filter_config(document)["auth"] = yaml.safe_load(example)["auth"]
            if edit:
                edit(document)
        return serving(sink, session_key, edit=change)
    sink.forget()
    return serve


def status(gate, key=KEY, **claims):
    token = tokens.mint(key, header={"kid": "1"}, **claims)
    return gate.send({"logs": [{"message": "one"}]}, headers={"authorization": f"Bearer {token}"}).status_code


def taken_in_the_end(gate, **claims):
    """As soon as there are keys."""
    wait_until(lambda: status(gate, **claims) != 503, 15, "keys")
    assert status(gate, **claims) == 200


def test_the_whole_page_is_here():
    """An example that is added shall have a test."""
    headings = re.findall(r"^## (.+)$", TEXT, re.M)
    counted = {heading: len(examples(heading)) for heading in headings if examples(heading)}
    assert counted == {"Keycloak": 2, "Auth0": 1, "A key in PEM": 1, "Tokens that Envoy has verified already": 1}


class TestKeycloak:
    GOOD = {"iss": "https://id.example.com/realms/field", "aud": ["account", "field-app"]}
    PATH = "/realms/field/protocol/openid-connect/certs"

    @pytest.fixture
    def authority(self, tmp_path):
        return Authority(tmp_path)

    def clusters(self, authority):
        """Those of the example, but for whom they trust."""
        clusters = yaml.safe_load(examples("Keycloak")[1])["clusters"]
        return bootstrap.replace_text(clusters, CA_FILE, str(authority.ca_file))

    def serve(self, served, authority, port):
        def edit(document):
            document["static_resources"]["clusters"] += self.clusters(authority)
            bootstrap.point_cluster(document, "keycloak", port)
        return served(examples("Keycloak")[0], edit)

    def test_over_tls(self, served, authority, sink):
        # As Keycloak has it: a key for encryption beside the one for signatures.
        encryption = tokens.rsa_key("unused").jwk("2", use="enc", alg="RSA-OAEP")
        with Identity(encryption, KEY.jwk("1"), tls=authority.issue("id.example.com")) as host:
            with self.serve(served, authority, host.port) as gate:
                taken_in_the_end(gate, sub="u-1", **self.GOOD)
                assert {fetch.path for fetch in host.fetches} == {self.PATH}
                assert {fetch.headers["host"] for fetch in host.fetches} == {"id.example.com"}
                assert {record["attributes"]["enduser.id"] for record in sink.records} == {"u-1"}
                assert status(gate, **{**self.GOOD, "aud": "account"}) == 401
                assert status(gate, **{**self.GOOD, "iss": "https://id.example.com/realms/other"}) == 401
                assert status(gate, tokens.rsa_key("another"), **self.GOOD) == 401
                assert "keys_ignored" not in gate.counters()

    def test_keys_of_somebody_else_are_not_taken(self, served, authority, tmp_path):
        """Another host with a certificate of its own, by the same authority."""
        with Identity(KEY.jwk("1"), tls=authority.issue("other.example.com")) as host:
            with self.serve(served, authority, host.port) as gate:
                gate.envoy.wait_for_stat("cluster.keycloak.ssl.fail_verify_san")
                assert status(gate, **self.GOOD) == 503
                assert host.fetches == []

    def test_envoy_takes_it_as_it_is(self, authority):
        """With the host's real name, which is looked up when Envoy runs."""
        document = bootstrap.load_for_tests()
        bootstrap.filter_config(document)["auth"] = yaml.safe_load(examples("Keycloak")[0])["auth"]
        document["static_resources"]["clusters"] += self.clusters(authority)
        accepted, said = validate(document, env={"SESSION_JWT_SECRET": tokens.hmac_key().secret})
        assert accepted, said


def test_auth0(served):
    with Identity(KEY.jwk("1"), tokens.rsa_key("next").jwk("2")) as host:
        def edit(document):
            document["static_resources"]["clusters"].append({"name": "auth0", "connect_timeout": "2s"})
            bootstrap.point_cluster(document, "auth0", host.port)
        with served(examples("Auth0")[0], edit) as gate:
            good = {"iss": "https://example.eu.auth0.com/", "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "sid": None,
                    "aud": ["https://logs.example.com", "https://example.eu.auth0.com/userinfo"]}
            taken_in_the_end(gate, **good)
            assert {fetch.path for fetch in host.fetches} == {"/.well-known/jwks.json"}
            # To the letter, as the text says.
            assert status(gate, **{**good, "iss": "https://example.eu.auth0.com"}) == 401


def test_a_key_in_pem(served):
    example = examples("A key in PEM")[0]
    (indent,) = re.findall(r"^( *)…$", example, re.M)
    body = "\n".join(indent + line for line in KEY.public_pem.splitlines()[1:-1])
    with served(example.replace(f"{indent}…", body)) as gate:
        for algorithm in ("RS256", "PS256"):
            assert status(gate, algorithm=algorithm) == 200
        assert status(gate, algorithm="RS512") == 401


def test_tokens_that_envoy_has_verified(served):
    (example,) = examples("Tokens that Envoy has verified already")
    jwt_authn, ours = yaml.safe_load(example)["http_filters"]
    provider = jwt_authn["typed_config"]["providers"]["session"]
    provider["local_jwks"] = {"inline_string": json.dumps({"keys": [KEY.jwk("1")]})}
    # What the filter is to have in its configuration stands in a comment at the end.
    assert ours == {"name": "envoy-log-ingest"}
    comment = "\n".join(re.findall(r"^  # ?(.*)$", example, re.M))

    def edit(document):
        bootstrap.http_filters(document).insert(0, jwt_authn)
    with served(comment, edit) as gate:
        good = {"iss": "https://id.example.com/realms/field"}
        assert status(gate, **good) == 200
        assert status(gate, **good, sub=None) == 401
        assert status(gate, tokens.rsa_key("another"), **good) == 401
        assert gate.counters()["rejected.token_subject"] == 1
