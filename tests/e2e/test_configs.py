"""The files that people start from: both Envoy files are valid and hardened, and
docker-compose.yml runs what the tests run."""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

from harness import bootstrap, collector, envoy_bin
from harness.common import ROOT
from harness.envoy import validate

FILES = [path.name for path in bootstrap.files()]


def seconds(duration):
    return float(duration.removesuffix("s"))


def test_there_are_files():
    assert {"envoy.yaml", "logfire.yaml"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_envoy_accepts_it(name, wasm_module, production_files):
    document = production_files.rewrite(bootstrap.load(name))
    accepted, said = validate(document, env={"SESSION_JWT_SECRET": "s" * 32})
    assert accepted, said


@pytest.mark.parametrize("name", FILES)
def test_envoy_would_refuse_a_mistake(name, wasm_module, production_files):
    document = production_files.rewrite(bootstrap.load(name))
    bootstrap.connection_manager(document)["stream_idle_timeoutt"] = "15s"
    accepted, said = validate(document)
    assert not accepted
    assert "stream_idle_timeoutt" in said


@pytest.mark.parametrize("name", FILES)
def test_it_is_hardened(name):
    document = bootstrap.load(name)
    manager, plugin = bootstrap.connection_manager(document), bootstrap.wasm_plugin(document)
    config = bootstrap.filter_config(document)

    # Else the body never arrives, or a trap is the end of its worker, or state is shared with strangers.
    assert plugin["allow_on_headers_stop_iteration"] is True
    assert plugin["failure_policy"] == "FAIL_RELOAD"
    assert plugin["vm_config"]["vm_id"] == "envoy-log-ingest"

    # The filter's own 413 must come before Envoy's, and its 502 before Envoy gives up on the stream.
    max_body = config["max_body_bytes"]
    assert bootstrap.listener(document)["per_connection_buffer_limit_bytes"] > max_body
    assert manager["http2_protocol_options"]["initial_stream_window_size"] > max_body
    assert seconds(manager["stream_idle_timeout"]) > config["export"]["timeout_ms"] / 1000
    assert 0 < seconds(manager["request_headers_timeout"]) <= seconds(manager["request_timeout"])

    # One path, one spelling.
    assert manager["normalize_path"] and manager["merge_slashes"]
    assert manager["path_with_escaped_slashes_action"] == "REJECT_REQUEST"

    exporting = bootstrap.cluster(document, config["export"]["cluster"])
    assert exporting["circuit_breakers"]["thresholds"][0]["max_requests"] > 1024

    # The admin port can end Envoy: it stays on loopback.
    assert document["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_the_local_stack_stays_on_loopback():
    document = bootstrap.load("envoy.yaml")
    addresses = [entry["address"]["socket_address"]["address"] for entry in document["static_resources"]["listeners"]]
    assert addresses == ["127.0.0.1"]


def test_the_write_token_stays_outside_the_vm():
    document = bootstrap.load("logfire.yaml")
    assert "environment_variables" not in bootstrap.wasm_plugin(document)["vm_config"]
    assert "token_env" not in bootstrap.filter_config(document)["export"]


class TestCompose:
    """docker-compose.yml, without a Docker engine."""

    @pytest.fixture
    def services(self):
        return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

    @pytest.mark.timeout(300)
    def test_its_own_parser_accepts_it(self):
        """Docker Compose is a Go program; its parser is a module of its own."""
        if not shutil.which("go"):
            pytest.skip("Go is not installed, so Docker Compose's parser cannot be had")
        parser = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
        fetched = subprocess.run(["go", "run", parser], cwd=ROOT, capture_output=True, text=True)
        if "Usage" not in fetched.stdout:
            pytest.skip(f"Docker Compose's parser could not be built: {fetched.stderr.strip()[-200:]}")
        command = ["go", "run", parser, "--no-interpolation", "--format", "json", "docker-compose.yml"]
        parsed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert parsed.returncode == 0, parsed.stderr
        assert set(json.loads(parsed.stdout)["services"]) == {"envoy", "collector", "collector-health"}

    def test_the_images_are_what_the_tests_run(self, services):
        assert services["envoy"]["image"] == f"envoyproxy/envoy:v{envoy_bin.PINNED}"
        assert services["collector-health"]["image"] == services["envoy"]["image"]
        assert services["collector"]["image"] == f"otel/opentelemetry-collector:{collector.VERSION}"

    def test_what_it_mounts_is_in_the_project(self, services):
        built = {"./dist", "./target/compose"}  # by `make wasm`, and by Docker
        sources = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
        assert built < sources
        for source in sources - built:
            assert (ROOT / source).exists(), source

    def test_envoy_is_given_the_file_that_the_tests_run(self, services):
        envoy = services["envoy"]
        path = envoy["command"][envoy["command"].index("--config-path") + 1]
        mounted = dict(volume.split(":")[1::-1] for volume in envoy["volumes"])
        inside = f"{envoy['working_dir']}/{path}"
        (target,) = [target for target in mounted if inside.startswith(target + "/")]
        assert ROOT / mounted[target] / inside[len(target) + 1 :] == bootstrap.ENVOY_DIR / "envoy.yaml"
        # And the module is found from there, by the path that the file names.
        module = bootstrap.wasm_plugin(bootstrap.load())["vm_config"]["code"]["local"]["filename"]
        assert mounted[f"{envoy['working_dir']}/{module.split('/')[0]}"] == "./dist"
        # What the VM is given by name must reach the container.
        names = bootstrap.wasm_plugin(bootstrap.load())["vm_config"]["environment_variables"]["host_env_keys"]
        assert set(names) <= set(envoy["environment"])

    def test_the_collector_is_given_the_config_that_the_tests_run(self, services):
        mounted = dict(volume.split(":")[1::-1] for volume in services["collector"]["volumes"])
        (option,) = services["collector"]["command"]
        assert ROOT / mounted[option.removeprefix("--config=")] == collector.CONFIG
        known = set(re.findall(r"\$\{env:(\w+)", collector.CONFIG.read_text()))
        assert set(services["collector"]["environment"]) <= known

    def test_the_network_namespace_is_one(self, services):
        assert {service["network_mode"] for service in services.values()} == {"host"}

    def test_health_checks_ask_where_the_services_listen(self, services):
        document = bootstrap.load("envoy.yaml")
        admin = document["admin"]["address"]["socket_address"]["port_value"]
        assert f"/127.0.0.1/{admin} " in " ".join(services["envoy"]["healthcheck"]["test"])
        health = re.search(r"COLLECTOR_HEALTH:-127.0.0.1:(\d+)", collector.CONFIG.read_text()).group(1)
        assert f"/127.0.0.1/{health} " in " ".join(services["collector-health"]["healthcheck"]["test"])
        otlp = re.search(r"COLLECTOR_OTLP:-(\S+)\}", collector.CONFIG.read_text()).group(1)
        assert bootstrap.filter_config(document)["export"]["authority"] == otlp

    @staticmethod
    def healthy(service, port):
        """Runs a service's health check against another port."""
        *shell, script = service["healthcheck"]["test"][1:]
        script, count = re.subn(r"/127.0.0.1/\d+ ", f"/127.0.0.1/{port} ", script.replace("$$", "$"))
        assert count == 1
        return subprocess.run([*shell, script], timeout=10, capture_output=True).returncode == 0

    def test_the_health_check_of_envoy(self, services, gateway):
        envoy = gateway()
        assert self.healthy(services["envoy"], envoy.admin_port)
        envoy.may_end = True
        envoy.stop()
        assert not self.healthy(services["envoy"], envoy.admin_port)

    @pytest.mark.timeout(1500)
    def test_the_health_check_of_the_collector(self, services):
        reason = collector.missing()
        if reason:
            pytest.skip(reason)
        with collector.Collector() as running:
            assert self.healthy(services["collector-health"], running.health_port)
        assert not self.healthy(services["collector-health"], running.health_port)

    @pytest.mark.timeout(1500)
    def test_the_collector_accepts_its_exporters(self, services):
        """With and without LOGFIRE_TOKEN."""
        reason = collector.missing()
        if reason:
            pytest.skip(reason)
        template = services["collector"]["environment"]["COLLECTOR_EXPORTERS"]
        named, count = re.subn(r"\$\{LOGFIRE_TOKEN:\+(.*?)\}", r"\1", template)
        assert count == 1
        for exporters in (named, re.sub(r"\$\{.*?\}", "", template)):
            done = subprocess.run([collector.BINARY, "validate", f"--config={collector.CONFIG}"], text=True,
                                  env={**os.environ, "COLLECTOR_EXPORTERS": exporters}, capture_output=True)
            assert done.returncode == 0, done.stderr
