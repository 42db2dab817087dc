"""The console's HTML as a test reads it: elements with their text, and panels without a daemon."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import aiohttp_jinja2
from aiohttp import web

from sollold.core.model import Fleet
from sollold.events.bus import EventBus
from sollold.web.console.panels import Panels, compile_all, environment_settings
from sollold.web.console.view import View
from tests.unit.ctl.documents import DEGRADED, NODES, REQUESTS

if TYPE_CHECKING:
    from sollold.api_types import NodesDocument, RequestsDocument, StatusDocument
    from sollold.core.model import NodeView

NOW_S = 1_795_252_443.0
_VOID = frozenset({"meta", "link", "input", "br", "hr", "img"})


class Element:
    """One element of a page."""

    def __init__(self, tag: str, attributes: dict[str, str | None], parent: Element | None) -> None:
        self.tag = tag
        self.attributes = attributes
        self.parent = parent
        self.parts: list[Element | str] = []

    def __getitem__(self, name: str) -> str:
        return self.attributes[name] or ""

    @property
    def text(self) -> str:
        """All text in it, blanks joined."""
        return " ".join("".join(self._texts()).split())

    def _texts(self) -> list[str]:
        found: list[str] = []
        for part in self.parts:
            found += [part] if isinstance(part, str) else part._texts()
        return found

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Elements below it; `class_` asks for one of the classes."""
        found: list[Element] = []
        for part in self.parts:
            if isinstance(part, Element):
                if part._fits(tag, attributes):
                    found.append(part)
                found += part.all(tag, **attributes)
        return found

    def one(self, tag: str = "", **attributes: str) -> Element:
        """The only one."""
        (found,) = self.all(tag, **attributes)
        return found

    def _fits(self, tag: str, wanted: dict[str, str]) -> bool:
        if tag and tag != self.tag:
            return False
        for name, value in wanted.items():
            own = self.attributes.get(name.rstrip("_")) or ""
            if value not in (own.split() if name == "class_" else [own]):
                return False
        return True


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.top = self.here = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in <{tag}>"
        element = Element(tag, dict(attrs), self.here)
        self.here.parts.append(element)
        if tag not in _VOID:
            self.here = element

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.here.tag, f"</{tag}> ends <{self.here.tag}>"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.parts.append(data)


def read(html: str) -> Element:
    """The page, whose elements must be closed where they were opened."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.here is reader.top, f"<{reader.here.tag}> is not closed"
    ids = [element["id"] for element in reader.top.all() if "id" in element.attributes]
    assert len(set(ids)) == len(ids), "ids that are not unique"
    return reader.top


class Canned:
    """Documents that are as a test wants them."""

    def __init__(
        self,
        status: StatusDocument = DEGRADED,
        nodes: NodesDocument = NODES,
        requests: RequestsDocument = REQUESTS,
    ) -> None:
        self.documents: dict[str, Any] = {"status": status, "nodes": nodes, "requests": requests}

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.documents.get(name)


class Page:
    """Panels in front of canned documents."""

    def __init__(self, canned: Canned | None = None, fleet: tuple[NodeView, ...] = ()) -> None:
        self.now_s = NOW_S
        self.canned = canned or Canned()
        templates = aiohttp_jinja2.setup(web.Application(), **environment_settings())
        compile_all(templates)
        self.bus = EventBus("desk", "desk", 1, lambda: self.now_s)
        self.panels = Panels(
            documents=self.canned,  # type: ignore[arg-type]
            fleet=lambda: Fleet(1, fleet),
            bus=self.bus,
            templates=templates,
            wall_clock=lambda: self.now_s,
        )

    def html(self, name: str, query: str = "", *, is_live: bool = False) -> str:
        """One panel."""
        view = View.parse(query)
        return str(self.panels.render(name, view, self.panels.look(), is_live=is_live))

    def panel(self, name: str, query: str = "") -> Element:
        """One panel, read."""
        return read(self.html(name, query))
