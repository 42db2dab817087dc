"""Fleets of every make-up that clients must not be able to tell apart, each behind one daemon."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from tests.fakes.program import FakeCloudProcess
from tests.real.daemons import daemon_that_lists

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.stack.llama import LlamaServers
    from tests.stack.ollama import OllamaServer

_KEY = "cloud-key"
_DIMENSIONS = 640
"""As the real embedding model has."""

DIFFERENCES: Mapping[str, frozenset[str]] = {
    # `/api/generate` hands out tokens to go on with.
    "context": frozenset({"ollamas", "llama-servers"}),
    # JSON is what the answer is bound to: the fake cloud says the same words to everybody.
    "formats": frozenset({"ollamas", "llama-servers"}),
    # Every node says that the model cannot think; a cloud tells nothing, and takes the wish.
    "thinking": frozenset({"ollamas", "llama-servers"}),
    # Somebody says what a model can do.
    "capabilities": frozenset({"ollamas", "llama-servers", "one of each"}),
    # A model that cannot embed is refused as Ollama does, not as a cloud does.
    "embedding": frozenset({"ollamas", "llama-servers"}),
    # A manifest says what a model is made of.
    "manifests": frozenset({"ollamas", "one of each"}),
}
"""What a fleet needs for the full expectation, and which fleets have it."""


class Fleet(NamedTuple):
    """A daemon's address, and what stands behind it."""

    name: str
    url: str
    is_met_async: bool = False

    def has(self, difference: str) -> bool:
        """Whether this fleet meets the full expectation."""
        return self.name in DIFFERENCES[difference]


class Servers(NamedTuple):
    """All that fleets are made of."""

    ollamas: tuple[OllamaServer, ...]
    llamas: LlamaServers
    cloud: FakeCloudProcess


@contextlib.contextmanager
def running_cloud() -> Iterator[FakeCloudProcess]:
    """A cloud that asks for a key and has both sorts of model."""
    with FakeCloudProcess(
        *("--models", "gpt-fake", "--embedding-models", "embed-fake", "--api-key", _KEY),
        *("--embedding-length", str(_DIMENSIONS), "--rate", "1000"),
    ) as cloud:
        yield cloud


@contextlib.contextmanager
def running_fleet(name: str, folder: Path, servers: Servers) -> Iterator[Fleet]:
    """The fleet of this name, once its daemon knows all of it."""
    nodes, holders = _FLEETS[name](servers)
    listed = dict(zip(("tiny:latest", "tiny-embed:latest"), holders, strict=True))
    env = {"CLOUD_KEY": _KEY}
    with daemon_that_lists(folder / "daemon", nodes, listed, env=env) as daemon:
        yield Fleet(name, daemon.api_url)


def _ollamas(servers: Servers) -> tuple[str, tuple[int, int]]:
    nodes = [_node(server.url) for server in servers.ollamas]
    return "".join(nodes), (len(nodes), len(nodes))


def _llamas(servers: Servers) -> tuple[str, tuple[int, int]]:
    nodes = [_node(server.url, 'kind = "llama_server"') for server in servers.llamas]
    return "".join(nodes), (2, 1)


def _one_of_each(servers: Servers) -> tuple[str, tuple[int, int]]:
    ours, theirs = servers.llamas.one, servers.llamas.embedding
    return "".join(
        (
            _node(servers.ollamas[0].url),
            *(
                _node(server.url, 'kind = "llama_server"', f'same_as_ollama = ["{server.model}"]')
                for server in (ours, theirs)
            ),
            _cloud(servers, 'same_as_ollama = ["tiny", "tiny-embed"]'),
        )
    ), (3, 3)


def _clouds(servers: Servers) -> tuple[str, tuple[int, int]]:
    return _cloud(servers), (1, 1)


def _cloud(servers: Servers, *lines: str) -> str:
    names = 'models = { "tiny" = "gpt-fake", "tiny-embed" = "embed-fake" }'
    key = 'key_env = "CLOUD_KEY"'
    return _node(f"{servers.cloud.url}/v1", 'kind = "openai"', key, names, *lines)


def _node(url: str, *lines: str) -> str:
    return "\n".join(["[[nodes]]", f'url = "{url}"', *lines, "", ""])


_FLEETS = {
    "ollamas": _ollamas,
    "llama-servers": _llamas,
    "one of each": _one_of_each,
    "a cloud": _clouds,
}
FLEETS = tuple(_FLEETS)
