"""Reloading through the manager, under load and with a configuration that is wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.process.support import get, is_whole, until
from tests.systemd.service import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.program import FakeNodeProcess
    from tests.process.support import Stream
    from tests.systemd.service import Service

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(120)]

_STREAMS = 50


@pytest.fixture
def started(service: Service, node: FakeNodeProcess) -> Service:
    service.write_config(node.url)
    service.install()
    service.start()
    return service


def test_fifty_streams_outlive_a_reload(
    started: Service, node: FakeNodeProcess, new_stream: Callable[..., Stream]
) -> None:
    with ThreadPoolExecutor(_STREAMS) as threads:
        options = {"num_predict": 250}
        made = [threads.submit(new_stream, started, options=options) for _ in range(_STREAMS)]
        streams = [future.result() for future in made]
    pid = started.show("MainPID")
    started.write_config(node.url, "http://127.0.0.1:9", text='[log]\nlevel = "debug"\n')
    started.machine.systemctl("reload", SERVICE)
    assert len(get(started, "/api/v1/requests")["running"]) == _STREAMS
    until(lambda: len(get(started, "/api/v1/nodes")["nodes"]) == 2, "the new node is known")
    assert [is_whole(stream.result()) for stream in streams] == [True] * _STREAMS
    assert started.show("MainPID") == pid
    assert started.state() == ("active", "running")


def test_a_broken_configuration_leaves_the_old_one_at_work(
    started: Service, node: FakeNodeProcess, new_stream: Callable[..., Stream]
) -> None:
    pid = started.show("MainPID")
    stream = new_stream(started, options={"num_predict": 100})
    started.write_raw_config("[listen\n")
    started.machine.systemctl("reload", SERVICE, check=False)
    until(lambda: "sollold.toml" in _refusal(started), "the file is named")
    assert started.state() == ("active", "running")
    assert is_whole(stream.result())
    assert len(get(started, "/api/v1/nodes")["nodes"]) == 1
    # Mended, it is taken.
    started.write_config(node.url, "http://127.0.0.1:9")
    started.machine.systemctl("reload", SERVICE)
    until(lambda: len(get(started, "/api/v1/nodes")["nodes"]) == 2, "the new node is known")
    assert started.show("MainPID") == pid


def _refusal(service: Service) -> str:
    """What the daemon itself says of the last reload: the log is of all tests."""
    return get(service, "/api/v1/status")["config"].get("refused") or ""


def test_the_watchdog_is_content_while_reloads_follow_each_other(
    service: Service, node: FakeNodeProcess
) -> None:
    service.write_config(node.url)
    service.install()
    service.drop_in(SERVICE, "quick", "[Service]\nWatchdogSec=1s\nRestartSec=100ms\n")
    service.start()
    pid, begun_s, count = service.show("MainPID"), service.fed_s(), 0
    while service.fed_s() < begun_s + 2.0:
        count += 1
        others = [f"http://127.0.0.1:{port}" for port in range(2, 2 + count)]
        service.write_config(node.url, *others)
        service.machine.systemctl("reload", SERVICE)
        until(lambda: len(get(service, "/api/v1/nodes")["nodes"]) == 1 + count, "it is reloaded")  # noqa: B023
    assert count > 0
    assert service.properties("MainPID", "NRestarts") == (pid, "0")
