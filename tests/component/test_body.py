"""Request bodies: byte for byte to the node, within the budget, and nothing left of them."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import os
import random
import socket
import sys
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from blockbuster import BlockBusterFunction

from sollold.errors import SollolError
from sollold.web import inference
from sollold.web.body import BodyStore
from sollold.web.encoding import PIECE_BYTES, decoder_for
from tests.component.lab import Lab
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.look import Answer, ask
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

KIB = 1024
MIB = 1024 * KIB

PATHS = ("/api/chat", "/v1/chat/completions")


def chat_body(size_bytes: int) -> bytes:
    """A chat of about this size that does not compress, with white space to be kept."""
    noise = random.Random(size_bytes).randbytes(max(1, size_bytes // 2)).hex()
    message = f'[{{"role": "user",  "content": "{noise}"}}]'
    return f'{{ "model" : "llama3.2",\n "messages":{message}, "stream": false }}'.encode()


async def post(lab: Lab, path: str, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    return await asyncio.to_thread(ask, lab.url, "POST", path, body, headers)


async def chunked(lab: Lab, path: str, pieces: Sequence[bytes]) -> tuple[int, bytes]:
    async def send() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async with lab.session.post(path, data=send()) as answer:
        return answer.status, await answer.read()


def error_of(path: str, body: bytes) -> str:
    inner: Any = json.loads(body)["error"]
    return str(inner["message"] if path.startswith("/v1") else inner)


def spool_files() -> list[str]:
    """Files this process holds open although they have no name any more."""
    found = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if "(deleted)" in target:
            found.append(target)
    return found


def is_mapped(directory: Path) -> bool:
    """Whether a file that was there is in this process's address space."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return str(directory) in maps.read()


# Unchanged -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [0, 300, 64 * KIB, MIB + 1, 20 * MIB])
async def test_the_node_gets_the_very_bytes(size_bytes: int) -> None:
    body = chat_body(size_bytes)
    async with Lab() as lab:
        for path in PATHS:
            answer = await post(lab, path, body)
            assert answer.status == 200, answer.body
            assert lab.nodes[0].inference[-1].body == body
        lab.assert_idle()


async def test_a_chunked_upload_arrives_with_its_length() -> None:
    body = chat_body(200 * KIB)
    pieces = [body[:1], body[1:7], body[7 : 64 * KIB], body[64 * KIB :]]
    async with Lab() as lab:
        status, text = await chunked(lab, "/api/chat", pieces)
        assert status == 200, text
        request = lab.nodes[0].inference[0]
        assert request.body == body
        names = {name.lower(): value for name, value in request.headers}
        assert names["content-length"] == str(len(body))
        assert "transfer-encoding" not in names
        lab.assert_idle()


async def test_no_body_at_all() -> None:
    async with Lab() as lab:
        for path, text in (("/api/chat", "missing request body"), ("/v1/chat/completions", "EOF")):
            for headers in ([], [("Content-Encoding", "gzip")]):
                answer = await post(lab, path, b"", headers)
                assert (answer.status, error_of(path, answer.body)) == (400, text)
        lab.assert_idle()


# Too large -----------------------------------------------------------------------------------


async def test_too_large_is_413_in_both_dialects() -> None:
    limits = {"body_bytes": 64 * KIB, "bodies_bytes": 128 * KIB}
    async with Lab(limits=limits) as lab:
        for path in PATHS:
            fits = chat_body(60 * KIB)
            fits += b" " * (64 * KIB - len(fits))
            assert (await post(lab, path, fits)).status == 200
            over = fits + b" "
            # A client that sends all of it before it listens must hear the answer too.
            for body in (over, over * 300):
                answer = await post(lab, path, body)
                assert answer.status == 413
                assert "larger than 65536 bytes" in error_of(path, answer.body)
            status, text = await chunked(lab, path, [over[:1000], over[1000:]])
            assert (status, "larger than" in error_of(path, text)) == (413, True)
            bomb = gzip.compress(b" " * (8 * MIB))
            answer = await post(lab, path, bomb, [("Content-Encoding", "gzip")])
            assert answer.status == 413
        assert len(lab.nodes[0].inference) == len(PATHS)
        lab.assert_idle()


# Compressed ----------------------------------------------------------------------------------


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
}


@pytest.mark.parametrize("encoding", PACKERS)
async def test_a_compressed_body_reaches_the_node_plain(encoding: str) -> None:
    async with Lab() as lab:
        for size_bytes in (300, 2 * MIB):
            body = chat_body(size_bytes)
            packed = PACKERS[encoding](body)
            for path in PATHS:
                answer = await post(lab, path, packed, [("Content-Encoding", encoding)])
                assert answer.status == 200, answer.body
                request = lab.nodes[0].inference[-1]
                assert request.body == body
                assert "content-encoding" not in {name.lower() for name, _ in request.headers}
        lab.assert_idle()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"this is no gzip"),
        ("gzip", gzip.compress(b'{"model":"llama3.2"}')[:-4]),
        ("gzip", gzip.compress(b'{"model":"llama3.2"}') + b"more"),
        ("gzip", b"\x1f\x8b"),
        ("deflate", b"\x78\x9c\xff\xff\xff"),
        ("deflate", zlib.compress(b'{"model":"llama3.2"}')[:-1]),
    ],
)
async def test_a_body_broken_in_its_compression_is_the_callers_fault(
    encoding: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with Lab() as lab:
        for path in PATHS:
            answer = await post(lab, path, body, [("Content-Encoding", encoding)])
            assert answer.status == 400, answer.body
            assert "Content-Encoding" in error_of(path, answer.body)
        assert not lab.nodes[0].inference
        lab.assert_idle()
    assert not caplog.records


async def test_encodings_nobody_reads_are_415(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    async with Lab() as lab:
        for encoding in ("zstd", "ZSTD", "br", "compress", "gzip, zstd", "gzip, gzip"):
            for path in PATHS:
                answer = await post(lab, path, b"{}", [("Content-Encoding", encoding)])
                assert answer.status == 415, encoding
                assert "plain" in error_of(path, answer.body)
        lab.assert_idle()


async def test_an_unknown_encoding_is_ignored_as_ollama_does() -> None:
    async with Lab() as lab:
        for encoding in ("identity", "utf-8"):
            answer = await post(lab, "/api/chat", chat_body(9), [("Content-Encoding", encoding)])
            assert answer.status == 200


# The budget ----------------------------------------------------------------------------------


async def test_beyond_the_budget_bodies_lie_in_a_file_without_a_name(tmp_path: Path) -> None:
    limits = {"body_bytes": 4 * MIB, "bodies_bytes": 256 * KIB, "spool_dir": str(tmp_path)}
    large, small = chat_body(3 * MIB), chat_body(40 * KIB)
    before = len(spool_files())
    async with Lab([FakeNode(prefill_s=0.05)], limits=limits) as lab:
        bodies, dispatcher = lab.built.bodies, lab.built.dispatcher

        async def send(body: bytes) -> int:
            async with lab.session.post("/api/chat", data=io.BytesIO(body)) as answer:
                await answer.read()
                return answer.status

        lab.nodes[0].fault = Fault(kind=FaultKind.SLOW_HEAD, delay_s=0.5, count=1)
        calls = [asyncio.create_task(send(small)) for _ in range(5)]
        await lab.until(lambda: len(list(dispatcher.runs)) == 5)
        assert (bodies.in_memory_bytes, bodies.spooled_total) == (5 * len(small), 0)
        calls += [asyncio.create_task(send(large)) for _ in range(3)]
        await lab.until(lambda: len(list(dispatcher.runs)) == 8)
        assert (bodies.in_memory_bytes, bodies.spooled_total) == (5 * len(small), 3)
        assert list(tmp_path.iterdir()) == []
        assert len([name for name in spool_files() if str(tmp_path) in name]) >= 3
        assert set(await asyncio.gather(*calls)) == {200}
        found = sorted(request.body for request in lab.nodes[0].inference)
        assert found == sorted([large] * 3 + [small] * 5)
        lab.assert_idle()
        assert len(spool_files()) == before


@pytest.mark.parametrize("budget_bytes", [256 * KIB, 64 * MIB])
async def test_a_long_body_is_not_looked_at_in_the_loop(tmp_path: Path, budget_bytes: int) -> None:
    limits = {"body_bytes": 64 * MIB, "bodies_bytes": budget_bytes, "spool_dir": str(tmp_path)}
    async with Lab(limits=limits) as lab:
        guard = BlockBusterFunction(inference, "peek").activate()
        try:
            assert (await post(lab, "/api/chat", chat_body(9))).status == 500
            for size_bytes in (2 * MIB, 20 * MIB):
                body = chat_body(size_bytes)
                assert (await post(lab, "/api/chat", body)).status == 200
                assert lab.nodes[0].inference[-1].body == body
        finally:
            guard.deactivate()
        lab.assert_idle()
        assert (lab.built.bodies.spooled_total > 0) == (budget_bytes < 2 * MIB)
    assert not [name for name in spool_files() if str(tmp_path) in name]


async def test_a_client_may_leave_while_its_spooled_body_is_looked_at(tmp_path: Path) -> None:
    limits = {"body_bytes": 64 * MIB, "bodies_bytes": 256 * KIB, "spool_dir": str(tmp_path)}
    body = b'{"model":"llama3.2","messages":[' + b'{"role":"user"},' * (600 * KIB) + b"{}]}"
    async with Lab(limits=limits) as lab:
        call = asyncio.create_task(lab.session.post("/api/chat", data=io.BytesIO(body)))
        await lab.until(lambda: lab.built.bodies.spooled_total == 1)
        # Its file is mapped from the moment on when all of it has come.
        await lab.until(lambda: is_mapped(tmp_path))
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await lab.until(lambda: not lab.built.edge._tasks)
        await lab.until(lambda: not is_mapped(tmp_path))
        assert not [name for name in spool_files() if str(tmp_path) in name]
        lab.assert_idle()
        assert not lab.nodes[0].inference


@pytest.mark.parametrize("budget_bytes", [256 * KIB, 64 * MIB])
async def test_what_a_small_body_unpacks_to_counts_too(tmp_path: Path, budget_bytes: int) -> None:
    limits = {"body_bytes": 64 * MIB, "bodies_bytes": budget_bytes, "spool_dir": str(tmp_path)}
    body = chat_body(0) + b" " * (30 * MIB)
    async with Lab(limits=limits) as lab:
        bodies, seen = lab.built.bodies, set()
        call = asyncio.create_task(
            post(lab, "/api/chat", gzip.compress(body), [("Content-Encoding", "gzip")])
        )
        while not call.done():
            await asyncio.sleep(0)
            seen.add((bodies.in_memory_bytes, bodies.spooled_total))
            assert bodies.in_memory_bytes <= budget_bytes
        assert (await call).status == 200
        assert lab.nodes[0].inference[0].body == body
        assert (bodies.spooled_total == 1) == (budget_bytes < len(body))
        if not bodies.spooled_total:
            assert len(seen) > 50  # others had their turn while it was unpacked
        lab.assert_idle()


async def test_a_node_that_fails_gets_nothing_of_a_spooled_body_lost(tmp_path: Path) -> None:
    limits = {"body_bytes": 4 * MIB, "bodies_bytes": 64 * KIB, "spool_dir": str(tmp_path)}
    body = chat_body(2 * MIB)
    async with Lab(2, limits=limits, routing={"weights": {"tier": 1000.0}}) as lab:
        await lab.nodes[0].stop()
        answer = await post(lab, "/api/chat", body)
        assert (answer.status, answer.headers["x-sollold-node"]) == (200, "n2")
        assert lab.nodes[1].inference[0].body == body
        lab.assert_idle()


async def test_no_room_on_disk_either_is_told(tmp_path: Path) -> None:
    limits = {
        "body_bytes": 4 * MIB,
        "bodies_bytes": 64 * KIB,
        "spool_dir": str(tmp_path / "gone"),
    }
    async with Lab(limits=limits) as lab:
        for path in PATHS:
            answer = await post(lab, path, chat_body(MIB))
            assert answer.status == 503
            assert answer.headers["retry-after"] == "10"
            assert "no room for the request body" in error_of(path, answer.body)
        lab.assert_idle()


# Clients that leave or stall -----------------------------------------------------------------

BEGINNINGS = {
    "small": (b"Content-Length: 5000", b'{"model":'),
    "large": (b"Content-Length: 3000000", b'{"model": "' + b"x" * 100_000),
    "spooled": (b"Content-Length: 3000000", b'{"model": "' + b"x" * 900_000),
    "chunked": (b"Transfer-Encoding: chunked", b"10000\r\n" + b"x" * 0x9000),
    "gzip": (b"Content-Encoding: gzip\r\nContent-Length: 5000", gzip.compress(b"{}")[:12]),
}
TIGHT = {"body_bytes": 4 * MIB, "bodies_bytes": 200_000, "client_stall_s": 0.3}


def begin(lab: Lab, name: str) -> socket.socket:
    header, data = BEGINNINGS[name]
    sock = socket.create_connection(("127.0.0.1", lab.port), 5)
    sock.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n%b" % (header, data))
    return sock


@pytest.mark.parametrize("name", BEGINNINGS)
async def test_a_client_that_leaves_in_mid_upload_leaves_nothing(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = len(spool_files())
    async with Lab(limits=TIGHT | {"spool_dir": str(tmp_path), "client_stall_s": 60.0}) as lab:
        bodies, seen = lab.built.bodies, len(lab.nodes[0].requests)
        sock = await asyncio.to_thread(begin, lab, name)
        if name == "spooled":
            await lab.until(lambda: bodies.spooled_total == 1)
        elif name in ("large", "chunked"):
            await lab.until(lambda: bodies.in_memory_bytes > 30_000)
        else:
            await lab.until(lambda: len(lab.built.edge._tasks) == 1)
        sock.close()
        await lab.until(lambda: not lab.built.edge._tasks)
        lab.assert_idle()
        await lab.until(lambda: len(spool_files()) == before)
        new = lab.nodes[0].requests[seen:]
        assert "/api/chat" not in {request.path for request in new}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", BEGINNINGS)
async def test_a_client_that_sends_no_more_is_told(name: str, tmp_path: Path) -> None:
    async with Lab(limits=TIGHT | {"spool_dir": str(tmp_path)}) as lab:
        sock = await asyncio.to_thread(begin, lab, name)
        sock.settimeout(5)
        answer = await asyncio.to_thread(sock.recv, 65_536)
        sock.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"nothing of the request body came for 0.3 s" in answer
        await lab.until(lambda: not lab.built.edge._tasks)
        lab.assert_idle()


async def test_a_client_with_a_slow_line_is_waited_for() -> None:
    body = chat_body(300)
    async with Lab(limits={"client_stall_s": 0.4}) as lab:

        async def slowly() -> AsyncIterator[bytes]:
            for place in range(0, len(body), 60):
                await asyncio.sleep(0.1)
                yield body[place : place + 60]

        async with lab.session.post("/api/chat", data=slowly()) as answer:
            assert answer.status == 200
        assert lab.nodes[0].inference[0].body == body


# The store alone -----------------------------------------------------------------------------


class Reader:
    """A server whose only handler reads the body."""

    def __init__(self) -> None:
        self.store = BodyStore(limit_bytes=MIB, budget_bytes=MIB, spool_dir=None, stall_s=5.0)
        self.got: list[bytes | SollolError] = []
        self._runner: web.AppRunner
        self.url = ""

    async def __aenter__(self) -> Reader:  # noqa: PYI034 - nobody derives from it
        app = web.Application(handler_args={"auto_decompress": False})
        app.router.add_post("/", self._read)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def _read(self, request: web.Request) -> web.Response:
        try:
            body = await self.store.read(request)
        except SollolError as error:
            self.got.append(error)
            return web.Response(status=error.http_status)
        self.got.append(bytes(body.view()))
        body.close()
        return web.Response()

    async def read(self, data: bytes, encoding: str) -> bytes | SollolError:
        headers = [("Content-Encoding", encoding)]
        await asyncio.to_thread(ask, self.url, "POST", "/", data, headers)
        assert self.store.in_memory_bytes == 0
        return self.got.pop()


def test_no_length_of_text_is_unlucky() -> None:
    """The decompressor may have taken all input and still owe output, at any boundary."""
    for encoding, pack in (("gzip", gzip.compress), ("deflate", raw_deflate)):
        for size_bytes in range(2 * PIECE_BYTES, 2 * PIECE_BYTES + 300, 5):
            text = b" " * size_bytes
            decoder = decoder_for(encoding)
            assert decoder is not None
            assert b"".join(decoder.pieces(pack(text))) == text
            decoder.finish()


async def test_zstd_with_the_extra() -> None:
    zstd = pytest.importorskip("backports.zstd")
    body = chat_body(50 * KIB)
    async with Reader() as reader:
        assert await reader.read(zstd.compress(body), "zstd") == body
        assert await reader.read(zstd.compress(b"a" * MIB), "zstd") == b"a" * MIB
        for broken in (b"no zstd", zstd.compress(body)[:-1], zstd.compress(body) + b"x"):
            found = await reader.read(broken, "zstd")
            assert isinstance(found, SollolError)
            assert found.http_status == 400
        bomb = await reader.read(zstd.compress(b"a" * (MIB + 1)), "zstd")
        assert isinstance(bomb, SollolError)
        assert bomb.http_status == 413


async def test_zstd_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    async with Reader() as reader:
        found = await reader.read(b"whatever", "zstd")
        assert isinstance(found, SollolError)
        assert (found.http_status, "sollold[zstd]" in found.message) == (415, True)
