from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sollold.config import Config, LoadArgs, LoadedConfig, Node, load
from sollold.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def loaded(**environ: str) -> LoadedConfig:
    return load(LoadArgs(environ=environ))


def only(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(**environ)
    (line,) = caught.value.problems
    return line


@pytest.mark.parametrize(
    ("name", "text", "value", "read"),
    [
        ("QUEUE__LENGTH", "7", 7, lambda c: c.queue.length),
        ("QUEUE__MAX_WAIT_S", "5m", 300.0, lambda c: c.queue.max_wait_s),
        ("QUEUE__MAX_WAIT_S", "2.5", 2.5, lambda c: c.queue.max_wait_s),
        ("LIMITS__HELD_BYTES", "1 MiB", 1024**2, lambda c: c.limits.held_bytes),
        ("LIMITS__HELD_BYTES", "4096", 4096, lambda c: c.limits.held_bytes),
        ("ROUTING__WEIGHTS__SWAP", "2", 2.0, lambda c: c.routing.weights.swap),
        ("METRICS__ENABLED", "no", False, lambda c: c.metrics.enabled),
        ("METRICS__ENABLED", "TRUE", True, lambda c: c.metrics.enabled),
        ("LISTEN__CONTROL", "off", False, lambda c: c.listen.control),
        ("LISTEN__CONTROL", "/run/x.sock", "/run/x.sock", lambda c: c.listen.control),
        ("LISTEN__CONSOLE", "", (), lambda c: c.listen.console),
        ("LOG__FORMAT", "json", "json", lambda c: c.log.format),
        (
            "LISTEN__API",
            "127.0.0.1:1, [::1]:1",
            ("127.0.0.1:1", "[::1]:1"),
            lambda c: c.listen.api,
        ),
        ("NODES", "a,b:1", 2, lambda c: len(c.nodes)),
    ],
)
def test_a_variable_sets_its_key(
    name: str, text: str, value: object, read: Callable[[Config], object]
) -> None:
    assert read(loaded(**{f"SOLLOLD_{name}": text}).config) == value


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("SOLLOLD_QUEUE__LENGTH", "many", "queue.length: expected a whole number"),
        ("SOLLOLD_QUEUE__LENGTH", "", 'queue.length: expected a whole number, at least 1, got ""'),
        ("SOLLOLD_QUEUE__AGE_STEP_S", "soon", 'queue.age_step_s: "soon" cannot be read'),
        ("SOLLOLD_ROUTING__WEIGHTS__SWAP", "nan", "routing.weights.swap: expected a number"),
        ("SOLLOLD_METRICS__ENABLED", "maybe", "metrics.enabled: expected true or false"),
        ("SOLLOLD_QUEUE__LENGHT", "1", "sets no known key; did you mean SOLLOLD_QUEUE__LENGTH?"),
        ("SOLLOLD_QUEUE_LENGTH", "1", "sets no known key; did you mean SOLLOLD_QUEUE__LENGTH?"),
        ("SOLLOLD_X__Y", "1", "sets no known key; unset it; etc/sollold.toml lists every key"),
        ("SOLLOLD_LISTEN", "x:1", "sets no known key; did you mean SOLLOLD_LISTEN__API?"),
        ("SOLLOLD_PORT", "11500", "sets no known key; did you mean SOLLOLD_LISTEN__API?"),
        ("SOLLOLD_QUEUE", "5", "sets no known key; did you mean SOLLOLD_QUEUE__LENGTH?"),
        ("SOLLOLD_SPOOL_DIR", "5", "sets no known key; did you mean SOLLOLD_LIMITS__SPOOL_DIR?"),
        ("SOLLOLD_CONFIG", "x", "sets no known key; did you mean the flag --config?"),
        ("SOLLOLD_", "x", "sets no known key; unset it"),
        ("SOLLOLD_QUEUE__LENGTH", "1\udcff", "queue.length: is not UTF-8 text; set it to text in"),
        ("SOLLOLD_LOG__LEVEL", "\udcff", "log.level: is not UTF-8 text; set it to text in UTF-8"),
        ("SOLLOLD_REDIS__URL", "x", "this version does not use Redis; unset it"),
        ("SOLLOLD_DISCOVERY__MDNS", "x", "this version does not look for nodes by mDNS; unset it"),
        ("SOLLOLD_NODES", "a,b c", 'nodes[1].url: "b c" has a host that is neither'),
    ],
)
def test_a_wrong_variable_is_named(name: str, text: str, words: str) -> None:
    assert only(**{name: text}).startswith(f"environment {name}: {words}")


def test_variables_of_other_programs_are_left_alone() -> None:
    result = loaded(SOLLOLD_URL="x", SOLLOLD_KEY="x", SOLLOLD_TEST_ENV="x", HOME="/x", SOLLOLDX="1")
    assert result.config == Config()
    assert not any("SOLLOLD_URL" in note for note in result.notes)


def test_what_is_said_of_a_service_of_our_name_is_noted() -> None:
    links = {
        "SOLLOLD_PORT": "tcp://10.0.0.1:11434",
        "SOLLOLD_PORT_11434_TCP_ADDR": "10.0.0.1",
        "SOLLOLD_SERVICE_HOST": "10.0.0.1",
        "SOLLOLD_SERVICE_PORT_HTTP": "80",
        "SOLLOLD_NAME": "/web/sollold",
    }
    notes = loaded(**links, SOLLOL_REDIS_URL="redis://x").notes
    for name in links:
        assert f"{name} is not a setting of sollold and has no effect" in notes
    assert "SOLLOL_REDIS_URL has no effect: this version does not use Redis" in notes


def test_ollama_host_is_one_more_place_to_look() -> None:
    result = loaded(OLLAMA_HOST="192.168.1.22")
    assert result.config.discovery.ollama_host == "http://192.168.1.22:11434"
    assert str(result.origin("discovery.ollama_host")) == "environment OLLAMA_HOST"


@pytest.mark.parametrize("text", ["127.0.0.1:11434", "0.0.0.0", "localhost", "http://[::1]:8080"])
def test_ollama_host_that_means_this_daemon_is_no_node(text: str) -> None:
    listen = {"SOLLOLD_LISTEN__CONSOLE": "[::1]:8080"}
    result = loaded(OLLAMA_HOST=text, **listen)
    assert result.config.discovery.ollama_host == ""
    assert result.origin("discovery.ollama_host").source == "default"
    assert any("OLLAMA_HOST is this daemon itself" in note for note in result.notes)


def test_a_configured_ollama_host_that_means_this_daemon_is_refused() -> None:
    line = only(SOLLOLD_DISCOVERY__OLLAMA_HOST="localhost:11434")
    assert "discovery.ollama_host: http://localhost:11434 is this daemon itself" in line


def test_an_unusable_ollama_host_is_noted_not_refused() -> None:
    result = loaded(OLLAMA_HOST="user@x y")
    assert result.config.discovery.ollama_host == ""
    assert any(note.startswith("OLLAMA_HOST is ignored: it carries") for note in result.notes)


def test_ollama_host_does_not_hide_a_listener_that_cannot_be_read() -> None:
    line = only(OLLAMA_HOST="127.0.0.1", SOLLOLD_LISTEN__API="x")
    assert "listen.api" in line


def test_ollama_origins_is_the_weakest_source(tmp_path: Path) -> None:
    result = loaded(OLLAMA_ORIGINS="https://a.example, b.example,*://*,app://*")
    assert result.config.http.origins == ("https://a.example", "app://*")
    assert 'OLLAMA_ORIGINS: "b.example" is ignored' in result.notes
    file = tmp_path / "s.toml"
    file.write_text("[http]\norigins = []\n")
    result = load(LoadArgs(config=file, environ={"OLLAMA_ORIGINS": "*"}))
    assert result.config.http.origins == ()


def test_a_node_given_by_variable_may_not_be_this_daemon() -> None:
    assert "is this daemon itself (listen.api 127.0.0.1:11434)" in only(SOLLOLD_NODES="127.0.0.1")


def test_nodes_by_variable_are_plain_nodes() -> None:
    assert loaded(SOLLOLD_NODES="a").config.nodes == (Node(url="http://a:11434"),)


def test_the_variable_of_a_nodes_key_may_have_our_prefix(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('[[nodes]]\nurl = "https://gpu/v1"\nkind = "openai"\nkey_env = "SOLLOLD_GPU"\n')
    assert load(LoadArgs(config=file, environ={"SOLLOLD_GPU": "k"})).config.nodes
    with pytest.raises(ConfigError) as caught:
        load(LoadArgs(config=file, environ={"SOLLOLD_GPU": "k", "SOLLOLD_CPU": "k"}))
    assert caught.value.problems == [
        "environment SOLLOLD_CPU: sets no known key; unset it; etc/sollold.toml lists every key"
    ]
