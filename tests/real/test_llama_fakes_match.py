"""The fake llama-server answers as the real one does: status, framing, shape, texts."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.cases import Case, get
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.llama_cases import CASES, EMBED_CASES, KEY_CASES, VARYING, chat, completion
from tests.fakes.look import Answer, Client, End, ask
from tests.fakes.program import FakeLlamaProcess
from tests.fakes.shapes import look_of
from tests.stack.http import get_json, post_json, wait_until
from tests.stack.llama import (
    CHAT_CONTEXT,
    CHAT_SLOTS,
    EMBEDDING_CONTEXT,
    TEMPLATE,
    LlamaServer,
    LlamaServers,
    tool_request,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.fixtures import NewLlamaServer
    from tests.stack.parts import Parts

pytestmark = pytest.mark.real

_SEEN_BUILD = "b1-571d0d5"
"""All was seen on this build; of another one only what builds agree on is compared."""
_KEY_ARGUMENTS = ("--api-key", "secret", "--metrics")


def _name_of(case: Case) -> str:
    """A readable name; what is special of a body comes last in it."""
    body = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    headers = " ".join(f"{name}={value}" for name, value in case.headers)
    return f"{case.method} {case.path} {repr(body[-80:])[2:-1]} {headers}".strip()


class _Build:
    """The engine of this machine."""

    def __init__(self, server: LlamaServer) -> None:
        self.is_seen = get_json(f"{server.url}/props")["build_info"] == _SEEN_BUILD
        # The list of what newer builds do otherwise is that of `LlamaSettings.is_newer`.
        self.is_newer = ask(server.url, "POST", "/tokenize", b"{bad").status == 400
        self.arguments = ["--is-newer"] if self.is_newer else []

    def look_of(self, case: Case, answer: Answer) -> dict[str, Any]:
        """All of an answer that must be equal."""
        look = look_of(case, answer)
        if self.is_seen:
            return look
        kept = {name: look[name] for name in ("status", "end")}
        kind = answer.headers.get("content-type")
        return kept | {"kind": kind, "is_stream": answer.chunks is not None}

    def check(self, case: Case, real_url: str, fake_url: str) -> None:
        """Fail when the two answer a case differently."""
        if not self.is_seen and any(case in cases for cases in VARYING.values()):
            pytest.skip("builds differ in this")
        looks = [
            self.look_of(case, ask(url, case.method, case.path, case.body, case.headers))
            for url in (real_url, fake_url)
        ]
        assert looks[1] == looks[0]


@pytest.fixture(scope="module")
def build(_session_llama_servers: LlamaServers) -> _Build:
    return _Build(_session_llama_servers.one)


@pytest.fixture
def real(llama_servers: LlamaServers) -> LlamaServer:
    return llama_servers.one


@pytest.fixture(scope="module")
def keyed(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """A real one that asks for a key."""
    server = LlamaServer(tmp_path_factory.mktemp("keyed"), parts, args=_KEY_ARGUMENTS)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def fake(build: _Build) -> Iterator[FakeLlamaProcess]:
    with FakeLlamaProcess(*_chat_size(), "--rate", "100", *build.arguments) as process:
        yield process


@pytest.fixture(scope="module")
def embedding_fake(build: _Build) -> Iterator[FakeLlamaProcess]:
    size = ["--n-ctx", str(EMBEDDING_CONTEXT), "--embedding-length", "640"]
    arguments = ["--model", "tiny-embed", "--has-embeddings", *size, *build.arguments]
    with FakeLlamaProcess(*arguments) as process:
        yield process


@pytest.fixture(scope="module")
def keyed_fake(build: _Build) -> Iterator[FakeLlamaProcess]:
    arguments = ["--api-key", "secret", "--has-metrics", *build.arguments]
    with FakeLlamaProcess(*_chat_size(), *arguments) as process:
        yield process


@pytest.fixture
def thinking_fake() -> Iterator[FakeLlamaProcess]:
    arguments = ["--thinks", "30", "--calls-tools", "--has-tools"]
    with FakeLlamaProcess(*_chat_size(), *arguments) as process:
        yield process


def _chat_size() -> list[str]:
    return ["--slots", str(CHAT_SLOTS), "--n-ctx", str(CHAT_CONTEXT)]


@pytest.mark.parametrize("case", CASES, ids=_name_of)
def test_answers_as_the_real_one(
    case: Case, build: _Build, real: LlamaServer, fake: FakeLlamaProcess
) -> None:
    build.check(case, real.url, fake.url)


@pytest.mark.parametrize("case", EMBED_CASES, ids=_name_of)
def test_embeds_as_the_real_one(
    case: Case, build: _Build, llama_servers: LlamaServers, embedding_fake: FakeLlamaProcess
) -> None:
    build.check(case, llama_servers.embedding.url, embedding_fake.url)


@pytest.mark.parametrize("case", KEY_CASES, ids=_name_of)
def test_asks_for_its_key_as_the_real_one(
    case: Case, build: _Build, keyed: LlamaServer, keyed_fake: FakeLlamaProcess
) -> None:
    build.check(case, keyed.url, keyed_fake.url)


def test_counts_as_the_real_one(keyed: LlamaServer, keyed_fake: FakeLlamaProcess) -> None:
    key = (("Authorization", "Bearer secret"),)
    real, shown = (ask(s.url, "GET", "/metrics", None, key) for s in (keyed, keyed_fake))

    assert shown.headers["content-type"] == real.headers["content-type"]
    assert _names(shown) <= _names(real)
    assert len(_names(shown)) == 5


def _names(answer: Answer) -> set[str]:
    lines = answer.body.decode().splitlines()
    return {line.partition(" ")[0] for line in lines if line and not line.startswith("#")}


def test_slots_idle_and_busy(build: _Build, real: LlamaServer, fake: FakeLlamaProcess) -> None:
    case, strict = get("/slots"), get("/slots?fail_on_no_slot=1")
    looks = []
    for url in (real.url, fake.url):
        clients = [_begin(url, 60) for _ in range(CHAT_SLOTS)]
        for client in clients:
            # A slot tells of its last request until it has computed a token for this one.
            next(piece for piece in client.pieces() if b'"content":"' in piece)
        looks.append([build.look_of(c, ask(url, "GET", c.path)) for c in (case, strict)])
        for client in clients:
            client.close()
        _wait_busy(url, 0)
        looks[-1].append(build.look_of(case, ask(url, "GET", case.path)))

    assert looks[1] == looks[0]
    assert [look["status"] for look in looks[0]] == [200, 503, 200]


def _begin(url: str, tokens: int, **fields: Any) -> Client:
    """A chat whose first bytes are there."""
    client = Client(url)
    case = chat(max_tokens=tokens, stream=True, **fields)
    client.send("POST", case.path, case.body)
    client.wait()
    return client


def _busy(url: str) -> int:
    return sum(slot["is_processing"] for slot in get_json(f"{url}/slots"))


def _wait_busy(url: str, count: int) -> None:
    wait_until(
        lambda: _busy(url) == count, limit_s=10, failure=lambda: f"{_busy(url)} busy, not {count}"
    )


def test_who_waits_for_a_slot_hears_nothing(real: LlamaServer, fake: FakeLlamaProcess) -> None:
    for url in (real.url, fake.url):
        running = [_begin(url, 60) for _ in range(CHAT_SLOTS)]
        case = chat(stream=True)
        with Client(url, limit_s=0.3) as waiting:
            waiting.send("POST", case.path, case.body)
            # No head and no comment either.
            with pytest.raises(TimeoutError):
                waiting.wait()
            # One that leaves makes room.
            for client in running:
                client.close()
            _wait_busy(url, 0)
            assert waiting.receive("POST").body.endswith(b"data: [DONE]\n\n")


def test_who_leaves_a_stream_frees_the_slot(real: LlamaServer, fake: FakeLlamaProcess) -> None:
    for url in (real.url, fake.url):
        with _begin(url, 900):
            assert _busy(url) == 1
        _wait_busy(url, 0)


def test_who_leaves_a_whole_answer_frees_the_slot(
    real: LlamaServer, fake: FakeLlamaProcess
) -> None:
    for url in (real.url, fake.url):
        _leave(url)
        # It is noticed within a second, but never while something looks at the slots.
        time.sleep(2)
        assert not _busy(url)


def test_who_leaves_a_whole_answer_is_not_noticed_beside_others(
    build: _Build, real: LlamaServer
) -> None:
    if not build.is_seen:
        pytest.skip("builds differ in this")
    with FakeLlamaProcess(*_chat_size(), "--rate", "30", "--no-hears-leaving") as fake:
        for url in (real.url, fake.url):
            with _begin(url, 900):
                _leave(url)
                time.sleep(2)
                assert _busy(url) == CHAT_SLOTS
            if url == real.url:
                time.sleep(2)
                assert not _busy(url)


def _leave(url: str) -> None:
    """Ask for a long answer in one piece, and go."""
    before = _busy(url)
    case = chat(max_tokens=900)
    with Client(url) as client:
        client.send("POST", case.path, case.body)
        _wait_busy(url, before + 1)


def test_connections_end_when_idle_or_old(real: LlamaServer, fake: FakeLlamaProcess) -> None:
    for url in (real.url, fake.url):
        with Client(url) as client:
            said = []
            # An error says that the connection ends, and it does not.
            for path in ("/nope", *["/health"] * 99):
                client.send("GET", path)
                said.append(client.receive().headers.get("connection"))
            assert said == ["close", *[None] * 98, "close"]
            assert list(client.pieces()) == []
        started_s = time.monotonic()
        with Client(url) as client:
            assert list(client.pieces()) == []
        assert time.monotonic() - started_s > 4


def test_loading(new_llama_server: NewLlamaServer, build: _Build) -> None:
    real = new_llama_server(is_started=False)
    with FakeLlamaProcess("--load-s", "30") as fake:
        for case in (get("/health"), get("/v1/models"), get("/nope"), chat()):
            told = _told_while_loading(real, case)
            shown = ask(fake.url, case.method, case.path, case.body)

            assert told.status == 503
            assert build.look_of(case, shown) == build.look_of(case, told)
            assert json.loads(told.body)["error"]["message"] == "Loading model"


def _told_while_loading(server: LlamaServer, case: Case) -> Answer:
    """The first answer of a server that has just been started."""
    server.kill()
    server.launch()
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        try:
            return ask(server.url, case.method, case.path, case.body)
        except ConnectionRefusedError:
            time.sleep(0.002)
    raise TimeoutError(server.log_tail())


@pytest.mark.parametrize("make", [chat, completion], ids=["chat", "completion"])
def test_an_error_after_tokens(
    make: Any, build: _Build, real: LlamaServer, fake: FakeLlamaProcess
) -> None:
    # The grammar is at its end while the end is forbidden: an error of the engine on demand.
    case = make(stream=True, grammar='root ::= "a" "b" "c" "d" "e"', max_tokens=30, n_predict=30)
    told = ask(real.url, case.method, case.path, case.body)
    last = json.loads(told.body.split(b"\n\n")[-2].removeprefix(b"data: "))
    crash = Fault(kind=FaultKind.ENGINE_ERROR, after_frames=4, count=1)
    crash.text = last["error"]["message"]
    fake.set_faults(crash)
    shown = ask(fake.url, case.method, case.path, case.body)

    assert build.look_of(case, shown) == build.look_of(case, told)
    assert told.status == 200
    assert b"[DONE]" not in told.body
    assert told.end is End.CLEAN


def test_an_error_at_the_first_token(real: LlamaServer, fake: FakeLlamaProcess) -> None:
    """Streamed it comes after the head, for that is sent when the prompt is begun."""
    fields = {"grammar": 'root ::= ""', "max_tokens": 5}
    for is_stream in (True, False):
        case = chat(stream=is_stream, **fields)
        told = ask(real.url, case.method, case.path, case.body)
        fake.set_faults(Fault(kind=FaultKind.ENGINE_ERROR, count=1))
        shown = ask(fake.url, case.method, case.path, case.body)

        assert (shown.status, shown.end) == (told.status, told.end)
        assert b'"error"' in told.body
        assert b'"error"' in shown.body


def test_comments_keep_a_silent_stream_alive(new_llama_server: NewLlamaServer) -> None:
    real = new_llama_server(args=("--sse-ping-interval", "1", "-c", "4096", "-np", "1"))
    case = chat(messages=[{"role": "user", "content": "w x y z " * 150}], stream=True)
    arguments = ("--n-ctx", "4096", "--prefill-s", "0.5", "--ping-s", "0.1")
    with FakeLlamaProcess(*arguments) as fake:
        for url in (real.url, fake.url):
            answer = ask(url, case.method, case.path, case.body)
            assert answer.chunks is not None
            assert answer.chunks[0] == b":\n\n"
            assert answer.chunks[-1] == b"data: [DONE]\n\n"


@pytest.mark.parametrize("is_stream", [False, True])
def test_thinking(
    is_stream: bool,
    build: _Build,
    new_llama_server: NewLlamaServer,
    thinking_fake: FakeLlamaProcess,
) -> None:
    real = new_llama_server(template=TEMPLATE)

    build.check(chat(stream=is_stream, max_tokens=6), real.url, thinking_fake.url)


def test_tool_calls(new_llama_server: NewLlamaServer, thinking_fake: FakeLlamaProcess) -> None:
    real = new_llama_server(template=TEMPLATE)
    for url in (real.url, thinking_fake.url):
        whole = post_json(f"{url}/v1/chat/completions", tool_request())
        message = whole["choices"][0]["message"]
        assert message["content"] == ""
        (call, *_) = message["tool_calls"]
        assert list(call) == ["type", "function", "id"]
        assert isinstance(json.loads(call["function"]["arguments"]), dict)

        answer = ask(url, "POST", "/v1/chat/completions", tool_request(stream=True))
        role, first, *pieces = _deltas(answer)
        assert role == {"role": "assistant", "content": None}
        (named,) = first["tool_calls"]
        assert list(named) == ["index", "id", "type", "function"]
        assert named["function"]["name"] == "weather"
        parts = [delta["tool_calls"][0] for delta in pieces if "tool_calls" in delta]
        told = [part["function"] for part in (named, *parts) if part["index"] == 0]
        assert isinstance(json.loads("".join(part["arguments"] for part in told)), dict)
        assert all("id" not in part for part in parts if part["index"] == 0)


def _deltas(answer: Answer) -> list[dict[str, Any]]:
    events = answer.body.split(b"\n\n")[:-2]
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    return [chunk["choices"][0]["delta"] for chunk in chunks]


@pytest.mark.parametrize("kind", [FaultKind.CUT_CLOSE, FaultKind.CUT_RESET])
def test_one_that_dies_cuts_the_body(
    kind: FaultKind, real: LlamaServer, fake: FakeLlamaProcess
) -> None:
    with _begin(real.url, 400) as client:
        threading.Timer(0.2, real.kill).start()
        told = client.receive("POST")
    fake.set_faults(Fault(kind=kind, after_frames=3, count=1))
    case = chat(max_tokens=400, stream=True)
    shown = ask(fake.url, case.method, case.path, case.body)

    assert told.end in {End.CUT, End.RESET}
    assert shown.end is (End.CUT if kind is FaultKind.CUT_CLOSE else End.RESET)
    assert len(shown.chunks or ()) == 3
    assert told.headers.keys() == shown.headers.keys()
