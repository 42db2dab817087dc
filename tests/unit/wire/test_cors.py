"""Foreign web pages are kept out by origin and by host name, as Ollama keeps them out."""

from __future__ import annotations

import pytest

from sollold.wire.cors import Allowed, Denied, HostPolicy, NotCors, OriginPolicy

_HOST = "localhost:11434"
_BUILT_IN = [
    "http://localhost",
    "https://localhost",
    "http://localhost:3000",
    "https://127.0.0.1:1",
    "http://0.0.0.0",
    "http://0.0.0.0:80",
    "app://obsidian.md",
    "file://x",
    "tauri://localhost",
    "vscode-webview://abc",
    "vscode-file://vscode-app",
]
_FOREIGN = [
    "http://evil.example",
    "http://localhost.evil.example",
    "null",
    "chrome-extension://abc",
    "http://192.168.1.5",
    "HTTP://LOCALHOST",
    "https://localhost.:3000",
]


@pytest.mark.parametrize("origin", [None, "", f"http://{_HOST}", f"https://{_HOST}"])
def test_requests_that_are_not_cross_origin(origin: str | None) -> None:
    assert OriginPolicy().decide(origin, _HOST) == NotCors()


@pytest.mark.parametrize("origin", _BUILT_IN)
def test_origins_that_are_always_allowed(origin: str) -> None:
    assert OriginPolicy().decide(origin, _HOST) == Allowed(
        (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))
    )


@pytest.mark.parametrize("origin", _FOREIGN)
def test_foreign_origins_are_denied(origin: str) -> None:
    assert OriginPolicy(("http://chat.lan",)).decide(origin, _HOST) == Denied()


@pytest.mark.parametrize(
    ("entry", "origin", "is_allowed"),
    [
        ("http://Chat.lan", "http://chat.lan", True),
        (" http://chat.lan ", "http://chat.lan", True),
        ("http://chat.lan", "http://chat.lan:80", False),
        ("chrome-extension://*", "chrome-extension://abc", True),
        ("*.example.com", "https://a.example.com", True),
        ("*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://a.b.example.com", True),
        ("https://*.example.com", "http://a.example.com", False),
        ("", "http://evil.example", False),
    ],
)
def test_configured_origins(entry: str, origin: str, is_allowed: bool) -> None:
    verdict = OriginPolicy((entry,)).decide(origin, _HOST)
    assert isinstance(verdict, Allowed) is is_allowed


def test_a_lone_star_allows_all() -> None:
    policy = OriginPolicy(("*",))
    assert policy.decide("http://evil.example", _HOST) == Allowed(
        (("Access-Control-Allow-Origin", "*"),)
    )
    assert "Vary" not in dict(policy.preflight_headers())


def test_preflights() -> None:
    assert dict(OriginPolicy().preflight_headers()) == {
        "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
        "Access-Control-Allow-Headers": (
            "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,"
            "X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,"
            "X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
            "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,"
            "X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout"
        ),
        "Access-Control-Max-Age": "43200",
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }


_LOOPBACK = HostPolicy(
    is_loopback_bind=True,
    allowed=("chat.example.com", ".lan", "*.home.arpa", "box.example:8080", "203.0.113.7"),
    own_names=("Workstation",),
    own_addresses=("203.0.113.5", "2001:db8::5", "not an address"),
)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LocalHost:11434",
        "workstation",
        "a.localhost",
        "box.local:11434",
        "x.internal",
        "127.0.0.1:11434",
        "127.5.5.5",
        "[::1]:11434",
        "::1",
        "0.0.0.0",
        "[::]",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.5:80",
        "[fd00::1]:11434",
        "[::ffff:192.168.1.5]",
        "203.0.113.5",
        "[2001:db8::5]:11434",
        "chat.example.com:443",
        "x.lan",
        "a.home.arpa",
        "box.example",
        "203.0.113.7:11434",
    ],
)
def test_names_that_are_ours(host: str) -> None:
    assert _LOOPBACK.accepts(host)
    assert _LOOPBACK.accepts(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "local",
        "localhost.evil.example",
        "chat.example.com.evil.example",
        "lan",
        "home.arpa",
        "8.8.8.8",
        "172.32.0.1",
        "169.254.1.1",
        "[2001:db8::6]:11434",
        "[fe80::1%eth0]",
        "x" * 1000 + ".local",
    ],
)
def test_names_that_are_not(host: str) -> None:
    assert not _LOOPBACK.accepts(host)
    assert not _LOOPBACK.accepts(host)


def test_many_names_do_not_fill_the_memory() -> None:
    policy = HostPolicy(is_loopback_bind=True)
    assert not any(policy.accepts(f"h{index}.example") for index in range(1000))
    assert len(policy._verdicts) <= 64


def test_other_binds_are_not_checked() -> None:
    policy = HostPolicy(is_loopback_bind=False)
    assert not policy.is_checked
    assert policy.accepts("evil.example")


def test_a_star_accepts_every_name() -> None:
    policy = HostPolicy(is_loopback_bind=True, allowed=("*",))
    assert policy.accepts("anything.example")
    assert policy.is_name("anything.example")


def test_names_answer_options_and_addresses_do_not() -> None:
    assert _LOOPBACK.is_name("localhost:11434")
    assert _LOOPBACK.is_name("box.local")
    assert not _LOOPBACK.is_name("127.0.0.1:11434")
    assert not _LOOPBACK.is_name("evil.example")
