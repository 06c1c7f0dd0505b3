"""Loads an Envoy file of envoy/ and changes parts of it. A bootstrap here is
plain dicts and lists; the functions return the part that is in it, to be edited
in place."""

import json
from pathlib import Path

import yaml

from .common import ROOT

ENVOY_DIR = ROOT / "envoy"
STRUCT = "type.googleapis.com/google.protobuf.Struct"
STRING = "type.googleapis.com/google.protobuf.StringValue"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def load(name="envoy.yaml") -> dict:
    """A file of envoy/, or any other by its absolute path, fresh each time."""
    return yaml.safe_load((ENVOY_DIR / name).read_text())


def load_for_tests(name="envoy.yaml") -> dict:
    """The same, but every listener and the admin port are on a free loopback port."""
    return on_free_ports(load(name))


def on_free_ports(document) -> dict:
    addresses = [listener["address"] for listener in document["static_resources"]["listeners"]]
    for address in addresses + [document["admin"]["address"]]:
        address["socket_address"].update(address="127.0.0.1", port_value=0)
    return document


def listener(document, name=None) -> dict:
    """The named listener, or the first one."""
    every = document["static_resources"]["listeners"]
    return named(every, name) if name else every[0]


def connection_manager(document) -> dict:
    """The HTTP connection manager's configuration in the first listener."""
    return listener(document)["filter_chains"][0]["filters"][-1]["typed_config"]


def http_filters(document) -> list:
    return connection_manager(document)["http_filters"]


def wasm_plugin(document) -> dict:
    """The PluginConfig: vm_config, failure_policy, configuration …"""
    return named(http_filters(document), "envoy-log-ingest")["typed_config"]["config"]


def filter_config(document) -> dict:
    """The filter's own configuration, as long as it is given as a Struct."""
    return wasm_plugin(document)["configuration"]["value"]


def set_filter_config(document, value, form="struct"):
    """Replaces the filter's configuration. `form` is "struct", or "json" for a
    StringValue that holds JSON; a str as `value` goes out as it is."""
    if form == "struct":
        any_value = {"@type": STRUCT, "value": value}
    else:
        any_value = {"@type": STRING, "value": value if isinstance(value, str) else json.dumps(value)}
    wasm_plugin(document)["configuration"] = any_value


def cluster(document, name) -> dict:
    return named(document["static_resources"]["clusters"], name)


def point_cluster(document, name, port, address="127.0.0.1"):
    """The cluster's only endpoint becomes this address."""
    found = cluster(document, name)
    found["type"] = "STATIC"
    found["load_assignment"] = {"cluster_name": name, "endpoints": [{"lb_endpoints": [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
    ]}]}
    return found


def merge(into, changes) -> dict:
    """Deep merge of dicts, in place. A value of None removes the name, unless
    nothing had it: then it stays, as null."""
    for name, value in changes.items():
        if value is None and name in into:
            del into[name]
        elif isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value
    return into


def replace_text(node, old, new):
    """A copy of the document in which every string has `old` replaced by `new`."""
    if isinstance(node, dict):
        return {name: replace_text(value, old, new) for name, value in node.items()}
    if isinstance(node, list):
        return [replace_text(value, old, new) for value in node]
    return node.replace(old, new) if isinstance(node, str) else node


def named(entries, name) -> dict:
    for entry in entries:
        if entry.get("name") == name:
            return entry
    raise KeyError(f"no {name!r} among {[entry.get('name') for entry in entries]}")


def files() -> list:
    """Every Envoy file that the project ships."""
    return sorted(Path(ENVOY_DIR).glob("*.yaml"))
