"""What one person looks at: sorting and filters, as the page's address says them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode

import msgspec

from sollold.api_types import Node
from sollold.words.names import natural
from sollold.words.states import badness

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_MAX_CHARS = 100


class SortBy(msgspec.Struct, frozen=True, kw_only=True):
    """A column that nodes sort by."""

    key: str
    """As the address says it; with a minus before it, the other way round."""
    header: str
    first: str
    """What comes first, in words."""
    other: str
    """What comes first the other way round."""
    value: Callable[[Node], object]
    """None sorts last either way."""
    is_falling: bool = True
    is_number: bool = True
    css: str = ""


COLUMNS = (
    SortBy(
        key="node",
        header="Node",
        first="A to Z",
        other="Z to A",
        value=lambda node: natural(node.name),
        is_falling=False,
        is_number=False,
        css="name",
    ),
    SortBy(
        key="state",
        header="State",
        first="worst first",
        other="best first",
        value=lambda node: badness(node.state),
        is_falling=False,
        is_number=False,
        css="is-state",
    ),
    SortBy(
        key="running",
        header="Running",
        first="most first",
        other="fewest first",
        value=lambda node: node.running,
    ),
    SortBy(
        key="waiting",
        header="Waiting",
        first="most first",
        other="fewest first",
        value=lambda node: node.queued,
        css="drop-2",
    ),
    SortBy(
        key="first",
        header="First token",
        first="slowest first",
        other="fastest first",
        value=lambda node: node.first_token_ms,
        css="drop-1",
    ),
    SortBy(
        key="rate",
        header="Tokens/s",
        first="fastest first",
        other="slowest first",
        value=lambda node: node.tokens_per_s,
        css="drop-3",
    ),
    SortBy(
        key="vram",
        header="VRAM",
        first="most first",
        other="least first",
        value=lambda node: node.vram_bytes,
        css="drop-3",
    ),
)
_BY_KEY = {column.key: column for column in COLUMNS}


class View(msgspec.Struct, frozen=True, kw_only=True):
    """One view; equal views are rendered once."""

    sort: str = ""
    """Empty: worst first."""
    filter: str = ""
    request: str = ""
    """The start of a request's id that decisions are shown of."""

    @classmethod
    def parse(cls, query: str) -> View:
        """Return the view that an address asks for; what cannot be read is left out."""
        try:
            fields = parse_qs(query.removeprefix("?"), max_num_fields=20)
        except ValueError:
            return cls()
        sort = _first(fields, "sort")
        return cls(
            sort=sort if sort.removeprefix("-") in _BY_KEY else "",
            filter=_first(fields, "filter"),
            request=_first(fields, "request"),
        )

    @property
    def query(self) -> str:
        """The address of this view, from the question mark on."""
        return "?" + urlencode({key: value for key, value in self._fields().items() if value})

    def _fields(self) -> dict[str, str]:
        return {"sort": self.sort, "filter": self.filter, "request": self.request}

    def but(self, **changes: str) -> str:
        """Return the address of this view with some fields changed."""
        return View(**{**self._fields(), **changes}).query

    def only(self, names: Iterable[str]) -> View:
        """Return a view with these fields of this one alone."""
        return View(**{name: getattr(self, name) for name in names})

    @property
    def column(self) -> SortBy | None:
        """What is sorted by; None: worst first."""
        return _BY_KEY.get(self.sort.removeprefix("-"))

    @property
    def is_reversed(self) -> bool:
        """Whether it is the other way round."""
        return self.sort.startswith("-")

    @property
    def order(self) -> str:
        """The order of nodes, in words."""
        column = self.column
        if column is None:
            return "worst first"
        what = column.other if self.is_reversed else column.first
        return what if column.key == "state" else f"{column.header.lower()}, {what}"

    def arrange(self, nodes: Iterable[Node]) -> list[Node]:
        """Return the nodes that pass the filter, in order."""
        wanted = self.filter.casefold()
        chosen = [node for node in nodes if not wanted or _fits(node, wanted)]
        chosen.sort(key=lambda node: (badness(node.state), natural(node.name)))
        column = self.column
        if column is None:
            return chosen
        known = [node for node in chosen if column.value(node) is not None]
        known.sort(
            key=column.value,  # type: ignore[arg-type]
            reverse=column.is_falling != self.is_reversed,
        )
        return known + [node for node in chosen if column.value(node) is None]


def _first(fields: Mapping[str, list[str]], name: str) -> str:
    return fields.get(name, [""])[0].strip()[:_MAX_CHARS]


def _fits(node: Node, wanted: str) -> bool:
    texts = [node.name, node.url, node.state, node.kind]
    texts += [model.name for model in node.loaded or ()]
    return any(wanted in text.casefold() for text in texts)
