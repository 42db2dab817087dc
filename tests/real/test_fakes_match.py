"""The fake node answers recorded cases as a real Ollama does: status, framing, shape, texts."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.fakes.cases import CASES, SHORT, Case, chat, completion, get, name_of, openai
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.look import Answer, Client, End, ask
from tests.fakes.program import FakeNodeProcess
from tests.fakes.shapes import look_of
from tests.stack.http import get_json, post_json, wait_until
from tests.stack.ollama import OllamaServer
from tests.stack.store import copy_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack.parts import Parts

pytestmark = pytest.mark.real

_MODELS = (
    "tiny,tiny:short,user/tiny,tiny-tools+completion+tools,tiny-think+completion+thinking,"
    "tiny-embed+embedding"
)


@pytest.fixture(scope="module")
def real(
    parts: Parts, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OllamaServer]:
    """A real node of this module's own."""
    node = OllamaServer(tmp_path_factory.mktemp("real"), parts)
    copy_store(model_store, node.models_dir)
    node.start()
    yield node
    node.stop()


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeNodeProcess]:
    """A fake node with the same model names."""
    with FakeNodeProcess("--models", _MODELS, "--rate", "200", "--load-s", "0.2") as node:
        yield node


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_answers_as_the_real_one(case: Case, real: OllamaServer, fake: FakeNodeProcess) -> None:
    looks = [
        look_of(case, ask(url, case.method, case.path, case.body, case.headers))
        for url in (real.url, fake.url)
    ]

    assert looks[1] == looks[0]


def test_requests_wait_their_turn_in_silence(real: OllamaServer, fake: FakeNodeProcess) -> None:
    for url in (real.url, fake.url):
        post_json(f"{url}/api/generate", {"model": "tiny", "stream": False})
        first_and_last = _three_at_once(url)

        starts = [first for first, _ in first_and_last]
        assert starts == sorted(starts)
        for (_, last), (first, _) in itertools.pairwise(first_and_last):
            assert first > last - 0.02


def test_lists_what_is_loaded(real: OllamaServer, fake: FakeNodeProcess) -> None:
    case = get("/api/ps")
    looks = []
    for url in (real.url, fake.url):
        _unload_all(url)
        post_json(f"{url}/api/generate", {"model": "tiny", "keep_alive": -1}, limit_s=60)
        looks.append(look_of(case, ask(url, case.method, case.path)))

    assert looks[1] == looks[0]


def _three_at_once(url: str) -> list[tuple[float, float]]:
    """When the first and the last byte of each came, in the order of asking."""
    times: list[tuple[float, float]] = [(0.0, 0.0)] * 3

    def read(number: int, client: Client) -> None:
        first = last = 0.0
        for piece in client.pieces():
            last = time.monotonic()
            first = first or last
            if b"0\r\n\r\n" in piece:
                break
        times[number] = (first, last)

    body = {"model": "tiny", "prompt": "a", "options": {"num_predict": 12}}
    clients = [Client(url) for _ in times]
    threads = []
    for number, client in enumerate(clients):
        client.send("POST", "/api/generate", body)
        thread = threading.Thread(target=read, args=(number, client))
        thread.start()
        threads.append(thread)
        # Arrival order is what is tested; both servers need a moment to see it.
        time.sleep(0.05)
    for thread in threads:
        thread.join(30)
    for client in clients:
        client.close()
    return times


def test_a_client_that_leaves_frees_its_slot(real: OllamaServer, fake: FakeNodeProcess) -> None:
    long = {"model": "tiny", "prompt": "a", "options": {"num_predict": 2000}}
    for url in (real.url, fake.url):
        with Client(url) as client:
            client.send("POST", "/api/generate", long)
            next(client.pieces())
        started_s = time.monotonic()
        short = {"model": "tiny", "prompt": "a", "options": SHORT, "stream": False}
        assert post_json(f"{url}/api/generate", short)["done"] is True
        # 2,000 tokens last 10 s on the fake and longer on the real one.
        assert time.monotonic() - started_s < 5


def test_what_is_being_loaded_is_not_listed(real: OllamaServer, fake: FakeNodeProcess) -> None:
    for url in (real.url, fake.url):
        _unload_all(url)
        with Client(url) as client:
            client.send("POST", "/api/generate", {"model": "tiny"})
            assert not _loaded(url)
            assert client.receive().status == 200
        assert _loaded(url) == ["tiny:latest"]


def _loaded(url: str) -> list[str]:
    return [model["name"] for model in get_json(f"{url}/api/ps")["models"]]


def _unload_all(url: str) -> None:
    for name in _loaded(url):
        post_json(f"{url}/api/generate", {"model": name, "keep_alive": 0})
    wait_until(lambda: not _loaded(url), limit_s=10, failure=lambda: "still loaded")


def test_another_num_ctx_reloads(real: OllamaServer, fake: FakeNodeProcess) -> None:
    for url in (real.url, fake.url):
        lengths = []
        for options in ({}, {"num_ctx": 2048}, {}):
            post_json(f"{url}/api/generate", {"model": "tiny", "options": options}, limit_s=60)
            listed = get_json(f"{url}/api/ps")["models"]
            # Models that share weights share a runner, listed by the name that loaded it.
            names = ("tiny:latest", "tiny:short")
            lengths += [m["context_length"] for m in listed if m["name"] in names]
        assert lengths == [4096, 2048, 4096]


@pytest.mark.parametrize(
    "case",
    [
        chat(options={"num_predict": 400}),
        chat(options={"num_predict": 400}, stream=False),
        openai(max_tokens=400, stream=True),
        openai(max_tokens=400),
        completion(max_tokens=400, stream=True),
    ],
    ids=name_of,
)
def test_an_engine_that_dies_looks_the_same(
    case: Case, real: OllamaServer, fake: FakeNodeProcess
) -> None:
    fake.set_faults(Fault(kind=FaultKind.ENGINE_ERROR, after_frames=3, count=1))
    try:
        shown = look_of(case, ask(fake.url, case.method, case.path, case.body))
    finally:
        fake.set_faults()

    assert shown == look_of(case, _ask_and_kill_engine(real, case))


def _ask_and_kill_engine(real: OllamaServer, case: Case) -> Answer:
    # A dead engine's last complaint, however old, becomes part of Ollama's error text.
    _unload_all(real.url)
    engine = _engine(real)
    with Client(real.url) as client:
        client.send(case.method, case.path, case.body)
        _wait_until_answering(client, case, engine)
        engine.kill()
        return client.receive(case.method)


def _engine(real: OllamaServer) -> psutil.Process:
    """The process that serves `tiny`."""
    post_json(f"{real.url}/api/generate", {"model": "tiny"}, limit_s=60)
    processes = [psutil.Process(pid) for pid in real.group.member_pids()]
    engines = [process for process in processes if process.name().startswith("llama-server")]
    (engine,) = (process for process in engines if "--embedding" not in process.cmdline())
    return engine


def _wait_until_answering(client: Client, case: Case, engine: psutil.Process) -> None:
    """Some tokens have been computed: they can be read, or have cost time."""
    if case.body.get("stream", case.path == "/api/chat"):
        for _ in range(5):
            client.wait()
        return
    before_s = engine.cpu_times().user
    wait_until(lambda: engine.cpu_times().user > before_s + 0.3, limit_s=20, failure=lambda: "idle")


@pytest.mark.parametrize("kind", [FaultKind.CUT_CLOSE, FaultKind.CUT_RESET])
def test_a_node_that_dies_cuts_the_body(
    kind: FaultKind, real: OllamaServer, fake: FakeNodeProcess
) -> None:
    case = chat(options={"num_predict": 400})
    with Client(real.url) as client:
        client.send(case.method, case.path, case.body)
        client.wait()
        real.kill()
        told = client.receive(case.method)
    real.start()
    fake.set_faults(Fault(kind=kind, after_frames=3, count=1))
    shown = ask(fake.url, case.method, case.path, case.body)

    assert told.end in {End.CUT, End.RESET}
    assert shown.end == (End.CUT if kind is FaultKind.CUT_CLOSE else End.RESET)
    assert len(shown.chunks or ()) == 3
    assert told.headers.keys() == shown.headers.keys()
