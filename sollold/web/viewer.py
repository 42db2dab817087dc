"""`/docs`: a page that shows the OpenAPI document, by files of our own only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.web.pages import page
from sollold.web.route import Route

if TYPE_CHECKING:
    from aiohttp import web

    from sollold.web.static import StaticFiles

# All addresses are relative, so that the page also works behind a proxy below a path.
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>sollold API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{viewer_style}">
<link rel="stylesheet" href="{style}">
</head>
<body>
<header>
<h1>sollold API</h1>
<p>The same as a document: <a href="openapi.json">openapi.json</a></p>
<noscript><p>The viewer needs scripts. The document does not.</p></noscript>
</header>
<main id="viewer" data-document="openapi.json"></main>
<script src="{viewer_script}"></script>
<script src="{script}"></script>
</body>
</html>
"""


class Viewer:
    """Answers with the page."""

    def __init__(self, static: StaticFiles) -> None:
        self._text = _PAGE.format(
            viewer_style=static.url("vendor/swagger-ui/swagger-ui.css"),
            viewer_script=static.url("vendor/swagger-ui/swagger-ui-bundle.js"),
            style=static.url("docs.css"),
            script=static.url("docs.js"),
        )

    def routes(self) -> list[Route]:
        """Return the route."""
        return [
            Route(
                method="GET",
                path="/docs",
                handler=self.page,
                summary="A page that shows this document and tries its routes",
                tag="Pages",
                media="text/html",
            )
        ]

    async def page(self, request: web.Request) -> web.Response:
        """Answer `/docs`."""
        return page(self._text)
