"""Socket activation: the manager holds the addresses, so that clients wait and none is refused."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import pytest

from tests.fakes.look import ask
from tests.process.support import get, is_whole, until
from tests.systemd.service import SERVICE, SOCKET

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.program import FakeNodeProcess
    from tests.process.support import Stream
    from tests.systemd.service import Service

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(120)]

_CALLERS = 4


class Callers:
    """Clients that connect anew, one request after the other, until the block ends."""

    def __init__(self, url: str, count: int = _CALLERS) -> None:
        self._url = url
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, name=f"caller-{index}") for index in range(count)
        ]
        self.answered = 0
        self.statuses: set[int] = set()
        self.refusals: list[str] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Wait for so many more answers."""
        wanted = self.answered + count
        until(lambda: self.answered >= wanted or bool(self.refusals), f"{wanted} answers")

    def _call(self) -> None:
        while not self._over.is_set():
            try:
                answer = ask(self._url, "GET", "/api/version", limit_s=30.0)
            except OSError as error:
                with self._lock:
                    self.refusals.append(repr(error))
                return
            with self._lock:
                self.answered += 1
                self.statuses.add(answer.status)


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
    with Callers(listening.api_url) as callers:
        callers.more(20)
        for _ in range(3):
            listening.machine.systemctl("restart", SERVICE)
            pids.add(listening.show("MainPID"))
            callers.more(20)
    assert callers.refusals == []
    assert callers.statuses == {200}
    assert len(pids) == 4


def test_no_client_is_refused_while_the_daemon_crashes(listening: Service) -> None:
    listening.drop_in(SERVICE, "quick", "[Service]\nRestartSec=100ms\n")
    listening.start()
    listening.signal("SIGKILL")
    until(lambda: listening.show("NRestarts") == "1", "it is started again")
    # From here on connections that were under way are no matter any more.
    with Callers(listening.api_url) as callers:
        callers.more(20)
    assert callers.refusals == []


def test_a_stream_finishes_while_others_wait_for_the_next_daemon(
    listening: Service, new_stream: Callable[..., Stream]
) -> None:
    listening.start()
    stream = new_stream(listening, options={"num_predict": 100})
    with Callers(listening.api_url) as callers:
        listening.machine.systemctl("restart", SERVICE)
        callers.more(10)
    assert is_whole(stream.result())
    assert callers.refusals == []
