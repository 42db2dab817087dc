"""Servers of OpenAI's API with keys and certificates: what reaches them, and what leaks nowhere."""

from __future__ import annotations

import hashlib
import json
import logging
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from sollold.core.pair import PRIOR_RATES
from tests.component.engines import (
    CLOUD_MODEL,
    MODEL,
    STREAMS,
    WAYS,
    ask,
    error_of,
    fleet,
    frames_of,
    is_complete,
    outcomes,
    read_cut,
    settled,
    turns,
    work_of,
)
from tests.component.lab import Lab
from tests.fakes.cloud import FakeCloud
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.llama import FakeLlama
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "sk-very-secret-cloud-key"
CLIENTS = {
    "Authorization": "Bearer clients-own-key",
    "Cookie": "session=clients-cookie",
    "x-api-key": "clients-other-key",
    "api-key": "clients-third-key",
    "User-Agent": "clients-agent",
}


def cloud(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> FakeCloud:
    """A cloud that asks for a key, which the daemon knows."""
    monkeypatch.setenv("TEST_CLOUD_KEY", KEY)
    fake = FakeCloud(CLOUD_MODEL, api_key=KEY, **fields)
    fake.key_env = "TEST_CLOUD_KEY"
    return fake


async def documents(lab: Lab) -> str:
    """Everything the daemon tells of itself."""
    paths = ("/api/v1/nodes", "/api/v1/events", "/api/v1/requests", "/api/v1/status", "/metrics",
             "/api/tags", "/api/ps", "/v1/models")  # fmt: skip
    told = []
    for path in paths:
        async with lab.session.get(path) as response:
            assert response.status == 200, path
            told.append(await response.text())
    return "".join(told)


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_our_key_reaches_it_and_nothing_of_the_clients(
    path: str, is_stream: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = cloud(monkeypatch)
    with caplog.at_level(logging.DEBUG):
        async with fleet(fake) as lab:
            answer = await ask(lab, path, stream=is_stream, headers=CLIENTS)
            data = await answer.read()
            assert answer.status == 200, data
            assert is_complete(data)
            (request,) = work_of(fake)
            assert request.header("authorization") == f"Bearer {KEY}"
            assert not fake.leaks
            assert "clients" not in str(request.headers)
            assert request.model == CLOUD_MODEL
            assert CLOUD_MODEL.encode() not in data
            assert "Set-Cookie" not in answer.headers
            assert answer.headers["X-Sollold-Node"] == "n1"
            await settled(lab)
            told = await documents(lab)
    assert KEY not in told + caplog.text + str(answer.headers)
    assert "clients-" not in told + caplog.text


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_a_refused_key_leads_to_another_node(
    path: str, is_stream: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake, llama = cloud(monkeypatch), FakeLlama()
    with caplog.at_level(logging.DEBUG):
        async with fleet(fake, llama) as lab:
            text = f"Incorrect API key provided: {KEY}"
            fake.fault = Fault(
                kind=FaultKind.STATUS, status=401, text=text, scope="inference", count=1
            )
            answer = await ask(lab, path, stream=is_stream)
            assert is_complete(await answer.read())
            assert answer.headers["X-Sollold-Node"] == "n2"
            await settled(lab)
            told = await documents(lab)
    assert KEY not in told + caplog.text


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_a_refused_key_alone_is_a_bad_gateway(
    path: str, is_stream: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = cloud(monkeypatch)
    with caplog.at_level(logging.DEBUG):
        async with fleet(fake) as lab:
            text = f"Incorrect API key provided: {KEY}"
            fake.fault = Fault(kind=FaultKind.STATUS, status=401, text=text, scope="inference")
            answer = await ask(lab, path, stream=is_stream)
            data = await answer.read()
            assert answer.status == 502
            assert KEY.encode() not in data
            assert "n1" in error_of(data)
            assert lab.fleet["n1"].reason.code == "misconfigured"
            await settled(lab)
            told = await documents(lab)
    assert KEY not in told + caplog.text


NO_ACCESS = "Project `proj_x` does not have access to model `tiny`"


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
@pytest.mark.parametrize("text", [NO_ACCESS, "You are not allowed to use this model"])
async def test_a_model_that_our_account_may_not_use_is_asked_for_elsewhere(
    text: str, path: str, is_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, second = cloud(monkeypatch), cloud(monkeypatch)
    async with fleet(fake, second) as lab:
        fake.fault = Fault(kind=FaultKind.STATUS, status=403, text=text, scope="inference")
        for _ in range(2):
            answer = await ask(lab, path, stream=is_stream)
            assert is_complete(await answer.read())
            assert answer.headers["X-Sollold-Node"] == "n2"
            assert answer.headers["X-Sollold-Attempts"] == "2"
            assert lab.fleet["n1"].state == "up"
            assert lab.fleet["n1"].is_routable
            assert lab.fleet["n1"].reason is None
        await settled(lab)
        assert outcomes(lab) == {"ok": 2}


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_without_another_node_the_client_hears_that_it_may_not(
    path: str, is_stream: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = cloud(monkeypatch)
    with caplog.at_level(logging.INFO):
        async with fleet(fake) as lab:
            fault = Fault(kind=FaultKind.STATUS, status=403, text=NO_ACCESS, scope="inference")
            fake.fault = fault
            answer = await ask(lab, path, stream=is_stream)
            assert answer.status == 403
            assert error_of(await answer.read()) == NO_ACCESS
            assert answer.content_type == "application/json"
            assert answer.headers["X-Sollold-Attempts"] == "1"
            assert "Set-Cookie" not in answer.headers
            assert lab.fleet["n1"].state == "up"
            assert lab.fleet["n1"].reason is None
            fake.fault = None
            assert (await ask(lab, path, stream=is_stream)).status == 200
            await settled(lab)
            assert outcomes(lab) == {"caller_error": 1, "ok": 1}
            assert NO_ACCESS not in await documents(lab)
    assert "status=403" in caplog.text
    assert NO_ACCESS not in caplog.text


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_a_page_that_forbids_is_told_in_the_dialects_shape(
    path: str, is_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = cloud(monkeypatch)
    async with fleet(fake) as lab:
        fake.fault = Fault(kind=FaultKind.PAGE, status=403)
        answer = await ask(lab, path, stream=is_stream)
        data = await answer.read()
        assert answer.status == 403
        assert answer.content_type == "application/json"
        assert b"<html>" not in data
        assert "403" in error_of(data)
        await settled(lab)


async def test_a_403_of_an_ollama_still_sets_it_aside() -> None:
    node, llama = FakeNode([MODEL]), FakeLlama()
    async with fleet(node, llama) as lab:
        node.fault = Fault(kind=FaultKind.STATUS, status=403, text="no", scope="inference", count=1)
        answer = await ask(lab)
        assert answer.headers["X-Sollold-Node"] == "n2"
        assert lab.fleet["n1"].reason.code == "misconfigured"
        await settled(lab)


async def test_a_wrong_key_is_found_out_by_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = cloud(monkeypatch)
    monkeypatch.setenv("TEST_CLOUD_KEY", "sk-mistyped")
    fake.settings.api_key = KEY
    async with fleet(fake) as lab:
        assert lab.fleet["n1"].state in ("down", "unknown")
        assert lab.fleet["n1"].reason.code == "misconfigured"
        assert "sk-mistyped" not in await documents(lab)


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_too_many_requests_lead_to_another_node_for_as_long_as_told(
    path: str, is_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, llama = cloud(monkeypatch), FakeLlama()
    async with fleet(fake, llama) as lab:
        fake.fault = Fault(kind=FaultKind.RATE_LIMITED, retry_after_s=40, count=1)
        for _ in range(3):
            answer = await ask(lab, path, stream=is_stream)
            assert is_complete(await answer.read())
            assert answer.headers["X-Sollold-Node"] == "n2"
        assert len(work_of(fake)) == 1
        assert lab.fleet["n1"].state == "up"
        assert lab.fleet["n1"].reason.code == "busy"
        await settled(lab)


async def test_too_many_requests_alone_pass_with_their_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = cloud(monkeypatch)
    async with fleet(fake) as lab:
        fake.fault = Fault(kind=FaultKind.RATE_LIMITED, retry_after_s=40)
        answer = await ask(lab)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "40")
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), STREAMS)
@pytest.mark.parametrize("kind", [FaultKind.CUT_RESET, FaultKind.CUT_CLEAN])
async def test_a_loss_after_the_first_token_is_told(
    kind: FaultKind, path: str, is_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, llama = cloud(monkeypatch), FakeLlama()
    async with fleet(fake, llama) as lab:
        fake.fault = Fault(kind=kind, after_frames=3)
        data = await read_cut(await ask(lab, path, stream=is_stream))
        assert "n1" in error_of(data)
        assert not any(frame.get("done") for frame in frames_of(data))
        assert b"[DONE]" not in data
        assert not work_of(llama)
        await settled(lab)
        assert outcomes(lab) == {"interrupted": 1}


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_a_page_of_its_front_end_is_no_answer(
    path: str, is_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = cloud(monkeypatch)
    async with fleet(fake) as lab:
        fake.fault = Fault(kind=FaultKind.PAGE)
        answer = await ask(lab, path, stream=is_stream)
        data = await answer.read()
        assert answer.status == 502
        assert b"<html>" not in data
        assert error_of(data)
        await settled(lab)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_its_distance_is_not_taken_for_slow_reading(
    is_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = cloud(monkeypatch, prefill_s=0.2)
    async with fleet(fake) as lab:
        for _ in range(2):
            answer = await ask(lab, messages=turns("word " * 60), stream=is_stream)
            assert answer.status == 200, await answer.read()
            await answer.read()
        rates = lab.built.dispatcher._learner._rates
        (row,) = rates.snapshot(0.0).pairs
        assert row.prefill_tps is None
        told = rates.lookup(row.node, row.digest, 0.0)
        assert told.prefill_tps == PRIOR_RATES.prefill_tps
        await settled(lab)


async def test_probes_ask_for_its_list_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = cloud(monkeypatch)
    async with fleet(fake, health={"interval_s": 0.1}) as lab:
        assert (await ask(lab)).status == 200
        asked = {request.path for request in fake.requests}
        assert asked == {"/v1/models", "/v1/chat/completions"}
        await settled(lab)


class Authority:
    """Certificates for a server on loopback."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("127.0.0.1")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(self.context)
        self.ca_file = folder / f"{id(self)}.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
        self.pin = hashlib.sha256(der).hexdigest()


@asynccontextmanager
async def trusting(fake: FakeCloud, trust: dict[str, Any]) -> AsyncIterator[Lab]:
    """A lab before an Ollama that is second choice, and a cloud that is trusted somehow."""
    node = FakeNode([MODEL])
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(fake)
        await stack.enter_async_context(node)
        config = {"url": f"{fake.url}/v1", "name": "n1", "kind": "openai", "tier": 1}
        config |= {"models": {MODEL: CLOUD_MODEL}, "same_as_ollama": [MODEL], **trust}
        nodes = [config | {"key_env": "TEST_CLOUD_KEY"}]
        nodes.append({"url": node.url, "name": "n2", "tier": 10})
        weights = {"weights": {"tier": 1000.0}}
        yield await stack.enter_async_context(Lab([], nodes_config=nodes, routing=weights))


@pytest.mark.parametrize("trusted", ["ca_file", "pin", "both"])
async def test_what_is_trusted_is_asked(
    trusted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Authority(tmp_path)
    trust = {"ca_file": str(right.ca_file), "pin": right.pin}
    trust = trust if trusted == "both" else {trusted: trust[trusted]}
    fake = cloud(monkeypatch, tls=right.context)
    async with trusting(fake, trust) as lab:
        assert lab.fleet["n1"].state == "up"
        for path, is_stream in (way.values for way in WAYS):
            answer = await ask(lab, str(path), stream=bool(is_stream))
            assert is_complete(await answer.read())
            assert answer.headers["X-Sollold-Node"] == "n1"
        assert not fake.leaks
        await settled(lab)


@pytest.mark.parametrize("trusted", ["ca_file", "pin", "machine"])
async def test_what_is_not_trusted_is_never_told_the_key(
    trusted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = Authority(tmp_path), Authority(tmp_path)
    trust = {"ca_file": str(wrong.ca_file), "pin": wrong.pin}
    fake = cloud(monkeypatch, tls=right.context)
    async with trusting(fake, {trusted: trust[trusted]} if trusted in trust else {}) as lab:
        assert not lab.fleet["n1"].is_routable
        answer = await ask(lab)
        assert is_complete(await answer.read())
        assert answer.headers["X-Sollold-Node"] == "n2"
        assert not fake.requests
        await settled(lab)


@pytest.mark.parametrize("trusted", ["ca_file", "pin"])
async def test_a_certificate_that_changes_stops_requests_too(
    trusted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = Authority(tmp_path), Authority(tmp_path)
    trust = {"ca_file": str(right.ca_file), "pin": right.pin}
    fake = cloud(monkeypatch, tls=right.context)
    async with trusting(fake, {trusted: trust[trusted]}) as lab:
        assert lab.fleet["n1"].state == "up"
        await fake.stop()
        fake._tls = wrong.context
        await fake.start()
        seen = len(fake.requests)
        answer = await ask(lab)
        assert is_complete(await answer.read())
        assert answer.headers["X-Sollold-Node"] == "n2"
        assert len(fake.requests) == seen
        assert KEY not in json.dumps(await documents(lab))
        await settled(lab)
