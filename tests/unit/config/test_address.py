from __future__ import annotations

import pytest

from sollold.config.address import (
    Address,
    is_loopback,
    is_wildcard,
    parse_listen,
    parse_node_url,
    parse_ollama_host,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:11434", "127.0.0.1", 11434),
        ("localhost:0", "localhost", 0),
        ("[::1]:11434", "::1", 11434),
        ("[::]:8080", "::", 8080),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        (" box.lan:1 ", "box.lan", 1),
    ],
)
def test_a_listening_address_is_read(text: str, host: str, port: int) -> None:
    assert parse_listen(text) == Address(host, port)


@pytest.mark.parametrize("text", ["127.0.0.1:1", "[::1]:2", "box:3"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_listen(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no host"),
        (":11434", "names no host"),
        ("127.0.0.1", 'names no port; write "127.0.0.1:11434"'),
        ("[::1]", 'names no port; write "\\[::1\\]:11434"'),
        ("127.0.0.1:", 'has the port ""'),
        ("127.0.0.1:65536", 'has the port "65536"'),
        ("127.0.0.1:-1", 'has the port "-1"'),
        ("127.0.0.1:http", 'has the port "http"'),
        ("127.0.0.1:\u0661", "has the port"),
        ("127.0.0.256:1", "is no IPv4 address"),
        ("10.0.1:1", "is no IPv4 address"),
        ("::1:x", "is no address"),
        ("[::1:11434", "bracket"),
        ("[::1]x:1", "bracket"),
        ("[box]:1", "no IPv6 address"),
        ("a b:1", "neither name nor address"),
        ("-a:1", "neither name nor address"),
        ("http://127.0.0.1:1", "is no address"),
        ("a" * 300 + ":1", "neither name nor address"),
    ],
)
def test_a_wrong_listening_address_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("gpu-1", "http://gpu-1:11434"),
        ("gpu-1:8080", "http://gpu-1:8080"),
        ("http://gpu-1", "http://gpu-1:11434"),
        ("http://gpu-1:80/", "http://gpu-1:80"),
        ("HTTPS://api.example.org/v1/", "https://api.example.org:443/v1"),
        ("https://x:8443", "https://x:8443"),
        ("[::1]:11434", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[0:0:0:0:0:0:0:1]:80", "http://[::1]:80"),
        ("[FE80::0:1%eth0]:80", "http://[fe80::1%eth0]:80"),
        ("[::ffff:127.0.0.1]:80", "http://[::ffff:127.0.0.1]:80"),
        ("192.168.1.22", "http://192.168.1.22:11434"),
        ("my_box.local.", "http://my_box.local.:11434"),
    ],
)
def test_a_node_is_read_in_any_usual_form(text: str, normal: str) -> None:
    assert str(parse_node_url(text)) == normal
    assert str(parse_node_url(normal)) == normal


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no host"),
        ("http://", "names no host"),
        ("ftp://x", 'the scheme "ftp"'),
        ("http://user:pw@x", "key_env"),
        ("http://x?y=1", "query or fragment"),
        ("http://x/#y", "query or fragment"),
        ("x:0", "has port 0"),
        ("x:99999", "has the port"),
        ("gpu 1", "neither name nor address"),
    ],
)
def test_a_wrong_node_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_node_url(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("[::]:8000", "http://[::1]:8000"),
        ("gpu-1", "http://gpu-1:11434"),
        ("http://gpu-1", "http://gpu-1:80"),
        ("https://gpu-1", "https://gpu-1:443"),
        ("http://gpu-1:11434", "http://gpu-1:11434"),
        (' "gpu-1" ', "http://gpu-1:11434"),
        ("gpu-1:99999", "http://gpu-1:11434"),
        ("http://gpu-1:99999", "http://gpu-1:80"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:x", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        (":11500", "http://127.0.0.1:11500"),
    ],
)
def test_ollama_host_means_what_it_means_to_ollama(text: str, normal: str) -> None:
    assert str(parse_ollama_host(text)) == normal


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("LocalHost.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("box", False),
    ],
)
def test_loopback_is_told_from_the_network(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local


def test_wildcards_are_the_two_unspecified_addresses() -> None:
    assert is_wildcard("0.0.0.0")
    assert is_wildcard("::")
    assert not is_wildcard("127.0.0.1")
