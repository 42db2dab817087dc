"""Daemons that meet themselves or each other: nothing goes round in a circle."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.fakes.look import ask
from tests.fakes.program import FakeNodeProcess
from tests.process.support import Relay, chat, get, post, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stack.daemon import DaemonProcess

pytestmark = pytest.mark.process

PATHS = ("/api/chat", "/v1/chat/completions")
CONSENT = 'lan_without_keys = "anyone on this network may use it"'


@pytest.fixture(scope="module")
def node() -> Iterator[FakeNodeProcess]:
    with FakeNodeProcess("--rate", "0", "--answer-tokens", "5") as one:
        yield one


def names(daemon: DaemonProcess) -> list[str]:
    return [node["url"] for node in get(daemon, "/api/v1/nodes")["nodes"]]


def until_said(daemon: DaemonProcess, text: str) -> None:
    until(lambda: text in daemon.log_text(), f"the log says: {text}")


def test_ollama_host_that_means_us_is_ignored_with_a_note(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    daemon = new_daemon(nodes=[node.url], config="[discovery]\nenabled = true\nlocal = false\n")
    daemon._env["OLLAMA_HOST"] = f"localhost:{daemon.api_port}"
    daemon.start()
    until_said(daemon, "OLLAMA_HOST is this daemon itself")
    assert names(daemon) == [node.url]
    assert post(daemon, "/api/chat", chat(stream=False)).status == 200


def test_ollama_host_that_means_another_is_used(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    daemon = new_daemon(
        config="[discovery]\nenabled = true\nlocal = false\n", env={"OLLAMA_HOST": node.url}
    )
    daemon.start()
    assert names(daemon) == [node.url]
    assert post(daemon, "/api/chat", chat(stream=False)).status == 200


def test_nodes_that_are_this_daemon_are_refused(new_daemon: Callable[..., DaemonProcess]) -> None:
    daemon = new_daemon()
    hosts = ("127.0.0.1", "localhost", "0.0.0.0")
    tables = "".join(f'[[nodes]]\nurl = "{host}:{daemon.api_port}"\n' for host in hosts)
    daemon.config_path.write_text(
        f'[listen]\napi = "0.0.0.0:{daemon.api_port}"\nconsole = []\n{CONSENT}\n{tables}'
    )
    daemon.launch()
    assert daemon.wait_exit() == 78
    log = daemon.log_text()
    assert log.count("is this daemon itself") == 3
    for line in (6, 8, 10):
        assert f"{daemon.config_path}:{line}: nodes[" in log


@pytest.mark.parametrize("listener", ["[::1]", "[::]"])
def test_a_node_on_our_own_ipv6_loopback_is_refused(
    new_daemon: Callable[..., DaemonProcess], listener: str
) -> None:
    daemon = new_daemon()
    daemon.config_path.write_text(
        f'[listen]\napi = "{listener}:{daemon.api_port}"\nconsole = []\n{CONSENT}\n'
        f'[[nodes]]\nurl = "[0:0:0:0:0:0:0:1]:{daemon.api_port}"\n'
    )
    daemon.launch()
    assert daemon.wait_exit() == 78
    assert f"http://[::1]:{daemon.api_port} is this daemon itself" in daemon.log_text()


def test_our_own_address_under_a_name_becomes_no_node(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    """A name is not known to be us before it is resolved."""
    name = socket.gethostname()
    socket.gethostbyname(name)  # a machine that does not know its own name is out of order
    daemon = new_daemon()
    daemon.config_path.write_text(
        f'[listen]\napi = "0.0.0.0:{daemon.api_port}"\nconsole = []\n{CONSENT}\n'
        f'[discovery]\nenabled = false\n[[nodes]]\nurl = "{name}:{daemon.api_port}"\n'
        f'[[nodes]]\nurl = "{node.url}"\n'
    )
    daemon.start()
    until(lambda: names(daemon) == [node.url], "only the real node is left")
    until_said(daemon, "is this daemon itself, not a node")
    assert post(daemon, "/api/chat", chat(stream=False)).headers["x-sollold-attempts"] == "1"


def test_a_port_that_leads_back_to_us_becomes_no_node(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    daemon = new_daemon()
    with Relay(daemon.api_port) as relay:
        daemon.write_config(nodes=[relay.url, node.url])
        daemon.start()
        until_said(daemon, "is another sollold, not a node")
        assert names(daemon) == [node.url]
        for path in PATHS:
            answer = post(daemon, path, chat(stream=False))
            assert (answer.status, answer.headers["x-sollold-attempts"]) == (200, "1")
            # Even one that is led there by hand ends at once.
            via = answer.headers["via"]
            looped = ask(relay.url, "POST", path, chat(stream=False), [("Via", via)])
            assert looped.status == 508
        daemon.close()


def test_two_daemons_that_name_each_other(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    first, second = new_daemon(), new_daemon()
    first.write_config(nodes=[second.api_url, node.url])
    second.write_config(nodes=[first.api_url])
    for daemon in (first, second):
        daemon.launch()
    for daemon in (first, second):
        daemon.wait_ready()
    for daemon, other in ((first, second), (second, first)):
        until_said(daemon, f"{other.api_url} is another sollold, not a node")
    assert names(first) == [node.url]
    assert names(second) == []
    before = node.state()["inference"]
    for path in PATHS:
        assert post(first, path, chat(stream=False)).status == 200
        # Nobody the second could ask: it says so, and asks no other daemon.
        assert post(second, path, chat(stream=False)).status == 404
    assert node.state()["inference"] == before + len(PATHS)
    assert get(second, "/api/v1/status")["state"] == "cannot_serve"
    for daemon in (first, second):
        assert daemon.stop() == 0
