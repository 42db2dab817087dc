"""axe-core on a page: what people who do not see or point like others would stumble over."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


@cache
def _source() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


def findings(page: Page) -> list[str]:
    """Return what axe-core finds against WCAG 2.2 A and AA and its own best practices."""
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(_source())
    options = {"runOnly": {"type": "tag", "values": list(_TAGS)}, "resultTypes": ["violations"]}
    result: dict[str, Any] = page.evaluate("options => window.axe.run(document, options)", options)
    assert result["passes"], "axe-core looked at nothing"
    return [
        f"{found['id']}: {found['help']}: {node['target']} {node['failureSummary']}"
        for found in result["violations"]
        for node in found["nodes"]
    ]
