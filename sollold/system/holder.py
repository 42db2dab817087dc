"""Who listens on a port of this machine, and how an Ollama there is moved out of the way."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from sollold.system.netif import parse_ip
from sollold.system.unit import unit_in

_ASK_S = 1.0
_REPLY_BYTES = 4096
_CONTAINER_PROXIES = ("docker-proxy", "rootlessport", "conmon", "pasta", "slirp4netns")
_NEW_PORT = 11436
"""Where to move an Ollama; 11435 belongs to the Ollama desktop app."""


class Holder(NamedTuple):
    """A program that listens; pid and name are empty when the system keeps them to itself."""

    pid: int | None
    name: str
    is_ollama: bool
    unit: str = ""
    """The systemd unit of an Ollama that runs as a service."""
    is_user_unit: bool = False

    @property
    def is_container(self) -> bool:
        """Whether the program only passes connections on into a container."""
        return self.name in _CONTAINER_PROXIES

    def __str__(self) -> str:
        name = "Ollama" if self.is_ollama else self.name or "another program"
        if self.is_ollama and self.is_container:
            name = f"Ollama in a container, by {self.name}"
        return f"{name} (pid {self.pid})" if self.pid else name


def find_holder(host: str, port: int) -> Holder | None:
    """Find who keeps us from listening; None when nobody can be seen there."""
    pid = _listening_pid(host, port)
    name = ""
    if pid is not None:
        with contextlib.suppress(psutil.Error):
            name = psutil.Process(pid).name()
    is_ollama = name == "ollama" or _speaks_ollama(host, port)
    if pid is None and not is_ollama:
        return None
    unit, is_user_unit = ollama_unit(_control_group(pid))
    return Holder(pid, name, is_ollama, unit, is_user_unit)


def moving_steps(holder: Holder, port: int = 0) -> str:
    """Say how to move an Ollama to another port and use it from there."""
    target = f"127.0.0.1:{port or free_port(_NEW_PORT)}"
    move = _container_steps(target) if holder.is_container else _service_steps(holder, target)
    lines = [
        "sollold answers in Ollama's place, so that Ollama has to move to another port:",
        *move,
        "  3. write in sollold.toml:",
        "       [[nodes]]",
        f'       url = "http://{target}"',
        "  4. start sollold again",
    ]
    return "\n".join(lines)


def ollama_unit(control_group: str) -> tuple[str, bool]:
    """Find the unit of an Ollama service in `/proc/PID/cgroup`, and whether it is a user's."""
    unit = unit_in(control_group)
    return unit if unit is not None and "ollama" in unit.name else ("", False)


def free_port(first: int) -> int:
    """Return the first port from `first` on that nobody on this machine listens on."""
    for port in range(first, min(first + 100, 65536)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            try:
                sock.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    return first


def _service_steps(holder: Holder, target: str) -> list[str]:
    systemctl = "systemctl --user" if holder.is_user_unit else "sudo systemctl"
    unit = holder.unit or "ollama.service"
    steps = [
        f"  1. {systemctl} edit {unit}",
        "     and write there:",
        "       [Service]",
        f'       Environment="OLLAMA_HOST={target}"',
        f"  2. {systemctl} restart {unit}",
    ]
    if not holder.unit:
        steps.append(f"     (started by hand: stop it, then OLLAMA_HOST={target} ollama serve)")
    return steps


def _container_steps(target: str) -> list[str]:
    return [
        "  1. remove its container; models in a volume stay",
        f"  2. run it again with -p {target}:11434 instead of the present -p",
    ]


def _listening_pid(host: str, port: int) -> int | None:
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None
    wanted = parse_ip(host)
    for found in connections:
        if found.status != psutil.CONN_LISTEN or not found.laddr or found.laddr.port != port:
            continue
        held = parse_ip(found.laddr.ip)
        is_same = None in (wanted, held) or wanted == held
        is_wild = any(address is not None and address.is_unspecified for address in (wanted, held))
        if found.pid and (is_same or is_wild):
            return found.pid
    return None


def _speaks_ollama(host: str, port: int) -> bool:
    """Ask the way a browser would; another sollold says so in its headers."""
    literal = parse_ip(host)
    if literal is not None and literal.is_unspecified:
        host = "127.0.0.1" if literal.version == 4 else "::1"
    deadline = time.monotonic() + _ASK_S
    reply = b""
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), _ASK_S) as sock,
    ):
        sock.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        while len(reply) < _REPLY_BYTES and (left_s := deadline - time.monotonic()) > 0:
            sock.settimeout(left_s)
            piece = sock.recv(_REPLY_BYTES)
            if not piece:
                break
            reply += piece
    return b"Ollama is running" in reply and b"sollold" not in reply.lower()


def _control_group(pid: int | None) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text("utf-8") if pid else ""
    except OSError:
        return ""
