"""The processes of a benchmark: upstreams, nginx, the bare proxy, the daemon as it is used."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.bench import upstream
from tests.stack.daemon import DaemonProcess
from tests.stack.http import wait_until
from tests.stack.logs import tail_text
from tests.stack.processes import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROOT = Path(__file__).resolve().parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type "application/json; charset=utf-8";
  keepalive_requests 100000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{servers}
}}
"""
_NGINX_PROXY = """
  upstream to{number} {{ server {address}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://to{number};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
"""


class Peer(NamedTuple):
    """One way to the same upstreams; the direct one has no process."""

    name: str
    small_url: str
    stream_url: str
    llama_url: str
    pid: int | None
    is_translator: bool = False
    """Whether clients go on speaking Ollama's dialect where the upstream speaks llama-server's."""


class Child:
    """A helper process that ends with its block, and with this process whatever ends that."""

    def __init__(self, directory: Path, name: str, argv: Sequence[str]) -> None:
        self._log_path = directory / f"{name}.log"
        self._group = ProcessGroup(argv, env=os.environ, log_path=self._log_path, cwd=_ROOT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._group.kill()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._group.pid

    def wait_for_ports(self, ports: Sequence[int]) -> None:
        """Return once it listens on all of these."""
        for port in ports:
            wait_until(functools.partial(self._listens, port), **self._limit())

    def told_ports(self) -> list[int]:
        """The ports it says it listens on, on its first line."""
        wait_until(lambda: self._must_run() and "]\n" in self._log(), **self._limit())
        ports: list[int] = json.loads(self._log().splitlines()[0])
        return ports

    def _listens(self, port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return not self._must_run()

    def _log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def _must_run(self) -> bool:
        if not self._group.is_running():
            raise RuntimeError(f"a helper ended: {tail_text(self._log_path, 10)}")
        return True

    def _limit(self) -> dict[str, Any]:
        return {"limit_s": 15.0, "failure": lambda: tail_text(self._log_path, 10)}


def start_upstream(
    directory: Path, own: Sequence[str], ports: int = 1, models: int = 0
) -> tuple[Child, list[str]]:
    """The canned upstream on so many ports, and their URLs."""
    argv = [sys.executable, "-m", "tests.bench.upstream", f"--own={','.join(own)}"]
    name = f"upstream-{ports}-{models}"
    child = Child(directory, name, [*argv, f"--ports={ports}", f"--models={models}"])
    return child, [f"http://127.0.0.1:{port}" for port in child.told_ports()]


def start_llama_upstream(directory: Path) -> tuple[Child, str]:
    """The canned upstream that looks like a llama-server, and its URL."""
    argv = [sys.executable, "-m", "tests.bench.upstream", "--llama"]
    child = Child(directory, "upstream-llama", argv)
    return child, f"http://127.0.0.1:{child.told_ports()[0]}"


def start_bare(directory: Path, name: str, ports: Mapping[int, str]) -> Child:
    """The bare aiohttp proxy, from each port to its upstream."""
    pairs = [part for port, url in ports.items() for part in (str(port), url)]
    child = Child(directory, name, [sys.executable, "-m", "tests.bench.bare_proxy", *pairs])
    child.wait_for_ports(list(ports))
    return child


def start_nginx_proxy(directory: Path, ports: Mapping[int, str]) -> Child:
    """Nginx as a gateway, one worker, unbuffered, with kept connections."""
    servers = "".join(
        _NGINX_PROXY.format(number=number, port=port, address=url.removeprefix("http://"))
        for number, (port, url) in enumerate(ports.items())
    )
    return _start_nginx(directory, servers, list(ports))


def start_nginx_upstream(directory: Path, port: int) -> Child:
    """Nginx as a node that gives canned answers, the cheapest upstream there is."""
    locations = "".join(
        f"    location = {path} {{ return 200 '{body.decode()}'; }}\n"
        for path, body in upstream.listings([upstream.SMALL]).items()
    )
    small = upstream.small_answer().decode()
    locations += f"    location / {{ return 200 '{small}'; }}\n"
    server = f"  server {{\n    listen 127.0.0.1:{port};\n{locations}  }}\n"
    return _start_nginx(directory, server, [port])


def start_daemon(directory: Path, urls: list[str]) -> DaemonProcess:
    """The daemon with these nodes, ready, every node with slots to spare."""
    daemon = make_daemon(directory, urls)
    daemon.start()
    return daemon


def make_daemon(
    directory: Path, urls: list[str], tiers: Mapping[str, int] | None = None
) -> DaemonProcess:
    """The daemon with these nodes, not started yet."""
    text = "[discovery]\nenabled = false\n\n"
    for url in urls:
        tier = f"tier = {tiers[url]}\n" if tiers and url in tiers else ""
        text += f'[[nodes]]\nurl = "{url}"\nslots = 512\n{tier}\n'
    return DaemonProcess(directory, config=text)


def tools() -> tuple[str | None, str | None]:
    """Where nginx and wrk are, if they are."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return shutil.which("nginx", path=path), shutil.which("wrk", path=path)


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, in user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mb(pid: int) -> float:
    """Resident megabytes (10^6 bytes) of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6


def black_hole() -> tuple[socket.socket, list[socket.socket], str]:
    """An address whose connects get no answer: a listener whose queue is full. Keep the sockets."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    address = listener.getsockname()
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(address)
        fillers.append(filler)
    # The handshakes end in the kernel; only after them is the queue full.
    time.sleep(0.05)
    return listener, fillers, f"http://127.0.0.1:{address[1]}"


def _start_nginx(directory: Path, servers: str, ports: list[int]) -> Child:
    nginx, _ = tools()
    assert nginx is not None
    directory.mkdir(parents=True)
    config = directory / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    config.write_text(user + _NGINX.format(directory=directory, servers=servers))
    argv = [nginx, "-p", str(directory), "-c", str(config), "-e", str(directory / "e.log")]
    child = Child(directory, "nginx", argv)
    child.wait_for_ports(ports)
    return child
