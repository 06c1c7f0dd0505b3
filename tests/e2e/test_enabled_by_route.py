"""A gateway with other traffic, as README.md has it: the filter is off, and the route of its path turns it on."""

import re

import httpx
import pytest
import yaml

from harness import bootstrap, sample
from harness.common import ROOT
from harness.gateways import PATH, Gate

ELSEWHERE = "/elsewhere"


def readme():
    """The route and the filter's line as README.md shows them."""
    block = re.search(r"```yaml\n( *- match: .*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    return yaml.safe_load(block)


@pytest.fixture
def shared(gateway, backend, session_key):
    def start(**config):
        def edit(document):
            route, filter_ = readme()
            routes = bootstrap.connection_manager(document)["route_config"]["virtual_hosts"][0]["routes"]
            (own,) = [each for each in routes if each["match"] == route["match"]]
            own.update(route)
            routes.insert(0, {"match": {"path": ELSEWHERE}, "direct_response": {"status": 204}})
            bootstrap.named(bootstrap.http_filters(document), filter_["name"])["disabled"] = filter_["disabled"]

        return Gate(gateway(edit=edit, config=config), backend, session_key)

    return start


def test_its_path_is_served_as_ever(shared):
    gate = shared()
    gate.deliver(sample.batch())
    assert gate.send(sample.batch(), path=PATH + "?a=1").status_code == 200
    assert gate.send(sample.batch(), headers={"authorization": "Bearer x"}).status_code == 401
    assert httpx.get(gate.url(ELSEWHERE), trust_env=False).status_code == 204


def test_another_route_does_not_reach_the_filter(shared):
    """It would answer 401 there, as that is the path that it is given."""
    gate = shared(path=ELSEWHERE)
    assert httpx.post(gate.url(ELSEWHERE), content=b"{}", trust_env=False).status_code == 204
