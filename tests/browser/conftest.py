"""A browser for all tests, fleets for those that break nothing, and pages that are watched."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.browser.chromium import chromium, find_chromium
from tests.browser.fleet import Fleet, NodeSpec
from tests.browser.watched import Watched, watched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import Browser

CALM = (
    NodeSpec("gpu-1", ("--rate", "20", "--answer-tokens", "4000", "--slots", "4")),
    NodeSpec("gpu-2", ("--rate", "20", "--answer-tokens", "4000", "--slots", "4")),
    NodeSpec("mac-mini", ("--models", "gemma2:9b,nomic-embed-text")),
)


class NewFleet(Protocol):
    """Starts a fleet that ends with the test."""

    def __call__(self, specs: Sequence[NodeSpec], *, config: str = "") -> Fleet:
        """Return the fleet once its daemon answers."""


class NewPage(Protocol):
    """Opens a watched page."""

    def __call__(self, fleet: Fleet, **options: Any) -> Watched:
        """Return a page before a fleet; `options` are those of a browser context."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, once for all tests."""
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name it in "
                    "SOLLOLD_TEST_CHROMIUM")  # fmt: skip
    with chromium(path) as running:
        yield running


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Open pages that close with the test."""
    with contextlib.ExitStack() as stack:

        def make(fleet: Fleet, **options: Any) -> Watched:
            return stack.enter_context(watched(browser, fleet.url, **options))

        yield make


@pytest.fixture
def new_fleet(tmp_path: Path) -> Iterator[NewFleet]:
    """Start fleets of the test's own."""
    with contextlib.ExitStack() as stack:
        count = 0

        def make(specs: Sequence[NodeSpec], *, config: str = "") -> Fleet:
            nonlocal count
            count += 1
            fleet = Fleet(tmp_path / f"fleet{count}", specs, config=config)
            return stack.enter_context(fleet)

        yield make


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three nodes that are well; nobody breaks them."""
    with Fleet(tmp_path_factory.mktemp("calm"), CALM) as fleet:
        fleet.until(lambda: set(fleet.states().values()) == {"up"}, "every node is up")
        yield fleet


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A daemon that knows no node."""
    with Fleet(tmp_path_factory.mktemp("empty"), ()) as fleet:
        yield fleet
