"""The mock-ups of `nodes` and `nodes NODE`, word for word."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sollold.api_types import Change, LoadedModel, Node, NodeDocument
from sollold.ctl.nodes import NODE_FILTERS, node_columns, node_lines, summary, worst_first
from sollold.ctl.screen import Screen
from sollold.ctl.table import Layout, order, render, select
from tests.unit.ctl.canned import ASCII
from tests.unit.ctl.documents import AT, GPU_2, NODE_GPU_2, NODES, RUNNING

if TYPE_CHECKING:
    from collections.abc import Sequence

TERMINAL = Screen(is_terminal=True, width=80, is_unicode=True)
PIPE = Screen()

LIST_TEXT = """\
NODE      STATE       KIND    RUN  QUEUE  1ST TOKEN  TOK/S         VRAM  SEEN
pi-5      ✖ down      ollama    -      -          -      -            -    4m
gpu-2     ▲ slow      ollama    1      1      1.9 s   12.8  15.9/16.0GB    1s
mac-mini  ◆ draining  ollama    1      0     120 ms   33.0        9.1GB    2s
gpu-1     ● up        ollama    2      0      84 ms   61.2  21.4/24.0GB    1s
rpc-a     ● up        rpc       -      -          -      -  11.0/12.0GB    3s
rpc-b     ● up        rpc       -      -          -      -  11.0/12.0GB    3s
"""

NODE_TEXT = """\
gpu-2  ▲ slow for 12m: first token p95 8.2 s, its usual is 0.9 s
  Address    192.168.1.22:11434, found by mDNS, ollama 0.12.3
  Memory     15.9 of 16.0 GB VRAM used (total from config)
  Loaded     qwen2.5:14b       9.0GB  100% GPU         ctx 8192  4m left
             nomic-embed-text  0.3GB  100% GPU         ctx 2048  1m left
  Running    r-7f3d qwen2.5:14b chat 31 s;  waiting: r-7f40 for 23 s
  Last hour  182 ok, 4 failed, 6 failed over elsewhere;  breaker closed
  Changes    09:02 became slow;  08:41 loaded qwen2.5:14b;  joined 14 Nov
  next       sollolctl logs --node gpu-2
"""


OTHERS = (
    Node(name="gpu-1", id="gpu-1", state="up", kind="ollama", url="http://gpu-1:11434"),
    Node(
        name="box",
        id="box",
        state="up",
        kind="llama_server",
        url="http://box.lan:8080",
        version="b9000-571d0d5",
        slots=4,
        running=1,
        queued=0,
        first_token_ms=84,
        tokens_per_s=31,
        seen_ms=1000,
        loaded=(
            LoadedModel(name="qwen2.5:7b", context_length=8192, expires_at="2318-01-01T00:00:00Z"),
        ),
        found_by=("config",),
    ),
    Node(
        name="cloud",
        id="cloud",
        state="up",
        kind="openai",
        url="https://api.example.org/v1",
        slots=32,
        running=0,
        queued=0,
        seen_ms=41_000,
        models=2,
        found_by=("config",),
    ),
)

OTHERS_TEXT = """\
NODE   STATE  KIND    RUN  QUEUE  1ST TOKEN  TOK/S  VRAM  SEEN
box    * up   llama     1      0      84 ms   31.0     -    1s
cloud  * up   openai    0      0          -      -     -   41s
gpu-1  * up   ollama    -      -          -      -     -     -
"""

BOX_TEXT = """\
box  * up
  Address    box.lan:8080, found by config, llama-server b9000-571d0d5
  Loaded     qwen2.5:7b  -  -                ctx 8192  stays
  Speed      first token p50 84 ms;  31.0 tokens/s
  next       sollolctl logs --node box
"""


def table_of(nodes: Sequence[Node]) -> str:
    lines = render(worst_first(nodes), node_columns(PIPE), Layout(), PIPE)
    return "".join(f"{line}\n" for line in lines)


def table(screen: Screen, *, is_wide: bool = False) -> str:
    rows = worst_first(NODES.nodes)
    lines = render(rows, node_columns(screen), Layout(is_wide=is_wide), screen)
    return "".join(f"{line}\n" for line in lines)


def details(document: NodeDocument, screen: Screen, *, is_wide: bool = False) -> str:
    return "".join(f"{line}\n" for line in node_lines(document, screen, UTC, is_wide=is_wide))


def test_the_list_on_a_terminal() -> None:
    assert table(TERMINAL) == LIST_TEXT
    assert max(map(len, LIST_TEXT.splitlines())) <= 80


def test_the_list_in_a_pipe_without_utf8() -> None:
    assert table(PIPE) == LIST_TEXT.translate(ASCII)


@pytest.mark.parametrize(
    ("width", "gone"),
    [
        (77, []),
        (76, ["QUEUE"]),
        (69, ["QUEUE", "KIND"]),
        (61, ["QUEUE", "KIND", "VRAM"]),
        (48, ["QUEUE", "KIND", "VRAM", "TOK/S"]),
        (20, ["QUEUE", "KIND", "VRAM", "TOK/S"]),
    ],
)
def test_columns_drop_in_their_order(width: int, gone: list[str]) -> None:
    header = table(replace(TERMINAL, width=width)).splitlines()[0]

    kept = ("NODE", "STATE", "KIND", "RUN", "QUEUE", "1ST TOKEN", "TOK/S", "VRAM", "SEEN")
    assert [name for name in kept if name not in header] == [name for name in kept if name in gone]


def test_wide_says_where_and_why() -> None:
    text = table(TERMINAL, is_wide=True)

    for header in ("ADDRESS", "VERSION", "LOADED", "OK%", "FOUND BY", "BREAKER", "WHY"):
        assert header in text.splitlines()[0]
    assert "192.168.1.22:11434" in text
    assert "qwen2.5:14b, nomic-embed-text" in text
    assert " 96.8%" in text
    assert "connection refused on 11434" in text


def test_the_state_is_coloured_and_down_is_a_badge() -> None:
    text = table(replace(TERMINAL, has_color=True))

    assert "\x1b[97;41m✖ down\x1b[0m      ollama" in text
    assert "\x1b[34m● up\x1b[0m        rpc" in text


def test_a_long_name_gives_way_in_the_middle() -> None:
    node = replace(GPU_2, name="n" * 30 + "m" * 30)
    lines = render([node], node_columns(TERMINAL), Layout(), TERMINAL)

    assert all(len(line) <= 80 for line in lines)
    assert "n\u2026m" in lines[1]


def test_rpc_backends_are_in_the_same_list() -> None:
    assert [node.name for node in worst_first(NODES.nodes)][-2:] == ["rpc-a", "rpc-b"]
    assert summary(NODES.nodes) == "6 nodes: 3 up, 1 slow, 1 draining, 1 down"


def test_unknown_states_count_as_unknown_and_stand_near_the_top() -> None:
    nodes = [replace(GPU_2, state=state) for state in ("up", "unknown", "a-new-word", "down")]

    assert next(node.state for node in worst_first(nodes)) == "down"
    assert [node.state for node in worst_first(nodes)][-1] == "up"
    assert summary(nodes) == "4 nodes: 1 up, 1 down, 2 unknown"


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("vram", "mac-mini"),
        ("-vram", "gpu-1"),
        ("1st-token", "gpu-1"),
        ("state", "pi-5"),
        ("kind", "pi-5"),
        ("node", "gpu-1"),
        ("-seen", "pi-5"),
        ("version", "gpu-2"),
    ],
)
def test_sorting(sort: str, first: str) -> None:
    rows = order(worst_first(NODES.nodes), sort, node_columns(PIPE))
    assert rows[0].name == first


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("state=down,slow", {"pi-5", "gpu-2"}),
        ("state!=up", {"pi-5", "gpu-2", "mac-mini"}),
        ("kind=rpc", {"rpc-a", "rpc-b"}),
        ("kind=rpc_backend", {"rpc-a", "rpc-b"}),
        ("model=qwen2.5:14b", {"gpu-2"}),
        ("node=gpu-1", {"gpu-1"}),
        ("found_by=mdns", {"gpu-2"}),
        ("version=0.12.3", {"gpu-2"}),
        ("breaker=closed", {"gpu-2"}),
    ],
)
def test_filtering(text: str, names: set[str]) -> None:
    assert {node.name for node in select(NODES.nodes, (text,), NODE_FILTERS)} == names


def test_one_node_on_a_terminal() -> None:
    assert details(NODE_GPU_2, TERMINAL) == NODE_TEXT
    assert max(map(len, NODE_TEXT.splitlines())) <= 80


def test_one_node_in_a_pipe_without_utf8() -> None:
    assert details(NODE_GPU_2, PIPE) == NODE_TEXT.translate(ASCII)


def test_one_node_in_colour() -> None:
    text = details(NODE_GPU_2, replace(TERMINAL, has_color=True))
    assert text.startswith("\x1b[1mgpu-2\x1b[0m  \x1b[33m▲ slow\x1b[0m for 12m")


def test_measured_speeds_have_a_line() -> None:
    text = details(replace(NODE_GPU_2, node=GPU_2), PIPE)
    assert "  Speed      first token p50 1.9 s;  12.8 tokens/s\n" in text


def test_wide_adds_what_is_rarely_asked() -> None:
    text = details(NODE_GPU_2, PIPE, is_wide=True)
    for line in (
        "Id         gpu-2",
        "Models     9",
        "Slots      2",
        "Tier       5",
        "Seen       1s ago",
    ):
        assert f"  {line}\n" in text


def test_a_node_of_which_little_is_known() -> None:
    node = Node(name="new", id="new", state="unknown", kind="openai", url="http://10.0.0.7:8000")

    assert details(NodeDocument(at=AT, node=node), PIPE, is_wide=True) == (
        "new  ? unknown\n"
        "  Address    10.0.0.7:8000, OpenAI's API\n"
        "  Id         new\n"
        "  next       sollolctl logs --node new\n"
    )


def test_nodes_of_other_kinds_are_not_taken_for_ollamas() -> None:
    assert table_of(OTHERS) == OTHERS_TEXT
    assert details(NodeDocument(at=AT, node=OTHERS[1]), PIPE) == BOX_TEXT
    for node in OTHERS[1:]:
        shown = details(NodeDocument(at=AT, node=node), PIPE, is_wide=True)
        assert "ollama" not in shown.casefold()


def test_parts_that_are_known_stand_alone() -> None:
    node = replace(
        GPU_2,
        vram_total_bytes=None,
        loaded=(),
        last_hour=None,
        breaker="half_open",
        first_token_ms=None,
    )
    document = replace(
        NODE_GPU_2, node=node, running=RUNNING, waiting=None, changes=(Change(at="?", text="odd"),)
    )

    text = details(document, PIPE)

    assert "  Memory     15.9 GB VRAM used\n" in text
    assert "  Loaded     nothing\n" in text
    assert "  Speed      12.8 tokens/s\n" in text
    assert "  Breaker    half open\n" in text
    assert "  Changes    odd\n" in text
    assert "Running    r-7f3d qwen2.5:14b chat 31 s, r-7f43 nomic-embed-text embed 2 s\n" in text
    assert node.breaker is not None
    quiet = replace(GPU_2, breaker=None)
    assert "over elsewhere\n" in details(replace(document, node=quiet), PIPE)
    full = replace(node, vram_total_bytes=16_000_000_000, vram_total_from=None, breaker=None)
    assert "15.9 of 16.0 GB VRAM used\n" in details(replace(document, node=full), PIPE)


def test_models_with_unknown_facts() -> None:
    node = replace(GPU_2, loaded=(LoadedModel(name="m"),))
    text = details(replace(NODE_GPU_2, node=node), PIPE)
    assert "  Loaded     m  -  -                ctx -  -\n" in text
