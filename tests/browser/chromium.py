"""Debian's Chromium, driven without a window; it reaches nothing but this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")

_ARGUMENTS = (
    "--disable-dev-shm-usage",  # a bare root has no /dev/shm
    "--disable-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--force-color-profile=srgb",
)


def find_chromium() -> str | None:
    """Return the browser's path; None: there is none."""
    named = os.environ.get("SOLLOLD_TEST_CHROMIUM")
    found = (shutil.which(name) for name in ((named,) if named else _NAMES))
    return next((path for path in found if path), None)


@contextlib.contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """Run the browser."""
    # Its sandbox refuses to run as root.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*_ARGUMENTS, *sandbox])
        try:
            yield browser
        finally:
            browser.close()
