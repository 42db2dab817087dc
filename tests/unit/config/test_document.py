"""The configuration as a document: every key, its origin, no secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sollold.config import Flags, LoadArgs, load
from sollold.config.document import config_document
from sollold.config.keys import config_keys, node_keys

if TYPE_CHECKING:
    from pathlib import Path

    from sollold.api_config import ConfigDocument

TEXT = """\
[[nodes]]
url = "http://gpu:1234"
key_env = "GPU_KEY"
kind = "openai"
models = { "a" = "b" }
[http]
origins = ["https://chat.example.org"]
[limits]
spool_dir = "me@home"
[queue]
length = 7
"""


def document(tmp_path: Path) -> ConfigDocument:
    file = tmp_path / "sollold.toml"
    file.write_text(TEXT)
    loaded = load(
        LoadArgs(
            config=file,
            flags=Flags(log_level="debug"),
            environ={"GPU_KEY": "hush-hush-1234", "SOLLOLD_QUEUE__LOOK_AHEAD": "9"},
        )
    )
    return config_document(loaded, "2026-11-21T09:14:03.120Z")


def test_every_key_is_there_once_in_order(tmp_path: Path) -> None:
    (tmp_path / "me@home").mkdir()
    found = [item.key for item in document(tmp_path).values]
    assert len(found) == len(set(found)) == len(config_keys()) - 1 + len(node_keys())
    assert found[0] == "listen.api"
    assert "nodes" not in found


def test_each_value_has_its_origin(tmp_path: Path) -> None:
    (tmp_path / "me@home").mkdir()
    shown = document(tmp_path)
    values = {item.key: item for item in shown.values}
    assert shown.files == (str(tmp_path / "sollold.toml"),)
    for key, value, origin in (
        ("queue.length", 7, f"{tmp_path}/sollold.toml:11"),
        ("queue.look_ahead", 9, "environment SOLLOLD_QUEUE__LOOK_AHEAD"),
        ("log.level", "debug", "flag --log-level"),
        ("queue.max_wait_s", 0.0, "default"),
        ("nodes[0].models", {"a": "b"}, f"{tmp_path}/sollold.toml:5"),
        ("nodes[0].tier", 5, "default"),
    ):
        assert values[key].value == value
        assert values[key].origin.startswith(origin)
    assert values["queue.length"].source == "file"
    assert values["queue.length"].is_live
    assert not values["limits.body_bytes"].is_live


def test_secrets_are_hidden_and_paths_are_not_mistaken_for_them(tmp_path: Path) -> None:
    (tmp_path / "me@home").mkdir()
    shown = document(tmp_path)
    assert b"hush" not in msgspec.json.encode(shown)
    values = {item.key: item.value for item in shown.values}
    assert values["nodes[0].key_env"] == "GPU_KEY"
    assert values["limits.spool_dir"] == str(tmp_path / "me@home")
    assert values["http.origins"] == ("https://chat.example.org",)


def test_an_address_with_a_password_would_be_masked() -> None:
    """Checks refuse such addresses of nodes; keys to come, such as Redis', may carry one."""
    from sollold.config.document import _hidden

    assert _hidden("redis://me:hush@host:6379/0?password=hush") == "redis://***@host:6379/0?***"
    assert _hidden({"a": ["http://u:p@h"]}) == {"a": ("http://***@h",)}
