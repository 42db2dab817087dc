"""The daemon as a process: how it starts, refuses to start, drains and stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.fakes.node import FakeNode
from tests.stack.daemon import DaemonProcess
from tests.stack.http import get_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    async with FakeNode(rate=20.0, answer_tokens=20) as node:
        yield node


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[list[DaemonProcess]]:
    made: list[DaemonProcess] = []
    yield made
    for daemon in made:
        daemon.close()


async def started(
    daemons: list[DaemonProcess],
    directory: Path,
    *nodes: FakeNode,
    config: str = "",
    env: dict[str, str] | None = None,
) -> DaemonProcess:
    if "[discovery]" not in config:
        config += "\n[discovery]\nenabled = false\n"
    urls = [node.url for node in nodes]
    daemon = DaemonProcess(directory, nodes=urls, config=config, env=env)
    daemons.append(daemon)
    await asyncio.to_thread(daemon.start)
    return daemon


def run_sollold(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sollold", *args],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **(env or {})},
        check=False,
    )


def test_a_good_configuration_is_called_good(tmp_path: Path) -> None:
    path = tmp_path / "sollold.toml"
    path.write_text("[queue]\nlength = 7\n")
    done = run_sollold("--config", str(path), "--check-config")
    assert (done.returncode, str(path) in done.stdout) == (0, True)


def test_every_fault_of_a_configuration_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sollold.toml"
    path.write_text('[queue]\nlenght = 7\n\n[log]\nlevel = "loud"\n\n[health]\ninterval_s = -1\n')
    for extra in (["--check-config"], []):
        done = run_sollold("--config", str(path), *extra)
        assert done.returncode == 78
        for line in (2, 5, 8):
            assert f"{path}:{line}" in done.stderr, done.stderr
        assert "length" in done.stderr


def test_wrong_usage(tmp_path: Path) -> None:
    assert run_sollold("--no-such-flag").returncode == 2


def test_version_and_help() -> None:
    assert re.fullmatch(r"sollold, version \S+\n", run_sollold("--version").stdout)
    text = run_sollold("--help").stdout
    assert "--check-config" in text
    assert "\b" not in text


async def test_a_taken_port(daemons: list[DaemonProcess], tmp_path: Path, node: FakeNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await asyncio.to_thread(
            run_sollold,
            "--listen",
            f"127.0.0.1:{port}",
            "--console",
            "127.0.0.1:0",
            env={"XDG_RUNTIME_DIR": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
        )
    assert done.returncode == 75
    assert str(port) in done.stderr
    assert "listen.api" in done.stderr


async def test_a_second_daemon_is_refused(
    daemons: list[DaemonProcess], tmp_path: Path, node: FakeNode
) -> None:
    first = await started(daemons, tmp_path / "a", node)
    done = await asyncio.to_thread(
        run_sollold,
        "--listen",
        "127.0.0.1:0",
        "--console",
        "127.0.0.1:0",
        env={"XDG_RUNTIME_DIR": str(first.runtime_dir), "XDG_CONFIG_HOME": str(tmp_path)},
    )
    assert done.returncode == 75
    assert str(first.group.pid) in done.stderr


async def test_the_control_socket(
    daemons: list[DaemonProcess], tmp_path: Path, node: FakeNode
) -> None:
    daemon = await started(daemons, tmp_path, node)
    assert daemon.control_socket.stat().st_mode & 0o777 == 0o600
    connector = aiohttp.UnixConnector(str(daemon.control_socket))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get("http://localhost/api/v1/status") as answer:
            assert (await answer.json())["state"] == "serving"
    assert await asyncio.to_thread(daemon.stop) == 0
    assert not daemon.control_socket.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_streams_finish_while_new_ones_are_refused(
    daemons: list[DaemonProcess], tmp_path: Path, node: FakeNode, number: signal.Signals
) -> None:
    daemon = await started(daemons, tmp_path, node)
    async with aiohttp.ClientSession(daemon.api_url) as session:
        stream = await session.post("/api/chat", json=CHAT)
        await stream.content.readany()
        os.kill(daemon.group.pid, number)
        async with asyncio.timeout(5):
            while (await (await session.get("/api/v1/status")).json())["state"] != "stopping":
                await asyncio.sleep(0.02)
        refused = await session.post("/api/chat", json={**CHAT, "stream": False})
        assert refused.status == 503
        assert "Retry-After" in refused.headers
        data = await stream.read()
        assert json.loads(data.splitlines()[-1])["done"] is True
    assert await asyncio.to_thread(daemon.wait_exit) == 0


async def test_what_outlives_the_drain_is_cut_and_never_looks_complete(
    daemons: list[DaemonProcess], tmp_path: Path
) -> None:
    async with FakeNode(rate=10.0, answer_tokens=1000) as node:
        config = "[server]\ndrain_s = 0.3\ncancel_after_s = 0.5\n"
        daemon = await started(daemons, tmp_path, node, config=config)
        async with aiohttp.ClientSession(daemon.api_url) as session:
            stream = await session.post("/api/chat", json=CHAT)
            await stream.content.readany()
            begun_s = time.monotonic()
            os.kill(daemon.group.pid, signal.SIGTERM)
            with pytest.raises(aiohttp.ClientPayloadError):
                await stream.read()
            stream.close()
        assert await asyncio.to_thread(daemon.wait_exit) == 0
        assert time.monotonic() - begun_s < 10
        await node.until(lambda: node.active == 0)


async def test_a_second_signal_skips_the_wait(daemons: list[DaemonProcess], tmp_path: Path) -> None:
    async with FakeNode(rate=10.0, answer_tokens=1000) as node:
        daemon = await started(daemons, tmp_path, node, config="[server]\ncancel_after_s = 0.3\n")
        async with aiohttp.ClientSession(daemon.api_url) as session:
            stream = await session.post("/api/chat", json=CHAT)
            await stream.content.readany()
            begun_s = time.monotonic()
            os.kill(daemon.group.pid, signal.SIGTERM)
            async with asyncio.timeout(5):
                while (await (await session.get("/api/v1/status")).json())["state"] != "stopping":
                    await asyncio.sleep(0.02)
            os.kill(daemon.group.pid, signal.SIGTERM)
            assert await asyncio.to_thread(daemon.wait_exit) == 0
            assert time.monotonic() - begun_s < 15
            stream.close()


async def test_open_listeners_and_idle_connections_do_not_delay_the_stop(
    daemons: list[DaemonProcess], tmp_path: Path, node: FakeNode
) -> None:
    daemon = await started(daemons, tmp_path, node)
    async with aiohttp.ClientSession(daemon.api_url) as session:
        async with session.ws_connect("/ws/routing_events") as socket_:
            await socket_.receive()
            await (await session.get("/api/tags")).read()
            begun_s = time.monotonic()
            os.kill(daemon.group.pid, signal.SIGTERM)
            async with asyncio.timeout(10):
                while (await socket_.receive()).type is aiohttp.WSMsgType.TEXT:
                    pass
            assert socket_.close_code == aiohttp.WSCloseCode.GOING_AWAY
        assert await asyncio.to_thread(daemon.wait_exit) == 0
        assert time.monotonic() - begun_s < 8


async def test_what_the_service_manager_hears(
    daemons: list[DaemonProcess], tmp_path: Path, node: FakeNode
) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(10)
        daemon = await started(daemons, tmp_path, node, env={"NOTIFY_SOCKET": str(path)})
        heard = (await asyncio.to_thread(manager.recv, 4096)).decode()
        assert heard.startswith("READY=1")
        assert await asyncio.to_thread(daemon.stop) == 0
        rest = []
        with contextlib.suppress(TimeoutError):
            manager.settimeout(0.5)
            while True:
                rest.append(manager.recv(4096).decode())
    assert any(message.startswith("STOPPING=1") for message in rest), rest


async def test_a_client_that_leaves_stops_the_generation(
    daemons: list[DaemonProcess], tmp_path: Path
) -> None:
    async with FakeNode(rate=10.0, answer_tokens=1000) as node:
        daemon = await started(daemons, tmp_path, node)
        async with aiohttp.ClientSession(daemon.api_url) as session:
            for is_stream in (True, False):
                asking = asyncio.create_task(
                    session.post("/api/chat", json={**CHAT, "stream": is_stream})
                )
                await node.until(lambda: node.active == 1)
                if is_stream:
                    (await asking).close()
                else:
                    asking.cancel()
                await node.until(lambda: node.active == 0, timeout_s=2)


async def test_no_prompt_answer_or_key_is_logged(
    daemons: list[DaemonProcess], tmp_path: Path, node: FakeNode
) -> None:
    daemon = await started(daemons, tmp_path, node, config='[log]\nlevel = "debug"\n')
    async with aiohttp.ClientSession(daemon.api_url) as session:
        headers = {"Authorization": "Bearer marker-key", "Cookie": "c=marker-key"}
        for path in ("/api/chat", "/v1/chat/completions", "/api/nothing"):
            body = {**CHAT, "messages": [{"role": "user", "content": "marker-prompt"}]}
            await (await session.post(path, json=body, headers=headers)).read()
        await (await session.post("/api/chat", data=b'{"marker-prompt"', headers=headers)).read()
        await node.stop()
        await (await session.post("/api/show", json=CHAT, headers=headers)).read()
    assert await asyncio.to_thread(daemon.stop) == 0
    text = daemon.log_text()
    assert "request r-" in text
    assert "marker" not in text
    assert "tok0" not in text


async def test_nothing_is_left_after_hundreds_of_requests_with_failures(
    daemons: list[DaemonProcess], tmp_path: Path
) -> None:
    async with FakeNode(rate=0.0) as good, FakeNode(rate=0.0) as bad:
        daemon = await started(daemons, tmp_path, good, bad)
        async with aiohttp.ClientSession(daemon.api_url) as session:

            async def ask(number: int) -> None:
                async with session.post(
                    "/api/chat", json={**CHAT, "stream": bool(number % 2)}
                ) as a:
                    await a.read()

            async def all_of(count: int) -> None:
                for _ in range(count // 10):
                    await asyncio.gather(*(ask(number) for number in range(10)))

            await all_of(50)
            before = len(list(Path(f"/proc/{daemon.group.pid}/fd").iterdir()))
            for number in range(5):
                if number % 2:
                    await bad.stop()
                else:
                    await bad.start()
                await all_of(100)
        async with asyncio.timeout(10):
            while len(list(Path(f"/proc/{daemon.group.pid}/fd").iterdir())) > before:
                await asyncio.sleep(0.1)
        page = await asyncio.to_thread(get_json, f"{daemon.api_url}/api/v1/requests")
        assert page["running"] == []


async def test_a_daemon_never_becomes_its_own_node(
    daemons: list[DaemonProcess], tmp_path: Path, node: FakeNode
) -> None:
    daemon = DaemonProcess(tmp_path, nodes=[node.url], config="")
    daemons.append(daemon)
    daemon.write_config(nodes=[node.url, daemon.api_url])
    done = await asyncio.to_thread(run_sollold, "--config", str(daemon.config_path))
    assert done.returncode == 78
    assert "itself" in done.stderr or "this daemon" in done.stderr, done.stderr


async def test_two_daemons_that_name_each_other_do_not_loop(
    daemons: list[DaemonProcess], tmp_path: Path, node: FakeNode
) -> None:
    first = await started(daemons, tmp_path / "a", node)
    second = await started(daemons, tmp_path / "b", config=f'[[nodes]]\nurl = "{first.api_url}"\n')
    status = await asyncio.to_thread(get_json, f"{second.api_url}/api/v1/status")
    assert status["nodes"]["total"] == 0
    async with aiohttp.ClientSession(second.api_url) as session:
        answer = await session.post("/api/chat", json={**CHAT, "stream": False})
        assert answer.status == 404
    assert not node.inference


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_both_event_loops(
    daemons: list[DaemonProcess], tmp_path: Path, node: FakeNode, loop: str
) -> None:
    daemon = await started(daemons, tmp_path, node, config=f'[server]\nloop = "{loop}"\n')
    status = await asyncio.to_thread(get_json, f"{daemon.api_url}/api/v1/status")
    assert status["loop"] == loop
    async with aiohttp.ClientSession(daemon.api_url) as session:
        answer = await session.post("/api/chat", json=CHAT)
        assert json.loads((await answer.read()).splitlines()[-1])["done"] is True
    assert await asyncio.to_thread(daemon.stop) == 0
