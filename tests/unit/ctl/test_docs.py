"""`docs/api.md` and `docs/cli.md` say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from sollold import api_config, api_models, api_reload, api_types
from sollold.core.model import Reason
from sollold.ctl.client import _KEY_CODES
from sollold.ctl.failure import Exit
from sollold.ctl.main import cli

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "api.md").read_text(encoding="utf-8")
CLI_TEXT = (DOCS / "cli.md").read_text(encoding="utf-8")
STRUCTS: dict[str, type[msgspec.Struct]] = {
    name: item
    for module in (api_types, api_models, api_config, api_reload)
    for name, item in vars(module).items()
    if isinstance(item, type) and issubclass(item, msgspec.Struct) and name != "EventLine"
} | {"Reason": Reason}


def described() -> dict[str, list[str]]:
    parts = re.findall(r"^### (\w+)$(.*?)(?=^#|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    return {name: re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) for name, text in parts}


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_every_part_is_described_with_its_fields(name: str) -> None:
    assert described()[name] == list(STRUCTS[name].__struct_fields__)


def test_nothing_else_is_described() -> None:
    assert described().keys() == STRUCTS.keys()


def test_every_schema_and_exit_code_is_named() -> None:
    for struct in STRUCTS.values():
        fields = {field.name: field for field in msgspec.structs.fields(struct)}
        if "schema" in fields:
            assert f"| `{fields['schema'].default}`" in TEXT
    for code in Exit:
        assert f"\n| {code.value} | " in CLI_TEXT
    for word in _KEY_CODES:
        assert f"`{word}`" in CLI_TEXT


def test_every_command_is_named() -> None:
    named = set(re.findall(r"^\| `([a-z]+)", CLI_TEXT, re.MULTILINE))
    assert named >= set(cli.commands)
