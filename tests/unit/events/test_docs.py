"""`docs/events.md` says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sollold.events.candidates import MAX_CANDIDATES, CandidateView
from sollold.events.query import _ALIASES, _FIELDS
from sollold.events.types import EVENT_CLASSES, event_type
from tests.unit.events.test_types import SENTENCES, as_json

if TYPE_CHECKING:
    from sollold.events.base import EventBase

TEXT = (Path(__file__).parents[3] / "docs" / "events.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    match = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#+ |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert match is not None, f"no section {title}"
    return match[1]


def fields_of(text: str) -> set[str]:
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


@pytest.mark.parametrize("event", [event for event, _ in SENTENCES])
def test_every_type_is_described_with_its_fields(event: EventBase) -> None:
    common = fields_of(section("Common fields"))
    text = section(event_type(type(event)))

    described = fields_of(text.partition("| field of a candidate |")[0])

    assert common <= set(as_json(event))
    assert described == set(as_json(event)) - common
    assert f"Kind `{event.kind}`." in text


def test_no_other_type_is_described() -> None:
    described = re.findall(r"^### ([A-Z_]+)$", TEXT, re.MULTILINE)
    assert described == [event_type(item) for item in EVENT_CLASSES]


def test_candidates_are_described() -> None:
    text = section("ROUTE_DECISION").partition("| field of a candidate |")[2]
    assert fields_of(text) == set(CandidateView.__struct_fields__)
    assert f"at most {MAX_CANDIDATES};" in section("ROUTE_DECISION")


def test_filters_are_described() -> None:
    text = section("Filters")
    assert fields_of(text) == {*_FIELDS, "grep"}
    for alias in _ALIASES:
        assert f"`{alias}`" in text
