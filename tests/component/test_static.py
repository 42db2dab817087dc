"""Files of pages: whole, typed, compressed, kept as long as their URL says, and nothing else."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING

import aiohttp
import pytest
from yarl import URL

from sollold.system.shipped import shipped
from sollold.web.static import StaticFiles
from tests.component.lab import Lab

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FOLDER = shipped("static")
NAMES = [path.relative_to(FOLDER) for path in FOLDER.rglob("*") if path.is_file()]
SCRIPT = "vendor/swagger-ui/swagger-ui-bundle.js"
PLAIN = {"Accept-Encoding": "identity"}
PACKED = {"Accept-Encoding": "br, gzip;q=0.8"}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """Asks the daemon and unpacks nothing."""
    async with (
        Lab() as lab,
        aiohttp.ClientSession(lab.url, auto_decompress=False) as session,
    ):
        yield session


async def test_every_shipped_file_is_served_whole(client: aiohttp.ClientSession) -> None:
    for name in NAMES:
        async with client.get(f"/static/{name.as_posix()}", headers=PLAIN) as answer:
            assert answer.status == 200
            assert await answer.read() == (FOLDER / name).read_bytes()
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize(
    ("name", "media"),
    [
        (SCRIPT, "text/javascript; charset=utf-8"),
        ("vendor/swagger-ui/swagger-ui.css", "text/css; charset=utf-8"),
        ("vendor/swagger-ui/NOTICE", "text/plain; charset=utf-8"),
        ("vendor/manifest.toml", "text/plain; charset=utf-8"),
    ],
)
async def test_types_come_with_their_charset(
    client: aiohttp.ClientSession, name: str, media: str
) -> None:
    async with client.get(f"/static/{name}") as answer:
        assert answer.headers["Content-Type"] == media


async def test_who_takes_gzip_gets_it(client: aiohttp.ClientSession) -> None:
    for _ in range(2):
        async with client.get(f"/static/{SCRIPT}", headers=PACKED) as answer:
            body = await answer.read()
            assert answer.headers["Content-Encoding"] == "gzip"
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert len(body) < 600_000
            assert gzip.decompress(body) == (FOLDER / SCRIPT).read_bytes()


@pytest.mark.parametrize("accepted", ["br", "gzip;q=0", "gzip; q=0.0", ""])
async def test_who_does_not_take_gzip_gets_none(
    client: aiohttp.ClientSession, accepted: str
) -> None:
    async with client.get(f"/static/{SCRIPT}", headers={"Accept-Encoding": accepted}) as answer:
        assert "Content-Encoding" not in answer.headers


async def test_small_files_are_left_as_they_are(client: aiohttp.ClientSession) -> None:
    async with client.get("/static/vendor/swagger-ui/NOTICE", headers=PACKED) as answer:
        assert "Content-Encoding" not in answer.headers
        assert b"SmartBear" in await answer.read()


async def test_what_a_client_has_is_not_sent_again(client: aiohttp.ClientSession) -> None:
    tags = set()
    for asked in (PLAIN, PACKED):
        async with client.get(f"/static/{SCRIPT}", headers=asked) as answer:
            tag = answer.headers["ETag"]
            assert answer.headers["Cache-Control"] == "no-cache"
        tags.add(tag)
        for known in (tag, f'"other", W/{tag}', "*"):
            headers = {**asked, "If-None-Match": known}
            async with client.get(f"/static/{SCRIPT}", headers=headers) as answer:
                assert answer.status == 304
                assert await answer.read() == b""
                assert answer.headers["ETag"] == tag
                assert answer.headers["Vary"] == "Accept-Encoding"
        async with client.get(f"/static/{SCRIPT}", headers={"If-None-Match": '"x"'}) as answer:
            assert answer.status == 200
    assert len(tags) == 2


async def test_a_url_with_the_right_hash_is_kept_for_ever(client: aiohttp.ClientSession) -> None:
    url = (await StaticFiles.load()).url(SCRIPT)
    assert re.fullmatch(rf"static/{SCRIPT}\?v=[0-9a-f]{{16}}", url)

    for asked, control in ((url, "public, max-age=31536000, immutable"), (url + "0", "no-cache")):
        async with client.get(f"/{asked}") as answer:
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == control


def test_a_url_of_an_unknown_file_is_a_bug() -> None:
    with pytest.raises(KeyError):
        StaticFiles.read(FOLDER).url("nothing.js")


async def test_head_tells_what_get_sends(client: aiohttp.ClientSession) -> None:
    async with client.get(f"/static/{SCRIPT}", headers=PACKED) as got:
        await got.read()
    async with client.head(f"/static/{SCRIPT}", headers=PACKED) as answer:
        assert answer.status == 200
        assert await answer.read() == b""
        for name in ("Content-Length", "Content-Type", "Content-Encoding", "ETag"):
            assert answer.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/vendor",
        "/static/vendor/",
        "/static/../pyproject.toml",
        "/static/vendor/../../pyproject.toml",
        "/static/%2e%2e/pyproject.toml",
        "/static/..%2fpyproject.toml",
        "/static//etc/passwd",
        "/static/%00",
        "/static/vendor%5cmanifest.toml",
    ],
)
async def test_nothing_else_is_there(client: aiohttp.ClientSession, path: str) -> None:
    url = URL(str(client._base_url).rstrip("/") + path, encoded=True)
    async with aiohttp.ClientSession() as plain, plain.get(url, allow_redirects=False) as answer:
        assert answer.status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_files_are_only_read(client: aiohttp.ClientSession, method: str) -> None:
    async with client.request(method, f"/static/{SCRIPT}") as answer:
        assert answer.status == 405
