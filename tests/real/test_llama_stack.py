"""The llama-servers that tests are given: killed, frozen, brought back, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.fakes.look import ask
from tests.stack.http import answers, get_json, post_json, wait_until

if TYPE_CHECKING:
    from tests.stack.fixtures import NewLlamaServer
    from tests.stack.llama import LlamaServers

pytestmark = pytest.mark.real

_HI = [{"role": "user", "content": "hi"}]
_ROOT = Path(__file__).resolve().parents[2]


def test_two_chat_and_one_embeds(llama_servers: LlamaServers) -> None:
    for server in llama_servers[:2]:
        body = {"messages": _HI, "max_tokens": 2}
        answer = post_json(f"{server.url}/v1/chat/completions", body)
        assert answer["model"] == server.model == "tiny"
        assert answer["usage"]["completion_tokens"] <= 2
    embedding = llama_servers.embedding
    answer = post_json(f"{embedding.url}/v1/embeddings", {"input": "hi"})
    assert answer["model"] == "tiny-embed"
    assert len(answer["data"][0]["embedding"]) == 640


@pytest.mark.parametrize("attempt", ["kills and freezes", "finds all mended"])
def test_a_test_may_break_them(attempt: str, llama_servers: LlamaServers) -> None:
    assert all(answers(f"{server.url}/health") for server in llama_servers), attempt
    killed, frozen, _ = llama_servers
    killed.kill()
    frozen.freeze()

    assert not killed.is_running
    assert frozen.is_running
    with pytest.raises(ConnectionRefusedError):
        ask(killed.url, "GET", "/health")
    with pytest.raises(TimeoutError):
        ask(frozen.url, "GET", "/health", limit_s=0.3)


def test_one_comes_back_on_its_port(new_llama_server: NewLlamaServer) -> None:
    server = new_llama_server(args=("--alias", "mine"))
    url, pid = server.url, server.group.pid

    server.kill()
    server.start()

    assert server.url == url
    assert server.group.pid != pid
    assert get_json(f"{url}/v1/models")["data"][0]["id"] == "mine"


def test_one_that_cannot_start_says_why(new_llama_server: NewLlamaServer) -> None:
    server = new_llama_server(args=("--no-such-option",), is_started=False)

    with pytest.raises(RuntimeError, match="no-such-option"):
        server.start()


def test_none_outlives_a_killed_test_run(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from tests.stack.llama import LlamaServer
        from tests.stack.parts import find_parts

        server = LlamaServer(Path(sys.argv[1]), find_parts())
        server.start()
        print(server.group.pid, flush=True)
        time.sleep(60)
        """
    )
    environ = os.environ | {"PYTHONPATH": str(_ROOT)}
    argv = [sys.executable, "-c", program, str(tmp_path / "server")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environ, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert psutil.pid_exists(pid)
        run.send_signal(signal.SIGKILL)
    wait_until(lambda: _is_gone(pid), limit_s=10, failure=lambda: f"{pid} still runs")


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
