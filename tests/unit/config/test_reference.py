from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sollold.config import Config, LoadArgs, Node, load
from sollold.config.decode import read_value
from sollold.config.keys import (
    REQUIRED,
    config_keys,
    example,
    expectation,
    node_keys,
    path_text,
    value_at,
)
from sollold.config.reference import BEGIN, END, render_tables, render_toml, update

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "etc" / "sollold.toml"
MANUAL = ROOT / "docs" / "configuration.md"
REMEDY = "run: python -m sollold.config.reference etc/sollold.toml docs/configuration.md"


def uncommented(text: str) -> dict[str, Any]:
    """Read the sample with every key switched on."""
    return tomllib.loads(re.sub(r"^#(?=[a-z\[])", "", text, flags=re.MULTILINE))


def leaves(table: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= leaves(value, (*path, name))
        else:
            found[*path, name] = value
    return found


def test_the_sample_lists_every_key_and_no_other() -> None:
    found = leaves(uncommented(SAMPLE.read_text("utf-8")))
    assert set(found) == {key.path for key in config_keys().values()}
    (node,) = found.pop(("nodes",))
    assert set(node) == {field.name for field in msgspec.structs.fields(Node)}


def test_the_sample_shows_every_default() -> None:
    found = leaves(uncommented(SAMPLE.read_text("utf-8")))
    (node,) = found.pop(("nodes",))
    shown = {path: read_value(config_keys()[path], raw) for path, raw in found.items()}
    assert shown == {path: value_at(Config(), path) for path in shown}
    assert node["tier"] == Node(url="x").tier


def test_each_key_of_the_sample_has_one_line_above_it() -> None:
    lines = SAMPLE.read_text("utf-8").splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"#[a-z_]+ = ", line)]
    assert len(keys) == len(config_keys()) - 1 + len(node_keys())
    for number in keys:
        assert re.match(r"# \S", lines[number - 1])
        assert not re.match(r"# \S", lines[number - 2])


def test_the_sample_changes_nothing_when_it_is_installed_as_it_is(tmp_path: Path) -> None:
    assert load(LoadArgs(config=SAMPLE)).config == Config()


def switched_on(*left_out: str) -> str:
    """The sample with every key switched on but some of a node's."""
    keys = "".join(rf"(?!{name} =)" for name in left_out)
    return re.sub(rf"^#(?=[a-z\[]){keys}", "", SAMPLE.read_text("utf-8"), flags=re.MULTILINE)


def test_the_sample_with_every_key_switched_on_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "sollold.toml"
    file.write_text(switched_on("ca_file", "pin", "model", "models"))
    result = load(LoadArgs(config=file, environ={"CLOUD_API_KEY": "x"}))
    assert len(result.config.nodes) == 1
    assert set(result.origins) >= {path_text(path) for path in config_keys()}


def test_the_sample_of_another_server_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "sollold.toml"
    text = switched_on("ca_file", "model").replace('"ollama"', '"openai"')
    text = text.replace('"192.168.1.22:11434"', '"https://ai.example.org"')
    file.write_text(text.replace("same_as_ollama = []", 'same_as_ollama = "qwen2.5:7b"'))
    (node,) = load(LoadArgs(config=file, environ={"CLOUD_API_KEY": "x"})).config.nodes
    assert node.models == {"qwen2.5:7b": "Qwen/Qwen2.5-7B-Instruct"}
    assert node.same_as_ollama == ("qwen2.5:7b",)


def test_sample_and_manual_are_current() -> None:
    assert SAMPLE.read_text("utf-8") == render_toml(), REMEDY
    inside = MANUAL.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert inside.strip() == render_tables().strip(), REMEDY


def test_the_manual_names_every_key_in_its_section() -> None:
    sections = re.split(r"^### ", MANUAL.read_text("utf-8"), flags=re.MULTILINE)
    by_heading = {section.partition("\n")[0].strip("`[]"): section for section in sections}
    for path in config_keys():
        if path != ("nodes",):
            assert f"| `{path[-1]}` |" in by_heading[path_text(path[:-1])]
    for name in node_keys():
        assert f"| `{name}` |" in by_heading["nodes"]


def test_the_mistakes_shown_in_the_manual_are_those_that_are_printed(tmp_path: Path) -> None:
    from sollold.errors import ConfigError

    file = tmp_path / "sollold.toml"
    file.write_text(
        "#\n#\n[queue]\nlenght = 1\n[[nodes]]\nurl = 'a'\nname = 'gpu-1'\n[[nodes]]\n"
        "name = 'gpu-1'\nurl = 'b'\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(LoadArgs(config=file, environ={"SOLLOLD_LOG__LEVEL": "inf"}))
    printed = [line.replace(str(tmp_path), "~/.config/sollold") for line in caught.value.problems]
    assert "\n".join(printed) in MANUAL.read_text("utf-8")


@pytest.mark.parametrize(
    "key", [*config_keys().values(), *node_keys().values()], ids=lambda k: k.name
)
def test_every_key_is_described_and_its_example_is_valid(key: Any) -> None:
    assert key.text.endswith((".", "]]."))
    assert "\n" not in key.text
    if key.path != ("nodes",):
        assert expectation(key)
        read_value(key, tomllib.loads(f"x = {example(key)}")["x"])
    if key.default not in (None, REQUIRED):
        assert msgspec.convert(key.default, key.type) == key.default


def test_files_are_brought_up_to_date(tmp_path: Path) -> None:
    manual, sample = tmp_path / "m.md", tmp_path / "s.toml"
    manual.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    update(manual)
    update(sample)
    assert sample.read_text("utf-8") == render_toml()
    assert manual.read_text("utf-8") == f"before\n{BEGIN}\n\n{render_tables()}\n{END}\nafter\n"


def test_the_hosts_example_is_a_hosts_file(tmp_path: Path) -> None:
    text = (ROOT / "etc" / "hosts.example").read_text("utf-8")
    hosts = tmp_path / "hosts"
    hosts.write_text(re.sub(r"^#(?=\S)", "", text, flags=re.MULTILINE))
    config = load(LoadArgs(environ={"SOLLOLD_DISCOVERY__HOSTS_FILE": str(hosts)})).config
    assert len(config.nodes) == 3
    hosts.write_text(text)
    config = load(LoadArgs(environ={"SOLLOLD_DISCOVERY__HOSTS_FILE": str(hosts)})).config
    assert config.nodes == ()
