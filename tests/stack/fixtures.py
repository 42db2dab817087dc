"""Fixtures over the real parts; a `conftest.py` imports the ones it needs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.stack.daemon import DaemonProcess
from tests.stack.llama import LlamaServer, LlamaServers
from tests.stack.ollama import OllamaServer
from tests.stack.parts import Parts, find_parts
from tests.stack.server import mend
from tests.stack.store import ALL_MODELS, StoredModel, copy_store, write_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_NODE_COUNT = 3


class NewNode(Protocol):
    """Starts a node of the test's own."""

    def __call__(
        self,
        *,
        models: Sequence[StoredModel] = ALL_MODELS,
        env: Mapping[str, str] | None = None,
    ) -> OllamaServer: ...


class NewLlamaServer(Protocol):
    """Starts a llama-server of the test's own."""

    def __call__(
        self,
        *,
        args: Sequence[str] = (),
        is_embedding: bool = False,
        template: str | None = None,
        is_started: bool = True,
    ) -> LlamaServer: ...


class NewDaemon(Protocol):
    """Makes a daemon that ends with the test; the test starts it."""

    def __call__(
        self,
        *,
        nodes: Sequence[str] = (),
        config: str = "",
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
    ) -> DaemonProcess: ...


@pytest.fixture(scope="session")
def parts() -> Parts:
    """The real parts of this machine."""
    return find_parts()


@pytest.fixture(scope="session")
def model_store(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every model; copy it, never serve it."""
    root = tmp_path_factory.mktemp("store") / "models"
    write_store(root, parts)
    return root


@pytest.fixture(scope="session")
def _session_nodes(
    parts: Parts, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[OllamaServer, ...]]:
    with contextlib.ExitStack() as stack:
        nodes = []
        for number in range(1, _NODE_COUNT + 1):
            node = OllamaServer(tmp_path_factory.mktemp(f"node{number}"), parts)
            copy_store(model_store, node.models_dir)
            stack.callback(node.stop)
            node.launch()
            nodes.append(node)
        for node in nodes:
            node.wait_ready()
        yield tuple(nodes)


@pytest.fixture
def ollama_nodes(_session_nodes: tuple[OllamaServer, ...]) -> Iterator[tuple[OllamaServer, ...]]:
    """Three running nodes with equal stores, shared by the session.

    A test may freeze, stop and kill them; whoever comes next finds them running. A test that
    changes models uses `new_node`.
    """
    yield _session_nodes
    mend(_session_nodes)


@pytest.fixture
def new_node(parts: Parts, tmp_path: Path) -> Iterator[NewNode]:
    """Start nodes that belong to this test alone."""
    with contextlib.ExitStack() as stack:
        count = 0

        def start(
            *,
            models: Sequence[StoredModel] = ALL_MODELS,
            env: Mapping[str, str] | None = None,
        ) -> OllamaServer:
            nonlocal count
            count += 1
            node = OllamaServer(tmp_path / f"own-node{count}", parts, env=env)
            write_store(node.models_dir, parts, models)
            stack.callback(node.stop)
            node.start()
            return node

        yield start


@pytest.fixture(scope="session")
def _session_llama_servers(
    parts: Parts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LlamaServers]:
    with contextlib.ExitStack() as stack:
        servers = LlamaServers(
            *(
                LlamaServer(tmp_path_factory.mktemp(name), parts, is_embedding=name == "embedding")
                for name in LlamaServers._fields
            )
        )
        for server in servers:
            # Asked to end, older builds wait for their clients to leave.
            stack.callback(server.kill)
            server.launch()
        for server in servers:
            server.wait_ready()
        yield servers


@pytest.fixture
def llama_servers(_session_llama_servers: LlamaServers) -> Iterator[LlamaServers]:
    """Three running llama-servers, shared by the session: two chat, one embeds.

    A test may freeze, stop and kill them; whoever comes next finds them running.
    """
    yield _session_llama_servers
    mend(_session_llama_servers)


@pytest.fixture
def new_llama_server(parts: Parts, tmp_path: Path) -> Iterator[NewLlamaServer]:
    """Start llama-servers that belong to this test alone."""
    with contextlib.ExitStack() as stack:
        count = 0

        def start(
            *,
            args: Sequence[str] = (),
            is_embedding: bool = False,
            template: str | None = None,
            is_started: bool = True,
        ) -> LlamaServer:
            nonlocal count
            count += 1
            directory = tmp_path / f"own-llama{count}"
            server = LlamaServer(
                directory, parts, args=args, is_embedding=is_embedding, template=template
            )
            stack.callback(server.kill)
            if is_started:
                server.start()
            return server

        yield start


@pytest.fixture
def new_daemon(tmp_path: Path) -> Iterator[NewDaemon]:
    """Make daemons that end with this test."""
    with contextlib.ExitStack() as stack:
        count = 0

        def make(
            *,
            nodes: Sequence[str] = (),
            config: str = "",
            env: Mapping[str, str] | None = None,
            args: Sequence[str] = (),
        ) -> DaemonProcess:
            nonlocal count
            count += 1
            daemon = DaemonProcess(
                tmp_path / f"daemon{count}", nodes=nodes, config=config, env=env, args=args
            )
            stack.callback(daemon.close)
            return daemon

        yield make
