"""Shipped files are found, and an incomplete installation is named."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from sollold.system import shipped as module
from sollold.system.shipped import shipped

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("folder", ["static", "systemd", "etc"])
def test_a_checkout_has_them_beside_the_package(
    folder: Literal["static", "systemd", "etc"],
) -> None:
    assert shipped(folder) == ROOT / folder


def test_installed_ones_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "sollold"
    for path in (package / "share" / "etc", tmp_path / "etc"):
        path.mkdir(parents=True)
    monkeypatch.setattr(module, "files", lambda _: package)

    assert shipped("etc") == package / "share" / "etc"


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "files", lambda _: tmp_path / "sollold")

    with pytest.raises(FileNotFoundError, match=r"sollold/static is missing: .* install again"):
        shipped("static")
