"""Which unit of systemd a process belongs to, read from its control group."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

RUNTIME = Path("/run/sollold")
"""Is there while the service of the machine runs; with its control socket in it."""

_USER_MANAGER = re.compile(r"/user@[0-9]+\.service/")


class Unit(NamedTuple):
    """A service, of the machine or of a user."""

    name: str
    is_user: bool

    def systemctl(self, verb: str) -> str:
        """Return the command for a person to type."""
        program = "systemctl --user" if self.is_user else "sudo systemctl"
        return f"{program} {verb} {self.name.removesuffix('.service')}"

    def journal(self) -> str:
        """Return the command that shows what it wrote."""
        user = "--user " if self.is_user else ""
        return f"journalctl {user}-u {self.name.removesuffix('.service')}"


USER = Unit("sollold.service", is_user=True)
SYSTEM = Unit("sollold.service", is_user=False)


def unit_in(control_group: str) -> Unit | None:
    """Find the service in the text of `/proc/PID/cgroup`; None when it is in none."""
    for line in control_group.splitlines():
        path = line.rpartition(":")[2]
        name = path.rpartition("/")[2]
        if name.endswith(".service") and not name.startswith("user@"):
            return Unit(name, bool(_USER_MANAGER.search(path)))
    return None


def unit_of(pid: int | None) -> Unit | None:
    """Find the service of a process, by default this one."""
    try:
        text = Path(f"/proc/{'self' if pid is None else pid}/cgroup").read_text("utf-8")
    except OSError:
        return None
    return unit_in(text)


def answering_unit(control_socket: str, runtime: Path = RUNTIME) -> Unit:
    """Return the unit that most likely answers; the socket is empty when that was no socket."""
    if control_socket:
        return SYSTEM if control_socket.startswith(f"{runtime}/") else USER
    return SYSTEM if runtime.is_dir() else USER
