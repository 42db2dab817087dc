from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sollold.system.unit import SYSTEM, USER, answering_unit, unit_in, unit_of

if TYPE_CHECKING:
    from pathlib import Path

IN_USER = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/sollold.service\n"


@pytest.mark.parametrize(
    ("control_group", "unit"),
    [
        (IN_USER, USER),
        ("0::/system.slice/sollold.service\n", SYSTEM),
        ("12:cpu:/\n1:name=systemd:/system.slice/sollold.service\n", SYSTEM),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope\n", None),
        ("", None),
    ],
)
def test_the_unit_of_a_control_group(control_group: str, unit: object) -> None:
    assert unit_in(control_group) == unit


def test_a_process_that_is_gone_is_in_none() -> None:
    assert unit_of(2**22 + 1) is None


def test_what_is_said_fits_the_manager() -> None:
    assert USER.systemctl("restart") == "systemctl --user restart sollold"
    assert SYSTEM.systemctl("restart") == "sudo systemctl restart sollold"
    assert USER.journal() == "journalctl --user -u sollold"
    assert SYSTEM.journal() == "journalctl -u sollold"


def test_who_answers_is_seen_by_the_socket(tmp_path: Path) -> None:
    runtime = tmp_path / "sollold"
    assert answering_unit(f"{runtime}/control.sock", runtime) == SYSTEM
    assert answering_unit("/run/user/1000/sollold/control.sock", runtime) == USER
    assert answering_unit("", runtime) == USER
    runtime.mkdir()
    assert answering_unit("", runtime) == SYSTEM
