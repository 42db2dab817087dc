"""Files of others are those that the table names, each with its licence."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.docs import vendor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_files_are_those_of_the_table() -> None:
    assert vendor.read()
    assert vendor.faults() == [], vendor.REMEDY


def test_each_package_says_where_it_comes_from_and_under_which_licence() -> None:
    for package in vendor.read():
        assert re.fullmatch(r"\d+\.\d+\.\d+", package.version)
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package.integrity)
        assert package.source.startswith("npm:")
        assert package.licence in {"0BSD", "MIT", "ISC", "Apache-2.0"}


def test_each_package_is_named_in_the_notices() -> None:
    notices = (vendor.VENDOR.parents[1] / "docs" / "licences.md").read_text("utf-8")

    for package in vendor.read():
        assert re.search(rf"^\| {package.name}\b.*\| {package.licence}\b", notices, re.MULTILINE)


def _change(folder: Path) -> None:
    with (folder / "idiomorph" / "idiomorph.min.js").open("a") as file:
        file.write(";")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_change, "idiomorph/idiomorph.min.js: changed"),
        (lambda folder: (folder / "swagger-ui" / "NOTICE").unlink(), "swagger-ui/NOTICE: missing"),
        (lambda folder: (folder / "idiomorph" / "LICENSE").write_text(""), "LICENSE: empty"),
        (lambda folder: (folder / "other.js").touch(), "other.js: nobody knows"),
        (
            lambda folder: _edit(folder, 'licences = ["LICENSE"]', "licences = []"),
            "idiomorph: no licence text is listed",
        ),
        (
            lambda folder: _edit(folder, '"swagger-ui.css" = "swagger-ui.css"\n', ""),
            "swagger-ui: swagger-ui.css has no path",
        ),
    ],
)
def test_harm_is_noticed(tmp_path: Path, harm: Callable[[Path], object], said: str) -> None:
    folder = tmp_path / "vendor"
    shutil.copytree(vendor.VENDOR, folder)
    assert vendor.faults(folder) == []

    harm(folder)

    assert said in " ".join(vendor.faults(folder))


def _edit(folder: Path, old: str, new: str) -> None:
    path = folder / vendor.TABLE
    before = path.read_text("utf-8")
    assert old in before
    path.write_text(before.replace(old, new), "utf-8")
