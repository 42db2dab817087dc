"""Which ports are taken, and what is said about it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from sollold.demo import addresses
from sollold.demo.addresses import choose_api, choose_console, choose_engines
from sollold.demo.failure import DemoFailed
from tests.stack.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port in place of Ollama's."""
    port = free_port()
    monkeypatch.setattr(addresses, "API_PORT", port)
    monkeypatch.setattr(addresses, "CONSOLE_PORT", port)
    monkeypatch.setattr(addresses, "_ENGINE_PORT", port)
    return port


@pytest.fixture
def holder(usual: int) -> Iterator[int]:
    """Somebody who listens on the usual port."""
    with socket.create_server(("127.0.0.1", usual)):
        yield usual


def test_the_usual_port_needs_no_words(usual: int) -> None:
    assert choose_api(None) == (usual, "")
    assert choose_api(None).url == f"http://127.0.0.1:{usual}"


def test_the_next_free_port_is_told_with_who_has_the_usual_one(holder: int) -> None:
    port, note = choose_api(None)

    assert port > holder
    assert note.startswith(f"port {holder} is taken by python")
    assert note.endswith(f", so it is {port} here")


def test_the_wanted_port_or_none(holder: int) -> None:
    with pytest.raises(DemoFailed, match=f"{holder} is taken by python") as told:
        choose_api(holder)
    assert told.value.exit_code == 75

    wanted = free_port()
    assert choose_api(wanted) == (wanted, "")


def test_chosen_ports_differ(usual: int) -> None:
    console = choose_console(taken=frozenset({usual}))
    engines = choose_engines(2, taken=frozenset({usual, console.port}))

    assert len({usual, console.port, *engines}) == 4
    assert console.note == ""


def test_no_port_at_all_is_told(monkeypatch: pytest.MonkeyPatch, holder: int) -> None:
    monkeypatch.setattr(addresses, "_TRIES", 1)

    with pytest.raises(DemoFailed, match="are taken") as told:
        choose_api(None)
    assert told.value.exit_code == 75
