"""Fake nodes as processes with a daemon before them, as a person finds them on the page."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.fakes.look import Client, ask
from tests.fakes.program import FakeLlamaProcess, FakeNodeProcess
from tests.stack.daemon import DaemonProcess
from tests.stack.http import get_json, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.fakes.program import FakeProcess

LIMIT_S = 20.0

_HEALTH = """\
[health]
interval_s = 0.5
timeout_s = 0.5
backoff_max_s = 0.5

[queue]
holder_down_s = 0.2

[server]
drain_s = 0.5
cancel_after_s = 0.5
"""


class NodeSpec(NamedTuple):
    """A node of a fleet."""

    name: str
    arguments: tuple[str, ...] = ()
    is_llama: bool = False
    tier: int = 5


class Fleet:
    """Named fake nodes and a daemon that knows them; nothing else is on its network."""

    def __init__(self, directory: Path, specs: Sequence[NodeSpec], *, config: str = "") -> None:
        self.nodes: dict[str, FakeProcess] = {
            spec.name: (FakeLlamaProcess if spec.is_llama else FakeNodeProcess)(*spec.arguments)
            for spec in specs
        }
        self._specs = specs
        self._config = config
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self.daemon: DaemonProcess

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for node in self.nodes.values():
                stack.enter_context(node)
            self.daemon = DaemonProcess(self._directory, config=self._tables())
            stack.callback(self.daemon.close)
            self.daemon.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """Where the console listens."""
        return self.daemon.console_url

    def get(self, path: str) -> Any:
        """The JSON at a path of the daemon."""
        return get_json(self.daemon.api_url + path)

    def states(self) -> dict[str, str]:
        """State words of the nodes by name."""
        return {node["name"]: node["state"] for node in self.get("/api/v1/nodes")["nodes"]}

    def until(self, is_true: Callable[[], bool], what: str) -> None:
        """Wait for a condition; the error says what did not happen."""
        wait_until(is_true, limit_s=LIMIT_S, failure=lambda: f"not in {LIMIT_S} s: {what}")

    def chat(self, model: str, **fields: Any) -> int:
        """One whole chat; the status it was answered with."""
        body = _chat(model, stream=False, **fields)
        return ask(self.daemon.api_url, "POST", "/api/chat", body, limit_s=LIMIT_S).status

    def log(self, text: str) -> None:
        """Have the daemon log a warning with a text that somebody else wrote."""
        answer = ask(self.daemon.api_url, "GET", "/", headers=[("Host", text)], limit_s=LIMIT_S)
        assert answer.status == 403, answer.raw

    def stream(self, model: str, **fields: Any) -> Client:
        """A streamed chat that has begun and goes on; close it."""
        client = self.request(model, **fields)
        client.wait()
        return client

    def request(self, model: str, **fields: Any) -> Client:
        """A streamed chat that was sent."""
        client = Client(self.daemon.api_url, LIMIT_S)
        client.send("POST", "/api/chat", _chat(model, stream=True, **fields))
        return client

    def _tables(self) -> str:
        lines = [
            f"[[nodes]]\nurl = {json.dumps(self.nodes[spec.name].url)}\n"
            f"name = {json.dumps(spec.name)}\ntier = {spec.tier}\n"
            for spec in self._specs
        ]
        return "\n".join([*lines, self._config or _HEALTH])


def _chat(model: str, *, stream: bool, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": "hello"}
    return {"model": model, "messages": [message], "stream": stream, **fields}
