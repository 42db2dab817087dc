from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from sollold.config import (
    LAN_CONSENT,
    Address,
    Config,
    Discovery,
    Health,
    Http,
    Limits,
    Listen,
    Metrics,
    Node,
    Server,
    points_at,
    validate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def faults(
    config: Config,
    environ: Mapping[str, str] | None = None,
    own_addresses: frozenset[str] = frozenset(),
) -> list[str]:
    found = validate(config, environ=environ or {}, own_addresses=own_addresses)
    return [f"{'.'.join(str(part) for part in fault.paths[0])}: {fault.text}" for fault in found]


def listening(*api: str, console: tuple[str, ...] = (), words: str = LAN_CONSENT) -> Config:
    return Config(listen=Listen(api=api, console=console, lan_without_keys=words))


def with_nodes(*nodes: Node) -> Config:
    return Config(nodes=nodes)


def test_the_defaults_are_right() -> None:
    assert faults(Config()) == []


@pytest.mark.parametrize(
    ("api", "console"),
    [
        (("127.0.0.1:1",), ("127.0.0.1:1",)),
        (("127.0.0.1:1", "127.0.0.1:1"), ()),
        (("0.0.0.0:1",), ("127.0.0.1:1",)),
        (("192.168.1.2:1",), ("0.0.0.0:1",)),
        (("[::]:1",), ("[::1]:1",)),
        (("localhost:1",), ("127.0.0.1:1",)),
        (("localhost:1",), ("[::1]:1",)),
        (("0.0.0.0:1",), ("localhost:1",)),
    ],
)
def test_two_listeners_on_one_address_are_refused(
    api: tuple[str, ...], console: tuple[str, ...]
) -> None:
    (line,) = faults(listening(*api, console=console))
    assert "cannot both be listened on; give each its own port" in line


@pytest.mark.parametrize(
    ("api", "console"),
    [
        (("127.0.0.1:0",), ("127.0.0.1:0",)),
        (("127.0.0.1:1",), ("127.0.0.1:2",)),
        (("127.0.0.1:1",), ("[::1]:1",)),
        (("0.0.0.0:1", "[::]:1"), ()),
        (("127.0.0.1:1", "192.168.1.2:1"), ()),
        (("localhost:1",), ("192.168.1.2:1",)),
    ],
)
def test_listeners_that_do_not_collide_are_accepted(
    api: tuple[str, ...], console: tuple[str, ...]
) -> None:
    assert faults(listening(*api, console=console)) == []


def test_the_metrics_listener_counts_too() -> None:
    config = Config(metrics=Metrics(listen=("127.0.0.1:8080",)))
    assert faults(config) == [
        (
            "metrics.listen: 127.0.0.1:8080 and 127.0.0.1:8080 (listen.console) "
            "cannot both be listened on; give each its own port"
        )
    ]
    assert config.metrics.addresses() == (("127.0.0.1", 8080),)


def test_without_an_api_listener_nobody_can_connect() -> None:
    (line,) = faults(listening())
    assert line.startswith("listen.api: is empty")


@pytest.mark.parametrize("api", ["0.0.0.0:11434", "[::]:11434", "192.168.1.2:11434", "box:11434"])
def test_the_network_has_to_be_let_in_in_words(api: str) -> None:
    (line,) = faults(listening(api, words=""))
    assert line == (
        f"listen.api: {api} can be reached from the network, and there are no keys yet; listen on "
        f'127.0.0.1, or write lan_without_keys = "{LAN_CONSENT}" in [listen]'
    )
    assert faults(listening(api)) == []


def test_other_words_do_not_let_the_network_in() -> None:
    first, second = faults(listening("0.0.0.0:1", words="yes"))
    assert first.startswith("listen.lan_without_keys: is not the sentence asked for; write")
    assert second.startswith("listen.api: 0.0.0.0:1 can be reached")


def test_wrong_proxies_and_hosts_are_told_one_by_one() -> None:
    listen = Listen(
        trusted_proxies=("10.0.0.1", "10.0.0.0/8", "fd00::/8", "proxy", "10.0.0.0/40"),
        allowed_hosts=("ai.example.org", "https://x", "a b", ""),
    )
    found = faults(Config(listen=listen))
    assert [line.partition(" is no")[0] for line in found] == [
        'listen.allowed_hosts: "https://x"',
        'listen.allowed_hosts: "a b"',
        'listen.allowed_hosts: ""',
        'listen.trusted_proxies: "proxy"',
        'listen.trusted_proxies: "10.0.0.0/40"',
    ]


def test_names_and_addresses_of_nodes_are_their_own() -> None:
    found = faults(
        with_nodes(
            Node(url="a", name="one"),
            Node(url="b", name="One"),
            Node(url="http://a:11434", name="three"),
            Node(url="a:8080"),
            Node(url="a:8080/one"),
            Node(url="http://a:8080/two"),
            Node(url="http://a:8080/two/v1"),
        )
    )
    assert found == [
        'nodes.1.name: "One" is taken by nodes[0]; give each node its own name',
        "nodes.2.url: a:11434 is nodes[0] already; remove one of the two",
        "nodes.6.url: a:8080/two is nodes[5] already; remove one of the two",
    ]


@pytest.mark.parametrize("name", ["", "a b", "-a", "a@b", "a/b", "\u00fcber", "x" * 64, "a:b"])
def test_a_name_that_would_not_fit_in_a_header_or_pin_is_refused(name: str) -> None:
    (line,) = faults(with_nodes(Node(url="a", name=name)))
    assert "cannot be a name" in line


def test_mac_and_key_are_checked() -> None:
    node = Node(url="a", mac="3c:7c:3f:1a:2b", key_env="ABSENT")
    first, second = faults(with_nodes(node), {"ABSENT": ""})
    assert first.startswith('nodes.0.mac: "3c:7c:3f:1a:2b" is no hardware address')
    assert second == 'nodes.0.key_env: the variable "ABSENT" is not set; set it for the daemon'
    assert faults(with_nodes(Node(url="a", key_env="K")), {"K": "x"}) == []


@pytest.mark.parametrize(
    ("target", "listener", "own", "is_self"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", (), True),
        ("localhost:1", "127.0.0.1:1", (), True),
        ("[::1]:1", "localhost:1", (), True),
        ("127.0.0.1:1", "0.0.0.0:1", (), True),
        ("192.168.1.2:1", "0.0.0.0:1", ("192.168.1.2",), True),
        ("192.168.1.2:1", "192.168.1.2:1", (), True),
        ("0.0.0.0:1", "127.0.0.1:1", (), True),
        ("0.0.0.0:1", "0.0.0.0:1", (), True),
        ("127.0.0.1:1", "127.0.0.1:2", (), False),
        ("127.0.0.1:0", "127.0.0.1:0", (), False),
        ("192.168.1.2:1", "127.0.0.1:1", ("192.168.1.2",), False),
        ("192.168.1.3:1", "0.0.0.0:1", ("192.168.1.2",), False),
        ("127.0.0.2:1", "127.0.0.1:1", (), False),
        ("localhost:1", "192.168.1.2:1", (), False),
        ("0.0.0.0:1", "192.168.1.2:1", (), False),
        ("box:1", "0.0.0.0:1", (), False),
    ],
)
def test_a_target_that_is_this_daemon_is_recognised(
    target: str, listener: str, own: tuple[str, ...], is_self: bool
) -> None:
    def address(text: str) -> Address:
        host, _, port = text.rpartition(":")
        return Address(host.strip("[]"), int(port))

    assert points_at(address(target), address(listener), frozenset(own)) is is_self


def test_a_node_that_is_this_daemon_is_refused_with_the_way_out() -> None:
    config = Config(
        nodes=(Node(url="192.168.1.2:11434"),),
        listen=Listen(api=("0.0.0.0:11434",), lan_without_keys=LAN_CONSENT),
    )
    (line,) = faults(config, own_addresses=frozenset({"192.168.1.2"}))
    assert "nodes.0.url: http://192.168.1.2:11434 is this daemon itself (listen.api 0.0.0.0" in line
    assert "OLLAMA_HOST=127.0.0.1:11436" in line


def test_a_place_to_look_that_is_no_address_is_refused() -> None:
    (line,) = faults(Config(discovery=Discovery(ollama_host="a b")))
    assert line.startswith('discovery.ollama_host: "a b" has a host')


def test_what_must_not_exceed_something_is_compared() -> None:
    config = Config(
        health=Health(interval_s=50, timeout_s=60.5, eject_s=90),
        limits=Limits(body_bytes=1 << 28, bodies_bytes=1024),
    )
    assert [line.partition(",")[0] for line in faults(config)] == [
        "health.timeout_s: 60.5 is more than health.interval_s",
        "health.interval_s: 50 is more than health.backoff_max_s",
        "health.eject_s: 90 is more than health.eject_max_s",
        "limits.body_bytes: 268435456 is more than limits.bodies_bytes",
    ]


@pytest.mark.parametrize("origin", ["chat.example.org", "http://*.*", ""])
def test_an_origin_that_could_never_match_is_refused(origin: str) -> None:
    (line,) = faults(Config(http=Http(origins=("*", "https://*.example.org", origin))))
    assert line.startswith(f'http.origins: "{origin}" has')


@pytest.mark.parametrize("version", ["", "0.33", "v0.33.0", "0.33.0-rc1"])
def test_a_version_that_clients_cannot_read_is_refused(version: str) -> None:
    (line,) = faults(Config(http=Http(version_floor=version)))
    assert line.startswith("http.version_floor:")


def test_a_spool_directory_has_to_be_there(tmp_path: Path) -> None:
    (line,) = faults(Config(limits=Limits(spool_dir=str(tmp_path / "no"))))
    assert line.endswith("is no directory this user may write to; create it")
    assert faults(Config(limits=Limits(spool_dir=str(tmp_path)))) == []


def test_uvloop_is_asked_for_only_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(server=Server(loop="uvloop"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (line,) = faults(config)
    assert line == (
        'server.loop: uvloop is not installed; install sollold[fast], or write loop = "auto"'
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert faults(config) == []
