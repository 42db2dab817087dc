"""The small parts: own addresses, name order, replies, capabilities, races, sources."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from sollold.config.node import Node
from sollold.core.model import ModelView, NodeKind
from sollold.nodes import resolve as rs
from sollold.nodes.capabilities import Capabilities
from sollold.nodes.own import OwnAddresses, find_own_addresses, is_literal
from sollold.nodes.parse import (
    ReplyError,
    Shared,
    parse_daemon,
    parse_ps,
    parse_show,
    parse_tags,
    parse_version,
)
from sollold.nodes.race import first_good
from sollold.nodes.sources import StaticSources
from sollold.system.netif import normal_literal
from tests.unit.nodes.support import model

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

DIGEST = "ab" * 32


def listing(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"models": list(entries)}).encode()


def entry(name: str = "m:latest", **fields: Any) -> dict[str, Any]:
    return {"name": name, "model": name, "digest": DIGEST, "size": 7, "modified_at": "t", **fields}


def test_own_addresses_are_this_machine() -> None:
    own = find_own_addresses(frozenset({("0:0:0:0:0:0:0:1", 80)}))
    assert "127.0.0.1" in own.interfaces
    assert own.is_daemon("::1", 80)
    assert not own.is_daemon("::1", 81)
    assert own.is_local("127.1.2.3")
    assert not own.is_local("198.51.100.1")
    assert not own.is_local("box.lan")
    assert OwnAddresses(interfaces=frozenset({"fe80::1"})).is_local("fe80::1")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0:0::1", "::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("FE80::1%eth0", "fe80::1%eth0"),
        ("fd00::1%eth0", "fd00::1"),
        ("box", "box"),
    ],
)
def test_one_spelling_per_address(text: str, normal: str) -> None:
    assert normal_literal(text) == normal


def test_literals() -> None:
    assert is_literal("10.0.0.1")
    assert is_literal("fe80::1%eth0")
    assert not is_literal("10.0.0.1.example")


def test_link_local_comes_last_and_doubles_go() -> None:
    found = rs.order_addresses(["fe80::1", "10.0.0.1", "169.254.0.9", "10.0.0.1", "fd00::1"])
    assert found == ("10.0.0.1", "fd00::1", "fe80::1", "169.254.0.9")
    assert len(rs.order_addresses(f"10.0.0.{n}" for n in range(99))) == 8


async def test_a_literal_resolves_to_itself_and_a_zone_is_kept() -> None:
    assert await rs.resolve("127.0.0.1", 80) == ("127.0.0.1",)
    assert "127.0.0.1" in await rs.resolve("localhost", 80)
    lo = socket.if_nametoindex("lo")
    assert rs._literal(("fe80::1", 80, 0, lo)) == "fe80::1%lo"
    assert rs._literal(("fe80::1", 80, 0, 0)) == "fe80::1"
    assert rs._literal(("fe80::1", 80, 0, 2**31 - 1)) == "fe80::1"


def test_versions() -> None:
    assert parse_version(b'{"version":"0.33.0"}') == "0.33.0"
    for body, what in (
        (b"<!DOCTYPE html><p>hi", "a web page"),
        (b"  <html>", "a web page"),
        (b"Ollama is running", "something not JSON"),
        (b'{"version":"\xff"}', "something not JSON"),
        (b"", "something not JSON"),
        (b'{"version":7}', "JSON of another shape"),
        (b"[]", "JSON of another shape"),
        (b'{"version":""}', "no usable version"),
        (b'{"version":"%s"}' % (b"9" * 99), "no usable version"),
        (b'{"version":"a\\nb"}', "no usable version"),
        (b"[" * 100_000, "answers with"),
    ):
        with pytest.raises(ReplyError, match=what):
            parse_version(body)


def test_tags() -> None:
    tags = parse_tags(
        listing(
            entry("Llama3.2:latest", details={"family": "llama"}, capabilities=["tools", 5]),
            entry("stub:cloud", remote_host="https://ollama.com"),
            entry("bad name"),
            entry("no-digest", digest=""),
            {"model": "old", "digest": f"sha256:{DIGEST.upper()}", "size": "large"},
        ),
        Shared(),
    )
    llama, stub, old = tags.models
    assert (llama.name, llama.digest, llama.size_bytes) == ("Llama3.2:latest", DIGEST, 7)
    assert llama.key.endswith("/llama3.2:latest")
    assert llama.capabilities == frozenset({"tools"})
    assert llama.entry["details"] == {"family": "llama"}
    assert not llama.is_remote
    assert stub.is_remote
    assert stub.capabilities is None
    assert (old.name, old.digest, old.size_bytes) == ("old", DIGEST, 0)


def test_empty_lists() -> None:
    assert parse_tags(b'{"models":null}', Shared()).models == ()
    assert parse_tags(b"{}", Shared()).models == ()
    assert parse_ps(b'{"models":[]}') == ()


def test_equal_marks_mean_equal_bytes() -> None:
    one, two = listing(entry("a")), listing(entry("b"))
    assert parse_tags(one, Shared()).mark == parse_tags(one, Shared()).mark
    known = parse_tags(one, Shared())
    assert known.mark != parse_tags(two, Shared()).mark
    assert parse_tags(one, Shared(), known) is known
    assert parse_tags(two, Shared(), known) is not known


def test_what_nodes_print_alike_is_kept_once() -> None:
    shared = Shared()
    body = listing(entry(details={"family": "llama"}, capabilities=["tools"]))
    (one,), (two,) = (parse_tags(body, shared).models for _ in range(2))
    assert one == two
    assert one.entry["details"] is two.entry["details"]
    assert one.capabilities is two.capabilities
    changed = listing(entry(details={"family": "qwen"}))
    assert parse_tags(changed, shared).models[0].entry["details"] == {"family": "qwen"}


def test_the_shared_store_is_bounded() -> None:
    shared = Shared()
    for number in range(10_000):
        shared.details(model("m", f"{number:064x}").digest, {"n": number})
        shared.names(frozenset({str(number)}))
    assert len(shared._details) <= 4096
    assert len(shared._sets) <= 4096


def test_ps() -> None:
    (found,) = parse_ps(
        listing(
            entry("m", context_length=4096, size_vram=3, expires_at="x"),
            entry("", digest=DIGEST),
        )
    )
    assert (found.context_length, found.size_vram_bytes, found.expires_at) == (4096, 3, "x")
    assert found.options is None
    (old,) = parse_ps(listing(entry("m", context_length=True)))
    assert old.context_length is None


def test_show() -> None:
    blob = "cd" * 32
    shown = parse_show(
        json.dumps(
            {
                "capabilities": ["completion", "tools"],
                "modelfile": f"# x\nFROM /var/models/blobs/sha256-{blob}\nTEMPLATE y\n",
                "tensors": [{"name": "a"}],
            }
        ).encode()
    )
    assert shown.capabilities == frozenset({"completion", "tools"})
    assert shown.weights == blob
    old = parse_show(b"{}")
    assert (old.capabilities, old.weights) == (None, None)


def test_status_of_another_daemon() -> None:
    assert parse_daemon(b'{"schema":"sollold.status/1","version":"0.1.0"}') == "0.1.0"
    assert parse_daemon(b'{"schema":"sollold.status/1"}') == ""
    assert parse_daemon(b'{"schema":"other/1"}') is None
    assert parse_daemon(b"404 page not found") is None


def test_capabilities_are_learned_once_per_digest_and_version() -> None:
    known, llama = Capabilities(), model("llama3.2")
    assert known.unknown([llama], "1") == [llama]
    assert known.begin(llama, "1")
    assert not known.begin(llama, "1")
    assert known.unknown([llama], "1") == []
    known.finish(llama, "1")
    assert known.begin(llama, "1")
    known.learn(llama, "1", frozenset({"tools"}))
    assert known.unknown([llama], "1") == []
    assert not known.begin(llama, "1")
    assert known.apply(llama, "1").capabilities == frozenset({"tools"})
    assert known.apply(llama, "2") is llama
    assert known.unknown([llama], "2") == [llama]


def test_no_answer_is_an_answer_and_stubs_are_not_asked() -> None:
    known, llama = Capabilities(), model("llama3.2")
    known.learn(llama, "1", None)
    assert known.unknown([llama], "1") == []
    assert known.apply(llama, "1") is llama
    stub = ModelView(key=llama.key, name="s", digest=llama.digest, size_bytes=1, modified_at="",
                     is_remote=True)  # fmt: skip
    assert known.unknown([stub], "2") == []


def test_what_is_known_of_capabilities_is_bounded() -> None:
    known = Capabilities()
    for number in range(9000):
        known.learn(model("m", f"{number:064x}"), "1", None)
    assert len(known._known) <= 8192


class Racer:
    """Calls that answer when told to."""

    def __init__(self, size: int) -> None:
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.answers: list[asyncio.Future[str]] = [
            asyncio.get_running_loop().create_future() for _ in range(size)
        ]
        self.changed = asyncio.Event()

    def calls(self) -> list[Callable[[], Coroutine[None, None, str]]]:
        return [partial(self._call, number) for number in range(len(self.answers))]

    async def _call(self, number: int) -> str:
        self.started.append(number)
        self.changed.set()
        try:
            return await self.answers[number]
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise

    async def until_started(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.started) < count:
                self.changed.clear()
                await self.changed.wait()


def good(answer: str) -> bool:
    return answer.startswith("good")


async def test_a_single_call_is_just_made() -> None:
    racer = Racer(1)
    racer.answers[0].set_result("good")
    assert await first_good(racer.calls(), good, 9.0) == (0, ["good"])
    racer.answers = [asyncio.get_running_loop().create_future()]
    racer.answers[0].set_result("bad")
    assert await first_good(racer.calls(), good, 9.0) == (-1, ["bad"])


async def test_a_good_first_answer_leaves_the_others_alone() -> None:
    racer = Racer(3)
    racer.answers[0].set_result("good")
    assert await first_good(racer.calls(), good, 9.0) == (0, ["good"])
    assert racer.started == [0]


async def test_a_failure_starts_the_next_at_once() -> None:
    racer = Racer(2)
    racer.answers[0].set_result("bad")
    racer.answers[1].set_result("good 1")
    async with asyncio.timeout(5):
        assert await first_good(racer.calls(), good, 3600.0) == (1, ["good 1"])


async def test_silence_starts_the_next_beside_it_and_the_loser_is_cancelled() -> None:
    racer = Racer(2)
    task = asyncio.create_task(first_good(racer.calls(), good, 0.01))
    await racer.until_started(2)
    racer.answers[1].set_result("good 1")
    assert await task == (1, ["good 1"])
    assert racer.cancelled == [0]


async def test_a_late_first_may_still_win() -> None:
    racer = Racer(2)
    task = asyncio.create_task(first_good(racer.calls(), good, 0.01))
    await racer.until_started(2)
    racer.answers[0].set_result("good 0")
    assert await task == (0, ["good 0"])


async def test_all_answers_come_back_when_none_is_good() -> None:
    racer = Racer(3)
    for number, answer in enumerate(racer.answers):
        answer.set_result(f"bad {number}")
    assert await first_good(racer.calls(), good, 0.01) == (-1, ["bad 0", "bad 1", "bad 2"])


async def test_a_cancelled_race_leaves_nothing_running() -> None:
    racer = Racer(2)
    task = asyncio.create_task(first_good(racer.calls(), good, 0.01))
    await racer.until_started(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(racer.cancelled) == [0, 1]


def test_configured_nodes() -> None:
    nodes = [
        Node(url="gpu", name="gpu", kind="llama_server", slots=2, tier=1, key_env="K", mac="m")
    ]
    found = StaticSources(nodes, has_localhost=False).read()
    (candidate,) = found["config"]
    assert (candidate.url, candidate.name, candidate.kind) == ("gpu", "gpu", NodeKind.LLAMA_SERVER)
    assert (candidate.slots, candidate.tier, candidate.key_env, candidate.mac) == (2, 1, "K", "m")
    assert not candidate.is_silent
    assert found["hosts file"] == found["OLLAMA_HOST"] == found["localhost"] == ()


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("192.168.1.9", "http://192.168.1.9:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("[::]:8000", "http://[::1]:8000"),
        ("http://box", "http://box:80"),
        ("https://box", "https://box:443"),
        ("box:99999", "http://box:11434"),
        ('"box:1234"', "http://box:1234"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(value: str, url: str) -> None:
    (candidate,) = StaticSources(ollama_host=value).read()["OLLAMA_HOST"]
    assert str(candidate.place()) == url
    assert not candidate.is_silent


def test_a_bad_ollama_host_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert StaticSources(ollama_host="ftp://x").read()["OLLAMA_HOST"] == ()
    assert "OLLAMA_HOST is ignored" in caplog.text


def test_localhost_is_a_silent_candidate() -> None:
    (candidate,) = StaticSources().read()["localhost"]
    assert (candidate.url, candidate.is_silent) == ("http://localhost:11434", True)


def test_the_hosts_file_is_read_again_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1  # the big one\n\nbox:8000\nbad:port\n")
    sources = StaticSources(hosts_file=path, has_localhost=False)
    assert [c.url for c in sources.read()["hosts file"]] == [
        "http://10.0.0.1:11434",
        "http://box:8000",
    ]
    assert f"{path}:4" in caplog.text
    assert '"bad:port"' in caplog.text
    assert sources.poll() is None
    path.write_text("10.0.0.2\n")
    os.utime(path, ns=(1, 1))
    found = sources.poll()
    assert found is not None
    assert list(found) == ["hosts file"]
    assert [c.url for c in found["hosts file"]] == ["http://10.0.0.2:11434"]
    # A file that vanishes, as editors let it for a moment, takes no node away.
    path.unlink()
    found = sources.poll()
    assert found is not None
    assert [c.url for c in found["hosts file"]] == ["http://10.0.0.2:11434"]
    assert sources.poll() is None
    path.write_text("")
    found = sources.poll()
    assert found is not None
    assert found["hosts file"] == ()


def test_without_a_hosts_file_there_is_nothing_to_poll() -> None:
    sources = StaticSources()
    sources.read()
    assert sources.poll() is None
