"""Reload in the running daemon: every live key acts, nothing that runs is disturbed."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from sollold.config import LoadedConfig, Origin, Problem, UnusableConfig
from sollold.config.keys import choices, config_keys, node_keys, path_text
from sollold.core.model import NodeId
from sollold.core.names import key_of
from sollold.nodes.tls import Trust
from tests.component.lab import IN_ORDER, Lab
from tests.fakes.certificates import TestAuthority
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Every live key -----------------------------------------------------------------------------


class Case(NamedTuple):
    """A value to reload with, and how the owner's state shows it."""

    value: Any
    state: Callable[[Lab], Any]
    seen: Any = None
    """What the state then is; None: the value itself."""


def weight(name: str) -> Case:
    return Case(2.5, lambda lab: getattr(lab.built.owners.admission.policy.weights, name))


def setting(value: Any, name: str, seen: Any = None) -> Case:
    return Case(value, lambda lab: getattr(lab.built.dispatcher.settings, name), seen)


def rule(value: Any, name: str) -> Case:
    return Case(value, lambda lab: getattr(lab.built.owners.admission._rules, name))


def queue(value: Any, name: str) -> Case:
    return Case(value, lambda lab: getattr(lab.built.dispatcher.admission.queue, name))


def health(value: Any, name: str) -> Case:
    return Case(value, lambda lab: getattr(lab.built.registry.policy, name))


def probing(value: Any, name: str) -> Case:
    return Case(value, lambda lab: getattr(lab.built.prober.settings, name))


def limit(value: Any, name: str, seen: Any = None) -> Case:
    return Case(value, lambda lab: getattr(lab.built.owners.inference._limits, name), seen)


def source(value: Any, name: str, seen: Any = None) -> Case:
    return Case(value, lambda lab: getattr(lab.built.prober._sources, name), seen)


CASES: dict[str, Case] = {
    "listen.allowed_hosts": Case(
        ("ai.example.org",),
        lambda lab: [policy.accepts("ai.example.org") for policy in lab.built.edge._hosts.values()],
        [True],
    ),
    "listen.trusted_proxies": Case(
        ("10.0.0.0/8",),
        lambda lab: lab.built.owners.inference._clients._is_trusted("10.1.2.3"),
        True,
    ),
    "discovery.enabled": source(True, "_has_localhost"),
    "discovery.local": Case(
        False, lambda lab: lab.built.reloader.loaded.config.discovery.local, False
    ),
    "discovery.ollama_host": Case(
        "http://192.0.2.1:11434",
        lambda lab: lab.built.reloader.loaded.config.discovery.ollama_host,
    ),
    "discovery.hosts_file": Case(
        "/nowhere/hosts",
        lambda lab: str(lab.built.prober._sources._hosts_file),  # type: ignore[union-attr]
    ),
    **{
        f"routing.weights.{name}": weight(name)
        for name in ("wait", "load", "swap", "foreign", "prefill", "decode", "risk", "tier")
    },
    "queue.length": queue(7, "_limit"),
    "queue.look_ahead": rule(7, "look_ahead"),
    "queue.max_wait_s": rule(7.0, "max_wait_s"),
    "queue.holder_down_s": rule(7.0, "holder_down_s"),
    "queue.age_step_s": queue(7.0, "_age_step_s"),
    "queue.per_client_running": Case(7, lambda lab: lab.built.owners.admission.policy.client_cap),
    "queue.per_client_waiting": queue(7, "_client_limit"),
    "limits.client_spool_bytes": limit(4096, "spool_bytes"),
    "limits.client_stall_s": Case(
        7.0,
        lambda lab: (
            lab.built.bodies._stall_s,
            lab.built.owners.inference._limits.stall_s,
            lab.built.owners.inference._tuner._user_timeout_s,
        ),
        (7.0, 7.0, 12.0),
    ),
    "limits.held_bytes": setting(4096, "hold_bytes"),
    "failover.attempts": setting(7, "attempts"),
    "failover.overdue_s": Case(
        7.0,
        lambda lab: (
            lab.built.dispatcher.settings.overdue_s,
            lab.built.dispatcher.first_bytes._overdue_s,
            lab.built.dispatcher.plain._overdue_s,
        ),
        (7.0, 7.0, 7.0),
    ),
    "failover.frozen_idle_s": Case(
        7.0,
        lambda lab: (
            lab.built.dispatcher.settings.frozen_idle_s,
            lab.built.prober.settings.silence_s,
        ),
        (7.0, 7.0),
    ),
    "failover.progress_s": setting(7.0, "progress_s"),
    "loads.on_client_gone": setting("cancel", "detach_loads", seen=False),
    "loads.limit_s": setting(7.0, "load_limit_s"),
    "health.interval_s": health(7.0, "interval_s"),
    "health.timeout_s": Case(
        1.5,
        lambda lab: (lab.built.prober.settings.limit_s, lab.built.pools._connect_timeout_s),
        (1.5, 1.5),
    ),
    "health.backoff_max_s": health(70.0, "retry_cap_s"),
    "health.eject_after": health(7, "eject_after"),
    "health.eject_s": health(7.0, "eject_s"),
    "health.eject_max_s": health(70.0, "eject_cap_s"),
    "health.catalogue_s": probing(7.0, "catalogue_s"),
    "http.origins": Case(
        ("https://chat.example.org",),
        lambda lab: lab.built.edge._origins._is_listed("https://chat.example.org"),
        True,
    ),
    "http.version_floor": Case("0.40.0", lambda lab: lab.built.owners.catalogue._version_floor),
    "replies.routing": limit("body", "notes_in_body", seen=True),
    "log.level": Case("debug", lambda lab: lab.level),
    "log.routing": Case(False, lambda lab: lab.built.owners.steps._is_kept),
    "log.routing_console": Case(True, lambda lab: lab.built.owners.steps._is_printed),
    "log.requests": Case(False, lambda lab: lab.built.owners.reporter._is_logging),
}
BY_BEHAVIOUR = {"nodes", *(f"nodes.{name}" for name in node_keys())}


def test_every_live_key_has_a_case() -> None:
    live = {path_text(path): key for path, key in config_keys().items() if key.is_live}
    # What has one value only cannot change.
    alone = {name for name, key in live.items() if len(choices(key)) == 1}
    assert live.keys() - alone - BY_BEHAVIOUR == CASES.keys()
    assert all(key.is_live for key in node_keys().values())


@pytest.mark.parametrize("key", CASES)
async def test_every_live_key_reaches_its_owner(key: str) -> None:
    case = CASES[key]
    *sections, name = key.split(".")
    changed: dict[str, Any] = {name: case.value}
    for section in reversed(sections[1:]):
        changed = {section: changed}
    seen = case.value if case.seen is None else case.seen
    async with Lab(0, is_probing=False) as lab:
        assert case.state(lab) != seen
        document = await lab.reload({sections[0]: changed})
        assert key in [change.key for change in document.live]
        assert case.state(lab) == seen
        assert document.restart == ()


# What that means for requests -------------------------------------------------------------------


async def test_waiting_requests_go_by_the_new_rules() -> None:
    async with Lab([FakeNode(rate=20.0, answer_tokens=400)], queue={"max_wait_s": 0}) as lab:
        node = lab.nodes[0]
        running = await lab.chat(stream=True)
        waiting = asyncio.create_task(lab.chat())
        await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 1)

        await lab.reload(queue={"max_wait_s": 0.05})

        assert (await waiting).status == 503
        assert node.active == 1
        running.close()


async def test_a_longer_queue_takes_more_and_a_shorter_one_less() -> None:
    async with Lab([FakeNode(rate=20.0, answer_tokens=400)], queue={"length": 1}) as lab:
        running = await lab.chat(stream=True)
        tasks = [asyncio.create_task(lab.chat())]
        admission = lab.built.dispatcher.admission
        await lab.until(lambda: len(admission.queue) == 1)
        assert (await lab.chat()).status == 503

        await lab.reload(queue={"length": 2})
        tasks.append(asyncio.create_task(lab.chat()))
        await lab.until(lambda: len(admission.queue) == 2)

        await lab.reload(queue={"length": 1})
        assert (await lab.chat()).status == 503
        assert len(admission.queue) == 2
        for task in tasks:
            task.cancel()
        running.close()


async def test_a_higher_share_of_one_client_lets_its_requests_start() -> None:
    slow = [FakeNode(rate=20.0, answer_tokens=400) for _ in range(2)]
    async with Lab(slow, queue={"per_client_running": 1}) as lab:
        first = await lab.chat(stream=True)
        second = asyncio.create_task(lab.chat(stream=True))
        await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 1)
        await lab.reload(queue={"per_client_running": 2})
        (await second).close()
        first.close()


async def test_attempts_under_way_become_overdue_by_the_new_time() -> None:
    async with Lab(2, routing=IN_ORDER, failover={"overdue_s": 3600}) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.HANG)
        asked = asyncio.create_task(lab.chat(options={"num_predict": 1}))
        load = lab.built.dispatcher.admission.load
        await lab.until(lambda: load.count(NodeId("n1")) == 1)
        await lab.reload(failover={"overdue_s": 0.1})
        async with asyncio.timeout(20):
            assert (await asked).headers["X-Sollold-Node"] == "n2"


async def test_names_origins_and_the_version_are_new_at_once() -> None:
    async with Lab(0, is_probing=False) as lab:
        alias = {"Host": "ai.example.org"}
        page = {"Origin": "https://chat.example.org"}
        assert (await lab.session.get("/api/tags", headers=alias)).status == 403
        assert (await lab.session.get("/api/tags", headers=page)).status == 403
        assert (await (await lab.session.get("/api/version")).json())["version"] == "0.33.0"

        await lab.reload(
            listen={"allowed_hosts": ["ai.example.org"]},
            http={"origins": ["https://chat.example.org"], "version_floor": "0.41.0"},
        )

        assert (await lab.session.get("/api/tags", headers=alias)).status == 200
        answer = await lab.session.get("/api/tags", headers=page)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://chat.example.org"
        assert (await (await lab.session.get("/api/version")).json())["version"] == "0.41.0"


async def test_replies_and_the_log_of_requests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sollold")
    async with Lab(1) as lab:
        assert "_sollol_routing" not in await (await lab.chat()).json()
        assert "request route=/api/chat" in caplog.text

        await lab.reload(replies={"routing": "body"}, log={"requests": False})

        caplog.clear()
        assert "_sollol_routing" in await (await lab.chat()).json()
        assert "request route=/api/chat" not in caplog.text


def seen_at(lab: Lab) -> float | None:
    view = lab.built.registry.get(NodeId("n1"))
    return None if view is None else view.seen_s


async def test_probes_that_were_hours_away_come_at_once() -> None:
    hours = {"interval_s": 3600, "backoff_max_s": 3600, "catalogue_s": 3600}
    async with Lab(1, health=hours) as lab:
        node = lab.nodes[0]
        node.ollama.add(FakeModel(name="qwen2.5"))
        await lab.reload(health={"interval_s": 0.1, "catalogue_s": 0.1})
        await lab.until(lambda: key_of("qwen2.5") in lab.fleet["n1"].models)
        seen_s = seen_at(lab)
        await lab.until(lambda: seen_at(lab) != seen_s)


# Nodes --------------------------------------------------------------------------------------


async def test_a_removed_node_finishes_what_it_has_and_gets_no_more() -> None:
    slow = [FakeNode(rate=40.0, answer_tokens=20) for _ in range(2)]
    async with Lab(slow) as lab:
        stream = await lab.chat(stream=True)
        left = stream.headers["X-Sollold-Node"]
        document = await lab.reload(without=[left])
        assert [change.text for change in document.live] == [f"nodes[{left}] removed"]
        assert set(lab.fleet) == {"n1", "n2"} - {left}
        others = [await lab.chat(options={"num_predict": 1}) for _ in range(3)]
        assert {answer.headers["X-Sollold-Node"] for answer in others} == set(lab.fleet)
        lines = (await stream.read()).splitlines()
        assert json.loads(lines[-1])["done"] is True

        document = await lab.reload()
        assert [change.text for change in document.live] == [f"nodes[{left}] added"]
        await lab.until(lambda: left in lab.fleet and bool(lab.fleet[left].models))
        pinned = await lab.session.post(
            "/api/chat",
            json={"model": "llama3.2", "messages": [], "stream": False},
            headers={"X-Sollold-Pin": left},
        )
        assert pinned.status == 200


async def test_what_is_known_of_a_node_survives_other_settings_of_it() -> None:
    node = FakeNode()
    async with node:
        first = {"url": node.url, "name": "gpu-1", "tier": 5}
        async with Lab(0, nodes_config=[first]) as lab:
            for _ in range(3):
                await (await lab.chat(stream=True)).read()
            before = lab.fleet["gpu-1"]
            figures = lab.built.documents.node("gpu-1")

            document = await lab.reload({"nodes": [first | {"tier": 2, "slots": 3}]})

            assert [change.text for change in document.live] == [
                "nodes[gpu-1].slots unset -> 3",
                "nodes[gpu-1].tier 5 -> 2",
            ]
            after = lab.fleet["gpu-1"]
            assert (after.tier, after.slots) == (2, 3)
            assert (after.since_s, after.residents) == (before.since_s, before.residents)
            assert after.is_routable
            kept = lab.built.documents.node("gpu-1")
            assert kept is not None
            assert figures is not None
            assert kept.node.last_hour == figures.node.last_hour
            assert kept.node.last_hour is not None
            assert kept.node.last_hour.ok == 3


async def test_a_hosts_file_is_read_again(tmp_path: Path) -> None:
    nodes = [FakeNode(), FakeNode()]
    async with nodes[0], nodes[1]:
        hosts = tmp_path / "hosts"
        hosts.write_text(f"{nodes[0].url.removeprefix('http://')}\n")
        section = {"enabled": False, "hosts_file": str(hosts)}
        async with Lab(0, health={"interval_s": 3600, "backoff_max_s": 3600}) as lab:
            await lab.reload(discovery=section)
            assert [view.url for view in lab.fleet.values()] == [nodes[0].url]
            hosts.write_text(f"{nodes[1].url.removeprefix('http://')}\n")
            await lab.reload(discovery=section)
            assert [view.url for view in lab.fleet.values()] == [nodes[1].url]


# The reload itself ------------------------------------------------------------------------------


def config_of(lab: Lab) -> LoadedConfig:
    return lab.built.reloader.loaded


async def test_a_reading_that_hangs_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Lab(1) as lab:
        reloader = lab.built.reloader
        release = threading.Event()
        read = reloader._read

        def hang() -> LoadedConfig:
            release.wait()
            return read()

        monkeypatch.setattr(reloader._reader, "_limit_s", 0.05)
        monkeypatch.setattr(reloader, "_read", hang)
        try:
            document = await reloader.reload()
            assert document.result == "refused"
            assert document.error is not None
            assert "reading the configuration is not done after 0.05 s" in document.error.message
            assert "is not done" in lab.built.facts.refusal
            monkeypatch.undo()
            assert (await reloader.reload()).result == "unchanged"
        finally:
            release.set()


async def test_nothing_changes_where_nothing_differs() -> None:
    async with Lab(1) as lab:
        document = await lab.reload()
        assert (document.result, document.live, document.restart) == ("unchanged", (), ())


async def test_what_needs_a_restart_waits_and_is_said_until_then() -> None:
    async with Lab(1) as lab:
        results = []
        for _ in range(2):
            document = await lab.reload(server={"drain_s": 7}, queue={"length": 9})
            assert [change.text for change in document.restart] == ["server.drain_s 30 -> 7"]
            results.append(document.result)
        assert results == ["applied", "unchanged"]
        assert config_of(lab).config.server.drain_s == 30
        status = lab.built.documents.status()
        assert status.config is not None
        assert status.config.waiting == ("server.drain_s",)


async def test_a_refused_reload_leaves_everything_and_lists_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Lab(1) as lab:
        before = config_of(lab)
        problems = [
            Problem(Origin("file", "/x/sollold.toml", 3), ("queue", "length"), "is 0; write 1"),
            Problem(Origin("environment", "SOLLOLD_LOG__LEVEL"), ("log", "level"), "is odd"),
        ]

        def fail() -> LoadedConfig:
            raise UnusableConfig(problems)

        lab.built.reloader._read = fail
        answer = await lab.session.post("/api/v1/reload")
        assert answer.status == 422
        document = await answer.json()
        assert document["schema"] == "sollold.reload/1"
        assert document["result"] == "refused"
        assert document["error"]["code"] == "config"
        assert document["problems"][0] == {
            "source": "file",
            "where": "/x/sollold.toml",
            "line": 3,
            "key": "queue.length",
            "text": "is 0",
            "remedy": "write 1",
            "shown": "/x/sollold.toml:3: queue.length: is 0; write 1",
        }
        assert [item["remedy"] for item in document["problems"]] == ["write 1", None]
        assert config_of(lab) is before
        for problem in problems:
            assert str(problem) in caplog.text
        status = lab.built.documents.status().config
        assert status is not None
        assert "2 problems" in (status.refused or "")


async def test_a_fault_while_reading_is_a_refusal(caplog: pytest.LogCaptureFixture) -> None:
    async with Lab(1) as lab:
        reloader = lab.built.reloader

        def fail() -> LoadedConfig:
            raise RuntimeError("odd")

        before, read, reloader._read = config_of(lab), reloader._read, fail
        answer = await lab.session.post("/api/v1/reload")
        assert answer.status == 422
        document = await answer.json()
        assert (document["result"], document["error"]["code"]) == ("refused", "internal")
        assert "RuntimeError: odd" in caplog.text
        assert config_of(lab) is before
        status = lab.built.documents.status().config
        assert status is not None
        assert "RuntimeError" in (status.refused or "")
        reloader._read = read
        assert (await lab.reload(queue={"length": 9})).result == "applied"


async def test_a_fault_while_it_is_applied_leaves_no_owner_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("odd")

    async with Lab(1) as lab:
        # The last of the values that are made.
        monkeypatch.setattr("sollold.compose.live.host_policies", fail)
        before = config_of(lab)
        document = await lab.reload(queue={"length": 9}, log={"level": "debug"})
        assert document.result == "refused"
        assert config_of(lab) is before
        assert lab.built.dispatcher.admission.queue._limit == 512
        assert lab.level == "info"


async def test_reloads_that_follow_each_other_closely_are_one() -> None:
    async with Lab(0, is_probing=False) as lab:
        reloader, reads = lab.built.reloader, [0]
        read = reloader._read

        def counted() -> LoadedConfig:
            reads[0] += 1
            return read()

        reloader._read = counted
        await reloader.reload()
        await asyncio.gather(*(reloader.reload() for _ in range(20)))
        assert reads[0] == 2


async def test_a_daemon_that_stops_reloads_no_more() -> None:
    async with Lab(0, is_probing=False) as lab:
        reloader = lab.built.reloader
        told: list[str] = []
        reloader.watch(lambda: told.append("begun"), lambda: told.append("ended"))
        may_read, is_reading, read = threading.Event(), threading.Event(), reloader._read

        def slowly() -> LoadedConfig:
            is_reading.set()
            may_read.wait(10)
            return read()

        reloader._read = slowly
        before = config_of(lab)
        task = asyncio.create_task(reloader.reload())
        await lab.until(is_reading.is_set)
        reloader.stop()
        may_read.set()
        assert (await task).result == "refused"
        answer = await lab.session.post("/api/v1/reload")
        assert (await answer.json())["error"]["code"] == "draining"
        assert told == ["begun"]
        assert config_of(lab) is before


async def test_a_reload_without_a_change_probes_nothing_and_tells_nobody() -> None:
    hours = {"interval_s": 3600, "backoff_max_s": 3600, "catalogue_s": 3600}
    async with Lab(1, health=hours) as lab:
        asked = len(lab.nodes[0].requests)
        await lab.reload()
        assert not lab.built.prober._poll_soon.is_set()
        assert not any(watch.wake.is_set() for watch in lab.built.prober._watches.values())
        await lab.reload(queue={"length": 9})
        await lab.until(lambda: len(lab.nodes[0].requests) > asked)
        events = await (await lab.session.get("/api/v1/events?kind=config")).json()
        assert len(events["events"]) == 1


async def test_authorities_that_no_node_names_any_more_are_let_go(tmp_path: Path) -> None:
    authority = TestAuthority()
    async with Lab(0) as lab:
        for number in range(3):
            file = authority.write(tmp_path / f"ca{number}.pem")
            node = {"url": "https://127.0.0.1:9", "name": "gpu", "ca_file": str(file)}
            await lab.reload({"nodes": [node]})
            trust = Trust(ca_file=str(file))
            await lab.until(lambda trust=trust: lab.built.owners.tls.known(trust) is not None)  # type: ignore[misc]
            assert lab.built.owners.tls._made.keys() == {trust}


async def test_a_file_that_is_gone_leaves_everything(tmp_path: Path) -> None:
    async with Lab(1) as lab:
        reloader = lab.built.reloader
        reloader.loaded = msgspec.structs.replace(reloader.loaded, files=(tmp_path / "gone.toml",))
        document = await reloader.reload()
        assert document.result == "refused"
        assert f"{tmp_path / 'gone.toml'}: is gone" in document.problems[0].shown
        assert set(lab.fleet) == {"n1"}


async def test_reloads_at_the_same_time_share_one_and_later_ones_the_next() -> None:
    async with Lab(1) as lab:
        reloader, reads = lab.built.reloader, [0]
        may_read, read = threading.Event(), reloader._read

        def slowly() -> LoadedConfig:
            reads[0] += 1
            may_read.wait(10)
            return read()

        reloader._read = slowly
        first = [asyncio.create_task(reloader.reload()) for _ in range(3)]
        await lab.until(lambda: reads[0] == 1)
        later = [asyncio.create_task(reloader.reload()) for _ in range(3)]
        # One that gives up ends it for nobody else.
        later[0].cancel()
        await asyncio.wait({later[0]})
        may_read.set()
        await asyncio.gather(*first, *later[1:])
        assert reads[0] == 2


async def test_it_is_told_as_an_event_and_in_the_status() -> None:
    async with Lab(1) as lab:
        started = lab.built.documents.status().config
        answer = await lab.session.post("/api/v1/reload")
        assert answer.status == 200
        await lab.reload(queue={"length": 128}, metrics={"enabled": False})
        events = await (await lab.session.get("/api/v1/events?kind=config")).json()
        assert [event["text"] for event in events["events"]] == [
            "reloaded: queue.length 512 -> 128; after a restart: metrics.enabled true -> false",
        ]
        now = lab.built.documents.status().config
        assert started is not None
        assert now is not None
        assert (now.loaded_ms or 0.0) < (lab.built.documents.status().uptime_ms)


async def test_pages_of_other_sites_may_not_reload() -> None:
    async with Lab(0, is_probing=False, http={"origins": ["*"]}) as lab:
        foreign = {"Origin": "https://evil.example"}
        answer = await lab.session.post("/api/v1/reload", headers=foreign)
        assert answer.status == 403
        own = {"Origin": lab.url}
        assert (await lab.session.post("/api/v1/reload", headers=own)).status == 200
        assert (await lab.session.get("/api/v1/reload")).status == 405
