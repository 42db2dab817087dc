"""The words of `sollolctl reload`."""

from __future__ import annotations

import pytest

from sollold.api_reload import ConfigChange, ReloadDocument
from sollold.ctl.places import Endpoint
from sollold.ctl.reload import _lines, restart_hint
from sollold.system.unit import answering_unit
from tests.unit.ctl.documents import AT

LENGTH = ConfigChange(key="queue.length", old="512", new="128", text="queue.length 512 -> 128")
TIER = ConfigChange(key="nodes[a].tier", old="1", new="5", text="nodes[a].tier 1 -> 5")
PORT = ConfigChange(key="listen.api", old='"a"', new='"b"', text='listen.api "a" -> "b"')
OWN = Endpoint("unix:/run/user/1000/sollold/control.sock", "unix", "/run/user/1000/s", 0)
SYSTEM = Endpoint("unix:/run/sollold/control.sock", "unix", "/run/sollold/control.sock", 0)
FAR = Endpoint("http://gpu-box:11434", "http", "gpu-box", 11434)


def hint(endpoint: Endpoint | None) -> str:
    path = endpoint.host if endpoint is not None and endpoint.scheme == "unix" else ""
    return restart_hint(endpoint, answering_unit(path))


def text(endpoint: Endpoint | None, **fields: tuple[object, ...]) -> str:
    result = "applied" if fields.get("live") else "unchanged"
    document = ReloadDocument(at=AT, result=result, **fields)  # type: ignore[arg-type]
    return "".join(f"{line}\n" for line in _lines(document, hint(endpoint)))


def test_what_took_effect() -> None:
    assert text(OWN, live=(LENGTH,)) == "reloaded: 1 change\n  queue.length 512 -> 128\n"
    assert text(OWN, live=(LENGTH, TIER), notes=("nothing listens",)) == (
        "reloaded: 2 changes\n"
        "  queue.length 512 -> 128\n"
        "  nodes[a].tier 1 -> 5\n"
        "note: nothing listens\n"
    )


def test_what_changed_nothing() -> None:
    assert text(OWN, files=("/a", "/b")) == "reloaded, nothing changed: /a, /b\n"
    assert text(OWN) == "reloaded, nothing changed: defaults\n"


@pytest.mark.parametrize(
    ("endpoint", "restart"),
    [
        (OWN, "systemctl --user restart sollold"),
        (SYSTEM, "sudo systemctl restart sollold"),
        (FAR, "where it runs, with: systemctl --user restart sollold, or without --user"),
    ],
)
def test_what_waits_for_a_restart_of_the_unit_that_answered(
    endpoint: Endpoint, restart: str
) -> None:
    assert text(endpoint, restart=(PORT,)) == (
        "reloaded, nothing else changed: defaults\n"
        "needs a restart: 1 change\n"
        '  listen.api "a" -> "b"\n'
        f"  restart it      {restart}\n"
    )
