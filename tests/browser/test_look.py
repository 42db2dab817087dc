"""Widths, themes, forced colours, names of any length; and what axe-core finds: nothing."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

import pytest
from playwright.sync_api import expect

from tests.browser.axe import findings
from tests.browser.fleet import Fleet, NodeSpec
from tests.browser.test_live import row, until_live

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests.browser.conftest import NewPage

pytestmark = pytest.mark.browser

LONG = "a-node-with-a-name-of-sixty-characters-that-nobody-ever-type"
LONG_MODEL = "a-model-with-a-name-of-sixty-characters-or-more:70b-instruct-q4_K_M"
MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = f"{MARKUP}\u202etxt.exe\x1b[31m"
WIDTHS = (320, 360, 768, 1280)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
THEMES: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "forced": {"forced_colors": "active"},
}


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One node of four is down, others have names that try a page; requests run, wait and fail."""
    specs = (
        NodeSpec("gpu-1", ("--rate", "5", "--answer-tokens", "4000"), tier=1),
        NodeSpec(LONG, ("--models", LONG_MODEL)),
        NodeSpec("odd", ("--models", "mistral:7b", "--version", MARKUP)),
        NodeSpec("pi-5", ("--models", "phi3:mini")),
    )
    with Fleet(tmp_path_factory.mktemp("troubled"), specs) as fleet:
        fleet.until(lambda: set(fleet.states().values()) == {"up"}, "every node is up")
        fleet.nodes["pi-5"].kill()
        fleet.until(lambda: fleet.states()["pi-5"] == "down", "one is down")
        assert fleet.chat(HOSTILE) == 400
        assert fleet.chat(LONG_MODEL) == 200
        with closing(fleet.stream("llama3.2")), closing(fleet.request("llama3.2")):
            yield fleet


def open_everything(page: Page) -> None:
    """Wait until every panel is live."""
    until_live(page)
    page.locator("#log").scroll_into_view_if_needed()
    expect(page.locator("#log-state")).to_have_text("Live")


def overflow(page: Page) -> list[str]:
    """What is wider than the window, unless it scrolls by itself."""
    found: list[str] = page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= width) return [];
          return [...document.querySelectorAll("body *")]
            .filter((item) => item.getBoundingClientRect().right > width + 1)
            .map((item) => `${item.tagName}#${item.id}.${item.className}`);
        }"""
    )
    return found


@pytest.mark.parametrize("name", ["troubled", "empty"])
def test_nothing_is_wider_than_the_window(
    request: pytest.FixtureRequest, new_page: NewPage, name: str
) -> None:
    seen = new_page(request.getfixturevalue(name))
    page = seen.open()
    open_everything(page)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert overflow(page) == [], width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    seen.assert_clean()


@pytest.mark.parametrize("name", ["calm", "troubled", "empty"])
def test_axe_finds_nothing(request: pytest.FixtureRequest, new_page: NewPage, name: str) -> None:
    seen = new_page(request.getfixturevalue(name))
    page = seen.open()
    open_everything(page)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        assert findings(page) == [], scheme
    if name == "troubled":
        page.emulate_media(forced_colors="active")
        assert findings(page) == []
    seen.assert_clean()


def test_axe_finds_nothing_in_the_list_of_keys(calm: Fleet, new_page: NewPage) -> None:
    page = new_page(calm).open()
    until_live(page)
    page.keyboard.press("?")
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        assert findings(page) == [], scheme


def test_axe_finds_nothing_on_a_small_screen(troubled: Fleet, new_page: NewPage) -> None:
    page = new_page(troubled, viewport={"width": 360, "height": 740}, has_touch=True).open()
    until_live(page)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        assert findings(page) == [], scheme


def test_axe_finds_nothing_when_the_connection_is_lost(calm: Fleet, new_page: NewPage) -> None:
    seen = new_page(calm)
    seen.page.clock.install()
    page = seen.open()
    until_live(page)
    seen.context.set_offline(offline=True)
    page.clock.fast_forward(30_000)
    expect(row(page, "gpu-1").locator(".state")).to_have_text("unknown (was up)")
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        assert findings(page) == [], scheme


def test_the_description_of_the_api_is_shown_and_fetches_nothing_from_elsewhere(
    calm: Fleet, new_page: NewPage
) -> None:
    seen = new_page(calm)
    page = seen.open("/docs")
    expect(page.get_by_text("/api/v1/logs", exact=True).first).to_be_visible()
    assert seen.foreign == []
    assert seen.violations() == []
    assert [text for text in seen.errors if text.startswith(("error", "uncaught"))] == []


def test_states_are_shapes_and_words_in_any_colours(troubled: Fleet, new_page: NewPage) -> None:
    for options in THEMES.values():
        page = new_page(troubled, **options).open()
        until_live(page)
        for state in ("up", "down"):
            cell = page.locator(f'#nodes tr[data-state="{state}"] .state').first
            expect(cell).to_contain_text(state)
            box = cell.locator("svg").bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 8


def test_what_others_write_is_only_text(troubled: Fleet, new_page: NewPage) -> None:
    seen = new_page(troubled)
    seen.page.on("dialog", lambda dialog: seen.errors.append(f"dialog: {dialog.message}"))
    page = seen.open()
    until_live(page)
    troubled.chat(HOSTILE)
    troubled.log(f"{MARKUP}.example")
    page.locator("#log").scroll_into_view_if_needed()
    for panel in ("#nodes", "#log-list"):
        expect(page.locator(panel)).to_contain_text(MARKUP)
    assert page.locator("img").count() == 0
    text = page.locator("body").inner_text()
    assert "\u202e" not in text
    assert "\x1b" not in text
    seen.assert_clean()


def test_the_theme_is_chosen_kept_and_set_before_anything_is_seen(
    calm: Fleet, new_page: NewPage
) -> None:
    seen = new_page(calm, color_scheme="light")
    page = seen.open()
    until_live(page)
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.locator("#theme").select_option("dark")
    dark = page.evaluate(colour)
    assert dark != light
    page.reload(wait_until="commit")
    page.wait_for_selector("body")
    assert page.evaluate(colour) == dark
    seen.assert_clean()
