"""Where a daemon may answer: an address that was given, or the usual places on this machine.

Standard library only: a Tab press comes through here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from sollold.ctl.failure import Exit, Failure
from sollold.system.dirs import find_dirs
from sollold.wire.visible import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_API = "http://127.0.0.1:11434"
DEFAULT_CONSOLE = "http://127.0.0.1:8080"

_SYSTEM_SOCKET = Path("/run/sollold/control.sock")
_LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class Endpoint(NamedTuple):
    """One place where a daemon may answer."""

    label: str
    """As the person would write it after `--url`."""
    scheme: str
    """`http`, `https` or `unix`."""
    host: str
    """Host name, or the path of a Unix socket."""
    port: int
    base: str = ""
    """Path prefix, without a trailing slash."""

    @property
    def is_local(self) -> bool:
        """Return whether the daemon there runs on this machine."""
        return self.scheme == "unix" or self.host in _LOCAL_HOSTS


def endpoints(url: str | None, environ: Mapping[str, str]) -> list[Endpoint]:
    """Return where to look: only `url` if there is one, else the usual places on this machine.

    Raises:
        Failure: the URL cannot be used.
    """
    if url:
        return [_parse(url)]
    return [*control_sockets(environ), _parse(DEFAULT_API), _parse(DEFAULT_CONSOLE)]


def control_sockets(environ: Mapping[str, str]) -> list[Endpoint]:
    """Return the control sockets that exist: this person's, then the system's."""
    own = find_dirs(environ).control_socket
    places = [own] if _is_trusted(own) else []
    # Path.exists would raise: a daemon that root has started leaves a directory for root alone.
    if own != _SYSTEM_SOCKET and os.path.exists(_SYSTEM_SOCKET):  # noqa: PTH110
        places.append(_SYSTEM_SOCKET)
    return [Endpoint(f"unix:{path}", "unix", str(path), 0) for path in places]


def _parse(url: str) -> Endpoint:
    scheme, sign, rest = url.partition(":")
    if scheme == "unix" and sign:
        path = rest.removeprefix("//") if rest.startswith("///") else rest
        return Endpoint(f"unix:{path}", "unix", path, 0)
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
        # As the resolver will have it: what it cannot encode is no host name.
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise _bad_url(url) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _bad_url(url)
    # As with Ollama's own client: a bare host means the usual port, a URL means the scheme's.
    default_port = {"http": 80, "https": 443}[parts.scheme] if "://" in url else 11434
    label = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    base = parts.path.rstrip("/")
    return Endpoint(label, parts.scheme, parts.hostname, port or default_port, base)


def _bad_url(url: str) -> Failure:
    message = f"no address {visible(url)!r}; write http://HOST:PORT or unix:PATH"
    return Failure(Exit.USAGE, "usage", message)


def _is_trusted(path: Path) -> bool:
    """Return whether the socket is there and nobody else could have put it there."""
    try:
        return path.is_socket() and path.parent.stat().st_uid in {os.getuid(), 0}
    except OSError:
        return False
