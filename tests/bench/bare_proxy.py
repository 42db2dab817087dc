"""The ruler: the shortest aiohttp gateway one would write. No choice, no failover, no counters.

A program: `python -m tests.bench.bare_proxy PORT UPSTREAM [PORT UPSTREAM]…`.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web


async def serve(port: int, upstream: str) -> None:
    """Relay everything from one port to one upstream."""
    session = ClientSession(
        connector=TCPConnector(limit=0), timeout=ClientTimeout(), auto_decompress=False
    )

    async def relay(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        async with session.request(request.method, upstream + request.path, data=body) as node:
            headers = {"Content-Type": node.headers["Content-Type"]}
            if "Content-Length" in node.headers:
                whole = await node.read()
                return web.Response(status=node.status, body=whole, headers=headers)
            response = web.StreamResponse(status=node.status, headers=headers)
            await response.prepare(request)
            async for data in node.content.iter_any():
                await response.write(data)
            return response

    runner = web.ServerRunner(web.Server(relay, access_log=None, handler_cancellation=True))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()


async def main() -> None:
    """Serve until killed."""
    for port, upstream in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        await serve(int(port), upstream)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
