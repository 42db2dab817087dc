"""Socket activation: the manager holds the addresses, so that clients wait and none is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.support import Callers, get, is_whole, until
from tests.systemd.service import SERVICE, SOCKET, ctl

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.program import FakeNodeProcess
    from tests.process.support import Stream
    from tests.systemd.service import Service

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(120)]

_CALLERS = 4


@pytest.fixture
def listening(service: Service, node: FakeNodeProcess) -> Service:
    service.write_config(node.url)
    service.install(has_socket=True)
    service.machine.systemctl("start", SOCKET)
    return service


def test_the_first_client_starts_the_daemon(listening: Service) -> None:
    assert listening.state() == ("inactive", "dead")
    assert get(listening, "/api/version")["version"]
    listening.wait_for("active")


def test_no_client_is_refused_while_the_daemon_restarts(listening: Service) -> None:
    listening.start()
    pids = {listening.show("MainPID")}
    with Callers(listening, _CALLERS) as callers:
        callers.more(20)
        for _ in range(3):
            listening.machine.systemctl("restart", SERVICE)
            pids.add(listening.show("MainPID"))
            callers.more(20)
    assert callers.wrong == []
    assert len(pids) == 4


def test_no_client_is_refused_while_the_daemon_crashes(listening: Service) -> None:
    listening.drop_in(SERVICE, "quick", "[Service]\nRestartSec=100ms\n")
    listening.start()
    listening.signal("SIGKILL")
    until(lambda: listening.show("NRestarts") == "1", "it is started again")
    # From here on connections that were under way are no matter any more.
    with Callers(listening, _CALLERS) as callers:
        callers.more(20)
    assert callers.wrong == []


def test_a_stream_finishes_while_others_wait_for_the_next_daemon(
    listening: Service, new_stream: Callable[..., Stream]
) -> None:
    listening.start()
    stream = new_stream(listening, options={"num_predict": 100})
    with Callers(listening, _CALLERS) as callers:
        listening.machine.systemctl("restart", SERVICE)
        callers.more(10)
    assert is_whole(stream.result())
    assert callers.wrong == []


def test_a_configuration_that_is_mended_is_served_by_the_socket_again(
    listening: Service, node: FakeNodeProcess
) -> None:
    listening.write_raw_config("[listen\n")
    # Whoever waits has the service started again, until the manager has had enough.
    with Callers(listening, 1):
        until(lambda: listening.show("ActiveState", SOCKET) == "failed", "it is given up", 60.0)
    said = ctl(listening, "status", check=False).stdout
    assert "it is failed (service-start-limit-hit): the addresses are not held" in said
    advice = [line.split() for line in said.splitlines() if line.strip().startswith("systemctl")]
    assert advice[0][-3:] == ["reset-failed", SOCKET, SERVICE]

    listening.write_config(node.url)
    for words in advice:
        listening.machine.run(*words)

    assert get(listening, "/api/version")["version"]
    _assert_the_socket_holds(listening)
    assert "not held" not in ctl(listening, "status").stdout


def test_a_restart_brings_a_socket_back_that_failed(
    listening: Service, node: FakeNodeProcess
) -> None:
    listening.start()
    listening.machine.systemctl("stop", SOCKET, SERVICE)
    listening.machine.systemctl("restart", SERVICE)
    assert get(listening, "/api/version")["version"]
    _assert_the_socket_holds(listening)


def test_a_running_daemon_goes_over_to_the_socket_when_it_restarts(
    service: Service, node: FakeNodeProcess
) -> None:
    service.write_config(node.url)
    service.set_ports()
    ctl(service, "install", "--now")
    assert service.show("ActiveState", SOCKET) == "inactive"
    ctl(service, "install", "--socket")
    assert "restart" in ctl(service, "status").stdout
    service.machine.systemctl("try-restart", SERVICE)
    assert get(service, "/api/version")["version"]
    _assert_the_socket_holds(service)


def test_uninstalling_ends_an_edited_socket_and_keeps_its_file(
    service: Service, node: FakeNodeProcess
) -> None:
    service.write_config(node.url)
    service.set_ports()
    ctl(service, "install", "--socket", "--now")
    path = f"{service.machine.unit_dir}/{SOCKET}"
    service.machine.write(path, service.machine.read(path) + "# mine\n")
    ctl(service, "uninstall")
    assert service.machine.exists(path)
    assert not service.machine.exists(f"{service.machine.unit_dir}/{SERVICE}")
    assert service.show("ActiveState", SOCKET) == "inactive"
    assert service.show("ActiveState") == "inactive"


def _assert_the_socket_holds(service: Service) -> None:
    """The daemon has the addresses from the manager, and does not listen on its own."""
    assert service.show("ActiveState", SOCKET) == "active"
    triggered = service.properties("TriggeredBy", "ActiveState")
    assert triggered == (SOCKET, "active")
