"""What the page shows of a fleet that changes, and how soon; what it says when it is cut off."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import CALM
from tests.browser.fleet import NodeSpec

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, WebSocketRoute

    from tests.browser.conftest import NewFleet, NewPage
    from tests.browser.fleet import Fleet

pytestmark = pytest.mark.browser

TWO = (NodeSpec("gpu-1"), NodeSpec("pi-5"))
SOON_MS = 2000
RECONNECTED_MS = 20_000


def row(page: Page, name: str) -> Locator:
    """A node's row."""
    return page.locator(f'#nodes tr[data-name="{name}"]')


def connection(page: Page) -> Locator:
    """Where the page says how it is connected."""
    return page.locator("#connection")


def until_live(page: Page, limit_ms: int = 8000) -> None:
    expect(connection(page)).to_have_text("Live", timeout=limit_ms)


def settled(fleet: Fleet) -> Fleet:
    fleet.until(lambda: set(fleet.states().values()) == {"up"}, "every node is up")
    return fleet


def test_a_killed_node_is_shown_as_down_within_two_seconds(
    new_fleet: NewFleet, new_page: NewPage
) -> None:
    fleet = settled(new_fleet(TWO))
    seen = new_page(fleet)
    page = seen.open()
    until_live(page)
    expect(row(page, "pi-5").locator(".state .word")).to_have_text("up")
    started_s = time.monotonic()
    fleet.nodes["pi-5"].kill()
    expect(row(page, "pi-5").locator(".state .word")).to_have_text("down", timeout=SOON_MS)
    assert time.monotonic() - started_s < SOON_MS / 1000
    expect(row(page, "pi-5").locator(".reason")).to_contain_text("connection refused")
    problem = page.locator("#attention .problem")
    expect(problem).to_contain_text("pi-5")
    expect(problem).to_contain_text("connection refused")
    expect(page.locator("#head")).to_contain_text("1 of 2 nodes usable")
    expect(page).to_have_title(re.compile("^1 problem"))
    expect(page.locator("#changes")).to_contain_text("pi-5")
    expect(page.locator("#announcer")).to_contain_text("pi-5", timeout=12_000)
    fleet.nodes["pi-5"].start()
    expect(row(page, "pi-5").locator(".state .word")).to_have_text("up")
    expect(page.locator("#attention")).to_be_hidden()
    seen.assert_clean()


def test_running_requests_appear_age_and_go(calm: Fleet, new_page: NewPage) -> None:
    seen = new_page(calm)
    page = seen.open()
    until_live(page)
    expect(page.locator("#requests")).to_contain_text("No requests running or waiting")
    with closing(calm.stream("llama3.2")):
        line = page.locator("#requests tbody tr")
        expect(line).to_have_count(1)
        expect(line).to_contain_text("llama3.2")
        expect(line).to_contain_text("generating")
        age = line.locator(".age")
        before = float(age.inner_text().split()[0])
        expect(age).not_to_have_text(age.inner_text(), timeout=3000)
        assert float(age.inner_text().split()[0]) > before
        expect(page.locator("#head")).to_contain_text("1 running")
        expect(page.locator("#decisions-list li").first).to_contain_text("llama3.2")
    expect(page.locator("#requests")).to_contain_text("Last one finished")
    seen.assert_clean()


def test_a_restarted_daemon_is_waited_for_and_shown_anew(
    new_fleet: NewFleet, new_page: NewPage
) -> None:
    fleet = settled(new_fleet(TWO))
    seen = new_page(fleet)
    page = seen.open()
    until_live(page)
    daemon = fleet.daemon
    assert daemon.stop() == 0
    expect(page.locator("#notice")).to_have_text("sollold is restarting")
    expect(connection(page)).to_contain_text("Reconnecting, data from")
    fleet.nodes["pi-5"].kill()
    daemon.start()
    until_live(page, RECONNECTED_MS)
    expect(page.locator("#notice")).to_be_hidden()
    expect(row(page, "pi-5").locator(".state .word")).to_have_text("down")
    expect(row(page, "gpu-1").locator(".state .word")).to_have_text("up")
    seen.assert_clean(may_lose_daemon=True)


def test_a_daemon_that_vanishes_is_told_from_one_that_restarts(
    new_fleet: NewFleet, new_page: NewPage
) -> None:
    fleet = settled(new_fleet(TWO))
    seen = new_page(fleet)
    page = seen.open()
    until_live(page)
    fleet.daemon.kill()
    said = connection(page)
    expect(said).to_have_text(
        re.compile(r"^Reconnecting, data from \d\d:\d\d:\d\d \(\d+ s ago\)$"), timeout=10_000
    )
    assert "restarting" not in page.locator("body").inner_text()
    fleet.daemon.start()
    until_live(page, RECONNECTED_MS)
    seen.assert_clean(may_lose_daemon=True)


def test_what_is_old_is_not_shown_as_if_it_were_true(
    new_fleet: NewFleet, new_page: NewPage
) -> None:
    fleet = settled(new_fleet(TWO))
    seen = new_page(fleet)
    seen.page.clock.install()
    page = seen.open()
    until_live(page)
    page.locator("#log").scroll_into_view_if_needed()
    expect(page.locator("#log-state")).to_have_text("Live")
    cell = row(page, "gpu-1").locator("td.num").first
    colour = "element => getComputedStyle(element).color"
    bright = cell.evaluate(colour)
    pid = fleet.daemon.group.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        page.clock.fast_forward(20_000)
        expect(row(page, "gpu-1").locator(".state")).to_have_text("unknown (was up)")
        assert cell.evaluate(colour) != bright
        expect(connection(page)).to_contain_text(re.compile(r"\(\d+ s ago\)"))
        expect(connection(page)).not_to_contain_text("Live")
        expect(page.locator("#log-state")).to_contain_text("Reconnecting, lines until")
        expect(page.locator("#head .verdict")).to_have_text("unknown (was serving)")
        expect(page.locator("#head use")).to_have_attribute("href", "#shape-unknown")
        expect(page).to_have_title("lost · sollold")
        expect(page.locator("#icon")).to_have_attribute("href", re.compile("icons/unknown"))
    finally:
        os.kill(pid, signal.SIGCONT)
    page.clock.fast_forward(20_000)
    expect(row(page, "gpu-1").locator(".state")).to_have_text("up", timeout=RECONNECTED_MS)
    assert cell.evaluate(colour) == bright
    expect(page.locator("#log-state")).to_have_text("Live")
    expect(page.locator("#head .verdict")).to_have_text("Serving")
    expect(page).to_have_title("sollold")
    expect(page.locator("#icon")).to_have_attribute("href", re.compile("icons/up"))
    seen.assert_clean(may_lose_daemon=True)


def test_a_hidden_tab_says_that_its_daemon_is_dead(new_fleet: NewFleet, new_page: NewPage) -> None:
    fleet = settled(new_fleet(TWO))
    seen = new_page(fleet)
    seen.page.clock.install()
    page = seen.open()
    until_live(page)
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    fleet.daemon.kill()
    page.clock.fast_forward(20_000)
    expect(page).to_have_title("lost · sollold")
    expect(page.locator("#icon")).to_have_attribute("href", re.compile("icons/unknown"))
    expect(page.locator("#head .verdict")).to_have_text("unknown (was serving)")
    fleet.daemon.start()
    expect(page).to_have_title("sollold", timeout=RECONNECTED_MS)
    seen.assert_clean(may_lose_daemon=True)


def test_a_paused_page_says_that_it_lost_the_connection(
    new_fleet: NewFleet, new_page: NewPage
) -> None:
    fleet = settled(new_fleet(TWO))
    seen = new_page(fleet)
    seen.page.clock.install()
    page = seen.open()
    until_live(page)
    page.locator("#log").scroll_into_view_if_needed()
    expect(page.locator("#log-state")).to_have_text("Live")
    page.locator("#pause").click()
    expect(connection(page)).to_contain_text("Paused since")
    fleet.daemon.kill()
    expect(connection(page)).to_have_text("Paused, connection lost")
    expect(page.locator("#log-state")).to_contain_text("Paused, connection lost, lines until")
    fleet.daemon.start()
    page.clock.fast_forward(16_000)
    expect(connection(page)).to_contain_text("Paused since", timeout=RECONNECTED_MS)
    seen.assert_clean(may_lose_daemon=True)


def test_a_restart_that_never_comes_is_a_loss(new_fleet: NewFleet, new_page: NewPage) -> None:
    fleet = settled(new_fleet(TWO))
    seen = new_page(fleet)
    seen.page.clock.install()
    page = seen.open()
    until_live(page)
    page.locator("#log").scroll_into_view_if_needed()
    expect(page.locator("#log-state")).to_have_text("Live")
    assert fleet.daemon.stop() == 0
    expect(page.locator("#notice")).to_have_text("sollold is restarting")
    page.clock.fast_forward(20_000)
    expect(page.locator("#notice")).to_be_hidden()
    expect(connection(page)).to_contain_text("Reconnecting, data from")
    expect(page.locator("#log-state")).to_contain_text("Reconnecting, lines until")
    seen.assert_clean(may_lose_daemon=True)


def test_without_a_socket_the_page_asks_every_five_seconds(
    new_fleet: NewFleet, new_page: NewPage
) -> None:
    fleet = settled(new_fleet(TWO))
    seen = new_page(fleet)
    seen.page.clock.install()
    seen.context.route_web_socket(re.compile("/ws/"), lambda socket: socket.close(code=1011))
    page = seen.open()
    expect(connection(page)).to_contain_text("Polling every 5 s", timeout=15_000)
    fleet.nodes["pi-5"].kill()
    fleet.until(lambda: fleet.states()["pi-5"] == "down", "the daemon knows")
    page.clock.fast_forward(6000)
    expect(row(page, "pi-5").locator(".state .word")).to_have_text("down")
    expect(connection(page)).to_contain_text("Polling every 5 s")
    seen.assert_clean(may_lose_daemon=True)


def test_an_updated_daemon_is_noted_and_nothing_is_reloaded(calm: Fleet, new_page: NewPage) -> None:
    seen = new_page(calm)

    def pretend(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            said = json.loads(message)
            if said.get("type") == "hello":
                said["version"] = "99.1.2"
            route.send(json.dumps(said))

        server.on_message(pass_on)

    seen.context.route_web_socket(re.compile("/ws/console"), pretend)
    page = seen.open()
    notice = page.locator("#notice")
    expect(notice).to_contain_text("sollold was updated to 99.1.2")
    page.evaluate("window.isStillHere = true")
    with page.expect_navigation():
        notice.get_by_text("Reload").click()
    assert page.evaluate("window.isStillHere === undefined")
    seen.assert_clean()


def test_pause_holds_every_panel_and_resuming_jumps_to_the_present(
    new_fleet: NewFleet, new_page: NewPage
) -> None:
    fleet = settled(new_fleet(TWO))
    seen = new_page(fleet)
    page = seen.open()
    until_live(page)
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(connection(page)).to_contain_text("Paused")
    fleet.nodes["pi-5"].kill()
    expect(page).to_have_title(re.compile("^1 problem"))  # the title goes on: it is seen in tabs
    expect(row(page, "pi-5").locator(".state .word")).to_have_text("up")
    page.locator("#pause").click()
    expect(row(page, "pi-5").locator(".state .word")).to_have_text("down")
    until_live(page)
    seen.assert_clean()


def test_focus_and_selection_outlive_updates(calm: Fleet, new_page: NewPage) -> None:
    seen = new_page(calm)
    page = seen.open()
    until_live(page)
    link = page.locator("#nodes thead a").nth(2)
    link.focus()
    page.evaluate(
        "window.focusLost = 0;"
        "document.addEventListener('focusout', () => { window.focusLost += 1; })"
    )
    for _ in range(3):
        with closing(calm.stream("llama3.2")):
            expect(page.locator("#requests tbody tr")).to_have_count(1)
        expect(page.locator("#requests tbody tr")).to_have_count(0)
    expect(link).to_be_focused()
    assert page.evaluate("window.focusLost") == 0
    seen.assert_clean()


def test_the_page_is_whole_without_scripts(calm: Fleet, new_page: NewPage) -> None:
    seen = new_page(calm, java_script_enabled=False)
    page = seen.open()
    for name in (spec.name for spec in CALM):
        expect(row(page, name)).to_contain_text("up")
    expect(page.locator("noscript .made")).to_contain_text("Made at")
    assert seen.errors == []
    assert seen.foreign == []
