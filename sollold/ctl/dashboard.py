"""What `open` does: the dashboard's address, opened where there is a desktop."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from sollold.api_types import StatusDocument
from sollold.ctl.failure import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sollold.ctl.session import Session

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
_LOOPBACK = ("127.", "localhost", "[::1]")


def open_dashboard(session: Session) -> None:
    """Print the address of the dashboard, and show it."""
    session.refuse_watch()
    document = session.get("/api/v1/status").document(StatusDocument)
    if not document.addresses.console:
        raise Failure(
            Exit.FAILED,
            "no_console",
            "sollold serves no dashboard: [listen] console is empty",
            (("turn it on", 'console = "127.0.0.1:8080" under [listen], then restart sollold'),),
        )
    url = f"{_reachable(document.addresses.console[0], session)}/"
    if session.settings.is_json:
        session.print([json.dumps({"schema": "sollold.open/1", "url": url})])
        return
    session.print([url])
    endpoint = session.client.endpoint
    is_far = endpoint is not None and not endpoint.is_local
    if is_far and url.partition("://")[2].startswith(_LOOPBACK):
        host = endpoint.host if endpoint is not None else "HOST"
        port = url.rstrip("/").rpartition(":")[2]
        session.note(f"It listens on {host} alone: ssh -L {port}:127.0.0.1:{port} {host}")
        return
    opener = _opener(session.environ)
    if opener is not None:
        _start(opener, url)


def _reachable(url: str, session: Session) -> str:
    """Return the address with a host in place of "every address of the machine"."""
    endpoint = session.client.endpoint
    host = "127.0.0.1" if endpoint is None or endpoint.is_local else endpoint.host
    for wildcard in ("//0.0.0.0:", "//[::]:"):
        url = url.replace(wildcard, f"//{host}:")
    return url


def _opener(environ: Mapping[str, str]) -> str | None:
    if not any(environ.get(name) for name in _DISPLAYS):
        return None
    return shutil.which("xdg-open", path=environ.get("PATH"))


def _start(opener: str, url: str) -> None:
    """Start the browser and leave it alone."""
    subprocess.Popen(  # noqa: S603 - a program of the desktop, with an address of the daemon
        [opener, url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
