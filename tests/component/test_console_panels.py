"""Every panel of the console: normal, empty, in part, failed, few and many, hostile names."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sollold.api_types import (
    ConfigInfo,
    Node,
    NodeCounts,
    NodesDocument,
    Problem,
    Request,
    RequestsDocument,
)
from sollold.core.model import ModelKey, NodeKind, NodeState, Reason
from sollold.events.ring import rfc3339
from sollold.events.types import (
    FallbackTriggered,
    ModelLoaded,
    NodeJoined,
    NodeLeft,
    NodeStateChanged,
    OllamaNodeSelected,
    RequestDone,
    RequestFailed,
    RouteDecision,
    TaskQueued,
)
from sollold.web.console import words
from sollold.web.console.anchors import Anchors
from sollold.web.console.contents import CONTENTS
from sollold.web.console.view import COLUMNS, View
from tests.component.console_page import NOW_S, Canned, Page, read
from tests.unit.core import routing_values
from tests.unit.ctl.documents import (
    AT,
    DEGRADED,
    GPU_2,
    HEALTHY,
    LATE,
    MINUTE,
    NODES,
    NOTHING_FOUND,
    REFUSED,
)

if TYPE_CHECKING:
    from sollold.core.model import NodeView, ResidentView
    from sollold.events.ring import Record

HOSTILE = "<script>alert('x')</script>\"'&\u202e\x1b[2J\n{{ 7*7 }}"
LONG = "a-node-name-of-sixty-characters-as-somebody-surely-gives-one"
NO_REQUESTS = RequestsDocument(at=AT, running=(), waiting=())


def node(name: str, state: str = "up", **fields: object) -> Node:
    made = Node(name=name, id=name, state=state, kind="ollama", url=f"http://{name}:11434")
    return replace(made, **fields)


def fleet(*nodes: Node) -> Canned:
    counts = NodeCounts(total=len(nodes), up=len(nodes))
    return Canned(replace(HEALTHY, nodes=counts), NodesDocument(at=AT, nodes=nodes), NO_REQUESTS)


# Header, attention -----------------------------------------------------------------------------


def test_the_header_says_the_state_first() -> None:
    head = Page().panel("head")
    assert head.one("strong").text == "Serving, degraded"
    assert head.one("p", class_="counts").text == (
        "4 of 6 nodes usable4 running1 queued, oldest 23 s"
    )
    head = Page(Canned(NOTHING_FOUND)).panel("head")
    assert head.one("p", class_="verdict").text == "Cannot serveno nodes found yet"
    assert len(head.all("p", class_="verdict-slow")) == 1


@pytest.mark.parametrize(
    ("canned", "title", "icon"),
    [
        (Canned(HEALTHY), "sollold", "up"),
        (Canned(), "2 problems · sollold", "slow"),
        (Canned(NOTHING_FOUND), "cannot serve · sollold", "slow"),
        (Canned(replace(HEALTHY, state="stopping")), "stopping · sollold", "draining"),
    ],
)
def test_the_title_starts_with_the_problem(canned: Canned, title: str, icon: str) -> None:
    page = Page(canned)
    assert page.panels.title(page.panels.look()) == (title, icon)


def test_what_needs_attention() -> None:
    panel = Page().panel("attention")
    assert panel.one("h2").text == "Needs attention (2)"
    first, second = panel.all("li")
    assert first.one(class_="state").text == "down"
    assert first.one("b").text == "pi-5"
    assert first.one(class_="reason").text == REFUSED.text
    assert first.one("time").text == "4 min"
    show, logs = first.all("a")
    assert show.text == "Show pi-5"
    assert (logs.text, logs["href"]) == ("Logs of the nodes, for pi-5", "?log-source=nodes#log")
    assert second.one(class_="reason").text == LATE.text
    listed = Page().panel("nodes").one("tbody").all("tr")
    rows = {row["data-name"]: row["id"] for row in listed}
    assert show["href"] == f"#{rows['pi-5']}"
    filtered = Page().panel("attention", "filter=gpu&sort=node").all("a")[0]
    assert filtered["href"] == f"?sort=node#{rows['pi-5']}"


def test_nothing_needs_attention() -> None:
    panel = Page(Canned(HEALTHY)).panel("attention").one("section")
    assert "hidden" in panel.attributes
    assert panel.all("li") == []


def test_five_problems_and_a_count_of_the_others() -> None:
    problems = tuple(
        Problem(subject=f"n{number}", state="down", since_ms=MINUTE, reason=REFUSED)
        for number in range(8)
    )
    panel = Page(Canned(replace(DEGRADED, problems=problems))).panel("attention")
    assert len(panel.all("li")) == 5
    assert panel.one("p", class_="more").text == "and 3 more"


# Nodes -----------------------------------------------------------------------------------------


def names(page: Page, query: str = "") -> list[str]:
    return [row["data-name"] for row in page.panel("nodes", query).one("tbody").all("tr")]


def test_nodes_worst_first() -> None:
    panel = Page().panel("nodes")
    assert panel.one("h2").text == "Nodes 6, worst first"
    assert panel.one("caption").text == "6 nodes, worst first"
    assert names(Page()) == ["pi-5", "gpu-2", "mac-mini", "gpu-1", "rpc-a", "rpc-b"]
    cells = [cell.text for cell in panel.all("tr")[2].all("td")]
    assert cells == [f"slow12 min{LATE.text}", "1 / 2", "1", "1.9 s", "12.8", "15.9GB"]
    meter = panel.all("tr")[2].one("meter")
    assert meter["aria-label"] == "VRAM used, 15.9GB of 16.0GB"
    down = panel.all("tr")[1]
    assert [cell.text for cell in down.all("td")][1:] == ["—not known"] * 5
    assert "last answer 4 min ago" in down.text
    for row in panel.all("tr")[1:]:
        assert row.one("th")["scope"] == "row"
    shapes = [use["href"] for use in panel.all("use")]
    assert shapes == [f"#shape-{state}" for state in ("down", "slow", "draining", "up", "up", "up")]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sort=node", ["gpu-1", "gpu-2", "mac-mini", "pi-5", "rpc-a", "rpc-b"]),
        ("sort=-node", ["rpc-b", "rpc-a", "pi-5", "mac-mini", "gpu-2", "gpu-1"]),
        ("sort=first", ["gpu-2", "mac-mini", "gpu-1", "pi-5", "rpc-a", "rpc-b"]),
        ("sort=-first", ["gpu-1", "mac-mini", "gpu-2", "pi-5", "rpc-a", "rpc-b"]),
        ("sort=rate", ["gpu-1", "mac-mini", "gpu-2", "pi-5", "rpc-a", "rpc-b"]),
        ("sort=-state", ["gpu-1", "rpc-a", "rpc-b", "mac-mini", "gpu-2", "pi-5"]),
        ("sort=nonsense", ["pi-5", "gpu-2", "mac-mini", "gpu-1", "rpc-a", "rpc-b"]),
        ("filter=GPU", ["gpu-2", "gpu-1"]),
        ("filter=qwen2.5&sort=node", ["gpu-2"]),
        ("filter=rpc_backend", ["rpc-a", "rpc-b"]),
    ],
)
def test_orders_and_filters(query: str, expected: list[str]) -> None:
    assert names(Page(), query) == expected


def test_headers_say_what_they_will_do() -> None:
    panel = Page().panel("nodes", "sort=first&filter=g")
    headers = {header.text: header for header in panel.one("thead").all("th")}
    assert len(headers) == len(COLUMNS)
    mine = headers["Sort by First token, fastest first"]
    assert mine["aria-sort"] == "descending"
    assert mine.one("a")["href"] == "?sort=-first&filter=g"
    assert headers["Sort by Node, A to Z"].one("a")["href"] == "?sort=node&filter=g"
    assert [header for header in headers.values() if "aria-sort" in header.attributes] == [mine]
    turned = Page().panel("nodes", "sort=-first").one("thead")
    sorted_by = [th for th in turned.all("th") if "aria-sort" in th.attributes]
    assert [th["aria-sort"] for th in sorted_by] == ["ascending"]
    assert sorted_by[0].one("a")["href"] == "?sort=first"


def test_no_node_ever() -> None:
    panel = Page(Canned(NOTHING_FOUND, NodesDocument(at=AT, nodes=()), NO_REQUESTS)).panel("nodes")
    text = panel.one("div", class_="empty").text
    assert text.startswith("No nodes yet. Looked at mDNS for 20 s; 192.168.1.0/24")
    assert "Add one: [[nodes]] in /etc/sollold/sollold.toml" in text
    assert panel.all("table") == []


def test_a_filter_that_finds_nothing() -> None:
    panel = Page().panel("nodes", "filter=gpux&sort=node")
    assert panel.one("p", class_="empty").text == "No node matches 'gpux'. Clear filter"
    assert panel.one("p", class_="empty").one("a")["href"] == "?sort=node"


def test_all_nodes_down() -> None:
    lost = [
        node("a", "down", reason=REFUSED, since_ms=3 * MINUTE),
        node("b", "down", reason=REFUSED, since_ms=9 * MINUTE),
        node("c", "unknown"),
    ]
    panel = Page(fleet(*lost)).panel("nodes")
    assert panel.one("p", class_="empty").text == (
        f"None of the 3 known nodes answers. Last one lost: a, 3 min ago, {REFUSED.text}."
    )
    assert len(panel.one("tbody").all("tr")) == 3
    assert Page(fleet(*lost, node("d"))).panel("nodes").all("p", class_="empty") == []


def test_one_node_and_fifty() -> None:
    assert Page(fleet(node("only"))).panel("nodes").one("caption").text == "1 node, worst first"
    many = Page(fleet(*(replace(GPU_2, name=f"n{i}", id=f"n{i}") for i in range(50))))
    assert len(many.panel("nodes").one("tbody").all("tr")) == 50
    assert len(many.html("nodes")) < 100_000


# Models in memory ------------------------------------------------------------------------------


def resident(name: str, size_bytes: int) -> ResidentView:
    return replace(
        routing_values.resident(), key=ModelKey(name), entry={"name": name}, size_bytes=size_bytes
    )


def holder(name: str, *residents: ResidentView, **fields: object) -> NodeView:
    held = [routing_values.model()]
    return replace(routing_values.node(name, models=held, residents=residents), **fields)


def test_where_models_are_loaded() -> None:
    nodes = (
        holder("gpu-1", resident("m", 5_400_000_000), resident("qwen", 0)),
        holder("gpu-2", resident("qwen", 9_000_000_000)),
        holder("lost", resident("m", 1), state=NodeState.DOWN),
        holder("cloud", kind=NodeKind.OPENAI),
    )
    panel = Page(fleet=nodes).panel("loaded")
    table = [[cell.text for cell in row.all()] for row in panel.one("table").all("tr")]
    assert [[text for text in row if text != "absent"] for row in table] == [
        ["Model", "gpu-1", "gpu-2"],
        ["m", "5.4GB", "disk"],
        ["qwen", "loaded", "9.0GB"],
    ]
    places = [item.one(class_="where").text for item in panel.all("li")]
    assert places == ["gpu-15.4GB", "gpu-1loadedgpu-29.0GB"]


def test_when_a_model_leaves_the_memory() -> None:
    end_s = NOW_S + 4 * 60 + 12
    soon = replace(resident("m", 5_400_000_000), expires_at=rfc3339(end_s))
    late = replace(resident("never", 1_000_000_000), expires_at="2318-03-02T10:00:00Z")
    page = Page(fleet=(holder("gpu-1", soon, late),))
    table = [row.one("td").text for row in page.panel("loaded").one("table").all("tr")[1:]]
    assert table == ["5.4GB 4 min left", "1.0GB"]
    moment = read(page.html("loaded", is_live=True)).one("table").one("time")
    assert (moment["data-until"], moment.text) == (str(round(end_s * 1000)), "")
    page.now_s = end_s + 1
    assert "unloading" in page.panel("loaded").one("table").text
    assert page.panel("loaded").one("li", id=moment_row(page)).one(class_="size").text == (
        "5.4GB, unloading"
    )


def moment_row(page: Page) -> str:
    return page.panel("loaded").all("li")[0]["id"]


def test_many_nodes_are_a_list_of_places() -> None:
    nodes = tuple(holder(f"n{number}", resident("m", 1)) for number in range(9))
    panel = Page(fleet=nodes).panel("loaded")
    assert panel.all("table") == []
    assert len(panel.one("li").all("span", class_="place")) == 9


def test_many_models_are_counted() -> None:
    models = [resident(f"m{number}", 1) for number in range(30)]
    panel = Page(fleet=(holder("n", *models),)).panel("loaded")
    assert panel.one("p", class_="more").text == "and 10 more"


def test_nothing_is_loaded() -> None:
    text = Page().panel("loaded").one("p", class_="empty").text
    assert text.startswith("No model is in memory. The first request for a model loads it;")


def test_hostile_models() -> None:
    html = Page(fleet=(holder(HOSTILE, resident(HOSTILE, 1)),)).html("loaded")
    assert "<script" not in html
    assert "\u202e" not in html
    read(html)


# Requests --------------------------------------------------------------------------------------


def test_what_runs_and_waits() -> None:
    panel = Page().panel("requests")
    assert panel.one("h2").text == "Running now (2) and waiting (1)"
    rows = panel.one("tbody").all("tr")
    assert len(rows) == 3
    first = [cell.text for cell in rows[0].all("td")]
    assert first == ["qwen2.5:14b", "gpu-2", "generating", "402", "12.9", "31 s", "laptop"]
    assert rows[-1].one("span", class_="waits").text == "first in line"
    assert rows[0].one("a").text == "Decisions about r-7f3d"
    assert rows[0].one("a")["href"] == "?request=r-7f3d#decisions"


def test_nothing_runs() -> None:
    page = Page(Canned(HEALTHY, NODES, NO_REQUESTS))
    text = page.panel("requests").one("p", class_="empty").text
    assert text == "No requests running or waiting."
    page.bus.publish(RequestDone(request_id="r-1", model="m", status=200, total_ms=5.0))
    page.now_s += 125
    text = page.panel("requests").one("p", class_="empty").text
    assert text == "No requests running or waiting. Last one finished 2 min ago."


def test_many_requests_are_counted() -> None:
    waiting = tuple(
        Request(id=f"r-{i}", model="m", phase="waiting", age_ms=1.0, ahead=i) for i in range(500)
    )
    page = Page(Canned(HEALTHY, NODES, RequestsDocument(at=AT, running=(), waiting=waiting)))
    panel = page.panel("requests")
    assert len(panel.one("tbody").all("tr")) == 60
    assert panel.one("p", class_="more").text == "and 440 more"


# Decisions, changes ----------------------------------------------------------------------------


def published() -> Page:
    page = Page()
    for event in (
        TaskQueued(request_id="r-1", model="m", reason="busy"),
        RouteDecision(request_id="r-1", model="m", node="gpu-1", reason="loaded, fastest"),
        OllamaNodeSelected(request_id="r-1", model="m", node="gpu-1", node_url="u", reason="x"),
        FallbackTriggered(
            request_id="r-1", model="m", from_node="gpu-1", reason="connection reset", attempt=2
        ),
        RequestFailed(
            request_id="r-1", model="m", node="gpu-2", outcome="caller_error", reason="bad",
            total_ms=1.0,
        ),
        RouteDecision(request_id="r-2", model="m", node="gpu-2", reason="only holder"),
        NodeStateChanged(node="gpu-2", from_state="up", to_state="slow", reason="late"),
        NodeJoined(node="pi-5", node_url="http://pi-5", node_kind="ollama", found_by=("mDNS",)),
        NodeLeft(node="pi-9", reason="taken out of the configuration"),
        ModelLoaded(node="gpu-1", model="qwen"),
    ):  # fmt: skip
        page.bus.publish(event)
    return page


def test_decisions_newest_first() -> None:
    rows = published().panel("decisions").one("ol").all("li")
    shown = [(row.one(class_="kind").text, row.one(class_="what").text) for row in rows]
    assert shown == [
        ("route", "r-2 m → gpu-2 only holder"),
        ("caller error", "r-1 m on gpu-2 bad"),
        ("failover", "r-1 m gpu-1 → queue connection reset, try 2"),
        ("route", "r-1 m → gpu-1 loaded, fastest"),
    ]


def test_everything_about_one_request() -> None:
    panel = published().panel("decisions", "request=r-1")
    kinds = [row.one(class_="kind").text for row in panel.one("ol").all("li")]
    assert kinds == ["caller error", "failover", "route", "queue"]
    empty = published().panel("decisions", "request=r-none").one("p", class_="empty")
    assert empty.text == "Nothing is known of a request 'r-none'. Clear"


def test_nothing_was_routed() -> None:
    text = Page().panel("decisions").one("p", class_="empty").text
    assert text.startswith("Nothing has been routed since the start at ")


def test_a_time_of_another_day_comes_with_the_day() -> None:
    page = published()
    for name in ("decisions", "changes"):
        assert all(re.fullmatch(r"[\d:]{8}", item.text) for item in page.panel(name).all("time"))
    page.now_s += 86_400
    for name in ("decisions", "changes"):
        times = [item.text for item in page.panel(name).all("time")]
        assert times
        assert all(re.fullmatch(r"\d\d? [A-Z]\w\w [\d:]{8}", text) for text in times)
    page.now_s += 400 * 86_400
    assert re.match(r"\d\d? [A-Z]\w\w 20\d\d ", page.panel("changes").all("time")[0].text)
    assert words.clock(NOW_S)[-9:] == words.clock(NOW_S, NOW_S + 86_400)[-9:]


def test_what_one_person_asks_for_is_not_shown_to_others() -> None:
    page = Page()
    for name in CONTENTS:
        html = page.html(name, "filter=mine&sort=vram&request=r-mine", is_live=True)
        assert ("r-mine" in html) == (name == "decisions")
        assert ("mine" in html.replace("r-mine", "")) == (name == "nodes")
        assert ("sort=vram" in html) == (name == "nodes")


def test_a_panel_says_what_it_shows_of_a_view() -> None:
    page = Page()
    for is_live in (True, False):
        query = "filter=mine&sort=vram&request=r-mine"
        nodes = read(page.html("nodes", query, is_live=is_live)).one("section")
        assert nodes["data-view"] == "?sort=vram&filter=mine"
        decisions = read(page.html("decisions", query, is_live=is_live)).one("section")
        assert decisions["data-view"] == "?request=r-mine"


def test_a_row_leads_to_all_about_its_request() -> None:
    link = published().panel("decisions", "sort=node").one("ol").all("a")[0]
    assert (link.text, link["href"]) == ("r-2", "?sort=node&request=r-2#decisions")


def test_at_most_two_hundred_decisions() -> None:
    page = Page()
    for number in range(300):
        page.bus.publish(RouteDecision(request_id=f"r-{number}", model="m", node="n", reason="x"))
    rows = page.panel("decisions").one("ol").all("li")
    assert len(rows) == 200
    assert rows[0].one(class_="id").text == "r-299"


def test_what_changed() -> None:
    rows = published().panel("changes").one("ol").all("li")
    assert [row.one(class_="what").text for row in rows] == [
        "gpu-1 loaded qwen",
        "pi-9 left taken out of the configuration",
        "pi-5 joined http://pi-5, found by mDNS",
        "gpu-2 up → slow late",
    ]
    text = Page().panel("changes").one("p", class_="empty").text
    assert text == "Nothing has changed since the start."


def test_changes_are_looked_for_among_new_events_only(monkeypatch: pytest.MonkeyPatch) -> None:
    page = published()
    before = page.html("changes")
    asked: list[int] = []
    real = page.bus.ring.newest

    def newest(n: int) -> list[Record]:
        asked.append(n)
        return real(n)

    monkeypatch.setattr(page.bus.ring, "newest", newest)
    assert page.html("changes") == before
    page.bus.publish(NodeLeft(node="far", reason="gone"))
    assert page.panel("changes").one("ol").all("li")[0].one("b").text == "far"
    assert asked == [0, 1]
    for number in range(60):
        page.bus.publish(NodeLeft(node=f"far-{number}", reason="gone"))
    assert len(page.panel("changes").one("ol").all("li")) == 40


def test_who_waits_for_whom_is_worked_out_once_for_all_panels() -> None:
    asked: list[str] = []
    given: list[object] = []

    class Counted(Canned):
        def waits(self) -> list[object]:
            asked.append("waits")
            return []

        def nodes(self, waits: object = None) -> NodesDocument:
            given.append(waits)
            return NODES

        def requests(self, waits: object = None) -> RequestsDocument:
            given.append(waits)
            return NO_REQUESTS

    page = Page(Counted())
    now = page.panels.look()
    for name in ("nodes", "requests"):
        page.panels.render(name, View(), now, is_live=True)
    assert asked == ["waits"]
    assert given == [[], []]


def test_the_footer() -> None:
    text = Page().panel("foot").text
    assert text == (
        "sollold 0.4.0up 3duvloophistory in localRedis offPrometheus at /metricsAPI docs"
    )


def test_the_footer_says_what_a_reload_left_undone() -> None:
    config = ConfigInfo(path="/etc/sollold.toml", waiting=("listen.api",), refused="line 3 is bad")
    text = Page(Canned(replace(DEGRADED, config=config))).panel("foot").text
    assert "restart needed for listen.api" in text
    assert "configuration not reloaded: line 3 is bad" in text


def test_a_reload_that_was_refused_needs_attention() -> None:
    config = ConfigInfo(path="/etc/sollold.toml", refused="line 3 is bad")
    panel = Page(Canned(replace(HEALTHY, config=config))).panel("attention")
    (item,) = panel.all("li")
    assert item.one("b").text == "configuration"
    assert item.one(class_="state").text == "refused"
    assert item.one(class_="reason").text == "not reloaded: line 3 is bad"
    assert item.all("a") == []


# All panels ------------------------------------------------------------------------------------


def hostile() -> Page:
    bad = replace(
        GPU_2, name=HOSTILE, id=HOSTILE, reason=Reason("x", HOSTILE), version=HOSTILE, url=HOSTILE
    )
    request = Request(id=HOSTILE, model=HOSTILE, phase=HOSTILE, node=HOSTILE, age_ms=1.0,
                      client=HOSTILE, reason=HOSTILE)  # fmt: skip
    problem = Problem(subject=HOSTILE, state="slow", reason=Reason("x", HOSTILE))
    page = Page(
        Canned(
            replace(DEGRADED, problems=(problem,)),
            NodesDocument(at=AT, nodes=(bad, replace(bad, name=LONG, id=LONG))),
            RequestsDocument(at=AT, running=(request,), waiting=()),
        )
    )
    page.bus.publish(RouteDecision(request_id=HOSTILE, model=HOSTILE, node="n", reason=HOSTILE))
    page.bus.publish(NodeStateChanged(node=HOSTILE, from_state="up", to_state="slow"))
    return page


@pytest.mark.parametrize("name", [name for name in CONTENTS if name not in ("foot", "loaded")])
def test_names_from_the_network_are_text(name: str) -> None:
    html = hostile().html(name)
    assert "<script" not in html
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "49" not in html
    read(html)
    if name != "head":
        assert "\\u202e" in read(html).text
        assert "\\x1b[2J\\n{{ 7*7 }}" in read(html).text
    assert "<script" not in hostile().html(name, "filter=<script>&request=<script>&sort=<")


@pytest.mark.parametrize("name", list(CONTENTS))
def test_a_panel_that_fails_leaves_its_last_good_content(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    page = Page()
    good = page.html(name)

    def fail(*_: object) -> None:
        raise RuntimeError("no such thing")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setitem(CONTENTS, name, fail)
        broken = page.html(name)
        text = read(broken).one("p", class_="broken").text
        assert text.startswith("This panel could not be shown (id e-")
        assert good.replace(f' id="{name}"', "", 1) in broken
        assert page.html(name) == broken
        assert read(broken).all("section", id=name)
    assert len(caplog.records) == 1
    assert text.split("(id ")[1].split(")")[0] in caplog.text
    assert page.html(name) == good


@pytest.mark.parametrize("name", list(CONTENTS))
def test_nothing_changes_where_nothing_happens(name: str) -> None:
    page = Page()
    first = page.html(name, is_live=True)
    status, nodes = DEGRADED, NODES
    for passed_ms in (40.0, 80.0, 120.0):
        # Ages grow with the clock, a little unevenly: they are read at different moments.
        page.now_s += 0.039
        page.canned.documents["status"] = replace(
            status,
            uptime_ms=status.uptime_ms + passed_ms,
            requests=replace(status.requests, oldest_ms=23_000 + passed_ms),
            problems=tuple(
                replace(item, since_ms=(item.since_ms or 0) + passed_ms) for item in status.problems
            ),
        )
        page.canned.documents["nodes"] = replace(
            nodes,
            nodes=tuple(
                replace(
                    item,
                    since_ms=None if item.since_ms is None else item.since_ms + passed_ms,
                    seen_ms=None if item.seen_ms is None else item.seen_ms + passed_ms,
                )
                for item in nodes.nodes
            ),
        )
        assert page.html(name, is_live=True) == first


def test_moments_stay_where_they_are() -> None:
    anchors = Anchors()
    assert anchors.of("a", 1000.0, 5000.0) == 4000
    assert anchors.of("a", 1500.0, 5900.0) == 4000
    assert anchors.of("a", 100.0, 6000.0) == 5900
    assert anchors.of("b", None, 6000.0) is None
    for number in range(5000):
        anchors.of(str(number), 0.0, 0.0)
    assert len(anchors._kept) <= 4096


def test_a_view_is_an_address() -> None:
    view = View.parse("?sort=-first&filter=%20gpu%26&request=r-1&utm=x")
    assert view == View(sort="-first", filter="gpu&", request="r-1")
    assert View.parse(view.query) == view
    assert view.but(filter="") == "?sort=-first&request=r-1"
    assert View.parse("&".join(["a=1"] * 100)) == View()
    assert View.parse("filter=" + "x" * 500).filter == "x" * 100
