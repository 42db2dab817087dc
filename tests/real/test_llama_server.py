"""A real llama-server under the prober: loading, ready, killed, frozen, asleep, with a key."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from sollold.core.health import HealthPolicy
from sollold.core.model import NodeId, NodeKind, NodeState
from tests.component.nodes.support import Bench
from tests.stack.http import get_json, wait_until
from tests.stack.ports import free_port
from tests.stack.processes import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.stack.parts import Parts

pytestmark = pytest.mark.real

_POLICY = HealthPolicy(interval_s=0.3, retry_s=0.1)
_LOADED_WITHIN_S = 60.0


class _Engine:
    """A llama-server that can be started again on its port."""

    def __init__(self, parts: Parts, folder: Path, arguments: Sequence[object]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        fixed = ["--host", "127.0.0.1", "--port", self.port, "--threads", 1, "--ctx-size", 1024]
        self._argv = [str(part) for part in (_binary(parts), *fixed, *arguments)]
        self._env = {"LD_LIBRARY_PATH": str(parts.engine_dir), "HOME": str(folder)}
        self._log_path = folder / f"engine-{self.port}.log"
        self.start()

    def start(self) -> None:
        self.group = ProcessGroup(self._argv, env=self._env, log_path=self._log_path)


def _binary(parts: Parts) -> Path:
    real = parts.engine_dir / "llama-server.engine"
    return real if real.exists() else parts.engine_dir / "llama-server"


@contextmanager
def _running(parts: Parts, folder: Path, *arguments: object) -> Iterator[_Engine]:
    engine = _Engine(parts, folder, arguments)
    try:
        yield engine
    finally:
        engine.group.kill()


async def _until_listed(bench: Bench) -> list[str]:
    await bench.until(lambda: bool(bench.view().models), _LOADED_WITHIN_S)
    return sorted(model.name for model in bench.view().models.values())


def _states(bench: Bench) -> list[Any]:
    return [fields["to_state"] for kind, fields in bench.events if kind == "NODE_STATE"]


async def test_found_out_while_it_loads_killed_and_started_again(
    parts: Parts, tmp_path: Path
) -> None:
    with _running(parts, tmp_path, "--model", parts.chat.path, "--parallel", 2) as engine:
        async with Bench(policy=_POLICY) as bench:
            bench.add(engine.url)
            async with bench.running():
                assert await _until_listed(bench) == ["chat:latest"]
                view = bench.view()
                assert (view.kind, view.slots) == (NodeKind.LLAMA_SERVER, 2)
                (model,) = view.models.values()
                assert model.capabilities == frozenset({"completion"})
                assert model.entry["details"]["parameter_size"] == "268.10M"  # type: ignore[index]
                assert view.residents[0].context_length == 512
                await bench.until_state(NodeState.UP)
                engine.group.kill()
                await bench.until_state(NodeState.DOWN)
                assert await bench.prober.is_frozen(NodeId("node"))
                engine.start()
                await bench.until_state(NodeState.UP, limit_s=_LOADED_WITHIN_S)
                assert bench.view().models[model.key].digest == model.digest


async def test_silent_with_work_is_busy_and_silent_without_is_down(
    parts: Parts, tmp_path: Path
) -> None:
    with _running(parts, tmp_path, "--model", parts.chat.path) as engine:
        async with Bench(policy=_POLICY) as bench:
            bench.add(engine.url, kind=NodeKind.LLAMA_SERVER)
            async with bench.running():
                await _until_listed(bench)
                bench.prober.has_work = lambda _: True
                engine.group.freeze()
                await bench.until(lambda: bench.told().startswith("up busy"))
                assert not await bench.prober.is_frozen(NodeId("node"))
                bench.prober.has_work = lambda _: False
                await bench.until_state(NodeState.DOWN, limit_s=30.0)
                engine.group.thaw()
                await bench.until_state(NodeState.UP)


async def test_a_server_for_embeddings_with_a_key(parts: Parts, tmp_path: Path) -> None:
    arguments = ("--model", parts.embedding.path, "--embedding", "--alias", "tiny-embed,emb")
    with _running(parts, tmp_path, *arguments, "--api-key", "sesame") as engine:
        async with Bench(policy=_POLICY, secrets={"K": "sesame", "W": "wrong"}) as bench:
            bench.add(engine.url, key_env="W")
            async with bench.running():
                await bench.until(
                    lambda: "does not accept its key" in bench.told(), _LOADED_WITHIN_S
                )
                bench.add(engine.url, key_env="K")
                assert await _until_listed(bench) == ["emb:latest", "tiny-embed:latest"]
                found = {model.capabilities for model in bench.view().models.values()}
                assert found == {frozenset({"embedding"})}


async def test_probes_let_it_sleep(parts: Parts, tmp_path: Path) -> None:
    arguments = ("--model", parts.chat.path, "--sleep-idle-seconds", 1)
    with _running(parts, tmp_path, *arguments) as engine:
        async with Bench(policy=_POLICY) as bench:
            bench.add(engine.url)
            await bench.prober.probe_once()
            while bench.view().state is not NodeState.UP:
                await bench.prober.probe_once()
            props = f"{engine.url}/props"
            wait_until(
                lambda: get_json(props)["is_sleeping"], limit_s=30.0, failure=lambda: "is awake"
            )
            for _ in range(5):
                await bench.prober.probe_once()
                await bench.prober.refresh(5.0)
            assert get_json(props)["is_sleeping"]
            assert bench.view().state is NodeState.UP


async def test_a_router_loads_nothing_for_probes(parts: Parts, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "tiny-chat.gguf").symlink_to(parts.chat.path)
    (models / "tiny-embed.gguf").symlink_to(parts.embedding.path)
    with _running(parts, tmp_path, "--models-dir", models) as engine:
        async with Bench(policy=_POLICY) as bench:
            bench.add(engine.url)
            async with bench.running():
                assert await _until_listed(bench) == ["tiny-chat:latest", "tiny-embed:latest"]
                await bench.prober.refresh(5.0)
            listed = get_json(f"{engine.url}/v1/models")["data"]
            assert {model["status"]["value"] for model in listed} == {"unloaded"}
            assert bench.view().residents == ()
