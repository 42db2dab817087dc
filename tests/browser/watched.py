"""A page of which everything is noticed that a good page does not do."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page, Route

_LIMIT_MS = 8000
_OPTIONS: dict[str, Any] = {
    "viewport": {"width": 1280, "height": 900},
    "reduced_motion": "reduce",  # a click waits for nothing that still scrolls
}

_NOTE_VIOLATIONS = """
window.seenViolations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.seenViolations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""

_UNREACHABLE = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE",
                "Unexpected response code: 503", "status of 503", "ERR_SOCKET_NOT_CONNECTED",
                "Connection closed before receiving a handshake response",
                "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_TIMED_OUT")  # fmt: skip
"""What Chromium itself writes to the console while a server is away."""


class Watched:
    """One page in a context of its own, and what it did that it should not have done."""

    def __init__(self, context: BrowserContext, base_url: str) -> None:
        self.context = context
        self.base_url = base_url
        self.requests: list[str] = []
        self.foreign: list[str] = []
        self.errors: list[str] = []
        self.sockets: list[str] = []
        context.set_default_timeout(_LIMIT_MS)
        context.add_init_script(_NOTE_VIOLATIONS)
        context.route("**/*", self._pass)
        self.page: Page = context.new_page()
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        self.page.on("websocket", lambda socket: self._note_socket(socket.url))

    def open(self, path: str = "/") -> Page:
        """Go to a path of the console."""
        self.page.goto(self.base_url + path)
        return self.page

    def violations(self) -> list[str]:
        """What the page's policy refused."""
        found: list[str] = self.page.evaluate("window.seenViolations")
        return found

    def assert_clean(self, *, may_lose_daemon: bool = False) -> None:
        """Fail on errors, on refusals by the page's policy, on requests to elsewhere."""
        errors = [
            text
            for text in self.errors
            if not (may_lose_daemon and any(word in text for word in _UNREACHABLE))
        ]
        assert not errors, errors
        assert not self.violations(), self.violations()
        assert not self.foreign, self.foreign

    def _pass(self, route: Route) -> None:
        url = route.request.url
        self.requests.append(url)
        if self._is_own(url):
            route.continue_()
        else:
            self.foreign.append(url)
            route.abort()

    def _note_socket(self, url: str) -> None:
        self.sockets.append(url)
        if not self._is_own(url):
            self.foreign.append(url)

    def _is_own(self, url: str) -> bool:
        return url.startswith("data:") or urlsplit(url).netloc == urlsplit(self.base_url).netloc

    def _note_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.type}: {message.text}")


@contextlib.contextmanager
def watched(browser: Browser, base_url: str, **options: Any) -> Iterator[Watched]:
    """Open a page; `options` are those of a browser context."""
    context = browser.new_context(**{**_OPTIONS, **options})
    try:
        yield Watched(context, base_url)
    finally:
        context.close()
