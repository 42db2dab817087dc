from __future__ import annotations

from sollold.config import (
    Change,
    Config,
    ConfigDiff,
    Health,
    Http,
    Listen,
    Log,
    Node,
    Routing,
    Weights,
    diff,
    with_live,
)

NEW = Config(
    listen=Listen(api=("127.0.0.1:1",), allowed_hosts=("x",)),
    nodes=(Node(url="http://a:11434"),),
    routing=Routing(weights=Weights(swap=2)),
    health=Health(interval_s=7),
    log=Log(level="debug", format="json"),
)


def texts(changes: tuple[Change, ...]) -> list[str]:
    return [str(change) for change in changes]


def test_equal_configurations_do_not_differ() -> None:
    assert diff(Config(), Config()) == ConfigDiff(live=(), restart=())


def test_changes_are_split_by_what_a_running_daemon_can_take_over() -> None:
    found = diff(Config(), NEW)
    assert texts(found.live) == [
        'listen.allowed_hosts [] -> ["x"]',
        "nodes[a:11434] added",
        "routing.weights.swap 1 -> 2",
        "health.interval_s 5 -> 7",
        'log.level "info" -> "debug"',
    ]
    assert texts(found.restart) == [
        'listen.api ["127.0.0.1:11434"] -> ["127.0.0.1:1"]',
        'log.format "auto" -> "json"',
    ]
    back = diff(NEW, Config())
    assert [change.key for change in back.live] == [change.key for change in found.live]


def test_what_needs_a_restart_stays_as_it_was() -> None:
    mixed = with_live(Config(), NEW)
    assert diff(mixed, NEW) == ConfigDiff(live=(), restart=diff(Config(), NEW).restart)
    assert diff(Config(), mixed) == ConfigDiff(live=diff(Config(), NEW).live, restart=())


def nodes(*items: Node) -> Config:
    return Config(nodes=items)


def node_texts(old: Config, new: Config) -> list[str]:
    return texts(diff(old, new).live)


def test_nodes_are_compared_one_by_one() -> None:
    one = Node(url="http://a:11434", name="gpu-1")
    two = Node(url="http://b:11434", name="gpu-2")
    moved = Node(url="http://c:11434", name="gpu-1", slots=2)
    renamed = Node(url="http://b:11434", name="big", models={"m": "org/m"})

    assert node_texts(nodes(one, two), nodes(two)) == ["nodes[gpu-1] removed"]
    assert node_texts(nodes(one, two), nodes(two, one)) == []
    assert node_texts(nodes(one, two), nodes(moved, renamed)) == [
        'nodes[gpu-1].url "http://a:11434" -> "http://c:11434"',
        "nodes[gpu-1].slots unset -> 2",
        'nodes[big].name "gpu-2" -> "big"',
        'nodes[big].models unset -> ["m = org/m"]',
    ]


def test_secrets_in_addresses_are_not_shown() -> None:
    new = Config(http=Http(origins=("https://me:secret@chat.example.org",)))
    (change,) = diff(Config(), new).live
    assert str(change) == 'http.origins [] -> ["https://***@chat.example.org"]'
