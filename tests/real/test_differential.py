"""The same requests sent to a real Ollama and through the daemon get the same answers.

What differs on purpose is declared here and, with its reason, in docs/compatibility.md.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.fakes.look import Client, End, ask
from tests.real.case import name_of, send
from tests.real.cases import ALIKE, UNLIKE, UNLOADS
from tests.real.compare import differences
from tests.real.daemons import running_daemon
from tests.real.wanted import EVERYWHERE, Pair, Wanted, listed, statuses
from tests.stack.http import get_json, post_json, wait_until
from tests.stack.store import TINY, TINY_SHORT, TINY_USER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.look import Answer
    from tests.real.case import AnyCase
    from tests.stack.fixtures import NewNode
    from tests.stack.ollama import OllamaServer

pytestmark = pytest.mark.real

_PROBED_WITHIN_S = 15.0


def _both_refuse(direct: Answer, through: Answer) -> bool:
    return direct.status in range(400, 500) and through.status in range(400, 500)


def _only_we_answer(direct: Answer, through: Answer) -> bool:
    return (direct.status, through.status) == (404, 200)


WANTED = (
    *EVERYWHERE,
    Wanted("holders-in-tags", "", r"body\[\]\.models\[\]\.nodes"),
    Wanted("first-fault", "two faults", holds=_both_refuse),
    Wanted("malformed-http", "malformed", holds=lambda direct, _: direct.status >= 400),
    Wanted("odd-targets", "odd targets", holds=statuses(204, 404)),
    Wanted("rules-before-redirects", "redirects", holds=statuses(301, 307, 403)),
    Wanted("ipv6-hosts", "IPv6 hosts", holds=statuses(200)),
    Wanted("content-encoding", "encodings", holds=statuses(200, 400, 415)),
    Wanted("header-count", "many header fields", holds=statuses(400)),
    Wanted("not-served", "not served", holds=statuses(404, 501)),
    Wanted("own-routes", "ours", holds=_only_we_answer),
)


class Fleet:
    """One node asked directly, through a daemon of its own, and through one over three nodes."""

    def __init__(self, nodes: tuple[OllamaServer, ...], one: str, three: str) -> None:
        self.nodes = nodes
        self.one = one
        self.three = three
        self._asked: dict[int, list[Pair]] = {}

    def ask(self, case: AnyCase) -> list[Pair]:
        """The answers of both daemons beside the direct one; asked once."""
        if id(case) not in self._asked:
            direct = send(self.nodes[0].url, case)
            answers = [("one", send(self.one, case)), ("three", send(self.three, case))]
            self._asked[id(case)] = [
                Pair(name, direct, through, differences(direct, through))
                for name, through in answers
            ]
        return self._asked[id(case)]


@pytest.fixture(scope="module")
def fleet(
    _session_nodes: tuple[OllamaServer, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Three nodes behind two daemons."""
    folder = tmp_path_factory.mktemp("daemons")
    with (
        running_daemon(folder / "one", _session_nodes[:1]) as one,
        running_daemon(folder / "three", _session_nodes) as three,
    ):
        yield Fleet(_session_nodes, one.api_url, three.api_url)


def _params(groups: dict[str, list[AnyCase]]) -> list[Any]:
    return [
        pytest.param(group, case, id=f"{group}: {name_of(case)}")
        for group, cases in groups.items()
        for case in cases
    ]


@pytest.mark.parametrize(("group", "case"), _params(ALIKE | UNLIKE))
def test_answers_as_ollama_does(group: str, case: AnyCase, fleet: Fleet) -> None:
    _assert_alike(group, case, fleet)


def test_unloads_as_ollama_does(fleet: Fleet) -> None:
    for case in UNLOADS:
        _assert_alike("unloads", case, fleet)


def _assert_alike(group: str, case: AnyCase, fleet: Fleet) -> None:
    for pair in fleet.ask(case):
        unwanted = [
            found
            for found in pair.found
            if not any(wanted.explains(group, pair, found) for wanted in WANTED)
        ]
        assert not unwanted, (name_of(case), pair.daemon)


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.name)
def test_what_is_declared_does_differ(wanted: Wanted, fleet: Fleet) -> None:
    groups = {wanted.group: UNLIKE[wanted.group]} if wanted.group else ALIKE
    for group, cases in groups.items():
        for pair in (pair for case in cases for pair in fleet.ask(case)):
            if any(wanted.explains(group, pair, found) for found in pair.found):
                return
    pytest.fail("no case shows it")


def test_every_group_that_may_differ_says_how() -> None:
    assert {wanted.group for wanted in WANTED} - {""} == UNLIKE.keys()


def test_the_document_lists_what_is_declared() -> None:
    declared = [wanted.name for wanted in WANTED] + list(BEHAVIOUR)

    assert listed("On purpose") == sorted(declared)


# What two answers side by side cannot show ----------------------------------------------------


def test_loaded_models_are_listed_once_per_node(fleet: Fleet) -> None:
    _load_everywhere(fleet)
    expected = {f"n{number}": _loaded(node.url) for number, node in enumerate(fleet.nodes, 1)}

    _wait_for_loaded(fleet.one, {"n1": expected["n1"]})
    _wait_for_loaded(fleet.three, expected)
    ends = [row["expires_at"] for row in get_json(f"{fleet.three}/api/ps")["models"]]
    assert ends == sorted(ends, reverse=True)


def _load_everywhere(fleet: Fleet) -> None:
    for node in fleet.nodes:
        node.load("tiny")


def _wait_for_loaded(url: str, expected: dict[str, list[dict[str, Any]]]) -> None:
    wait_until(
        lambda: _loaded_by_node(url) == expected,
        limit_s=_PROBED_WITHIN_S,
        failure=lambda: f"{_loaded_by_node(url)} instead of {expected}",
    )


def _loaded(url: str) -> list[dict[str, Any]]:
    return _sorted(get_json(f"{url}/api/ps")["models"])


def _loaded_by_node(url: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in get_json(f"{url}/api/ps")["models"]:
        found.setdefault(row.pop("node"), []).append(row)
    return {name: _sorted(rows) for name, rows in found.items()}


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["name"]))


def test_models_are_listed_newest_first(new_node: NewNode, tmp_path: Path) -> None:
    node = new_node(models=[TINY, TINY_SHORT, TINY_USER])
    node.stop()
    newest_first = ["user/tiny/latest", "library/tiny/latest", "library/tiny/short"]
    for age_s, name in enumerate(newest_first):
        manifest = node.models_dir / "manifests" / "registry.ollama.ai" / name
        os.utime(manifest, (1_700_000_000 - age_s,) * 2)
    node.start()

    with running_daemon(tmp_path / "daemon", [node]) as daemon:
        for url in (node.url, daemon.api_url):
            names = [model["name"] for model in get_json(f"{url}/api/tags")["models"]]
            ids = [model["id"] for model in get_json(f"{url}/v1/models")["data"]]
            assert names == ids == ["user/tiny:latest", "tiny:latest", "tiny:short"]


def test_no_models_are_an_empty_list(new_node: NewNode, tmp_path: Path) -> None:
    node = new_node(models=[])

    with running_daemon(tmp_path / "daemon", [node]) as daemon:
        lists = [get_json(f"{url}/v1/models")["data"] for url in (node.url, daemon.api_url)]
        tags = [get_json(f"{url}/api/tags") for url in (node.url, daemon.api_url)]

    assert lists == [None, []]
    assert tags[0] == tags[1] == {"models": []}


def test_an_unload_reaches_every_node(fleet: Fleet) -> None:
    _load_everywhere(fleet)
    wait_until(
        lambda: len(_loaded_by_node(fleet.three)) == len(fleet.nodes),
        limit_s=_PROBED_WITHIN_S,
        failure=lambda: f"loaded: {_loaded_by_node(fleet.three)}",
    )

    reply = post_json(f"{fleet.three}/api/generate", {"model": "tiny", "keep_alive": 0})

    assert reply["done_reason"] == "unload"
    wait_until(
        lambda: not any("tiny:latest" in _names_loaded(node.url) for node in fleet.nodes),
        limit_s=_PROBED_WITHIN_S,
        failure=lambda: f"still loaded: {[_names_loaded(node.url) for node in fleet.nodes]}",
    )


def _names_loaded(url: str) -> list[str]:
    return [row["name"] for row in _loaded(url)]


def test_a_stream_whose_engine_dies_says_so(new_node: NewNode, tmp_path: Path) -> None:
    node = new_node(models=[TINY])
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True}

    with running_daemon(tmp_path / "daemon", [node]) as daemon:
        direct, through = (
            _ask_and_kill_engine(node, url, body) for url in (node.url, daemon.api_url)
        )

    assert direct.end is End.CLEAN
    assert b"error" not in direct.body
    assert b"[DONE]" not in direct.body + through.body
    assert through.end is not End.CLEAN
    assert b'data: {"error":{"message":' in through.body


def _ask_and_kill_engine(node: OllamaServer, url: str, body: object) -> Answer:
    node.load("tiny")
    with Client(url) as client:
        client.send("POST", "/v1/chat/completions", body)
        client.wait()
        for pid in node.group.member_pids():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if process.name().startswith("llama-server"):
                    process.kill()
        return client.receive()


def test_a_stream_without_its_end_says_so(fleet: Fleet) -> None:
    # Thirty equal tokens in a row make Ollama stop in mid-answer without a word.
    zeros = {"model": "tiny", "prompt": "1" + "0" * 20, "raw": True, "options": {"num_predict": 60}}

    direct, through = (ask(url, "POST", "/api/generate", zeros) for url in _both(fleet))
    whole = [post_json(f"{url}/api/generate", zeros | {"stream": False}) for url in _both(fleet)]

    assert direct.end is End.CLEAN
    assert direct.lines()[-1]["done"] is False
    assert through.end is not End.CLEAN
    assert str(through.lines()[-1]["error"]).startswith("sollold: n1: ")
    assert [reply["done"] for reply in whole] == [False, False]


def _both(fleet: Fleet) -> tuple[str, str]:
    return fleet.nodes[0].url, fleet.one


BEHAVIOUR = {
    "loaded-per-node": test_loaded_models_are_listed_once_per_node,
    "empty-list": test_no_models_are_an_empty_list,
    "unload-everywhere": test_an_unload_reaches_every_node,
    "broken-streams-say-so": test_a_stream_whose_engine_dies_says_so,
    "unfinished-streams-say-so": test_a_stream_without_its_end_says_so,
}
"""Further differences on purpose, and the tests that show them."""
