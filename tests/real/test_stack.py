"""The stack itself: real nodes are equal, serve every kind of model, and survive their faults."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.stack.http import answers, get_json, post_json, post_lines, wait_until
from tests.stack.processes import ProcessGroup
from tests.stack.store import ALL_MODELS, TINY

if TYPE_CHECKING:
    from tests.stack.fixtures import NewDaemon, NewNode
    from tests.stack.ollama import OllamaServer

pytestmark = pytest.mark.real

_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}


def test_nodes_list_every_model_with_equal_digests(
    ollama_nodes: tuple[OllamaServer, ...],
) -> None:
    listings = [node.model_digests() for node in ollama_nodes]

    expected = {name if ":" in name else f"{name}:latest" for name, *_ in ALL_MODELS}
    assert set(listings[0]) == expected
    assert all(listing == listings[0] for listing in listings)
    assert listings[0]["user/tiny:latest"] == listings[0]["tiny:latest"]
    assert len(set(listings[0].values())) == len(ALL_MODELS) - 1


def test_it_is_the_ollama_that_the_contract_was_written_from(
    ollama_nodes: tuple[OllamaServer, ...],
) -> None:
    assert get_json(f"{ollama_nodes[0].url}/api/version") == {"version": "0.33.0"}


@pytest.mark.parametrize(
    ("model", "capabilities"),
    [
        ("tiny", {"completion"}),
        ("tiny-tools", {"completion", "tools"}),
        ("tiny-think", {"completion", "thinking"}),
        ("tiny-embed", {"embedding"}),
    ],
)
def test_each_variant_has_its_capability(
    ollama_nodes: tuple[OllamaServer, ...], model: str, capabilities: set[str]
) -> None:
    shown = post_json(f"{ollama_nodes[0].url}/api/show", {"model": model})

    assert set(shown["capabilities"]) == capabilities


def test_generate_streams_the_tokens_asked_for(ollama_nodes: tuple[OllamaServer, ...]) -> None:
    for node in ollama_nodes[:2]:
        lines = post_lines(
            f"{node.url}/api/generate",
            {"model": "tiny", "prompt": "The sea", "options": {"num_predict": 5}},
        )

        assert lines[-1]["done"] is True
        assert lines[-1]["eval_count"] == 5
        assert "".join(line["response"] for line in lines)


def test_the_stored_params_bound_an_answer(ollama_nodes: tuple[OllamaServer, ...]) -> None:
    reply = post_json(
        f"{ollama_nodes[0].url}/api/generate",
        {"model": "tiny:short", "prompt": "The sea", "stream": False},
    )

    assert 1 <= reply["eval_count"] <= 8


def test_chat_takes_tools_and_thinking(ollama_nodes: tuple[OllamaServer, ...]) -> None:
    messages = [{"role": "user", "content": "How is the weather in Riga?"}]
    url = f"{ollama_nodes[0].url}/api/chat"

    tools = {"model": "tiny-tools", "messages": messages, "tools": [_TOOL], "stream": False}
    think = {"model": "tiny-think", "messages": messages, "think": True, "stream": False}

    assert post_json(url, tools)["done"] is True
    assert post_json(url, think)["done"] is True


def test_embed_gives_a_vector_for_each_input(ollama_nodes: tuple[OllamaServer, ...]) -> None:
    reply = post_json(
        f"{ollama_nodes[1].url}/api/embed", {"model": "tiny-embed", "input": ["sea", "mountain"]}
    )

    assert [len(vector) for vector in reply["embeddings"]] == [640, 640]
    assert reply["embeddings"][0] != reply["embeddings"][1]


def test_a_frozen_node_is_silent_and_goes_on_where_it_stood(
    ollama_nodes: tuple[OllamaServer, ...],
) -> None:
    node = ollama_nodes[0]
    node.load("tiny")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        with node.frozen():
            assert not answers(f"{node.url}/api/version", limit_s=0.3)
            request = {"model": "tiny", "prompt": "a", "stream": False}
            pending = pool.submit(post_json, f"{node.url}/api/generate", request)
            assert not concurrent.futures.wait([pending], timeout=0.3).done
        assert pending.result()["done"] is True


def test_a_killed_node_takes_its_engines_along_and_comes_back_on_its_port(
    ollama_nodes: tuple[OllamaServer, ...],
) -> None:
    node = ollama_nodes[1]
    node.load("tiny")
    assert len(_members(node.group.pid)) > 1

    node.kill()

    assert not _members(node.group.pid)
    assert not answers(f"{node.url}/api/version")
    node.start()
    assert answers(f"{node.url}/api/version")
    node.load("tiny")


def test_the_next_test_finds_all_nodes_running(ollama_nodes: tuple[OllamaServer, ...]) -> None:
    ollama_nodes[0].kill()
    ollama_nodes[2].freeze()


def test_after_a_test_that_killed_and_froze_them(ollama_nodes: tuple[OllamaServer, ...]) -> None:
    assert all(answers(f"{node.url}/api/version") for node in ollama_nodes)


def test_an_own_node_takes_models_and_settings(new_node: NewNode) -> None:
    node = new_node(models=[TINY], env={"OLLAMA_CONTEXT_LENGTH": "2048"})
    node.load("tiny")

    loaded = get_json(f"{node.url}/api/ps")["models"]

    assert set(node.model_digests()) == {"tiny:latest"}
    assert [model["context_length"] for model in loaded] == [2048]


def test_a_daemon_process_serves_its_nodes_and_ends_cleanly(
    ollama_nodes: tuple[OllamaServer, ...], new_daemon: NewDaemon
) -> None:
    daemon = new_daemon(nodes=[node.url for node in ollama_nodes])
    daemon.start()

    for url in (daemon.api_url, daemon.console_url):
        wait_until(partial(_lists_models, url), limit_s=10.0, failure=daemon.log_text)
    lines = post_lines(
        f"{daemon.api_url}/api/generate",
        {"model": "tiny", "prompt": "The sea", "options": {"num_predict": 5}},
    )
    assert lines[-1]["eval_count"] == 5
    assert daemon.control_socket.is_socket()

    assert daemon.stop() == 0
    assert not daemon.group.leftover_pids
    assert not answers(f"{daemon.api_url}/api/version")


def test_a_daemon_that_cannot_start_says_why(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(config="[nonsense]\n")

    with pytest.raises(RuntimeError, match=r"(?s)exit code 78; .*nonsense"):
        daemon.start()


def test_a_group_dies_with_the_process_that_made_it(tmp_path: Path) -> None:
    maker = """
import sys, time
from pathlib import Path
from tests.stack.processes import ProcessGroup
group = ProcessGroup(
    ["/bin/sh", "-c", "sleep 600 & sleep 600"], env={}, log_path=Path(sys.argv[1])
)
while len(group.member_pids()) < 3:
    time.sleep(0.01)
print(group.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", maker, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        group_id = int(process.stdout.readline())
        process.kill()

    wait_until(
        lambda: not _members(group_id), limit_s=5.0, failure=lambda: f"{_members(group_id)} live"
    )


def test_terminate_kills_what_ignores_it_and_names_what_was_left(tmp_path: Path) -> None:
    stubborn = ProcessGroup(
        ["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"],
        env={},
        log_path=tmp_path / "stubborn",
    )
    _wait_for_text(tmp_path / "stubborn", "up")
    started_s = time.monotonic()
    assert stubborn.terminate(grace_s=0.2) == -signal.SIGKILL
    assert 0.2 <= time.monotonic() - started_s < 5.0
    assert not stubborn.is_running()

    untidy = ProcessGroup(
        ["/bin/sh", "-c", "sleep 600 & echo $!"], env={}, log_path=tmp_path / "untidy"
    )
    assert untidy.wait(limit_s=5.0) == 0
    assert untidy.leftover_pids == (int((tmp_path / "untidy").read_text()),)
    assert not _members(untidy.pid)


def _lists_models(url: str) -> bool:
    return bool(get_json(f"{url}/api/tags")["models"])


def _wait_for_text(path: Path, text: str) -> None:
    wait_until(lambda: text in path.read_text(), limit_s=5.0, failure=lambda: f"no {text!r}")


def _members(group_id: int) -> list[psutil.Process]:
    """The live processes of a group, by other means than the helper's."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            in_group = os.getpgid(process.pid) == group_id
            if in_group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members
