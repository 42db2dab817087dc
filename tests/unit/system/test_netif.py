from __future__ import annotations

import pytest

from sollold.system.netif import OwnAddresses, parse_ip, read_addresses


def test_the_system_names_at_least_loopback() -> None:
    assert "127.0.0.1" in read_addresses()
    assert "127.0.0.1" in OwnAddresses().addresses(now=0.0)


@pytest.mark.parametrize(
    ("address", "is_own"),
    [
        ("192.168.1.2", True),
        ("192.168.1.3", False),
        ("::ffff:192.168.1.2", True),
        ("fe80::1%wlan0", True),
        ("FE80:0::1", True),
        ("[fe80::1]", True),
        ("fe80::2", False),
        ("127.0.0.1", True),
        ("127.55.0.1", True),
        ("::1", True),
        ("0.0.0.0", True),
        ("::", True),
        ("gpu-1", False),
        ("", False),
    ],
)
def test_own_addresses_are_recognised_however_they_are_written(address: str, is_own: bool) -> None:
    own = OwnAddresses(lambda: ["192.168.1.2", "fe80::1%eth0", "3c:7c:3f:1a:2b:4d"])
    assert own.is_own(address, now=0.0) is is_own
    assert own.addresses(now=0.0) == {"192.168.1.2", "fe80::1"}


def test_the_system_is_asked_again_only_after_a_while() -> None:
    asked = 0
    found = ["10.0.0.1"]

    def read() -> list[str]:
        nonlocal asked
        asked += 1
        return list(found)

    own = OwnAddresses(read, refresh_s=30.0)
    assert own.is_own("10.0.0.1", now=100.0)
    found[:] = ["10.0.0.2"]
    assert own.is_own("10.0.0.1", now=129.9)
    assert asked == 1
    assert not own.is_own("10.0.0.1", now=130.0)
    assert own.is_own("10.0.0.2", now=130.0)
    assert asked == 2


def test_loopback_is_known_without_asking() -> None:
    def read() -> list[str]:
        raise AssertionError

    assert OwnAddresses(read).is_own("127.0.0.1", now=0.0)
    assert not OwnAddresses(read).is_own("name", now=0.0)


def test_a_literal_is_told_from_a_name() -> None:
    assert str(parse_ip("::ffff:10.0.0.1")) == "10.0.0.1"
    assert parse_ip("10.0.0.256") is None
