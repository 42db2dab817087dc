"""The fake node as a process: killed, frozen, restarted, and told to fail."""

from __future__ import annotations

import pytest

from tests.fakes.faults import Fault, FaultKind
from tests.fakes.look import ask
from tests.fakes.program import FakeNodeProcess

_BODY = {"model": "a", "prompt": "x", "stream": False, "options": {"num_predict": 2}}


def test_it_lives_dies_and_comes_back_on_its_port() -> None:
    with FakeNodeProcess("--models", "a,b+completion+tools", "--rate", "500") as node:
        url, pid = node.url, node.pid
        assert ask(url, "POST", "/api/generate", _BODY).status == 200
        assert node.state()["inference"] == 1
        assert node.state()["residents"] == ["a:latest"]

        node.freeze()
        with pytest.raises(TimeoutError):
            ask(url, "GET", "/api/version", limit_s=0.2)
        node.thaw()
        assert ask(url, "GET", "/api/version").status == 200

        node.kill()
        with pytest.raises(ConnectionRefusedError):
            ask(url, "GET", "/api/version")
        node.start()

        assert node.url == url
        assert node.pid != pid
        assert ask(url, "GET", "/api/version").status == 200
        assert node.state()["residents"] == []


def test_faults_are_set_from_outside_and_cannot_lock_us_out() -> None:
    with FakeNodeProcess("--models", "a") as node:
        node.set_faults(Fault(kind=FaultKind.CRASH, count=1))
        assert ask(node.url, "POST", "/api/generate", _BODY).status == 500
        assert ask(node.url, "POST", "/api/generate", _BODY).status == 200

        node.set_faults(Fault(kind=FaultKind.REFUSE))
        with pytest.raises(ConnectionRefusedError):
            ask(node.url, "GET", "/api/version")
        assert node.state()["faults"][0]["kind"] == "refuse"

        node.set_faults()
        assert ask(node.url, "GET", "/api/version").status == 200


def test_the_fault_endpoint_is_on_the_node_too() -> None:
    with FakeNodeProcess("--models", "a") as node:
        fault = {"kind": "queue_full", "count": 1}
        assert ask(node.url, "POST", "/_fault", fault).status == 200
        assert ask(node.url, "POST", "/api/generate", _BODY).status == 503
        assert ask(node.url, "POST", "/_fault", {"kind": "nonsense"}).status == 400
        assert ask(node.url, "DELETE", "/_fault").status == 200
        assert ask(node.url, "GET", "/_nowhere").status == 400
