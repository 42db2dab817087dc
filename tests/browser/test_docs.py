"""The viewer at `/docs` in a real browser: it works under the policy, and asks nobody else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from tests.browser.conftest import NewPage
    from tests.browser.fleet import Fleet


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_route_can_be_tried(
    new_page: NewPage, calm: Fleet, scheme: Literal["light", "dark"]
) -> None:
    watched = new_page(calm, color_scheme=scheme)
    page = watched.open("/docs")
    status = page.locator("#operations-State-get_api_v1_status")

    status.get_by_role("button").first.click()
    status.get_by_role("button", name="Try it out").click()
    status.get_by_role("button", name="Execute").click()
    answer = status.locator(".live-responses-table .response").first
    answer.wait_for()

    assert answer.locator(".response-col_status").inner_text().split()[0] == "200"
    shown = json.loads(answer.locator(".microlight code, code").first.inner_text())
    assert shown["schema"] == "sollold.status/1"
    assert page.title() == "sollold API"
    watched.assert_clean()


def test_without_scripts_there_is_the_document(new_page: NewPage, calm: Fleet) -> None:
    watched = new_page(calm, java_script_enabled=False)
    page = watched.open("/docs")

    assert page.locator("noscript").is_visible()
    page.get_by_role("link", name="openapi.json").click()
    page.wait_for_url("**/openapi.json")

    assert '"openapi":"3.1.1"' in page.content()
