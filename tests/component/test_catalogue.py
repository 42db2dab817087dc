"""Lists merged over all nodes, answered from memory: rules seen through HTTP."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from tests.component.lab import IN_ORDER, Lab
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.look import ask
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode

HEX64 = re.compile(r"[0-9a-f]{64}")
AT_ONCE_S = 0.25
LISTS = ("/", "/api/version", "/api/tags", "/api/ps", "/v1/models")

OLD = FakeModel(name="old", modified_at="2025-01-01T00:00:00Z")
MIDDLE = FakeModel(name="user/middle:q4", modified_at="2025-06-01T00:00:00.5+02:00")
NEW = FakeModel(name="New", modified_at="2026-02-01T00:00:00Z")


async def get(lab: Lab, path: str) -> Any:
    async with lab.session.get(path) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def tags(lab: Lab) -> dict[str, Any]:
    found = await get(lab, "/api/tags")
    return {item["name"]: item for item in found["models"]}


async def chat(lab: Lab, model: str) -> tuple[int, str]:
    answer = await lab.chat(model=model)
    await answer.read()
    return answer.status, answer.headers.get("X-Sollold-Node", "")


async def test_one_entry_for_what_several_nodes_hold() -> None:
    nodes = [FakeNode([OLD, NEW]), FakeNode([NEW, MIDDLE]), FakeNode([OLD])]
    async with Lab(nodes) as lab:
        found = (await get(lab, "/api/tags"))["models"]
        assert [item["name"] for item in found] == ["New:latest", "user/middle:q4", "old:latest"]
        assert [item["nodes"] for item in found] == [["n1", "n2"], ["n2"], ["n1", "n3"]]
        for item in found:
            assert item["model"] == item["name"]
            assert HEX64.fullmatch(item["digest"])
            assert item["details"]["context_length"] == 32_768
            assert item["size"] > 0


async def test_a_copy_changed_later_gives_the_date() -> None:
    later = FakeModel(name="new", digest=NEW.id, modified_at="2026-03-01T00:00:00Z")
    async with Lab([FakeNode([NEW]), FakeNode([later])]) as lab:
        found = (await get(lab, "/api/tags"))["models"]
        assert len(found) == 1
        assert found[0]["modified_at"] == "2026-03-01T00:00:00Z"
        assert found[0]["nodes"] == ["n1", "n2"]


async def test_a_name_with_two_digests_means_the_newer_and_only_its_node_is_asked() -> None:
    newer = FakeModel(name="twin", digest="a" * 64, modified_at="2026-02-01T00:00:00Z")
    older = FakeModel(name="twin", digest="b" * 64, modified_at="2026-01-01T00:00:00Z")
    async with Lab([FakeNode([older]), FakeNode([newer])], routing=IN_ORDER) as lab:
        found = await tags(lab)
        assert (found["twin:latest"]["digest"], found["twin:latest"]["nodes"]) == ("a" * 64, ["n2"])
        assert len((await get(lab, "/v1/models"))["data"]) == 1
        assert [await chat(lab, "twin") for _ in range(3)] == [(200, "n2")] * 3
        assert not lab.nodes[0].inference


async def test_the_older_digest_takes_over_while_the_newer_is_away() -> None:
    newer = FakeModel(name="twin", digest="a" * 64, modified_at="2026-02-01T00:00:00Z")
    older = FakeModel(name="twin", digest="b" * 64, modified_at="2026-01-01T00:00:00Z")
    health = {"interval_s": 0.1, "timeout_s": 0.1, "backoff_max_s": 0.2}
    async with Lab([FakeNode([older]), FakeNode([newer])], health=health) as lab:
        await lab.nodes[1].stop()
        await lab.until(lambda: lab.fleet["n2"].state == "down")
        assert (await tags(lab))["twin:latest"]["digest"] == "b" * 64
        assert await chat(lab, "twin") == (200, "n1")
        await lab.nodes[1].start()
        await lab.until(lambda: lab.fleet["n2"].state == "up")
        assert (await tags(lab))["twin:latest"]["digest"] == "a" * 64
        assert await chat(lab, "twin") == (200, "n2")


@pytest.mark.parametrize("count", [0, 2])
async def test_no_models_are_an_empty_list(count: int) -> None:
    async with Lab([FakeNode(()) for _ in range(count)]) as lab:
        assert await get(lab, "/api/tags") == {"models": []}
        assert await get(lab, "/api/ps") == {"models": []}
        assert await get(lab, "/v1/models") == {"object": "list", "data": []}
        assert (await get(lab, "/api/version"))["version"] == "0.33.0"


async def test_a_node_that_goes_down_hides_nobody_elses_models() -> None:
    health = {"interval_s": 0.1, "timeout_s": 0.1, "backoff_max_s": 0.2}
    both, alone = FakeModel(name="both"), FakeModel(name="alone")
    async with Lab([FakeNode([both]), FakeNode([both, alone])], health=health) as lab:
        assert await chat(lab, "alone") == (200, "n2")
        await lab.until(lambda: bool(lab.fleet["n2"].residents))
        await lab.nodes[1].stop()
        await lab.until(lambda: lab.fleet["n2"].state == "down")
        found = await tags(lab)
        assert set(found) == {"both:latest", "alone:latest"}
        # It is known where it is, so that asking for it is answered with 503 and not with 404.
        assert found["alone:latest"]["nodes"] == ["n2"]
        assert await get(lab, "/api/ps") == {"models": []}


async def test_openai_clients_see_the_same_models() -> None:
    async with Lab([FakeNode([OLD, NEW]), FakeNode([MIDDLE])]) as lab:
        answer = await asyncio.to_thread(ask, lab.url, "GET", "/v1/models")
        assert answer.headers["content-type"] == "application/json"
        assert answer.body.endswith(b"}\n")
        found: Any = answer.json()
        assert found["object"] == "list"
        cards = [(card["id"], card["object"], card["owned_by"]) for card in found["data"]]
        assert cards == [
            ("New:latest", "model", "library"),
            ("user/middle:q4", "model", "user"),
            ("old:latest", "model", "library"),
        ]
        assert [card["created"] for card in found["data"]] == [1769904000, 1748728800, 1735689600]
        missing = await asyncio.to_thread(ask, lab.url, "GET", "/v1/models/user%2Fmiddle")
        assert missing.status == 404


async def test_native_lists_have_ollamas_framing() -> None:
    async with Lab() as lab:
        for path in ("/api/tags", "/api/ps", "/api/version"):
            answer = await asyncio.to_thread(ask, lab.url, "GET", path)
            assert answer.headers["content-type"] == "application/json; charset=utf-8"
            assert answer.headers["content-length"] == str(len(answer.body))
            assert not answer.body.endswith(b"\n")
        root = await asyncio.to_thread(ask, lab.url, "GET", "/")
        assert root.body == b"Ollama is running"
        assert root.headers["content-type"] == "text/plain; charset=utf-8"


async def test_what_is_loaded_is_one_row_for_each_node() -> None:
    health = {"interval_s": 0.1}
    async with Lab(2, health=health, routing=IN_ORDER) as lab:
        for pin in ("n1", "n2"):
            body = {"model": "llama3.2", "prompt": "x", "stream": False, "keep_alive": "1h"}
            headers = {"X-Sollold-Pin": pin}
            async with lab.session.post("/api/generate", json=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
        # Until the next probe a load is known to have happened, and no more.
        await lab.until(
            lambda: all(v.residents and v.residents[0].context_length for v in lab.fleet.values())
        )
        rows = (await get(lab, "/api/ps"))["models"]
        assert sorted(row["node"] for row in rows) == ["n1", "n2"]
        for row in rows:
            assert row["name"] == row["model"] == "llama3.2:latest"
            assert HEX64.fullmatch(row["digest"])
            assert row["context_length"] == 4096
            assert row["size_vram"] > 0
        assert rows[0]["expires_at"] >= rows[1]["expires_at"]


async def test_the_version_is_the_lowest_among_the_nodes_that_are_there() -> None:
    health = {"interval_s": 0.1, "timeout_s": 0.1, "backoff_max_s": 0.2}
    nodes = [FakeNode(version="0.12.10"), FakeNode(version="0.9.6")]
    async with Lab(nodes, health=health, http={"version_floor": "0.5.0"}) as lab:
        assert await get(lab, "/api/version") == {"version": "0.9.6"}
        await nodes[1].stop()
        await lab.until(lambda: lab.fleet["n2"].state == "down")
        assert await get(lab, "/api/version") == {"version": "0.12.10"}
        await nodes[0].stop()
        await lab.until(lambda: lab.fleet["n1"].state == "down")
        assert await get(lab, "/api/version") == {"version": "0.5.0"}
        head = await asyncio.to_thread(ask, lab.url, "HEAD", "/")
        assert (head.status, head.body) == (200, b"")


async def test_lists_never_wait_for_a_node_that_is_silent() -> None:
    silent = FakeNode([OLD])
    async with Lab([FakeNode([NEW]), silent], health={"interval_s": 0.1, "timeout_s": 2.0}) as lab:
        silent.fault = Fault(kind=FaultKind.HANG)
        seen = silent.connections
        await silent.until(lambda: silent.connections > seen)  # a probe hangs there now
        for path in LISTS:
            started_s = time.monotonic()
            answer = await asyncio.to_thread(ask, lab.url, "GET", path)
            assert answer.status == 200
            assert time.monotonic() - started_s < AT_ONCE_S, path
        assert set(await tags(lab)) == {"New:latest", "old:latest"}


async def test_a_node_that_never_answered_delays_no_list() -> None:
    silent = FakeNode([OLD])
    silent.set_faults(Fault(kind=FaultKind.HANG))
    async with Lab([FakeNode([NEW]), silent], health={"timeout_s": 1.0}) as lab:
        for path in LISTS:
            started_s = time.monotonic()
            answer = await asyncio.to_thread(ask, lab.url, "GET", path)
            assert answer.status == 200
            assert time.monotonic() - started_s < AT_ONCE_S, path
        assert set(await tags(lab)) == {"New:latest"}


async def test_a_list_is_as_fresh_as_the_last_look() -> None:
    async with Lab(health={"catalogue_s": 0.1, "interval_s": 0.1}) as lab:
        node = lab.nodes[0]
        assert set(await tags(lab)) == {"llama3.2:latest"}
        node.ollama.models[NEW.full.folded()] = NEW
        await lab.until(lambda: len(lab.fleet["n1"].models) == 2)
        assert set(await tags(lab)) == {"llama3.2:latest", "New:latest"}
        del node.ollama.models[NEW.full.folded()]
        await lab.until(lambda: len(lab.fleet["n1"].models) == 1)
        assert set(await tags(lab)) == {"llama3.2:latest"}


async def test_a_model_pulled_a_moment_ago_is_found_before_a_404() -> None:
    async with Lab(health={"catalogue_s": 60.0, "interval_s": 60.0, "backoff_max_s": 60.0}) as lab:
        lab.nodes[0].ollama.models[NEW.full.folded()] = NEW
        assert "New:latest" not in await tags(lab)
        assert await chat(lab, "new") == (200, "n1")
        assert (await chat(lab, "nobody-has-it"))[0] == 404
