"""Free TCP ports for servers that must keep their port over a restart."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT = 20_000
_ATTEMPTS = 200


def free_port() -> int:
    """A loopback port that nothing uses now.

    It lies below the ephemeral range, so no outgoing connection takes it while its server is down.
    """
    upper = int(_EPHEMERAL_RANGE.read_text().split()[0])
    for _ in range(_ATTEMPTS):
        port = random.randrange(_LOWEST_PORT, upper)
        if _can_bind(port):
            return port
    raise RuntimeError(f"no free port between {_LOWEST_PORT} and {upper}")


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
