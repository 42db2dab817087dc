"""The page by keyboard alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.test_live import connection, row, until_live

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import NewPage
    from tests.browser.fleet import Fleet

pytestmark = pytest.mark.browser


@pytest.fixture
def page(calm: Fleet, new_page: NewPage) -> Page:
    """The page of a fleet that is well, live."""
    opened = new_page(calm, color_scheme="light").open()
    until_live(opened)
    return opened


def test_the_first_stop_skips_to_the_nodes(page: Page) -> None:
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to nodes")
    expect(skip).to_be_focused()
    box = skip.bounding_box()
    assert box is not None
    assert box["y"] >= 0
    page.keyboard.press("Enter")
    expect(page.locator("#nodes-h")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#nodes-filter")).to_be_focused()


def test_every_stop_is_seen_and_none_is_a_trap(page: Page) -> None:
    hidden = """() => {
      const item = document.activeElement;
      if (!item || item === document.body) return "";
      const box = item.getBoundingClientRect();
      const top = document.querySelector(".top").getBoundingClientRect();
      const style = getComputedStyle(item);
      const name = `${item.tagName}#${item.id} ${item.textContent.slice(0, 20)}`;
      if (box.width === 0 || box.height === 0) return `${name} is not seen`;
      const isOnTop = item.closest(".top, .skip");
      if (!isOnTop && box.bottom <= top.bottom) return `${name} lies under the header`;
      const ring = parseFloat(style.outlineWidth);
      if (!(ring >= 3) || style.outlineStyle === "none") return `${name} has no ring`;
      return "";
    }"""
    stops: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            "document.activeElement === document.body ? '' :"
            "document.activeElement.outerHTML.slice(0, 120)"
        )
        if not stop or stop in stops:
            break
        assert page.evaluate(hidden) == ""
        stops.append(stop)
    else:
        pytest.fail("there is no end of stops")
    assert len(stops) > 12
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement !== document.body")


def test_a_question_mark_lists_the_keys_and_esc_closes(page: Page) -> None:
    page.locator("#nodes-h").focus()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    listed = dialog.locator("dt").all_inner_texts()
    assert [text.replace(" ", "") for text in listed if text.startswith("g")] == [
        "go", "gn", "gm", "ge", "gl",
    ]  # fmt: skip
    page.keyboard.press("p")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("#nodes-h")).to_be_focused()
    expect(connection(page)).to_have_text("Live")


def test_single_keys_can_be_turned_off_for_good(page: Page) -> None:
    page.keyboard.press("?")
    page.get_by_label("Single keys do something here").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    page.keyboard.press("t")
    expect(connection(page)).to_have_text("Live")
    page.reload()
    until_live(page)
    page.keyboard.press("p")
    page.keyboard.press("?")
    expect(connection(page)).to_have_text("Live")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.locator("#keys").click()
    page.get_by_label("Single keys do something here").check()
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    expect(connection(page)).to_contain_text("Paused")


def test_a_slash_filters_and_esc_clears(page: Page) -> None:
    page.keyboard.press("/")
    box = page.locator("#nodes-filter")
    expect(box).to_be_focused()
    page.keyboard.type("gpu-2jkpt?")
    expect(box).to_have_value("gpu-2jkpt?")
    expect(page.locator("#nodes")).to_contain_text("No node matches 'gpu-2jkpt?'")
    for _ in range(5):
        page.keyboard.press("Backspace")
    expect(row(page, "gpu-2")).to_be_visible()
    expect(row(page, "gpu-1")).to_have_count(0)
    assert "filter=gpu-2" in page.url
    page.reload()
    expect(row(page, "gpu-1")).to_have_count(0)
    expect(row(page, "gpu-2")).to_be_visible()
    until_live(page)
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    expect(row(page, "gpu-1")).to_be_visible()
    expect(box).to_have_value("")
    assert "filter=" not in page.url


def test_j_and_k_walk_the_rows(page: Page) -> None:
    for key, name in (("j", "gpu-1"), ("j", "gpu-2"), ("j", "mac-mini"), ("k", "gpu-2")):
        page.keyboard.press(key)
        expect(row(page, name)).to_be_focused()


def test_p_pauses_and_goes_on(page: Page) -> None:
    page.keyboard.press("p")
    expect(connection(page)).to_contain_text("Paused since")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("p")
    expect(connection(page)).to_have_text("Live")


def test_t_changes_the_theme(page: Page) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    seen = {page.evaluate(colour)}
    for _ in range(2):
        page.keyboard.press("t")
        seen.add(page.evaluate(colour))
    assert len(seen) == 2
    page.keyboard.press("t")
    expect(page.locator("#theme")).to_have_value("auto")


def test_g_goes_to_panels(page: Page) -> None:
    for key, heading in (
        ("n", "#nodes-h"), ("e", "#decisions-h"), ("m", "#loaded-h"), ("l", "#log-h"),
    ):  # fmt: skip
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.locator(heading)).to_be_focused()
        expect(page.locator(heading)).to_be_in_viewport()


def test_keys_with_a_modifier_belong_to_the_browser(page: Page) -> None:
    for key in ("Control+p", "Alt+t", "Control+j"):
        page.evaluate(
            "addEventListener('keydown', (event) => event.preventDefault(), {once: true})"
        )
        page.keyboard.press(key)
    expect(connection(page)).to_have_text("Live")
