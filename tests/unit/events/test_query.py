from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sollold.errors import InvalidRequest
from sollold.events.query import EVERYTHING, EventQuery, Filter, parse_time
from sollold.events.ring import Origin, Record
from sollold.events.types import FallbackTriggered, NodeLeft, RouteDecision, TaskStart

if TYPE_CHECKING:
    from sollold.events.base import EventBase

NOW_S = 1795252443.12


def record(event: EventBase, instance: str = "desk_1_a") -> Record:
    return Record(1, NOW_S, event, Origin(instance_id=instance, hostname="desk", pid=1))


ROUTE = record(
    RouteDecision(
        reason="idle", model="llama3.2", backend="ollama", node="gpu-1", request_id="r-7f3cabcdefgh"
    )
)
FAILOVER = record(
    FallbackTriggered(
        reason="reset", attempt=2, node="gpu-1", from_node="pi-5", request_id="job-12"
    )
)
LEFT = record(NodeLeft(reason="gone", node="pi-5"), "other_2_b")
ALL = (ROUTE, FAILOVER, LEFT)


@pytest.mark.parametrize(
    ("params", "fitting"),
    [
        ({}, ALL),
        ({"model": "llama3.2:latest"}, (ROUTE,)),
        ({"model": "LLAMA3.2"}, (ROUTE,)),
        ({"model": "llama3.2:3b"}, ()),
        ({"backend": "Ollama"}, (ROUTE,)),
        ({"backend": "rpc"}, ()),
        ({"node": "gpu-1"}, (ROUTE, FAILOVER)),
        ({"node": "PI-5"}, (FAILOVER, LEFT)),
        ({"node": "pi"}, ()),
        ({"node": "gpu-1,pi-5"}, ALL),
        ({"node": " gpu-1 , "}, (ROUTE, FAILOVER)),
        ({"event_type": "ROUTE_DECISION"}, (ROUTE,)),
        ({"event-type": "route_decision"}, (ROUTE,)),
        ({"kind": "failover,node"}, (FAILOVER, LEFT)),
        ({"type": "NODE_LEFT"}, (LEFT,)),
        ({"instance": "other_2_b"}, (LEFT,)),
        ({"instance_id": "desk_1_a"}, (ROUTE, FAILOVER)),
        ({"request": "r-7f3c"}, (ROUTE,)),
        ({"request_id": "r-7f3cabcdefgh"}, (ROUTE,)),
        ({"request": "job-1"}, ()),
        ({"request": "job-12"}, (FAILOVER,)),
        ({"node": "gpu-1", "kind": "failover"}, (FAILOVER,)),
        ({"node": ""}, ALL),
        ({"node!": "gpu-1"}, (LEFT,)),
        ({"node!": "gpu-1,pi-5"}, ()),
        ({"kind!": "node", "model!": "llama3.2"}, (FAILOVER,)),
        ({"node": "pi-5", "kind!": "node"}, (FAILOVER,)),
        ({"request!": ""}, ALL),
        ({"grep": "RESET"}, (FAILOVER,)),
        ({"grep": "route  "}, ()),
        ({"grep": "Failover job-12"}, (FAILOVER,)),
        ({"grep": "pi-5, gpu-1"}, ()),
        ({"grep": "", "node": "gpu-1"}, (ROUTE, FAILOVER)),
    ],
)
def test_a_filter_lets_through_what_fits(
    params: dict[str, str], fitting: tuple[Record, ...]
) -> None:
    wanted = Filter.parse(params)

    assert tuple(item for item in ALL if wanted.matches(item)) == fitting


def test_an_empty_filter_is_everything() -> None:
    assert Filter.parse({}) == EVERYTHING


def test_an_unknown_filter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"'nodes'.*model, backend, node"):
        Filter.parse({"nodes": "gpu-1"})


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"'ROUTE'?.*") as refused:
        Filter.parse({"event_type": "ROUTES"})
    assert "failover" in refused.value.message
    assert "ROUTE_DECISION" in refused.value.message


def test_a_query_has_count_range_and_filter() -> None:
    query = EventQuery.parse(
        {"n": "9", "follow": "1", "since": "10m", "until": "2026-11-21T09:14:03Z", "node": "a"},
        NOW_S,
    )

    assert query.limit == 9
    assert query.is_follow
    assert query.since_s == pytest.approx(NOW_S - 600)
    assert query.until_s == pytest.approx(NOW_S - 0.12)
    assert query.filter.nodes == {"a"}


def test_a_query_has_defaults() -> None:
    assert EventQuery.parse({}, NOW_S) == EventQuery(EVERYTHING, 50, False, None, None)
    assert not EventQuery.parse({"follow": "0"}, NOW_S).is_follow
    assert EventQuery.parse({"n": "99999999"}, NOW_S).limit == 10_000
    assert EventQuery.parse({"n": "0"}, NOW_S).limit == 0


@pytest.mark.parametrize(
    "params",
    [
        {"n": "-1"},
        {"n": "many"},
        {"n": "9" * 30},
        {"n": "\u0669"},
        {"follow": "yes please"},
        {"since": "yesterday"},
        {"until": "2026-11-21T09:14:03"},
        {"since": "2026-11-21 09:14"},
        {"since": "9999999999999d"},
        {"page": "2"},
        {"grep!": "x"},
        {"grep": "x" * 1001},
    ],
)
def test_a_query_that_cannot_be_read_is_refused(params: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        EventQuery.parse(params, NOW_S)


@pytest.mark.parametrize(
    ("text", "ago_s"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("1.5h", 5400),
        ("2d", 172_800),
        ("2026-11-21T09:14:03.120Z", 0),
        ("2026-11-21T10:14:03.120+01:00", 0),
        ("2026-11-21T10:14:03.120 01:00", 0),
        ("2026-11-21 09:14:03.120Z", 0),
    ],
)
def test_times_are_ages_or_moments(text: str, ago_s: float) -> None:
    assert parse_time(text, NOW_S) == pytest.approx(NOW_S - ago_s)


def test_events_without_a_model_never_match_a_model() -> None:
    started = record(TaskStart())

    assert not Filter.parse({"model": "latest"}).matches(started)
    assert not Filter.parse({"request": "r-"}).matches(started)
