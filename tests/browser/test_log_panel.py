"""The panel with the daemon's own log lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.fleet import NodeSpec
from tests.browser.test_live import connection, settled, until_live

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.browser.conftest import NewFleet, NewPage
    from tests.browser.fleet import Fleet

pytestmark = pytest.mark.browser

MOST_LINES = 500


def open_log(page: Page) -> Locator:
    """Bring the panel near and wait until it is live; its lines."""
    page.locator("#log").scroll_into_view_if_needed()
    expect(page.locator("#log-state")).to_have_text("Live")
    return page.locator("#log-list > li")


def is_at_end(page: Page) -> bool:
    """Whether the newest line is the one that is seen."""
    end = "box => box.scrollHeight - box.scrollTop - box.clientHeight < 5"
    return bool(page.locator("#log-lines").evaluate(end))


def test_lines_are_shown_as_they_are_logged(calm: Fleet, new_page: NewPage) -> None:
    seen = new_page(calm, viewport={"width": 1280, "height": 400})
    page = seen.open()
    until_live(page)
    assert not any("/ws/logs" in url for url in seen.sockets)
    lines = open_log(page)
    expect(page.locator("#log-list")).to_contain_text("serves on")
    calm.log("somebody.example")
    line = lines.filter(has_text="somebody.example").first
    expect(line).to_be_visible()
    assert is_at_end(page)
    expect(line.locator(".log-level .word")).to_have_text("warning")
    expect(line.locator(".log-level svg")).to_be_visible()
    expect(line.locator(".log-source")).to_have_text("web.edge")
    expect(line.locator("time")).to_have_text(re.compile(r"^\d\d:\d\d:\d\d\.\d{3}$"))
    seen.assert_clean()


def test_a_line_leads_to_the_decisions_about_its_request(calm: Fleet, new_page: NewPage) -> None:
    assert calm.chat("llama3.2", options={"num_predict": 1}) == 200
    seen = new_page(calm)
    page = seen.open()
    lines = open_log(page)
    link = lines.filter(has_text="request route=").last.get_by_role("link")
    expect(link).to_have_accessible_name(re.compile("^Decisions about r-"))
    wanted = link.inner_text()
    link.click()
    expect(page.locator("#decisions-request")).to_have_value(wanted)
    expect(page.locator("#decisions-list li").first).to_contain_text("llama3.2")
    seen.assert_clean()


def test_level_and_source_choose_lines_and_are_kept_in_the_address(
    calm: Fleet, new_page: NewPage
) -> None:
    seen = new_page(calm)
    page = seen.open()
    lines = open_log(page)
    expect(lines.filter(has_text="serves on")).to_have_count(1)
    page.get_by_label("Source").fill("nodes")
    expect(lines.filter(has_text="serves on")).to_have_count(0)
    expect(lines.filter(has_text="joined").first).to_be_visible()
    assert "log-source=nodes" in page.url
    page.reload()
    open_log(page)
    expect(page.get_by_label("Source")).to_have_value("nodes")
    expect(lines.filter(has_text="joined").first).to_be_visible()
    expect(lines.filter(has_text="serves on")).to_have_count(0)
    page.get_by_label("From level").select_option("critical")
    expect(page.locator("#log-empty")).to_contain_text("No line of level critical from 'nodes'")
    expect(lines).to_have_count(0)
    page.get_by_label("Source").press("Escape")
    expect(page.get_by_label("Source")).to_have_value("")
    page.get_by_label("From level").select_option("info")
    expect(lines.filter(has_text="serves on")).to_have_count(1)
    assert "log-" not in page.url
    seen.assert_clean()


def test_paused_lines_wait_and_are_counted(calm: Fleet, new_page: NewPage) -> None:
    seen = new_page(calm)
    page = seen.open()
    lines = open_log(page)
    pause = page.get_by_role("button", name="Pause the log")
    pause.focus()
    page.keyboard.press("Enter")
    expect(pause).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#log-state")).to_contain_text("Paused since")
    before = lines.count()
    calm.log("while-paused")
    newer = page.get_by_role("button", name=re.compile(r"^\d+ newer, show$"))
    expect(newer).to_be_visible()
    assert lines.count() == before
    newer.click()
    expect(lines.filter(has_text="while-paused")).not_to_have_count(0)
    expect(newer).to_be_hidden()
    expect(page.locator("#log-lines")).to_be_focused()
    calm.log("still-paused")
    expect(newer).to_be_visible()
    pause.click()
    expect(lines.filter(has_text="still-paused")).not_to_have_count(0)
    expect(page.locator("#log-state")).to_have_text("Live")
    seen.assert_clean()


def test_the_pause_of_the_page_holds_the_log_too(calm: Fleet, new_page: NewPage) -> None:
    page = new_page(calm).open()
    until_live(page)
    lines = open_log(page)
    page.keyboard.press("p")
    expect(page.locator("#log-state")).to_contain_text("Paused since")
    calm.log("page-paused")
    expect(page.locator("#log-newer")).to_be_visible()
    page.keyboard.press("p")
    expect(lines.filter(has_text="page-paused")).not_to_have_count(0)


def test_who_reads_further_up_is_not_moved(calm: Fleet, new_page: NewPage) -> None:
    for number in range(30):
        calm.log(f"filler-{number}")
    seen = new_page(calm)
    page = seen.open()
    lines = open_log(page)
    box = page.locator("#log-lines")
    expect(lines.last).to_be_in_viewport()
    box.focus()
    page.keyboard.press("Home")
    expect(box).to_have_js_property("scrollTop", 0)
    calm.log("far-below")
    expect(page.locator("#log-newer")).to_be_visible()
    expect(box).to_have_js_property("scrollTop", 0)
    page.keyboard.press("End")
    expect(lines.filter(has_text="far-below")).not_to_have_count(0)
    expect(page.locator("#log-newer")).to_be_hidden()
    seen.assert_clean()


def test_so_many_lines_are_kept_and_no_more(new_fleet: NewFleet, new_page: NewPage) -> None:
    fleet = settled(new_fleet([NodeSpec("gpu-1")]))
    seen = new_page(fleet)
    page = seen.open()
    lines = open_log(page)
    first = lines.count()
    for number in range(MOST_LINES):
        fleet.log(f"filler-{number}")
    expect(lines.filter(has_text=f"filler-{MOST_LINES - 1}")).not_to_have_count(0)
    assert first < MOST_LINES
    expect(lines).to_have_count(MOST_LINES)
    seen.assert_clean()


def test_a_lost_daemon_is_said_and_no_line_comes_twice(
    new_fleet: NewFleet, new_page: NewPage
) -> None:
    fleet = settled(new_fleet([NodeSpec("gpu-1")]))
    seen = new_page(fleet)
    page = seen.open()
    lines = open_log(page)
    said = page.locator("#log-state")
    assert fleet.daemon.stop() == 0
    expect(said).to_have_text(re.compile(r"^sollold is restarting, lines until \d\d:\d\d:\d\d$"))
    fleet.daemon.start()
    expect(said).to_have_text("Live", timeout=20_000)
    expect(lines.filter(has_text="serves on")).to_have_count(2)
    seen.assert_clean(may_lose_daemon=True)


def test_without_a_socket_the_log_is_asked_for(calm: Fleet, new_page: NewPage) -> None:
    seen = new_page(calm)
    seen.page.clock.install()
    seen.context.route_web_socket(re.compile("/ws/"), lambda socket: socket.close(code=1011))
    page = seen.open()
    page.locator("#log").scroll_into_view_if_needed()
    expect(page.locator("#log-state")).to_have_text("Polling every 5 s")
    lines = page.locator("#log-list > li")
    calm.log("seen-by-asking")
    page.clock.fast_forward(6000)
    expect(lines.filter(has_text="seen-by-asking")).not_to_have_count(0)
    expect(lines.filter(has_text="serves on")).to_have_count(1)
    expect(connection(page)).to_contain_text("Polling every 5 s")
    seen.assert_clean()
