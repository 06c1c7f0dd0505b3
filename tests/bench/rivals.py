"""Who is measured. Each is a context manager that yields a Running: where it listens, what to send it
and which process does the work."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from harness import bootstrap, collector, encoder, tokens
from harness.common import LOOPBACK, ROOT, TARGET, WASM, Problem, wait_until
from harness.envoy import Envoy

PATH = "/api/v1/logs"
KEY = tokens.rsa_key("bench")
TYPES = "type.googleapis.com/envoy.extensions"
FLOOR = TARGET / "bench" / "floor.wasm"
SERVICE = TARGET / "bench" / "venv" / "bin"


@dataclass(frozen=True)
class Running:
    """`body` makes of a JSON batch what this rival is sent."""

    pid: int
    url: str
    headers: dict
    body: callable = staticmethod(lambda batch: batch)
    started_in: float = 0


def envoy_file(http_filters, route, clusters=(), http2_window=16 << 20):
    """A bootstrap with one listener on a free port."""
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http2_protocol_options": {
            "initial_stream_window_size": http2_window,
            "initial_connection_window_size": http2_window,
        },
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **route}]}]
        },
        "http_filters": [
            *http_filters,
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}},
        ],
    }
    port = {"socket_address": {"address": LOOPBACK, "port_value": 0}}
    return {
        "admin": {"address": port},
        # As in envoy/.
        "memory_allocator_manager": {"bytes_to_release": 8 << 20, "memory_release_interval": "1s"},
        "static_resources": {
            "listeners": [
                {
                    "name": "bench",
                    "address": port,
                    "per_connection_buffer_limit_bytes": 4 << 20,
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": list(clusters),
        },
    }


def backend_cluster(port):
    """HTTP/2, as few connections as Envoy wants, and no limit that a burst would meet."""
    return {
        "name": "backend",
        "type": "STATIC",
        "connect_timeout": "2s",
        "circuit_breakers": {
            "thresholds": [{"max_connections": 65536, "max_pending_requests": 65536, "max_requests": 65536}]
        },
        "typed_extension_protocol_options": {
            bootstrap.HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{bootstrap.HTTP_OPTIONS}",
                "explicit_http_config": {
                    "http2_protocol_options": {
                        "initial_stream_window_size": 16 << 20,
                        "initial_connection_window_size": 64 << 20,
                    }
                },
            }
        },
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": {"socket_address": {"address": LOOPBACK, "port_value": port}}}}
                    ]
                }
            ],
        },
    }


def backend():
    """An Envoy that reads a whole request and answers 200 with nothing."""
    whole = {
        "name": "envoy.filters.http.buffer",
        "typed_config": {"@type": f"{TYPES}.filters.http.buffer.v3.Buffer", "max_request_bytes": 64 << 20},
    }
    return Envoy(envoy_file([whole], {"direct_response": {"status": 200}}, http2_window=64 << 20), log_level="warning")


def bearer(**claims):
    return {"authorization": f"Bearer {tokens.mint(KEY, lifetime=86400, **claims)}", "content-type": "application/json"}


@contextlib.contextmanager
def running(document, headers, workers):
    began = time.monotonic()
    with Envoy(document, concurrency=workers, log_level="warning") as envoy:
        yield Running(envoy.pid, envoy.url(PATH), headers, started_in=time.monotonic() - began)


def proxy(port, workers=1):
    """Envoy as a plain proxy."""
    document = envoy_file([], {"route": {"cluster": "backend"}}, [backend_cluster(port)])
    return running(document, bearer(), workers)


def native(port, workers=1):
    """Envoy's own jwt_authn and local_ratelimit, which proxy the JSON as it is."""
    jwt_authn = {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": f"{TYPES}.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {
                "p": {
                    "issuer": "bench",
                    "local_jwks": {"inline_string": json.dumps({"keys": [KEY.jwk()]})},
                    "jwt_cache_config": {"jwt_cache_size": 1024, "jwt_max_token_size": 8192},
                }
            },
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "p"}}],
        },
    }
    full = {"default_value": {"numerator": 100}}
    ratelimit = {
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": f"{TYPES}.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "bench",
            "filter_enabled": full,
            "filter_enforced": full,
            "token_bucket": {"max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s"},
        },
    }
    document = envoy_file([jwt_authn, ratelimit], {"route": {"cluster": "backend"}}, [backend_cluster(port)])
    return running(document, bearer(iss="bench"), workers)


def wasm(module, configuration=None):
    config = {
        "name": "bench",
        "allow_on_headers_stop_iteration": True,
        "failure_policy": "FAIL_RELOAD",
        "vm_config": {
            "vm_id": "bench",
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": str(module)}},
        },
    }
    if configuration:
        config["configuration"] = {"@type": bootstrap.STRING, "value": json.dumps(configuration)}
    return {"name": "bench", "typed_config": {"@type": f"{TYPES}.filters.http.wasm.v3.Wasm", "config": config}}


def floor(port, workers=1):
    """A filter that buffers, makes a callout of the same size and answers."""
    document = envoy_file([wasm(FLOOR)], {"direct_response": {"status": 404}}, [backend_cluster(port)])
    return running(document, bearer(), workers)


def configuration(**export):
    """Limits that are computed and never reached."""
    bucket = {"max_tokens": 4_000_000_000, "tokens_per_fill": 4_000_000_000, "fill_interval_ms": 1000}
    return {
        "auth": {"providers": [{"name": "p", "algorithms": ["RS256"], "public_key_pem": KEY.public_pem}]},
        "rate_limits": {"unit": "records", "user": bucket, "session": bucket},
        "export": {"cluster": "backend", "authority": "backend", **export},
    }


def ingest(port, workers=1, **export):
    document = envoy_file(
        [wasm(WASM, configuration(**export))], {"direct_response": {"status": 404}}, [backend_cluster(port)]
    )
    return running(document, bearer(), workers)


def plain_ingest(port, workers=1):
    """This filter, `compression: none`."""
    return ingest(port, workers, compression="none")


def gzip_ingest(port):
    """This filter, `compression: gzip`."""
    return ingest(port, compression="gzip")


@contextlib.contextmanager
def process(command, env, ready, what, cwd=ROOT):
    """Any other server: started, waited for, ended by its id."""
    with tempfile.NamedTemporaryFile(prefix="bench-", suffix=".log") as log:
        started = subprocess.Popen(
            command,
            env={**os.environ, **env},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

        def answers():
            if started.poll() is not None:
                raise Problem(f"{what} ended at once: {Path(log.name).read_text(errors='replace')[-500:]}")
            try:
                return ready()
            except httpx.TransportError:
                return False

        try:
            wait_until(answers, 60, f"{what} to be ready", poll=0.1)
            yield started.pid
        finally:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(10)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


@contextlib.contextmanager
def service(port):
    """FastAPI, PyJWT and the OpenTelemetry SDK, exporting before it answers; one worker."""
    own = collector.free_port()
    env = {
        "BENCH_PUBLIC_KEY": KEY.public_pem,
        "BENCH_BACKEND": f"http://{LOOPBACK}:{port}/v1/logs",
        "PYTHONPATH": "tests",
    }
    command = [
        SERVICE / "uvicorn",
        "bench.service:app",
        "--host",
        LOOPBACK,
        "--port",
        str(own),
        "--no-access-log",
        "--log-level",
        "warning",
    ]
    address = f"http://{LOOPBACK}:{own}"
    with process(command, env, lambda: httpx.get(f"{address}/docs", trust_env=False).status_code, "the service") as pid:
        yield Running(pid, address + PATH, bearer())


@contextlib.contextmanager
def otel_collector(port):
    """The OpenTelemetry Collector, which is sent OTLP and sends OTLP: it verifies and maps nothing."""
    own = collector.free_port()
    config = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"{LOOPBACK}:{own}"}}}},
        "exporters": {
            "otlp_http": {
                "endpoint": f"http://{LOOPBACK}:{port}",
                "compression": "none",
                "sending_queue": {"enabled": False},
            }
        },
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["otlp_http"]}},
        },
    }
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "config.yaml")
        path.write_text(json.dumps(config))
        url = f"http://{LOOPBACK}:{own}/v1/logs"
        headers = {"content-type": "application/x-protobuf"}

        def ready():
            return httpx.post(url, content=b"", headers=headers, trust_env=False).status_code == 200

        with process([collector.BINARY, "--config", path], {}, ready, "the collector") as pid:
            yield Running(pid, url, headers, lambda batch: encoder.encode([encoder.Request(batch)])[0].protobuf)


# In the order of the tables. HTTP/2 without TLS is not offered by two of them.
RIVALS = {
    "filter": plain_ingest,
    "filter, gzip": gzip_ingest,
    "floor": floor,
    "Envoy, plain proxy": proxy,
    "Envoy, jwt_authn + local_ratelimit": native,
    "OpenTelemetry Collector": otel_collector,
    "FastAPI + PyJWT + OpenTelemetry SDK": service,
}
HTTP1_ONLY = {"OpenTelemetry Collector", "FastAPI + PyJWT + OpenTelemetry SDK"}


def left_out():
    """{rival: why it can't be measured here}"""
    why = collector.missing()
    return {"OpenTelemetry Collector": why} if why else {}
