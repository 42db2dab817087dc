from __future__ import annotations

from sollold.config import Config, ConfigDiff, Health, Listen, Log, Node, Routing, Weights, diff


def test_equal_configurations_do_not_differ() -> None:
    assert diff(Config(), Config()) == ConfigDiff(live=(), restart=())


def test_changes_are_split_by_what_a_running_daemon_can_take_over() -> None:
    new = Config(
        listen=Listen(api=("127.0.0.1:1",), allowed_hosts=("x",)),
        nodes=(Node(url="http://a:11434"),),
        routing=Routing(weights=Weights(swap=2)),
        health=Health(interval_s=7),
        log=Log(level="debug", format="json"),
    )
    assert diff(Config(), new) == ConfigDiff(
        live=(
            "listen.allowed_hosts",
            "nodes",
            "routing.weights.swap",
            "health.interval_s",
            "log.level",
        ),
        restart=("listen.api", "log.format"),
    )
    assert diff(new, Config()) == diff(Config(), new)
