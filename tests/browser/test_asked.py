"""What somebody asks the page for is shown, whatever the page holds back for them otherwise."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from threading import Event, Thread
from typing import TYPE_CHECKING

import aiohttp
import pytest
from playwright.sync_api import expect

from sollold.web.console.hub import MAX_VIEWERS
from tests.browser.fleet import Fleet, NodeSpec
from tests.browser.test_live import connection, row, until_live

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests.browser.conftest import NewFleet, NewPage

pytestmark = pytest.mark.browser

SHORT = ("--rate", "500", "--answer-tokens", "3", "--slots", "4")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three nodes, and enough requests for a list that scrolls."""
    specs = [NodeSpec(f"gpu-{number}", SHORT) for number in (1, 2, 3)]
    with Fleet(tmp_path_factory.mktemp("busy"), specs) as fleet:
        fleet.until(lambda: set(fleet.states().values()) == {"up"}, "every node is up")
        for _ in range(40):
            assert fleet.chat("llama3.2") == 200
        yield fleet


@pytest.fixture
def page(busy: Fleet, new_page: NewPage) -> Page:
    """Its page, live."""
    opened = new_page(busy).open()
    until_live(opened)
    return opened


def some_request(fleet: Fleet) -> str:
    events = fleet.get("/api/v1/events?event_type=ROUTE_DECISION&n=20")["events"]
    return str(events[0]["request_id"])


def names(page: Page) -> list[str]:
    return page.locator("#nodes tbody tr .node-name").all_inner_texts()


def test_a_request_is_found_by_who_reads_further_down(busy: Fleet, page: Page) -> None:
    page.locator("#decisions-list").evaluate("list => { list.scrollTop = 200; }")
    wanted = some_request(busy)
    page.locator("#decisions-request").fill(wanted)
    rows = page.locator("#decisions-list li")
    expect(page.locator("#decisions-list")).to_have_attribute("data-request", wanted)
    expect(rows.filter(has_not_text=wanted)).to_have_count(0)
    expect(page.locator("#decisions-newer")).to_be_hidden()
    page.locator("#decisions-request").fill("r-none")
    expect(page.locator("#decisions .empty")).to_contain_text("Nothing is known of a request")


def test_the_id_in_a_row_leads_to_all_about_its_request(page: Page) -> None:
    link = page.locator("#decisions-list a.id").nth(3)
    wanted = link.inner_text()
    link.click()
    expect(page.locator("#decisions-request")).to_have_value(wanted)
    expect(page.locator("#decisions-list li").filter(has_not_text=wanted)).to_have_count(0)
    expect(page.locator("#decisions-list li").first).to_be_visible()


def test_a_paused_page_sorts_filters_and_finds(busy: Fleet, page: Page) -> None:
    page.locator("#pause").click()
    column = page.locator("#nodes th").filter(has=page.locator("#sort-node"))
    page.locator("#sort-node").click()
    expect(column).to_have_attribute("aria-sort", "ascending")
    page.locator("#sort-node").click()
    expect(page.locator("#nodes tbody tr").first).to_have_attribute("data-name", "gpu-3")
    assert names(page) == ["gpu-3", "gpu-2", "gpu-1"]
    page.locator("#nodes-filter").fill("gpu-2")
    expect(row(page, "gpu-1")).to_have_count(0)
    wanted = some_request(busy)
    page.locator("#decisions-request").fill(wanted)
    expect(page.locator("#decisions-list")).to_have_attribute("data-request", wanted)
    expect(connection(page)).to_contain_text("Paused since")
    assert busy.chat("llama3.2") == 200
    expect(page.locator("#decisions-list")).to_have_attribute("data-request", wanted)


def test_sorting_by_keyboard_moves_rows_below_the_pointer(page: Page) -> None:
    page.locator("#nodes tbody tr").first.hover()
    for order in (["gpu-1", "gpu-2", "gpu-3"], ["gpu-3", "gpu-2", "gpu-1"]):
        page.locator("#sort-node").focus()
        page.keyboard.press("Enter")
        first = page.locator("#nodes tbody tr").first
        expect(first).to_have_attribute("data-name", order[0])
        assert names(page) == order
        expect(page.locator("#nodes-resort")).to_be_hidden()


def test_sort_links_keep_what_else_is_in_the_address(page: Page) -> None:
    page.goto(page.url + "?log-level=error&request=r-x")
    until_live(page)
    page.locator("#sort-node").click()
    expect(page).to_have_url(re.compile(r"sort=node"))
    assert "log-level=error" in page.url
    assert "request=r-x" in page.url
    link = page.locator("#sort-node")
    expect(link).to_have_attribute("href", re.compile("sort=-node"))
    expect(link).to_have_attribute("href", re.compile("log-level=error"))
    expect(link).to_have_attribute("href", re.compile("request=r-x"))


def test_a_problem_leads_to_its_node_and_to_the_log(new_fleet: NewFleet, new_page: NewPage) -> None:
    fleet = new_fleet([NodeSpec("gpu-1"), NodeSpec("gpu-2")])
    fleet.until(lambda: set(fleet.states().values()) == {"up"}, "every node is up")
    fleet.nodes["gpu-2"].kill()
    seen = new_page(fleet)
    page = seen.open("/?filter=gpu-1")
    until_live(page)
    page.get_by_role("link", name="Show gpu-2").click()
    expect(row(page, "gpu-2")).to_be_focused()
    expect(page.locator("#nodes-filter")).to_have_value("")
    assert "filter" not in page.url
    page.locator("#nodes-h").focus()
    page.get_by_role("link", name="Show gpu-2").click()
    expect(row(page, "gpu-2")).to_be_focused()
    page.get_by_role("link", name="Logs of the nodes").click()
    expect(page.locator("#log-h")).to_be_focused()
    expect(page.locator("#log-source")).to_have_value("nodes")
    expect(page.locator("#log-state")).to_have_text("Live")
    expect(page.locator("#log-list .log-source").first).to_contain_text("nodes")
    seen.assert_clean()


def test_one_page_too_many_says_so(busy: Fleet, new_page: NewPage) -> None:
    is_held, is_over = Event(), Event()

    async def hold() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, AsyncExitStack() as stack:
            for _ in range(MAX_VIEWERS):
                await stack.enter_async_context(session.ws_connect(f"{busy.url}/ws/console"))
            is_held.set()
            await asyncio.to_thread(is_over.wait)

    holder = Thread(target=asyncio.run, args=(hold(),))
    holder.start()
    try:
        assert is_held.wait(20)
        page = new_page(busy).open()
        expect(connection(page)).to_have_text(
            f"Polling every 5 s ({MAX_VIEWERS} pages are open already)", timeout=15_000
        )
    finally:
        is_over.set()
        holder.join()


def test_a_time_of_another_day_comes_with_the_day(busy: Fleet, new_page: NewPage) -> None:
    seen = new_page(busy)
    page = seen.open()
    until_live(page)
    clock = page.locator("#decisions-list time").first
    expect(clock).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    seen.page.clock.install(time=page.evaluate("Date.now() + 86400000"))
    page = seen.open()
    expect(clock).to_have_text(re.compile(r"^\d{1,2} [A-Z][a-z]{2} (\d{4} )?\d\d:\d\d:\d\d$"))


def test_no_dot_ends_a_line_of_the_header(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    loose = """() => {
      const box = document.querySelector(".counts").getBoundingClientRect();
      return [...document.querySelectorAll(".counts > span")].filter((item) => {
        const after = getComputedStyle(item, "::after").content;
        const dot = parseFloat(getComputedStyle(item, "::before").insetInlineStart);
        const start = item.getBoundingClientRect().left;
        const isFirst = start < box.left;
        return after.includes("·") || (isFirst && start + dot + 8 > box.left);
      }).length;
    }"""
    assert page.evaluate(loose) == 0
    assert page.evaluate("getComputedStyle(document.querySelector('.counts')).overflowX") == "clip"
