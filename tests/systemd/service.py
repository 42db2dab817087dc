"""sollold as a service of a manager: its unit, its configuration, and what the manager says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.process.support import until
from tests.stack.logs import tail_text
from tests.stack.ports import free_port

if TYPE_CHECKING:
    import subprocess

    from tests.systemd.machine import Machine

SERVICE = "sollold.service"
SOCKET = "sollold.socket"
_PIN = "keep-loaded.target"

_CONFIG = """\
[listen]
api = "127.0.0.1:{api_port}"
console = "127.0.0.1:{console_port}"

[discovery]
enabled = false

"""
_SOCKET_DROP_IN = """\
[Socket]
ListenStream=
ListenStream=127.0.0.1:{api_port}
ListenStream=127.0.0.1:{console_port}
"""
_REMOVE = """\
systemctl "$1" kill --signal=SIGKILL "$2" "$3" 2>/dev/null
systemctl "$1" stop "$2" "$3" "$4" 2>/dev/null
rm -rf "$5/$2" "$5/$3" "$5/$4" "$5/$2.d" "$5/$3.d" "$5"/*.wants/sollold.* "$6"
systemctl "$1" daemon-reload
systemctl "$1" reset-failed || true
"""


class Service:
    """The shipped units on ports of their own."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.api_port = free_port()
        self.console_port = free_port()
        self.api_url = f"http://127.0.0.1:{self.api_port}"

    def install(self, *, has_socket: bool = False) -> None:
        """Put the shipped units where they belong; nothing is started."""
        names = (SERVICE, SOCKET) if has_socket else (SERVICE,)
        source = f"/opt/sollold/tree/systemd/{self.machine.manager}"
        sources = [f"{source}/{name}" for name in names]
        script = 'folder=$1; shift; mkdir -p "$folder" && cp "$@" "$folder"'
        self.machine.run("sh", "-c", script, "sh", self.machine.unit_dir, *sources)
        if has_socket:
            self.set_ports()
        else:
            self.machine.systemctl("daemon-reload")

    def set_ports(self) -> None:
        """Have the socket unit listen on the ports of this test."""
        ports = {"api_port": self.api_port, "console_port": self.console_port}
        self.drop_in(SOCKET, "ports", _SOCKET_DROP_IN.format(**ports))

    def drop_in(self, unit: str, name: str, text: str) -> None:
        """Change a unit as people do."""
        self.machine.write(f"{self.machine.unit_dir}/{unit}.d/{name}.conf", text)
        self.machine.systemctl("daemon-reload")

    def write_config(self, *nodes: str, text: str = "") -> None:
        """Write the configuration file; each node takes many requests at once."""
        head = _CONFIG.format(api_port=self.api_port, console_port=self.console_port)
        tables = "".join(f'[[nodes]]\nurl = "{url}"\nslots = 64\n\n' for url in nodes)
        self.machine.write(self.machine.config_path, head + tables + text)

    def write_raw_config(self, text: str) -> None:
        """Write this and nothing else as the configuration file."""
        self.machine.write(self.machine.config_path, text)

    def start(self) -> None:
        """Start it; an error comes with what the daemon said."""
        done = self.machine.systemctl("start", SERVICE, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{done.stderr}\n{self.status()}\n{self.log()}")

    def log(self) -> str:
        """What the daemon wrote lately."""
        if self.machine.is_user:
            return tail_text(self.machine.log_path, 30)
        done = self.machine.run("journalctl", "--no-pager", "-n", "30", "-u", SERVICE, check=False)
        return done.stdout

    def show(self, name: str, unit: str = SERVICE) -> str:
        """A property of the unit."""
        return self.machine.systemctl("show", unit, f"--property={name}", "--value").stdout.strip()

    def properties(self, *names: str, unit: str = SERVICE) -> tuple[str, ...]:
        """Several properties of the unit, seen at once."""
        said = self.machine.systemctl("show", unit, f"--property={','.join(names)}").stdout
        found = dict(line.split("=", 1) for line in said.splitlines())
        return tuple(found[name] for name in names)

    def state(self) -> tuple[str, ...]:
        """The unit's state and the finer one below it."""
        return self.properties("ActiveState", "SubState")

    def fed_s(self) -> float:
        """When the watchdog was fed last, on the clock of the manager."""
        return int(self.show("WatchdogTimestampMonotonic")) / 1e6

    def keep_loaded(self) -> None:
        """Keep the manager from forgetting the unit, and how it ended, when it is inactive."""
        self.machine.write(f"{self.machine.unit_dir}/{_PIN}", f"[Unit]\nAfter={SERVICE}\n")
        self.machine.systemctl("daemon-reload")
        self.machine.systemctl("start", _PIN)

    def wait_for(self, state: str, limit_s: float = 30.0) -> None:
        """Wait until the unit has a state."""
        until(lambda: self.show("ActiveState") == state, f"{state}, but {self.state()}", limit_s)

    def status(self) -> str:
        """What `systemctl status` prints."""
        return self.machine.systemctl("status", SERVICE, check=False).stdout

    def signal(self, name: str) -> None:
        """Send the daemon a signal."""
        self.machine.systemctl("kill", f"--signal={name}", "--kill-whom=main", SERVICE)

    def remove(self) -> None:
        """Stop at once and forget the units."""
        user = "--user" if self.machine.is_user else "--system"
        argv = [user, SOCKET, SERVICE, _PIN, self.machine.unit_dir, self.machine.config_path]
        self.machine.run("sh", "-c", _REMOVE, "sh", *argv)


def ctl(service: Service, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `sollolctl service` as the person whose manager it is."""
    options = [] if service.machine.is_user else ["--system"]
    return service.machine.run("sollolctl", "service", args[0], *options, *args[1:], check=check)
