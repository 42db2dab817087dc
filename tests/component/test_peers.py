"""Another daemon among the nodes: each of the two signs that tell it apart is enough alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.component.lab import Lab
from tests.component.nodes.support import web_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

VIA = "Via"
STATUS = "/api/v1/status"


def passing_on(lab: Lab, *without: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a proxy before a daemon that hides some of its signs."""

    async def answer(request: web.Request) -> web.Response:
        if request.path in without:
            return web.Response(status=404)
        data = await request.read()
        async with lab.session.request(request.method, request.path_qs, data=data) as found:
            headers = [
                (name, value)
                for name, value in found.headers.items()
                if name not in (*without, "Content-Length", "Date")
            ]
            return web.Response(status=found.status, body=await found.read(), headers=headers)

    return answer


@pytest.mark.parametrize("hidden", [VIA, STATUS])
async def test_one_sign_is_enough_to_know_another_daemon(hidden: str) -> None:
    async with Lab() as other, web_server(passing_on(other, hidden)) as url:
        async with Lab(nodes_config=[{"url": url, "name": "other"}]) as lab:
            assert set(lab.fleet) == {"n1"}
            (peer,) = lab.built.registry.peers()
            assert peer.url == url
            for _ in range(4):
                answer = await lab.chat()
                assert (answer.status, answer.headers["X-Sollold-Node"]) == (200, "n1")
            assert not other.nodes[0].inference


async def test_a_daemon_without_either_sign_passes_for_a_node() -> None:
    """Shows that the proxy hides nothing else by which a daemon could be told."""
    async with Lab() as other, web_server(passing_on(other, VIA, STATUS)) as url:
        async with Lab(0, nodes_config=[{"url": url, "name": "other"}]) as lab:
            assert set(lab.fleet) == {"other"}
            assert lab.built.registry.peers() == ()
