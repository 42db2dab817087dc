"""What a request to compare is, how it is called, and how it is sent."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tests.fakes.cases import Case
from tests.fakes.look import Answer, Client

HI = [{"role": "user", "content": "hi"}]
ONE = {"num_predict": 1}


class RawCase(NamedTuple):
    """A request that no client library would write."""

    name: str
    raw: bytes
    method: str


AnyCase = Case | RawCase


def raw(name: str, *lines: str, body: bytes = b"") -> RawCase:
    """A request made of head lines and a body."""
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return RawCase(name, head + body, lines[0].partition(" ")[0])


def raw_chat(name: str, *fields: str, body: bytes, version: str = "1.1") -> RawCase:
    """A chat with more header fields than its host and length."""
    length = f"Content-Length: {len(body)}"
    return raw(
        name, f"POST /api/chat HTTP/{version}", "Host: localhost", length, *fields, body=body
    )


def with_headers(case: Case, *headers: tuple[str, str]) -> Case:
    """A case with these header fields."""
    return case._replace(headers=headers)


def name_of(case: AnyCase) -> str:
    """A readable name."""
    if isinstance(case, RawCase):
        return case.name
    fields = " ".join(f"{name}={value}" for name, value in case.headers)
    parts = (case.method, case.path[:80], fields[:80], _shown(case.body)[:120])
    return " ".join(part for part in parts if part)


def as_json(body: Any) -> bytes:
    """A body as a client library would write it."""
    return json.dumps(body, separators=(",", ":")).encode()


def send(url: str, case: AnyCase) -> Answer:
    """The answer to a case, on a connection of its own."""
    with _RawClient(url) as client:
        if isinstance(case, RawCase):
            client.send_raw(case.raw)
        else:
            client.send(case.method, case.path, case.body, case.headers)
        return client.receive(case.method)


class _RawClient(Client):
    def send_raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._socket.sendall(data)


def _shown(body: Any) -> str:
    if body is None:
        return ""
    return repr(body)[2:-1] if isinstance(body, bytes) else as_json(body).decode()
