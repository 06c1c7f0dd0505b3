"""A configuration with faults keeps Envoy from starting, and its log names each of them in
a line of its own; a good one works in whichever form Envoy is given it."""

import re

import pytest

from harness import bootstrap, tokens
from harness.backend import Backend
from harness.common import Problem
from harness.envoy import Envoy
from harness.gateways import PATH, serving

SECRET = "a-secret-that-no-log-may-show-0123456789"
RSA = tokens.rsa_key("configuration")


def start(change, *, form="struct", env=None, host_env_keys=()):
    """Starts Envoy with a changed configuration, which must not succeed. The faults that the
    filter found, in order. `change` gets the configuration, and may return another one."""
    document = bootstrap.load_for_tests()
    config = bootstrap.filter_config(document)
    other = change(config)
    config = config if other is None else other
    bootstrap.set_filter_config(document, config, form)
    environment = bootstrap.wasm_plugin(document)["vm_config"]["environment_variables"]
    environment["host_env_keys"] += host_env_keys
    envoy = Envoy(document, env={"SESSION_JWT_SECRET": SECRET, **(env or {})})
    try:
        with pytest.raises(Problem, match="ended at once"):
            envoy.start()
        log = envoy.log_text()
    finally:
        envoy.stop()
        envoy.discard()
    assert "panicked" not in log
    for secret in (SECRET, *(env or {}).values()):
        assert secret not in log
    # Envoy configures more than one VM of a module before it gives up.
    lines = re.findall(r"\[error\]\[wasm\].* wasm log[^:]*: (.*)", log)
    return list(dict.fromkeys(lines))


def paths(faults):
    """What stands before the colon of each."""
    return [fault.split(": ")[0] for fault in faults]


def provider(config):
    return config["auth"]["providers"][0]


def set_at(config, path, value):
    """Sets `auth.providers[0].name` and the like."""
    *way, last = re.findall(r"[^.\[\]]+", path)
    for name in way:
        config = config[int(name)] if isinstance(config, list) else config.setdefault(name, {})
    config[int(last) if isinstance(config, list) else last] = value


# Where, and what is wrong there. A fault may show in a path below the one that was set.
FAULTS = [
    ("path", "logs"),
    ("max_body_bytes", 0),
    ("max_body_byte", 7),
    ("auth.clock_skew_seconds", -1),
    ("auth.require_expiration", "yes"),
    ("auth.cache", True),
    ("auth.providers[0].algorithms[0]", "none"),
    ("auth.providers[0].audiences", []),
    ("auth.providers[0].subject_claim", ""),
    ("auth.providers[0].kid", "1"),
    ("rate_limits.unit", "kilos"),
    ("rate_limits.slots", 0),
    ("rate_limits.user.max_tokens", 0),
    ("rate_limits.user.fill_interval_ms", 1.5),
    ("rate_limits.session.tokens_per_fill", "25"),
    ("rate_limits.tenant", {}),
    ("export.cluster", None),
    ("export.authority", 7),
    ("export.path", "v1/logs"),
    ("export.timeout_ms", 0),
    ("export.compression", "zstd"),
    ("export.headers.x-list", ["a"]),
    ("export.headers.x line", "a"),
    ("export.headers.x-break", "a\nb"),
    ("export.token", "t"),
    ("mapping.resource", []),
    ("mapping.window.past_seconds", 0),
    ("mapping.window.future", 7),
]


class TestFaults:
    @pytest.mark.parametrize("form", ["struct", "json"])
    def test_all_at_once(self, wasm_module, form):
        """Each is one line, and begins with where it is."""
        def change(config):
            for path, value in FAULTS:
                set_at(config, path, value)
        found = start(change, form=form)
        assert sorted(paths(found)) == sorted(path for path, _ in FAULTS)
        assert all(re.fullmatch(r"\S.*: \S.*", fault) for fault in found)

    @pytest.mark.parametrize("required", [
        ["auth", "export"],
        ["auth.providers"],
        ["auth.providers[0].name", "auth.providers[0].algorithms", "export.cluster", "export.authority"],
    ], ids=str)
    def test_what_is_required(self, wasm_module, required):
        def change(config):
            for path in required:
                *way, last = re.findall(r"[^.\[\]]+", path)
                node = config
                for name in way:
                    node = node[int(name)] if isinstance(node, list) else node[name]
                del node[last]
        assert paths(start(change)) == required

    def test_the_order_is_that_of_the_file(self, wasm_module):
        def change(config):
            for path in ("export.path", "auth.providers[0].subject_claim", "max_body_bytes"):
                set_at(config, path, "")
        assert paths(start(change)) == ["max_body_bytes", "auth.providers[0].subject_claim", "export.path"]

    def test_it_says_what_would_be_right(self, wasm_module):
        def change(config):
            config["rate_limits"]["unit"] = "kilos"
            config["export"]["time_out_ms"] = 7
        unit, unknown = start(change)
        assert all(word in unit for word in ("records", "requests", "bytes"))
        assert "unknown" in unknown and "timeout_ms" in unknown


class TestKeys:
    @pytest.mark.parametrize("sources", [
        {}, {"hmac_secret_env": "SESSION_JWT_SECRET", "public_key_pem": RSA.public_pem},
    ], ids=["none", "two"])
    def test_one_source(self, wasm_module, sources):
        def change(config):
            del provider(config)["hmac_secret_env"]
            provider(config).update(sources)
        (fault,) = start(change)
        assert fault.startswith("auth.providers[0]") and "public_key_pem" in fault

    PEMS = {
        "empty": "",
        "cut": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "junk": "junk",
        "a certificate": RSA.public_pem.replace("PUBLIC KEY", "CERTIFICATE"),
        "too small": tokens.rsa_key("small", 1024).public_pem,
        "of another kind": tokens.ec_key("configuration").public_pem,
    }

    def test_public_keys_that_are_none(self, wasm_module):
        def change(config):
            config["auth"]["providers"] = [
                {"name": name, "algorithms": ["RS256"], "public_key_pem": pem} for name, pem in self.PEMS.items()]
        wanted = [f"auth.providers[{number}].public_key_pem" for number in range(len(self.PEMS))]
        assert paths(start(change)) == wanted

    def test_a_private_key_is_not_shown(self, wasm_module):
        pem = RSA.private_pem

        def change(config):
            del provider(config)["hmac_secret_env"]
            provider(config).update(algorithms=["RS256"], public_key_pem=pem)
        (fault,) = start(change)
        assert paths([fault]) == ["auth.providers[0].public_key_pem"]
        assert not [line for line in pem.splitlines() if line in fault]

    def test_short_secrets(self, wasm_module):
        """RFC 7518: at least as long as the hash. They are not shown, short as they are."""
        lengths = {"HS256": 31, "HS384": 47, "HS512": 63}
        secrets = {f"KEY_{name}": (SECRET * 2)[:length] for name, length in lengths.items()}

        def change(config):
            config["auth"]["providers"] = [
                {"name": name, "algorithms": [name], "hmac_secret_env": f"KEY_{name}"} for name in lengths]
        wanted = [f"auth.providers[{number}].hmac_secret_env" for number in range(3)]
        assert paths(start(change, env=secrets, host_env_keys=secrets)) == wanted

    def test_a_secret_is_no_public_key(self, wasm_module):
        def change(config):
            provider(config)["algorithms"] = ["HS256", "RS256", "ES256", "EdDSA"]
        faults = start(change)
        assert paths(faults) == ["auth.providers[0].hmac_secret_env"] * 3
        assert [name for name in ("RS256", "ES256", "EdDSA") for fault in faults if name in fault]


class TestEnvironment:
    def test_a_variable_that_is_not_set_is_named(self, wasm_module):
        def change(config):
            provider(config)["hmac_secret_env"] = "NO_SUCH_SECRET"
            config["export"]["token_env"] = "NO_SUCH_TOKEN"
        secret, token = start(change, host_env_keys=["NO_SUCH_SECRET", "NO_SUCH_TOKEN"])
        assert secret.startswith("auth.providers[0].hmac_secret_env: ") and "NO_SUCH_SECRET" in secret
        assert token.startswith("export.token_env: ") and "NO_SUCH_TOKEN" in token

    def test_one_that_envoy_keeps_to_itself_is_not_set(self, wasm_module):
        """The host has it, but the VM is not given it; the message says how to."""
        def change(config):
            config["export"]["token_env"] = "LOGFIRE_TOKEN"
        (fault,) = start(change, env={"LOGFIRE_TOKEN": "the-write-token"})
        assert "LOGFIRE_TOKEN" in fault and "host_env_keys" in fault

    @pytest.mark.parametrize("value", ["", "two\nlines"], ids=["empty", "two lines"])
    def test_a_token_that_is_no_header(self, wasm_module, value):
        def change(config):
            config["export"]["token_env"] = "LOGFIRE_TOKEN"
        environment = {"LOGFIRE_TOKEN": value} if value else {}
        (fault,) = start(change, env=environment, host_env_keys=["LOGFIRE_TOKEN"])
        assert paths([fault]) == ["export.token_env"]


class TestWhole:
    @pytest.mark.parametrize("text", ["path: /api/v1/logs", "[]", '{"auth":{"x":"hush-hush"},}'])
    def test_no_object(self, wasm_module, text):
        (fault,) = start(lambda config: text, form="json")
        assert paths([fault]) == ["configuration"]
        assert "hush-hush" not in fault

    def test_none(self, wasm_module):
        (fault,) = start(lambda config: "", form="json")
        assert paths([fault]) == ["configuration"]


class TestForms:
    @pytest.mark.parametrize("form", ["struct", "json"])
    def test_both_work(self, wasm_module, session_key, form):
        """The same configuration, with every type of value in it."""
        config = {
            "path": "/other/path", "max_body_bytes": 1000,
            "auth": {"clock_skew_seconds": 0, "require_expiration": False},
            "mapping": {"resource": {"n": 7, "f": 1.5, "b": False, "s": "é", "l": [1, {"a": None}]}, "window": None},
            "export": {"headers": {"x-a": "1"}, "compression": "none"},
        }
        with Backend() as backend, serving(backend, session_key, config=config, form=form) as gate:
            assert gate.send({"logs": []}).status_code == 503  # that path's route, no longer the filter
            answer = gate.send({"logs": [{"message": "x"}]}, path="/other/path", exp=None)
            assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "rejected": 0})
            (request,) = backend.requests
            assert request.headers["x-a"] == "1" and request.raw == request.body
            assert request.records[0]["resource"] == {
                "service.name": "unknown_service", "n": 7, "f": 1.5, "b": False, "s": "é", "l": [1, {"a": None}]}
            assert isinstance(request.records[0]["resource"]["n"], int)
            assert gate.send(b" " * 1001, path="/other/path").status_code == 413

    def test_the_least_that_works(self, wasm_module, session_key):
        """All else has a default."""
        least = {
            "auth": {"providers": [{"name": "a", "algorithms": ["HS256"], "hmac_secret_env": "SESSION_JWT_SECRET"}]},
            "export": {"cluster": "backend", "authority": "backend"},
        }
        def edit(document):
            bootstrap.set_filter_config(document, least, "json")
        with Backend() as backend, serving(backend, session_key, edit=edit) as gate:
            assert gate.deliver({"logs": [{"message": "x"}]}).path == "/v1/logs"
            assert gate.url().endswith(PATH)
            assert gate.send(b'{"logs":[]' + b" " * (1 << 20) + b"}").status_code == 413
            assert gate.send({"logs": []}, exp=None).status_code == 401
            assert gate.send({"logs": []}, lifetime=-55).status_code == 200

    def test_every_hmac_and_rsa_algorithm(self, wasm_module):
        """Several at once, each with the same key."""
        hmac = tokens.hmac_key(SECRET * 2)
        algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
        def edit(document):
            config = bootstrap.filter_config(document)
            config["auth"]["providers"] = [
                {"name": "hmac", "algorithms": ["HS256", "HS384", "HS512"], "hmac_secret_env": "SESSION_JWT_SECRET"},
                {"name": "rsa", "issuer": "rsa", "algorithms": algorithms, "public_key_pem": RSA.public_pem},
                {"name": "ec", "issuer": "ec", "algorithms": ["ES256"], "public_key_pem": tokens.ec_key().public_pem},
                {"name": "p384", "issuer": "p384", "algorithms": ["ES384"],
                 "public_key_pem": tokens.ec_key("", "ES384").public_pem},
                {"name": "ed", "issuer": "ed", "algorithms": ["EdDSA"],
                 "public_key_pem": tokens.ed25519_key().public_pem},
            ]
        good = [(hmac, name, None) for name in ("HS256", "HS384", "HS512")]
        good += [(RSA, name, "rsa") for name in algorithms]
        good += [(tokens.ec_key(), "ES256", "ec"), (tokens.ec_key("", "ES384"), "ES384", "p384")]
        good += [(tokens.ed25519_key(), "EdDSA", "ed")]
        with Backend() as backend, serving(backend, hmac, edit=edit) as gate:
            for key, algorithm, issuer in good:
                for other, expected in ((None, 200), ("nobody", 401)):
                    token = tokens.mint(key, algorithm=algorithm, iss=other or issuer)
                    code = gate.send({"logs": []}, headers={"authorization": f"Bearer {token}"}).status_code
                    # Without an issuer of its own the first provider takes the tokens that nobody claims.
                    assert code == (200 if key is hmac else expected), (algorithm, other)


def test_the_documented_names_are_all_known(wasm_module):
    """Each field of the documentation in one configuration, with one fault: it is the only one."""
    config = {
        "path": "/api/v1/logs", "max_body_bytes": 1048576,
        "auth": {
            "clock_skew_seconds": 60, "require_expiration": True,
            "providers": [{"name": "session", "issuer": "https://id.example.com", "audiences": ["field-app"],
                           "algorithms": ["RS256"], "public_key_pem": RSA.public_pem, "subject_claim": "sub",
                           "session_claim": "sid"}],
        },
        "rate_limits": {
            "unit": "records", "slots": 16384,
            "user": {"max_tokens": 2000, "tokens_per_fill": 50, "fill_interval_ms": 1000},
            "session": {"max_tokens": 1000, "tokens_per_fill": 25, "fill_interval_ms": 1000},
        },
        "export": {"cluster": "backend", "authority": "a", "path": "/v1/logs", "headers": {}, "timeout_ms": 10000,
                   "compression": "gzip"},
        "mapping": {"resource": {}, "window": {"past_seconds": 84600, "future_seconds": 3000}},
        "one_too_many": 1,
    }
    assert paths(start(lambda _: config)) == ["one_too_many"]
