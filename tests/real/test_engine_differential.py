"""A real Ollama, and a real llama-server with the same weights behind the daemon, answer alike.

What differs on purpose is declared here and, with its reason, in docs/compatibility.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.real.case import name_of, send
from tests.real.cases_engine import ALIKE, CONTEXT, UNLIKE
from tests.real.compare import differences
from tests.real.counters import counted_differently
from tests.real.daemons import daemon_that_lists
from tests.real.wanted import EVERYWHERE, Pair, Wanted, listed
from tests.stack.http import post_json
from tests.stack.llama import LlamaServer
from tests.stack.ollama import OllamaServer
from tests.stack.store import TINY_EMBED, StoredModel, write_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.look import Answer
    from tests.real.case import AnyCase
    from tests.stack.parts import Parts

pytestmark = pytest.mark.real

# Prints what the stored model's template does.
_TEMPLATE = """\
{%- for message in messages -%}{{ message.role + ": " + message.content + "\\n" }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ "assistant: " }}{%- endif -%}
"""
# A llama-server knows no parameters of a model, so the Ollama beside it gets none.
_MODELS = (StoredModel("tiny", params=None), TINY_EMBED)
_SMALL = ("-c", str(CONTEXT), "-np", "1")


def _both_serve(direct: Answer, through: Answer) -> bool:
    return direct.status == through.status == 200


def _both_refuse(direct: Answer, through: Answer) -> bool:
    return direct.status == through.status == 400


def _only_we_refuse(direct: Answer, through: Answer) -> bool:
    return (direct.status, through.status) == (200, 400)


_REASONS = r"body\[\](\[\])?(\.choices\[\])?\.(done_reason|finish_reason)"
_PROMPTS = r"(counter|body.*\.)\s?(prompt_eval_count|prompt_tokens|total_tokens)"


def _go_complains_of_types(direct: Answer, through: Answer) -> bool:
    """Both name a value of a wrong type, each in the words of some version of Go."""
    words = (b"cannot unmarshal", b"illegal base64")
    return direct.status == through.status == 400 and all(
        any(word in answer.body for word in words) for answer in (direct, through)
    )


OF_ENGINES = (
    Wanted("free-white-space", "formats", _REASONS, _both_serve),
    Wanted("generated-tokens", "formats", "counter context", _both_serve),
    Wanted("continued-answers", "prefill", _PROMPTS, _both_serve),
    Wanted("users-begin", "histories", _PROMPTS, _both_serve),
    Wanted("long-messages", "long messages", holds=_only_we_refuse),
    Wanted("no-shift", "full contexts", "counter eval_count", _both_serve),
    Wanted("plain-engine-errors", "engine errors", r"body\[\]\.error(\.message)?", _both_refuse),
    Wanted("own-templates", "templates", holds=_only_we_refuse),
    Wanted("no-prompts-shown", "debug", holds=_only_we_refuse),
)
OF_BUILDS = (
    Wanted("go-versions", "faults", r"body\[\]\.error(\.message)?", _go_complains_of_types),
)
"""What depends on the Go that Ollama was built with, and so need not differ."""
WANTED = (*EVERYWHERE, *OF_ENGINES, *OF_BUILDS)


class Engines:
    """An Ollama asked directly, and a daemon over two llama-servers with the same weights."""

    def __init__(self, ollama_url: str, daemon_url: str, pool: ThreadPoolExecutor) -> None:
        self._ollama_url = ollama_url
        self._daemon_url = daemon_url
        self._pool = pool
        self._asked: dict[int, Pair] = {}

    def ask(self, case: AnyCase) -> Pair:
        """The answers of both, at once; asked once."""
        if id(case) not in self._asked:
            waited = self._pool.submit(send, self._ollama_url, case)
            through = send(self._daemon_url, case)
            direct = waited.result()
            found = [*differences(direct, through), *counted_differently(direct, through)]
            self._asked[id(case)] = Pair("llama-server", direct, through, found)
        return self._asked[id(case)]


@pytest.fixture(scope="module")
def engines(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """All of them with a small context and one slot."""
    folder = tmp_path_factory.mktemp("engines")
    ollama = OllamaServer(folder / "ollama", parts, env={"OLLAMA_CONTEXT_LENGTH": str(CONTEXT)})
    write_store(ollama.models_dir, parts, _MODELS)
    chats = LlamaServer(folder / "chats", parts, args=_SMALL, template=_TEMPLATE)
    embeds = LlamaServer(folder / "embeds", parts, args=_SMALL, is_embedding=True)
    servers = (ollama, chats, embeds)
    nodes = "".join(
        f'[[nodes]]\nurl = "{server.url}"\nkind = "llama_server"\n\n' for server in servers[1:]
    )
    holders = {"tiny:latest": 1, "tiny-embed:latest": 1}
    try:
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_ready()
        with (
            daemon_that_lists(folder / "daemon", nodes, holders) as daemon,
            ThreadPoolExecutor(1) as pool,
        ):
            ollama.load("tiny")
            post_json(f"{ollama.url}/api/embed", {"model": "tiny-embed", "input": "a"})
            yield Engines(ollama.url, daemon.api_url, pool)
    finally:
        for server in servers:
            server.kill()


def _params(groups: dict[str, list[AnyCase]]) -> list[Any]:
    return [
        pytest.param(group, case, id=f"{group}: {name_of(case)}")
        for group, cases in groups.items()
        for case in cases
    ]


@pytest.mark.parametrize(("group", "case"), _params(ALIKE | UNLIKE))
def test_answers_as_an_ollama_does(group: str, case: AnyCase, engines: Engines) -> None:
    pair = engines.ask(case)

    unwanted = [
        found
        for found in pair.found
        if not any(wanted.explains(group, pair, found) for wanted in WANTED)
    ]
    assert not unwanted, name_of(case)


@pytest.mark.parametrize("wanted", OF_ENGINES, ids=lambda wanted: wanted.name)
def test_what_is_declared_does_differ(wanted: Wanted, engines: Engines) -> None:
    pairs = [engines.ask(case) for case in UNLIKE[wanted.group]]

    assert any(
        wanted.explains(wanted.group, pair, found) for pair in pairs for found in pair.found
    ), "no case shows it"


def test_every_group_that_may_differ_says_how() -> None:
    assert {wanted.group for wanted in OF_ENGINES} == UNLIKE.keys()


def test_the_document_lists_what_is_declared() -> None:
    assert listed("On other engines") == sorted(wanted.name for wanted in OF_ENGINES)
